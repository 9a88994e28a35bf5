/* spsc.h - a bounded ring of fixed-size records between one producer and one consumer.
 *
 *     +0    mask, record_bytes     written once
 *     +128  tail, head_seen        the producer's
 *     +256  head, tail_seen        the consumer's
 *     +384  record 0 | record 1 | ... | record `mask`
 *
 *           head          tail               head <= tail <= head + capacity
 *            v             v
 *     .......[#############]..........
 *      free      filled       free
 *
 * Lamport's ring (1977), each side keeping a copy of the other's index (Lee, Bu and Chandranmenon,
 * "MCRingBuffer", 2010): the peer's line is fetched only when the copy says full or empty, so in a
 * steady stream once per many records.
 *
 * Memory orders. An index has one writer, which reads its own relaxed. The producer stores `tail`
 * with release after it wrote the records, the consumer loads it with acquire before it reads them.
 * The consumer stores `head` with release after it read them, the producer loads it with acquire
 * before it overwrites them. Nothing else is shared, so nothing needs more. Each call is wait-free,
 * and every one of its answers, full and empty included, is linearizable. Positions never come back
 * (concurrent.h) and are not compared and swapped: no ABA.
 *
 * There is no pointer in the ring: a block of fc_spsc_bytes() in memory that two processes share
 * may be placed by one and attached by the other, at different addresses. A process that is killed
 * between claim and publish, or between peek and consume, leaves the ring as if it had not begun;
 * another one may go on in its stead, since what a side knows beyond its index is a copy that is
 * at worst too old, which is safe. */
#ifndef FC_SPSC_H
#define FC_SPSC_H

#include <string.h>

#include "fc/concurrent.h"
#include "fc/mem.h"

typedef struct fc_spsc {
  uint64_t mask; /* capacity - 1 */
  uint64_t record_bytes;
  FC_LINE_REST(rest0, 16);
  _Atomic uint64_t tail; /* records published since the beginning */
  uint64_t head_seen;
  FC_LINE_REST(rest1, 16);
  _Atomic uint64_t head; /* records consumed since the beginning */
  uint64_t tail_seen;
  FC_LINE_REST(rest2, 16);
  unsigned char records[];
} fc_spsc;

/* Records that lie one after another. */
typedef struct fc_span {
  void *data;
  size_t count;
} fc_span;

/* What a ring takes, or 0: a size is zero or too large. The capacity is rounded up to a power of
 * two, here and below. */
size_t fc_spsc_bytes(size_t capacity, size_t record_bytes);

/* Makes an empty ring of a block of fc_spsc_bytes(), aligned to 16 bytes. NULL: bad sizes or a bad
 * alignment. Nothing need be undone. */
fc_spsc *fc_spsc_place(void *block, size_t capacity, size_t record_bytes);

/* The ring that lies in a block of `block_bytes`; NULL if none fits in there. Checks sizes only:
 * who shares a block agrees by other means that it is a ring. */
fc_spsc *fc_spsc_attach(void *block, size_t block_bytes);

/* A ring in memory of `mem`. Returns 0, FC_EINVALID (a size) or FC_ENOMEM; then *out is NULL. */
int fc_spsc_new(fc_spsc **out, const fc_mem *mem, size_t capacity, size_t record_bytes);

/* Of a ring from fc_spsc_new(), which nobody uses any more. NULL is allowed. */
void fc_spsc_free(fc_spsc *q, const fc_mem *mem);

/* For tests: empties an unused ring and starts its positions at `position`. */
void fc_spsc_seek(fc_spsc *q, uint64_t position);

static inline size_t fc_spsc_capacity(const fc_spsc *q) {
  return (size_t)q->mask + 1;
}

/* Exact for the producer and the consumer while the other rests; else a moment's view, by any
 * thread, and never more than the capacity. `head` is read first, with acquire, so that the `tail`
 * read after it is not one that it has overtaken; that one needs no more, as no record is read. */
static inline size_t fc_spsc_len(const fc_spsc *q) {
  uint64_t head = atomic_load_explicit(&q->head, memory_order_acquire);
  uint64_t len = atomic_load_explicit(&q->tail, memory_order_relaxed) - head;
  return len > q->mask ? (size_t)q->mask + 1 : (size_t)len;
}

static inline void *fc_spsc_slot(fc_spsc *q, uint64_t position) {
  return q->records + (position & q->mask) * q->record_bytes;
}

/* The record `index` places behind the oldest, or NULL; while nobody else uses the ring. */
static inline void *fc_spsc_look(fc_spsc *q, size_t index) {
  uint64_t position = atomic_load_explicit(&q->head, memory_order_relaxed) + index;
  return index < fc_spsc_len(q) ? fc_spsc_slot(q, position) : NULL;
}

/* Room for up to `want` records from `*tail` on. Looks at the consumer's line only if need be. */
static inline size_t fc_spsc_room(fc_spsc *q, size_t want, uint64_t *tail) {
  *tail = atomic_load_explicit(&q->tail, memory_order_relaxed);
  uint64_t room = q->mask + 1 - (*tail - q->head_seen);
  if (room < want) {
    q->head_seen = atomic_load_explicit(&q->head, memory_order_acquire);
    room = q->mask + 1 - (*tail - q->head_seen);
  }
  return room < want ? (size_t)room : want;
}

