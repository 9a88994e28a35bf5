/* bench_wsdeque - the Chase-Lev deque of wsdeque.h against a mutex around a growing ring.
 *
 *     cmake --build build/c --target bench_wsdeque && build/c/bench_wsdeque [millions of items]
 *
 *     push + pop        the owner alone, one element at a time
 *     64 push, 64 pop   the owner alone, in bursts: what a worker does to its own tasks
 *     ... with a thief  the same while one other thread tries to steal without rest
 *     steal             the owner pushes, another takes everything: nanoseconds for an element
 *
 * Owner and thief are on two processors, if there are, and begin together. Sums are checked. The
 * median of seven runs is printed, since the quickest would be one in which they did not meet. What
 * followed from the figures: docs/adr/0007-work-stealing-deque.md. */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "fc/wsdeque.h"
#include "pin.h"

#define RUNS 7
#define BURST 64
#define LIMIT 65536

/* ---- the mutex deque ------------------------------------------------------------------------- */

typedef struct locked {
  pthread_mutex_t lock;
  void **slots;
  uint64_t mask, top, bottom;
} locked;

static int locked_push(locked *d, void *element) {
  pthread_mutex_lock(&d->lock);
  uint64_t len = d->bottom - d->top;
  if (len > d->mask) {
    void **slots = malloc(2 * (d->mask + 1) * sizeof *slots);
    if (!slots) {
      pthread_mutex_unlock(&d->lock);
      return -1;
    }
    uint64_t mask = 2 * d->mask + 1;
    for (uint64_t i = d->top; i != d->bottom; i++) slots[i & mask] = d->slots[i & d->mask];
    free(d->slots);
    d->slots = slots;
    d->mask = mask;
  }
  d->slots[d->bottom++ & d->mask] = element;
  pthread_mutex_unlock(&d->lock);
  return 0;
}

static void *locked_pop(locked *d) {
  pthread_mutex_lock(&d->lock);
  void *element = d->bottom == d->top ? NULL : d->slots[--d->bottom & d->mask];
  pthread_mutex_unlock(&d->lock);
  return element;
}

static void *locked_steal(locked *d) {
  pthread_mutex_lock(&d->lock);
  void *element = d->bottom == d->top ? NULL : d->slots[d->top++ & d->mask];
  pthread_mutex_unlock(&d->lock);
  return element;
}

static uint64_t locked_len(locked *d) {
  pthread_mutex_lock(&d->lock);
  uint64_t len = d->bottom - d->top;
  pthread_mutex_unlock(&d->lock);
  return len;
}

/* ---- one interface over both ----------------------------------------------------------------- */

typedef struct deque {
  fc_wsdeque *free;
  locked mutex;
  pthread_barrier_t gate;
  atomic_bool over;
  atomic_uint_fast64_t stolen, sum;
} deque;

/* `mutex` is a constant wherever these are inlined. */
#define INLINE static inline __attribute__((always_inline))

INLINE void push(deque *d, bool mutex, uint64_t value) {
  void *element = (void *)(uintptr_t)value;
  if (mutex ? locked_push(&d->mutex, element) : fc_wsdeque_push(d->free, element)) abort();
}

INLINE uint64_t pop(deque *d, bool mutex) {
  return (uintptr_t)(mutex ? locked_pop(&d->mutex) : fc_wsdeque_pop(d->free));
}

INLINE uint64_t steal(deque *d, bool mutex) {
  if (mutex) return (uintptr_t)locked_steal(&d->mutex);
  void *element = NULL;
  return fc_wsdeque_steal(d->free, &element) == FC_STEAL_GOT ? (uintptr_t)element : 0;
}

static void deque_init(deque *d) {
  *d = (deque){.mutex = {.lock = PTHREAD_MUTEX_INITIALIZER, .mask = BURST - 1}};
  d->mutex.slots = malloc(BURST * sizeof *d->mutex.slots);
  pthread_barrier_init(&d->gate, NULL, 2);
  if (!d->mutex.slots || fc_wsdeque_new(&d->free, &fc_mem_libc, BURST, (size_t)1 << 30)) abort();
}

static void deque_fini(deque *d) {
  fc_wsdeque_free(d->free);
  free(d->mutex.slots);
  pthread_barrier_destroy(&d->gate);
}

static double now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* ---- thieves --------------------------------------------------------------------------------- */

