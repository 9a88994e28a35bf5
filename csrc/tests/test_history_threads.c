/* Queues that are broken on purpose, each in a way of its own: the checkers must find out. Their
 * fields are atomic, so that nothing but the checkers can. */
#include "stress.h"

#define SLOTS 4096 /* more than are ever pushed: positions never wrap, and nothing can jam */
#define LANE 64
#define TRIES 50

typedef enum broken {
  BROKEN_POP,     /* consumers do not claim: two get the same value */
  BROKEN_PUSH,    /* producers do not claim: one overwrites the other */
  BROKEN_PUBLISH, /* the position moves before the value is there */
  BROKEN_LANES,   /* a lane for each thread: exact delivery, but no one order of all */
  BROKEN_ORDER    /* two of each producer's values change places */
} broken;

typedef struct queue {
  broken how;
  pthread_mutex_t lock;
  _Atomic uint64_t head, tail;
  _Atomic uint64_t slots[SLOTS]; /* value + 1; 0: not there yet */
  struct {
    uint64_t items[LANE], head, tail;
  } lane[2];
} queue;

/* A position to fill or to empty; `careful` claims it as it should be done. */
static bool claim(_Atomic uint64_t *index, uint64_t at, bool careful) {
  race_point();
  if (careful) return atomic_compare_exchange_strong(index, &at, at + 1);
  atomic_store(index, at + 1);
  return true;
}

static bool log_push(queue *q, uint64_t value) {
  uint64_t tail = atomic_load(&q->tail);
  if (q->how == BROKEN_PUSH) {
    atomic_store(&q->slots[tail], value + 1);
    return claim(&q->tail, tail, false);
  }
  if (!claim(&q->tail, tail, true)) return false;
  race_point();
  atomic_store(&q->slots[tail], value + 1);
  return true;
}

/* Waits for a value that is announced, unless it is broken there. */
static bool log_pop(queue *q, uint64_t *value) {
  uint64_t head = atomic_load(&q->head), found;
  if (head >= atomic_load(&q->tail)) return false;
  while (!(found = atomic_load(&q->slots[head])) && q->how != BROKEN_PUBLISH) sched_yield();
  if (!claim(&q->head, head, q->how != BROKEN_POP)) return false;
  *value = found - 1;
  return true;
}

static bool lanes_push(queue *q, uint64_t value) {
  pthread_mutex_lock(&q->lock);
  unsigned lane = q->how == BROKEN_LANES && value >> 32 & 1;
  bool ok = q->lane[lane].tail - q->lane[lane].head < LANE;
  if (ok) q->lane[lane].items[q->lane[lane].tail++ % LANE] = value;
  pthread_mutex_unlock(&q->lock);
  return ok;
}

static bool lanes_pop(queue *q, uint64_t *value) {
  pthread_mutex_lock(&q->lock);
  unsigned lane = q->lane[1].tail != q->lane[1].head;
  uint64_t at = q->lane[lane].head, len = q->lane[lane].tail - at;
  if (len) {
    uint64_t *items = q->lane[lane].items;
    uint64_t *next = &items[at % LANE], *after = &items[(at + 1) % LANE];
    if (q->how == BROKEN_ORDER && len > 1 && at % 5 == 0) {
      uint64_t moved = *next;
      *next = *after;
      *after = moved;
    }
    *value = *next;
    q->lane[lane].head++;
  }
  pthread_mutex_unlock(&q->lock);
  return len > 0;
}

static size_t broken_push(void *q, const uint64_t *values, size_t count) {
  (void)count;
  return ((queue *)q)->how < BROKEN_LANES ? log_push(q, *values) : lanes_push(q, *values);
}

static size_t broken_pop(void *q, uint64_t *values, size_t count) {
  (void)count;
  return ((queue *)q)->how < BROKEN_LANES ? log_pop(q, values) : lanes_pop(q, values);
}

static void empty(void *arg) {
  queue *q = arg;
  q->head = q->tail = 0;
  for (int i = 0; i < SLOTS; i++) atomic_store_explicit(&q->slots[i], 0, memory_order_relaxed);
  memset(q->lane, 0, sizeof q->lane);
}

static bool stress_catches(broken how) {
  queue q = {.how = how, .lock = PTHREAD_MUTEX_INITIALIZER};
  const char *wrong = NULL;
  for (int i = 0; i < TRIES && !wrong; i++) {
    empty(&q);
    stress s = {.queue = &q, .push = broken_push, .pop = broken_pop, .producers = 2,
                .consumers = 2, .each = 1000, .batch = 1, .yields = 16, .fifo = true,
                .timed = true};
    wrong = stress_run(&s);
  }
  return wrong != NULL;
}

static void broken_act(void *q, rng *random, history_log *log) {
  uint64_t value = history_value(log->thread, log->len), start = history_now(log);
  if (rng_below(random, 2)) {
    bool ok = broken_push(q, &value, 1);
    history_add(log, HISTORY_PUSH, start, ok, value);
  } else {
    bool ok = broken_pop(q, &value, 1);
    history_add(log, HISTORY_POP, start, ok, value);
  }
}

static bool search_catches(broken how) {
  queue q = {.how = how, .lock = PTHREAD_MUTEX_INITIALIZER};
  history_small h = {.reset = empty, .act = broken_act, .queue = &q, .runs = 20000, .calls = 4,
                     .kind = HISTORY_FIFO, .capacity = HISTORY_MAX_EVENTS};
  return history_small_runs(&h, 3, false) != NULL;
}

static void test_claims(void) {
  CHECK(stress_catches(BROKEN_POP));
  CHECK(search_catches(BROKEN_POP));
}

static void test_overwrites(void) {
  CHECK(stress_catches(BROKEN_PUSH));
  CHECK(search_catches(BROKEN_PUSH));
}

static void test_early_publish(void) {
  CHECK(stress_catches(BROKEN_PUBLISH));
  CHECK(search_catches(BROKEN_PUBLISH));
}

static void test_order(void) {
  CHECK(stress_catches(BROKEN_ORDER));
  CHECK(search_catches(BROKEN_ORDER));
}

/* Each producer's values arrive once and in order: only the search for an order can tell. */
static void test_lanes(void) {
  CHECK(!stress_catches(BROKEN_LANES));
  CHECK(search_catches(BROKEN_LANES));
}

int main(void) {
  RUN(test_claims);
  RUN(test_overwrites);
  RUN(test_early_publish);
  RUN(test_order);
  RUN(test_lanes);
  return 0;
}
