/* stream_end.h - a stream over a real socket that counts its callbacks, and what its peer sees. */
#ifndef FC_STREAM_END_H
#define FC_STREAM_END_H

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
    on_data, on_eof, on_drain, on_deadline, on_closed, on_free, on_gone, NULL, NULL,
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

static inline void open_unix(end *e) {
  int fd[2];
  unix_pair(fd);
  open_on(e, fd);
}

static inline void open_tcp(end *e) {
  int fd[2];
  tcp_pair(fd);
  open_on(e, fd);
}

static inline void expect_closed(end *e, int why) {
  CHECK_INT(e->closes, 1);
  CHECK_INT(e->why, why);
  CHECK_INT(e->frees, 1);
}

static inline void finish(end *e) {
  fc_stream_abort(&e->stream, 0);
  turn(reactor);
  CHECK_INT(e->frees, 1);
  free(e->got);
  close(e->peer);
}

static inline void peer_sends(end *e, const char *text) {
  CHECK_INT(send(e->peer, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static inline void peer_gets(end *e, const char *text) {
  char buf[1024];
  ssize_t n = recv(e->peer, buf, sizeof buf, MSG_DONTWAIT);
  CHECK_INT(n, strlen(text));
  CHECK(memcmp(buf, text, (size_t)n) == 0);
}

static inline void peer_gets_eof(end *e) {
  char byte;
  CHECK_INT(recv(e->peer, &byte, 1, MSG_DONTWAIT), 0);
}

static inline void peer_gets_nothing(end *e) {
  char byte;
  CHECK_INT(recv(e->peer, &byte, 1, MSG_DONTWAIT), -1);
  CHECK_INT(errno, EAGAIN);
}

static inline size_t peer_drains(end *e) {
  static char sink[1 << 18];
  size_t total = 0;
  for (ssize_t n; (n = recv(e->peer, sink, sizeof sink, MSG_DONTWAIT)) > 0;) total += (size_t)n;
  return total;
}

static inline fc_slice text(const char *s) {
  return fc_slice_of(s, strlen(s));
}

static inline char *pattern(size_t len, uint64_t seed) {
  char *p = malloc(len);
  rng g = rng_seeded(seed);
  for (size_t i = 0; i < len; i++) p[i] = (char)rng_next(&g);
  return p;
}

static inline void count_release(void *owner) {
  ++*(int *)owner;
}

/* ---- ways to end it -------------------------------------------------------------------------- */

static inline void act_abort(end *e) {
  fc_stream_abort(&e->stream, FC_ECLOSED);
}

static inline void act_close(end *e) {
  fc_stream_close(&e->stream);
}

static inline void act_linger(end *e) {
  fc_stream_linger(&e->stream, 1000000);
}

#endif
