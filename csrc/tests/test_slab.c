/* The buffer pool: classes, reuse, the bound, trimming, blocks returned to another's cache. */
#include <stdint.h>

#include "check.h"
#include "failmem.h"
#include "fc/err.h"
#include "fc/slab.h"

typedef struct fixture {
  failmem mem;
  fc_slab *slab;
  fc_slab_cache *cache;
} fixture;

static void set_up(fixture *f, size_t max_bytes, const size_t *classes, size_t count) {
  failmem_init(&f->mem, -1);
  fc_slab_config config = fc_slab_config_default(&f->mem.mem);
  config.class_bytes = classes;
  config.class_count = count;
  config.trim_interval = 0;
  if (max_bytes) config.max_bytes = max_bytes;
  CHECK_INT(fc_slab_open(&f->slab, &config), 0);
  f->cache = fc_slab_cache_open(f->slab);
  CHECK(f->cache);
}

static void tear_down(fixture *f) {
  CHECK_INT(fc_slab_close(f->slab), 0);
  CHECK_INT(f->mem.live, 0);
}

static size_t capacity_for(fixture *f, size_t bytes) {
  fc_slab_block *b = fc_slab_acquire(f->cache, bytes);
  size_t capacity = b->capacity;
  CHECK_INT((uintptr_t)b->data % 16, 0);
  memset(b->data, 0xA5, capacity);
  fc_slab_release(f->cache, b);
  return capacity;
}

static void test_default_classes(void) {
  static const size_t cases[][2] = {
      {0, 64},     {1, 64},      {64, 64},     {65, 96},           {96, 96},
      {97, 128},   {4096, 4096}, {4097, 6144}, {786433, 1 << 20},  {1 << 20, 1 << 20},
      {(1 << 20) + 1, (1 << 20) + 1},
  };
  fixture f;
  set_up(&f, 0, NULL, 0);
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
    CHECK_INT(capacity_for(&f, cases[i][0]), cases[i][1]);
  /* Every size: enough, and the classes are at most x1.5 apart. */
  for (size_t n = 1; n < 20000; n++) {
    size_t capacity = capacity_for(&f, n);
    CHECK(capacity >= n && (n < 64 || capacity <= n + n / 2));
  }
  CHECK(fc_slab_acquire(f.cache, SIZE_MAX) == NULL);
  CHECK(fc_slab_acquire(f.cache, SIZE_MAX / 4 + 1) == NULL);
  tear_down(&f);
}

static void test_given_classes(void) {
  static const size_t classes[] = {1, 10, 11, 5000};
  fixture f;
  set_up(&f, 0, classes, 4);
  CHECK_INT(capacity_for(&f, 0), 1);
  CHECK_INT(capacity_for(&f, 2), 10);
  CHECK_INT(capacity_for(&f, 11), 11);
  CHECK_INT(capacity_for(&f, 12), 5000);
  CHECK_INT(fc_slab_stat(f.slab).oversize, 0);
  CHECK_INT(capacity_for(&f, 5001), 5001);
  CHECK_INT(fc_slab_stat(f.slab).oversize, 1);
  tear_down(&f);
}

static void test_classes_refused(void) {
  static const size_t descending[] = {10, 10}, zero[] = {0}, huge[] = {SIZE_MAX};
  size_t many[FC_SLAB_MAX_CLASSES + 1];
  for (size_t i = 0; i <= FC_SLAB_MAX_CLASSES; i++) many[i] = i + 1;
  const struct {
    const size_t *classes;
    size_t count;
  } cases[] = {{descending, 2}, {zero, 1}, {huge, 1}, {many, FC_SLAB_MAX_CLASSES + 1}, {zero, 0}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    failmem mem;
    failmem_init(&mem, -1);
    fc_slab_config config = fc_slab_config_default(&mem.mem);
    config.class_bytes = cases[i].classes;
    config.class_count = cases[i].count;
    fc_slab *s;
    CHECK_INT(fc_slab_open(&s, &config), FC_EINVALID);
    CHECK_INT(mem.live, 0);
  }
}

/* The block returned last is the next one handed out, at no allocation. */
static void test_reuse(void) {
  fixture f;
  set_up(&f, 0, NULL, 0);
  fc_slab_block *a = fc_slab_acquire(f.cache, 100), *b = fc_slab_acquire(f.cache, 100);
  long allocations = f.mem.total;
  fc_slab_release(f.cache, a);
  fc_slab_release(f.cache, b);
  CHECK(fc_slab_acquire(f.cache, 128) == b);
  CHECK(fc_slab_acquire(f.cache, 97) == a);
  CHECK_INT(f.mem.total, allocations);
  fc_slab_block *c = fc_slab_acquire(f.cache, 90); /* of another class */
  CHECK(c != a && c != b);
  fc_slab_stats t = fc_slab_stat(f.slab);
  CHECK_INT(t.hits, 2);
  CHECK_INT(t.misses, 3);
  CHECK_INT(t.live, 3);
  CHECK_INT(t.high_water, 3);
  CHECK_INT(t.idle, 0);
  CHECK_INT(t.pooled_bytes, 128 + 128 + 96);
  CHECK_INT(fc_slab_close(f.slab), FC_ESTATE);
  CHECK_INT(fc_slab_stat(f.slab).live, 3); /* nothing happened */
  fc_slab_release(f.cache, a);
  fc_slab_release(f.cache, b);
  fc_slab_release(f.cache, c);
  tear_down(&f);
}

