/* concurrent.h - what the structures shared between threads have in common.
 *
 * Where things lie. Words that different threads write stand in groups of at most 16 bytes, at
 * multiples of FC_CACHE_LINE from the start of the structure:
 *
 *     +0 constants | +128 one side's group | +256 the other's | +384 records ...
 *
 * A block from an allocator is aligned to 16 bytes, so a group never straddles a line, and two
 * groups, having the same place within their lines, never share one. Hence nothing here asks for
 * more than the alignment of malloc(), and all of it may be embedded in any other structure.
 *
 * How positions run. A position counts records since the beginning and is never reduced; its slot
 * is `position & (capacity - 1)`. Capacities are powers of two, so they divide 2^64 and slots and
 * differences stay right even when a position wraps to 0, which at 10^9 records a second takes 584
 * years. For the same reason a position never comes back, and comparing-and-swapping one has no
 * ABA problem. */
#ifndef FC_CONCURRENT_H
#define FC_CONCURRENT_H

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Two lines of 64 bytes: x86 fetches them in pairs. Also the line of Apple's processors. */
#define FC_CACHE_LINE 128

/* Fills up a group that has `used` bytes. */
#define FC_LINE_REST(name, used) char name[FC_CACHE_LINE - (used)]

/* What lies in memory that processes share must not hide a lock of one of them. */
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "64-bit atomics must be lock-free");

#if defined(__SANITIZE_THREAD__)
#define FC_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define FC_TSAN 1
#endif
#endif
#ifndef FC_TSAN
#define FC_TSAN 0
#endif

/* Keeps what stands before it before what stands after, a store and a later load of something else
 * included. ThreadSanitizer does not model fences: under it this is nothing, and whoever uses it
 * does something else there. */
#if FC_TSAN
#define fc_fence() ((void)0)
#else
#define fc_fence() atomic_thread_fence(memory_order_seq_cst)
#endif

/* The same between two accesses that both say FC_FENCED(their order): either by a fence between
 * them, or by making them seq_cst. The latter is for ThreadSanitizer and for x86, where a seq_cst
 * store is one exchange, at most as dear as a fence, and a seq_cst load costs nothing. */
#if FC_TSAN || defined(__x86_64__) || defined(__i386__)
#define fc_fence_between() ((void)0)
#define FC_FENCED(order) memory_order_seq_cst
#else
#define fc_fence_between() fc_fence()
#define FC_FENCED(order) (order)
#endif

/* Stands in the windows between two steps that other threads may see apart. A test defines it, to
 * hold threads up there. */
#ifndef FC_RACE_POINT
#define FC_RACE_POINT() ((void)0)
#endif

/* Tells the processor that the caller spins. */
static inline void fc_cpu_relax(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__) || defined(__arm__)
  __asm__ volatile("yield");
#endif
}

/* Larger than any queue that makes sense; keeps sums of sizes from overflowing. */
#define FC_MAX_CAPACITY (UINT64_C(1) << 40)
#define FC_MAX_RECORD_BYTES (UINT64_C(1) << 31)

/* The smallest power of two at or above `n`, which is at most FC_MAX_CAPACITY; 1 for 0. */
static inline uint64_t fc_pow2_ceil(uint64_t n) {
  return n <= 1 ? 1 : UINT64_C(1) << (64 - __builtin_clzll(n - 1));
}

/* Whether a queue of records may be of these sizes, if there is memory. */
static inline bool fc_sizes_allowed(size_t capacity, size_t record_bytes) {
  return capacity > 0 && capacity <= FC_MAX_CAPACITY && record_bytes > 0 &&
         record_bytes <= FC_MAX_RECORD_BYTES;
}

/* `header` + capacity * bytes, or 0 where that is more than memory can hold. */
static inline size_t fc_slots_bytes(size_t header, uint64_t capacity, uint64_t bytes) {
  uint64_t most = PTRDIFF_MAX - header;
  return capacity > most / bytes ? 0 : header + (size_t)(capacity * bytes);
}

#endif
