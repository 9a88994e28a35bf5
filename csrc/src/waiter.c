#include "fc/waiter.h"

#include <errno.h>
#include <limits.h>
#include <time.h>

#include "fc/err.h"

#define EPOCH_ONE (UINT64_C(1) << 32)
#define WOKEN_ONE (UINT64_C(1) << 16)
#define WAITER_ONE UINT64_C(1)

static uint32_t epoch_of(uint64_t state) {
  return (uint32_t)(state >> 32);
}

static uint32_t woken_of(uint64_t state) {
  return (uint16_t)(state >> 16);
}

static uint32_t waiters_of(uint64_t state) {
  return (uint16_t)state;
}

/* Takes the caller off the count. Returns whether a notify has come since its prepare; that one is
 * then taken off as well, and what its caller did is visible. */
static bool leave(fc_waiter *w, uint32_t key) {
  uint64_t state = atomic_load_explicit(&w->state, memory_order_relaxed), next;
  do {
    next = state - WAITER_ONE;
    if (epoch_of(state) != key && woken_of(state)) next -= WOKEN_ONE;
  } while (!atomic_compare_exchange_weak_explicit(&w->state, &state, next, memory_order_acquire,
                                                  memory_order_relaxed));
  return epoch_of(state) != key;
}

void fc_waiter_cancel(fc_waiter *w, uint32_t key) {
  leave(w, key);
}

/* Counts one waiter more as woken, or all, in a new epoch. False: all of them are. */
static bool raise_epoch(fc_waiter *w, bool all) {
  uint64_t state = atomic_load_explicit(&w->state, memory_order_relaxed), next;
  do {
    uint32_t asleep = waiters_of(state) - woken_of(state);
    if (waiters_of(state) <= woken_of(state)) return false;
    next = state + EPOCH_ONE + (all ? asleep : 1) * WOKEN_ONE;
  } while (!atomic_compare_exchange_weak_explicit(&w->state, &state, next, memory_order_release,
                                                  memory_order_relaxed));
  return true;
}

#ifndef FC_WAITER_PTHREAD

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The half of the state that holds the epoch. */
static uint32_t *epoch_word(fc_waiter *w) {
  return (uint32_t *)(void *)&w->state + (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? 1 : 0);
}

static long futex(fc_waiter *w, int op, uint32_t value, const struct timespec *until) {
  if (!w->shared) op |= FUTEX_PRIVATE_FLAG;
  return syscall(SYS_futex, epoch_word(w), op, value, until, NULL, FUTEX_BITSET_MATCH_ANY);
}

int fc_waiter_init(fc_waiter *w, uint32_t shared) {
  atomic_init(&w->state, 0);
  w->shared = shared;
  return 0;
}

void fc_waiter_fini(fc_waiter *w) {
  (void)w;
}

/* The call returns early for signals and, rarely, for nothing; the latter is told by the epoch. */
int fc_waiter_commit(fc_waiter *w, uint32_t key, uint64_t deadline_ns) {
  int saved = errno;
  int err = 0;
  struct timespec until = {.tv_sec = (time_t)(deadline_ns / 1000000000),
                           .tv_nsec = (long)(deadline_ns % 1000000000)};
  const struct timespec *limit = deadline_ns == FC_WAITER_NEVER ? NULL : &until;
  while (!err && epoch_of(atomic_load_explicit(&w->state, memory_order_relaxed)) == key) {
    if (futex(w, FUTEX_WAIT_BITSET, key, limit) == 0) continue;
    if (errno == ETIMEDOUT) err = FC_ETIMEOUT;
    else if (errno != EAGAIN) err = -errno;
  }
  errno = saved;
  return leave(w, key) ? 0 : err;
}

void fc_waiter_wake(fc_waiter *w, bool all) {
  if (!raise_epoch(w, all)) return;
  int saved = errno;
  futex(w, FUTEX_WAKE_BITSET, all ? INT_MAX : 1, NULL);
  errno = saved;
}

#else

int fc_waiter_init(fc_waiter *w, uint32_t shared) {
  atomic_init(&w->state, 0);
  w->shared = shared;
  pthread_mutexattr_t lock_attr;
  pthread_condattr_t cond_attr;
  int err = pthread_mutexattr_init(&lock_attr);
  if (err) return -err;
  if ((err = pthread_condattr_init(&cond_attr))) goto no_cond_attr;
  int scope = shared ? PTHREAD_PROCESS_SHARED : PTHREAD_PROCESS_PRIVATE;
  if ((err = pthread_mutexattr_setpshared(&lock_attr, scope))) goto no_lock;
  if ((err = pthread_condattr_setpshared(&cond_attr, scope))) goto no_lock;
#ifndef __APPLE__
  if ((err = pthread_condattr_setclock(&cond_attr, CLOCK_MONOTONIC))) goto no_lock;
#endif
  if ((err = pthread_mutex_init(&w->lock, &lock_attr))) goto no_lock;
  if ((err = pthread_cond_init(&w->changed, &cond_attr))) pthread_mutex_destroy(&w->lock);
no_lock:
  pthread_condattr_destroy(&cond_attr);
no_cond_attr:
  pthread_mutexattr_destroy(&lock_attr);
  return -err;
}

void fc_waiter_fini(fc_waiter *w) {
  pthread_cond_destroy(&w->changed);
  pthread_mutex_destroy(&w->lock);
}

/* Waits on the condition until the deadline; 0 or an errno. */
static int wait_until(fc_waiter *w, uint64_t deadline_ns) {
  if (deadline_ns == FC_WAITER_NEVER) return pthread_cond_wait(&w->changed, &w->lock);
#ifdef __APPLE__
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  uint64_t now_ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
  uint64_t left = deadline_ns > now_ns ? deadline_ns - now_ns : 0;
  struct timespec t = {(time_t)(left / 1000000000), (long)(left % 1000000000)};
  return pthread_cond_timedwait_relative_np(&w->changed, &w->lock, &t);
#else
  struct timespec t = {(time_t)(deadline_ns / 1000000000), (long)(deadline_ns % 1000000000)};
  return pthread_cond_timedwait(&w->changed, &w->lock, &t);
#endif
}

int fc_waiter_commit(fc_waiter *w, uint32_t key, uint64_t deadline_ns) {
  int err = 0;
  pthread_mutex_lock(&w->lock);
  while (!err && epoch_of(atomic_load_explicit(&w->state, memory_order_relaxed)) == key)
    err = wait_until(w, deadline_ns);
  pthread_mutex_unlock(&w->lock);
  if (err) err = err == ETIMEDOUT ? FC_ETIMEOUT : -err;
  return leave(w, key) ? 0 : err;
}

/* The epoch is raised under the lock, so that no waiter is between its look and its sleep. */
void fc_waiter_wake(fc_waiter *w, bool all) {
  pthread_mutex_lock(&w->lock);
  if (raise_epoch(w, all)) {
    if (all) pthread_cond_broadcast(&w->changed);
    else pthread_cond_signal(&w->changed);
  }
  pthread_mutex_unlock(&w->lock);
}

#endif
