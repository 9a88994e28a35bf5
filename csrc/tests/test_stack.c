/* The stack in one thread: order, edges, tags that wrap, and the ABA that the tag is there for. */
#include "check.h"
#include "failmem.h"
#include "fc/err.h"
#include "fc/stack.h"

static fc_stack *made(size_t capacity) {
  fc_stack *s;
  CHECK_INT(fc_stack_new(&s, &fc_mem_libc, capacity), 0);
  return s;
}

static void test_sizes(void) {
  fc_stack *s;
  CHECK_INT(fc_stack_new(&s, &fc_mem_libc, 0), FC_EINVALID);
  CHECK_INT(fc_stack_new(&s, &fc_mem_libc, FC_STACK_MAX_CAPACITY + (size_t)1), FC_EINVALID);
  CHECK(!s);
  fc_stack_free(NULL, &fc_mem_libc);
}

static void test_oom(void) {
  failmem f;
  failmem_init(&f, 0);
  fc_stack *s;
  CHECK_INT(fc_stack_new(&s, &f.mem, 8), FC_ENOMEM);
  CHECK(!s);
  failmem_init(&f, -1);
  CHECK_INT(fc_stack_new(&s, &f.mem, 8), 0);
  fc_stack_free(s, &f.mem);
  CHECK_INT(f.total, 1);
  CHECK_INT(f.live, 0);
}

/* Capacities on both sides of a power of two: the highest index and 0 must be told apart. */
static void test_order(void) {
  static const uint32_t capacities[] = {1, 2, 3, 4, 7, 8, 9, 255, 256};
  for (size_t c = 0; c < sizeof capacities / sizeof *capacities; c++) {
    fc_stack *s = made(capacities[c]);
    fc_stack_seek(s, UINT64_MAX); /* the first pop wraps the tag */
    uint32_t out = 0;
    CHECK(fc_stack_empty(s));
    CHECK(!fc_stack_pop(s, &out));
    for (int lap = 0; lap < 3; lap++) {
      fc_stack_fill(s);
      for (uint32_t i = 0; i < capacities[c]; i++) {
        CHECK(!fc_stack_empty(s));
        CHECK(fc_stack_pop(s, &out));
        CHECK_INT(out, i);
      }
      CHECK(!fc_stack_pop(s, &out));
    }
    fc_stack_free(s, &fc_mem_libc);
  }
}

static void test_many(void) {
  fc_stack *s = made(8);
  static const uint32_t in[] = {5, 2, 7, 0};
  fc_stack_push(s, 3);
  fc_stack_push_many(s, in, 4);
  fc_stack_push_many(s, in, 0);
  uint32_t out[8];
  CHECK_INT(fc_stack_pop_many(s, out, 0), 0);
  CHECK_INT(fc_stack_pop_many(s, out, 3), 3);
  CHECK(out[0] == 0 && out[1] == 7 && out[2] == 2);
  CHECK_INT(fc_stack_pop_many(s, out, 8), 2);
  CHECK(out[0] == 5 && out[1] == 3);
  CHECK_INT(fc_stack_pop_many(s, out, 8), 0);
  fc_stack_free(s, &fc_mem_libc);
}

/* A pop that has read head and next is overtaken by pop, pop, push: the head's index is the same
 * as before, what lies under it is not, and the exchange must fail. */
static void test_aba(void) {
  fc_stack *s = made(3);
  fc_stack_fill(s); /* 0, 1, 2 from the top */
  uint64_t seen = atomic_load(&s->head);
  uint32_t a, b;
  CHECK(fc_stack_pop(s, &a) && fc_stack_pop(s, &b));
  fc_stack_push(s, a);
  uint64_t mask = (UINT64_C(1) << s->index_bits) - 1;
  CHECK((atomic_load(&s->head) & mask) == (seen & mask));
  CHECK(atomic_load(&s->head) != seen);
  CHECK(fc_stack_pop(s, &a) && a == 0);
  CHECK(fc_stack_pop(s, &a) && a == 2);
  CHECK(fc_stack_empty(s));
  fc_stack_free(s, &fc_mem_libc);
}

int main(void) {
  RUN(test_sizes);
  RUN(test_oom);
  RUN(test_order);
  RUN(test_many);
  RUN(test_aba);
  return 0;
}
