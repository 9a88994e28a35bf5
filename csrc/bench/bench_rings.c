/* bench_rings - what the queues cost without Python.
 *
 *     cmake --build build/c --target bench_rings && build/c/bench_rings [--json] [millions]
 *
 *     push+pop           nanoseconds for one value in and out again, in one thread; by 64: the same
 *                        of 64 values at a time
 *     1x1, 4x1, ...      millions of values a second from so many producers to so many consumers
 *     there and back     nanoseconds until the answer comes by a second queue; the one who waits
 *                        spins, or sleeps in a waiter at once
 *
 * The stack hands on numbers of items, the inbox items themselves; both have the items come back to
 * their producer by a flag. The deque's producer is its owner, its consumer a thief.
 *
 * Threads take the processors in turn, producers first. Every value is counted in a sum that is
 * checked. The best of three runs is shown, for what disturbs a run only ever adds to it. */
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fc/list.h"
#include "fc/mpmc.h"
#include "fc/mpsc.h"
#include "fc/spsc.h"
#include "fc/stack.h"
#include "fc/waiter.h"
#include "fc/wsdeque.h"
#include "pin.h"

#define CAPACITY 1024
#define BATCH 64
#define RUNS 3
#define MAX_THREADS 8
#define SPIN_ROUNDS 5000
#define SLEEP_ROUNDS 1000

#define INLINE static inline __attribute__((always_inline))

typedef struct item {
  fc_mpsc_node node;
  uint64_t value;
  atomic_bool away;
} item;

/* One queue of each kind, made afresh for each run. */
typedef struct rig {
  fc_spsc *spsc;
  fc_mpmc *mpmc;
  fc_stack *stack;
  fc_wsdeque *wsdeque;
  fc_mpsc mpsc;
  fc_waiter waiter;
  item items[MAX_THREADS * CAPACITY / 2];
} rig;

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
      fc_stack_new(&r->stack, mem, sizeof r->items / sizeof *r->items) ||
      fc_wsdeque_new(&r->wsdeque, mem, CAPACITY, CAPACITY) ||
      fc_waiter_init(&r->waiter, FC_WAITER_PRIVATE))
    fail("out of memory");
  fc_mpsc_init(&r->mpsc);
  return r;
}

static void rig_free(rig *r) {
  fc_waiter_fini(&r->waiter);
  fc_spsc_free(r->spsc, &fc_mem_libc);
  fc_mpmc_free(r->mpmc, &fc_mem_libc);
  fc_stack_free(r->stack, &fc_mem_libc);
  fc_wsdeque_free(r->wsdeque);
  fc_free(&fc_mem_libc, r);
}

/* ---- the queues ------------------------------------------------------------------------------ */

/* Each moves up to `count` values, a constant where it is 1, and returns how many. */
typedef size_t push_values(rig *r, size_t who, const uint64_t *values, size_t count);
typedef size_t pop_values(rig *r, uint64_t *values, size_t count);

INLINE size_t spsc_push(rig *r, size_t who, const uint64_t *values, size_t count) {
  (void)who;
  if (count == 1) return fc_spsc_push_ptr(r->spsc, (void *)(uintptr_t)*values);
  return fc_spsc_push_many(r->spsc, values, count);
}

INLINE size_t spsc_pop(rig *r, uint64_t *values, size_t count) {
  void *p = NULL;
  if (count > 1) return fc_spsc_pop_many(r->spsc, values, count);
  if (!fc_spsc_pop_ptr(r->spsc, &p)) return 0;
  *values = (uintptr_t)p;
  return 1;
}

INLINE size_t mpmc_push(rig *r, size_t who, const uint64_t *values, size_t count) {
  (void)who;
  if (count == 1) return fc_mpmc_push_ptr(r->mpmc, (void *)(uintptr_t)*values);
  return fc_mpmc_push_many(r->mpmc, values, count);
}

INLINE size_t mpmc_pop(rig *r, uint64_t *values, size_t count) {
  void *p = NULL;
  if (count > 1) return fc_mpmc_pop_many(r->mpmc, values, count);
  if (!fc_mpmc_pop_ptr(r->mpmc, &p)) return 0;
  *values = (uintptr_t)p;
  return 1;
}

