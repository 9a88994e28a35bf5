/* The checker itself: histories whose verdict is known, and a second opinion on random ones. */
#include "history.h"

/* A call `from` one time `to` another; ok unless the value is NONE. */
#define NONE UINT64_MAX
#define CALL(t, what, v, from, to)                                                                 \
  { .thread = t, .op = what, .value = v, .ok = (v) != NONE, .start = from, .end = to }
#define PUSH(t, v, from, to) CALL(t, HISTORY_PUSH, v, from, to)
#define POP(t, v, from, to) CALL(t, HISTORY_POP, v, from, to)
#define STEAL(t, v, from, to) CALL(t, HISTORY_STEAL, v, from, to)

#define COUNT(a) (sizeof(a) / sizeof *(a))
#define GOOD(kind, cap, ...)                                                                       \
  do {                                                                                             \
    const history_event h_[] = {__VA_ARGS__};                                                      \
    CHECK(history_linearizable(h_, COUNT(h_), kind, cap) == NULL);                                 \
  } while (0)
#define BAD(kind, cap, ...)                                                                        \
  do {                                                                                             \
    const history_event h_[] = {__VA_ARGS__};                                                      \
    CHECK(history_linearizable(h_, COUNT(h_), kind, cap) != NULL);                                 \
  } while (0)

static void test_fifo(void) {
  GOOD(HISTORY_FIFO, 2, PUSH(0, 1, 0, 1), PUSH(0, 2, 2, 3), POP(1, 1, 4, 5), POP(1, 2, 6, 7));
  BAD(HISTORY_FIFO, 2, PUSH(0, 1, 0, 1), PUSH(0, 2, 2, 3), POP(1, 2, 4, 5), POP(1, 1, 6, 7));
  /* Pushes that overlap may be popped in either order, but one order only. */
  GOOD(HISTORY_FIFO, 2, PUSH(0, 1, 0, 9), PUSH(1, 2, 1, 8), POP(2, 2, 10, 11), POP(2, 1, 12, 13));
  BAD(HISTORY_FIFO, 4, PUSH(0, 1, 0, 9), PUSH(1, 2, 1, 8), POP(2, 1, 10, 11), POP(2, 1, 12, 13));
  /* A pop may end before the push it takes from ... if it does not begin after its own end. */
  GOOD(HISTORY_FIFO, 2, PUSH(0, 1, 0, 9), POP(1, 1, 2, 3));
  BAD(HISTORY_FIFO, 2, PUSH(0, 1, 5, 9), POP(1, 1, 2, 3));
  BAD(HISTORY_FIFO, 2, POP(1, 7, 2, 3));
}

static void test_failures(void) {
  GOOD(HISTORY_FIFO, 2, POP(0, NONE, 0, 1), PUSH(0, 1, 2, 3));
  GOOD(HISTORY_FIFO, 2, PUSH(0, 1, 2, 9), POP(1, NONE, 3, 4));
  BAD(HISTORY_FIFO, 2, PUSH(0, 1, 0, 1), POP(1, NONE, 3, 4));
  GOOD(HISTORY_FIFO, 1, PUSH(0, 1, 0, 1), PUSH(0, NONE, 2, 3), POP(1, 1, 2, 9));
  BAD(HISTORY_FIFO, 2, PUSH(0, 1, 0, 1), PUSH(0, NONE, 2, 3));
  BAD(HISTORY_FIFO, 1, PUSH(0, 1, 0, 1), PUSH(0, 2, 2, 3));
}

static void test_lifo(void) {
  GOOD(HISTORY_LIFO, 4, PUSH(0, 1, 0, 1), PUSH(0, 2, 2, 3), POP(0, 2, 4, 5), POP(0, 1, 6, 7));
  BAD(HISTORY_LIFO, 4, PUSH(0, 1, 0, 1), PUSH(0, 2, 2, 3), POP(0, 1, 4, 5));
  GOOD(HISTORY_LIFO, 4, PUSH(0, 1, 0, 1), PUSH(0, 2, 2, 3), STEAL(1, 1, 4, 5));
  BAD(HISTORY_LIFO, 4, PUSH(0, 1, 0, 1), PUSH(0, 2, 2, 3), STEAL(1, 2, 4, 5));
  /* The last element, to both. */
  BAD(HISTORY_LIFO, 4, PUSH(0, 1, 0, 1), POP(0, 1, 2, 5), STEAL(1, 1, 2, 5));
}

static bool push_hides(const history_event *failed, const history_event *other) {
  return failed->op == HISTORY_POP && other->op == HISTORY_PUSH;
}

static void test_excuses(void) {
  /* "Empty" with value 2 there, while the push of 1 is under way ... */
  history_event h[] = {PUSH(0, 1, 0, 9), PUSH(1, 2, 1, 2), POP(2, NONE, 3, 4)};
  CHECK(history_linearizable(h, 3, HISTORY_FIFO, 4) != NULL);
  history_excuse(h, 3, push_hides);
  CHECK(history_linearizable(h, 3, HISTORY_FIFO, 4) == NULL);
  /* ... and when none is. */
  history_event late[] = {PUSH(0, 1, 5, 9), PUSH(1, 2, 1, 2), POP(2, NONE, 3, 4)};
  history_excuse(late, 3, push_hides);
  CHECK(history_linearizable(late, 3, HISTORY_FIFO, 4) != NULL);
}

