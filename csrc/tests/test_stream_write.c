/* What a stream writes, and whom it tells. */
#include "stream_end.h"

/* The writes of a turn leave in one call at its end, borrowed ones included. */
static void test_gathered(void) {
  setup();
  end e;
  open_unix(&e);
  int released = 0;
  CHECK_INT(fc_stream_write(&e.stream, text("one ")), 0);
  CHECK_INT(fc_stream_write(&e.stream, text("")), 0);
  CHECK_INT(fc_stream_write(&e.stream, text("two ")), 0);
  CHECK_INT(fc_stream_write_borrowed(&e.stream, text("three "), count_release, &released), 0);
  CHECK_INT(fc_stream_write_borrowed(&e.stream, text("four "), NULL, NULL), 0);
  char *dst = fc_stream_reserve(&e.stream, 100);
  memcpy(dst, "five", 4);
  fc_stream_commit(&e.stream, 4);
  CHECK_INT(fake.sends, 0);
  CHECK_INT(e.stream.out_bytes, 23);
  peer_gets_nothing(&e);
  turn(reactor);
  CHECK_INT(fake.sends, 1);
  CHECK_INT(released, 1);
  CHECK_INT(e.stream.out_bytes, 0);
  CHECK_INT(e.stream.sent_bytes, 23);
  CHECK_INT(e.drains, 0);
  peer_gets(&e, "one two three four five");
  turn(reactor);
  CHECK_INT(fake.sends, 1);
  finish(&e);
  teardown();
}

/* Pieces of nothing neither stop the queue nor stay in it. */
static void test_empty_pieces(void) {
  setup();
  end e;
  open_unix(&e);
  int released = 0;
  CHECK_INT(fc_stream_write_borrowed(&e.stream, text(""), count_release, &released), 0);
  CHECK(fc_stream_reserve(&e.stream, 100) != NULL);
  fc_stream_commit(&e.stream, 0);
  turn(reactor);
  CHECK_INT(released, 1);
  CHECK(e.stream.out_first == NULL);
  CHECK_INT(fc_stream_write_borrowed(&e.stream, text(""), count_release, &released), 0);
  fc_stream_close(&e.stream);
  turn(reactor);
  CHECK_INT(released, 2);
  expect_closed(&e, 0);
  close(e.peer);
  teardown();
}

/* More pieces than one call takes. */
static void test_many_pieces(void) {
  setup();
  end e;
  open_unix(&e);
  int released = 0;
  for (int i = 0; i < 500; i++)
    CHECK_INT(fc_stream_write_borrowed(&e.stream, text("x"), count_release, &released), 0);
  turn(reactor);
  CHECK_INT(released, 500);
  CHECK(fake.sends < 20);
  CHECK_INT(peer_drains(&e), 500);
  finish(&e);
  teardown();
}

/* The kernel takes `cut` bytes and then nothing for a while, for every `cut`. */
static void test_partial_writes(void) {
  static const char *const pieces[] = {"alpha", "b", "gamma gamma", "", "delta"};
  static const char whole[] = "alphabgamma gammadelta";
  for (size_t cut = 0; cut <= sizeof whole; cut++) {
    setup();
    end e;
    open_unix(&e);
    int released = 0;
    for (int i = 0; i < 5; i++) {
      if (i & 1) CHECK_INT(fc_stream_write(&e.stream, text(pieces[i])), 0);
      else fc_stream_write_borrowed(&e.stream, text(pieces[i]), count_release, &released);
    }
    fake.send_left = cut;
    turns(reactor, 3);
    CHECK_INT(e.stream.sent_bytes, cut < sizeof whole - 1 ? cut : sizeof whole - 1);
    CHECK_INT(e.stream.out_bytes, sizeof whole - 1 - e.stream.sent_bytes);
    CHECK_INT(released, (cut >= 5) + (cut >= 17) + (cut >= 22));
    fake.send_left = FAKESYS_ALL;
    turn(reactor);
    CHECK_INT(released, 3);
    CHECK_INT(e.stream.out_bytes, 0);
    peer_gets(&e, whole);
    CHECK_INT(turn(reactor), 0); /* no longer waits to write */
    finish(&e);
    teardown();
  }
}

