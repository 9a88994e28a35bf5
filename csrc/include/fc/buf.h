/* buf.h - refcounted blocks of memory from a pool with three size classes.
 *
 *     fc_buf | refs cap len | data ........ |
 *                             ^0        ^len        ^cap
 *
 * Whoever holds a reference may read data[0, len); only the block's writer appends, and never
 * rewrites what lies under len while anybody else holds a reference. Counts are not atomic: a pool
 * and its blocks belong to one thread, or to the holder of one lock. */
#ifndef FC_BUF_H
#define FC_BUF_H

#include <stdbool.h>
#include <stdint.h>

#include "fc/mem.h"

#define FC_POOL_CLASSES 3
#define FC_POOL_SMALL_BYTES 4096
#define FC_POOL_MEDIUM_BYTES 16384
#define FC_POOL_LARGE_BYTES 65536

/* Free blocks a pool keeps, per class, before it returns them to the allocator. */
#define FC_POOL_MAX_FREE 64

typedef struct fc_pool fc_pool;

typedef struct fc_buf {
  uint32_t refs;
  uint32_t cap;
  uint32_t len;
  int32_t size_class; /* -1: larger than every class, never pooled */
  fc_pool *pool;
  struct fc_buf *next_free;
  char data[];
} fc_buf;

struct fc_pool {
  const fc_mem *mem;
  fc_buf *free[FC_POOL_CLASSES];
  uint32_t free_count[FC_POOL_CLASSES];
  size_t live;  /* blocks handed out */
  bool closed;
};

fc_pool *fc_pool_new(const fc_mem *mem); /* NULL: out of memory */

/* Gives the free blocks back. The pool itself goes with the last block that is still out. */
void fc_pool_close(fc_pool *pool);

/* A block with room for at least `size` bytes, one reference, len 0; NULL: out of memory, or more
 * than 2^31 bytes asked. */
fc_buf *fc_buf_new(fc_pool *pool, size_t size);

void fc_buf_recycle(fc_buf *b); /* private to fc_buf_unref() */

static inline fc_buf *fc_buf_ref(fc_buf *b) {
  b->refs++;
  return b;
}

static inline void fc_buf_unref(fc_buf *b) {
  if (--b->refs == 0) fc_buf_recycle(b);
}

static inline size_t fc_buf_room(const fc_buf *b) {
  return b->cap - b->len;
}

#endif
