/* test_waiter.c over the mutex and the condition that stand in where there is no futex; the
 * library's own waiter is left out of this program. */
#define FC_WAITER_PTHREAD 1
#include "test_waiter.c"

#include "../src/waiter.c"
