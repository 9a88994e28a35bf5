/* mpmc.h - a bounded queue of fixed-size records for many producers and many consumers.
 *
 *     +0    mask, record_bytes, cell_bytes    written once
 *     +128  tail                              the producers'
 *     +256  head                              the consumers'
 *     +384  cell 0 | cell 1 | ... | cell `mask`
 *
 *     cell  | turn (8 bytes) | record, padded to a multiple of 8 |
 *
 * Dmitry Vyukov's bounded queue (1024cores.net, 2010). The cell of position p has, as its turn,
 *
 *     p                  free: the producer that moves `tail` from p to p + 1 fills it
 *     p + 1              filled: the consumer that moves `head` from p to p + 1 empties it
 *     p + capacity       free again, for the next lap
 *
 * so a capacity of 1 cannot be (filled and free-again would be one number): the least is 2.
 *
 * Memory orders. A turn is stored with release after the record was written or read, and loaded
 * with acquire before it is read or overwritten: that orders everything in the record. `head` and
 * `tail` only hand out positions and are relaxed for whoever pushes and pops; a position that is
 * out of date makes the turn differ or the exchange fail. They never return to a value
 * (concurrent.h), hence no ABA.
 *
 * What is guaranteed: calls that succeed are linearizable as operations of one FIFO queue, in the
 * order of their positions; so records of one producer are popped in the order of their pushes.
 *
 * What is not: it is not lock-free in the strict sense. A thread that is held up between taking a
 * position and storing the turn (a few instructions; no call is made there) keeps consumers from
 * passing its cell, and a lap later producers; a thread that dies there stops the queue for good,
 * so the structure must not be shared between processes. And for this reason false means: empty
 * (full), or the next record is (slot's last record is still) in the hands of another thread; it
 * may be said while records pushed later are there. Whoever sleeps upon it must be woken by
 * each producer after its push (waiter.h), and then loses nothing. */
#ifndef FC_MPMC_H
#define FC_MPMC_H

#include <string.h>

#include "fc/concurrent.h"
#include "fc/mem.h"

typedef struct fc_mpmc {
  uint64_t mask; /* capacity - 1 */
  uint32_t record_bytes;
  uint32_t cell_bytes;
  FC_LINE_REST(rest0, 16);
  _Atomic uint64_t tail; /* positions handed to producers */
  FC_LINE_REST(rest1, 8);
  _Atomic uint64_t head; /* positions handed to consumers */
  FC_LINE_REST(rest2, 8);
  unsigned char cells[];
} fc_mpmc;

typedef struct fc_mpmc_cell {
  _Atomic uint64_t turn;
  unsigned char record[];
} fc_mpmc_cell;

/* A queue for at least `capacity` records, rounded up to a power of two, 2 or more. Returns 0,
 * FC_EINVALID (a size) or FC_ENOMEM; then *out is NULL. */
int fc_mpmc_new(fc_mpmc **out, const fc_mem *mem, size_t capacity, size_t record_bytes);

/* Of a queue that nobody uses any more. NULL is allowed. */
void fc_mpmc_free(fc_mpmc *q, const fc_mem *mem);

/* For tests: empties an unused queue and starts its positions at `position`. */
void fc_mpmc_seek(fc_mpmc *q, uint64_t position);

static inline size_t fc_mpmc_capacity(const fc_mpmc *q) {
  return (size_t)q->mask + 1;
}

/* Positions handed to producers and not yet to consumers: a moment's view, at most the capacity.
 * `head` is read first, and acquire keeps it first, lest it overtake `tail`. Both are moved
 * relaxed, so C11 lets it seem to have done so even then: that is 0. */
static inline size_t fc_mpmc_len(const fc_mpmc *q) {
  uint64_t head = atomic_load_explicit(&q->head, memory_order_acquire);
  int64_t len = (int64_t)(atomic_load_explicit(&q->tail, memory_order_relaxed) - head);
  if (len < 0) return 0;
  return (uint64_t)len > q->mask ? (size_t)q->mask + 1 : (size_t)len;
}

static inline fc_mpmc_cell *fc_mpmc_at(fc_mpmc *q, uint64_t position, size_t cell_bytes) {
  return (fc_mpmc_cell *)(void *)(q->cells + (position & q->mask) * cell_bytes);
}

