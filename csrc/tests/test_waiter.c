/* The counting of the event count, in one thread; deadlines and signals. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>

#include "check.h"
#include "fc/clock.h"
#include "fc/err.h"
#include "fc/waiter.h"

static uint64_t now_ns(void) {
  return fc_clock_system.now_ns(NULL);
}

static fc_waiter made(uint32_t shared) {
  fc_waiter w;
  CHECK_INT(fc_waiter_init(&w, shared), 0);
  return w;
}

static void test_cancel(void) {
  fc_waiter w = made(FC_WAITER_PRIVATE);
  CHECK(!fc_waiter_has_sleepers(&w));
  fc_waiter_notify(&w);
  fc_waiter_notify_all(&w);
  uint32_t key = fc_waiter_prepare(&w);
  CHECK(fc_waiter_has_sleepers(&w));
  fc_waiter_cancel(&w, key);
  CHECK(!fc_waiter_has_sleepers(&w));
  fc_waiter_fini(&w);
}

/* A notify between prepare and commit: the commit does not sleep. */
static void test_notified_before_sleep(void) {
  for (uint32_t shared = 0; shared <= 1; shared++) {
    fc_waiter w = made(shared);
    uint32_t key = fc_waiter_prepare(&w);
    fc_waiter_notify(&w);
    CHECK(!fc_waiter_has_sleepers(&w)); /* the next notify is cheap, though nobody has run */
    CHECK_INT(fc_waiter_commit(&w, key, FC_WAITER_NEVER), 0);
    CHECK_INT(atomic_load(&w.state) & UINT32_MAX, 0);
    fc_waiter_fini(&w);
  }
}

/* Two waiters, one notify: one is left to be notified, whoever leaves first. */
static void test_one_of_two(void) {
  fc_waiter w = made(FC_WAITER_PRIVATE);
  uint32_t a = fc_waiter_prepare(&w), b = fc_waiter_prepare(&w);
  fc_waiter_notify(&w);
  CHECK(fc_waiter_has_sleepers(&w));
  uint32_t c = fc_waiter_prepare(&w); /* in the new epoch */
  CHECK(c != a && a == b);
  CHECK_INT(fc_waiter_commit(&w, a, FC_WAITER_NEVER), 0);
  CHECK_INT(fc_waiter_commit(&w, b, FC_WAITER_NEVER), 0);
  CHECK(fc_waiter_has_sleepers(&w)); /* c: neither of the two took it off */
  CHECK_INT(fc_waiter_commit(&w, c, now_ns()), FC_ETIMEOUT);
  CHECK_INT(atomic_load(&w.state) & UINT32_MAX, 0);
  fc_waiter_fini(&w);
}

static void test_all(void) {
  fc_waiter w = made(FC_WAITER_PRIVATE);
  uint32_t keys[3];
  for (int i = 0; i < 3; i++) keys[i] = fc_waiter_prepare(&w);
  fc_waiter_notify(&w);
  fc_waiter_notify_all(&w);
  CHECK(!fc_waiter_has_sleepers(&w));
  for (int i = 0; i < 3; i++) CHECK_INT(fc_waiter_commit(&w, keys[i], FC_WAITER_NEVER), 0);
  CHECK_INT(atomic_load(&w.state) & UINT32_MAX, 0);
  fc_waiter_fini(&w);
}

/* The epoch wraps into nothing else. */
static void test_epoch_wraps(void) {
  fc_waiter w = made(FC_WAITER_PRIVATE);
  atomic_store(&w.state, (uint64_t)UINT32_MAX << 32);
  uint32_t key = fc_waiter_prepare(&w);
  CHECK_INT(key, UINT32_MAX);
  fc_waiter_notify(&w);
  CHECK_INT(fc_waiter_commit(&w, key, FC_WAITER_NEVER), 0);
  CHECK_INT(atomic_load(&w.state), 0);
  fc_waiter_fini(&w);
}

static void test_deadline(void) {
  fc_waiter w = made(FC_WAITER_SHARED);
  uint64_t start = now_ns();
  errno = 77;
  CHECK_INT(fc_waiter_commit(&w, fc_waiter_prepare(&w), start + 20 * FC_NS_PER_MS), FC_ETIMEOUT);
  CHECK_INT(errno, 77);
  CHECK(now_ns() - start >= 20 * FC_NS_PER_MS);
  CHECK(!fc_waiter_has_sleepers(&w));
  CHECK_INT(fc_waiter_commit(&w, fc_waiter_prepare(&w), 0), FC_ETIMEOUT); /* long past */
  fc_waiter_fini(&w);
}

/* A condition goes on after a signal, and ThreadSanitizer puts handlers off. */
#if !defined(FC_WAITER_PTHREAD) && !FC_TSAN
#define TEST_SIGNALS 1

typedef struct interruption {
  pthread_t sleeper;
  atomic_bool ended;
} interruption;

static void handle(int number) {
  (void)number;
}

/* Again and again, since the first may come before the other thread sleeps. */
static void *interrupt(void *arg) {
  interruption *i = arg;
  while (!atomic_load(&i->ended)) {
    pthread_kill(i->sleeper, SIGUSR1);
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
  }
  return NULL;
}

static void test_signal(void) {
  struct sigaction sa = {.sa_handler = handle};
  CHECK(sigaction(SIGUSR1, &sa, NULL) == 0);
  fc_waiter w = made(FC_WAITER_PRIVATE);
  interruption i = {.sleeper = pthread_self()};
  pthread_t other;
  uint32_t key = fc_waiter_prepare(&w);
  CHECK(pthread_create(&other, NULL, interrupt, &i) == 0);
  CHECK_INT(fc_waiter_commit(&w, key, now_ns() + 10 * FC_NS_PER_S), -EINTR);
  atomic_store(&i.ended, true);
  pthread_join(other, NULL);
  CHECK(!fc_waiter_has_sleepers(&w));
  fc_waiter_fini(&w);
}
#endif

int main(void) {
  RUN(test_cancel);
  RUN(test_notified_before_sleep);
  RUN(test_one_of_two);
  RUN(test_all);
  RUN(test_epoch_wraps);
  RUN(test_deadline);
#ifdef TEST_SIGNALS
  RUN(test_signal);
#endif
  return 0;
}