/* A magazine holds so many; the rest goes back to the allocator at once. */
static void test_magazine_is_bounded(void) {
  enum { COUNT = FC_SLAB_MAGAZINE + 10 };
  fixture f;
  fc_slab_block *blocks[COUNT];
  set_up(&f, 0, NULL, 0);
  long before = f.mem.live;
  for (int i = 0; i < COUNT; i++) blocks[i] = fc_slab_acquire(f.cache, 64);
  for (int i = 0; i < COUNT; i++) fc_slab_release(f.cache, blocks[i]);
  CHECK_INT(f.mem.live - before, FC_SLAB_MAGAZINE);
  CHECK_INT(fc_slab_stat(f.slab).idle, FC_SLAB_MAGAZINE);
  CHECK_INT(fc_slab_stat(f.slab).pooled_bytes, FC_SLAB_MAGAZINE * 64);
  for (int i = 0; i < 20; i++) blocks[i] = fc_slab_acquire(f.cache, 1 << 20);
  for (int i = 0; i < 20; i++) fc_slab_release(f.cache, blocks[i]);
  CHECK_INT(fc_slab_stat(f.slab).idle, FC_SLAB_MAGAZINE + 8); /* 8 MiB of them */
  tear_down(&f);
}

/* Past the bound the heap helps out, is counted, and takes its blocks back. */
static void test_bound(void) {
  fixture f;
  set_up(&f, 1000, NULL, 0);
  fc_slab_block *pooled[7];
  for (int i = 0; i < 7; i++) {
    pooled[i] = fc_slab_acquire(f.cache, 128);
    CHECK(!fc_slab_is_heap(pooled[i]));
  }
  fc_slab_block *extra = fc_slab_acquire(f.cache, 120);
  CHECK(fc_slab_is_heap(extra));
  CHECK_INT(extra->capacity, 120);
  fc_slab_stats t = fc_slab_stat(f.slab);
  CHECK_INT(t.exhausted, 1);
  CHECK_INT(t.live, 8);
  CHECK_INT(t.pooled_bytes, 7 * 128);
  long before = f.mem.live;
  fc_slab_release(f.cache, extra);
  CHECK_INT(f.mem.live, before - 1);
  for (int i = 0; i < 7; i++) fc_slab_release(f.cache, pooled[i]);
  CHECK_INT(fc_slab_stat(f.slab).live, 0);
  tear_down(&f);
}

/* Idle blocks of one class make way for another before the heap is asked. */
static void test_idle_blocks_make_way(void) {
  fixture f;
  set_up(&f, 1024, NULL, 0);
  fc_slab_release(f.cache, fc_slab_acquire(f.cache, 512));
  fc_slab_block *b = fc_slab_acquire(f.cache, 1024);
  CHECK(!fc_slab_is_heap(b));
  CHECK_INT(fc_slab_stat(f.slab).idle, 0);
  fc_slab_release(f.cache, b);
  tear_down(&f);
}

static void test_trim(void) {
  fixture f;
  fc_slab_block *blocks[40];
  set_up(&f, 0, NULL, 0);
  for (int i = 0; i < 40; i++) blocks[i] = fc_slab_acquire(f.cache, 256);
  for (int i = 0; i < 40; i++) fc_slab_release(f.cache, blocks[i]);
  CHECK_INT(fc_slab_trim(f.cache), 0); /* all 40 were needed since the beginning */
  for (int i = 0; i < 10; i++) blocks[i] = fc_slab_acquire(f.cache, 256);
  for (int i = 0; i < 7; i++) fc_slab_release(f.cache, blocks[i]);
  CHECK_INT(fc_slab_trim(f.cache), 30); /* 10 were */
  CHECK_INT(fc_slab_stat(f.slab).idle, 7);
  CHECK_INT(fc_slab_trim(f.cache), 7); /* the 3 that are out, throughout */
  for (int i = 7; i < 10; i++) fc_slab_release(f.cache, blocks[i]);
  CHECK_INT(fc_slab_trim(f.cache), 0);
  CHECK_INT(fc_slab_trim(f.cache), 3);
  CHECK_INT(fc_slab_stat(f.slab).trimmed, 40);
  CHECK_INT(fc_slab_stat(f.slab).pooled_bytes, 0);
  tear_down(&f);
}

