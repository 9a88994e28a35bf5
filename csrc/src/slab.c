#include "fc/slab.h"

#include <pthread.h>
#include <string.h>

#include "fc/concurrent.h"
#include "fc/err.h"

#define MIN_MAGAZINE 4
#define WORD_BITS (sizeof(size_t) * 8)
#define NO_CLASS UINT32_MAX

typedef struct magazine {
  uint32_t count;
  uint32_t size;
  size_t live; /* blocks of this class and cache that are out */
  size_t high; /* the most since the last trim */
  fc_slab_block *items[FC_SLAB_MAGAZINE];
} magazine;

struct fc_slab_cache {
  fc_slab *slab;
  fc_slab_cache *next; /* of all caches; fixed once it is in the list */
  bool idle;           /* its thread has closed it; under the slab's lock */
  uint32_t until_trim;
  atomic_uint_fast64_t hits, misses, remote_frees, trimmed;
  atomic_size_t live, high, kept;
  char pad[FC_CACHE_LINE]; /* what others write lies apart from what the owner does */
  _Atomic(fc_slab_block *) remote;
  char pad_end[FC_CACHE_LINE];
  magazine magazines[];
};

struct fc_slab {
  const fc_mem *mem;
  size_t max_bytes;
  uint32_t trim_interval;
  uint32_t class_count;
  size_t class_bytes[FC_SLAB_MAX_CLASSES];
  uint8_t first_class[WORD_BITS + 1]; /* the first to try for a size of so many bits */
  pthread_mutex_t lock;               /* of the list of caches */
  fc_slab_cache *caches;
  char pad[FC_CACHE_LINE];
  atomic_size_t pooled_bytes;
  atomic_size_t heap_live;
  atomic_uint_fast64_t oversize, exhausted;
};

/* Relaxed and without a locked instruction: for counters that one thread writes. */
#define BUMP(counter, by)                                                                         \
  atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + (by),      \
                        memory_order_relaxed)
#define READ(counter) atomic_load_explicit(counter, memory_order_relaxed)
#define ADD(counter, by) atomic_fetch_add_explicit(counter, by, memory_order_relaxed)
#define SUB(counter, by) atomic_fetch_sub_explicit(counter, by, memory_order_relaxed)

fc_slab_config fc_slab_config_default(const fc_mem *mem) {
  return (fc_slab_config){
      .mem = mem, .max_bytes = FC_SLAB_MAX_BYTES, .trim_interval = FC_SLAB_TRIM_INTERVAL};
}

/* ---- classes ---------------------------------------------------------------------------------*/

static void default_classes(fc_slab *s) {
  uint32_t n = 0;
  for (size_t size = 64; size < (size_t)1 << 20; size *= 2) {
    s->class_bytes[n++] = size;
    s->class_bytes[n++] = size + size / 2;
  }
  s->class_bytes[n++] = (size_t)1 << 20;
  s->class_count = n;
}

static int take_classes(fc_slab *s, const fc_slab_config *config) {
  if (!config->class_bytes) {
    default_classes(s);
    return 0;
  }
  if (config->class_count == 0 || config->class_count > FC_SLAB_MAX_CLASSES) return FC_EINVALID;
  size_t last = 0;
  for (size_t i = 0; i < config->class_count; i++) {
    size_t size = config->class_bytes[i];
    if (size <= last || size > SIZE_MAX / 4) return FC_EINVALID;
    s->class_bytes[i] = last = size;
  }
  s->class_count = (uint32_t)config->class_count;
  return 0;
}

/* A size of b bits is at least 2^(b-1), so no class below that can hold it. */
static void index_classes(fc_slab *s) {
  for (unsigned bits = 0; bits <= WORD_BITS; bits++) {
    size_t least = bits ? (size_t)1 << (bits - 1) : 0;
    uint32_t c = 0;
    while (c < s->class_count && s->class_bytes[c] < least) c++;
    s->first_class[bits] = (uint8_t)c;
  }
}

/* The smallest class that holds `bytes`, or NO_CLASS: a table by magnitude and a step or two. */
static inline uint32_t class_of(const fc_slab *s, size_t bytes) {
  unsigned bits = bytes ? (unsigned)(WORD_BITS - (size_t)__builtin_clzl(bytes)) : 0;
  for (uint32_t c = s->first_class[bits]; c < s->class_count; c++)
    if (bytes <= s->class_bytes[c]) return c;
  return NO_CLASS;
}

