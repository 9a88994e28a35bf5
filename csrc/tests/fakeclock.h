/* fakeclock.h - a clock that stands still until it is turned. */
#ifndef FC_FAKECLOCK_H
#define FC_FAKECLOCK_H

#include "fc/clock.h"

typedef struct fakeclock {
  fc_clock clock;
  uint64_t now_ns;
  int64_t unix_s;
} fakeclock;

static uint64_t fakeclock_now_ns(void *ctx) {
  return ((fakeclock *)ctx)->now_ns;
}

static int64_t fakeclock_unix_s(void *ctx) {
  return ((fakeclock *)ctx)->unix_s;
}

static inline void fakeclock_init(fakeclock *c) {
  c->clock = (fc_clock){fakeclock_now_ns, fakeclock_unix_s, c};
  c->now_ns = 1000 * FC_NS_PER_S;
  c->unix_s = 784111777; /* Sun, 06 Nov 1994 08:49:37 GMT */
}

static inline void fakeclock_turn(fakeclock *c, uint64_t ns) {
  c->now_ns += ns;
}

#endif
