/* timer.h - a hierarchical timing wheel (Varghese and Lauck, 1987, scheme 7).
 *
 *     level 0   64 slots of one tick (1.024 us)
 *     level 1   64 slots of 64 ticks
 *     ...       up to level 8, which reaches 2^64 ns
 *
 * A timer lies at the level of the highest group of six bits in which its tick differs from the
 * wheel's. So every occupied slot of a level lies ahead of the wheel's place in it, all of a level
 * comes before all of the next, and one bitmap per level finds the next slot. A timer moves down a
 * level when the wheel reaches its slot: at most eight moves in its life, most often none.
 *
 * Add and cancel are O(1). Ticks are rounded up, so a timer never fires early, and by at most one
 * tick late; timers due together fire in the order of their deadlines, then of their arming. */
#ifndef FC_TIMER_H
#define FC_TIMER_H

#include <stdint.h>

#include "fc/list.h"

#define FC_TIMER_TICK_SHIFT 10
#define FC_TIMER_LEVELS 9
#define FC_TIMER_SLOTS 64
#define FC_TIMER_NEVER UINT64_MAX

typedef struct fc_timer {
  fc_list link;         /* in a slot, or among those about to fire */
  uint64_t deadline_ns; /* of the clock the wheel is advanced by */
  void (*fire)(struct fc_timer *t);
} fc_timer;

typedef struct fc_timers {
  uint64_t tick;                       /* where the wheel stands */
  size_t count;                        /* armed timers */
  uint64_t occupied[FC_TIMER_LEVELS];  /* bit s: slot s of the level is not empty */
  fc_list slots[FC_TIMER_LEVELS][FC_TIMER_SLOTS];
} fc_timers;

void fc_timers_init(fc_timers *w, uint64_t now_ns);

/* Sets up a timer that is not armed. */
static inline void fc_timer_init(fc_timer *t, void (*fire)(fc_timer *)) {
  fc_list_init(&t->link);
  t->deadline_ns = 0;
  t->fire = fire;
}

static inline bool fc_timer_armed(const fc_timer *t) {
  return !fc_list_empty(&t->link);
}

/* Arms the timer, moving it if it is armed already. */
void fc_timer_arm(fc_timers *w, fc_timer *t, uint64_t deadline_ns);

/* Disarms it; nothing happens if it is not armed. Allowed from any timer's callback. */
void fc_timer_cancel(fc_timers *w, fc_timer *t);

/* Fires what is due. A timer armed meanwhile waits for the next call, even when due at once. */
void fc_timers_advance(fc_timers *w, uint64_t now_ns);

/* Some armed timer, or NULL: for whoever empties the wheel. */
fc_timer *fc_timers_any(const fc_timers *w);

/* When to call fc_timers_advance() next: never later than the earliest deadline rounded up to a
 * tick, possibly earlier (a slot must then be moved down). FC_TIMER_NEVER without timers. */
uint64_t fc_timers_next_ns(const fc_timers *w);

#endif
