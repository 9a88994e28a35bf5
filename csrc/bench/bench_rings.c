/* bench_rings - what the queues cost without Python: operations in one thread, between two, among
 * N x M, and the time there and back.
 *
 *     cmake --build build/c --target bench_rings && build/c/bench_rings [millions of items]
 *
 * Threads take the processors in turn. Every sum is checked. The best of three runs is printed,
 * since what disturbs a run only ever adds to it. */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "fc/list.h"
#include "fc/mpmc.h"
#include "fc/mpsc.h"
#include "fc/spsc.h"
#include "fc/stack.h"
#include "fc/waiter.h"
#include "pin.h"

#define CAPACITY 1024
#define BATCH 64
#define RUNS 3
#define MAX_THREADS 8
#define NODES 4096

typedef struct item {
  fc_mpsc_node node;
  uint64_t value;
  atomic_bool away;
} item;

/* Everything there is to measure, made afresh for each run. */
typedef struct rig {
  fc_spsc *spsc;
  fc_mpmc *mpmc;
  fc_stack *stack;
  fc_mpsc mpsc;
  item items[MAX_THREADS][NODES];
} rig;

/* Moves up to `count` values in or out; returns how many. `who` numbers producers. */
typedef struct queue {
  const char *name;
  size_t (*push)(rig *r, size_t who, const uint64_t *values, size_t count);
  size_t (*pop)(rig *r, uint64_t *values, size_t count);
  size_t batch;
} queue;

static double now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void fail(const char *what) {
  fprintf(stderr, "bench_rings: %s\n", what);
  exit(1);
}

static rig *rig_new(void) {
  const fc_mem *mem = &fc_mem_libc;
  rig *r = fc_zalloc(mem, sizeof *r);
  if (!r || fc_spsc_new(&r->spsc, mem, CAPACITY, sizeof(uint64_t)) ||
      fc_mpmc_new(&r->mpmc, mem, CAPACITY, sizeof(uint64_t)) ||
      fc_stack_new(&r->stack, mem, CAPACITY))
    fail("out of memory");
  fc_mpsc_init(&r->mpsc);
  return r;
}

static void rig_free(rig *r) {
  fc_spsc_free(r->spsc, &fc_mem_libc);
  fc_mpmc_free(r->mpmc, &fc_mem_libc);
  fc_stack_free(r->stack, &fc_mem_libc);
  fc_free(&fc_mem_libc, r);
}

/* ---- the queues ------------------------------------------------------------------------------ */

static size_t spsc_push(rig *r, size_t who, const uint64_t *values, size_t count) {
  (void)who, (void)count;
  return fc_spsc_push_ptr(r->spsc, (void *)(uintptr_t)*values);
}

static size_t spsc_pop(rig *r, uint64_t *values, size_t count) {
  (void)count;
  void *p;
  if (!fc_spsc_pop_ptr(r->spsc, &p)) return 0;
  *values = (uintptr_t)p;
  return 1;
}

static size_t spsc_push_many(rig *r, size_t who, const uint64_t *values, size_t count) {
  (void)who;
  return fc_spsc_push_many(r->spsc, values, count);
}

static size_t spsc_pop_many(rig *r, uint64_t *values, size_t count) {
  return fc_spsc_pop_many(r->spsc, values, count);
}

static size_t mpmc_push(rig *r, size_t who, const uint64_t *values, size_t count) {
  (void)who, (void)count;
  return fc_mpmc_push_ptr(r->mpmc, (void *)(uintptr_t)*values);
}

static size_t mpmc_pop(rig *r, uint64_t *values, size_t count) {
  (void)count;
  void *p;
  if (!fc_mpmc_pop_ptr(r->mpmc, &p)) return 0;
  *values = (uintptr_t)p;
  return 1;
}

static size_t mpmc_push_many(rig *r, size_t who, const uint64_t *values, size_t count) {
  (void)who;
  return fc_mpmc_push_many(r->mpmc, values, count);
}

static size_t mpmc_pop_many(rig *r, uint64_t *values, size_t count) {
  return fc_mpmc_pop_many(r->mpmc, values, count);
}

/* Each producer has its own items, which come back by a flag. */
static size_t mpsc_push(rig *r, size_t who, const uint64_t *values, size_t count) {
  (void)count;
  item *i = &r->items[who][*values % NODES];
  if (atomic_load_explicit(&i->away, memory_order_acquire)) return 0;
  atomic_store_explicit(&i->away, true, memory_order_relaxed);
  i->value = *values;
  fc_mpsc_push(&r->mpsc, &i->node);
  return 1;
}

static size_t mpsc_pop(rig *r, uint64_t *values, size_t count) {
  (void)count;
  fc_mpsc_node *node = fc_mpsc_pop(&r->mpsc);
  if (!node) return 0;
  item *i = FC_CONTAINER(node, item, node);
  *values = i->value;
  atomic_store_explicit(&i->away, false, memory_order_release);
  return 1;
}

