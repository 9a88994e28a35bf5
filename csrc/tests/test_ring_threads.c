/* The byte ring between two threads: each byte arrives once and in order, in pieces of any size. */
#include <pthread.h>
#include <sched.h>

#include "check.h"
#include "fc/ring.h"
#include "rng.h"

#define TOTAL_BYTES ((size_t)8 << 20)

static char byte_at(size_t position) {
  return (char)(position * 2654435761u >> 13);
}

static void *produce(void *arg) {
  fc_ring *r = arg;
  rng g = rng_seeded(1);
  for (size_t written = 0; written < TOTAL_BYTES;) {
    size_t room;
    char *at = fc_ring_claim(r, &room);
    size_t n = (size_t)rng_below(&g, 700);
    if (n > room) n = room;
    if (n > TOTAL_BYTES - written) n = TOTAL_BYTES - written;
    for (size_t i = 0; i < n; i++) at[i] = byte_at(written + i);
    fc_ring_commit(r, n);
    written += n;
    if (n == 0) sched_yield();
  }
  return NULL;
}

static void consume(fc_ring *r) {
  rng g = rng_seeded(2);
  for (size_t seen = 0; seen < TOTAL_BYTES;) {
    size_t len;
    const char *at = fc_ring_peek(r, &len);
    size_t n = (size_t)rng_below(&g, 900);
    if (n > len) n = len;
    for (size_t i = 0; i < n; i++) CHECK(at[i] == byte_at(seen + i));
    fc_ring_consume(r, n);
    seen += n;
    if (n == 0) sched_yield();
  }
  CHECK_INT(fc_ring_len(r), 0);
}

static void between_threads(const fc_ring_sys *sys) {
  fc_ring r;
  pthread_t producer;
  CHECK_INT(fc_ring_open(&r, 4096, &fc_mem_libc, sys), 0);
  CHECK_INT(pthread_create(&producer, NULL, produce, &r), 0);
  consume(&r);
  pthread_join(producer, NULL);
  fc_ring_close(&r);
}

static void test_mapped(void) {
  between_threads(&fc_ring_sys_memfd);
}

static void test_plain(void) {
  between_threads(NULL);
}

int main(void) {
  RUN(test_mapped);
  RUN(test_plain);
  return 0;
}
