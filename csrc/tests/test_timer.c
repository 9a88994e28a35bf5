/* The list, and the timer wheel against an array of deadlines. */
#include "check.h"
#include "fc/timer.h"
#include "rng.h"

#define TICK_NS (UINT64_C(1) << FC_TIMER_TICK_SHIFT)
#define LAST_TICK_NS (UINT64_MAX & ~(TICK_NS - 1))

/* ---- the list -------------------------------------------------------------------------------- */

static void test_list(void) {
  fc_list a, b, node[4];
  fc_list_init(&a);
  fc_list_init(&b);
  for (int i = 0; i < 4; i++) fc_list_init(&node[i]);
  CHECK(fc_list_empty(&a) && fc_list_pop(&a) == NULL);
  fc_list_unlink(&node[0]); /* in no list: no harm */
  CHECK(fc_list_empty(&node[0]));
  for (int i = 0; i < 3; i++) fc_list_push(&a, &node[i]);
  fc_list_unlink(&node[1]);
  fc_list_unlink(&node[1]);
  fc_list_insert_after(&node[0], &node[3]);
  fc_list_push(&b, &node[1]);
  fc_list_splice(&b, &a);
  CHECK(fc_list_empty(&a));
  fc_list_splice(&b, &a); /* of nothing */
  static const int order[] = {1, 0, 3, 2};
  for (int i = 0; i < 4; i++) CHECK(fc_list_pop(&b) == &node[order[i]]);
  CHECK(fc_list_empty(&b));
}

/* ---- the model ------------------------------------------------------------------------------- */

#define MODEL_TIMERS 600

typedef struct model_timer {
  fc_timer timer;
  struct model *model;
  uint64_t armed_at; /* counts armings, to tell which came first */
  bool armed;
  bool due; /* in the advance that is under way */
} model_timer;

typedef struct model {
  fc_timers wheel;
  rng random;
  uint64_t now, armings;
  size_t armed, fired;
  bool advancing;
  model_timer *due[MODEL_TIMERS];
  size_t due_len, due_at;
  model_timer timers[MODEL_TIMERS];
} model;

/* When it has to fire: its deadline rounded up to a tick, if there is one. */
static uint64_t fires_ns(const model_timer *t) {
  uint64_t d = t->timer.deadline_ns;
  return d > LAST_TICK_NS ? LAST_TICK_NS : (d + TICK_NS - 1) & ~(TICK_NS - 1);
}

static void model_arm(model *m, model_timer *t, uint64_t deadline) {
  if (!t->armed) m->armed++;
  t->armed = true;
  t->due = false;
  t->armed_at = m->armings++;
  fc_timer_arm(&m->wheel, &t->timer, deadline);
}

static void model_cancel(model *m, model_timer *t) {
  if (t->armed) m->armed--;
  t->armed = t->due = false;
  fc_timer_cancel(&m->wheel, &t->timer);
}

static model_timer *any_timer(model *m) {
  return &m->timers[rng_below(&m->random, MODEL_TIMERS)];
}

/* Before now, now, or after, near and far; the far future is cut off at the end of time. */
static uint64_t any_deadline(model *m) {
  uint64_t span = rng_span(&m->random, 60);
  switch (rng_below(&m->random, 8)) {
    case 0:
      return m->now < span ? 0 : m->now - span;
    case 1:
      return m->now;
    case 2:
      return any_timer(m)->timer.deadline_ns; /* equal ones keep the order of their arming */
    default:
      return m->now > UINT64_MAX - span ? UINT64_MAX : m->now + span;
  }
}

/* Every firing is the one that the array says is next, and some of them meddle. */
static void model_fire(fc_timer *timer) {
  model_timer *t = FC_CONTAINER(timer, model_timer, timer);
  model *m = t->model;
  CHECK(m->advancing);
  while (m->due_at < m->due_len && !m->due[m->due_at]->due) m->due_at++;
  CHECK(m->due_at < m->due_len && m->due[m->due_at] == t);
  CHECK(!fc_timer_armed(timer));
  CHECK(timer->deadline_ns <= m->now || m->now >= LAST_TICK_NS);
  m->due_at++;
  t->armed = t->due = false;
  m->armed--;
  m->fired++;
  switch (rng_below(&m->random, 6)) {
    case 0:
      model_cancel(m, any_timer(m));
      break;
    case 1:
      model_arm(m, any_timer(m), any_deadline(m));
      break;
    case 2:
      model_arm(m, t, rng_below(&m->random, 2) ? m->now : any_deadline(m));
  }
}

static int in_order(const void *a, const void *b) {
  const model_timer *x = *(model_timer *const *)a, *y = *(model_timer *const *)b;
  if (x->timer.deadline_ns != y->timer.deadline_ns)
    return x->timer.deadline_ns < y->timer.deadline_ns ? -1 : 1;
  return x->armed_at < y->armed_at ? -1 : 1;
}

static void model_advance(model *m, uint64_t now) {
  m->now = now;
  m->due_len = m->due_at = 0;
  for (int i = 0; i < MODEL_TIMERS; i++) {
    model_timer *t = &m->timers[i];
    t->due = t->armed && fires_ns(t) <= now;
    if (t->due) m->due[m->due_len++] = t;
  }
  qsort(m->due, m->due_len, sizeof m->due[0], in_order);
  m->advancing = true;
  fc_timers_advance(&m->wheel, now);
  m->advancing = false;
  for (; m->due_at < m->due_len; m->due_at++) CHECK(!m->due[m->due_at]->due);
}