static const queue spsc = {"spsc", spsc_push, spsc_pop, 1};
static const queue spsc_many = {"spsc, 64 at once", spsc_push_many, spsc_pop_many, BATCH};
static const queue mpmc = {"mpmc", mpmc_push, mpmc_pop, 1};
static const queue mpmc_many = {"mpmc, 64 at once", mpmc_push_many, mpmc_pop_many, BATCH};
static const queue mpsc = {"mpsc", mpsc_push, mpsc_pop, 1};

/* ---- one thread ------------------------------------------------------------------------------ */

/* Inlined with a constant queue, so that no call stands between. */
static inline __attribute__((always_inline)) double alone(const queue *q, uint64_t items) {
  rig *r = rig_new();
  uint64_t values[BATCH], sum = 0, expected = 0;
  double start = now_ns();
  for (uint64_t i = 0; i < items; i += q->batch) {
    for (size_t k = 0; k < q->batch; k++) values[k] = i + k;
    if (q->push(r, 0, values, q->batch) != q->batch) fail("full");
    if (q->pop(r, values, q->batch) != q->batch) fail("empty");
    for (size_t k = 0; k < q->batch; k++) {
      sum += values[k];
      expected += i + k;
    }
  }
  double took = now_ns() - start;
  if (sum != expected) fail("a value is wrong");
  rig_free(r);
  return took / (double)items;
}

static double alone_stack(uint64_t items) {
  rig *r = rig_new();
  uint32_t out = 0;
  double start = now_ns();
  for (uint64_t i = 0; i < items; i++) {
    fc_stack_push(r->stack, (uint32_t)i & (CAPACITY - 1));
    if (!fc_stack_pop(r->stack, &out) || out != (i & (CAPACITY - 1))) fail("a value is wrong");
  }
  double took = now_ns() - start;
  rig_free(r);
  return took / (double)items;
}

static double alone_notify(uint64_t items) {
  fc_waiter w;
  fc_waiter_init(&w, FC_WAITER_PRIVATE);
  double start = now_ns();
  for (uint64_t i = 0; i < items; i++) fc_waiter_notify(&w);
  double took = now_ns() - start;
  fc_waiter_fini(&w);
  return took / (double)items;
}

#define ALONE(label, expression)                                                                   \
  do {                                                                                             \
    double best = 1e18;                                                                            \
    for (int run_ = 0; run_ < RUNS; run_++) {                                                      \
      double ns = (expression);                                                                    \
      if (ns < best) best = ns;                                                                    \
    }                                                                                              \
    printf("  %-22s %8.2f ns\n", label, best);                                                     \
  } while (0)

/* ---- threads --------------------------------------------------------------------------------- */

typedef struct crowd {
  const queue *q;
  rig *r;
  uint64_t each, total;
  atomic_uint_fast64_t popped, sum;
  pthread_barrier_t gate;
} crowd;

typedef struct member {
  crowd *of;
  size_t number;
  pthread_t thread;
} member;

static void pause_a_while(unsigned *spins) {
  if (++*spins % 64 == 0) sched_yield();
  else fc_cpu_relax();
}

static void *produce(void *arg) {
  member *m = arg;
  crowd *c = m->of;
  uint64_t values[BATCH];
  unsigned spins = 0;
  pin_to((unsigned)m->number);
  pthread_barrier_wait(&c->gate);
  for (uint64_t next = 0; next < c->each;) {
    size_t count = c->each - next < c->q->batch ? (size_t)(c->each - next) : c->q->batch;
    for (size_t k = 0; k < count; k++) values[k] = next + k;
    size_t pushed = c->q->push(c->r, m->number, values, count);
    next += pushed;
    if (!pushed) pause_a_while(&spins);
  }
  return NULL;
}

static void *consume(void *arg) {
  member *m = arg;
  crowd *c = m->of;
  uint64_t values[BATCH], sum = 0, popped = 0;
  unsigned spins = 0;
  pin_to((unsigned)m->number);
  pthread_barrier_wait(&c->gate);
  for (;;) {
    size_t count = c->q->pop(c->r, values, c->q->batch);
    for (size_t k = 0; k < count; k++) sum += values[k];
    popped += count;
    if (count) continue;
    /* Counted in public only when there is a pause, so that counting costs nothing. */
    if (popped && atomic_fetch_add(&c->popped, popped) + popped == c->total) break;
    if (atomic_load(&c->popped) == c->total) break;
    popped = 0;
    pause_a_while(&spins);
  }
  atomic_fetch_add(&c->sum, sum);
  return NULL;
}

