/* failmem.h - an allocator that counts live blocks and fails from the n-th allocation on, or at the
 * n-th alone. */
#ifndef FC_FAILMEM_H
#define FC_FAILMEM_H

#include <stdbool.h>
#include <stdlib.h>

#include "fc/mem.h"

typedef struct failmem {
  fc_mem mem;
  long live;  /* blocks not freed */
  long total; /* allocations asked for */
  long fail_at; /* the allocation, counted from 0, from which on all fail; -1: never */
  bool once;    /* ... or which fails alone */
} failmem;

static bool failmem_fails(failmem *f) {
  long at = f->total++;
  return f->fail_at >= 0 && (f->once ? at == f->fail_at : at >= f->fail_at);
}

static void *failmem_alloc(void *ctx, size_t size) {
  failmem *f = ctx;
  if (failmem_fails(f)) return NULL;
  void *p = malloc(size);
  if (p) f->live++;
  return p;
}

static void *failmem_realloc(void *ctx, void *ptr, size_t size) {
  failmem *f = ctx;
  if (failmem_fails(f)) return NULL;
  void *p = realloc(ptr, size);
  if (p && !ptr) f->live++;
  return p;
}

static void failmem_free(void *ctx, void *ptr) {
  failmem *f = ctx;
  if (ptr) f->live--;
  free(ptr);
}

static inline void failmem_init(failmem *f, long fail_at) {
  f->mem = (fc_mem){failmem_alloc, failmem_realloc, failmem_free, f};
  f->live = 0;
  f->total = 0;
  f->fail_at = fail_at;
  f->once = false;
}

#endif
