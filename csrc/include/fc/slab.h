/* slab.h - buffers of some size classes, kept for the next who asks (after Bonwick and Adams,
 * "Magazines and Vmem", 2001, with owners in place of a depot).
 *
 *     fc_slab            classes, bound, bytes taken; shared by all threads
 *       fc_slab_cache    one thread's: for each class a magazine, LIFO
 *         class 0   [b][b][b][ ]..[ ]      count, live, high
 *         class 1   [b][ ]..
 *         remote -> b -> b -> NULL         what other threads gave back
 *
 *     block   | owner next capacity class | data ........ |
 *
 * A thread takes from and returns to its own cache without any atomic read-modify-write. A block
 * that another thread returns goes to its owner's remote list, which the owner takes over when a
 * magazine runs empty. Past a magazine's size blocks go back to the allocator.
 *
 * The pool never takes more than max_bytes from the allocator for its blocks. Past that, and for
 * what is larger than the largest class, a block comes straight from the allocator, goes straight
 * back to it, and is counted.
 *
 * Memory orders. Pushing on a remote list is a CAS with release: what the returning thread did with
 * the block, and its `next`, come before the owner sees it. The owner takes the whole list by an
 * exchange with acquire, the other half of that for every block in it: later pushes are
 * read-modify-writes, which go on with the release sequence of the earlier ones. No pop of a single
 * block means no ABA: a push compares the head with what it has just stored in its own `next` and
 * never dereferences it, so a head that went and came back still makes a right list. Counters are
 * relaxed, for they guard nothing: each is written by one thread, or by fetch_add where there are
 * several, and read for statistics.
 *
 * After fork() a child may use the caches of the thread that forked; those of others are as they
 * were at that moment, maybe half way through a change, and must be left alone. */
#ifndef FC_SLAB_H
#define FC_SLAB_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "fc/mem.h"

#define FC_SLAB_MAX_CLASSES 48
#define FC_SLAB_MAGAZINE 64                   /* blocks, fewer for large classes: */
#define FC_SLAB_MAGAZINE_BYTES ((size_t)8 << 20) /* ... these together, but 4 blocks at least */
#define FC_SLAB_MAX_BYTES ((size_t)256 << 20) /* default bound of a slab */
#define FC_SLAB_TRIM_INTERVAL 65536           /* acquisitions between two trims of a cache */

typedef struct fc_slab fc_slab;
typedef struct fc_slab_cache fc_slab_cache;

typedef struct fc_slab_block {
  fc_slab_cache *owner;        /* NULL: of no class, the allocator's */
  struct fc_slab_block *next;  /* in a remote list */
  size_t capacity;
  uint32_t size_class;
  _Alignas(16) char data[];
} fc_slab_block;

typedef struct fc_slab_config {
  const fc_mem *mem;
  const size_t *class_bytes; /* ascending; NULL: 64 B to 1 MiB, two for each doubling */
  size_t class_count;
  size_t max_bytes;          /* of all blocks that belong to a class, out or idle */
  uint32_t trim_interval;    /* 0: only fc_slab_trim() trims */
} fc_slab_config;

typedef struct fc_slab_stats {
  uint64_t hits;         /* acquisitions met from a magazine or a remote list */
  uint64_t misses;       /* ... for which a block was made */
  uint64_t oversize;     /* ... larger than the largest class: the heap's */
  uint64_t exhausted;    /* ... past max_bytes: the heap's */
  uint64_t remote_frees; /* blocks returned by a thread that does not own them */
  uint64_t trimmed;      /* idle blocks given back to the allocator */
  size_t live;           /* blocks out; those in a remote list still count */
  size_t high_water;     /* the most of the pool's out at once (the sum of the caches' peaks) */
  size_t idle;           /* blocks in magazines */
  size_t pooled_bytes;   /* of all blocks that belong to a class, out or idle */
} fc_slab_stats;

fc_slab_config fc_slab_config_default(const fc_mem *mem);

/* Returns 0, FC_ENOMEM, or FC_EINVALID for classes that do not ascend from 1 or are too many. */
int fc_slab_open(fc_slab **out, const fc_slab_config *config);

/* Gives everything back. FC_ESTATE while a block is out: only idle ones go then. No other thread
 * may be using the slab. */
int fc_slab_close(fc_slab *s);

/* A cache for the calling thread: a new one or one whose thread has closed it. NULL: no memory. */
fc_slab_cache *fc_slab_cache_open(fc_slab *s);

/* For a thread that ends. Its idle blocks are freed; those still out can be released by others and
 * wait for the next thread that opens a cache. */
void fc_slab_cache_close(fc_slab_cache *c);

/* A block with room for `bytes`, its contents undefined. NULL: out of memory. */
fc_slab_block *fc_slab_acquire(fc_slab_cache *c, size_t bytes);

/* Gives back a block that any thread acquired; `c` is the calling thread's cache. */
void fc_slab_release(fc_slab_cache *c, fc_slab_block *b);

/* Frees the idle blocks that were not needed since the last trim: of each class those past the
 * most that were out at once meanwhile. Returns how many. */
size_t fc_slab_trim(fc_slab_cache *c);

/* Frees all idle blocks of the cache. */
void fc_slab_flush(fc_slab_cache *c);

/* The sums over all caches. Any thread may ask; while others work it is a moment's truth. */
fc_slab_stats fc_slab_stat(fc_slab *s);

/* Whether the block is the allocator's own, not the pool's. */
static inline bool fc_slab_is_heap(const fc_slab_block *b) {
  return b->owner == NULL;
}

#endif
