/* An owner and its thieves: every element goes to exactly one of them, in an order that a
 * sequential deque allows; the array grows meanwhile. */
#include "history.h"

/* Compiled here, so that the race point in the swap of the arrays yields as well. */
#include "../bench/pin.h"
#include "../src/wsdeque.c"

#define THIEVES 3
#define ELEMENTS 60000

/* Elements point to plain numbers, written just before the push: only the deque orders them. */
typedef struct theft {
  fc_wsdeque *d;
  atomic_bool over;
  atomic_long taken;
  uint32_t *numbers;
  atomic_uchar *times; /* how often each was taken */
} theft;

static void take(theft *t, const uint32_t *element) {
  CHECK(element >= t->numbers && element < t->numbers + ELEMENTS);
  CHECK_INT(*element, element - t->numbers + 7);
  CHECK_INT(atomic_fetch_add(&t->times[element - t->numbers], 1), 0);
  atomic_fetch_add_explicit(&t->taken, 1, memory_order_relaxed);
}

/* Also: what one thief steals is in the order of the pushes. */
static void *steal(void *arg) {
  theft *t = arg;
  const uint32_t *last = NULL;
  race_begin((uintptr_t)&last, 4);
  for (;;) {
    bool over = atomic_load(&t->over);
    void *element;
    fc_stolen got = fc_wsdeque_steal(t->d, &element);
    if (got == FC_STEAL_GOT) {
      CHECK((uint32_t *)element > last);
      last = element;
      take(t, element);
    } else if (got == FC_STEAL_EMPTY) {
      if (over) return NULL;
      sched_yield();
    }
  }
}

/* Pushes in bursts and pops some of each, so that the deque is often nearly empty. */
static void own(theft *t, size_t burst) {
  rng random = rng_seeded(burst);
  race_begin(burst, 4);
  for (uint32_t next = 0; next < ELEMENTS;) {
    for (size_t n = 1 + rng_below(&random, burst); n > 0 && next < ELEMENTS; n--, next++) {
      t->numbers[next] = next + 7;
      CHECK_INT(fc_wsdeque_push(t->d, &t->numbers[next]), 0);
    }
    for (size_t n = rng_below(&random, burst + 1); n > 0; n--) {
      uint32_t *element = fc_wsdeque_pop(t->d);
      if (!element) break;
      take(t, element);
    }
  }
}

static void stress(size_t burst, size_t thieves) {
  theft t = {.numbers = malloc(ELEMENTS * sizeof(uint32_t)),
             .times = calloc(ELEMENTS, sizeof(atomic_uchar))};
  CHECK(t.numbers && t.times);
  CHECK_INT(fc_wsdeque_new(&t.d, &fc_mem_libc, 1, ELEMENTS), 0);
  fc_wsdeque_seek(t.d, (int64_t)UINT32_MAX - ELEMENTS / 2);
  pthread_t threads[THIEVES];
  for (size_t i = 0; i < thieves; i++) CHECK(!pthread_create(&threads[i], NULL, steal, &t));
  own(&t, burst);
  atomic_store(&t.over, true);
  for (size_t i = 0; i < thieves; i++) pthread_join(threads[i], NULL);
  for (uint32_t *element; (element = fc_wsdeque_pop(t.d));) take(&t, element);
  CHECK_INT(atomic_load(&t.taken), ELEMENTS);
  fc_wsdeque_free(t.d);
  free(t.numbers);
  free(t.times);
}

static void test_last_element(void) {
  stress(1, 1);
  stress(2, THIEVES);
}

/* ---- store before load ----------------------------------------------------------------------- */

#define DUEL (FC_TSAN ? 400000u : 16000000u) /* elements at most, */
#define DUEL_STEALS 10000u                    /* fewer when so many were stolen: some hundreds would
                                                 be taken twice without the barrier */

/* At full speed, with no atomic step but the deque's own: a pop whose store has not left the
 * processor when it looks at `top` gives the owner what the thief has. Elements are numbers. */
