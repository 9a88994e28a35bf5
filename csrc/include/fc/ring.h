/* ring.h - a ring of bytes in which every span is contiguous.
 *
 *     base           base + capacity    base + 2 * capacity
 *      |   [tail=======)   |   [tail=======)   |     the same pages twice: what is written in one
 *      |=====)       [=====|=====)       [=====|     half is read in the other
 *
 * The trick is old and known as the virtual, mirrored or magic ring buffer; between its two threads
 * the ring is Lamport's (1977). In the structure constants come first, then `head` and `tail` on
 * lines of their own (concurrent.h).
 *
 * The memory is a memfd mapped twice, side by side, so that a span which passes the end of the
 * first half goes on in the second and no caller ever sees two pieces. Where that cannot be had
 * (no memfd, no address space, no wish for shared memory) the halves are plain memory and a commit
 * copies its bytes into the other half: the spans stay contiguous and nothing moves under a reader,
 * for a copy per byte and twice the memory.
 *
 * Positions count the bytes ever written (head) and read (tail) and are never reduced; only an
 * address is, by `& (capacity - 1)`. They wrap at 2^64 (2^32 where size_t is narrower), which the
 * capacity divides because it is a power of two: head - tail and head & mask stay right across the
 * wrap. A power of two that fits in size_t twice over is also what tells full (head - tail ==
 * capacity) from empty (0) without a spare byte. It is a multiple of the page since pages are what
 * is mapped. Nothing is compared and swapped, so there is no ABA.
 *
 * One thread may write (claim, commit, read_from) while another reads (peek, consume, write_to).
 * Each owns one position, on its own cache line, and these are the orders:
 *   commit   stores head with release: the bytes lie in memory before they can be peeked;
 *   peek     loads it with acquire, the other half of that;
 *   consume  stores tail with release: reads of the bytes are done before they can be overwritten;
 *   claim    loads it with acquire, the other half of that;
 *   a side loads its own position relaxed, nobody else writes it.
 *
 * A mapped ring is shared with the child of a fork, which must leave it alone. */
#ifndef FC_RING_H
#define FC_RING_H

#include <sys/types.h>

#include "fc/concurrent.h"
#include "fc/mem.h"

#define FC_RING_MAX_BYTES ((size_t)1 << (sizeof(size_t) * 8 - 18))

/* What mapping takes, as a table that tests make fail. Failures are negative errno values. */
typedef struct fc_ring_sys {
  size_t (*page_bytes)(void);
  int (*memfd)(size_t bytes);                        /* a descriptor */
  int (*map)(char **at, size_t bytes, int fd);       /* fd -1: reserve anywhere; else over *at */
  void (*unmap)(char *at, size_t bytes);
  void (*close)(int fd);
} fc_ring_sys;

extern const fc_ring_sys fc_ring_sys_memfd;

typedef struct fc_ring {
  char *base;
  size_t capacity;
  const fc_mem *mem;
  const fc_ring_sys *sys; /* NULL: plain memory, mirrored by copying */
  FC_LINE_REST(rest0, 4 * sizeof(void *));
  atomic_size_t head; /* the writer's: bytes ever committed */
  FC_LINE_REST(rest1, sizeof(size_t));
  atomic_size_t tail; /* the reader's: bytes ever consumed */
  FC_LINE_REST(rest2, sizeof(size_t));
} fc_ring;

/* A ring for at least `capacity` bytes, rounded up to a power of two and, if it is mapped, to a
 * page. Without `sys`, or when that fails, plain memory comes from `mem`. Returns 0, FC_EINVALID
 * for a capacity of 0 or past FC_RING_MAX_BYTES, FC_ENOMEM. */
int fc_ring_open(fc_ring *r, size_t capacity, const fc_mem *mem, const fc_ring_sys *sys);

/* Gives the memory back; nothing happens to a ring that is closed or zeroed. */
void fc_ring_close(fc_ring *r);

/* Copies what was just written at `at` into the other half. Private to fc_ring_commit(). */
void fc_ring_mirror(fc_ring *r, size_t at, size_t n);

static inline bool fc_ring_mapped(const fc_ring *r) {
  return r->sys != NULL;
}

/* Bytes to read. Exact for the reader and the writer; for others a moment's truth, and 0 to
 * capacity: tail is loaded first, as head is never behind a tail seen before it. */
static inline size_t fc_ring_len(const fc_ring *r) {
  size_t tail = atomic_load_explicit(&r->tail, memory_order_acquire);
  size_t len = atomic_load_explicit(&r->head, memory_order_acquire) - tail;
  return len < r->capacity ? len : r->capacity;
}

/* Writer: where the next bytes go; `*room` is set to how many fit. */
static inline char *fc_ring_claim(const fc_ring *r, size_t *room) {
  size_t head = atomic_load_explicit(&r->head, memory_order_relaxed);
  *room = r->capacity - (head - atomic_load_explicit(&r->tail, memory_order_acquire));
  return r->base + (head & (r->capacity - 1));
}

/* Writer: hands on the first n bytes of the claim; n <= its room. */
static inline void fc_ring_commit(fc_ring *r, size_t n) {
  size_t head = atomic_load_explicit(&r->head, memory_order_relaxed);
  if (!fc_ring_mapped(r)) fc_ring_mirror(r, head & (r->capacity - 1), n);
  atomic_store_explicit(&r->head, head + n, memory_order_release);
}

/* Reader: the oldest bytes; `*len` is set to how many there are. They stay until consumed. */
static inline const char *fc_ring_peek(const fc_ring *r, size_t *len) {
  size_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed);
  *len = atomic_load_explicit(&r->head, memory_order_acquire) - tail;
  return r->base + (tail & (r->capacity - 1));
}

/* Reader: lets go of the oldest n bytes; n <= what peek told. */
static inline void fc_ring_consume(fc_ring *r, size_t n) {
  size_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed);
  atomic_store_explicit(&r->tail, tail + n, memory_order_release);
}

/* Writer: one read(2) of at most `max` bytes straight into the ring. A span is contiguous, so that
 * readv() has nothing to add. Returns the bytes, 0 at the end of the file, FC_ELIMIT when there is
 * no room, or a negative errno, EINTR and EAGAIN included. */
ssize_t fc_ring_read_from(fc_ring *r, int fd, size_t max);

/* Reader: one write(2) of at most `max` bytes straight from the ring, consuming what was taken.
 * Returns the bytes, 0 when there are none, or a negative errno. */
ssize_t fc_ring_write_to(fc_ring *r, int fd, size_t max);

#endif