static void model_check(const model *m) {
  uint64_t first = FC_TIMER_NEVER;
  for (int i = 0; i < MODEL_TIMERS; i++) {
    const model_timer *t = &m->timers[i];
    CHECK(t->armed == fc_timer_armed(&t->timer));
    if (t->armed && fires_ns(t) < first) first = fires_ns(t);
  }
  CHECK_INT(m->wheel.count, m->armed);
  uint64_t next = fc_timers_next_ns(&m->wheel);
  if (m->armed == 0) CHECK(next == FC_TIMER_NEVER && !fc_timers_any(&m->wheel));
  else CHECK(next <= first || next <= m->now);
}

static void model_step(model *m) {
  uint64_t what = rng_below(&m->random, 100), next;
  if (what < 55) {
    model_arm(m, any_timer(m), any_deadline(m));
  } else if (what < 75) {
    model_cancel(m, any_timer(m));
  } else if (what < 85 && (next = fc_timers_next_ns(&m->wheel)) != FC_TIMER_NEVER) {
    model_advance(m, next > m->now ? next : m->now);
  } else {
    uint64_t jump = rng_span(&m->random, rng_below(&m->random, 50) ? 34 : 58);
    model_advance(m, m->now > UINT64_MAX - jump ? UINT64_MAX : m->now + jump);
  }
}

static void model_run(uint64_t seed, uint64_t start, int steps) {
  static model m;
  memset(&m, 0, sizeof m);
  m.random = rng_seeded(seed);
  m.now = start;
  fc_timers_init(&m.wheel, start);
  for (int i = 0; i < MODEL_TIMERS; i++) {
    m.timers[i].model = &m;
    fc_timer_init(&m.timers[i].timer, model_fire);
  }
  for (int i = 0; i < steps; i++) {
    model_step(&m);
    if (i % 8 == 0) model_check(&m);
  }
  CHECK(m.fired > (size_t)steps / 20);
  size_t left = m.armed;
  for (fc_timer *t; (t = fc_timers_any(&m.wheel)); left--)
    model_cancel(&m, FC_CONTAINER(t, model_timer, timer));
  CHECK_INT(left, 0);
  model_check(&m);
}

static void test_model(void) {
  for (uint64_t seed = 1; seed <= 6; seed++) model_run(seed, seed & 1 ? 0 : seed << 40, 20000);
  model_run(7, 1234567891234567, 100000);
}

static void test_model_at_the_end_of_time(void) {
  model_run(8, UINT64_MAX - (UINT64_C(1) << 59), 20000);
  model_run(9, UINT64_MAX - (UINT64_C(1) << 20), 5000);
}

/* ---- single facts ---------------------------------------------------------------------------- */

typedef struct probe {
  fc_timer timer;
  int fired;
} probe;

static void probe_fire(fc_timer *t) {
  FC_CONTAINER(t, probe, timer)->fired++;
}

/* Waiting as a reactor does, a lone timer fires at its tick after at most one wait a level. */
static void test_waits(void) {
  rng random = rng_seeded(3);
  for (int i = 0; i < 20000; i++) {
    static fc_timers w;
    uint64_t now = rng_span(&random, 62), deadline = now + rng_span(&random, 62);
    probe p = {.fired = 0};
    fc_timers_init(&w, now);
    fc_timer_init(&p.timer, probe_fire);
    fc_timer_arm(&w, &p.timer, deadline);
    int waits = 0;
    for (; !p.fired; waits++) {
      uint64_t next = fc_timers_next_ns(&w);
      CHECK(next != FC_TIMER_NEVER);
      if (next > now) now = next;
      fc_timers_advance(&w, now);
    }
    CHECK(waits <= FC_TIMER_LEVELS);
    CHECK(now >= deadline && now - deadline < TICK_NS);
  }
}

static fc_timers *again_wheel;

static void fire_again(fc_timer *t) {
  probe_fire(t);
  fc_timer_arm(again_wheel, t, 0);
}

/* A timer that always arms itself for the past fires once an advance. */
static void test_arming_in_callback_waits(void) {
  static fc_timers w;
  again_wheel = &w;
  probe p = {.fired = 0};
  fc_timers_init(&w, 5000);
  fc_timer_init(&p.timer, fire_again);
  fc_timer_arm(&w, &p.timer, 1);
  for (int i = 1; i <= 10; i++) {
    CHECK(fc_timers_next_ns(&w) <= 5000);
    fc_timers_advance(&w, 5000);
    CHECK_INT(p.fired, i);
  }
  fc_timer_cancel(&w, &p.timer);
  fc_timer_cancel(&w, &p.timer);
  CHECK_INT(w.count, 0);
}

/* The furthest deadline has a place in the wheel, and a wait for it ends. */
static void test_never(void) {
  static fc_timers w;
  probe p = {.fired = 0};
  fc_timers_init(&w, 0);
  fc_timer_init(&p.timer, probe_fire);
  fc_timer_arm(&w, &p.timer, UINT64_MAX);
  CHECK(fc_timers_any(&w) == &p.timer);
  CHECK(fc_timers_next_ns(&w) > UINT64_MAX / 2);
  fc_timers_advance(&w, UINT64_MAX / 2);
  CHECK_INT(p.fired, 0);
  fc_timers_advance(&w, UINT64_MAX);
  CHECK_INT(p.fired, 1);
}

int main(void) {
  RUN(test_list);
  RUN(test_waits);
  RUN(test_arming_in_callback_waits);
  RUN(test_never);
  RUN(test_model);
  RUN(test_model_at_the_end_of_time);
  return 0;
}
