/* The ring alone: sizes, edges, positions that wrap, placed and attached blocks. */
#include "check.h"
#include "failmem.h"
#include "fc/err.h"
#include "fc/spsc.h"
#include "rng.h"

static fc_spsc *made(size_t capacity, size_t record_bytes) {
  fc_spsc *q;
  CHECK_INT(fc_spsc_new(&q, &fc_mem_libc, capacity, record_bytes), 0);
  return q;
}

static void test_sizes(void) {
  static const size_t asked[] = {1, 2, 3, 4, 5, 1000, 1024}, given[] = {1, 2, 4, 4, 8, 1024, 1024};
  for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
    fc_spsc *q = made(asked[i], 8);
    CHECK_INT(fc_spsc_capacity(q), given[i]);
    fc_spsc_free(q, &fc_mem_libc);
  }
  fc_spsc *q = (fc_spsc *)&q;
  CHECK_INT(fc_spsc_new(&q, &fc_mem_libc, 0, 8), FC_EINVALID);
  CHECK(!q);
  CHECK_INT(fc_spsc_new(&q, &fc_mem_libc, 8, 0), FC_EINVALID);
  CHECK_INT(fc_spsc_new(&q, &fc_mem_libc, SIZE_MAX, 8), FC_EINVALID);
  CHECK_INT(fc_spsc_new(&q, &fc_mem_libc, 8, SIZE_MAX), FC_EINVALID);
  CHECK_INT(fc_spsc_new(&q, &fc_mem_libc, FC_MAX_CAPACITY, FC_MAX_RECORD_BYTES), FC_EINVALID);
  fc_spsc_free(NULL, &fc_mem_libc);
}

static void test_oom(void) {
  failmem f;
  failmem_init(&f, 0);
  fc_spsc *q;
  CHECK_INT(fc_spsc_new(&q, &f.mem, 8, 8), FC_ENOMEM);
  CHECK(!q);
  failmem_init(&f, -1);
  CHECK_INT(fc_spsc_new(&q, &f.mem, 8, 8), 0);
  CHECK_INT(f.live, 1);
  fc_spsc_free(q, &f.mem);
  CHECK_INT(f.live, 0);
}

/* Fills and empties, starting where positions, or their lower halves, are about to wrap. */
static void test_full_and_empty(void) {
  static const uint64_t starts[] = {0, 7, UINT32_MAX - 2, UINT64_MAX - 2};
  for (size_t s = 0; s < sizeof starts / sizeof *starts; s++) {
    fc_spsc *q = made(4, sizeof(uint64_t));
    fc_spsc_seek(q, starts[s]);
    for (uint64_t lap = 0; lap < 5; lap++) {
      uint64_t out = 0;
      CHECK(!fc_spsc_pop(q, &out));
      for (uint64_t i = 0; i < 4; i++) {
        uint64_t in = lap * 4 + i;
        CHECK_INT(fc_spsc_len(q), i);
        CHECK(fc_spsc_push(q, &in));
      }
      CHECK(!fc_spsc_push(q, &out));
      CHECK_INT(fc_spsc_len(q), 4);
      for (uint64_t i = 0; i < 4; i++) {
        CHECK(fc_spsc_pop(q, &out));
        CHECK_INT(out, lap * 4 + i);
      }
    }
    fc_spsc_free(q, &fc_mem_libc);
  }
}

static void test_capacity_one(void) {
  fc_spsc *q = made(1, sizeof(void *));
  int a, b;
  void *out = NULL;
  for (int i = 0; i < 3; i++) {
    CHECK(fc_spsc_push_ptr(q, &a));
    CHECK(!fc_spsc_push_ptr(q, &b));
    CHECK(fc_spsc_pop_ptr(q, &out) && out == &a);
    CHECK(!fc_spsc_pop_ptr(q, &out));
  }
  fc_spsc_free(q, &fc_mem_libc);
}