/* Up to `want` published records from `*head` on. */
static inline size_t fc_spsc_ready(fc_spsc *q, size_t want, uint64_t *head) {
  *head = atomic_load_explicit(&q->head, memory_order_relaxed);
  uint64_t ready = q->tail_seen - *head;
  if (ready < want) {
    q->tail_seen = atomic_load_explicit(&q->tail, memory_order_acquire);
    ready = q->tail_seen - *head;
  }
  return ready < want ? (size_t)ready : want;
}

/* The slots of `count` records: two spans where they wrap, else the second one is empty. */
static inline void fc_spsc_spans(fc_spsc *q, uint64_t position, size_t count, fc_span span[2]) {
  size_t to_end = (size_t)(q->mask + 1 - (position & q->mask));
  size_t first = count < to_end ? count : to_end;
  span[0] = (fc_span){fc_spsc_slot(q, position), first};
  span[1] = (fc_span){q->records, count - first};
}

/* ---- the producer's side --------------------------------------------------------------------- */

/* Slots for up to `want` records, to be filled and then published. Returns how many there are, 0
 * when the ring is full. Claiming again without publishing gives the same slots. */
static inline size_t fc_spsc_claim(fc_spsc *q, size_t want, fc_span span[2]) {
  uint64_t tail;
  size_t count = fc_spsc_room(q, want, &tail);
  fc_spsc_spans(q, tail, count, span);
  return count;
}

/* Hands the first `count` of the claimed records to the consumer; the rest is given up. */
static inline void fc_spsc_publish(fc_spsc *q, size_t count) {
  uint64_t tail = atomic_load_explicit(&q->tail, memory_order_relaxed);
  assert(count <= q->mask + 1 - (tail - q->head_seen));
  FC_RACE_POINT();
  atomic_store_explicit(&q->tail, tail + count, memory_order_release);
}

/* Copies one record in. False: full. */
static inline bool fc_spsc_push(fc_spsc *q, const void *record) {
  uint64_t tail;
  if (!fc_spsc_room(q, 1, &tail)) return false;
  memcpy(fc_spsc_slot(q, tail), record, q->record_bytes);
  FC_RACE_POINT();
  atomic_store_explicit(&q->tail, tail + 1, memory_order_release);
  return true;
}

/* fc_spsc_push() of a pointer itself, for rings whose records are pointers. */
static inline bool fc_spsc_push_ptr(fc_spsc *q, void *pointer) {
  assert(q->record_bytes == sizeof pointer);
  uint64_t tail;
  if (!fc_spsc_room(q, 1, &tail)) return false;
  memcpy(q->records + (tail & q->mask) * sizeof pointer, &pointer, sizeof pointer);
  FC_RACE_POINT();
  atomic_store_explicit(&q->tail, tail + 1, memory_order_release);
  return true;
}

/* Copies in as many of `count` records as there is room for, in order, seen all at once. Returns
 * how many. */
size_t fc_spsc_push_many(fc_spsc *q, const void *records, size_t count);

/* ---- the consumer's side --------------------------------------------------------------------- */

/* Up to `want` published records, which stay until they are consumed. Returns how many, 0 when the
 * ring is empty. */
static inline size_t fc_spsc_peek(fc_spsc *q, size_t want, fc_span span[2]) {
  uint64_t head;
  size_t count = fc_spsc_ready(q, want, &head);
  fc_spsc_spans(q, head, count, span);
  return count;
}

/* Gives the slots of the first `count` records back; they were seen by peek. */
static inline void fc_spsc_consume(fc_spsc *q, size_t count) {
  uint64_t head = atomic_load_explicit(&q->head, memory_order_relaxed);
  assert(count <= q->tail_seen - head);
  FC_RACE_POINT();
  atomic_store_explicit(&q->head, head + count, memory_order_release);
}

/* Copies one record out. False: empty. */
static inline bool fc_spsc_pop(fc_spsc *q, void *record) {
  uint64_t head;
  if (!fc_spsc_ready(q, 1, &head)) return false;
  memcpy(record, fc_spsc_slot(q, head), q->record_bytes);
  FC_RACE_POINT();
  atomic_store_explicit(&q->head, head + 1, memory_order_release);
  return true;
}

/* fc_spsc_pop() of a pointer itself. */
static inline bool fc_spsc_pop_ptr(fc_spsc *q, void **pointer) {
  assert(q->record_bytes == sizeof *pointer);
  uint64_t head;
  if (!fc_spsc_ready(q, 1, &head)) return false;
  memcpy(pointer, q->records + (head & q->mask) * sizeof *pointer, sizeof *pointer);
  FC_RACE_POINT();
  atomic_store_explicit(&q->head, head + 1, memory_order_release);
  return true;
}

/* Copies out up to `count` records. Returns how many. */
size_t fc_spsc_pop_many(fc_spsc *q, void *records, size_t count);

#endif