/* The producer's item for a value, or NULL while it is on its way. */
INLINE item *take_item(rig *r, size_t who, uint64_t value) {
  item *i = &r->items[who * CAPACITY + value % CAPACITY];
  if (atomic_load_explicit(&i->away, memory_order_acquire)) return NULL;
  atomic_store_explicit(&i->away, true, memory_order_relaxed);
  i->value = value;
  return i;
}

INLINE uint64_t give_back(item *i) {
  uint64_t value = i->value;
  atomic_store_explicit(&i->away, false, memory_order_release);
  return value;
}

INLINE size_t mpsc_push(rig *r, size_t who, const uint64_t *values, size_t count) {
  item *first = take_item(r, who, *values), *last = first;
  if (!first) return 0;
  size_t n = 1;
  for (item *next; n < count && (next = take_item(r, who, values[n])); n++, last = next)
    fc_mpsc_link(&last->node, &next->node);
  fc_mpsc_push_chain(&r->mpsc, &first->node, &last->node);
  return n;
}

INLINE size_t mpsc_pop(rig *r, uint64_t *values, size_t count) {
  size_t n = 0;
  for (fc_mpsc_node *node; n < count && (node = fc_mpsc_pop(&r->mpsc)); n++)
    values[n] = give_back(FC_CONTAINER(node, item, node));
  return n;
}

INLINE size_t stack_push(rig *r, size_t who, const uint64_t *values, size_t count) {
  uint32_t indices[BATCH];
  size_t n = 0;
  for (item *i; n < count && (i = take_item(r, who, values[n])); n++)
    indices[n] = (uint32_t)(i - r->items);
  if (count == 1 && n) fc_stack_push(r->stack, *indices);
  else fc_stack_push_many(r->stack, indices, n);
  return n;
}

INLINE size_t stack_pop(rig *r, uint64_t *values, size_t count) {
  uint32_t indices[BATCH];
  size_t n = fc_stack_pop_many(r->stack, indices, count);
  for (size_t i = 0; i < n; i++) values[i] = give_back(&r->items[indices[i]]);
  return n;
}

INLINE size_t wsdeque_push(rig *r, size_t who, const uint64_t *values, size_t count) {
  (void)who;
  size_t n = 0;
  while (n < count && !fc_wsdeque_push(r->wsdeque, (void *)(uintptr_t)(values[n] + 1))) n++;
  return n;
}

INLINE size_t wsdeque_pop(rig *r, uint64_t *values, size_t count) {
  size_t n = 0;
  for (void *p; n < count && (p = fc_wsdeque_pop(r->wsdeque)); n++) values[n] = (uintptr_t)p - 1;
  return n;
}

INLINE size_t wsdeque_steal(rig *r, uint64_t *values, size_t count) {
  (void)count;
  void *p = NULL;
  if (fc_wsdeque_steal(r->wsdeque, &p) != FC_STEAL_GOT) return 0;
  *values = (uintptr_t)p - 1;
  return 1;
}

/* ---- one thread ------------------------------------------------------------------------------ */

/* The functions here that take a push and a pop are inlined with them: no call stands between. */
INLINE double alone(push_values *push, pop_values *pop, size_t batch, uint64_t items) {
  rig *r = rig_new();
  uint64_t values[BATCH], sum = 0;
  double start = now_ns();
  for (uint64_t i = 0; i < items; i += batch) {
    for (size_t k = 0; k < batch; k++) values[k] = i + k;
    if (push(r, 0, values, batch) != batch) fail("full");
    if (pop(r, values, batch) != batch) fail("empty");
    for (size_t k = 0; k < batch; k++) sum += values[k];
  }
  double took = now_ns() - start;
  if (sum != items * (items - 1) / 2) fail("a value is wrong");
  rig_free(r);
  return took / (double)items;
}

/* ---- threads --------------------------------------------------------------------------------- */

