/* How a stream ends: deadlines, stalls, closing, lingering, and from within any callback. */
#include "stream_end.h"

/* ---- time ------------------------------------------------------------------------------------ */

static void test_deadline(void) {
  setup();
  end e;
  open_unix(&e);
  uint64_t start = now.now_ns;
  fc_stream_deadline(&e.stream, start + FC_NS_PER_S);
  fc_stream_deadline(&e.stream, start + 5 * FC_NS_PER_S); /* later */
  fakeclock_turn(&now, 2 * FC_NS_PER_S);
  turn(reactor);
  CHECK_INT(e.deadlines, 0);
  fc_stream_deadline(&e.stream, start + 3 * FC_NS_PER_S); /* earlier */
  fakeclock_turn(&now, FC_NS_PER_S - 1);
  turn(reactor);
  CHECK_INT(e.deadlines, 0);
  fakeclock_turn(&now, 1025);
  turn(reactor);
  CHECK_INT(e.deadlines, 1);
  fakeclock_turn(&now, 9 * FC_NS_PER_S);
  turns(reactor, 2);
  CHECK_INT(e.deadlines, 1); /* once */
  fc_stream_deadline(&e.stream, now.now_ns + 10);
  fc_stream_deadline(&e.stream, 0); /* taken back */
  fakeclock_turn(&now, FC_NS_PER_S);
  turns(reactor, 2);
  CHECK_INT(e.deadlines, 1);
  finish(&e);
  teardown();
}

/* Seven seconds at a time, with a stall allowed for ten: only a peer that takes nothing is cut. */
static void test_stall(void) {
  setup();
  end e;
  open_unix(&e);
  e.stream.stall_timeout_ns = 10 * FC_NS_PER_S;
  char *bytes = pattern(1000, 1);
  int released = 0;
  fc_stream_deadline(&e.stream, now.now_ns + 60 * FC_NS_PER_S);
  fc_stream_write_borrowed(&e.stream, fc_slice_of(bytes, 1000), count_release, &released);
  for (int i = 0; i < 5; i++) {
    fake.send_left = 10;
    turn(reactor);
    fakeclock_turn(&now, 7 * FC_NS_PER_S);
    turn(reactor);
    CHECK_INT(e.closes, 0);
  }
  fakeclock_turn(&now, 4 * FC_NS_PER_S);
  turn(reactor);
  expect_closed(&e, FC_ETIMEOUT);
  CHECK_INT(e.deadlines, 0);
  CHECK_INT(released, 1);
  free(bytes);
  close(e.peer);

  open_unix(&e); /* no stall without anything waiting */
  e.stream.stall_timeout_ns = 10 * FC_NS_PER_S;
  fake.send_left = 0;
  CHECK_INT(fc_stream_write(&e.stream, text("x")), 0);
  turn(reactor);
  fake.send_left = FAKESYS_ALL;
  turn(reactor);
  fakeclock_turn(&now, 60 * FC_NS_PER_S);
  turns(reactor, 2);
  CHECK_INT(e.closes, 0);
  finish(&e);
  teardown();
}

/* The kernel asks for no more, but its buffer empties: the peer is slow, not stalled. */
static void test_stall_counts_what_the_kernel_sends(void) {
  setup();
  end e;
  open_unix(&e);
  e.stream.stall_timeout_ns = 10 * FC_NS_PER_S;
  char *bytes = pattern(1000, 1), got[100];
  int released = 0;
  fc_stream_write_borrowed(&e.stream, fc_slice_of(bytes, 1000), count_release, &released);
  for (int i = 0; i < 5; i++) {
    fake.send_left = sizeof got;
    turn(reactor);
  }
  fake.send_left = 0;
  for (int i = 0; i < 5; i++) {
    CHECK_INT(recv(e.peer, got, sizeof got, 0), sizeof got);
    fakeclock_turn(&now, 7 * FC_NS_PER_S);
    turn(reactor);
    CHECK_INT(e.closes, 0);
  }
  fakeclock_turn(&now, 13 * FC_NS_PER_S);
  turn(reactor);
  expect_closed(&e, FC_ETIMEOUT);
  CHECK_INT(released, 1);
  free(bytes);
  close(e.peer);
  teardown();
}

/* ---- ends ------------------------------------------------------------------------------------ */

