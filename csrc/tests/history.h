/* history.h - what threads did to a queue and when, and whether a correct queue could have done so.
 *
 * Each thread keeps a log of its calls: what, with which value, and when, from start to end. Time
 * is a number that a shared clock gives out, one higher for each who asks. Of two calls one comes
 * before the other if it had ended when the other began, or if one thread made both; else they
 * overlap, and either order is allowed.
 *
 * Such a clock orders the threads more strongly than a queue has to: whoever reads it sees what all
 * did that read it before. So timed histories show whether the steps of an algorithm are right, not
 * whether its memory orders are. Those are for runs whose logs are untimed, in which the threads
 * have nothing in common but the queue: at full speed they meet what the processor reorders, and
 * ThreadSanitizer finds what only chance had ordered. docs/testing.md has what was found in this
 * way when orders were weakened one by one.
 *
 *     history_delivery()      any length: nothing lost, doubled or made up; FIFO per producer
 *     history_linearizable()  up to 16 calls: some order of them, which keeps to "comes before",
 *                             is one that a sequential queue, stack or deque answers alike
 *                             (Wing and Gong, 1993, remembering what was tried, as Lowe, 2017)
 *
 * Both return NULL, or what is wrong. Include this file before fc/: it fills the race points. */
#ifndef FC_HISTORY_H
#define FC_HISTORY_H

#ifdef FC_CONCURRENT_H
#error "history.h comes before what it is to hold up"
#endif

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "check.h"
#include "rng.h"

/* ---- holding threads up ---------------------------------------------------------------------- */

static _Thread_local rng race_rng = {1};
static _Thread_local unsigned race_yields; /* in 256 race points; 0: never */

static inline void race_point(void) {
  if (race_yields && (rng_next(&race_rng) >> 56) < race_yields) sched_yield();
}
#define FC_RACE_POINT() race_point()

/* From now on this thread yields at so many of 256 race points. */
static inline void race_begin(uint64_t seed, unsigned yields) {
  race_rng = rng_seeded(seed + 1);
  race_yields = yields;
}

/* ---- recording ------------------------------------------------------------------------------- */

typedef enum history_op {
  HISTORY_PUSH,
  HISTORY_POP,
  HISTORY_STEAL /* a pop at the other end */
} history_op;

typedef struct history_event {
  uint64_t start, end; /* by the shared clock */
  uint64_t value; /* of a push or a successful pop; no value is pushed twice */
  uint8_t op;
  uint8_t thread;
  bool ok;
  bool excused; /* a failure that promises nothing: see history_excuse() */
} history_event;

typedef struct history_log {
  history_event *events;
  size_t len, cap;
  uint8_t thread;
  bool timed; /* else all calls are at 0, as if each overlapped all of the other threads' */
} history_log;

static inline void history_log_init(history_log *log, uint8_t thread, size_t cap) {
  log->events = malloc(cap * sizeof *log->events);
  CHECK(log->events);
  log->len = 0;
  log->cap = cap;
  log->thread = thread;
  log->timed = true;
}

static inline void history_log_fini(history_log *log) {
  free(log->events);
}

/* The time. Whoever has read a later one than another has seen all that the other stored before. A
 * clock of the machine cannot promise that: a store may wait in its core's buffer past the end that
 * is logged for it, and cores' clocks differ by nanoseconds. */
static inline uint64_t history_now(const history_log *log) {
  static _Atomic uint64_t clock;
  return log->timed ? atomic_fetch_add(&clock, 1) + 1 : 0;
}

/* Logs a call that began at `start` and has just ended. */
static inline void history_add(history_log *log, history_op op, uint64_t start, bool ok,
                               uint64_t value) {
  CHECK(log->len < log->cap);
  log->events[log->len++] = (history_event){.start = start,
                                            .end = history_now(log),
                                            .value = value,
                                            .op = (uint8_t)op,
                                            .thread = log->thread,
                                            .ok = ok};
}

/* ---- whole runs ------------------------------------------------------------------------------ */

