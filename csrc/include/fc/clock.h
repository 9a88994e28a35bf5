/* clock.h - where time comes from, so that tests can turn it by hand. */
#ifndef FC_CLOCK_H
#define FC_CLOCK_H

#include <stddef.h>
#include <stdint.h>

#define FC_NS_PER_S UINT64_C(1000000000)
#define FC_NS_PER_MS UINT64_C(1000000)

typedef struct fc_clock {
  uint64_t (*now_ns)(void *ctx);    /* monotonic */
  int64_t (*unix_s)(void *ctx);     /* wall clock, whole seconds; only for dates in replies */
  void *ctx;
} fc_clock;

/* CLOCK_MONOTONIC and CLOCK_REALTIME_COARSE. */
extern const fc_clock fc_clock_system;

#endif
