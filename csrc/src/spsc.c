#include "fc/spsc.h"

#include "fc/err.h"

_Static_assert(offsetof(fc_spsc, tail) == FC_CACHE_LINE, "the producer's line");
_Static_assert(offsetof(fc_spsc, head) == 2 * FC_CACHE_LINE, "the consumer's line");
_Static_assert(offsetof(fc_spsc, records) == 3 * FC_CACHE_LINE, "the records' line");

size_t fc_spsc_bytes(size_t capacity, size_t record_bytes) {
  if (!fc_sizes_allowed(capacity, record_bytes)) return 0;
  return fc_slots_bytes(sizeof(fc_spsc), fc_pow2_ceil(capacity), record_bytes);
}

fc_spsc *fc_spsc_place(void *block, size_t capacity, size_t record_bytes) {
  if (!fc_spsc_bytes(capacity, record_bytes) || (uintptr_t)block % 16) return NULL;
  fc_spsc *q = block;
  q->mask = fc_pow2_ceil(capacity) - 1;
  q->record_bytes = record_bytes;
  fc_spsc_seek(q, 0);
  return q;
}

fc_spsc *fc_spsc_attach(void *block, size_t block_bytes) {
  if (block_bytes < sizeof(fc_spsc) || (uintptr_t)block % 16) return NULL;
  fc_spsc *q = block;
  if (q->mask & (q->mask + 1) || q->mask >= FC_MAX_CAPACITY) return NULL;
  size_t needed = fc_spsc_bytes((size_t)q->mask + 1, q->record_bytes);
  return needed && needed <= block_bytes ? q : NULL;
}

int fc_spsc_new(fc_spsc **out, const fc_mem *mem, size_t capacity, size_t record_bytes) {
  *out = NULL;
  size_t bytes = fc_spsc_bytes(capacity, record_bytes);
  if (!bytes) return FC_EINVALID;
  void *block = fc_alloc(mem, bytes);
  if (!block) return FC_ENOMEM;
  *out = fc_spsc_place(block, capacity, record_bytes);
  return 0;
}

void fc_spsc_free(fc_spsc *q, const fc_mem *mem) {
  fc_free(mem, q);
}

void fc_spsc_seek(fc_spsc *q, uint64_t position) {
  q->head_seen = q->tail_seen = position;
  atomic_init(&q->head, position);
  atomic_init(&q->tail, position);
}

size_t fc_spsc_push_many(fc_spsc *q, const void *records, size_t count) {
  fc_span span[2];
  count = fc_spsc_claim(q, count, span);
  if (count == 0) return 0;
  size_t first = span[0].count * q->record_bytes;
  memcpy(span[0].data, records, first);
  memcpy(span[1].data, (const char *)records + first, span[1].count * q->record_bytes);
  fc_spsc_publish(q, count);
  return count;
}

size_t fc_spsc_pop_many(fc_spsc *q, void *records, size_t count) {
  fc_span span[2];
  count = fc_spsc_peek(q, count, span);
  if (count == 0) return 0;
  size_t first = span[0].count * q->record_bytes;
  memcpy(records, span[0].data, first);
  memcpy((char *)records + first, span[1].data, span[1].count * q->record_bytes);
  fc_spsc_consume(q, count);
  return count;
}
