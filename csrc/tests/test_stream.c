/* Streams over real sockets, with faults put in between. */
#include "failmem.h"
#include "fakeclock.h"
#include "fakesys.h"
#include "fc/err.h"
#include "fc/stream.h"
#include "rng.h"
#include "turn.h"

/* A stream under test and the socket at its other end. */
typedef struct end {
  fc_stream stream;
  int peer;
  int data, eofs, drains, deadlines, closes, frees, gones;
  int why;
  bool keep; /* leave the input unread */
  char *got; /* what was read, if wanted */
  size_t got_len;
  void (*then)(struct end *e); /* at the end of each callback but on_closed and on_free */
} end;

static fakeclock now;
static failmem mem;
static fc_reactor *reactor;

static end *of(fc_stream *s) {
  return FC_CONTAINER(s, end, stream);
}

static void take(end *e) {
  fc_slice in = fc_stream_unread(&e->stream);
  if (e->got) memcpy(e->got + e->got_len, in.ptr, in.len);
  e->got_len += in.len;
  fc_stream_consume(&e->stream, in.len);
}

static void on_data(fc_stream *s) {
  end *e = of(s);
  e->data++;
  CHECK_INT(e->closes, 0);
  if (!e->keep) take(e);
  if (e->then) e->then(e);
}

static void on_eof(fc_stream *s) {
  end *e = of(s);
  CHECK_INT(e->eofs++, 0);
  CHECK_INT(e->closes, 0);
  if (e->then) e->then(e);
}

static void on_drain(fc_stream *s) {
  end *e = of(s);
  e->drains++;
  CHECK(s->out_bytes <= s->low_water_bytes);
  CHECK_INT(e->closes, 0);
  if (e->then) e->then(e);
}

static void on_deadline(fc_stream *s) {
  end *e = of(s);
  e->deadlines++;
  CHECK_INT(e->closes, 0);
  if (e->then) e->then(e);
}

static void on_closed(fc_stream *s, int why) {
  end *e = of(s);
  CHECK_INT(e->closes++, 0);
  CHECK(!fc_stream_is_open(s));
  e->why = why;
}

static void on_free(fc_stream *s) {
  end *e = of(s);
  CHECK_INT(e->closes, 1);
  CHECK_INT(e->frees++, 0);
}

static void on_gone(fc_stream *s) {
  end *e = of(s);
  CHECK_INT(e->gones++, 0);
  CHECK_INT(e->eofs, 0);
  if (e->then) e->then(e);
}

static const fc_stream_ops ops = {
    on_data, on_eof, on_drain, on_deadline, on_closed, on_free, on_gone,
};

static void setup(void) {
  fakesys_reset();
  fakeclock_init(&now);
  failmem_init(&mem, -1);
  fc_reactor_config config = {&mem.mem, &now.clock, &fakesys_table};
  CHECK_INT(fc_reactor_open(&reactor, &config), 0);
}

/* Every test ends with its streams closed, and then nothing is left. */
static void teardown(void) {
  CHECK_INT(reactor->timers.count, 0);
  fc_reactor_close(reactor);
  CHECK_INT(mem.live, 0);
}

static void open_on(end *e, const int fd[2]) {
  *e = (end){.peer = fd[1]};
  CHECK_INT(fc_stream_open(&e->stream, reactor, fd[0], &ops), 0);
}

static void open_unix(end *e) {
  int fd[2];
  unix_pair(fd);
  open_on(e, fd);
}

static void open_tcp(end *e) {
  int fd[2];
  tcp_pair(fd);
  open_on(e, fd);
}

static void expect_closed(end *e, int why) {
  CHECK_INT(e->closes, 1);
  CHECK_INT(e->why, why);
  CHECK_INT(e->frees, 1);
}

static void finish(end *e) {
  fc_stream_abort(&e->stream, 0);
  turn(reactor);
  CHECK_INT(e->frees, 1);
  free(e->got);
  close(e->peer);
}

