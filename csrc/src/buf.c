#include "fc/buf.h"

static const uint32_t class_bytes[FC_POOL_CLASSES] = {
    FC_POOL_SMALL_BYTES, FC_POOL_MEDIUM_BYTES, FC_POOL_LARGE_BYTES};

#define MAX_BLOCK_BYTES ((size_t)1 << 31)

fc_pool *fc_pool_new(const fc_mem *mem) {
  fc_pool *pool = fc_zalloc(mem, sizeof *pool);
  if (pool) pool->mem = mem;
  return pool;
}

void fc_pool_close(fc_pool *pool) {
  pool->closed = true;
  for (int c = 0; c < FC_POOL_CLASSES; c++) {
    while (pool->free[c]) {
      fc_buf *b = pool->free[c];
      pool->free[c] = b->next_free;
      fc_free(pool->mem, b);
    }
    pool->free_count[c] = 0;
  }
  if (pool->live == 0) fc_free(pool->mem, pool);
}

static int class_of(size_t size) {
  for (int c = 0; c < FC_POOL_CLASSES; c++)
    if (size <= class_bytes[c]) return c;
  return -1;
}

fc_buf *fc_buf_new(fc_pool *pool, size_t size) {
  if (size > MAX_BLOCK_BYTES) return NULL;
  int c = class_of(size);
  fc_buf *b = c >= 0 ? pool->free[c] : NULL;
  if (b) {
    pool->free[c] = b->next_free;
    pool->free_count[c]--;
  } else {
    size_t cap = c >= 0 ? class_bytes[c] : size;
    b = fc_alloc(pool->mem, sizeof *b + cap);
    if (!b) return NULL;
    b->cap = (uint32_t)cap;
    b->size_class = c;
    b->pool = pool;
  }
  b->refs = 1;
  b->len = 0;
  b->next_free = NULL;
  pool->live++;
  return b;
}

void fc_buf_recycle(fc_buf *b) {
  fc_pool *pool = b->pool;
  int c = b->size_class;
  pool->live--;
  if (c >= 0 && !pool->closed && pool->free_count[c] < FC_POOL_MAX_FREE) {
    b->next_free = pool->free[c];
    pool->free[c] = b;
    pool->free_count[c]++;
    return;
  }
  fc_free(pool->mem, b);
  if (pool->closed && pool->live == 0) fc_free(pool->mem, pool);
}