/* Without memory and without bits: every order of the calls that are left. */
static bool any_order(const history_event *e, size_t count, history_kind kind, size_t capacity,
                      bool *done, uint64_t *items, size_t len) {
  bool all = true, found = false;
  for (size_t i = 0; i < count && !found; i++) {
    bool ready = !done[i];
    all &= done[i];
    for (size_t j = 0; j < count; j++) ready &= done[j] || !history_before(e, j, i);
    if (!ready) continue;
    uint64_t next[HISTORY_MAX_EVENTS + 1];
    memcpy(next, items, len * sizeof *items);
    size_t next_len = len;
    if (e[i].op == HISTORY_PUSH) {
      if (e[i].ok != (len < capacity)) continue;
      if (e[i].ok) next[next_len++] = e[i].value;
    } else {
      if (e[i].ok != (len > 0)) continue;
      size_t at = kind == HISTORY_LIFO && e[i].op == HISTORY_POP ? len - 1 : 0;
      if (e[i].ok && items[at] != e[i].value) continue;
      if (e[i].ok) memmove(next + at, next + at + 1, (--next_len - at) * sizeof *next);
    }
    done[i] = true;
    found = any_order(e, count, kind, capacity, done, next, next_len);
    done[i] = false;
  }
  return all || found;
}

/* Calls at random times, which answer at random, mostly in the order of a real queue. */
static void random_history(rng *g, history_event *e, size_t count) {
  uint64_t pushed = 0, popped = 0;
  uint64_t end[3] = {0};
  for (size_t i = 0; i < count; i++) {
    uint8_t thread = (uint8_t)rng_below(g, 3);
    uint64_t start = end[thread] + rng_below(g, 6);
    end[thread] = start + rng_below(g, 9);
    bool push = rng_below(g, 2);
    bool ok = rng_below(g, 8) != 0;
    uint64_t value = push ? pushed++ : rng_below(g, 4) ? popped++ : rng_below(g, count);
    e[i] = (history_event){.thread = thread, .op = push ? HISTORY_PUSH : HISTORY_POP,
                           .value = value, .ok = ok, .start = start, .end = end[thread]};
    if (!push && rng_below(g, 4) == 0) e[i].op = HISTORY_STEAL;
  }
}

static void test_second_opinion(void) {
  rng g = rng_seeded(5);
  int verdicts[2] = {0, 0};
  for (int run = 0; run < 6000; run++) {
    history_event e[7];
    size_t count = 1 + rng_below(&g, COUNT(e));
    random_history(&g, e, count);
    history_kind kind = rng_below(&g, 2) ? HISTORY_FIFO : HISTORY_LIFO;
    size_t capacity = 1 + rng_below(&g, 3);
    bool done[COUNT(e)] = {0};
    uint64_t items[HISTORY_MAX_EVENTS];
    bool good = any_order(e, count, kind, capacity, done, items, 0);
    CHECK_INT(history_linearizable(e, count, kind, capacity) == NULL, good);
    verdicts[good]++;
  }
  CHECK(verdicts[0] > 300 && verdicts[1] > 300);
}

/* The verdict on two logs: what one producer pushed and what one consumer popped. */
static const char *delivery(const uint64_t *pops, size_t count) {
  history_log logs[2];
  for (uint8_t i = 0; i < 2; i++) history_log_init(&logs[i], i, 8);
  for (uint64_t i = 0; i < 3; i++)
    history_add(&logs[1], HISTORY_PUSH, history_now(&logs[1]), true, i);
  for (size_t i = 0; i < count; i++)
    history_add(&logs[0], HISTORY_POP, history_now(&logs[0]), true, pops[i]);
  const char *wrong = history_delivery(logs, 2, 1, 3, true);
  for (int i = 0; i < 2; i++) history_log_fini(&logs[i]);
  return wrong;
}

static void test_delivery(void) {
  CHECK(delivery((uint64_t[]){0, 1, 2}, 3) == NULL);
  CHECK(strstr(delivery((uint64_t[]){0, 2}, 2), "lost"));
  CHECK(strstr(delivery((uint64_t[]){0, 1, 1, 2}, 4), "twice"));
  CHECK(strstr(delivery((uint64_t[]){0, 2, 1}, 3), "order"));
  CHECK(strstr(delivery((uint64_t[]){0, 1, 9}, 3), "made up"));
}

static void test_order_between_consumers(void) {
  history_log logs[3];
  for (uint8_t i = 0; i < 3; i++) history_log_init(&logs[i], i, 4);
  for (uint64_t i = 0; i < 2; i++)
    history_add(&logs[0], HISTORY_PUSH, history_now(&logs[0]), true, i);
  logs[1].events[logs[1].len++] = (history_event)POP(1, 1, 10, 20);
  logs[2].events[logs[2].len++] = (history_event)POP(2, 0, 15, 30);
  CHECK(history_delivery(logs, 3, 1, 2, true) == NULL);
  logs[2].events[0].start = 21;
  CHECK(strstr(history_delivery(logs, 3, 1, 2, true), "two consumers"));
  CHECK(history_delivery(logs, 3, 1, 2, false) == NULL);
  for (int i = 0; i < 3; i++) history_log_fini(&logs[i]);
}

int main(void) {
  RUN(test_fifo);
  RUN(test_failures);
  RUN(test_lifo);
  RUN(test_excuses);
  RUN(test_second_opinion);
  RUN(test_delivery);
  RUN(test_order_between_consumers);
  return 0;
}
