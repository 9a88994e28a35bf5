#include "fc/wsdeque.h"

#include "fc/err.h"

_Static_assert(offsetof(fc_wsdeque, bottom) == FC_CACHE_LINE, "the owner's line");
_Static_assert(offsetof(fc_wsdeque, top) == 2 * FC_CACHE_LINE, "the thieves' line");

static fc_wsarray *new_array(const fc_mem *mem, uint64_t capacity, fc_wsarray *older) {
  size_t bytes = fc_slots_bytes(sizeof(fc_wsarray), capacity, sizeof(void *));
  fc_wsarray *a = bytes ? fc_alloc(mem, bytes) : NULL;
  if (!a) return NULL;
  a->older = older;
  a->mask = capacity - 1;
  /* A thief that is about to lose may read any slot. */
  for (uint64_t i = 0; i < capacity; i++) atomic_init(&a->slots[i], NULL);
  return a;
}

int fc_wsdeque_new(fc_wsdeque **out, const fc_mem *mem, size_t capacity, size_t max_capacity) {
  *out = NULL;
  if (capacity == 0 || capacity > max_capacity || max_capacity > FC_MAX_CAPACITY)
    return FC_EINVALID;
  fc_wsdeque *d = fc_alloc(mem, sizeof *d);
  if (!d) return FC_ENOMEM;
  fc_wsarray *array = new_array(mem, fc_pow2_ceil(capacity), NULL);
  if (!array) {
    fc_free(mem, d);
    return FC_ENOMEM;
  }
  d->mem = mem;
  d->max_capacity = fc_pow2_ceil(max_capacity);
  atomic_init(&d->array, array);
  fc_wsdeque_seek(d, 0);
  *out = d;
  return 0;
}

void fc_wsdeque_free(fc_wsdeque *d) {
  if (!d) return;
  fc_wsarray *a = atomic_load_explicit(&d->array, memory_order_relaxed);
  while (a) {
    fc_wsarray *older = a->older;
    fc_free(d->mem, a);
    a = older;
  }
  fc_free(d->mem, d);
}

void fc_wsdeque_seek(fc_wsdeque *d, int64_t index) {
  d->top_seen = index;
  atomic_init(&d->top, index);
  atomic_init(&d->bottom, index);
}

int fc_wsdeque_grow(fc_wsdeque *d, int64_t bottom) {
  fc_wsarray *from = atomic_load_explicit(&d->array, memory_order_relaxed);
  uint64_t capacity = from->mask + 1;
  if (capacity >= d->max_capacity) return FC_ELIMIT;
  fc_wsarray *to = new_array(d->mem, 2 * capacity, from);
  if (!to) return FC_ENOMEM;
  for (int64_t i = d->top_seen; i < bottom; i++) {
    void *element = atomic_load_explicit(&from->slots[(uint64_t)i & from->mask],
                                         memory_order_relaxed);
    atomic_store_explicit(&to->slots[(uint64_t)i & to->mask], element, memory_order_relaxed);
  }
  FC_RACE_POINT();
  atomic_store_explicit(&d->array, to, memory_order_release);
  return 0;
}
