#include "fc/timer.h"

#define SLOT_BITS 6
#define SLOT_MASK (FC_TIMER_SLOTS - 1)

#define LAST_TICK (UINT64_MAX >> FC_TIMER_TICK_SHIFT)

/* The first tick at or after `ns`; for what lies beyond it, the last tick there is. */
static uint64_t tick_after(uint64_t ns) {
  uint64_t tick = ns >> FC_TIMER_TICK_SHIFT;
  return (tick << FC_TIMER_TICK_SHIFT) == ns || tick == LAST_TICK ? tick : tick + 1;
}

void fc_timers_init(fc_timers *w, uint64_t now_ns) {
  w->tick = now_ns >> FC_TIMER_TICK_SHIFT;
  w->count = 0;
  for (int l = 0; l < FC_TIMER_LEVELS; l++) {
    w->occupied[l] = 0;
    for (int s = 0; s < FC_TIMER_SLOTS; s++) fc_list_init(&w->slots[l][s]);
  }
}

/* Files a timer that is in no list. One whose time has come goes to the slot the wheel stands on,
 * which the next advance empties. */
static void file(fc_timers *w, fc_timer *t) {
  uint64_t tick = tick_after(t->deadline_ns);
  if (tick < w->tick) tick = w->tick;
  uint64_t differs = (w->tick ^ tick) | SLOT_MASK;
  unsigned level = (unsigned)(63 - __builtin_clzll(differs)) / SLOT_BITS;
  unsigned slot = (unsigned)(tick >> (level * SLOT_BITS)) & SLOT_MASK;
  fc_list_push(&w->slots[level][slot], &t->link);
  w->occupied[level] |= UINT64_C(1) << slot;
}

/* Takes a timer out of its list; when a slot falls empty its bit is cleared. The slot is told from
 * the address of the list's head, the only neighbour left. */
static void unfile(fc_timers *w, fc_timer *t) {
  fc_list *next = t->link.next;
  bool last = next == t->link.prev;
  fc_list_unlink(&t->link);
  fc_list *first = &w->slots[0][0];
  if (!last || next < first || next >= first + FC_TIMER_LEVELS * FC_TIMER_SLOTS) return;
  size_t at = (size_t)(next - first);
  w->occupied[at / FC_TIMER_SLOTS] &= ~(UINT64_C(1) << (at % FC_TIMER_SLOTS));
}

void fc_timer_arm(fc_timers *w, fc_timer *t, uint64_t deadline_ns) {
  if (fc_timer_armed(t)) unfile(w, t);
  else w->count++;
  t->deadline_ns = deadline_ns;
  file(w, t);
}

void fc_timer_cancel(fc_timers *w, fc_timer *t) {
  if (!fc_timer_armed(t)) return;
  unfile(w, t);
  w->count--;
}

/* The level whose first occupied slot comes next, or -1; `*tick` is that slot's start. */
static int next_slot(const fc_timers *w, uint64_t *tick) {
  for (int l = 0; l < FC_TIMER_LEVELS; l++) {
    if (!w->occupied[l]) continue;
    unsigned shift = (unsigned)l * SLOT_BITS;
    uint64_t slot = (uint64_t)__builtin_ctzll(w->occupied[l]);
    uint64_t above = ~((UINT64_C(1) << (shift + SLOT_BITS)) - 1);
    *tick = (w->tick & above) | (slot << shift);
    return l;
  }
  return -1;
}

/* Inserts by deadline, searching from the end: timers mostly come in order. */
static void insert_due(fc_list *due, fc_timer *t) {
  fc_list *at = due->prev;
  while (at != due && FC_CONTAINER(at, fc_timer, link)->deadline_ns > t->deadline_ns) at = at->prev;
  fc_list_insert_after(at, &t->link);
}

/* Moves what is due at or before `now` into `due`, in order, and the wheel to `now`. */
static void collect(fc_timers *w, uint64_t now, fc_list *due) {
  uint64_t tick;
  for (int level; (level = next_slot(w, &tick)) >= 0 && tick <= now;) {
    w->tick = tick;
    unsigned slot = (unsigned)(tick >> (level * SLOT_BITS)) & SLOT_MASK;
    fc_list batch;
    fc_list_init(&batch);
    fc_list_splice(&batch, &w->slots[level][slot]);
    w->occupied[level] &= ~(UINT64_C(1) << slot);
    for (fc_list *node; (node = fc_list_pop(&batch));) {
      fc_timer *t = FC_CONTAINER(node, fc_timer, link);
      if (level == 0) insert_due(due, t);
      else file(w, t);
    }
  }
  if (now > w->tick) w->tick = now;
}

void fc_timers_advance(fc_timers *w, uint64_t now_ns) {
  fc_list due;
  fc_list_init(&due);
  collect(w, now_ns >> FC_TIMER_TICK_SHIFT, &due);
  for (fc_list *node; (node = fc_list_pop(&due));) {
    w->count--;
    fc_timer *t = FC_CONTAINER(node, fc_timer, link);
    t->fire(t);
  }
}

fc_timer *fc_timers_any(const fc_timers *w) {
  for (int l = 0; l < FC_TIMER_LEVELS; l++)
    if (w->occupied[l])
      return FC_CONTAINER(w->slots[l][__builtin_ctzll(w->occupied[l])].next, fc_timer, link);
  return NULL;
}

uint64_t fc_timers_next_ns(const fc_timers *w) {
  uint64_t tick;
  if (next_slot(w, &tick) < 0) return FC_TIMER_NEVER;
  return tick << FC_TIMER_TICK_SHIFT;
}
