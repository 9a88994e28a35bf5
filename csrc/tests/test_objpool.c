/* The object pool in one thread: sizes, exhaustion, order, and what stays in an object. */
#include "check.h"
#include "failmem.h"
#include "fc/err.h"
#include "fc/objpool.h"

static fc_objpool *made(size_t count, size_t bytes) {
  fc_objpool *p;
  CHECK_INT(fc_objpool_new(&p, &fc_mem_libc, count, bytes, NULL, NULL), 0);
  return p;
}

static void test_sizes(void) {
  fc_objpool *p;
  CHECK_INT(fc_objpool_new(&p, &fc_mem_libc, 0, 8, NULL, NULL), FC_EINVALID);
  CHECK_INT(fc_objpool_new(&p, &fc_mem_libc, 8, 0, NULL, NULL), FC_EINVALID);
  CHECK_INT(fc_objpool_new(&p, &fc_mem_libc, (size_t)FC_STACK_MAX_CAPACITY + 1, 8, NULL, NULL),
            FC_EINVALID);
  CHECK_INT(fc_objpool_new(&p, &fc_mem_libc, 8, (size_t)FC_MAX_RECORD_BYTES + 1, NULL, NULL),
            FC_EINVALID);
  CHECK(!p);
  fc_objpool_free(NULL);
}

/* Memory runs out at each of the two allocations; nothing stays behind. */
static void test_oom(void) {
  for (int good = 0; good <= 2; good++) {
    failmem f;
    failmem_init(&f, good < 2 ? good : -1);
    fc_objpool *p;
    int err = fc_objpool_new(&p, &f.mem, 8, 24, NULL, NULL);
    CHECK_INT(err, good < 2 ? FC_ENOMEM : 0);
    CHECK((p != NULL) == (good == 2));
    fc_objpool_free(p);
    CHECK_INT(f.live, 0);
  }
}

static void count_up(void *object, void *user) {
  int *next = user;
  CHECK_INT(*(int *)object, 0);
  *(int *)object = ++*next;
}

/* Every object once, in the order of their places, aligned and apart; then no more. */
static void test_exhaustion(void) {
  static const size_t sizes[] = {4, 16, 17, 100, 4096};
  for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
    int made_objects = 0;
    fc_objpool *p;
    CHECK_INT(fc_objpool_new(&p, &fc_mem_libc, 5, sizes[s], count_up, &made_objects), 0);
    CHECK_INT(made_objects, 5);
    unsigned char *objects[5];
    for (int i = 0; i < 5; i++) {
      objects[i] = fc_objpool_acquire(p);
      CHECK(objects[i] != NULL && fc_objpool_owns(p, objects[i]));
      CHECK(!fc_objpool_owns(p, objects[i] + 1));
      CHECK_INT((uintptr_t)objects[i] % 16, 0);
      CHECK_INT(*(int *)(void *)objects[i], i + 1);
      if (i) CHECK((size_t)(objects[i] - objects[i - 1]) >= sizes[s]);
    }
    CHECK(fc_objpool_acquire(p) == NULL);
    CHECK(!fc_objpool_owns(p, &made_objects));
    fc_objpool_release(p, objects[3]);
    fc_objpool_release(p, objects[1]);
    CHECK(fc_objpool_acquire(p) == objects[1]); /* the warmest first, as it was left */
    CHECK_INT(*(int *)(void *)objects[1], 2);
    CHECK(fc_objpool_acquire(p) == objects[3]);
    CHECK(fc_objpool_acquire(p) == NULL);
    fc_objpool_free(p);
  }
}

static void test_one(void) {
  fc_objpool *p = made(1, 1);
  for (int i = 0; i < 1000; i++) {
    void *object = fc_objpool_acquire(p);
    CHECK(object && !fc_objpool_acquire(p));
    fc_objpool_release(p, object);
  }
  fc_objpool_free(p);
}

int main(void) {
  RUN(test_sizes);
  RUN(test_oom);
  RUN(test_exhaustion);
  RUN(test_one);
  return 0;
}
