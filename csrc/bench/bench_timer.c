/* bench_timer - nanoseconds to arm and cancel a timer, and to let it fire, among 10^2 to 10^6: the
 * wheel of timer.h, and the heap that might stand in its place.
 *
 *     cc -O2 -Iinclude bench/bench_timer.c src/timer.c -o bench_timer && ./bench_timer [rounds]
 *
 * The others lie between now and a minute ahead, as the timeouts of connections do. The least of
 * five runs is printed: what disturbs a run only ever adds to it. The heap is the best of its kind
 * here: four children a node, deadlines in the array beside the pointers, each timer knowing its
 * place so that a cancel finds it, and room for all allocated beforehand. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "fc/timer.h"

#define SPAN_NS UINT64_C(60000000000)
#define FIRST_NS 1000000 /* what fires lies at least a millisecond ahead */

/* ---- the 4-ary heap ---------------------------------------------------------------------------*/

typedef struct heap_timer {
  size_t at; /* its place; NOT_ARMED when it has none */
  void (*fire)(struct heap_timer *t);
} heap_timer;

#define NOT_ARMED SIZE_MAX

typedef struct heap_entry {
  uint64_t deadline_ns;
  heap_timer *timer;
} heap_entry;

typedef struct heap {
  heap_entry *entries;
  size_t count;
} heap;

static void heap_place(heap *h, size_t at, heap_entry e) {
  h->entries[at] = e;
  e.timer->at = at;
}

static void heap_up(heap *h, size_t at, heap_entry e) {
  while (at) {
    size_t parent = (at - 1) / 4;
    if (h->entries[parent].deadline_ns <= e.deadline_ns) break;
    heap_place(h, at, h->entries[parent]);
    at = parent;
  }
  heap_place(h, at, e);
}

static void heap_down(heap *h, size_t at, heap_entry e) {
  for (;;) {
    size_t child = 4 * at + 1, least = child;
    if (child >= h->count) break;
    size_t end = child + 4 < h->count ? child + 4 : h->count;
    while (++child < end)
      if (h->entries[child].deadline_ns < h->entries[least].deadline_ns) least = child;
    if (h->entries[least].deadline_ns >= e.deadline_ns) break;
    heap_place(h, at, h->entries[least]);
    at = least;
  }
  heap_place(h, at, e);
}

/* Puts e where the hole at `at` is, or above or below it. */
static void heap_settle(heap *h, size_t at, heap_entry e) {
  if (at && e.deadline_ns < h->entries[(at - 1) / 4].deadline_ns)
    heap_up(h, at, e);
  else
    heap_down(h, at, e);
}

static void heap_arm(heap *h, heap_timer *t, uint64_t deadline_ns) {
  heap_entry e = {deadline_ns, t};
  if (t->at == NOT_ARMED)
    heap_up(h, h->count++, e);
  else
    heap_settle(h, t->at, e);
}

static void heap_cancel(heap *h, heap_timer *t) {
  size_t at = t->at;
  heap_entry last = h->entries[--h->count];
  t->at = NOT_ARMED;
  if (at != h->count) heap_settle(h, at, last);
}

static void heap_advance(heap *h, uint64_t now_ns) {
  while (h->count && h->entries[0].deadline_ns <= now_ns) {
    heap_timer *t = h->entries[0].timer;
    heap_cancel(h, t);
    t->fire(t);
  }
}

/* ---- both -------------------------------------------------------------------------------------*/

static fc_timers wheel;
static heap queue;
static uint64_t state = 88172645463325252u;
static size_t fired;

static uint64_t next_random(void) {
  state ^= state << 13;
  state ^= state >> 7;
  return state ^= state << 17;
}

static uint64_t next_deadline(void) {
  return FIRST_NS + next_random() % SPAN_NS;
}

static double now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void wheel_fire(fc_timer *t) {
  (void)t;
  fired++;
}

static void heap_fire(heap_timer *t) {
  (void)t;
  fired++;
}

/* One timer is armed and cancelled, each time for another deadline within span_ns: the others' span
 * (late, where a heap has little to do, as most lie at its bottom), or before all of them (early,
 * where it has most). */
static double wheel_arm_and_cancel(uint64_t span_ns, long rounds) {
  fc_timer t;
  fc_timer_init(&t, wheel_fire);
  double start = now_ns();
  for (long i = 0; i < rounds; i++) {
    fc_timer_arm(&wheel, &t, next_random() % span_ns);
    fc_timer_cancel(&wheel, &t);
  }
  return (now_ns() - start) / (double)rounds;
}

static double heap_arm_and_cancel(uint64_t span_ns, long rounds) {
  heap_timer t = {NOT_ARMED, heap_fire};
  double start = now_ns();
  for (long i = 0; i < rounds; i++) {
    heap_arm(&queue, &t, next_random() % span_ns);
    heap_cancel(&queue, &t);
  }
  return (now_ns() - start) / (double)rounds;
}

