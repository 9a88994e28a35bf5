/* What a stream reads, and when it stops reading. */
#include "stream_end.h"

static void test_read(void) {
  setup();
  end e;
  open_unix(&e);
  CHECK_INT(mem.live, 3); /* an idle stream holds no block */
  peer_sends(&e, "hello");
  turn(reactor);
  CHECK_INT(e.data, 1);
  CHECK_INT(e.got_len, 5);
  CHECK_INT(fake.recvs, 1); /* a short read needs no second one */
  CHECK(e.stream.in == NULL);
  shutdown(e.peer, SHUT_WR);
  turns(reactor, 3);
  CHECK_INT(e.eofs, 1);
  CHECK_INT(fc_stream_write(&e.stream, text("still")), 0);
  turn(reactor);
  peer_gets(&e, "still");
  finish(&e);
  expect_closed(&e, 0);
  teardown();
}

/* What is left unread stays in one piece at any size of read. */
static void test_unread_grows(void) {
  for (size_t max = 1; max < 100000; max = max * 3 + 1) {
    setup();
    end e;
    open_unix(&e);
    e.keep = true;
    fake.recv_max = max;
    size_t len = max < 100 ? 3000 : 120000;
    char *sent = pattern(len, max);
    size_t at = 0;
    while (fc_stream_unread(&e.stream).len < len) {
      ssize_t n = send(e.peer, sent + at, len - at, MSG_NOSIGNAL);
      if (n > 0) at += (size_t)n;
      turn(reactor);
    }
    CHECK(memcmp(fc_stream_unread(&e.stream).ptr, sent, len) == 0);
    fc_stream_consume(&e.stream, 7);
    CHECK(memcmp(fc_stream_unread(&e.stream).ptr, sent + 7, len - 7) == 0);
    free(sent);
    finish(&e);
    teardown();
  }
}

/* A random reader that consumes any part at any time gets every byte once. */
static rng reader_random;

static void read_some(end *e) {
  fc_slice in = fc_stream_unread(&e->stream);
  size_t n = (size_t)rng_below(&reader_random, in.len + 1);
  if (n == 0) return;
  memcpy(e->got + e->got_len, in.ptr, n);
  e->got_len += n;
  fc_stream_consume(&e->stream, n);
}

static void test_random_reader(void) {
  enum { LEN = 2000000 };
  for (uint64_t seed = 1; seed <= 4; seed++) {
    setup();
    end e;
    open_unix(&e);
    e.keep = true;
    e.then = read_some;
    e.got = malloc(LEN);
    reader_random = rng_seeded(seed);
    fake.recv_max = seed & 1 ? FAKESYS_ALL : 1 + (size_t)rng_below(&reader_random, 5000);
    char *sent = pattern(LEN, seed);
    for (size_t at = 0; e.got_len < LEN;) {
      ssize_t n = at < LEN ? send(e.peer, sent + at, LEN - at, MSG_NOSIGNAL) : 0;
      if (n > 0) at += (size_t)n;
      turn(reactor);
      if (rng_below(&reader_random, 3) == 0) {
        read_some(&e);
        fc_stream_trim(&e.stream);
      }
      CHECK(fc_stream_unread(&e.stream).len < 2 * FC_STREAM_MAX_IN_BYTES);
    }
    CHECK(memcmp(e.got, sent, LEN) == 0);
    free(sent);
    finish(&e);
    teardown();
  }
}

typedef struct held {
  fc_buf *block;
  fc_slice slice;
  char copy[FC_STREAM_MAX_IN_BYTES];
} held;

static held holds[512];
static int hold_count;

/* Keeps half of what came, and leaves an odd rest unread. */
static void hold_block(end *e) {
  fc_slice in = fc_stream_unread(&e->stream);
  held *h = &holds[hold_count % 512];
  if (h->block) {
    CHECK(memcmp(h->copy, h->slice.ptr, h->slice.len) == 0);
    fc_buf_unref(h->block);
  }
  hold_count++;
  h->slice = (fc_slice){in.ptr, in.len / 2};
  h->block = fc_buf_ref(e->stream.in);
  memcpy(h->copy, h->slice.ptr, h->slice.len);
  memcpy(e->got + e->got_len, h->slice.ptr, h->slice.len);
  e->got_len += h->slice.len;
  fc_stream_consume(&e->stream, h->slice.len);
}

/* Bytes under somebody's reference never change while the stream reads on. */
static void test_held_blocks(void) {
  enum { LEN = 1500000 };
  setup();
  end e;
  open_unix(&e);
  e.keep = true;
  e.then = hold_block;
  e.got = malloc(LEN);
  char *sent = pattern(LEN, 9);
  rng g = rng_seeded(4);
  for (size_t at = 0; at < LEN;) {
    size_t want = (size_t)rng_below(&g, 9000) + 1;
    if (want > LEN - at) want = LEN - at;
    ssize_t n = send(e.peer, sent + at, want, MSG_NOSIGNAL);
    if (n > 0) at += (size_t)n;
    turn(reactor);
  }
  e.then = NULL;
  e.keep = false;
  turns(reactor, 20);
  take(&e);
  CHECK_INT(e.got_len, LEN);
  CHECK(memcmp(e.got, sent, LEN) == 0);
  CHECK(hold_count > 100);
  for (int i = 0; i < 512; i++) {
    if (!holds[i].block) continue;
    CHECK(memcmp(holds[i].copy, holds[i].slice.ptr, holds[i].slice.len) == 0);
    fc_buf_unref(holds[i].block);
    holds[i].block = NULL;
  }
  free(sent);
  finish(&e);
  teardown();
}

