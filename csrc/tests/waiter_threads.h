/* waiter_threads.h - blocking on queues through a waiter: nothing is lost, nobody sleeps on. Run
 * once over futexes and once over the stand-in. */
#ifndef FC_WAITER_THREADS_H
#define FC_WAITER_THREADS_H

#include <time.h>

#include "../bench/pin.h"
#include "history.h"

#include "fc/err.h"
#include "fc/mpmc.h"
#include "fc/spsc.h"
#include "fc/waiter.h"

#define PINGS 20000
#define EACH 10000
#define SIDES 3
#define PATIENCE_NS UINT64_C(10000000000)

static uint64_t monotonic_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* A deadline that only a lost wake-up reaches. */
static uint64_t patience(void) {
  return monotonic_ns() + PATIENCE_NS;
}

/* ---- there and back -------------------------------------------------------------------------- */

typedef struct ball {
  fc_spsc *q[2];
  fc_waiter w[2];
} ball;

static uint64_t await_spsc(fc_spsc *q, fc_waiter *w) {
  uint64_t value = 0;
  while (!fc_spsc_pop(q, &value)) {
    uint32_t key = fc_waiter_prepare(w);
    if (fc_spsc_len(q)) fc_waiter_cancel(w, key);
    else CHECK_INT(fc_waiter_commit(w, key, patience()), 0);
  }
  return value;
}

static void *answer(void *arg) {
  ball *b = arg;
  race_begin(1, 8);
  for (uint64_t i = 0; i < PINGS; i++) {
    uint64_t value = await_spsc(b->q[0], &b->w[0]);
    CHECK_INT(value, i);
    CHECK(fc_spsc_push(b->q[1], &value));
    fc_waiter_notify(&b->w[1]);
  }
  return NULL;
}

static void test_ping_pong(void) {
  ball b;
  for (int i = 0; i < 2; i++) {
    CHECK_INT(fc_spsc_new(&b.q[i], &fc_mem_libc, 1, sizeof(uint64_t)), 0);
    CHECK_INT(fc_waiter_init(&b.w[i], i ? FC_WAITER_SHARED : FC_WAITER_PRIVATE), 0);
  }
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, answer, &b) == 0);
  for (uint64_t i = 0; i < PINGS; i++) {
    CHECK(fc_spsc_push(b.q[0], &i));
    fc_waiter_notify(&b.w[0]);
    CHECK_INT(await_spsc(b.q[1], &b.w[1]), i);
  }
  pthread_join(thread, NULL);
  for (int i = 0; i < 2; i++) {
    CHECK_INT(atomic_load(&b.w[i].state) & UINT32_MAX, 0);
    fc_waiter_fini(&b.w[i]);
    fc_spsc_free(b.q[i], &fc_mem_libc);
  }
}

/* ---- store before load ----------------------------------------------------------------------- */

#define DUELS (FC_TSAN ? 20000u : 200000u) /* without barriers some ten would miss each other */

/* Both begin at once: one announces itself and looks, the other makes it true and notifies. Without
 * a fence on either side each may miss the other, and the sleeper waits for its deadline. All stand
 * on lines of their own and each side has just read what it will look at, so that its store is the
 * slow step and its look the quick one. */
typedef struct duel {
  fc_waiter w;
  FC_LINE_REST(rest0, 0);
  atomic_uint fact;
  unsigned home; /* the waiter's processor */
  FC_LINE_REST(rest1, 0);
  struct {
    atomic_uint round;
    FC_LINE_REST(rest, 0);
  } ready[2];
} duel;

static void face(duel *d, unsigned who, unsigned round) {
  atomic_load_explicit(&d->w.state, memory_order_relaxed);
  atomic_load_explicit(&d->fact, memory_order_relaxed);
  atomic_store(&d->ready[who].round, round);
  for (unsigned spins = 0; atomic_load(&d->ready[1 - who].round) < round; spins++)
    if (spins % 2048 == 2047) sched_yield(); /* there may be one processor */
  for (unsigned i = who ? round % 128 : 32; i > 0; i--) __asm__ volatile("");
}