typedef struct crowd {
  rig *r;
  size_t batch;
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

INLINE void produce(member *m, push_values *push, size_t batch) {
  crowd *c = m->of;
  uint64_t values[BATCH];
  unsigned spins = 0;
  pin_to((unsigned)m->number);
  pthread_barrier_wait(&c->gate);
  for (uint64_t next = 0; next < c->each;) {
    size_t count = batch > 1 && c->each - next < batch ? (size_t)(c->each - next) : batch;
    for (size_t k = 0; k < count; k++) values[k] = next + k;
    size_t pushed = push(c->r, m->number, values, count);
    next += pushed;
    if (!pushed) pause_a_while(&spins);
  }
}

INLINE void consume(member *m, pop_values *pop, size_t batch) {
  crowd *c = m->of;
  uint64_t values[BATCH], sum = 0, popped = 0;
  unsigned spins = 0;
  pin_to((unsigned)m->number);
  pthread_barrier_wait(&c->gate);
  for (;;) {
    size_t count = pop(c->r, values, batch);
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
}

/* Millions of values a second. */
static double together(void *(*produce_them)(void *), void *(*consume_them)(void *), size_t batch,
                       size_t producers, size_t consumers, uint64_t items) {
  member members[MAX_THREADS];
  crowd c = {.r = rig_new(), .batch = batch, .each = items / producers};
  c.total = c.each * producers;
  size_t count = producers + consumers;
  pthread_barrier_init(&c.gate, NULL, (unsigned)count + 1);
  for (size_t i = 0; i < count; i++) {
    members[i] = (member){.of = &c, .number = i};
    if (pthread_create(&members[i].thread, NULL, i < producers ? produce_them : consume_them,
                       &members[i]))
      fail("no thread");
  }
  double start = now_ns();
  pthread_barrier_wait(&c.gate);
  for (size_t i = 0; i < count; i++) pthread_join(members[i].thread, NULL);
  double took = now_ns() - start;
  if (atomic_load(&c.sum) != producers * (c.each * (c.each - 1) / 2)) fail("a sum is wrong");
  pthread_barrier_destroy(&c.gate);
  rig_free(c.r);
  return (double)c.total / took * 1e3;
}

/* ---- there and back -------------------------------------------------------------------------- */

typedef struct ball {
  rig *to, *from;
  size_t rounds;
  bool sleep;
} ball;

INLINE uint64_t receive(rig *r, pop_values *pop, bool sleep) {
  uint64_t value = 0;
  for (unsigned spins = 1; !pop(r, &value, 1); spins++) {
    if (!sleep) {
      if (spins % 4096 == 0) sched_yield();
      fc_cpu_relax();
      continue;
    }
    uint32_t key = fc_waiter_prepare(&r->waiter);
    if (pop(r, &value, 1)) {
      fc_waiter_cancel(&r->waiter, key);
      break;
    }
    fc_waiter_commit(&r->waiter, key, FC_WAITER_NEVER);
  }
  return value;
}

INLINE void throw(rig *r, push_values *push, uint64_t value, bool sleep) {
  if (!push(r, 0, &value, 1)) fail("full");
  if (sleep) fc_waiter_notify(&r->waiter);
}

INLINE void answer(ball *b, push_values *push, pop_values *pop) {
  pin_to(1);
  for (uint64_t i = 0; i < b->rounds; i++)
    throw(b->from, push, receive(b->to, pop, b->sleep), b->sleep);
}

static int by_size(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

typedef struct trip {
  double p50, p99;
} trip;

INLINE trip there_and_back(push_values *push, pop_values *pop, void *(*answer_them)(void *),
                           bool sleep) {
  size_t rounds = sleep ? SLEEP_ROUNDS : SPIN_ROUNDS;
  ball b = {.to = rig_new(), .from = rig_new(), .rounds = rounds, .sleep = sleep};
  double *took = malloc(rounds * sizeof *took);
  pthread_t thread;
  if (!took || pthread_create(&thread, NULL, answer_them, &b)) fail("no thread");
  for (uint64_t i = 0; i < rounds; i++) {
    double start = now_ns();
    throw(b.to, push, i, sleep);
    if (receive(b.from, pop, sleep) != i) fail("a value is wrong");
    took[i] = now_ns() - start;
  }
  pthread_join(thread, NULL);
  qsort(took, rounds, sizeof *took, by_size);
  trip t = {took[rounds / 2], took[rounds / 100 * 99]};
  free(took);
  rig_free(b.to);
  rig_free(b.from);
  return t;
}

/* ---- one of each for each queue -------------------------------------------------------------- */

typedef struct ring {
  const char *name;
  bool many_producers, many_consumers, batches; /* `batches`: a consumer can take many at once */
  double (*alone)(size_t batch, uint64_t items);
  void *(*produce)(void *);
  void *(*consume)(void *);
  trip (*there_and_back)(bool sleep);
} ring;

/* `take` is what the other side calls. */
#define RING(name, push, pop, take)                                                                \
  static double name##_alone(size_t batch, uint64_t items) {                                       \
    return batch == 1 ? alone(push, pop, 1, items) : alone(push, pop, BATCH, items);               \
  }                                                                                                \
  static void *name##_produce(void *m) {                                                           \
    if (((member *)m)->of->batch == 1) produce(m, push, 1);                                        \
    else produce(m, push, BATCH);                                                                  \
    return NULL;                                                                                   \
  }                                                                                                \
  static void *name##_consume(void *m) {                                                           \
    if (((member *)m)->of->batch == 1) consume(m, take, 1);                                        \
    else consume(m, take, BATCH);                                                                  \
    return NULL;                                                                                   \
  }                                                                                                \
  static void *name##_answer(void *b) {                                                            \
    answer(b, push, take);                                                                         \
    return NULL;                                                                                   \
  }                                                                                                \
  static trip name##_there_and_back(bool sleep) {                                                  \
    return there_and_back(push, take, name##_answer, sleep);                                       \
  }
