/* Threads take objects and give them back: nobody has one that somebody else has, what the last
 * user left is seen by the next, and in the end all are there. */
#include <pthread.h>
#include <sched.h>

#include "check.h"
#include "fc/objpool.h"

#define THREADS 4
#define OBJECTS 3 /* fewer than threads, so that the pool runs dry */
#define ROUNDS 50000

/* Not atomic: only the pool orders its users, which ThreadSanitizer checks. */
typedef struct object {
  long uses;
  long check;
  int user;
} object;

typedef struct user {
  fc_objpool *pool;
  int me;
  long uses, dry;
} user;

static void *use(void *arg) {
  user *u = arg;
  while (u->uses < ROUNDS) {
    object *o = fc_objpool_acquire(u->pool);
    if (!o) {
      u->dry++;
      sched_yield();
      continue;
    }
    CHECK_INT(o->user, 0);
    o->user = u->me;
    CHECK_INT(o->uses, o->check);
    o->uses++;
    u->uses++;
    o->check++;
    CHECK_INT(o->user, u->me);
    o->user = 0;
    fc_objpool_release(u->pool, o);
  }
  return NULL;
}

static void test_exclusive(void) {
  fc_objpool *pool;
  CHECK_INT(fc_objpool_new(&pool, &fc_mem_libc, OBJECTS, sizeof(object), NULL, NULL), 0);
  pthread_t threads[THREADS];
  user users[THREADS];
  for (int i = 0; i < THREADS; i++) {
    users[i] = (user){.pool = pool, .me = i + 1};
    pthread_create(&threads[i], NULL, use, &users[i]);
  }
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  long uses = 0;
  object *o;
  int left = 0;
  for (; (o = fc_objpool_acquire(pool)); left++) uses += o->uses;
  CHECK_INT(left, OBJECTS);
  CHECK_INT(uses, (long)THREADS * ROUNDS);
  fc_objpool_free(pool);
}

int main(void) {
  RUN(test_exclusive);
  return 0;
}