static void test_close_flushes(void) {
  setup();
  end e;
  open_unix(&e);
  CHECK_INT(fc_stream_write(&e.stream, text("last words")), 0);
  fc_stream_close(&e.stream);
  CHECK_INT(fc_stream_write(&e.stream, text("more")), FC_ECLOSED);
  fake.send_left = 4;
  peer_sends(&e, "unheard");
  turns(reactor, 3);
  CHECK_INT(e.closes, 0);
  fake.send_left = FAKESYS_ALL;
  turn(reactor);
  expect_closed(&e, 0);
  CHECK_INT(e.data, 0);
  peer_gets(&e, "last words");
  close(e.peer);

  open_unix(&e);
  fc_stream_close(&e.stream); /* with nothing queued: at once */
  CHECK_INT(e.closes, 1);
  turn(reactor);
  close(e.peer);
  teardown();
}

/* Closing or lingering while a reply waits: neither the peer's end nor a flood of its bytes, past
 * all that is discarded, keeps the reply from it. */
static void test_close_undisturbed(void) {
  static char junk[65536];
  for (int flood = 0; flood < 2; flood++) {
    for (int linger = 0; linger < 2; linger++) {
      setup();
      end e;
      open_unix(&e);
      fake.send_left = 0;
      CHECK_INT(fc_stream_write(&e.stream, text("reply")), 0);
      if (linger) fc_stream_linger(&e.stream, FC_NS_PER_S);
      else fc_stream_close(&e.stream);
      if (!flood) shutdown(e.peer, SHUT_WR);
      for (int refused = 0; refused < 20; turn(reactor))
        if (!flood || send(e.peer, junk, sizeof junk, MSG_NOSIGNAL) < 0) refused++;
        else refused = 0;
      CHECK_INT(e.closes, 0);
      CHECK_INT(e.data + e.eofs + e.gones, 0);
      fake.send_left = FAKESYS_ALL;
      turns(reactor, 2);
      CHECK_INT(e.closes, !flood || !linger);
      peer_gets(&e, "reply");
      finish(&e);
      CHECK_INT(e.why, 0);
      teardown();
    }
  }
}

/* The reply, then our end; what comes is discarded until the peer ends too, or time is up. */
static void test_linger(void) {
  for (int patient = 0; patient < 2; patient++) {
    setup();
    end e;
    open_tcp(&e);
    fc_stream_deadline(&e.stream, now.now_ns + FC_NS_PER_MS); /* no longer of interest */
    peer_sends(&e, "unread");
    CHECK_INT(fc_stream_write(&e.stream, text("refused")), 0);
    fake.send_left = 3;
    fc_stream_linger(&e.stream, FC_NS_PER_S);
    turns(reactor, 2);
    fakeclock_turn(&now, 5 * FC_NS_PER_S); /* the time counts from the last byte sent */
    turn(reactor);
    CHECK_INT(e.closes, 0);
    fake.send_left = FAKESYS_ALL;
    turns(reactor, 2);
    for (int i = 0; i < 20; i++) {
      peer_sends(&e, "and more, and more, and more");
      turn(reactor);
    }
    CHECK_INT(e.closes, 0);
    CHECK_INT(fake.shutdowns, 1);
    peer_gets(&e, "refused");
    peer_gets_eof(&e);
    CHECK_INT(fc_stream_write(&e.stream, text("x")), FC_ECLOSED);
    if (patient) fakeclock_turn(&now, FC_NS_PER_S + 2000);
    else shutdown(e.peer, SHUT_WR);
    turns(reactor, 2);
    expect_closed(&e, 0);
    CHECK_INT(e.data + e.deadlines + e.eofs, 0);
    close(e.peer);
    teardown();
  }
}

/* Who never stops sending is cut off. */
static void test_linger_is_bounded(void) {
  setup();
  end e;
  open_unix(&e);
  static char junk[65536];
  fc_stream_linger(&e.stream, FC_NS_PER_S);
  size_t total = 0;
  while (e.closes == 0) {
    ssize_t n = send(e.peer, junk, sizeof junk, MSG_NOSIGNAL);
    if (n > 0) total += (size_t)n;
    turn(reactor);
    CHECK(total < 4 * FC_STREAM_LINGER_BYTES);
  }
  CHECK(total > FC_STREAM_LINGER_BYTES);
  expect_closed(&e, 0);
  close(e.peer);
  teardown();
}

static void keep_until_full(end *e) {
  if (fc_stream_unread(&e->stream).len >= FC_STREAM_MAX_IN_BYTES) act_linger(e);
}