static void *state_fact(void *arg) {
  duel *d = arg;
  pin_to(d->home + 1);
  for (unsigned round = 1; round <= DUELS; round++) {
    face(d, 0, round);
    atomic_store_explicit(&d->fact, round, memory_order_release);
    fc_waiter_notify(&d->w);
  }
  return NULL;
}

static void test_store_before_load(void) {
  duel d = {.home = pin_here()};
  CHECK_INT(fc_waiter_init(&d.w, FC_WAITER_PRIVATE), 0);
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, state_fact, &d) == 0);
  for (unsigned round = 1; round <= DUELS; round++) {
    face(&d, 1, round);
    uint32_t key = fc_waiter_prepare(&d.w);
    if (atomic_load_explicit(&d.fact, memory_order_acquire) == round) fc_waiter_cancel(&d.w, key);
    else CHECK_INT(fc_waiter_commit(&d.w, key, patience()), 0);
  }
  pthread_join(thread, NULL);
  fc_waiter_fini(&d.w);
}

/* ---- what a wake-up carries ------------------------------------------------------------------ */

#define ERRANDS 5000u

/* The note is plain, and its reader has looked at nothing but the waiter since it was written. The
 * errand is static, as clang leaves ThreadSanitizer out of what lies on the stack here. */
typedef struct errand {
  fc_waiter w;
  atomic_uint fact;
  atomic_uint notified, read; /* rounds: the notify has returned, the note may be written again */
  unsigned note;
} errand;

static void until(atomic_uint *round, unsigned value) {
  while (atomic_load_explicit(round, memory_order_acquire) < value) sched_yield();
}

static void *send_note(void *arg) {
  errand *e = arg;
  for (unsigned round = 1; round <= ERRANDS; round++) {
    until(&e->read, round - 1);
    while (!(uint16_t)atomic_load_explicit(&e->w.state, memory_order_relaxed)) sched_yield();
    e->note = round;
    atomic_store_explicit(&e->fact, round, memory_order_relaxed);
    fc_waiter_notify(&e->w);
    atomic_store_explicit(&e->notified, round, memory_order_release);
  }
  return NULL;
}

static void test_wake_carries(void) {
  static errand e;
  unsigned woken = 0;
  CHECK_INT(fc_waiter_init(&e.w, FC_WAITER_PRIVATE), 0);
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, send_note, &e) == 0);
  for (unsigned round = 1; round <= ERRANDS; round++) {
    until(&e.notified, round - 1);
    uint32_t key = fc_waiter_prepare(&e.w);
    if (atomic_load_explicit(&e.fact, memory_order_relaxed) == round) {
      fc_waiter_cancel(&e.w, key);
    } else {
      CHECK_INT(fc_waiter_commit(&e.w, key, patience()), 0);
      CHECK_INT(e.note, round);
      woken++;
    }
    atomic_store_explicit(&e.read, round, memory_order_release);
  }
  pthread_join(thread, NULL);
  CHECK(woken > 0);
  fc_waiter_fini(&e.w);
}

/* ---- many on both sides of a small queue ----------------------------------------------------- */

typedef struct market {
  fc_mpmc *q;
  fc_waiter not_empty, not_full;
  atomic_uint_fast64_t sum;
} market;

/* Calls try(q, value) until it succeeds, asleep in between; now and then a deadline passes. */
static void insist(market *m, fc_waiter *w, bool (*try)(fc_mpmc *, uint64_t *), uint64_t *value,
                   rng *random) {
  while (!try(m->q, value)) {
    uint32_t key = fc_waiter_prepare(w);
    if (try(m->q, value)) {
      fc_waiter_cancel(w, key);
      return;
    }
    bool hurry = rng_below(random, 8) == 0;
    int err = fc_waiter_commit(w, key, hurry ? monotonic_ns() + 20000 : patience());
    CHECK(err == 0 || (hurry && err == FC_ETIMEOUT));
  }
}