/* A random writer against a peer that reads now and then: every byte once and in order. */
static void test_random_writer(void) {
  enum { LEN = 1000000 };
  for (uint64_t seed = 1; seed <= 4; seed++) {
    setup();
    end e;
    open_unix(&e);
    rng g = rng_seeded(seed);
    char *bytes = pattern(LEN, seed), *read = malloc(LEN);
    size_t at = 0, got = 0;
    int released = 0, lent = 0;
    while (got < LEN) {
      fake.send_max = rng_below(&g, 4) ? FAKESYS_ALL : (size_t)rng_span(&g, 14) + 1;
      while (at < LEN && !fc_stream_is_full(&e.stream) && rng_below(&g, 5)) {
        size_t n = (size_t)rng_span(&g, 15);
        if (n > LEN - at) n = LEN - at;
        if (rng_below(&g, 2)) {
          CHECK_INT(fc_stream_write(&e.stream, fc_slice_of(bytes + at, n)), 0);
        } else {
          fc_stream_write_borrowed(&e.stream, fc_slice_of(bytes + at, n), count_release, &released);
          lent++;
        }
        at += n;
      }
      turn(reactor);
      size_t want = (size_t)rng_span(&g, 16) + 1;
      ssize_t n = recv(e.peer, read + got, want < LEN - got ? want : LEN - got, MSG_DONTWAIT);
      if (n > 0) got += (size_t)n;
    }
    turns(reactor, 2);
    CHECK(memcmp(bytes, read, LEN) == 0);
    CHECK_INT(released, lent);
    free(bytes);
    free(read);
    finish(&e);
    teardown();
  }
}

static void test_water_marks(void) {
  setup();
  end e;
  open_unix(&e);
  e.stream.high_water_bytes = 1000;
  e.stream.low_water_bytes = 100;
  char *bytes = pattern(2000, 1);
  fake.send_left = 0;
  CHECK_INT(fc_stream_write(&e.stream, fc_slice_of(bytes, 1000)), 0);
  CHECK(!fc_stream_is_full(&e.stream));
  CHECK_INT(fc_stream_write(&e.stream, fc_slice_of(bytes, 1)), 0);
  CHECK(fc_stream_is_full(&e.stream));
  turn(reactor);
  fake.send_left = 900; /* 101 are left */
  turn(reactor);
  CHECK(!fc_stream_is_full(&e.stream));
  CHECK_INT(e.drains, 0);
  fake.send_left = 1;
  turn(reactor);
  CHECK_INT(e.drains, 1);
  fake.send_left = FAKESYS_ALL;
  turns(reactor, 2);
  CHECK_INT(e.drains, 1);
  CHECK_INT(fc_stream_write(&e.stream, fc_slice_of(bytes, 1500)), 0);
  turn(reactor); /* passed and left in one go: the writer is told all the same */
  CHECK_INT(e.drains, 2);
  free(bytes);
  finish(&e);
  teardown();
}

static void test_write_errors(void) {
  for (int early = 0; early < 2; early++) {
    setup();
    end e;
    open_unix(&e);
    int released = 0;
    fc_stream_write_borrowed(&e.stream, text("abc"), count_release, &released);
    fake.send_left = 2;
    if (early) turn(reactor);
    fake.send_error = -EPIPE;
    turn(reactor);
    CHECK_INT(released, 1);
    expect_closed(&e, -EPIPE);
    CHECK_INT(fc_stream_write(&e.stream, text("x")), FC_ECLOSED);
    CHECK_INT(fc_stream_write(&e.stream, text("")), FC_ECLOSED);
    CHECK_INT(fc_stream_write_borrowed(&e.stream, text("x"), count_release, &released), FC_ECLOSED);
    CHECK(fc_stream_reserve(&e.stream, 1) == NULL);
    CHECK_INT(released, 1);
    close(e.peer);
    teardown();
  }
}

static void test_abort_releases(void) {
  setup();
  end e;
  open_unix(&e);
  int released = 0;
  for (int i = 0; i < 3; i++)
    fc_stream_write_borrowed(&e.stream, text("abc"), count_release, &released);
  fc_stream_abort(&e.stream, FC_ELIMIT);
  CHECK_INT(released, 3);
  CHECK_INT(e.closes, 1);
  CHECK_INT(e.frees, 0); /* not before the turn's end */
  fc_stream_abort(&e.stream, FC_ENOMEM);
  fc_stream_close(&e.stream);
  fc_stream_linger(&e.stream, 1000);
  fc_stream_flush(&e.stream);
  fc_stream_pause(&e.stream);
  fc_stream_resume(&e.stream);
  fc_stream_trim(&e.stream);
  fc_stream_deadline(&e.stream, now.now_ns + 1);
  turn(reactor);
  expect_closed(&e, FC_ELIMIT);
  CHECK_INT(fake.closes, 1);
  peer_gets_eof(&e);
  close(e.peer);
  teardown();
}

