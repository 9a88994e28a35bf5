/* Threads and guests at the gates of a queue: no wake-up is lost between them and who pushes. */
#include "history.h"

#include "fc/gate.h"
#include "fc/mpmc.h"

#define PATIENCE_NS UINT64_C(10000000000)

static uint64_t monotonic_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Until somebody else sets it; only a lost wake-up takes so long. */
static void await_flag(atomic_bool *flag) {
  for (uint64_t end = monotonic_ns() + PATIENCE_NS; !atomic_load(flag);) {
    CHECK(monotonic_ns() < end);
    sched_yield();
  }
}

/* ---- store before load ----------------------------------------------------------------------- */

#define DUELS 50000u
#define BALLAST_LINES 8

/* Both begin at once: a guest is announced and looks, the other makes it true and looks for guests.
 * Without a fence on either side each may miss the other. The more so as the fact is kept in the
 * store buffer: the stores before it are to lines that the other processor has. */
typedef struct duel {
  fc_gate gate;
  atomic_uint ready[2];
  FC_LINE_REST(rest0, 0);
  atomic_uint fact;
  FC_LINE_REST(rest1, 0);
  atomic_bool counted; /* who clears it takes the guest off */
  atomic_bool woken;
  FC_LINE_REST(rest2, 0);
  atomic_uint ballast[BALLAST_LINES][FC_CACHE_LINE / sizeof(unsigned)];
} duel;

static void touch_ballast(duel *d, unsigned round) {
  for (int i = 0; i < BALLAST_LINES; i++)
    atomic_store_explicit(&d->ballast[i][0], round, memory_order_relaxed);
}

static void face(duel *d, unsigned who, unsigned round) {
  atomic_store(&d->ready[who], round);
  for (unsigned spins = 0; atomic_load(&d->ready[1 - who]) < round; spins++) {
    if (spins > 2000) sched_yield(); /* there may be one processor */
    fc_cpu_relax();
  }
}

static void *state_fact(void *arg) {
  duel *d = arg;
  for (unsigned round = 1; round <= DUELS; round++) {
    face(d, 0, round);
    for (unsigned i = round % 8; i > 0; i--) fc_cpu_relax();
    touch_ballast(d, round);
    atomic_store_explicit(&d->fact, round, memory_order_release);
    if (fc_gate_watched(&d->gate) && atomic_exchange(&d->counted, false)) {
      fc_gate_expect(&d->gate, -1);
      atomic_store(&d->woken, true);
    }
  }
  return NULL;
}

static void test_store_before_load(void) {
  duel d = {.fact = 0};
  CHECK_INT(fc_gate_init(&d.gate), 0);
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, state_fact, &d) == 0);
  for (unsigned round = 1; round <= DUELS; round++) {
    touch_ballast(&d, round);
    atomic_store(&d.woken, false);
    atomic_store(&d.counted, true); /* seen only by who sees the count */
    face(&d, 1, round);
    for (unsigned i = round / 8 % 8; i > 0; i--) fc_cpu_relax();
    fc_gate_expect(&d.gate, 1);
    bool seen = atomic_load_explicit(&d.fact, memory_order_acquire) == round;
    if (seen && atomic_exchange(&d.counted, false)) fc_gate_expect(&d.gate, -1);
    else await_flag(&d.woken);
    CHECK_INT(fc_gate_guests(&d.gate), 0);
  }
  pthread_join(thread, NULL);
  fc_waiter_fini(&d.gate.threads);
}

/* ---- threads and guests on both sides of a small queue --------------------------------------- */

#define SIDES 4
#define EACH 4000

typedef struct guest {
  struct guest *next;
  atomic_bool woken;
  bool listed;
} guest;

/* A condition and the guests that wait for it. */
typedef struct door {
  fc_gate gate;
  guest *guests;
} door;

typedef struct market {
  fc_mpmc *q;
  door filled, emptied;
  pthread_mutex_t lock; /* of both lists, as the GIL is for coroutines */
  bool locked;          /* the lock is also held from a step to the look at who waits */
  atomic_uint_fast64_t sum;
} market;

typedef struct trader {
  market *of;
  bool sells, is_guest;
  uint64_t number;
  pthread_t thread;
} trader;

/* Wakes one, threads first. Under the lock. */
static void wake(door *d) {
  if (fc_waiter_has_sleepers(&d->gate.threads)) {
    fc_waiter_notify(&d->gate.threads);
  } else if (d->guests) {
    guest *first = d->guests;
    d->guests = first->next;
    first->listed = false;
    fc_gate_expect(&d->gate, -1);
    atomic_store(&first->woken, true);
  }
}

static bool step(trader *t, uint64_t *value) {
  fc_mpmc *q = t->of->q;
  return t->sells ? fc_mpmc_push(q, value) : fc_mpmc_pop(q, value);
}

