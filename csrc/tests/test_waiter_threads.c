/* Blocking over futexes, where there are any. */
#include "waiter_threads.h"