/* The others are moved on, in random order: what a busy connection does to its timeout. */
static double wheel_rearm(fc_timer *timers, size_t count, long rounds) {
  double start = now_ns();
  for (long i = 0; i < rounds; i++)
    fc_timer_arm(&wheel, &timers[next_random() % count], next_deadline());
  return (now_ns() - start) / (double)rounds;
}

static double heap_rearm(heap_timer *timers, size_t count, long rounds) {
  double start = now_ns();
  for (long i = 0; i < rounds; i++)
    heap_arm(&queue, &timers[next_random() % count], next_deadline());
  return (now_ns() - start) / (double)rounds;
}

/* All of them fire, the clock going on as for a reactor without other work. */
static double wheel_fire_all(size_t count) {
  double start = now_ns();
  while (wheel.count) fc_timers_advance(&wheel, fc_timers_next_ns(&wheel));
  return (now_ns() - start) / (double)count;
}

static double heap_fire_all(size_t count) {
  double start = now_ns();
  while (queue.count) heap_advance(&queue, queue.entries[0].deadline_ns);
  return (now_ns() - start) / (double)count;
}

static void fill_wheel(fc_timer *timers, size_t count) {
  fc_timers_init(&wheel, 0);
  for (size_t i = 0; i < count; i++) {
    fc_timer_init(&timers[i], wheel_fire);
    fc_timer_arm(&wheel, &timers[i], next_deadline());
  }
}

static void fill_heap(heap_timer *timers, size_t count) {
  queue.count = 0;
  for (size_t i = 0; i < count; i++) {
    timers[i] = (heap_timer){NOT_ARMED, heap_fire};
    heap_arm(&queue, &timers[i], next_deadline());
  }
}

enum { LATE, EARLY, REARM, FIRE, KINDS };

static void measure_wheel(fc_timer *timers, size_t count, long rounds, double ns[KINDS]) {
  fill_wheel(timers, count);
  ns[LATE] = wheel_arm_and_cancel(SPAN_NS, rounds);
  ns[EARLY] = wheel_arm_and_cancel(FIRST_NS, rounds);
  ns[REARM] = wheel_rearm(timers, count, rounds);
  ns[FIRE] = wheel_fire_all(count);
}

static void measure_heap(heap_timer *timers, size_t count, long rounds, double ns[KINDS]) {
  fill_heap(timers, count);
  ns[LATE] = heap_arm_and_cancel(SPAN_NS, rounds);
  ns[EARLY] = heap_arm_and_cancel(FIRST_NS, rounds);
  ns[REARM] = heap_rearm(timers, count, rounds);
  ns[FIRE] = heap_fire_all(count);
}

static void keep_least(double best[KINDS], const double ns[KINDS], bool first) {
  for (int i = 0; i < KINDS; i++)
    if (first || ns[i] < best[i]) best[i] = ns[i];
}

static void print_row(size_t count, const char *name, const char *format, const double v[KINDS]) {
  printf("%9zu %-6s", count, name);
  for (int i = 0; i < KINDS; i++) printf(format, v[i]);
  putchar('\n');
}

/* The two take turns, so that a drift of the machine meets both. False: a timer did not fire. */
static bool compare(fc_timer *on_wheel, heap_timer *on_heap, size_t count, long rounds) {
  double wheel_ns[KINDS], heap_ns[KINDS], ns[KINDS], ratio[KINDS];
  fired = 0;
  for (int k = 0; k < 5; k++) {
    measure_wheel(on_wheel, count, rounds, ns);
    keep_least(wheel_ns, ns, k == 0);
    measure_heap(on_heap, count, rounds, ns);
    keep_least(heap_ns, ns, k == 0);
  }
  for (int i = 0; i < KINDS; i++) ratio[i] = wheel_ns[i] / heap_ns[i];
  print_row(count, "wheel", " %12.1f", wheel_ns);
  print_row(count, "heap", " %12.1f", heap_ns);
  print_row(count, "ratio", " %12.2f", ratio);
  return fired == 10 * count;
}

int main(int argc, char **argv) {
  long rounds = argc > 1 ? atol(argv[1]) : 1000000;
  size_t most = 1000000;
  fc_timer *on_wheel = malloc(most * sizeof *on_wheel);
  heap_timer *on_heap = malloc(most * sizeof *on_heap);
  queue.entries = malloc((most + 1) * sizeof *queue.entries);
  bool ok = on_wheel && on_heap && queue.entries;
  printf("%9s %-6s %12s %12s %12s %12s   ns\n", "timers", "", "late+cancel", "early+cancel",
         "re-arm", "fire");
  for (size_t count = 100; ok && count <= most; count *= 10)
    ok = compare(on_wheel, on_heap, count, rounds);
  free(on_wheel);
  free(on_heap);
  free(queue.entries);
  return !ok;
}
