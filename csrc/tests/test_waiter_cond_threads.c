/* Blocking over the mutex and the condition that stand in where there is no futex; the library's
 * own waiter is left out of this program. */
#define FC_WAITER_PTHREAD 1
#include "waiter_threads.h"

#include "../src/waiter.c"