static bool try_push(fc_mpmc *q, uint64_t *value) {
  return fc_mpmc_push(q, value);
}

static bool try_pop(fc_mpmc *q, uint64_t *value) {
  return fc_mpmc_pop(q, value);
}

static void *sell(void *arg) {
  market *m = arg;
  rng random = rng_seeded((uintptr_t)&random);
  race_begin((uintptr_t)&random, 8);
  for (uint64_t i = 1; i <= EACH; i++) {
    insist(m, &m->not_full, try_push, &i, &random);
    fc_waiter_notify(&m->not_empty);
  }
  return NULL;
}

static void *buy(void *arg) {
  market *m = arg;
  rng random = rng_seeded((uintptr_t)&random);
  race_begin((uintptr_t)&random, 8);
  for (int i = 0; i < EACH; i++) {
    uint64_t value = 0;
    insist(m, &m->not_empty, try_pop, &value, &random);
    fc_waiter_notify(&m->not_full);
    atomic_fetch_add(&m->sum, value);
  }
  return NULL;
}

static void test_market(void) {
  market m = {.sum = 0};
  CHECK_INT(fc_mpmc_new(&m.q, &fc_mem_libc, 4, sizeof(uint64_t)), 0);
  CHECK_INT(fc_waiter_init(&m.not_empty, FC_WAITER_PRIVATE), 0);
  CHECK_INT(fc_waiter_init(&m.not_full, FC_WAITER_PRIVATE), 0);
  pthread_t threads[2 * SIDES];
  for (int i = 0; i < 2 * SIDES; i++)
    CHECK(pthread_create(&threads[i], NULL, i % 2 ? sell : buy, &m) == 0);
  for (int i = 0; i < 2 * SIDES; i++) pthread_join(threads[i], NULL);
  CHECK_INT(atomic_load(&m.sum), UINT64_C(1) * SIDES * EACH * (EACH + 1) / 2);
  CHECK_INT(atomic_load(&m.not_empty.state) & UINT32_MAX, 0);
  CHECK_INT(atomic_load(&m.not_full.state) & UINT32_MAX, 0);
  fc_waiter_fini(&m.not_empty);
  fc_waiter_fini(&m.not_full);
  fc_mpmc_free(m.q, &fc_mem_libc);
}

/* ---- one call for all ------------------------------------------------------------------------ */

typedef struct meeting {
  fc_waiter w;
  atomic_uint round;
  atomic_int here;
} meeting;

#define ROUNDS 300u

static void *attend(void *arg) {
  meeting *m = arg;
  for (unsigned round = 1; round <= ROUNDS; round++) {
    atomic_fetch_add(&m->here, 1);
    while (atomic_load(&m->round) < round) {
      uint32_t key = fc_waiter_prepare(&m->w);
      if (atomic_load(&m->round) >= round) fc_waiter_cancel(&m->w, key);
      else CHECK_INT(fc_waiter_commit(&m->w, key, patience()), 0);
    }
  }
  return NULL;
}

static void test_notify_all(void) {
  meeting m = {.round = 0, .here = 0};
  CHECK_INT(fc_waiter_init(&m.w, FC_WAITER_PRIVATE), 0);
  pthread_t threads[SIDES];
  for (int i = 0; i < SIDES; i++) CHECK(pthread_create(&threads[i], NULL, attend, &m) == 0);
  for (unsigned round = 1; round <= ROUNDS; round++) {
    while (atomic_load(&m.here) < SIDES * (int)round) sched_yield();
    atomic_store(&m.round, round);
    fc_waiter_notify_all(&m.w);
  }
  for (int i = 0; i < SIDES; i++) pthread_join(threads[i], NULL);
  CHECK_INT(atomic_load(&m.w.state) & UINT32_MAX, 0);
  fc_waiter_fini(&m.w);
}

int main(void) {
  RUN(test_ping_pong);
  RUN(test_store_before_load);
  RUN(test_wake_carries);
  RUN(test_market);
  RUN(test_notify_all);
  return 0;
}

#endif