/* ---- owners that call the stream from within release ----------------------------------------- */

typedef struct meddler {
  end *e;
  int calls;
  void (*act)(end *e);
} meddler;

static void meddle(void *owner) {
  meddler *m = owner;
  m->calls++;
  m->act(m->e);
}

static void act_flush(end *e) {
  fc_stream_flush(&e->stream);
}

static void act_write(end *e) {
  if (e->stream.sent_bytes < 100) fc_stream_write(&e->stream, text("more"));
}

/* In the midst of a queue of which 4 or 7 bytes go at first. */
static void test_release_meddles(void) {
  static void (*const acts[])(end *) = {act_abort, act_close, act_linger, act_flush, act_write};
  for (size_t i = 0; i < sizeof acts / sizeof acts[0]; i++) {
    for (size_t left = 4; left <= 7; left += 3) {
      setup();
      end e;
      open_unix(&e);
      e.stream.stall_timeout_ns = FC_NS_PER_S;
      meddler m = {&e, 0, acts[i]};
      int released = 0;
      fc_stream_write_borrowed(&e.stream, text("1234"), meddle, &m);
      fc_stream_write_borrowed(&e.stream, text("5678"), count_release, &released);
      fake.send_left = left;
      turn(reactor);
      CHECK_INT(m.calls, 1);
      fake.send_left = FAKESYS_ALL;
      turns(reactor, 2);
      CHECK_INT(released, 1);
      CHECK_INT(m.calls, 1);
      char got[64] = "";
      CHECK(recv(e.peer, got, sizeof got - 1, 0) >= 4);
      if (acts[i] == act_abort) CHECK_INT(strlen(got), left);
      else CHECK(strcmp(got, acts[i] == act_write ? "12345678more" : "12345678") == 0);
      CHECK_INT(e.closes, acts[i] == act_abort || acts[i] == act_close);
      finish(&e);
      teardown();
    }
  }
}

/* ---- memory ---------------------------------------------------------------------------------- */

/* Reads and writes of every kind with the n-th allocation failing, alone or with all after it. */
static bool conversation(long fail_at, bool once) {
  setup();
  end e;
  open_unix(&e);
  e.keep = true;
  mem.total = 0;
  mem.fail_at = fail_at;
  mem.once = once;
  int released = 0, lent = 0;
  static char bytes[70000];
  for (int i = 0; i < 6; i++) {
    ssize_t n = send(e.peer, bytes, 12000, MSG_NOSIGNAL);
    CHECK(n == 12000 || e.closes);
    int err = fc_stream_write(&e.stream, fc_slice_of(bytes, (size_t)i * 14000));
    CHECK(err == 0 || err == FC_ENOMEM || err == FC_ECLOSED);
    err = fc_stream_write_borrowed(&e.stream, fc_slice_of(bytes, 100), count_release, &released);
    CHECK(err == 0 || err == FC_ENOMEM || err == FC_ECLOSED);
    if (err == 0) lent++;
    CHECK(!fc_stream_is_open(&e.stream) || e.closes == 0);
    turn(reactor);
    peer_drains(&e);
  }
  CHECK(e.closes == 0 || e.why == FC_ENOMEM);
  bool failed = mem.total > fail_at;
  fc_stream_close(&e.stream);
  for (int i = 0; i < 4 && e.frees == 0; i++) {
    turn(reactor);
    peer_drains(&e);
  }
  CHECK_INT(e.frees, 1);
  CHECK_INT(released, lent);
  close(e.peer);
  teardown();
  return failed;
}

static void test_out_of_memory(void) {
  for (int once = 0; once < 2; once++) {
    long n = 0;
    while (conversation(n, once)) n++;
    CHECK(n > 8);
  }
}

int main(void) {
  RUN(test_gathered);
  RUN(test_empty_pieces);
  RUN(test_many_pieces);
  RUN(test_partial_writes);
  RUN(test_random_writer);
  RUN(test_water_marks);
  RUN(test_write_errors);
  RUN(test_abort_releases);
  RUN(test_release_meddles);
  RUN(test_out_of_memory);
  return 0;
}
