/* A pool's free list under several threads: no index is held twice, and none is lost. */
#include "history.h"

#include "fc/stack.h"

#define SLOTS 6
#define ROUNDS 20000
#define THREADS 4

typedef struct pool {
  fc_stack *s;
  long held[SLOTS]; /* plain: two holders at once are a race, and a count that is off */
} pool;

typedef struct user {
  pool *of;
  uint64_t seed;
  pthread_t thread;
} user;

/* Takes some slots, marks them, and gives them back in another order, one by one or together. */
static void *use(void *arg) {
  user *u = arg;
  pool *p = u->of;
  rng random = rng_seeded(u->seed);
  race_begin(u->seed, 8);
  for (int i = 0; i < ROUNDS; i++) {
    uint32_t got[3];
    size_t count = fc_stack_pop_many(p->s, got, 1 + rng_below(&random, 3));
    for (size_t k = 0; k < count; k++) CHECK_INT(p->held[got[k]]++, 0);
    race_point();
    for (size_t k = 0; k < count; k++) CHECK_INT(--p->held[got[k]], 0);
    if (rng_below(&random, 2)) fc_stack_push_many(p->s, got, count);
    else
      while (count-- > 0) fc_stack_push(p->s, got[count]);
  }
  return NULL;
}

static void test_pool(void) {
  pool p = {0};
  user users[THREADS];
  CHECK_INT(fc_stack_new(&p.s, &fc_mem_libc, SLOTS), 0);
  fc_stack_fill(p.s);
  for (uint64_t i = 0; i < THREADS; i++) {
    users[i] = (user){.of = &p, .seed = i};
    CHECK(pthread_create(&users[i].thread, NULL, use, &users[i]) == 0);
  }
  for (int i = 0; i < THREADS; i++) pthread_join(users[i].thread, NULL);
  uint32_t left[SLOTS];
  bool there[SLOTS] = {0};
  CHECK_INT(fc_stack_pop_many(p.s, left, SLOTS), SLOTS);
  for (int i = 0; i < SLOTS; i++) there[left[i]] = true;
  for (int i = 0; i < SLOTS; i++) CHECK(there[i]);
  CHECK(fc_stack_empty(p.s));
  fc_stack_free(p.s, &fc_mem_libc);
}

static void reset(void *s) {
  fc_stack_seek(s, UINT64_MAX - 1);
}

static void act(void *s, rng *random, history_log *log) {
  uint64_t start = history_now(log);
  uint32_t index = log->thread * 8u + (uint32_t)log->len;
  if (rng_below(random, 2)) {
    fc_stack_push(s, index);
    history_add(log, HISTORY_PUSH, start, true, index);
  } else {
    bool ok = fc_stack_pop(s, &index);
    history_add(log, HISTORY_POP, start, ok, index);
  }
}

static void test_small_histories(void) {
  fc_stack *s;
  CHECK_INT(fc_stack_new(&s, &fc_mem_libc, 24), 0);
  history_small h = {.reset = reset, .act = act, .queue = s, .runs = 5000, .calls = 4,
                     .kind = HISTORY_LIFO, .capacity = HISTORY_MAX_EVENTS};
  CHECK(!history_small_runs(&h, 3, true));
  fc_stack_free(s, &fc_mem_libc);
}

int main(void) {
  RUN(test_pool);
  RUN(test_small_histories);
  return 0;
}