static void peer_sends(end *e, const char *text) {
  CHECK_INT(send(e->peer, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static void peer_gets(end *e, const char *text) {
  char buf[1024];
  ssize_t n = recv(e->peer, buf, sizeof buf, MSG_DONTWAIT);
  CHECK_INT(n, strlen(text));
  CHECK(memcmp(buf, text, (size_t)n) == 0);
}

static void peer_gets_eof(end *e) {
  char byte;
  CHECK_INT(recv(e->peer, &byte, 1, MSG_DONTWAIT), 0);
}

static void peer_gets_nothing(end *e) {
  char byte;
  CHECK_INT(recv(e->peer, &byte, 1, MSG_DONTWAIT), -1);
  CHECK_INT(errno, EAGAIN);
}

static size_t peer_drains(end *e) {
  static char sink[1 << 18];
  size_t total = 0;
  for (ssize_t n; (n = recv(e->peer, sink, sizeof sink, MSG_DONTWAIT)) > 0;) total += (size_t)n;
  return total;
}

static fc_slice text(const char *s) {
  return fc_slice_of(s, strlen(s));
}

static char *pattern(size_t len, uint64_t seed) {
  char *p = malloc(len);
  rng g = rng_seeded(seed);
  for (size_t i = 0; i < len; i++) p[i] = (char)rng_next(&g);
  return p;
}

static void count_release(void *owner) {
  ++*(int *)owner;
}

/* ---- reading --------------------------------------------------------------------------------- */

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

/* ---- writing --------------------------------------------------------------------------------- */

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
      ssize_t n = recv(e.peer, read + got, (size_t)rng_span(&g, 16) + 1, MSG_DONTWAIT);
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

/* ---- owners that call the stream from within release ------------------------------------------ */

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

static void act_abort(end *e) {
  fc_stream_abort(&e->stream, FC_ECLOSED);
}

static void act_close(end *e) {
  fc_stream_close(&e->stream);
}

static void act_linger(end *e) {
  fc_stream_linger(&e->stream, 1000000);
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

/* ---- ends from within callbacks ---------------------------------------------------------------- */

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

/* Closing, with the peer's end or a flood of its bytes in between, still sends everything. */
static void test_close_undisturbed(void) {
  for (int flood = 0; flood < 2; flood++) {
    for (int linger = 0; linger < 2; linger++) {
      setup();
      end e;
      open_unix(&e);
      static char junk[65536];
      fake.send_left = 0;
      CHECK_INT(fc_stream_write(&e.stream, text("reply")), 0);
      if (linger) fc_stream_linger(&e.stream, FC_NS_PER_S);
      else fc_stream_close(&e.stream);
      if (!flood) shutdown(e.peer, SHUT_WR);
      for (int i = 0; i < 100; i++) {
        if (flood) CHECK(send(e.peer, junk, sizeof junk, MSG_NOSIGNAL) > 0 || errno == EAGAIN);
        turn(reactor);
      }
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

/* The reply, then the end of our side; what comes is discarded until the peer ends or time is up. */
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

static void test_open_fails(void) {
  setup();
  fc_stream s;
  CHECK_INT(fc_stream_open(&s, reactor, 999, &ops), -EBADF);
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
  RUN(test_gathered);
  RUN(test_empty_pieces);
  RUN(test_many_pieces);
  RUN(test_partial_writes);
  RUN(test_random_writer);
  RUN(test_water_marks);
  RUN(test_write_errors);
  RUN(test_abort_releases);
  RUN(test_release_meddles);
  RUN(test_end_in_callback);
  RUN(test_deadline);
  RUN(test_stall);
  RUN(test_stall_counts_what_the_kernel_sends);
  RUN(test_close_flushes);
  RUN(test_close_undisturbed);
  RUN(test_linger);
  RUN(test_linger_is_bounded);
  RUN(test_linger_with_full_input);
  RUN(test_shutdown_fails);
  RUN(test_out_of_memory);
  RUN(test_open_fails);
  return 0;
}
