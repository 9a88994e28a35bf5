/* rng.h - xorshift64*: the same numbers everywhere for a seed. */
#ifndef FC_RNG_H
#define FC_RNG_H

#include <stdint.h>

typedef struct rng {
  uint64_t state;
} rng;

static inline rng rng_seeded(uint64_t seed) {
  return (rng){seed * UINT64_C(0x9E3779B97F4A7C15) + 1};
}

static inline uint64_t rng_next(rng *g) {
  g->state ^= g->state >> 12;
  g->state ^= g->state << 25;
  g->state ^= g->state >> 27;
  return g->state * UINT64_C(2685821657736338717);
}

/* Of 0 to n - 1. */
static inline uint64_t rng_below(rng *g, uint64_t n) {
  return (rng_next(g) >> 11) % n;
}

/* Of any magnitude below 2^bits, small ones as often as great ones. */
static inline uint64_t rng_span(rng *g, unsigned bits) {
  return rng_next(g) >> (64 - bits + rng_below(g, bits));
}

#endif
