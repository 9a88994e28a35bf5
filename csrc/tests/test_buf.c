/* The pool of blocks. */
#include "check.h"
#include "failmem.h"
#include "fc/buf.h"

static void test_classes(void) {
  static const struct {
    size_t asked;
    uint32_t cap;
  } cases[] = {
      {0, 4096},       {1, 4096},      {4096, 4096},   {4097, 16384},
      {16384, 16384},  {16385, 65536}, {65536, 65536}, {65537, 65537},
      {1 << 20, 1 << 20},
  };
  failmem mem;
  failmem_init(&mem, -1);
  fc_pool *pool = fc_pool_new(&mem.mem);
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    fc_buf *b = fc_buf_new(pool, cases[i].asked);
    CHECK_INT(b->cap, cases[i].cap);
    CHECK_INT(b->len, 0);
    CHECK_INT(fc_buf_room(b), cases[i].cap);
    memset(b->data, 0xA5, b->cap);
    b->len = 7;
    CHECK_INT(fc_buf_room(b), cases[i].cap - 7);
    fc_buf_unref(b);
  }
  CHECK(fc_buf_new(pool, ((size_t)1 << 31) + 1) == NULL);
  CHECK(fc_buf_new(pool, SIZE_MAX) == NULL);
  fc_pool_close(pool);
  CHECK_INT(mem.live, 0);
}

/* A block given back is the next one handed out, and comes empty. */
static void test_reuse(void) {
  failmem mem;
  failmem_init(&mem, -1);
  fc_pool *pool = fc_pool_new(&mem.mem);
  fc_buf *b = fc_buf_new(pool, 100);
  long allocations = mem.total;
  b->len = 50;
  fc_buf_unref(b);
  CHECK(fc_buf_new(pool, 4096) == b);
  CHECK_INT(b->len, 0);
  CHECK_INT(b->refs, 1);
  CHECK_INT(mem.total, allocations);
  fc_buf *other = fc_buf_new(pool, 5000); /* not of the small class */
  CHECK(other != b);
  fc_buf *huge = fc_buf_new(pool, 70000);
  fc_buf_unref(other);
  fc_buf_unref(b);
  long live = mem.live;
  fc_buf_unref(huge); /* of no class: freed at once */
  CHECK_INT(mem.live, live - 1);
  fc_pool_close(pool);
  CHECK_INT(mem.live, 0);
}

static void test_refs(void) {
  failmem mem;
  failmem_init(&mem, -1);
  fc_pool *pool = fc_pool_new(&mem.mem);
  fc_buf *b = fc_buf_new(pool, 10);
  CHECK(fc_buf_ref(b) == b);
  fc_buf_unref(b);
  CHECK_INT(pool->live, 1);
  fc_buf *other = fc_buf_new(pool, 10);
  CHECK(other != b); /* one reference is left */
  fc_buf_unref(b);
  CHECK_INT(pool->live, 1);
  CHECK(fc_buf_new(pool, 10) == b);
  fc_buf_unref(b);
  fc_buf_unref(other);
  CHECK_INT(pool->free_count[0], 2);
  fc_pool_close(pool);
  CHECK_INT(mem.live, 0);
}

/* What the pool keeps is bounded. */
static void test_bound(void) {
  enum { COUNT = FC_POOL_MAX_FREE + 10 };
  static const size_t sizes[] = {FC_POOL_SMALL_BYTES, FC_POOL_MEDIUM_BYTES, FC_POOL_LARGE_BYTES};
  failmem mem;
  failmem_init(&mem, -1);
  fc_pool *pool = fc_pool_new(&mem.mem);
  for (int c = 0; c < FC_POOL_CLASSES; c++) {
    fc_buf *blocks[COUNT];
    for (int i = 0; i < COUNT; i++) blocks[i] = fc_buf_new(pool, sizes[c]);
    for (int i = 0; i < COUNT; i++) fc_buf_unref(blocks[i]);
    CHECK_INT(pool->free_count[c], FC_POOL_MAX_FREE);
    CHECK_INT(mem.live, 1 + (c + 1) * FC_POOL_MAX_FREE);
  }
  fc_pool_close(pool);
  CHECK_INT(mem.live, 0);
}

/* The pool goes with the last block that is out when it is closed. */
static void test_close_with_live_blocks(void) {
  failmem mem;
  failmem_init(&mem, -1);
  fc_pool *pool = fc_pool_new(&mem.mem);
  fc_buf *a = fc_buf_new(pool, 10), *b = fc_buf_new(pool, 70000), *kept = fc_buf_new(pool, 10);
  fc_buf_unref(kept);
  CHECK_INT(mem.live, 4);
  fc_pool_close(pool);
  CHECK_INT(mem.live, 3); /* the pool and two blocks */
  fc_buf_unref(a);
  CHECK_INT(mem.live, 2);
  memset(b->data, 1, b->cap);
  fc_buf_unref(b);
  CHECK_INT(mem.live, 0);
}

static void test_out_of_memory(void) {
  failmem mem;
  failmem_init(&mem, 0);
  CHECK(fc_pool_new(&mem.mem) == NULL);
  failmem_init(&mem, 1);
  mem.once = true;
  fc_pool *pool = fc_pool_new(&mem.mem);
  CHECK(fc_buf_new(pool, 10) == NULL);
  CHECK_INT(pool->live, 0);
  fc_buf *b = fc_buf_new(pool, 10);
  CHECK(b != NULL);
  fc_buf_unref(b);
  mem.fail_at = mem.total;
  mem.once = false;
  CHECK(fc_buf_new(pool, 10) == b); /* a kept one needs no memory */
  CHECK(fc_buf_new(pool, 10) == NULL);
  fc_buf_unref(b);
  fc_pool_close(pool);
  CHECK_INT(mem.live, 0);
}

int main(void) {
  RUN(test_classes);
  RUN(test_reuse);
  RUN(test_refs);
  RUN(test_bound);
  RUN(test_close_with_live_blocks);
  RUN(test_out_of_memory);
  return 0;
}
