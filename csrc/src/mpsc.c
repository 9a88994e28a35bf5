#include "fc/mpsc.h"

_Static_assert(offsetof(fc_mpsc, first) == FC_CACHE_LINE, "the consumer's line");

void fc_mpsc_init(fc_mpsc *q) {
  atomic_init(&q->stub.next, NULL);
  atomic_init(&q->last, &q->stub);
  q->first = &q->stub;
}

static fc_mpsc_node *next_of(fc_mpsc_node *node) {
  return atomic_load_explicit(&node->next, memory_order_acquire);
}

/* The stub at the front is stepped over. The last node can only leave when something is behind it,
 * for a producer may be about to link to it: then the stub is pushed. */
fc_mpsc_node *fc_mpsc_pop(fc_mpsc *q) {
  fc_mpsc_node *first = q->first;
  fc_mpsc_node *next = next_of(first);
  if (first == &q->stub) {
    if (!next) return NULL;
    q->first = first = next;
    next = next_of(first);
  }
  if (!next) {
    /* Relaxed: a stale value is only taken for a push under way, and the next call looks again. */
    if (atomic_load_explicit(&q->last, memory_order_relaxed) != first) return NULL;
    FC_RACE_POINT();
    fc_mpsc_push(q, &q->stub);
    next = next_of(first);
    if (!next) return NULL; /* a producer came in between */
  }
  q->first = next;
  return first;
}

size_t fc_mpsc_pop_many(fc_mpsc *q, fc_mpsc_node **nodes, size_t count) {
  size_t n = 0;
  while (n < count && (nodes[n] = fc_mpsc_pop(q))) n++;
  return n;
}

bool fc_mpsc_empty(const fc_mpsc *q) {
  return q->first == &q->stub &&
         atomic_load_explicit(&q->last, memory_order_relaxed) == &q->stub;
}
