/* Who is seen at a gate: threads and guests, before and after they come and go; in one thread. */
#include "check.h"
#include "fc/err.h"
#include "fc/gate.h"

static void check_watched(fc_gate *g, bool expected) {
  CHECK_INT(fc_gate_watched(g), expected);
  CHECK_INT(fc_gate_watched_locked(g), expected);
}

static fc_gate made(void) {
  fc_gate g;
  CHECK_INT(fc_gate_init(&g), 0);
  check_watched(&g, false);
  CHECK_INT(fc_gate_guests(&g), 0);
  return g;
}

static void test_guests(void) {
  fc_gate g = made();
  fc_gate_expect(&g, 1);
  fc_gate_expect(&g, 2);
  CHECK_INT(fc_gate_guests(&g), 3);
  check_watched(&g, true);
  CHECK(!fc_waiter_has_sleepers(&g.threads));
  fc_gate_expect(&g, -2);
  check_watched(&g, true);
  fc_gate_expect(&g, -1);
  check_watched(&g, false);
  fc_waiter_fini(&g.threads);
}

/* Who takes guests off may do so before the one that brings them has counted: then nobody is seen
 * who is not there. */
static void test_fewer_than_none(void) {
  fc_gate g = made();
  fc_gate_expect(&g, -1);
  check_watched(&g, false);
  fc_gate_expect(&g, 1);
  check_watched(&g, false);
  fc_waiter_fini(&g.threads);
}

static void test_threads(void) {
  fc_gate g = made();
  uint32_t key = fc_waiter_prepare(&g.threads);
  check_watched(&g, true);
  CHECK_INT(fc_gate_guests(&g), 0);
  fc_waiter_cancel(&g.threads, key);
  check_watched(&g, false);
  fc_waiter_fini(&g.threads);
}

/* A thread that was woken and has not run yet is not to be woken again; a second one is. */
static void test_woken_threads_do_not_count(void) {
  fc_gate g = made();
  uint32_t a = fc_waiter_prepare(&g.threads), b = fc_waiter_prepare(&g.threads);
  fc_waiter_notify(&g.threads);
  check_watched(&g, true);
  fc_waiter_notify(&g.threads);
  check_watched(&g, false);
  CHECK_INT(fc_waiter_commit(&g.threads, a, FC_WAITER_NEVER), 0);
  CHECK_INT(fc_waiter_commit(&g.threads, b, FC_WAITER_NEVER), 0);
  check_watched(&g, false);
  fc_waiter_fini(&g.threads);
}

static void test_both(void) {
  fc_gate g = made();
  uint32_t key = fc_waiter_prepare(&g.threads);
  fc_gate_expect(&g, 1);
  fc_waiter_notify(&g.threads);
  CHECK(!fc_waiter_has_sleepers(&g.threads));
  CHECK_INT(fc_gate_guests(&g), 1); /* waking threads takes no guest off */
  check_watched(&g, true);
  CHECK_INT(fc_waiter_commit(&g.threads, key, FC_WAITER_NEVER), 0);
  fc_gate_expect(&g, -1);
  check_watched(&g, false);
  fc_waiter_fini(&g.threads);
}

int main(void) {
  RUN(test_guests);
  RUN(test_fewer_than_none);
  RUN(test_threads);
  RUN(test_woken_threads_do_not_count);
  RUN(test_both);
  return 0;
}
