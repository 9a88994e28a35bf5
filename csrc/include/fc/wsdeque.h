/* wsdeque.h - a deque of pointers: its owner pushes and pops at the bottom, any thread steals at
 * the top.
 *
 *     +0    mem, top_seen, max_capacity   the owner's alone
 *     +128  bottom, array               the owner's, read by thieves
 *     +256  top                         moved by whoever takes the oldest element
 *
 *     array | older mask | slot 0 | slot 1 | ... |      the element of index i is in slot i & mask
 *
 *              top             bottom                   top <= bottom, but for the moment in which
 *               v                v                      the owner tries for an element that is not
 *     ..........[################].........             there
 *        steal ->              <- pop / push ->
 *
 * David Chase and Yossi Lev, "Dynamic circular work-stealing deque" (2005), with the memory orders
 * that Lê, Pop, Cohen and Zappa Nardelli proved ("Correct and efficient work-stealing for weak
 * memory models", 2013).
 *
 * Memory orders.
 *  - push stores the element, then `bottom` with release; a thief loads `bottom` with acquire and
 *    so sees the element and what it points to. The other stores of `bottom` are release as well,
 *    so that a thief who reads one of those is no worse off.
 *  - pop lowers `bottom`, then looks at `top`; a thief looks at `top`, then at `bottom`. Each must
 *    see the other's step if its own came second, or both take the last element: a store before a
 *    load, hence a seq_cst fence between the two on either side. Where seq_cst accesses are cheaper
 *    (concurrent.h) these four are that instead, which is as strong: in the one order of them all,
 *    a thief that finds top = i comes after the exchange that made it i; an owner that took i
 *    without an exchange had looked at `top` before that, and lowered `bottom` to i before it
 *    looked; so the thief finds `bottom` lowered.
 *  - the last element goes to whoever moves `top` from its index, a seq_cst exchange, also for the
 *    owner.
 *  - a thief reads the element before it moves `top`: after that the owner may overwrite the slot.
 *    What it read is dropped if the exchange fails, so slots are atomic, and relaxed.
 *  - `array` is stored with release once the copy is complete, and loaded with acquire.
 *
 * Indices are signed, since bottom - top is -1 for a moment, and never wrap: 2^63 pushes of a
 * nanosecond each are 292 years. `top` only grows, so its exchange has no ABA.
 *
 * When the array is full it is copied into one of twice the size. A thief may still be reading the
 * old one, so that is kept until fc_wsdeque_free(): nothing tells when the last thief has left
 * it, and all that were ever replaced are together smaller than the one in use. Nobody writes to it
 * any more, so what the thief reads there is what it was. */
#ifndef FC_WSDEQUE_H
#define FC_WSDEQUE_H

#include "fc/concurrent.h"
#include "fc/mem.h"

typedef struct fc_wsarray {
  struct fc_wsarray *older; /* the one that this replaced */
  uint64_t mask;            /* capacity - 1 */
  _Atomic(void *) slots[];
} fc_wsarray;

typedef struct fc_wsdeque {
  const fc_mem *mem;
  int64_t top_seen; /* `top` as of the last look: what the owner counts room by */
  uint64_t max_capacity;
  FC_LINE_REST(rest0, sizeof(void *) + 16);
  _Atomic int64_t bottom;
  _Atomic(fc_wsarray *) array;
  FC_LINE_REST(rest1, 8 + sizeof(void *));
  _Atomic int64_t top;
  FC_LINE_REST(rest2, 8);
} fc_wsdeque;

/* An empty deque with room for `capacity` elements, growing up to `max_capacity`; both are rounded
 * up to powers of two. Returns 0, FC_EINVALID (zero, too large, capacity above max) or FC_ENOMEM;
 * then *out is NULL. */
int fc_wsdeque_new(fc_wsdeque **out, const fc_mem *mem, size_t capacity, size_t max_capacity);

/* Of a deque that nobody uses any more; elements still inside are dropped. NULL is allowed. */
void fc_wsdeque_free(fc_wsdeque *d);

/* For tests: empties an unused deque and starts its indices at `index`. */
void fc_wsdeque_seek(fc_wsdeque *d, int64_t index);

/* Doubles the array. Returns 0, FC_ENOMEM, or FC_ELIMIT at max_capacity. Private to push. */
int fc_wsdeque_grow(fc_wsdeque *d, int64_t bottom);

