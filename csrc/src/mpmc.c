#include "fc/mpmc.h"

#include "fc/err.h"

_Static_assert(offsetof(fc_mpmc, tail) == FC_CACHE_LINE, "the producers' line");
_Static_assert(offsetof(fc_mpmc, head) == 2 * FC_CACHE_LINE, "the consumers' line");
_Static_assert(offsetof(fc_mpmc, cells) == 3 * FC_CACHE_LINE, "the cells' line");

int fc_mpmc_new(fc_mpmc **out, const fc_mem *mem, size_t capacity, size_t record_bytes) {
  *out = NULL;
  if (!fc_sizes_allowed(capacity, record_bytes)) return FC_EINVALID;
  uint64_t slots = capacity < 2 ? 2 : fc_pow2_ceil(capacity);
  size_t cell_bytes = sizeof(fc_mpmc_cell) + ((record_bytes + 7) & ~(size_t)7);
  size_t bytes = fc_slots_bytes(sizeof(fc_mpmc), slots, cell_bytes);
  if (!bytes) return FC_EINVALID;
  fc_mpmc *q = fc_alloc(mem, bytes);
  if (!q) return FC_ENOMEM;
  q->mask = slots - 1;
  q->record_bytes = (uint32_t)record_bytes;
  q->cell_bytes = (uint32_t)cell_bytes;
  fc_mpmc_seek(q, 0);
  *out = q;
  return 0;
}

void fc_mpmc_free(fc_mpmc *q, const fc_mem *mem) {
  fc_free(mem, q);
}

void fc_mpmc_seek(fc_mpmc *q, uint64_t position) {
  atomic_init(&q->head, position);
  atomic_init(&q->tail, position);
  for (uint64_t i = 0; i <= q->mask; i++)
    atomic_init(&fc_mpmc_at(q, position + i, q->cell_bytes)->turn, position + i);
}

size_t fc_mpmc_push_many(fc_mpmc *q, const void *records, size_t count) {
  return fc_mpmc_put(q, records, count, q->record_bytes, q->cell_bytes);
}

size_t fc_mpmc_pop_many(fc_mpmc *q, void *records, size_t count) {
  return fc_mpmc_get(q, records, count, q->record_bytes, q->cell_bytes);
}
