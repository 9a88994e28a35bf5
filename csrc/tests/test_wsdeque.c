/* The deque in one thread: both ends, growth and its limits, indices over every edge. */
#include "check.h"
#include "failmem.h"
#include "fc/err.h"
#include "fc/wsdeque.h"
#include "rng.h"

/* Elements are numbers; 0 would be NULL. */
static void *number(uintptr_t n) {
  return (void *)(n + 1);
}

static fc_wsdeque *made(size_t capacity, size_t max) {
  fc_wsdeque *d;
  CHECK_INT(fc_wsdeque_new(&d, &fc_mem_libc, capacity, max), 0);
  return d;
}

static void test_sizes(void) {
  fc_wsdeque *d;
  CHECK_INT(fc_wsdeque_new(&d, &fc_mem_libc, 0, 4), FC_EINVALID);
  CHECK_INT(fc_wsdeque_new(&d, &fc_mem_libc, 8, 4), FC_EINVALID);
  CHECK_INT(fc_wsdeque_new(&d, &fc_mem_libc, 8, SIZE_MAX), FC_EINVALID);
  CHECK(!d);
  fc_wsdeque_free(NULL);
}

static void test_both_ends(void) {
  fc_wsdeque *d = made(4, 4);
  void *out = NULL;
  CHECK(!fc_wsdeque_pop(d));
  CHECK_INT(fc_wsdeque_steal(d, &out), FC_STEAL_EMPTY);
  for (uintptr_t i = 0; i < 4; i++) CHECK_INT(fc_wsdeque_push(d, number(i)), 0);
  CHECK_INT(fc_wsdeque_push(d, number(4)), FC_ELIMIT);
  CHECK_INT(fc_wsdeque_len(d), 4);
  CHECK_INT(fc_wsdeque_steal(d, &out), FC_STEAL_GOT);
  CHECK(out == number(0));
  CHECK_INT(fc_wsdeque_push(d, number(4)), 0); /* a theft makes room */
  CHECK(fc_wsdeque_pop(d) == number(4));
  CHECK(fc_wsdeque_pop(d) == number(3));
  CHECK_INT(fc_wsdeque_steal(d, &out), FC_STEAL_GOT);
  CHECK(out == number(1));
  CHECK(fc_wsdeque_pop(d) == number(2)); /* the last one */
  CHECK(!fc_wsdeque_pop(d));
  CHECK_INT(fc_wsdeque_len(d), 0);
  fc_wsdeque_free(d);
}

/* Each allocation fails in turn: nothing leaks, and a deque that could not grow is unharmed. */
static void test_oom(void) {
  for (long at = 0; at < 4; at++) {
    failmem f;
    failmem_init(&f, at);
    fc_wsdeque *d;
    int err = fc_wsdeque_new(&d, &f.mem, 2, 64);
    CHECK_INT(err, at < 2 ? FC_ENOMEM : 0);
    CHECK(!d == (at < 2));
    uintptr_t pushed = 0;
    while (d && !(err = fc_wsdeque_push(d, number(pushed)))) pushed++;
    CHECK_INT(err, FC_ENOMEM);
    CHECK_INT(pushed, at < 2 ? 0 : at == 2 ? 2 : 4);
    f.fail_at = -1;
    if (d) CHECK_INT(fc_wsdeque_push(d, number(pushed++)), 0);
    while (pushed-- > 0 && d) CHECK(fc_wsdeque_pop(d) == number(pushed));
    fc_wsdeque_free(d);
    CHECK_INT(f.live, 0);
  }
}

/* Random calls against an array, growing on the way; indices start before each edge there is. */
static void test_model(void) {
  static const int64_t starts[] = {0, -5, INT32_MAX - 5, (int64_t)UINT32_MAX - 5,
                                   INT64_MAX - 100000};
  for (size_t s = 0; s < sizeof starts / sizeof *starts; s++) {
    fc_wsdeque *d = made(1, 1024);
    fc_wsdeque_seek(d, starts[s]);
    rng g = rng_seeded(s);
    static uintptr_t model[20001];
    size_t first = 0, last = 0, most = 0;
    for (uintptr_t i = 0; i < 20000; i++) {
      bool growing = i / 2000 % 2 == 0;
      void *out = NULL;
      if (rng_below(&g, 10) < (growing ? 6u : 4u)) {
        int err = fc_wsdeque_push(d, number(i));
        CHECK_INT(err, last - first == 1024 ? FC_ELIMIT : 0);
        if (!err) model[last++] = i;
      } else if (rng_below(&g, 2)) {
        out = fc_wsdeque_pop(d);
        CHECK(out == (last > first ? number(model[last - 1]) : NULL));
        if (out) last--;
      } else {
        fc_stolen got = fc_wsdeque_steal(d, &out);
        CHECK_INT(got, last > first ? FC_STEAL_GOT : FC_STEAL_EMPTY);
        if (got == FC_STEAL_GOT) CHECK(out == number(model[first++]));
      }
      CHECK_INT(fc_wsdeque_len(d), last - first);
      if (last - first > most) most = last - first;
    }
    CHECK(most > 200);
    fc_wsdeque_free(d);
  }
}

int main(void) {
  RUN(test_sizes);
  RUN(test_both_ends);
  RUN(test_oom);
  RUN(test_model);
  return 0;
}
