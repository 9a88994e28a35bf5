/* Blocks go round between threads: nobody ever holds a block that another holds too. */
#include <pthread.h>
#include <stdint.h>

#include "check.h"
#include "fc/slab.h"
#include "rng.h"

#define THREADS 4
#define ROUNDS 30000
#define SLOTS 64

typedef struct shared {
  fc_slab *slab;
  pthread_barrier_t start; /* all caches are open: each has its own */
  _Atomic(fc_slab_block *) slots[SLOTS]; /* blocks on their way from thread to thread */
} shared;

typedef struct worker {
  shared *shared;
  uint64_t seed;
  pthread_t thread;
  uint64_t acquired;
} worker;

/* Each holder signs the block with plain stores: two holders at once would be a race for TSan and
 * a broken signature without it. */
static void sign(fc_slab_block *b, uint64_t signature) {
  memcpy(b->data, &signature, sizeof signature);
  memcpy(b->data + b->capacity - sizeof signature, &signature, sizeof signature);
}

static void verify(const fc_slab_block *b) {
  uint64_t first, last;
  memcpy(&first, b->data, sizeof first);
  memcpy(&last, b->data + b->capacity - sizeof last, sizeof last);
  CHECK(first == last);
}

static fc_slab_block *acquire_signed(fc_slab_cache *c, rng *g) {
  fc_slab_block *b = fc_slab_acquire(c, 16 + (size_t)rng_below(g, 3000));
  CHECK(b);
  sign(b, rng_next(g));
  return b;
}

/* Puts a block of its own on a slot and gives back what lay there, most often another's. Now and
 * then its cache is closed and taken over. */
static void *work(void *arg) {
  worker *w = arg;
  rng g = rng_seeded(w->seed);
  fc_slab_cache *c = fc_slab_cache_open(w->shared->slab);
  CHECK(c);
  pthread_barrier_wait(&w->shared->start);
  for (int i = 0; i < ROUNDS; i++) {
    fc_slab_block *b = acquire_signed(c, &g);
    w->acquired++;
    b = atomic_exchange_explicit(&w->shared->slots[rng_below(&g, SLOTS)], b, memory_order_acq_rel);
    if (b) {
      verify(b);
      sign(b, w->seed);
      verify(b);
      fc_slab_release(c, b);
    }
    if (i % 1000 == 999) {
      fc_slab_stats t = fc_slab_stat(w->shared->slab);
      CHECK(t.pooled_bytes <= FC_SLAB_MAX_BYTES);
      fc_slab_cache_close(c);
      c = fc_slab_cache_open(w->shared->slab);
      CHECK(c);
    }
  }
  fc_slab_cache_close(c);
  return NULL;
}

static void exchange(size_t max_bytes) {
  fc_slab_config config = fc_slab_config_default(&fc_mem_libc);
  config.max_bytes = max_bytes;
  config.trim_interval = 500;
  shared s = {0};
  worker workers[THREADS] = {0};
  uint64_t acquired = 0;
  CHECK_INT(fc_slab_open(&s.slab, &config), 0);
  CHECK_INT(pthread_barrier_init(&s.start, NULL, THREADS), 0);
  for (int i = 0; i < THREADS; i++) {
    workers[i].shared = &s;
    workers[i].seed = (uint64_t)i + 1;
    CHECK_INT(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
  }
  for (int i = 0; i < THREADS; i++) {
    pthread_join(workers[i].thread, NULL);
    acquired += workers[i].acquired;
  }
  pthread_barrier_destroy(&s.start);
  fc_slab_cache *c = fc_slab_cache_open(s.slab);
  for (int i = 0; i < SLOTS; i++)
    if (s.slots[i]) fc_slab_release(c, s.slots[i]);
  fc_slab_stats t = fc_slab_stat(s.slab);
  CHECK_INT(t.hits + t.misses + t.exhausted + t.oversize, acquired);
  CHECK(t.remote_frees > 0);
  CHECK(t.pooled_bytes <= max_bytes);
  CHECK((t.exhausted > 0) == (max_bytes < FC_SLAB_MAX_BYTES));
  CHECK_INT(fc_slab_close(s.slab), 0); /* fails if any block were lost */
}

static void test_roomy(void) {
  exchange(FC_SLAB_MAX_BYTES);
}

static void test_at_the_bound(void) {
  exchange(40000);
}

int main(void) {
  RUN(test_roomy);
  RUN(test_at_the_bound);
  return 0;
}