/* Lingering from the very on_data that filled the input: the rest is discarded, not waited for. */
static void test_linger_with_full_input(void) {
  setup();
  end e;
  open_unix(&e);
  e.keep = true;
  e.then = keep_until_full;
  static char junk[8192];
  size_t total = 0;
  while (total < FC_STREAM_MAX_IN_BYTES + 300000) {
    ssize_t n = send(e.peer, junk, sizeof junk, MSG_NOSIGNAL);
    if (n > 0) total += (size_t)n;
    CHECK(turn(reactor) > 0);
  }
  CHECK(e.stream.in == NULL); /* and holds no memory */
  CHECK_INT(e.closes, 0);
  finish(&e);
  teardown();
}

static void test_reset_while_lingering(void) {
  setup();
  end e;
  open_tcp(&e);
  fc_stream_linger(&e.stream, FC_NS_PER_S);
  reset_close(e.peer);
  turn(reactor);
  expect_closed(&e, -ECONNRESET);
  teardown();
}

static void test_shutdown_fails(void) {
  setup();
  end e;
  open_unix(&e);
  fake.shutdown_error = -ENOTCONN;
  CHECK_INT(fc_stream_write(&e.stream, text("x")), 0);
  fc_stream_linger(&e.stream, FC_NS_PER_S);
  turn(reactor);
  expect_closed(&e, 0);
  close(e.peer);
  teardown();
}

/* ---- ends from within callbacks -------------------------------------------------------------- */

static void end_then_use(end *e, void (*act)(end *)) {
  e->then = NULL;
  act(e);
  fc_stream_write(&e->stream, text("late"));
  fc_stream_trim(&e->stream);
}

static void (*chosen)(end *);

static void act_chosen(end *e) {
  end_then_use(e, chosen);
}

/* Each way to end a stream, from each callback, with and without bytes queued. */
static void test_end_in_callback(void) {
  static void (*const acts[])(end *) = {act_abort, act_close, act_linger};
  enum { DATA, EOFS, DRAIN, DEADLINE, GONE, CALLBACKS };
  for (int i = 0; i < 3 * CALLBACKS * 2; i++) {
    int callback = i % CALLBACKS, queued = i / CALLBACKS % 2;
    chosen = acts[i / CALLBACKS / 2];
    setup();
    end e;
    open_unix(&e);
    e.stream.high_water_bytes = 4;
    e.stream.low_water_bytes = 3;
    if (queued || callback == DRAIN) {
      CHECK_INT(fc_stream_write(&e.stream, text("queued")), 0);
      fake.send_left = callback == DRAIN ? 4 : 0;
      if (callback != DRAIN) turn(reactor);
    }
    e.then = act_chosen;
    if (callback == DATA) peer_sends(&e, "data");
    if (callback == EOFS) shutdown(e.peer, SHUT_WR);
    if (callback == DEADLINE) fc_stream_deadline(&e.stream, now.now_ns);
    if (callback == GONE) {
      fc_stream_pause(&e.stream);
      shutdown(e.peer, SHUT_WR);
    }
    turn(reactor);
    CHECK(e.then == NULL); /* the callback came */
    fake.send_left = FAKESYS_ALL;
    turns(reactor, 3);
    if (chosen == act_linger && e.closes == 0) {
      fakeclock_turn(&now, FC_NS_PER_S);
      turn(reactor);
    }
    expect_closed(&e, chosen == act_abort ? FC_ECLOSED : 0);
    CHECK_INT(e.data + e.eofs + e.drains + e.deadlines + e.gones, 1);
    size_t expected = chosen != act_abort && (queued || callback == DRAIN) ? 6 : 0;
    if (chosen == act_abort && callback == DRAIN) expected = 4;
    CHECK_INT(peer_drains(&e), expected);
    close(e.peer);
    teardown();
  }
}

/* ---- beginnings ---------------------------------------------------------------------------- */

static void test_open_fails(void) {
  setup();
  fc_stream s;
  CHECK_INT(fc_stream_open(&s, reactor, 999, &ops), -EBADF);
  teardown();
}

int main(void) {
  RUN(test_end_in_callback);
  RUN(test_deadline);
  RUN(test_stall);
  RUN(test_stall_counts_what_the_kernel_sends);
  RUN(test_close_flushes);
  RUN(test_close_undisturbed);
  RUN(test_linger);
  RUN(test_linger_is_bounded);
  RUN(test_linger_with_full_input);
  RUN(test_reset_while_lingering);
  RUN(test_shutdown_fails);
  RUN(test_open_fails);
  return 0;
}