typedef struct duel {
  fc_wsdeque *d;
  atomic_bool over;
  atomic_uint steals;
  uint8_t *stolen; /* how often each */
  unsigned home;   /* the owner's processor */
} duel;

static void *rob(void *arg) {
  duel *t = arg;
  unsigned spins = 0;
  pin_to(t->home + 1);
  unsigned steals = 0;
  while (!atomic_load_explicit(&t->over, memory_order_acquire)) {
    void *element;
    if (fc_wsdeque_steal(t->d, &element) == FC_STEAL_GOT) {
      t->stolen[(uintptr_t)element]++;
      atomic_store_explicit(&t->steals, ++steals, memory_order_relaxed);
    } else if (++spins % 4096 == 0) {
      sched_yield(); /* there may be one processor */
    }
  }
  return NULL;
}

static void test_store_before_load(void) {
  duel t = {.stolen = calloc(DUEL + 1, 1), .home = pin_here()};
  uint8_t *popped = calloc(DUEL + 1, 1);
  CHECK(t.stolen && popped);
  CHECK_INT(fc_wsdeque_new(&t.d, &fc_mem_libc, 8, 8), 0);
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, rob, &t) == 0);
  unsigned steals = 0, bursts = 0;
  uintptr_t next = 1;
  while (next <= DUEL && steals < DUEL_STEALS) {
    if (bursts++ % 4096 == 0) {
      unsigned before = steals;
      steals = atomic_load_explicit(&t.steals, memory_order_relaxed);
      if (steals == before) sched_yield(); /* the thief does not run */
    }
    for (size_t n = 1 + next % 3; n > 0 && next <= DUEL; n--)
      CHECK_INT(fc_wsdeque_push(t.d, (void *)next++), 0);
    for (uintptr_t taken; (taken = (uintptr_t)fc_wsdeque_pop(t.d));) popped[taken]++;
  }
  atomic_store_explicit(&t.over, true, memory_order_release);
  pthread_join(thread, NULL);
  for (size_t i = 1; i < next; i++) CHECK_INT(popped[i] + t.stolen[i], 1);
  fc_wsdeque_free(t.d);
  free(t.stolen);
  free(popped);
}

static void test_growth(void) {
  stress(64, THIEVES);
  stress(4000, THIEVES);
}

/* ---- small histories ------------------------------------------------------------------------- */

typedef struct small {
  fc_wsdeque *d;
} small;

static void reset(void *arg) {
  small *s = arg;
  fc_wsdeque_free(s->d);
  CHECK_INT(fc_wsdeque_new(&s->d, &fc_mem_libc, 1, 16), 0); /* so that it grows in the run */
  fc_wsdeque_seek(s->d, -2);
}

/* Thread 0 owns; the others steal. A race that is lost promises nothing: that is STEAL_LOST. */
static void act(void *arg, rng *random, history_log *log) {
  fc_wsdeque *d = ((small *)arg)->d;
  uint64_t start = history_now(log);
  if (log->thread) {
    void *element = NULL;
    fc_stolen got = fc_wsdeque_steal(d, &element);
    if (got == FC_STEAL_LOST) return;
    history_add(log, HISTORY_STEAL, start, got == FC_STEAL_GOT, (uintptr_t)element);
  } else if (rng_below(random, 5) < 3) {
    uintptr_t value = log->len + 1;
    CHECK_INT(fc_wsdeque_push(d, (void *)value), 0);
    history_add(log, HISTORY_PUSH, start, true, value);
  } else {
    void *element = fc_wsdeque_pop(d);
    history_add(log, HISTORY_POP, start, element != NULL, (uintptr_t)element);
  }
}

static void test_small_histories(void) {
  small s = {NULL};
  history_small h = {.reset = reset, .act = act, .queue = &s, .runs = 6000, .calls = 5,
                     .kind = HISTORY_LIFO, .capacity = HISTORY_MAX_EVENTS};
  CHECK(!history_small_runs(&h, 3, true));
  fc_wsdeque_free(s.d);
}

int main(void) {
  RUN(test_last_element);
  RUN(test_store_before_load);
  RUN(test_growth);
  RUN(test_small_histories);
  return 0;
}