/* A moment's view, by any thread. `top` is read first, and acquire keeps it first: the `bottom`
 * read after it is not one that it has overtaken. */
static inline size_t fc_wsdeque_len(const fc_wsdeque *d) {
  int64_t top = atomic_load_explicit(&d->top, memory_order_acquire);
  int64_t bottom = atomic_load_explicit(&d->bottom, memory_order_relaxed);
  return bottom > top ? (size_t)(bottom - top) : 0;
}

/* Owner: adds an element, not NULL. Returns 0, or FC_ENOMEM or FC_ELIMIT with nothing changed. */
static inline int fc_wsdeque_push(fc_wsdeque *d, void *element) {
  int64_t bottom = atomic_load_explicit(&d->bottom, memory_order_relaxed);
  fc_wsarray *array = atomic_load_explicit(&d->array, memory_order_relaxed);
  if ((uint64_t)(bottom - d->top_seen) > array->mask) {
    /* Acquire: the thief that moved top has read its slot, which this push overwrites. */
    d->top_seen = atomic_load_explicit(&d->top, memory_order_acquire);
    if ((uint64_t)(bottom - d->top_seen) > array->mask) {
      int err = fc_wsdeque_grow(d, bottom);
      if (err < 0) return err;
      array = atomic_load_explicit(&d->array, memory_order_relaxed);
    }
  }
  atomic_store_explicit(&array->slots[(uint64_t)bottom & array->mask], element,
                        memory_order_relaxed);
  FC_RACE_POINT();
  atomic_store_explicit(&d->bottom, bottom + 1, memory_order_release);
  return 0;
}

/* Owner: takes the youngest element, or NULL when there is none. */
static inline void *fc_wsdeque_pop(fc_wsdeque *d) {
  int64_t bottom = atomic_load_explicit(&d->bottom, memory_order_relaxed);
  /* Nothing there: known without a fence, as top only grows and bottom is the owner's. */
  if (atomic_load_explicit(&d->top, memory_order_relaxed) >= bottom) return NULL;
  fc_wsarray *array = atomic_load_explicit(&d->array, memory_order_relaxed);
  bottom--;
  atomic_store_explicit(&d->bottom, bottom, FC_FENCED(memory_order_release));
  fc_fence_between();
  FC_RACE_POINT();
  int64_t top = atomic_load_explicit(&d->top, FC_FENCED(memory_order_relaxed));
  if (top > bottom) {
    atomic_store_explicit(&d->bottom, bottom + 1, memory_order_release);
    return NULL;
  }
  void *element = atomic_load_explicit(&array->slots[(uint64_t)bottom & array->mask],
                                       memory_order_relaxed);
  if (top < bottom) return element;
  FC_RACE_POINT();
  if (!atomic_compare_exchange_strong_explicit(&d->top, &top, top + 1, memory_order_seq_cst,
                                               memory_order_relaxed))
    element = NULL; /* a thief was faster */
  atomic_store_explicit(&d->bottom, bottom + 1, memory_order_release);
  return element;
}

typedef enum fc_stolen {
  FC_STEAL_EMPTY, /* there was nothing */
  FC_STEAL_LOST,  /* another one took that element; there may be more */
  FC_STEAL_GOT
} fc_stolen;

/* Any thread: takes the oldest element. *element is set with FC_STEAL_GOT only. */
static inline fc_stolen fc_wsdeque_steal(fc_wsdeque *d, void **element) {
  int64_t top = atomic_load_explicit(&d->top, FC_FENCED(memory_order_acquire));
  fc_fence_between();
  FC_RACE_POINT();
  int64_t bottom = atomic_load_explicit(&d->bottom, FC_FENCED(memory_order_acquire));
  if (top >= bottom) return FC_STEAL_EMPTY;
  fc_wsarray *array = atomic_load_explicit(&d->array, memory_order_acquire);
  void *oldest = atomic_load_explicit(&array->slots[(uint64_t)top & array->mask],
                                      memory_order_relaxed);
  FC_RACE_POINT();
  if (!atomic_compare_exchange_strong_explicit(&d->top, &top, top + 1, memory_order_seq_cst,
                                               memory_order_relaxed))
    return FC_STEAL_LOST;
  *element = oldest;
  return FC_STEAL_GOT;
}

#endif
