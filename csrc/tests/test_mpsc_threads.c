/* Many producers, one consumer. The nodes' own fields are plain: only the inbox orders them. */
#include "stress.h"

/* The whole inbox is compiled here, so that its race points yield. */
#include "../src/mpsc.c"
#include "fc/list.h"

typedef struct item {
  fc_mpsc_node node;
  uint64_t value;
} item;

#define ITEMS 4096

/* Items go round: the consumer hands each back by its flag. */
typedef struct inbox {
  fc_mpsc q;
  item items[STRESS_MAX_THREADS][ITEMS];
  atomic_bool taken[STRESS_MAX_THREADS][ITEMS];
} inbox;

static item *fresh(inbox *b, uint64_t value) {
  uint64_t at = value & (ITEMS - 1), producer = value >> 32;
  if (atomic_load_explicit(&b->taken[producer][at], memory_order_acquire)) return NULL;
  atomic_store_explicit(&b->taken[producer][at], true, memory_order_relaxed);
  item *i = &b->items[producer][at];
  i->value = value;
  return i;
}

static size_t push(void *arg, const uint64_t *values, size_t count) {
  inbox *b = arg;
  item *chain[STRESS_MAX_BATCH];
  size_t n = 0;
  while (n < count && (chain[n] = fresh(b, values[n]))) n++;
  if (n == 0) return 0;
  for (size_t i = 0; i + 1 < n; i++) fc_mpsc_link(&chain[i]->node, &chain[i + 1]->node);
  if (n == 1) fc_mpsc_push(&b->q, &chain[0]->node);
  else fc_mpsc_push_chain(&b->q, &chain[0]->node, &chain[n - 1]->node);
  return n;
}

static size_t pop(void *arg, uint64_t *values, size_t count) {
  inbox *b = arg;
  fc_mpsc_node *nodes[STRESS_MAX_BATCH];
  size_t n = fc_mpsc_pop_many(&b->q, nodes, count);
  for (size_t i = 0; i < n; i++) {
    values[i] = FC_CONTAINER(nodes[i], item, node)->value;
    atomic_store_explicit(&b->taken[values[i] >> 32][values[i] & (ITEMS - 1)], false,
                          memory_order_release);
  }
  return n;
}

static inbox *made(void) {
  inbox *b = calloc(1, sizeof *b);
  CHECK(b);
  fc_mpsc_init(&b->q);
  return b;
}

static void test_stress(void) {
  for (size_t producers = 1; producers <= 4; producers += 3) {
    for (size_t batch = 1; batch <= 8; batch += 7) {
      inbox *b = made();
      stress s = {.queue = b, .push = push, .pop = pop, .producers = producers, .consumers = 1,
                  .each = 15000, .batch = batch, .yields = 2, .fifo = true};
      stress_check("inbox", &s);
      CHECK(fc_mpsc_empty(&b->q));
      free(b);
    }
  }
}

static void reset(void *arg) {
  inbox *b = arg;
  fc_mpsc_init(&b->q);
  memset(b->taken, 0, sizeof b->taken);
}

static void act(void *arg, rng *random, history_log *log) {
  uint64_t value = history_value(log->thread, log->len), start = history_now(log);
  if (log->thread || rng_below(random, 4) == 0) {
    push(arg, &value, 1);
    history_add(log, HISTORY_PUSH, start, true, value);
  } else {
    bool ok = pop(arg, &value, 1) == 1;
    history_add(log, HISTORY_POP, start, ok, value);
  }
}

static bool may_hide(const history_event *failed, const history_event *other) {
  return failed->op == HISTORY_POP && other->op == HISTORY_PUSH;
}

static void test_small_histories(void) {
  inbox *b = made();
  history_small h = {.reset = reset, .act = act, .may_hide = may_hide, .queue = b, .runs = 4000,
                     .calls = 4, .kind = HISTORY_FIFO, .capacity = HISTORY_MAX_EVENTS};
  CHECK(!history_small_runs(&h, 3, true));
  free(b);
}

int main(void) {
  RUN(test_stress);
  RUN(test_small_histories);
  return 0;
}
