/* One producer and one consumer: delivery, order, and answers that are strictly linearizable. */
#include "stress.h"

#include "fc/spsc.h"

#define EACH 60000

static size_t push_many(void *q, const uint64_t *values, size_t count) {
  return fc_spsc_push_many(q, values, count);
}

static size_t pop_many(void *q, uint64_t *values, size_t count) {
  return fc_spsc_pop_many(q, values, count);
}

static size_t push_one(void *q, const uint64_t *values, size_t count) {
  (void)count;
  return fc_spsc_push(q, values);
}

static size_t pop_one(void *q, uint64_t *values, size_t count) {
  (void)count;
  return fc_spsc_pop(q, values);
}

static size_t push_ptr(void *q, const uint64_t *values, size_t count) {
  (void)count;
  return fc_spsc_push_ptr(q, (void *)(uintptr_t)*values);
}

static size_t pop_ptr(void *q, uint64_t *values, size_t count) {
  (void)count;
  void *pointer;
  if (!fc_spsc_pop_ptr(q, &pointer)) return 0;
  *values = (uintptr_t)pointer;
  return 1;
}

static fc_spsc *made(size_t capacity) {
  fc_spsc *q;
  CHECK_INT(fc_spsc_new(&q, &fc_mem_libc, capacity, sizeof(uint64_t)), 0);
  return q;
}

static void test_stress(void) {
  for (size_t capacity = 1; capacity <= 1024; capacity *= 32) {
    fc_spsc *q = made(capacity);
    fc_spsc_seek(q, UINT64_MAX - EACH / 2);
    stress s = {.queue = q, .push = push_one, .pop = pop_one, .producers = 1, .consumers = 1,
                .each = capacity == 1 ? EACH / 20 : EACH, .batch = 1, .yields = 1, .fifo = true};
    stress_check("one by one", &s);
    s.push = push_ptr;
    s.pop = pop_ptr;
    stress_check("pointers", &s);
    s.push = push_many;
    s.pop = pop_many;
    s.batch = STRESS_MAX_BATCH;
    stress_check("many", &s);
    CHECK_INT(fc_spsc_len(q), 0);
    fc_spsc_free(q, &fc_mem_libc);
  }
}

static void reset(void *q) {
  fc_spsc_seek(q, UINT64_MAX - 1);
}

static void act(void *q, rng *random, history_log *log) {
  (void)random;
  uint64_t start = history_now(log), value = log->len;
  if (log->thread == 0) {
    bool ok = fc_spsc_push(q, &value);
    history_add(log, HISTORY_PUSH, start, ok, value);
  } else {
    bool ok = fc_spsc_pop(q, &value);
    history_add(log, HISTORY_POP, start, ok, value);
  }
}

static void test_small_histories(void) {
  fc_spsc *q = made(2);
  history_small h = {.reset = reset, .act = act, .queue = q, .runs = 5000, .calls = 6,
                     .kind = HISTORY_FIFO, .capacity = 2};
  CHECK(!history_small_runs(&h, 2, true));
  fc_spsc_free(q, &fc_mem_libc);
}

int main(void) {
  RUN(test_stress);
  RUN(test_small_histories);
  return 0;
}