static void test_trim_interval(void) {
  failmem mem;
  failmem_init(&mem, -1);
  fc_slab_config config = fc_slab_config_default(&mem.mem);
  config.trim_interval = 100;
  fc_slab *s;
  CHECK_INT(fc_slab_open(&s, &config), 0);
  fc_slab_cache *c = fc_slab_cache_open(s);
  fc_slab_block *a = fc_slab_acquire(c, 64), *b = fc_slab_acquire(c, 64);
  fc_slab_release(c, a);
  fc_slab_release(c, b);
  for (int i = 2; i < 199; i++) fc_slab_release(c, fc_slab_acquire(c, 64));
  CHECK_INT(fc_slab_stat(s).idle, 2);
  fc_slab_release(c, fc_slab_acquire(c, 64)); /* the 200th: one was enough for a whole interval */
  CHECK_INT(fc_slab_stat(s).idle, 1);
  CHECK_INT(fc_slab_close(s), 0);
  CHECK_INT(mem.live, 0);
}

/* A block given back through another cache returns to the one it came from. */
static void test_remote(void) {
  fixture f;
  set_up(&f, 0, NULL, 0);
  fc_slab_cache *other = fc_slab_cache_open(f.slab);
  CHECK(other && other != f.cache);
  fc_slab_block *a = fc_slab_acquire(f.cache, 64), *b = fc_slab_acquire(f.cache, 64);
  fc_slab_release(other, a);
  fc_slab_release(other, b);
  CHECK_INT(fc_slab_stat(f.slab).remote_frees, 2);
  CHECK_INT(fc_slab_stat(f.slab).live, 2); /* until the owner looks */
  fc_slab_block *c = fc_slab_acquire(other, 64);
  CHECK(c != a && c != b);
  fc_slab_block *d = fc_slab_acquire(f.cache, 64);
  CHECK(d == a || d == b);
  CHECK_INT(fc_slab_stat(f.slab).live, 2);
  CHECK_INT(fc_slab_stat(f.slab).misses, 3);
  fc_slab_release(other, c);
  fc_slab_release(f.cache, d);
  tear_down(&f);
}

/* A cache outlives its thread while its blocks are out, and serves the next thread. */
static void test_cache_is_taken_over(void) {
  fixture f;
  set_up(&f, 0, NULL, 0);
  fc_slab_block *a = fc_slab_acquire(f.cache, 64), *b = fc_slab_acquire(f.cache, 64);
  fc_slab_release(f.cache, b);
  fc_slab_cache_close(f.cache);
  CHECK_INT(fc_slab_stat(f.slab).idle, 0);
  fc_slab_cache *next = fc_slab_cache_open(f.slab), *second = fc_slab_cache_open(f.slab);
  CHECK(next == f.cache && second != next);
  fc_slab_release(second, a);
  CHECK(fc_slab_acquire(next, 64) == a);
  fc_slab_release(next, a);
  tear_down(&f);
}

/* Whichever allocation fails: NULL, nothing counted, and all goes on. */
static void test_out_of_memory(void) {
  for (long at = 0; at < 6; at++) {
    failmem mem;
    failmem_init(&mem, at);
    mem.once = true;
    fc_slab_config config = fc_slab_config_default(&mem.mem);
    config.max_bytes = 100;
    fc_slab *s;
    int err = fc_slab_open(&s, &config);
    CHECK_INT(err, at == 0 ? FC_ENOMEM : 0);
    if (err < 0) continue;
    fc_slab_cache *c = fc_slab_cache_open(s);
    CHECK((c == NULL) == (at == 1));
    if (!c) c = fc_slab_cache_open(s);
    fc_slab_block *b[3] = {NULL};
    static const size_t sizes[] = {64, 65, 2 << 20}; /* pooled, past the bound, oversize */
    for (int i = 0; i < 3; i++) {
      b[i] = fc_slab_acquire(c, sizes[i]);
      CHECK((b[i] == NULL) == (at == i + 2));
    }
    fc_slab_stats t = fc_slab_stat(s);
    CHECK_INT(t.live, 3 - (at >= 2 && at < 5));
    CHECK_INT(t.pooled_bytes, at == 2 ? 96 : 64); /* what failed has left room for the next */
    for (int i = 0; i < 3; i++)
      if (b[i]) fc_slab_release(c, b[i]);
    CHECK_INT(fc_slab_close(s), 0);
    CHECK_INT(mem.live, 0);
  }
}

int main(void) {
  RUN(test_default_classes);
  RUN(test_given_classes);
  RUN(test_classes_refused);
  RUN(test_reuse);
  RUN(test_magazine_is_bounded);
  RUN(test_bound);
  RUN(test_idle_blocks_make_way);
  RUN(test_trim);
  RUN(test_trim_interval);
  RUN(test_remote);
  RUN(test_cache_is_taken_over);
  RUN(test_out_of_memory);
  return 0;
}