/* ---- the slab --------------------------------------------------------------------------------*/

int fc_slab_open(fc_slab **out, const fc_slab_config *config) {
  fc_slab *s = fc_zalloc(config->mem, sizeof *s);
  if (!s) return FC_ENOMEM;
  s->mem = config->mem;
  s->max_bytes = config->max_bytes;
  s->trim_interval = config->trim_interval;
  int err = take_classes(s, config);
  if (err == 0 && pthread_mutex_init(&s->lock, NULL) != 0) err = FC_ENOMEM;
  if (err < 0) {
    fc_free(s->mem, s);
    return err;
  }
  index_classes(s);
  *out = s;
  return 0;
}

/* Takes `bytes` of the bound; false when they are past it. */
static bool reserve(fc_slab *s, size_t bytes) {
  if (ADD(&s->pooled_bytes, bytes) + bytes <= s->max_bytes) return true;
  SUB(&s->pooled_bytes, bytes);
  return false;
}

static void destroy(fc_slab *s, fc_slab_block *b) {
  SUB(&s->pooled_bytes, b->capacity);
  fc_free(s->mem, b);
}

/* ---- caches ----------------------------------------------------------------------------------*/

/* Frees idle blocks until `keep` are left. */
static size_t shrink(fc_slab_cache *c, magazine *m, size_t keep) {
  size_t freed = 0;
  while (m->count > keep) {
    destroy(c->slab, m->items[--m->count]);
    freed++;
  }
  BUMP(&c->kept, (size_t)0 - freed);
  return freed;
}

static void put(fc_slab_cache *c, fc_slab_block *b) {
  magazine *m = &c->magazines[b->size_class];
  m->live--;
  BUMP(&c->live, (size_t)-1);
  if (m->count < m->size) {
    m->items[m->count++] = b;
    BUMP(&c->kept, 1);
  } else {
    destroy(c->slab, b);
  }
}

static void drain_remote(fc_slab_cache *c) {
  if (!READ(&c->remote)) return;
  fc_slab_block *b = atomic_exchange_explicit(&c->remote, NULL, memory_order_acquire);
  while (b) {
    fc_slab_block *next = b->next;
    put(c, b);
    b = next;
  }
}

static void push_remote(fc_slab_cache *owner, fc_slab_block *b) {
  fc_slab_block *head = READ(&owner->remote);
  do {
    b->next = head;
  } while (!atomic_compare_exchange_weak_explicit(&owner->remote, &head, b, memory_order_release,
                                                  memory_order_relaxed));
}

static fc_slab_cache *new_cache(fc_slab *s) {
  fc_slab_cache *c = fc_zalloc(s->mem, sizeof *c + s->class_count * sizeof(magazine));
  if (!c) return NULL;
  c->slab = s;
  c->until_trim = s->trim_interval;
  for (uint32_t i = 0; i < s->class_count; i++) {
    size_t fit = FC_SLAB_MAGAZINE_BYTES / s->class_bytes[i];
    c->magazines[i].size = (uint32_t)(fit < MIN_MAGAZINE       ? MIN_MAGAZINE
                                      : fit > FC_SLAB_MAGAZINE ? FC_SLAB_MAGAZINE
                                                               : fit);
  }
  return c;
}

fc_slab_cache *fc_slab_cache_open(fc_slab *s) {
  pthread_mutex_lock(&s->lock);
  fc_slab_cache *c = s->caches;
  while (c && !c->idle) c = c->next;
  if (c) {
    c->idle = false;
  } else if ((c = new_cache(s)) != NULL) {
    c->next = s->caches;
    s->caches = c;
  }
  pthread_mutex_unlock(&s->lock);
  return c;
}

void fc_slab_flush(fc_slab_cache *c) {
  drain_remote(c);
  for (uint32_t i = 0; i < c->slab->class_count; i++) shrink(c, &c->magazines[i], 0);
}

void fc_slab_cache_close(fc_slab_cache *c) {
  fc_slab_flush(c);
  pthread_mutex_lock(&c->slab->lock);
  c->idle = true;
  pthread_mutex_unlock(&c->slab->lock);
}

size_t fc_slab_trim(fc_slab_cache *c) {
  size_t freed = 0;
  drain_remote(c);
  c->until_trim = c->slab->trim_interval;
  for (uint32_t i = 0; i < c->slab->class_count; i++) {
    magazine *m = &c->magazines[i];
    freed += shrink(c, m, m->high - m->live);
    m->high = m->live;
  }
  BUMP(&c->trimmed, freed);
  return freed;
}