#define ROW(name, producers, consumers, batches)                                                   \
  {#name, producers, consumers, batches, name##_alone, name##_produce, name##_consume,             \
   name##_there_and_back}

RING(spsc, spsc_push, spsc_pop, spsc_pop)
RING(mpmc, mpmc_push, mpmc_pop, mpmc_pop)
RING(mpsc, mpsc_push, mpsc_pop, mpsc_pop)
RING(stack, stack_push, stack_pop, stack_pop)
RING(wsdeque, wsdeque_push, wsdeque_pop, wsdeque_steal)

static const ring rings[] = {
    ROW(spsc, false, false, true),    ROW(mpmc, true, true, true), ROW(mpsc, true, false, true),
    ROW(stack, true, true, true), ROW(wsdeque, false, false, false),
};

#define RINGS (sizeof rings / sizeof *rings)

/* ---- the table ------------------------------------------------------------------------------- */

enum { ALONE, ALONE_BATCH, ONE, ONE_BATCH, MANY_TO_ONE, TWO, FOUR, SPIN_50, SPIN_99, SLEEP_50,
       SLEEP_99, COLUMNS };

static const char group_alone[] = "push+pop ns";
static const char group_crowd[] = "million values/s, producers x consumers";
static const char group_trip[] = "there and back ns";

static const struct {
  const char *group, *head, *json;
  int digits;
} columns[COLUMNS] = {
    [ALONE] = {group_alone, "single", "push_pop_ns", 1},
    [ALONE_BATCH] = {group_alone, "by 64", "push_pop_64_ns", 1},
    [ONE] = {group_crowd, "1x1", "ops_per_s_1x1", 1},
    [ONE_BATCH] = {group_crowd, "1x1 by 64", "ops_per_s_1x1_64", 1},
    [MANY_TO_ONE] = {group_crowd, "4x1", "ops_per_s_4x1", 1},
    [TWO] = {group_crowd, "2x2", "ops_per_s_2x2", 1},
    [FOUR] = {group_crowd, "4x4", "ops_per_s_4x4", 1},
    [SPIN_50] = {group_trip, "spin p50", "round_trip_spin_p50_ns", 0},
    [SPIN_99] = {group_trip, "spin p99", "round_trip_spin_p99_ns", 0},
    [SLEEP_50] = {group_trip, "sleep p50", "round_trip_sleep_p50_ns", 0},
    [SLEEP_99] = {group_trip, "sleep p99", "round_trip_sleep_p99_ns", 0},
};

/* `b`, if `a` is NAN. */
static double least(double a, double b) {
  return a < b ? a : b;
}

static double most(double a, double b) {
  return a > b ? a : b;
}

/* What is not measured stays NAN. */
static void measure(const ring *q, uint64_t items, double cell[COLUMNS]) {
  static const struct {
    size_t batch, producers, consumers;
  } crowds[COLUMNS] = {[ONE] = {1, 1, 1},         [ONE_BATCH] = {BATCH, 1, 1},
                       [MANY_TO_ONE] = {1, 4, 1}, [TWO] = {1, 2, 2},
                       [FOUR] = {1, 4, 4}};
  for (int i = 0; i < COLUMNS; i++) cell[i] = NAN;
  for (int run = 0; run < RUNS; run++) {
    cell[ALONE] = least(cell[ALONE], q->alone(1, items));
    cell[ALONE_BATCH] = least(cell[ALONE_BATCH], q->alone(BATCH, items));
    for (int i = ONE; i <= FOUR; i++) {
      if (crowds[i].producers > 1 && !q->many_producers) continue;
      if (crowds[i].consumers > 1 && !q->many_consumers) continue;
      if (crowds[i].batch > 1 && !q->batches) continue;
      cell[i] = most(cell[i], together(q->produce, q->consume, crowds[i].batch,
                                       crowds[i].producers, crowds[i].consumers, items));
    }
    for (int sleep = 0; sleep <= 1; sleep++) {
      double *p = &cell[sleep ? SLEEP_50 : SPIN_50];
      trip t = q->there_and_back(sleep);
      if (t.p50 > p[0]) continue;
      p[0] = t.p50;
      p[1] = t.p99;
    }
  }
}

static double notify_ns(uint64_t items) {
  rig *r = rig_new();
  double start = now_ns();
  for (uint64_t i = 0; i < items; i++) fc_waiter_notify(&r->waiter);
  double took = now_ns() - start;
  rig_free(r);
  return took / (double)items;
}

static int width(int column) {
  return column < ONE ? 8 : 10;
}

static void print_table(double (*cells)[COLUMNS], double notify) {
  printf("%-8s", "");
  for (int i = 0, span; i < COLUMNS; i += span) {
    int chars = 0;
    for (span = 0; i + span < COLUMNS && columns[i + span].group == columns[i].group; span++)
      chars += width(i + span);
    printf("%*s", chars, columns[i].group);
  }
  printf("\n%-8s", "");
  for (int i = 0; i < COLUMNS; i++) printf("%*s", width(i), columns[i].head);
  for (size_t q = 0; q < RINGS; q++) {
    printf("\n%-8s", rings[q].name);
    for (int i = 0; i < COLUMNS; i++) {
      if (isnan(cells[q][i])) printf("%*s", width(i), "-");
      else printf("%*.*f", width(i), columns[i].digits, cells[q][i]);
    }
  }
  printf("\na notify with nobody asleep: %.1f ns\n", notify);
}

static void print_json(double (*cells)[COLUMNS], double notify) {
  printf("{\"capacity\": %d, \"batch\": %d, \"notify_ns\": %.3f, \"rings\": {", CAPACITY, BATCH,
         notify);
  for (size_t q = 0; q < RINGS; q++) {
    printf("%s\"%s\": {", q ? ", " : "", rings[q].name);
    for (int i = 0, first = 1; i < COLUMNS; i++) {
      if (isnan(cells[q][i])) continue;
      double scale = i >= ONE && i <= FOUR ? 1e6 : 1;
      printf("%s\"%s\": %.3f", first ? "" : ", ", columns[i].json, cells[q][i] * scale);
      first = 0;
    }
    printf("}");
  }
  printf("}}\n");
}

int main(int argc, char **argv) {
  double cells[RINGS][COLUMNS], millions = 1;
  bool json = argc > 1 && strcmp(argv[1], "--json") == 0;
  if (argc > 1 + json) millions = atof(argv[1 + json]);
  uint64_t items = (uint64_t)(millions * 1e6) / BATCH * BATCH;
  if (items < 1000) fail("usage: bench_rings [--json] [millions of values, 0.001 or more]");
  pin_to(0);
  double notify = NAN;
  for (int run = 0; run < RUNS; run++) notify = least(notify, notify_ns(items));
  for (size_t q = 0; q < RINGS; q++) measure(&rings[q], items, cells[q]);
  if (json) print_json(cells, notify);
  else print_table(cells, notify);
  return 0;
}