/* Nanoseconds for an item that goes from one of the producers to one of the consumers. */
static double together(const queue *q, size_t producers, size_t consumers, uint64_t items) {
  member members[MAX_THREADS];
  crowd c = {.q = q, .r = rig_new(), .each = items / producers};
  c.total = c.each * producers;
  size_t count = producers + consumers;
  pthread_barrier_init(&c.gate, NULL, (unsigned)count + 1);
  for (size_t i = 0; i < count; i++) {
    members[i] = (member){.of = &c, .number = i};
    if (pthread_create(&members[i].thread, NULL, i < producers ? produce : consume, &members[i]))
      fail("no thread");
  }
  pthread_barrier_wait(&c.gate);
  double start = now_ns();
  for (size_t i = 0; i < count; i++) pthread_join(members[i].thread, NULL);
  double took = now_ns() - start;
  if (atomic_load(&c.sum) != producers * (c.each * (c.each - 1) / 2)) fail("a sum is wrong");
  pthread_barrier_destroy(&c.gate);
  rig_free(c.r);
  return took / (double)c.total;
}

static void report(const queue *q, size_t producers, size_t consumers, uint64_t items) {
  double best = 1e18;
  for (int run = 0; run < RUNS; run++) {
    double ns = together(q, producers, consumers, items);
    if (ns < best) best = ns;
  }
  printf("  %-22s %zu:%zu %8.2f ns %8.1f M/s\n", q->name, producers, consumers, best, 1e3 / best);
}

/* ---- there and back -------------------------------------------------------------------------- */

typedef struct ball {
  fc_spsc *q[2];
  fc_waiter w[2];
  uint64_t rounds;
  bool sleep;
} ball;

static uint64_t receive(ball *b, int side) {
  uint64_t value = 0;
  unsigned spins = 0;
  while (!fc_spsc_pop(b->q[side], &value)) {
    if (!b->sleep) {
      if (++spins % 4096 == 0) sched_yield();
      fc_cpu_relax();
      continue;
    }
    uint32_t key = fc_waiter_prepare(&b->w[side]);
    if (fc_spsc_len(b->q[side])) fc_waiter_cancel(&b->w[side], key);
    else fc_waiter_commit(&b->w[side], key, FC_WAITER_NEVER);
  }
  return value;
}

static void send(ball *b, int side, uint64_t value) {
  if (!fc_spsc_push(b->q[side], &value)) fail("full");
  if (b->sleep) fc_waiter_notify(&b->w[side]);
}

static void *answer(void *arg) {
  ball *b = arg;
  pin_to(1);
  for (uint64_t i = 0; i < b->rounds; i++) send(b, 1, receive(b, 0));
  return NULL;
}

static int by_size(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static void round_trip(const char *label, bool sleeping, uint64_t rounds) {
  ball b = {.rounds = rounds, .sleep = sleeping};
  double *took = malloc(rounds * sizeof *took);
  for (int i = 0; i < 2; i++) {
    fc_waiter_init(&b.w[i], FC_WAITER_PRIVATE);
    if (!took || fc_spsc_new(&b.q[i], &fc_mem_libc, 2, sizeof(uint64_t))) fail("out of memory");
  }
  pthread_t thread;
  if (pthread_create(&thread, NULL, answer, &b)) fail("no thread");
  for (uint64_t i = 0; i < rounds; i++) {
    double start = now_ns();
    send(&b, 0, i);
    if (receive(&b, 1) != i) fail("a value is wrong");
    took[i] = now_ns() - start;
  }
  pthread_join(thread, NULL);
  qsort(took, rounds, sizeof *took, by_size);
  printf("  %-22s p50 %8.0f ns   p99 %8.0f ns\n", label, took[rounds / 2],
         took[rounds / 100 * 99]);
  for (int i = 0; i < 2; i++) fc_spsc_free(b.q[i], &fc_mem_libc);
  free(took);
}

int main(int argc, char **argv) {
  pin_to(0);
  double millions = argc > 1 ? atof(argv[1]) : 4;
  uint64_t items = (uint64_t)(millions * 1e6) / BATCH * BATCH;
  if (items < 1000) fail("more items, please");
  printf("one thread, push + pop of 8 bytes, capacity %d\n", CAPACITY);
  ALONE(spsc.name, alone(&spsc, items));
  ALONE(spsc_many.name, alone(&spsc_many, items));
  ALONE(mpmc.name, alone(&mpmc, items));
  ALONE(mpmc_many.name, alone(&mpmc_many, items));
  ALONE(mpsc.name, alone(&mpsc, items));
  ALONE("stack", alone_stack(items));
  ALONE("notify, nobody asleep", alone_notify(items));
  printf("threads, producers:consumers, for an item\n");
  report(&spsc, 1, 1, items);
  report(&spsc_many, 1, 1, items);
  report(&mpmc, 1, 1, items);
  report(&mpmc_many, 1, 1, items);
  report(&mpsc, 1, 1, items);
  report(&mpsc, 4, 1, items);
  for (size_t side = 2; side <= MAX_THREADS / 2; side *= 2) {
    report(&mpmc, side, side, items);
    report(&mpmc_many, side, side, items);
  }
  printf("there and back through two spsc rings\n");
  round_trip("spinning", false, 100000);
  round_trip("asleep in a waiter", true, 20000);
  return 0;
}
