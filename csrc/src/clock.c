#include "fc/clock.h"

#include <time.h>

static uint64_t system_now_ns(void *ctx) {
  (void)ctx;
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * FC_NS_PER_S + (uint64_t)t.tv_nsec;
}

static int64_t system_unix_s(void *ctx) {
  (void)ctx;
  struct timespec t;
#ifdef CLOCK_REALTIME_COARSE
  clock_gettime(CLOCK_REALTIME_COARSE, &t);
#else
  clock_gettime(CLOCK_REALTIME, &t);
#endif
  return t.tv_sec;
}

const fc_clock fc_clock_system = {system_now_ns, system_unix_s, NULL};