/* A producer's values, in the order in which it pushes them: 0, 1, 2, ... */
static inline uint64_t history_value(uint64_t producer, uint64_t number) {
  return producer << 32 | number;
}

typedef struct history_seen {
  uint64_t pop_start, pop_end;
  bool pushed, popped;
} history_seen;

/* Fills in what happened to each value. NULL, or what is wrong with one. */
static inline const char *history_collect(const history_log *logs, size_t count,
                                          history_seen *seen, size_t producers, size_t each) {
  for (int pops = 0; pops <= 1; pops++) { /* pushes first: a pop may stand in an earlier log */
    for (size_t l = 0; l < count; l++) {
      for (size_t i = 0; i < logs[l].len; i++) {
        const history_event *e = &logs[l].events[i];
        if (!e->ok || (e->op != HISTORY_PUSH) != pops) continue;
        uint64_t producer = e->value >> 32, number = e->value & UINT32_MAX;
        if (producer >= producers || number >= each) return "a value was made up";
        history_seen *s = &seen[producer * each + number];
        if (!pops) {
          s->pushed = true;
          continue;
        }
        if (!s->pushed) return "a value was popped and never pushed";
        if (s->popped) return "a value was popped twice";
        s->popped = true;
        s->pop_start = e->start;
        s->pop_end = e->end;
      }
    }
  }
  return NULL;
}

/* In each log the numbers of a producer rise. */
static inline const char *history_fifo_log(const history_log *log, size_t producers) {
  uint64_t next[256] = {0};
  CHECK(producers <= 256);
  for (size_t i = 0; i < log->len; i++) {
    const history_event *e = &log->events[i];
    if (!e->ok || e->op == HISTORY_PUSH) continue;
    uint64_t producer = e->value >> 32, number = e->value & UINT32_MAX;
    if (number < next[producer]) return "a consumer saw a producer's values out of order";
    next[producer] = number + 1;
  }
  return NULL;
}

/* No value's pop ended before the pop of an earlier value of the same producer began. */
static inline const char *history_fifo_times(const history_seen *seen, size_t each) {
  uint64_t least_end = UINT64_MAX;
  for (size_t i = each; i-- > 0;) {
    if (!seen[i].popped) continue;
    if (least_end < seen[i].pop_start) return "two consumers saw a producer's values out of order";
    if (seen[i].pop_end < least_end) least_end = seen[i].pop_end;
  }
  return NULL;
}

/* `producers` threads pushed history_value(p, 0) to (p, each - 1), and at the end the queue was
 * emptied. */
static inline const char *history_delivery(const history_log *logs, size_t count, size_t producers,
                                           size_t each, bool fifo) {
  history_seen *seen = calloc(producers * each, sizeof *seen);
  CHECK(seen);
  const char *wrong = history_collect(logs, count, seen, producers, each);
  for (size_t i = 0; !wrong && i < producers * each; i++)
    if (seen[i].pushed && !seen[i].popped) wrong = "a value was lost";
  for (size_t l = 0; fifo && !wrong && l < count; l++)
    wrong = history_fifo_log(&logs[l], producers);
  for (size_t p = 0; fifo && !wrong && p < producers; p++)
    wrong = history_fifo_times(&seen[p * each], each);
  free(seen);
  return wrong;
}

/* ---- small runs ------------------------------------------------------------------------------ */

#define HISTORY_MAX_EVENTS 16
#define HISTORY_TABLE 4096

typedef enum history_kind { HISTORY_FIFO, HISTORY_LIFO } history_kind;

/* A sequential queue whose contents are ranks of values, four bits each, the oldest lowest. */
typedef struct history_state {
  uint64_t items;
  uint32_t len;
} history_state;

typedef struct history_search {
  const history_event *events;
  size_t count;
  size_t capacity;
  history_kind kind;
  uint8_t rank[HISTORY_MAX_EVENTS];    /* of the value, among those of the history */
  uint16_t before[HISTORY_MAX_EVENTS]; /* the calls that come before it, a bit each */
  struct {
    history_state state;
    uint32_t done; /* calls that led to it, never 0 */
  } tried[HISTORY_TABLE];
} history_search;

