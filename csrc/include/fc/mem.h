/* mem.h - the allocator every object of csrc takes, so that tests can make it fail. */
#ifndef FC_MEM_H
#define FC_MEM_H

#include <stddef.h>

typedef struct fc_mem {
  void *(*alloc)(void *ctx, size_t size);
  void *(*realloc)(void *ctx, void *ptr, size_t size); /* ptr may be NULL */
  void (*free)(void *ctx, void *ptr);                  /* ptr may be NULL */
  void *ctx;
} fc_mem;

/* malloc, realloc and free. */
extern const fc_mem fc_mem_libc;

static inline void *fc_alloc(const fc_mem *m, size_t size) {
  return m->alloc(m->ctx, size);
}

static inline void *fc_realloc(const fc_mem *m, void *ptr, size_t size) {
  return m->realloc(m->ctx, ptr, size);
}

static inline void fc_free(const fc_mem *m, void *ptr) {
  m->free(m->ctx, ptr);
}

/* Zeroed memory for `size` bytes, or NULL. */
void *fc_zalloc(const fc_mem *m, size_t size);

#endif
