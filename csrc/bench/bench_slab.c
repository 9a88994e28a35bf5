/* bench_slab - nanoseconds to acquire and release a buffer, from the pool and from malloc.
 *
 *     cc -O2 -Iinclude bench/bench_slab.c src/slab.c src/mem.c -pthread -o bench_slab
 *     ./bench_slab [rounds]
 *
 * "one": a buffer is taken and given back. "batch": 32 are taken, then given back, oldest first.
 * "mixed": one of 256 buffers, chosen at random, is replaced by one of a random size up to the
 * given. The first and last byte are written. Each figure is the least of five runs: what disturbs
 * a run only ever adds to it. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "fc/slab.h"

#define BATCH 32
#define MIXED 256

typedef struct source {
  void *(*take)(void *ctx, size_t bytes);
  void (*give)(void *ctx, void *b);
  char *(*data)(void *b);
  void *ctx;
} source;

static uint64_t state = 88172645463325252u;

static uint64_t next_random(void) {
  state ^= state << 13;
  state ^= state >> 7;
  return state ^= state << 17;
}

static double now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void *slab_take(void *ctx, size_t bytes) {
  return fc_slab_acquire(ctx, bytes);
}

static void slab_give(void *ctx, void *b) {
  fc_slab_release(ctx, b);
}

static char *slab_data(void *b) {
  return ((fc_slab_block *)b)->data;
}

static void *heap_take(void *ctx, size_t bytes) {
  (void)ctx;
  return malloc(bytes);
}

static void heap_give(void *ctx, void *b) {
  (void)ctx;
  free(b);
}

static char *heap_data(void *b) {
  return b;
}

static void *take(const source *s, size_t bytes) {
  void *b = s->take(s->ctx, bytes);
  if (!b) exit(1);
  volatile char *data = s->data(b);
  data[0] = data[bytes - 1] = 1;
  return b;
}

static double one(const source *s, size_t bytes, long rounds) {
  double start = now_ns();
  for (long i = 0; i < rounds; i++) s->give(s->ctx, take(s, bytes));
  return (now_ns() - start) / (double)rounds;
}

static double batch(const source *s, size_t bytes, long rounds) {
  void *blocks[BATCH];
  double start = now_ns();
  for (long i = 0; i < rounds / BATCH; i++) {
    for (int k = 0; k < BATCH; k++) blocks[k] = take(s, bytes);
    for (int k = 0; k < BATCH; k++) s->give(s->ctx, blocks[k]);
  }
  return (now_ns() - start) / (double)(rounds / BATCH * BATCH);
}

static double mixed(const source *s, size_t bytes, long rounds) {
  void *blocks[MIXED];
  for (int i = 0; i < MIXED; i++) blocks[i] = take(s, 1 + next_random() % bytes);
  double start = now_ns();
  for (long i = 0; i < rounds; i++) {
    uint64_t at = next_random() % MIXED;
    s->give(s->ctx, blocks[at]);
    blocks[at] = take(s, 1 + next_random() % bytes);
  }
  double ns = (now_ns() - start) / (double)rounds;
  for (int i = 0; i < MIXED; i++) s->give(s->ctx, blocks[i]);
  return ns;
}

static double least(double (*run)(const source *, size_t, long), const source *s, size_t bytes,
                    long rounds) {
  double best = 1e18;
  for (int k = 0; k < 5; k++) {
    double ns = run(s, bytes, rounds);
    if (ns < best) best = ns;
  }
  return best;
}

int main(int argc, char **argv) {
  static double (*const runs[])(const source *, size_t, long) = {one, batch, mixed};
  static const char *const names[] = {"one", "batch", "mixed"};
  static const size_t sizes[] = {256, 4096, 65536, 1 << 20};
  long rounds = argc > 1 ? atol(argv[1]) : 300000;
  fc_slab_config config = fc_slab_config_default(&fc_mem_libc);
  fc_slab *slab;
  if (fc_slab_open(&slab, &config) < 0) return 1;
  source pool = {slab_take, slab_give, slab_data, fc_slab_cache_open(slab)};
  source heap = {heap_take, heap_give, heap_data, NULL};
  if (!pool.ctx) return 1;
  printf("%-6s %9s %10s %10s %8s   ns\n", "", "bytes", "slab", "malloc", "ratio");
  for (int r = 0; r < 3; r++)
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
      double ours = least(runs[r], &pool, sizes[i], rounds);
      double theirs = least(runs[r], &heap, sizes[i], rounds);
      printf("%-6s %9zu %10.1f %10.1f %8.2f\n", names[r], sizes[i], ours, theirs, ours / theirs);
    }
  return fc_slab_close(slab) < 0;
}