static inline uint64_t history_cut(history_state *s, uint32_t at) {
  uint64_t low = s->items & ((UINT64_C(1) << 4 * at) - 1);
  uint64_t item = s->items >> 4 * at & 15;
  s->items = low | (at < 15 ? s->items >> 4 * (at + 1) << 4 * at : 0);
  s->len--;
  return item;
}

/* Makes call `i` on the sequential queue. False: it would have answered otherwise. */
static inline bool history_apply(const history_search *h, size_t i, history_state *s) {
  const history_event *e = &h->events[i];
  if (!e->ok && e->excused) return true;
  if (e->op == HISTORY_PUSH) {
    if (!e->ok) return s->len == h->capacity;
    if (s->len == h->capacity) return false;
    s->items |= (uint64_t)h->rank[i] << 4 * s->len++;
    return true;
  }
  if (!e->ok) return s->len == 0;
  if (s->len == 0) return false;
  bool newest = h->kind == HISTORY_LIFO && e->op == HISTORY_POP;
  return history_cut(s, newest ? s->len - 1 : 0) == h->rank[i];
}

/* Notes a state. False: it was here before, in vain. A full table only costs time. */
static inline bool history_new(history_search *h, uint32_t done, history_state s) {
  uint64_t hash = (s.items ^ ((uint64_t)done << 40)) * UINT64_C(0x9E3779B97F4A7C15);
  for (uint32_t probe = 0, at = (uint32_t)(hash >> 52); probe < 64; probe++, at++) {
    at %= HISTORY_TABLE;
    if (h->tried[at].done == done && h->tried[at].state.items == s.items &&
        h->tried[at].state.len == s.len)
      return false;
    if (h->tried[at].done) continue;
    h->tried[at].done = done;
    h->tried[at].state = s;
    return true;
  }
  return true;
}

/* Whether the calls that are not `done` can follow on `s`. */
static inline bool history_follow(history_search *h, uint32_t done, history_state s) {
  if (done == (UINT32_C(1) << h->count) - 1) return true;
  if (done && !history_new(h, done, s)) return false;
  for (size_t i = 0; i < h->count; i++) {
    if (done >> i & 1 || h->before[i] & ~done) continue;
    history_state next = s;
    if (history_apply(h, i, &next) && history_follow(h, done | UINT32_C(1) << i, next)) return true;
  }
  return false;
}

/* Whether event `a` comes before event `b`, of an array in which a thread's calls are in order. */
static inline bool history_before(const history_event *events, size_t a, size_t b) {
  if (events[a].thread == events[b].thread) return a < b;
  return events[a].end < events[b].start;
}

/* Excuses each failure during which another thread was at a call that `may_hide`(failed, other). */
static inline void history_excuse(history_event *events, size_t count,
                                  bool (*may_hide)(const history_event *failed,
                                                   const history_event *other)) {
  for (size_t i = 0; i < count; i++) {
    for (size_t j = 0; !events[i].ok && j < count; j++) {
      if (events[i].thread == events[j].thread || !may_hide(&events[i], &events[j])) continue;
      if (!history_before(events, i, j) && !history_before(events, j, i)) events[i].excused = true;
    }
  }
}

/* Joins logs into one array; returns how many events. */
static inline size_t history_join(const history_log *logs, size_t count, history_event *events,
                                  size_t cap) {
  size_t n = 0;
  for (size_t l = 0; l < count; l++) {
    CHECK(n + logs[l].len <= cap);
    memcpy(events + n, logs[l].events, logs[l].len * sizeof *events);
    n += logs[l].len;
  }
  return n;
}

static inline const char *history_linearizable(const history_event *events, size_t count,
                                               history_kind kind, size_t capacity) {
  static _Thread_local history_search h;
  CHECK(count <= HISTORY_MAX_EVENTS);
  memset(&h, 0, sizeof h);
  h.events = events;
  h.count = count;
  h.kind = kind;
  h.capacity = capacity;
  for (size_t i = 0; i < count; i++) {
    size_t first = 0;
    while (first < i && !(events[first].ok && events[first].value == events[i].value)) first++;
    h.rank[i] = (uint8_t)first;
    for (size_t j = 0; j < count; j++)
      if (history_before(events, j, i)) h.before[i] |= (uint16_t)(1u << j);
  }
  return history_follow(&h, 0, (history_state){0, 0}) ? NULL : "no order explains the answers";
}

