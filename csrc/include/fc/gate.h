/* gate.h - one condition of a queue, and those who wait for it: threads asleep in a waiter, and
 * guests, who wait by other means (coroutines of an event loop) and are only counted here.
 *
 *     threads: state, shared | guests
 *
 * A guest does as a sleeping thread does (waiter.h), with the count in place of the sleep:
 *
 *     fc_gate_expect(&g, 1);                         push(q, x);
 *     if (pop(q, &x)) fc_gate_expect(&g, -1);        if (fc_gate_watched(&g)) wake somebody;
 *     else ... whoever wakes takes the guest off
 *
 * Raising the count and looking at the condition again stand on two sides of a fence, and so do
 * making the condition true and reading the count: one of the two sees the other, and no wake-up
 * is lost. For both kinds of sleepers that is one fence and two loads of one line. */
#ifndef FC_GATE_H
#define FC_GATE_H

#include "fc/waiter.h"

typedef struct fc_gate {
  fc_waiter threads;
  _Atomic int32_t guests;
} fc_gate;

/* Returns 0 or a negative errno. Ends with fc_waiter_fini(&g->threads). */
static inline int fc_gate_init(fc_gate *g) {
  atomic_init(&g->guests, 0);
  return fc_waiter_init(&g->threads, FC_WAITER_PRIVATE);
}

/* Guests that came (positive) or were taken off. Who comes must look at the condition again. */
static inline void fc_gate_expect(fc_gate *g, int32_t change) {
  atomic_fetch_add_explicit(&g->guests, change, memory_order_seq_cst);
  fc_fence();
}

static inline int32_t fc_gate_guests(fc_gate *g) {
  return atomic_load_explicit(&g->guests, FC_FENCED(memory_order_relaxed));
}

/* Whether anybody is to be woken. Looks after all that the caller did before is visible. */
static inline bool fc_gate_watched(fc_gate *g) {
  return fc_waiter_has_sleepers(&g->threads) || fc_gate_guests(g) > 0;
}

/* The same where a lock, which those who wait hold as well from their announcement to their second
 * look, makes the fence superfluous. */
static inline bool fc_gate_watched_locked(fc_gate *g) {
  uint64_t state = atomic_load_explicit(&g->threads.state, memory_order_relaxed);
  return (uint16_t)state > (uint16_t)(state >> 16) ||
         atomic_load_explicit(&g->guests, memory_order_relaxed) > 0;
}

#endif
