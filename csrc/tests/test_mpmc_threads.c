/* Producers and consumers: delivery, order, and small histories. */
#include "stress.h"

#include "fc/mpmc.h"

static size_t push_many(void *q, const uint64_t *values, size_t count) {
  return fc_mpmc_push_many(q, values, count);
}

static size_t pop_many(void *q, uint64_t *values, size_t count) {
  return fc_mpmc_pop_many(q, values, count);
}

static size_t push_one(void *q, const uint64_t *values, size_t count) {
  (void)count;
  return fc_mpmc_push_ptr(q, (void *)(uintptr_t)*values);
}

static size_t pop_one(void *q, uint64_t *values, size_t count) {
  (void)count;
  void *pointer;
  if (!fc_mpmc_pop_ptr(q, &pointer)) return 0;
  *values = (uintptr_t)pointer;
  return 1;
}

static fc_mpmc *made(size_t capacity) {
  fc_mpmc *q;
  CHECK_INT(fc_mpmc_new(&q, &fc_mem_libc, capacity, sizeof(uint64_t)), 0);
  return q;
}

static void test_stress(void) {
  static const size_t sides[][2] = {{1, 1}, {3, 1}, {1, 3}, {3, 3}};
  for (size_t i = 0; i < sizeof sides / sizeof *sides; i++) {
    for (size_t capacity = 2; capacity <= 128; capacity *= 64) {
      fc_mpmc *q = made(capacity);
      fc_mpmc_seek(q, UINT64_MAX - 5000);
      stress s = {.queue = q, .push = push_one, .pop = pop_one, .producers = sides[i][0],
                  .consumers = sides[i][1], .each = capacity == 2 ? 2000 : 15000, .batch = 1,
                  .yields = 2, .fifo = true};
      stress_check("one by one", &s);
      s.push = push_many;
      s.pop = pop_many;
      s.batch = 7;
      stress_check("many", &s);
      CHECK_INT(fc_mpmc_len(q), 0);
      fc_mpmc_free(q, &fc_mem_libc);
    }
  }
}

/* "Full" may be said while a pop, "empty" while a push is under way (mpmc.h). */
static bool may_hide(const history_event *failed, const history_event *other) {
  return other->ok && (failed->op == HISTORY_PUSH) != (other->op == HISTORY_PUSH);
}

static void reset(void *q) {
  fc_mpmc_seek(q, UINT64_MAX - 1);
}

static void act(void *q, rng *random, history_log *log) {
  uint64_t value = history_value(log->thread, log->len), start = history_now(log);
  if (rng_below(random, 2)) {
    bool ok = fc_mpmc_push(q, &value);
    history_add(log, HISTORY_PUSH, start, ok, value);
  } else {
    bool ok = fc_mpmc_pop(q, &value);
    history_add(log, HISTORY_POP, start, ok, value);
  }
}

static void test_small_histories(void) {
  for (size_t capacity = 2; capacity <= 4; capacity *= 2) {
    fc_mpmc *q = made(capacity);
    history_small h = {.reset = reset, .act = act, .may_hide = may_hide, .queue = q, .runs = 4000,
                       .calls = 4, .kind = HISTORY_FIFO, .capacity = capacity};
    CHECK(!history_small_runs(&h, 3, true));
    fc_mpmc_free(q, &fc_mem_libc);
  }
}

int main(void) {
  RUN(test_stress);
  RUN(test_small_histories);
  return 0;
}