/* One try, and if it succeeds the wake-up of who waits for the other side. */
static bool try_step(trader *t, uint64_t *value) {
  market *m = t->of;
  door *opened = t->sells ? &m->filled : &m->emptied;
  if (m->locked) {
    pthread_mutex_lock(&m->lock);
    bool done = step(t, value);
    if (done && fc_gate_watched_locked(&opened->gate)) wake(opened);
    pthread_mutex_unlock(&m->lock);
    return done;
  }
  if (!step(t, value)) return false;
  if (fc_gate_watched(&opened->gate)) {
    pthread_mutex_lock(&m->lock);
    wake(opened);
    pthread_mutex_unlock(&m->lock);
  }
  return true;
}

static void enter(door *d, guest *g) {
  guest **end = &d->guests;
  while (*end) end = &(*end)->next;
  *g = (guest){.listed = true};
  *end = g;
  fc_gate_expect(&d->gate, 1);
}

/* It found what it wanted by itself. A wake-up that it got all the same is for another one. */
static void leave(door *d, guest *g) {
  if (!g->listed) {
    wake(d);
    return;
  }
  guest **at = &d->guests;
  while (*at != g) at = &(*at)->next;
  *at = g->next;
  fc_gate_expect(&d->gate, -1);
}

static bool holds(trader *t) {
  size_t len = fc_mpmc_len(t->of->q);
  return t->sells ? len < fc_mpmc_capacity(t->of->q) : len > 0;
}

/* Returns when it is worth another try. */
static void wait_as_guest(trader *t, door *d) {
  market *m = t->of;
  guest self;
  pthread_mutex_lock(&m->lock);
  enter(d, &self);
  if (!m->locked) pthread_mutex_unlock(&m->lock);
  bool found = holds(t);
  if (!m->locked) pthread_mutex_lock(&m->lock);
  if (found) leave(d, &self);
  pthread_mutex_unlock(&m->lock);
  if (!found) await_flag(&self.woken);
}

static void wait_as_thread(trader *t, door *d) {
  market *m = t->of;
  if (m->locked) pthread_mutex_lock(&m->lock);
  uint32_t key = fc_waiter_prepare(&d->gate.threads);
  bool found = holds(t);
  if (m->locked) pthread_mutex_unlock(&m->lock);
  if (found) fc_waiter_cancel(&d->gate.threads, key);
  else CHECK_INT(fc_waiter_commit(&d->gate.threads, key, monotonic_ns() + PATIENCE_NS), 0);
}

static void *trade(void *arg) {
  trader *t = arg;
  market *m = t->of;
  door *mine = t->sells ? &m->emptied : &m->filled;
  race_begin(t->number, 16);
  for (uint64_t i = 1; i <= EACH; i++) {
    uint64_t value = i;
    while (!try_step(t, &value)) {
      if (t->is_guest) wait_as_guest(t, mine);
      else wait_as_thread(t, mine);
    }
    if (!t->sells) atomic_fetch_add(&m->sum, value);
  }
  return NULL;
}

static void check_deserted(door *d) {
  CHECK_INT(fc_gate_guests(&d->gate), 0);
  CHECK(!fc_gate_watched(&d->gate));
  CHECK(!d->guests);
  fc_waiter_fini(&d->gate.threads);
}

/* `guests` of the SIDES on each side are guests. */
static void run_market(bool locked, int guests) {
  market m = {.locked = locked};
  trader traders[2 * SIDES];
  CHECK_INT(fc_mpmc_new(&m.q, &fc_mem_libc, 2, sizeof(uint64_t)), 0);
  CHECK_INT(fc_gate_init(&m.filled.gate), 0);
  CHECK_INT(fc_gate_init(&m.emptied.gate), 0);
  CHECK(pthread_mutex_init(&m.lock, NULL) == 0);
  for (int i = 0; i < 2 * SIDES; i++) {
    trader *t = &traders[i];
    *t = (trader){.of = &m, .sells = i % 2, .is_guest = i / 2 < guests, .number = (uint64_t)i};
    CHECK(pthread_create(&t->thread, NULL, trade, t) == 0);
  }
  for (int i = 0; i < 2 * SIDES; i++) pthread_join(traders[i].thread, NULL);
  CHECK_INT(atomic_load(&m.sum), UINT64_C(1) * SIDES * EACH * (EACH + 1) / 2);
  check_deserted(&m.filled);
  check_deserted(&m.emptied);
  pthread_mutex_destroy(&m.lock);
  fc_mpmc_free(m.q, &fc_mem_libc);
}

static void test_guests_alone(void) {
  run_market(false, SIDES);
}

static void test_guests_and_threads(void) {
  run_market(false, SIDES / 2);
}

static void test_under_a_lock(void) {
  run_market(true, SIDES / 2);
}

int main(void) {
  RUN(test_store_before_load);
  RUN(test_guests_alone);
  RUN(test_guests_and_threads);
  RUN(test_under_a_lock);
  return 0;
}
