/* stress.h - producers and consumers at full speed on one queue of 64-bit values; what they did is
 * judged by history_delivery(). They do it twice, without and with the clock of history.h: the
 * first run leaves the order of memory to the queue alone, the second shows in which order two
 * consumers took what they took. */
#ifndef FC_STRESS_H
#define FC_STRESS_H

#include "history.h"

#define STRESS_MAX_THREADS 8
#define STRESS_MAX_BATCH 32

typedef struct stress {
  void *queue;
  /* Both move up to `count` values and return how many. */
  size_t (*push)(void *queue, const uint64_t *values, size_t count);
  size_t (*pop)(void *queue, uint64_t *values, size_t count);
  size_t producers, consumers;
  size_t each;  /* values of a producer */
  size_t batch; /* values of a call: 1 to this */
  unsigned yields;
  bool fifo;
  bool timed;       /* stress_check()'s own, like what follows */
  atomic_bool done; /* the producers have ended: what cannot be popped now is not there */
} stress;

typedef struct stress_thread {
  stress *of;
  uint64_t number;
  history_log log;
  pthread_t thread;
} stress_thread;

static void *stress_produce(void *arg) {
  stress_thread *t = arg;
  stress *s = t->of;
  rng random = rng_seeded(t->number);
  race_begin(t->number, s->yields);
  for (size_t next = 0; next < s->each;) {
    uint64_t values[STRESS_MAX_BATCH];
    size_t count = 1 + rng_below(&random, s->batch);
    if (count > s->each - next) count = s->each - next;
    for (size_t i = 0; i < count; i++) values[i] = history_value(t->number, next + i);
    uint64_t start = history_now(&t->log);
    size_t pushed = s->push(s->queue, values, count);
    for (size_t i = 0; i < pushed; i++) history_add(&t->log, HISTORY_PUSH, start, true, values[i]);
    next += pushed;
    if (!pushed) sched_yield();
  }
  return NULL;
}

static void *stress_consume(void *arg) {
  stress_thread *t = arg;
  stress *s = t->of;
  rng random = rng_seeded(t->number + 1000);
  race_begin(t->number + 1000, s->yields);
  for (;;) {
    uint64_t values[STRESS_MAX_BATCH];
    bool done = atomic_load(&s->done);
    uint64_t start = history_now(&t->log);
    size_t popped = s->pop(s->queue, values, 1 + rng_below(&random, s->batch));
    for (size_t i = 0; i < popped; i++) {
      if (t->log.len == t->log.cap) return NULL; /* one more than was pushed: it shows */
      history_add(&t->log, HISTORY_POP, start, true, values[i]);
    }
    if (popped) continue;
    if (done) return NULL;
    sched_yield();
  }
}

/* NULL, or what went wrong. */
static inline const char *stress_run(stress *s) {
  stress_thread threads[STRESS_MAX_THREADS];
  history_log logs[STRESS_MAX_THREADS];
  size_t count = s->producers + s->consumers;
  CHECK(count <= STRESS_MAX_THREADS && s->batch <= STRESS_MAX_BATCH);
  atomic_init(&s->done, false);
  for (size_t i = 0; i < count; i++) {
    bool producer = i < s->producers;
    threads[i].of = s;
    threads[i].number = producer ? i : i - s->producers;
    history_log_init(&threads[i].log, (uint8_t)i, producer ? s->each : s->producers * s->each + 1);
    threads[i].log.timed = s->timed;
    CHECK(pthread_create(&threads[i].thread, NULL, producer ? stress_produce : stress_consume,
                         &threads[i]) == 0);
  }
  for (size_t i = 0; i < count; i++) {
    if (i == s->producers) atomic_store(&s->done, true);
    pthread_join(threads[i].thread, NULL);
    logs[i] = threads[i].log;
  }
  const char *wrong = history_delivery(logs, count, s->producers, s->each, s->fifo);
  for (size_t i = 0; i < count; i++) history_log_fini(&logs[i]);
  return wrong;
}

/* Fails the test with what went wrong. */
static inline void stress_check(const char *what, stress *s) {
  for (int timed = 0; timed <= 1; timed++) {
    s->timed = timed;
    const char *wrong = stress_run(s);
    if (wrong) fprintf(stderr, "%s, %zu producers, %zu consumers, %s: %s\n", what, s->producers,
                       s->consumers, timed ? "timed" : "untimed", wrong);
    CHECK(!wrong);
  }
}

#endif