int fc_slab_close(fc_slab *s) {
  size_t live = READ(&s->heap_live);
  for (fc_slab_cache *c = s->caches; c; c = c->next) {
    fc_slab_flush(c);
    live += READ(&c->live);
  }
  if (live) return FC_ESTATE;
  for (fc_slab_cache *c = s->caches, *next; c; c = next) {
    next = c->next;
    fc_free(s->mem, c);
  }
  pthread_mutex_destroy(&s->lock);
  fc_free(s->mem, s);
  return 0;
}

/* ---- blocks ----------------------------------------------------------------------------------*/

static fc_slab_block *new_block(fc_slab *s, size_t capacity) {
  if (capacity > SIZE_MAX / 4) return NULL;
  fc_slab_block *b = fc_alloc(s->mem, sizeof *b + capacity);
  if (!b) return NULL;
  b->next = NULL;
  b->capacity = capacity;
  return b;
}

static fc_slab_block *acquire_heap(fc_slab *s, size_t bytes, atomic_uint_fast64_t *why) {
  fc_slab_block *b = new_block(s, bytes);
  if (!b) return NULL;
  b->owner = NULL;
  b->size_class = NO_CLASS;
  ADD(&s->heap_live, 1);
  ADD(why, 1);
  return b;
}

/* Idle blocks of other classes make way before the bound is called reached. */
static bool reserve_or_flush(fc_slab_cache *c, size_t bytes) {
  if (reserve(c->slab, bytes)) return true;
  fc_slab_flush(c);
  return reserve(c->slab, bytes);
}

static void count_out(fc_slab_cache *c, magazine *m) {
  if (++m->live > m->high) m->high = m->live;
  size_t live = READ(&c->live) + 1;
  atomic_store_explicit(&c->live, live, memory_order_relaxed);
  if (live > READ(&c->high)) atomic_store_explicit(&c->high, live, memory_order_relaxed);
}

static fc_slab_block *make(fc_slab_cache *c, uint32_t size_class, size_t bytes) {
  fc_slab *s = c->slab;
  size_t capacity = s->class_bytes[size_class];
  if (!reserve_or_flush(c, capacity)) return acquire_heap(s, bytes, &s->exhausted);
  fc_slab_block *b = new_block(s, capacity);
  if (!b) {
    SUB(&s->pooled_bytes, capacity);
    return NULL;
  }
  b->owner = c;
  b->size_class = size_class;
  BUMP(&c->misses, 1);
  count_out(c, &c->magazines[size_class]);
  return b;
}

fc_slab_block *fc_slab_acquire(fc_slab_cache *c, size_t bytes) {
  uint32_t size_class = class_of(c->slab, bytes);
  if (size_class == NO_CLASS) return acquire_heap(c->slab, bytes, &c->slab->oversize);
  if (c->until_trim && --c->until_trim == 0) fc_slab_trim(c);
  magazine *m = &c->magazines[size_class];
  if (m->count == 0) {
    drain_remote(c);
    if (m->count == 0) return make(c, size_class, bytes);
  }
  fc_slab_block *b = m->items[--m->count];
  BUMP(&c->kept, (size_t)-1);
  BUMP(&c->hits, 1);
  count_out(c, m);
  return b;
}

void fc_slab_release(fc_slab_cache *c, fc_slab_block *b) {
  if (b->owner == c) {
    put(c, b);
  } else if (b->owner) {
    BUMP(&c->remote_frees, 1);
    push_remote(b->owner, b);
  } else {
    SUB(&c->slab->heap_live, 1);
    fc_free(c->slab->mem, b);
  }
}

fc_slab_stats fc_slab_stat(fc_slab *s) {
  fc_slab_stats t = {.oversize = READ(&s->oversize),
                     .exhausted = READ(&s->exhausted),
                     .live = READ(&s->heap_live),
                     .pooled_bytes = READ(&s->pooled_bytes)};
  pthread_mutex_lock(&s->lock);
  for (fc_slab_cache *c = s->caches; c; c = c->next) {
    t.hits += READ(&c->hits);
    t.misses += READ(&c->misses);
    t.remote_frees += READ(&c->remote_frees);
    t.trimmed += READ(&c->trimmed);
    t.live += READ(&c->live);
    t.high_water += READ(&c->high);
    t.idle += READ(&c->kept);
  }
  pthread_mutex_unlock(&s->lock);
  return t;
}
