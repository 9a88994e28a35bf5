/* bench_reactor - nanoseconds for a turn of the reactor in which streams echo a message each.
 *
 *     cc -O2 -D_GNU_SOURCE -Iinclude bench/bench_reactor.c src/{reactor,reactor_epoll,stream}.c \
 *        src/{buf,clock,err,mem,sys,timer}.c -o bench_reactor && ./bench_reactor [rounds]
 *
 * Of n pairs of sockets both ends are streams of the same reactor that send back what they get, so
 * a turn is one wait and n times a recv and a send. "empty" is a turn without events. The least of
 * five runs is printed: what disturbs a run only ever adds to it. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>

#include "fc/stream.h"

#define MAX_PAIRS 100

static double now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void echo(fc_stream *s) {
  fc_slice in = fc_stream_unread(s);
  if (fc_stream_write(s, in) < 0) exit(1);
  fc_stream_consume(s, in.len);
}

static void nothing(fc_stream *s) {
  (void)s;
}

static void closed(fc_stream *s, int why) {
  (void)s;
  if (why) exit(1);
}

static const fc_stream_ops ops = {
    .on_data = echo, .on_eof = nothing, .on_drain = nothing, .on_deadline = nothing,
    .on_closed = closed, .on_free = nothing,
};

static void turn(fc_reactor *r) {
  if (fc_reactor_wait(r, fc_reactor_timeout(r, 0)) < 0) exit(1);
  fc_reactor_dispatch(r);
  fc_reactor_end_turn(r);
}

static double run(int pairs, long turns) {
  static fc_stream streams[2 * MAX_PAIRS];
  fc_reactor *r;
  if (fc_reactor_open(&r, NULL) < 0) exit(1);
  for (int i = 0; i < pairs; i++) {
    int fd[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd) < 0) exit(1);
    for (int k = 0; k < 2; k++)
      if (fc_stream_open(&streams[2 * i + k], r, fd[k], &ops) < 0) exit(1);
    if (fc_stream_write(&streams[2 * i], FC_SLICE("a message of forty bytes to and fro ....")) < 0)
      exit(1);
  }
  for (int i = 0; i < 100; i++) turn(r);
  double start = now_ns();
  for (long i = 0; i < turns; i++) turn(r);
  double ns = (now_ns() - start) / (double)turns;
  for (int i = 0; i < 2 * pairs; i++) fc_stream_abort(&streams[i], 0);
  fc_reactor_close(r);
  return ns;
}

int main(int argc, char **argv) {
  static const int pairs[] = {0, 1, 10, MAX_PAIRS};
  long rounds = argc > 1 ? atol(argv[1]) : 200000;
  for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
    int n = pairs[i];
    double best = 1e18;
    for (int k = 0; k < 5; k++) {
      double ns = run(n, n ? rounds / n : rounds);
      if (ns < best) best = ns;
    }
    if (n == 0) printf("empty      %8.1f ns a turn\n", best);
    else printf("%3d echoes %8.1f ns a turn, %7.1f each\n", n, best, best / n);
  }
  return 0;
}
