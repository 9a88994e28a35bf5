/* bench_timer - nanoseconds to arm and cancel a timer, and to let it fire, among 10^2 to 10^6.
 *
 *     cc -O2 -Iinclude bench/bench_timer.c src/timer.c -o bench_timer && ./bench_timer [rounds]
 *
 * The others lie between now and a minute ahead, as the timeouts of connections do. The least of
 * five runs is printed: what disturbs a run only ever adds to it. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "fc/timer.h"

#define SPAN_NS UINT64_C(60000000000)

static fc_timers wheel;
static uint64_t state = 88172645463325252u;

static uint64_t next_random(void) {
  state ^= state << 13;
  state ^= state >> 7;
  return state ^= state << 17;
}

static double now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void fire(fc_timer *t) {
  (void)t;
}

/* One timer among the others is armed and cancelled, each time for another deadline. */
static double arm_and_cancel(long rounds) {
  fc_timer t;
  fc_timer_init(&t, fire);
  double start = now_ns();
  for (long i = 0; i < rounds; i++) {
    fc_timer_arm(&wheel, &t, next_random() % SPAN_NS);
    fc_timer_cancel(&wheel, &t);
  }
  return (now_ns() - start) / (double)rounds;
}

/* The others are moved on, in random order: what a busy connection does to its timeout. */
static double rearm(fc_timer *timers, size_t count, long rounds) {
  double start = now_ns();
  for (long i = 0; i < rounds; i++)
    fc_timer_arm(&wheel, &timers[next_random() % count], next_random() % SPAN_NS);
  return (now_ns() - start) / (double)rounds;
}

/* All of them fire, the wheel going on as a reactor without other work would. */
static double fire_all(size_t count) {
  double start = now_ns();
  while (wheel.count) fc_timers_advance(&wheel, fc_timers_next_ns(&wheel));
  return (now_ns() - start) / (double)count;
}

static void fill(fc_timer *timers, size_t count) {
  fc_timers_init(&wheel, 0);
  for (size_t i = 0; i < count; i++) {
    fc_timer_init(&timers[i], fire);
    fc_timer_arm(&wheel, &timers[i], next_random() % SPAN_NS);
  }
}

int main(int argc, char **argv) {
  long rounds = argc > 1 ? atol(argv[1]) : 1000000;
  printf("%9s %12s %12s %12s   ns\n", "timers", "arm+cancel", "re-arm", "fire");
  for (size_t count = 100; count <= 1000000; count *= 10) {
    fc_timer *timers = malloc(count * sizeof *timers);
    if (!timers) return 1;
    double best[3] = {1e18, 1e18, 1e18};
    for (int k = 0; k < 5; k++) {
      fill(timers, count);
      double ns[3] = {arm_and_cancel(rounds), rearm(timers, count, rounds), fire_all(count)};
      for (int i = 0; i < 3; i++)
        if (ns[i] < best[i]) best[i] = ns[i];
    }
    printf("%9zu %12.1f %12.1f %12.1f\n", count, best[0], best[1], best[2]);
    free(timers);
  }
  return 0;
}