/* ---- many small runs ------------------------------------------------------------------------- */

#define HISTORY_THREADS 3

typedef struct history_small {
  void (*reset)(void *queue);                                /* empties it, before each run */
  void (*act)(void *queue, rng *random, history_log *log);   /* one random call, logged */
  bool (*may_hide)(const history_event *, const history_event *); /* or NULL: none is excused */
  void *queue;
  size_t runs, calls; /* runs, and calls of each thread in a run */
  history_kind kind;
  size_t capacity;
  /* the rest is history_small_runs()'s own */
  pthread_barrier_t gate;
  atomic_bool over;
  size_t threads;
  history_log logs[HISTORY_THREADS];
} history_small;

typedef struct history_actor {
  history_small *of;
  size_t index;
  pthread_t thread;
} history_actor;

static void *history_act(void *arg) {
  history_actor *a = arg;
  history_small *h = a->of;
  rng random = rng_seeded(a->index + 77);
  race_begin(a->index, 96);
  for (;;) {
    pthread_barrier_wait(&h->gate);
    if (atomic_load(&h->over)) return NULL;
    for (size_t i = 0; i < h->calls; i++) {
      h->act(h->queue, &random, &h->logs[a->index]);
      race_point();
    }
    pthread_barrier_wait(&h->gate);
  }
}

static inline const char *history_judge(history_small *h) {
  history_event events[HISTORY_MAX_EVENTS];
  size_t count = history_join(h->logs, h->threads, events, HISTORY_MAX_EVENTS);
  if (h->may_hide) history_excuse(events, count, h->may_hide);
  return history_linearizable(events, count, h->kind, h->capacity);
}

static inline void history_print(const history_small *h) {
  static const char *const names[] = {"push", "pop", "steal"};
  for (size_t l = 0; l < h->threads; l++) {
    for (size_t i = 0; i < h->logs[l].len; i++) {
      const history_event *e = &h->logs[l].events[i];
      fprintf(stderr, "  thread %zu %s %llx %s  %llu..%llu\n", l, names[e->op],
              (unsigned long long)e->value, e->ok ? "ok" : "failed",
              (unsigned long long)e->start, (unsigned long long)e->end);
    }
  }
}

/* Runs and judges until one run is wrong. act() tells threads apart by log->thread. */
static inline const char *history_small_runs(history_small *h, size_t threads, bool print) {
  history_actor actors[HISTORY_THREADS];
  CHECK(threads <= HISTORY_THREADS);
  h->threads = threads;
  atomic_init(&h->over, false);
  CHECK(pthread_barrier_init(&h->gate, NULL, (unsigned)threads + 1) == 0);
  for (size_t i = 0; i < threads; i++) {
    history_log_init(&h->logs[i], (uint8_t)i, HISTORY_MAX_EVENTS);
    actors[i] = (history_actor){.of = h, .index = i};
    CHECK(pthread_create(&actors[i].thread, NULL, history_act, &actors[i]) == 0);
  }
  const char *wrong = NULL;
  for (size_t run = 0; run < h->runs && !wrong; run++) {
    h->reset(h->queue);
    for (size_t i = 0; i < threads; i++) h->logs[i].len = 0;
    pthread_barrier_wait(&h->gate);
    pthread_barrier_wait(&h->gate);
    wrong = history_judge(h);
    if (wrong && print) history_print(h);
  }
  atomic_store(&h->over, true);
  pthread_barrier_wait(&h->gate);
  for (size_t i = 0; i < threads; i++) pthread_join(actors[i].thread, NULL);
  for (size_t i = 0; i < threads; i++) history_log_fini(&h->logs[i]);
  pthread_barrier_destroy(&h->gate);
  return wrong;
}

#endif
