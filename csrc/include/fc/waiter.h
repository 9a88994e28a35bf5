/* waiter.h - sleeping until some condition of a lock-free structure holds: an event count.
 *
 *     state  | epoch (32 bits) | woken (16) | waiters (16) |     the epoch's half is a futex
 *
 * Whoever waits:                                 Whoever makes the condition true:
 *
 *     for (;;) {                                     push(q, x);
 *       if (pop(q, &x)) break;                       fc_waiter_notify(&w);
 *       uint32_t key = fc_waiter_prepare(&w);
 *       if (pop(q, &x)) { fc_waiter_cancel(&w, key); break; }
 *       int err = fc_waiter_commit(&w, key, deadline_ns);
 *       if (err < 0) return err;
 *     }
 *
 * Reed and Kanodia, "Synchronization with eventcounts and sequencers" (1979), in the form of
 * Vyukov's and Folly's event counts.
 *
 * No wake-up is lost. The waiter announces itself, then looks at the condition again; the notifier
 * makes the condition true, then looks for sleepers. Each is a store before a load of something
 * else, which only a seq_cst fence on both sides keeps in this order (a seq_cst load alone does not
 * hold back an earlier release store). So one of them sees the other. If it is the notifier, it
 * raises the epoch, and a waiter goes to sleep only while the epoch is still the one it announced
 * itself in, which the system compares under its own lock.
 *
 * A notify that finds no sleeper costs that fence and one load. One that does raises the epoch and
 * counts one of the waiters as woken, so the next is cheap again although that thread has not run
 * yet: one system call for each sleep, not for each push. Every waiter takes itself off when it
 * leaves, and one that leaves in another epoch than it came in takes one off the woken as well.
 *
 * Why the woken are never too many, which would make a notify pass over a sleeper: call a waiter
 * doomed once it will leave by itself, that is, when the system has woken it, or it is not asleep
 * yet and the epoch has moved. Then woken <= doomed <= waiters. A notify that counts one more finds
 * either a sleeper, which the system call dooms, or waiters that are not asleep yet, which the new
 * epoch dooms, or more doomed than woken. A doomed waiter that leaves lowers both sides. One that
 * gives up (cancel, deadline, signal) is not doomed if the epoch has not moved, and lowers neither;
 * if it has moved, the woken become too few at worst: one system call for nothing.
 *
 * Memory orders, but for the fences. A notify raises the epoch with release, and a waiter that
 * leaves looks at it with acquire, so one that is told it was woken sees all that its notifier did.
 * Other looks at the state are relaxed: its own order of changes makes the counts right. Prepare
 * adds seq_cst only for ThreadSanitizer, where that, and an addition of 0 by the notifier, stand in
 * for the fences; beside a fence it costs nothing.
 *
 * A waiter may wake for nothing: the condition is always looked at again. An epoch comes back after
 * 2^32 notifies that found a sleeper; a waiter would be deceived if exactly that many fell between
 * its prepare and its commit, and then sleeps until the next notify or its deadline.
 *
 * The structure has no pointer; with FC_WAITER_SHARED it may lie in memory that processes share. A
 * waiter that is killed stays counted, which costs one notify a system call. A notifier that is
 * killed between its exchange and its system call leaves a sleeper to its deadline: between
 * processes that may die, sleep with one. Where there is no futex, a mutex and a condition stand
 * in, which a killed process may leave locked. */
#ifndef FC_WAITER_H
#define FC_WAITER_H

#include "fc/concurrent.h"

#if !defined(__linux__) && !defined(FC_WAITER_PTHREAD)
#define FC_WAITER_PTHREAD 1
#endif
#ifdef FC_WAITER_PTHREAD
#include <pthread.h>
#endif

#define FC_WAITER_NEVER UINT64_MAX

enum { FC_WAITER_PRIVATE = 0, FC_WAITER_SHARED = 1 };

typedef struct fc_waiter {
  _Atomic uint64_t state;
  uint32_t shared;
#ifdef FC_WAITER_PTHREAD
  pthread_mutex_t lock;
  pthread_cond_t changed; /* the epoch */
#endif
} fc_waiter;

/* `shared` is FC_WAITER_PRIVATE or FC_WAITER_SHARED. Returns 0 or a negative errno. */
int fc_waiter_init(fc_waiter *w, uint32_t shared);

/* Nobody waits any more. Does nothing where there are futexes. */
void fc_waiter_fini(fc_waiter *w);

/* Announces that the caller is about to sleep, as one of at most 65535. It must look at its
 * condition again, and then either cancel or commit with the key returned. */
static inline uint32_t fc_waiter_prepare(fc_waiter *w) {
  uint64_t old = atomic_fetch_add_explicit(&w->state, 1, memory_order_seq_cst);
  fc_fence();
  return (uint32_t)(old >> 32);
}

/* Takes the announcement back: the condition holds. */
void fc_waiter_cancel(fc_waiter *w, uint32_t key);

/* Sleeps until a notify that came after the prepare, or until `deadline_ns` of CLOCK_MONOTONIC
 * (FC_WAITER_NEVER: none). Returns 0 when woken, after which all that the notifier did before is
 * visible, FC_ETIMEOUT, or -EINTR when a signal handler ran (also for FC_WAITER_NEVER; the caller
 * may just begin again). */
int fc_waiter_commit(fc_waiter *w, uint32_t key, uint64_t deadline_ns);

void fc_waiter_wake(fc_waiter *w, bool all); /* private to the two below */

/* Whether anybody is to be woken who is asleep or about to be. Looks after all that the caller did
 * before is visible. */
static inline bool fc_waiter_has_sleepers(fc_waiter *w) {
#if FC_TSAN
  uint64_t state = atomic_fetch_add_explicit(&w->state, 0, memory_order_seq_cst);
#else
  fc_fence();
  uint64_t state = atomic_load_explicit(&w->state, memory_order_relaxed);
#endif
  return (uint16_t)state > (uint16_t)(state >> 16);
}

/* Wakes one of those that wait, if any does. */
static inline void fc_waiter_notify(fc_waiter *w) {
  if (fc_waiter_has_sleepers(w)) fc_waiter_wake(w, false);
}

/* Wakes all of them. */
static inline void fc_waiter_notify_all(fc_waiter *w) {
  if (fc_waiter_has_sleepers(w)) fc_waiter_wake(w, true);
}

#endif
