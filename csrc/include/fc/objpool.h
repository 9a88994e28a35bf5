/* objpool.h - a fixed number of equal objects, which any thread acquires and releases. The one that
 * was released last is acquired first, as it is likely still in a cache.
 *
 *     pool     mem, stride, count, free -> stack of indices | object 0 | object 1 | ...
 *
 * The free ones are the indices on a stack (stack.h), which is lock-free, tells full from empty
 * without a count that threads would quarrel over, and has the argument against ABA. What was done
 * with an object before its release comes before what is done after its next acquisition.
 *
 * Objects are initialised once, when the pool is made, and keep what their users leave in them.
 * Each starts at a multiple of 16 bytes; a pool whose objects different threads write to at the
 * same time asks for a multiple of FC_CACHE_LINE, so that they do not share lines. */
#ifndef FC_OBJPOOL_H
#define FC_OBJPOOL_H

#include "fc/stack.h"

typedef struct fc_objpool {
  const fc_mem *mem;
  fc_stack *free;
  size_t stride; /* object_bytes, rounded up to 16 */
  size_t count;
  unsigned char objects[];
} fc_objpool;

/* A pool of `count` objects of `object_bytes`; each is zeroed, and passed to `init` with `user`
 * unless that is NULL. Returns 0, FC_EINVALID (a size) or FC_ENOMEM; then *out is NULL. */
int fc_objpool_new(fc_objpool **out, const fc_mem *mem, size_t count, size_t object_bytes,
                   void (*init)(void *object, void *user), void *user);

/* Of a pool that nobody uses any more, whoever still has objects. NULL is allowed. */
void fc_objpool_free(fc_objpool *p);

/* An object, or NULL: all are taken. */
static inline void *fc_objpool_acquire(fc_objpool *p) {
  uint32_t index;
  return fc_stack_pop(p->free, &index) ? p->objects + index * p->stride : NULL;
}

/* Whether the object is one of the pool's. */
static inline bool fc_objpool_owns(const fc_objpool *p, const void *object) {
  uintptr_t offset = (uintptr_t)object - (uintptr_t)p->objects;
  return offset < p->count * p->stride && offset % p->stride == 0;
}

/* Gives back an object that was acquired, once. */
static inline void fc_objpool_release(fc_objpool *p, void *object) {
  assert(fc_objpool_owns(p, object));
  size_t offset = (size_t)((unsigned char *)object - p->objects);
  fc_stack_push(p->free, (uint32_t)(offset / p->stride));
}

#endif
