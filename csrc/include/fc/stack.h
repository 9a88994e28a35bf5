/* stack.h - a LIFO of indices that any thread pushes to and pops from: what a pool needs to hand
 * out the warmest of its slots. The caller keeps an array of things; the stack holds their numbers.
 *
 *     +0    capacity, index_bits     written once
 *     +128  head                     | tag (64 - index_bits) | index + 1, or 0: empty |
 *     +256  next[0] | next[1] | ...  index + 1 of what lies under each, or 0
 *
 * R. Kent Treiber's stack ("Coping with parallelism", 1986), with a tag instead of bare pointers.
 *
 * ABA. A pop reads head = A and next[A] = B, then exchanges head for B. Had others meanwhile popped
 * A and B and pushed A again, an exchange of indices would put the popped B on the stack. So each
 * pop adds 1 to the tag: head comes back to (tag, A) only if nothing was popped, and then what lies
 * under A has not changed. Pushes leave the tag alone: they cannot bring an old head back. The tag
 * has every bit that indices leave over, 47 for 2^16 slots: for a thread to be deceived, exactly
 * 2^47 pops must go by between its load and its exchange, a day and a half of a pop per nanosecond.
 *
 * Nodes are never freed while the stack lives and `next` is atomic, so reading next[A] of an A that
 * was popped is harmless; the exchange then fails.
 *
 * Memory orders. A push exchanges with release and a pop loads head with acquire: what the pusher
 * did with the slot, and next[] of it, comes before what the popper does. So `next` is relaxed. A
 * pop in between does not break the chain from a push to a later pop, being a read-modify-write,
 * which goes on with the release sequence of the push. The load of a pop, first or by an exchange
 * that failed, is what must be acquire, as next[] is read upon it; the exchange that succeeds is so
 * only because C11 has it no weaker than the one that fails. It need not release: what it stores is
 * computed from the next[] it has read. Lock-free; every answer is linearizable. */
#ifndef FC_STACK_H
#define FC_STACK_H

#include "fc/concurrent.h"
#include "fc/mem.h"

#define FC_STACK_MAX_CAPACITY (UINT32_C(1) << 30)

typedef struct fc_stack {
  uint32_t capacity;
  uint32_t index_bits;
  FC_LINE_REST(rest0, 8);
  _Atomic uint64_t head;
  FC_LINE_REST(rest1, 8);
  _Atomic uint32_t next[];
} fc_stack;

/* An empty stack for the indices 0 to capacity - 1. Returns 0, FC_EINVALID (zero, or above
 * FC_STACK_MAX_CAPACITY) or FC_ENOMEM; then *out is NULL. */
int fc_stack_new(fc_stack **out, const fc_mem *mem, size_t capacity);

/* Of a stack that nobody uses any more. NULL is allowed. */
void fc_stack_free(fc_stack *s, const fc_mem *mem);

/* For a stack nobody else uses yet: pushes every index, so that 0 is popped first. */
void fc_stack_fill(fc_stack *s);

/* For tests: empties an unused stack and starts its tag at `tag`. */
void fc_stack_seek(fc_stack *s, uint64_t tag);

/* A moment's view, by any thread; it orders nothing. */
static inline bool fc_stack_empty(const fc_stack *s) {
  uint64_t head = atomic_load_explicit(&s->head, memory_order_relaxed);
  return (head & ((UINT64_C(1) << s->index_bits) - 1)) == 0;
}

/* Puts the chain from `first` to `last` on top; its inner links are set. */
static inline void fc_stack_put(fc_stack *s, uint32_t first, uint32_t last) {
  assert(first < s->capacity && last < s->capacity);
  uint64_t mask = (UINT64_C(1) << s->index_bits) - 1;
  uint64_t head = atomic_load_explicit(&s->head, memory_order_relaxed);
  do {
    atomic_store_explicit(&s->next[last], (uint32_t)(head & mask), memory_order_relaxed);
    FC_RACE_POINT();
  } while (!atomic_compare_exchange_weak_explicit(&s->head, &head, (head & ~mask) | (first + 1),
                                                  memory_order_release, memory_order_relaxed));
}

/* Pushes an index, which is not on the stack: pushing one twice ties the chain into a ring. */
static inline void fc_stack_push(fc_stack *s, uint32_t index) {
  fc_stack_put(s, index, index);
}

/* Pops up to `want` indices, the top one first, by one exchange. Returns how many, 0 when empty. */
static inline size_t fc_stack_pop_many(fc_stack *s, uint32_t *indices, size_t want) {
  if (want == 0) return 0;
  uint64_t mask = (UINT64_C(1) << s->index_bits) - 1;
  uint64_t head = atomic_load_explicit(&s->head, memory_order_acquire);
  size_t count;
  uint64_t left;
  do {
    uint32_t at = (uint32_t)(head & mask);
    /* While others pop, this may run through indices that are long gone; `want` ends it. */
    for (count = 0; at && count < want; count++) {
      indices[count] = at - 1;
      at = atomic_load_explicit(&s->next[at - 1], memory_order_relaxed);
    }
    if (count == 0) return 0;
    FC_RACE_POINT();
    left = ((head & ~mask) + mask + 1) | at;
  } while (!atomic_compare_exchange_weak_explicit(&s->head, &head, left, memory_order_acquire,
                                                  memory_order_acquire));
  return count;
}

/* Pops the top index. False: empty. */
static inline bool fc_stack_pop(fc_stack *s, uint32_t *index) {
  return fc_stack_pop_many(s, index, 1) == 1;
}

/* Pushes indices[0], indices[1], ... so that the last one is on top, by one exchange. */
void fc_stack_push_many(fc_stack *s, const uint32_t *indices, size_t count);

#endif
