#include "fc/objpool.h"

#include <string.h>

#include "fc/err.h"

_Static_assert(offsetof(fc_objpool, objects) % 16 == 0, "objects are aligned as malloc's blocks");

int fc_objpool_new(fc_objpool **out, const fc_mem *mem, size_t count, size_t object_bytes,
                   void (*init)(void *object, void *user), void *user) {
  *out = NULL;
  if (count == 0 || object_bytes == 0 || object_bytes > FC_MAX_RECORD_BYTES) return FC_EINVALID;
  size_t stride = (object_bytes + 15) & ~(size_t)15;
  fc_stack *free;
  int err = fc_stack_new(&free, mem, count); /* which also bounds the count */
  if (err < 0) return err;
  size_t bytes = fc_slots_bytes(sizeof(fc_objpool), count, stride);
  fc_objpool *p = bytes ? fc_alloc(mem, bytes) : NULL;
  if (!p) {
    fc_stack_free(free, mem);
    return bytes ? FC_ENOMEM : FC_EINVALID;
  }
  *p = (fc_objpool){.mem = mem, .free = free, .stride = stride, .count = count};
  memset(p->objects, 0, count * stride);
  for (size_t i = 0; init && i < count; i++) init(p->objects + i * stride, user);
  fc_stack_fill(free);
  *out = p;
  return 0;
}

void fc_objpool_free(fc_objpool *p) {
  if (!p) return;
  fc_stack_free(p->free, p->mem);
  fc_free(p->mem, p);
}