static void test_spans(void) {
  fc_spsc *q = made(8, sizeof(uint32_t));
  fc_spsc_seek(q, UINT64_MAX - 2); /* slot 5: the third record is the last one before the wrap */
  fc_span span[2];
  CHECK_INT(fc_spsc_peek(q, 8, span), 0);
  CHECK_INT(fc_spsc_claim(q, 6, span), 6);
  CHECK_INT(span[0].count, 3);
  CHECK_INT(span[1].count, 3);
  for (uint32_t i = 0; i < 6; i++) ((uint32_t *)span[i / 3].data)[i % 3] = i;
  CHECK_INT(fc_spsc_len(q), 0); /* nothing is seen before it is published */
  fc_spsc_publish(q, 5);        /* the sixth is given up */
  CHECK_INT(fc_spsc_claim(q, 100, span), 3);
  CHECK_INT(span[0].count, 3);
  CHECK_INT(span[1].count, 0);
  fc_spsc_publish(q, 0);
  CHECK_INT(fc_spsc_peek(q, 100, span), 5);
  CHECK_INT(span[0].count, 3);
  CHECK_INT(span[1].count, 2);
  for (uint32_t i = 0; i < 5; i++) CHECK_INT(((uint32_t *)span[i / 3].data)[i % 3], i);
  fc_spsc_consume(q, 4);
  CHECK_INT(fc_spsc_peek(q, 100, span), 1);
  CHECK_INT(*(uint32_t *)span[0].data, 4);
  fc_spsc_free(q, &fc_mem_libc);
}

/* Against two counters: any mix of sizes, records of three bytes. */
static void test_batches(void) {
  fc_spsc *q = made(16, 3);
  rng g = rng_seeded(3);
  uint32_t pushed = 0, popped = 0;
  for (int round = 0; round < 20000; round++) {
    uint8_t records[20][3];
    size_t count = rng_below(&g, 21), moved;
    if (rng_below(&g, 2)) {
      for (uint32_t i = 0; i < count; i++)
        for (int k = 0; k < 3; k++) records[i][k] = (uint8_t)((pushed + i) >> 8 * k);
      moved = fc_spsc_push_many(q, records, count);
      size_t room = 16 - (pushed - popped);
      CHECK_INT(moved, count < room ? count : room);
      pushed += (uint32_t)moved;
    } else {
      moved = fc_spsc_pop_many(q, records, count);
      CHECK_INT(moved, count < pushed - popped ? count : pushed - popped);
      for (uint32_t i = 0; i < moved; i++, popped++)
        for (int k = 0; k < 3; k++) CHECK_INT(records[i][k], (uint8_t)(popped >> 8 * k));
    }
    CHECK_INT(fc_spsc_len(q), pushed - popped);
  }
  CHECK(popped > 10000);
  fc_spsc_free(q, &fc_mem_libc);
}

/* A ring in a block, and the same bytes at another address. */
static void test_place_and_attach(void) {
  size_t bytes = fc_spsc_bytes(4, 8);
  char *block = malloc(bytes), *moved = malloc(bytes);
  CHECK(block && moved);
  CHECK(!fc_spsc_place(block + 8, 4, 8));
  CHECK(!fc_spsc_place(block, 0, 8));
  fc_spsc *q = fc_spsc_place(block, 4, 8);
  CHECK(q);
  for (uint64_t i = 0; i < 3; i++) CHECK(fc_spsc_push(q, &i));
  memcpy(moved, block, bytes);
  memset(block, 0xff, bytes);
  CHECK(!fc_spsc_attach(block, bytes));
  CHECK(!fc_spsc_attach(moved, bytes - 1));
  CHECK(!fc_spsc_attach(moved, 16));
  q = fc_spsc_attach(moved, bytes);
  CHECK(q);
  for (uint64_t i = 0; i < 3; i++) {
    uint64_t out;
    CHECK(fc_spsc_pop(q, &out));
    CHECK_INT(out, i);
  }
  free(block);
  free(moved);
}

int main(void) {
  RUN(test_sizes);
  RUN(test_oom);
  RUN(test_full_and_empty);
  RUN(test_capacity_one);
  RUN(test_spans);
  RUN(test_batches);
  RUN(test_place_and_attach);
  return 0;
}