/* Too much unread stops the reading; consuming it, in on_data or later, starts it again. */
static void test_full_in(void) {
  setup();
  end e;
  open_unix(&e);
  e.keep = true;
  char *sent = pattern(4096, 1);
  for (int i = 0; i < 400; i++) {
    while (send(e.peer, sent, 4096, MSG_NOSIGNAL) == 4096) {}
    turn(reactor);
  }
  size_t stopped_at = fc_stream_unread(&e.stream).len;
  CHECK(stopped_at >= FC_STREAM_MAX_IN_BYTES && stopped_at < 2 * FC_STREAM_MAX_IN_BYTES);
  CHECK_INT(turn(reactor), 0); /* no event, not even an idle one */
  fc_stream_consume(&e.stream, stopped_at - 1);
  fc_stream_trim(&e.stream);
  turns(reactor, 2);
  CHECK(fc_stream_unread(&e.stream).len > 1);
  for (int i = 0; i < 100; i++) turn(reactor);
  e.keep = false;
  take(&e);
  fc_stream_trim(&e.stream);
  CHECK(e.stream.in == NULL);
  e.got_len = 0;
  turns(reactor, 100);
  CHECK(e.got_len > 0);
  CHECK_INT(turn(reactor), 0);
  free(sent);
  finish(&e);
  teardown();
}

/* One stream reads at most its budget in a turn, in spite of a peer that never pauses. */
static ssize_t endless_recv(int fd, void *buf, size_t len) {
  (void)fd;
  memset(buf, 'x', len);
  return (ssize_t)len;
}

static void test_read_budget(void) {
  setup();
  fc_sys endless = fakesys_table;
  endless.recv = endless_recv;
  reactor->sys = &endless;
  end e;
  open_unix(&e);
  peer_sends(&e, "x");
  turn(reactor);
  CHECK(e.got_len >= FC_STREAM_READ_BUDGET_BYTES);
  CHECK(e.got_len <= FC_STREAM_READ_BUDGET_BYTES + 65536);
  finish(&e);
  teardown();
}

static void test_pause(void) {
  setup();
  end e;
  open_unix(&e);
  fc_stream_pause(&e.stream);
  fc_stream_pause(&e.stream);
  peer_sends(&e, "abc");
  CHECK_INT(turn(reactor), 0);
  CHECK_INT(e.data, 0);
  fc_stream_resume(&e.stream);
  fc_stream_resume(&e.stream);
  turn(reactor);
  CHECK_INT(e.got_len, 3);
  CHECK_INT(e.gones, 0);
  finish(&e);
  teardown();
}

static void pause_it(end *e) {
  fc_stream_pause(&e->stream);
}

/* Paused in on_data: what the kernel still holds comes after the resumption, then the end. */
static void test_peer_gone_while_paused(void) {
  for (int tcp = 0; tcp < 2; tcp++) {
    for (int shut = 0; shut < 2; shut++) {
      setup();
      end e;
      if (tcp) open_tcp(&e);
      else open_unix(&e);
      fake.recv_max = 10;
      e.then = pause_it;
      peer_sends(&e, "0123456789abcdef");
      turn(reactor);
      CHECK_INT(e.got_len, 10);
      turn(reactor);
      CHECK_INT(e.gones, 0);
      if (shut) shutdown(e.peer, SHUT_WR);
      else close(e.peer);
      turns(reactor, 3);
      CHECK_INT(e.gones, 1);
      CHECK_INT(e.eofs, 0);
      CHECK_INT(turn(reactor), 0); /* told once, then silent */
      fc_stream_resume(&e.stream);
      turn(reactor);
      CHECK_INT(e.got_len, 16);
      CHECK_INT(e.eofs, 0);
      e.then = NULL;
      fc_stream_resume(&e.stream);
      turns(reactor, 3);
      CHECK_INT(e.eofs, 1);
      CHECK_INT(e.gones, 1);
      if (!shut) e.peer = -1;
      finish(&e);
      teardown();
    }
  }
}

static void test_read_errors(void) {
  setup();
  end e;
  open_unix(&e);
  fake.recv_error = -EAGAIN; /* an event that was not true */
  peer_sends(&e, "x");
  turn(reactor);
  CHECK_INT(e.data + e.closes, 0);
  CHECK(e.stream.in == NULL);
  fake.recv_error = -ECONNRESET;
  turn(reactor);
  expect_closed(&e, -ECONNRESET);
  close(e.peer);
  teardown();
}

static void test_reset(void) {
  setup();
  end e;
  open_tcp(&e);
  reset_close(e.peer);
  turn(reactor);
  expect_closed(&e, -ECONNRESET);

  open_tcp(&e); /* while paused it is learnt of, and named once read */
  fc_stream_pause(&e.stream);
  reset_close(e.peer);
  turn(reactor);
  CHECK_INT(e.gones, 1);
  CHECK_INT(turn(reactor), 0);
  fc_stream_resume(&e.stream);
  turn(reactor);
  expect_closed(&e, -ECONNRESET);

  open_tcp(&e); /* while it only writes */
  fake.send_left = 0;
  shutdown(e.peer, SHUT_WR);
  turn(reactor);
  CHECK_INT(e.eofs, 1);
  CHECK_INT(fc_stream_write(&e.stream, text("x")), 0);
  turn(reactor);
  fake.send_left = FAKESYS_ALL;
  reset_close(e.peer);
  turn(reactor);
  CHECK_INT(e.closes, 1);
  CHECK(e.why == -ECONNRESET || e.why == -EPIPE);
  teardown();
}

int main(void) {
  RUN(test_read);
  RUN(test_unread_grows);
  RUN(test_random_reader);
  RUN(test_held_blocks);
  RUN(test_full_in);
  RUN(test_read_budget);
  RUN(test_pause);
  RUN(test_peer_gone_while_paused);
  RUN(test_read_errors);
  RUN(test_reset);
  return 0;
}
