/* mpsc.h - an intrusive inbox: many threads push nodes, one takes them out. Unbounded, since the
 * nodes are the callers' own memory; a bound, if one is wanted, is the caller's.
 *
 *     +0    last              the producers'
 *     +128  first, stub       the consumer's
 *
 *     first -> a -> b -> c <- last        next links run from the oldest to the newest
 *
 * Dmitry Vyukov's intrusive queue (1024cores.net, 2008). A push is two steps and wait-free: it
 * exchanges `last` for the node, then links the node that was last to it. The stub is in the chain
 * when nothing else is, so that there always is a node to link.
 *
 *     between the steps of a push of c:     first -> a -> b    c <- last
 *
 * The chain is broken there: the consumer sees a and b, and neither c nor whatever is pushed after
 * c, until that push has ended. Then fc_mpsc_pop() gives NULL while fc_mpsc_empty() says false. A
 * consumer that goes to sleep upon NULL loses nothing if every producer wakes it after its push.
 * Producers never wait for each other; a producer that dies in between hides all that comes later.
 *
 * Memory orders. The link is stored with release and loaded with acquire, which carries the node's
 * contents, and the inner links of a chain, to the consumer. The exchange is acq_rel: with release,
 * a producer clears its node's `next` before the next producer, with acquire, links to that node,
 * so no late NULL undoes the link. The consumer compares `last` with a node of its own and reads
 * nothing through it: relaxed. The rest is the consumer's alone.
 *
 * ABA does not arise: nothing is compared and swapped. A node may be pushed again, also to another
 * inbox, as soon as pop returned it: by then its producer and the one behind it have let go of it.
 * Nor are there positions that could wrap around. */
#ifndef FC_MPSC_H
#define FC_MPSC_H

#include "fc/concurrent.h"

typedef struct fc_mpsc_node {
  _Atomic(struct fc_mpsc_node *) next;
} fc_mpsc_node;

typedef struct fc_mpsc {
  _Atomic(fc_mpsc_node *) last;
  FC_LINE_REST(rest, sizeof(void *));
  fc_mpsc_node *first;
  fc_mpsc_node stub;
} fc_mpsc;

/* The inbox must not move afterwards: the chain points into it. There is nothing to free; nodes
 * still inside are dropped. */
void fc_mpsc_init(fc_mpsc *q);

/* Adds the node, which is in no inbox. Any thread; also from a signal handler. */
static inline void fc_mpsc_push(fc_mpsc *q, fc_mpsc_node *node) {
  atomic_store_explicit(&node->next, NULL, memory_order_relaxed);
  fc_mpsc_node *before = atomic_exchange_explicit(&q->last, node, memory_order_acq_rel);
  FC_RACE_POINT();
  atomic_store_explicit(&before->next, node, memory_order_release);
}

/* Adds `first` to `last`, linked already by fc_mpsc_link(), at the cost of one push: nobody else's
 * nodes come between them. */
static inline void fc_mpsc_push_chain(fc_mpsc *q, fc_mpsc_node *first, fc_mpsc_node *last) {
  atomic_store_explicit(&last->next, NULL, memory_order_relaxed);
  fc_mpsc_node *before = atomic_exchange_explicit(&q->last, last, memory_order_acq_rel);
  FC_RACE_POINT();
  atomic_store_explicit(&before->next, first, memory_order_release);
}

/* Prepares a chain: `next` follows `node`. Both are still private to the caller. */
static inline void fc_mpsc_link(fc_mpsc_node *node, fc_mpsc_node *next) {
  atomic_store_explicit(&node->next, next, memory_order_relaxed);
}

/* The oldest node, or NULL: empty, or its push is under way. Consumer only. */
fc_mpsc_node *fc_mpsc_pop(fc_mpsc *q);

/* Pops up to `count` nodes into `nodes`. Returns how many. Consumer only. */
size_t fc_mpsc_pop_many(fc_mpsc *q, fc_mpsc_node **nodes, size_t count);

/* Whether no push has begun that was not popped. Consumer only; true may be out of date at once. */
bool fc_mpsc_empty(const fc_mpsc *q);

#endif