/* The record `index` places behind the oldest, or NULL; while nobody else uses the queue. */
static inline void *fc_mpmc_look(fc_mpmc *q, size_t index) {
  uint64_t position = atomic_load_explicit(&q->head, memory_order_relaxed) + index;
  return index < fc_mpmc_len(q) ? fc_mpmc_at(q, position, q->cell_bytes)->record : NULL;
}

/* Takes up to `want` positions from `*index` (head or tail) whose cells are all at their turn,
 * position + `due`, by one exchange. Returns how many, 0 when the first is not; `*from` is the
 * first one. A cell that was at its turn stays so until its position is taken, and a taken
 * position would make the exchange fail: so it is enough to have looked before. */
static inline size_t fc_mpmc_take(fc_mpmc *q, _Atomic uint64_t *index, uint64_t due, size_t want,
                                  size_t cell_bytes, uint64_t *from) {
  uint64_t position = atomic_load_explicit(index, memory_order_relaxed);
  for (;;) {
    size_t count = 0;
    int64_t ahead = 0;
    FC_RACE_POINT();
    for (; count < want; count++) {
      fc_mpmc_cell *cell = fc_mpmc_at(q, position + count, cell_bytes);
      uint64_t turn = atomic_load_explicit(&cell->turn, memory_order_acquire);
      ahead = (int64_t)(turn - (position + count + due));
      if (ahead != 0) break;
    }
    FC_RACE_POINT();
    if (count == 0) {
      if (ahead <= 0) return 0;
      position = atomic_load_explicit(index, memory_order_relaxed); /* others took it meanwhile */
    } else if (atomic_compare_exchange_weak_explicit(index, &position, position + count,
                                                     memory_order_relaxed, memory_order_relaxed)) {
      *from = position;
      return count;
    }
  }
}

/* The body of each push: `bytes` and `cell_bytes` are constants where the caller knows them. */
static inline size_t fc_mpmc_put(fc_mpmc *q, const void *records, size_t want, size_t bytes,
                                 size_t cell_bytes) {
  uint64_t at = 0;
  size_t count = fc_mpmc_take(q, &q->tail, 0, want, cell_bytes, &at);
  for (size_t i = 0; i < count; i++, at++) {
    fc_mpmc_cell *cell = fc_mpmc_at(q, at, cell_bytes);
    memcpy(cell->record, (const char *)records + i * bytes, bytes);
    FC_RACE_POINT();
    atomic_store_explicit(&cell->turn, at + 1, memory_order_release);
  }
  return count;
}

static inline size_t fc_mpmc_get(fc_mpmc *q, void *records, size_t want, size_t bytes,
                                 size_t cell_bytes) {
  uint64_t at = 0;
  size_t count = fc_mpmc_take(q, &q->head, 1, want, cell_bytes, &at);
  for (size_t i = 0; i < count; i++, at++) {
    fc_mpmc_cell *cell = fc_mpmc_at(q, at, cell_bytes);
    memcpy((char *)records + i * bytes, cell->record, bytes);
    FC_RACE_POINT();
    atomic_store_explicit(&cell->turn, at + q->mask + 1, memory_order_release);
  }
  return count;
}

/* Copies one record in. False: see above. */
static inline bool fc_mpmc_push(fc_mpmc *q, const void *record) {
  return fc_mpmc_put(q, record, 1, q->record_bytes, q->cell_bytes) == 1;
}

/* Copies one record out. False: see above. */
static inline bool fc_mpmc_pop(fc_mpmc *q, void *record) {
  return fc_mpmc_get(q, record, 1, q->record_bytes, q->cell_bytes) == 1;
}

/* The same of a pointer itself, for queues whose records are pointers. */
static inline bool fc_mpmc_push_ptr(fc_mpmc *q, void *pointer) {
  assert(q->record_bytes == sizeof pointer);
  return fc_mpmc_put(q, &pointer, 1, sizeof pointer, 8 + sizeof(uint64_t)) == 1;
}

static inline bool fc_mpmc_pop_ptr(fc_mpmc *q, void **pointer) {
  assert(q->record_bytes == sizeof *pointer);
  return fc_mpmc_get(q, pointer, 1, sizeof *pointer, 8 + sizeof(uint64_t)) == 1;
}

/* Copies in as many of `count` records as find their slots free one after another, by one exchange:
 * nobody else's records come between them. They become visible one by one. Returns how many. */
size_t fc_mpmc_push_many(fc_mpmc *q, const void *records, size_t count);

/* Copies out up to `count` records that follow each other. Returns how many. */
size_t fc_mpmc_pop_many(fc_mpmc *q, void *records, size_t count);

#endif