INLINE void rob(deque *d, bool mutex) {
  pin_to(1);
  pthread_barrier_wait(&d->gate);
  uint64_t sum = 0, stolen = 0;
  for (unsigned spins = 1;; spins++) {
    bool over = atomic_load(&d->over);
    uint64_t value = steal(d, mutex);
    sum += value;
    stolen += value != 0;
    if (value) continue;
    if (over) break;
    if (spins % 256 == 0) sched_yield();
    fc_cpu_relax();
  }
  atomic_store(&d->sum, sum);
  atomic_store(&d->stolen, stolen);
}

static void *rob_free(void *d) {
  rob(d, false);
  return NULL;
}

static void *rob_mutex(void *d) {
  rob(d, true);
  return NULL;
}

/* ---- owners ---------------------------------------------------------------------------------- */

typedef struct result {
  double ns;     /* for an element */
  double stolen; /* share */
} result;

/* The owner pushes bursts of `burst` and pops as many, `thief` or not. With burst 0 it pops none,
 * and pauses while much lies there. */
INLINE result run(bool mutex, size_t burst, bool thief, uint64_t items) {
  deque d;
  deque_init(&d);
  pthread_t thread;
  if (thief && pthread_create(&thread, NULL, mutex ? rob_mutex : rob_free, &d)) abort();
  if (thief) pthread_barrier_wait(&d.gate);
  uint64_t sum = 0, next = 1;
  double start = now_ns();
  while (next <= items) {
    for (size_t n = burst ? burst : BURST; n > 0 && next <= items; n--) push(&d, mutex, next++);
    uint64_t value;
    for (size_t n = burst; n > 0 && (value = pop(&d, mutex)); n--) sum += value;
    while (!burst && (mutex ? locked_len(&d.mutex) : fc_wsdeque_len(d.free)) > LIMIT)
      sched_yield();
  }
  atomic_store(&d.over, true);
  if (thief) pthread_join(thread, NULL);
  double took = now_ns() - start;
  for (uint64_t value; (value = pop(&d, mutex));) sum += value;
  if (sum + atomic_load(&d.sum) != items * (items + 1) / 2) {
    fprintf(stderr, "bench_wsdeque: a sum is wrong\n");
    exit(1);
  }
  double share = (double)atomic_load(&d.stolen) / (double)items;
  deque_fini(&d);
  return (result){took / (double)items, share};
}

static int by_time(const void *a, const void *b) {
  double x = ((const result *)a)->ns, y = ((const result *)b)->ns;
  return (x > y) - (x < y);
}

#define COMPARE(label, burst, thief)                                                               \
  do {                                                                                             \
    result chase_lev[RUNS], mutex[RUNS];                                                           \
    for (int i = 0; i < RUNS; i++) {                                                               \
      chase_lev[i] = run(false, burst, thief, items);                                              \
      mutex[i] = run(true, burst, thief, items);                                                   \
    }                                                                                              \
    qsort(chase_lev, RUNS, sizeof *chase_lev, by_time);                                            \
    qsort(mutex, RUNS, sizeof *mutex, by_time);                                                    \
    result a = chase_lev[RUNS / 2], b = mutex[RUNS / 2];                                           \
    printf("%-28s %9.2f %9.2f %8.2f   %3.0f%% %3.0f%%\n", label, a.ns, b.ns, b.ns / a.ns,          \
           100 * a.stolen, 100 * b.stolen);                                                        \
  } while (0)

/* The C library leaves the atomic instructions out of a mutex as long as there is one thread, which
 * in a pool there never is. */
static void *idle(void *lock) {
  pthread_mutex_lock(lock);
  return NULL;
}

int main(int argc, char **argv) {
  pthread_mutex_t held = PTHREAD_MUTEX_INITIALIZER;
  pthread_t sleeper;
  pin_to(0);
  pthread_mutex_lock(&held);
  if (pthread_create(&sleeper, NULL, idle, &held)) abort();
  uint64_t items = (uint64_t)((argc > 1 ? atof(argv[1]) : 2) * 1e6);
  printf("ns for an element            chase-lev     mutex    ratio   stolen\n");
  COMPARE("push + pop", 1, false);
  COMPARE("64 push, 64 pop", BURST, false);
  COMPARE("push + pop, with a thief", 1, true);
  COMPARE("64 push, 64 pop, thief", BURST, true);
  COMPARE("steal", 0, true);
  pthread_mutex_unlock(&held);
  pthread_join(sleeper, NULL);
  return 0;
}
