#include "fc/stack.h"

#include "fc/err.h"

_Static_assert(offsetof(fc_stack, head) == FC_CACHE_LINE, "the head's line");
_Static_assert(offsetof(fc_stack, next) == 2 * FC_CACHE_LINE, "the links' line");

int fc_stack_new(fc_stack **out, const fc_mem *mem, size_t capacity) {
  *out = NULL;
  if (capacity == 0 || capacity > FC_STACK_MAX_CAPACITY) return FC_EINVALID;
  size_t bytes = fc_slots_bytes(sizeof(fc_stack), capacity, sizeof(uint32_t));
  if (!bytes) return FC_EINVALID;
  fc_stack *s = fc_alloc(mem, bytes);
  if (!s) return FC_ENOMEM;
  s->capacity = (uint32_t)capacity;
  s->index_bits = 64 - (uint32_t)__builtin_clzll(capacity); /* the largest value is `capacity` */
  for (size_t i = 0; i < capacity; i++) atomic_init(&s->next[i], 0);
  atomic_init(&s->head, 0);
  *out = s;
  return 0;
}

void fc_stack_free(fc_stack *s, const fc_mem *mem) {
  fc_free(mem, s);
}

void fc_stack_fill(fc_stack *s) {
  for (uint32_t i = s->capacity; i-- > 0;) fc_stack_push(s, i);
}

void fc_stack_seek(fc_stack *s, uint64_t tag) {
  atomic_init(&s->head, tag << s->index_bits);
}

void fc_stack_push_many(fc_stack *s, const uint32_t *indices, size_t count) {
  if (count == 0) return;
  for (size_t i = 1; i < count; i++)
    atomic_store_explicit(&s->next[indices[i]], indices[i - 1] + 1, memory_order_relaxed);
  fc_stack_put(s, indices[count - 1], indices[0]);
}
