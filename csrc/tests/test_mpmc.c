/* The queue in one thread: sizes, edges, positions that wrap, many at once. */
#include "check.h"
#include "failmem.h"
#include "fc/err.h"
#include "fc/mpmc.h"
#include "rng.h"

static fc_mpmc *made(size_t capacity, size_t record_bytes) {
  fc_mpmc *q;
  CHECK_INT(fc_mpmc_new(&q, &fc_mem_libc, capacity, record_bytes), 0);
  return q;
}

static void test_sizes(void) {
  static const size_t asked[] = {1, 2, 3, 5, 1000}, given[] = {2, 2, 4, 8, 1024};
  for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
    fc_mpmc *q = made(asked[i], 5);
    CHECK_INT(fc_mpmc_capacity(q), given[i]);
    fc_mpmc_free(q, &fc_mem_libc);
  }
  fc_mpmc *q;
  CHECK_INT(fc_mpmc_new(&q, &fc_mem_libc, 0, 8), FC_EINVALID);
  CHECK_INT(fc_mpmc_new(&q, &fc_mem_libc, 8, 0), FC_EINVALID);
  CHECK_INT(fc_mpmc_new(&q, &fc_mem_libc, SIZE_MAX, 8), FC_EINVALID);
  CHECK_INT(fc_mpmc_new(&q, &fc_mem_libc, 8, SIZE_MAX), FC_EINVALID);
  CHECK_INT(fc_mpmc_new(&q, &fc_mem_libc, FC_MAX_CAPACITY, FC_MAX_RECORD_BYTES), FC_EINVALID);
  CHECK(!q);
  fc_mpmc_free(NULL, &fc_mem_libc);
}

static void test_oom(void) {
  failmem f;
  failmem_init(&f, 0);
  fc_mpmc *q;
  CHECK_INT(fc_mpmc_new(&q, &f.mem, 8, 8), FC_ENOMEM);
  CHECK(!q);
  failmem_init(&f, -1);
  CHECK_INT(fc_mpmc_new(&q, &f.mem, 8, 8), 0);
  fc_mpmc_free(q, &f.mem);
  CHECK_INT(f.total, 1);
  CHECK_INT(f.live, 0);
}

static void test_full_and_empty(void) {
  static const uint64_t starts[] = {0, 3, UINT32_MAX - 2, UINT64_MAX - 2, INT64_MAX - 2};
  for (size_t s = 0; s < sizeof starts / sizeof *starts; s++) {
    for (uintptr_t capacity = 2; capacity <= 8; capacity *= 2) {
      fc_mpmc *q = made(capacity, sizeof(void *));
      fc_mpmc_seek(q, starts[s]);
      void *out = NULL;
      for (uintptr_t lap = 0; lap < 5; lap++) {
        CHECK(!fc_mpmc_pop_ptr(q, &out));
        for (uintptr_t i = 0; i < capacity; i++) {
          CHECK_INT(fc_mpmc_len(q), i);
          CHECK(fc_mpmc_push_ptr(q, (void *)(lap * capacity + i)));
        }
        CHECK(!fc_mpmc_push_ptr(q, q));
        for (uintptr_t i = 0; i < capacity; i++) {
          CHECK(fc_mpmc_pop_ptr(q, &out));
          CHECK((uintptr_t)out == lap * capacity + i);
        }
      }
      fc_mpmc_free(q, &fc_mem_libc);
    }
  }
}

/* Against two counters: any mix of sizes, records of eleven bytes. */
static void test_batches(void) {
  fc_mpmc *q = made(16, 11);
  fc_mpmc_seek(q, UINT64_MAX - 5000);
  rng g = rng_seeded(3);
  uint32_t pushed = 0, popped = 0;
  for (int round = 0; round < 20000; round++) {
    uint8_t records[20][11];
    size_t count = rng_below(&g, 21), moved;
    if (rng_below(&g, 2)) {
      for (uint32_t i = 0; i < count; i++)
        for (uint32_t k = 0; k < 11; k++) records[i][k] = (uint8_t)((pushed + i) * 7 + k);
      moved = count == 1 ? fc_mpmc_push(q, records) : fc_mpmc_push_many(q, records, count);
      size_t room = 16 - (pushed - popped);
      CHECK_INT(moved, count < room ? count : room);
      pushed += (uint32_t)moved;
    } else {
      moved = count == 1 ? fc_mpmc_pop(q, records) : fc_mpmc_pop_many(q, records, count);
      CHECK_INT(moved, count < pushed - popped ? count : pushed - popped);
      for (uint32_t i = 0; i < moved; i++, popped++)
        for (uint32_t k = 0; k < 11; k++) CHECK_INT(records[i][k], (uint8_t)(popped * 7 + k));
    }
    CHECK_INT(fc_mpmc_len(q), pushed - popped);
  }
  CHECK(popped > 10000);
  fc_mpmc_free(q, &fc_mem_libc);
}

/* A producer that took a position and stands still hides what comes later, and blocks the lap. */
static void test_stalled_producer(void) {
  fc_mpmc *q = made(4, sizeof(void *));
  uint64_t at;
  CHECK_INT(fc_mpmc_take(q, &q->tail, 0, 1, q->cell_bytes, &at), 1);
  void *out = NULL;
  for (uintptr_t i = 0; i < 3; i++) CHECK(fc_mpmc_push_ptr(q, (void *)i));
  CHECK(!fc_mpmc_pop_ptr(q, &out));
  CHECK(!fc_mpmc_push_ptr(q, NULL));
  atomic_store(&fc_mpmc_at(q, at, q->cell_bytes)->turn, at + 1); /* goes on */
  uint64_t all[4];
  CHECK_INT(fc_mpmc_pop_many(q, all, 4), 4);
  CHECK_INT(all[3], 2);
  fc_mpmc_free(q, &fc_mem_libc);
}

int main(void) {
  RUN(test_sizes);
  RUN(test_oom);
  RUN(test_full_and_empty);
  RUN(test_batches);
  RUN(test_stalled_producer);
  return 0;
}
