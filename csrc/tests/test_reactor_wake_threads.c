/* Wake-ups and posts from other threads: none is lost, and what was done before them is seen. */
#include <pthread.h>

#include "turn.h"

#define ROUNDS 100000
#define WAKERS 3

/* One mail box each, of which the owner and the waker take turns; the box itself is not atomic, so
 * that only the wake-up orders the two. */
typedef struct box {
  fc_reactor *reactor;
  long mail;
  atomic_long seen;
} box;

static void *post(void *arg) {
  box *b = arg;
  for (long i = 1; i <= ROUNDS; i++) {
    while (atomic_load_explicit(&b->seen, memory_order_acquire) != i - 1) sched_yield();
    b->mail = i;
    fc_reactor_wake(b->reactor);
  }
  return NULL;
}

/* One waker: every wake-up ends a wait that has no limit, or the next one. */
static void test_ping(void) {
  fc_reactor *r;
  CHECK_INT(fc_reactor_open(&r, NULL), 0);
  box b = {.reactor = r};
  pthread_t thread;
  pthread_create(&thread, NULL, post, &b);
  for (long i = 1; i <= ROUNDS; i++) {
    int n = fc_reactor_wait(r, 20 * (int64_t)FC_NS_PER_S);
    CHECK_INT(n, 1); /* else a wake-up was lost */
    fc_reactor_dispatch(r);
    CHECK_INT(b.mail, i);
    atomic_store_explicit(&b.seen, i, memory_order_release);
  }
  pthread_join(thread, NULL);
  fc_reactor_close(r);
}

typedef struct counter {
  fc_reactor *reactor;
  atomic_long posted;
} counter;

static void *flood(void *arg) {
  counter *c = arg;
  for (int i = 0; i < ROUNDS; i++) {
    atomic_fetch_add_explicit(&c->posted, 1, memory_order_relaxed);
    fc_reactor_wake(c->reactor);
  }
  return NULL;
}

/* Many wakers at full speed: the last wake-up of all is still seen. */
static void test_flood(void) {
  fc_reactor *r;
  CHECK_INT(fc_reactor_open(&r, NULL), 0);
  counter c = {.reactor = r};
  pthread_t threads[WAKERS];
  for (int i = 0; i < WAKERS; i++) pthread_create(&threads[i], NULL, flood, &c);
  long seen = 0;
  while (seen < (long)WAKERS * ROUNDS) {
    CHECK_INT(fc_reactor_wait(r, 20 * (int64_t)FC_NS_PER_S), 1);
    fc_reactor_dispatch(r);
    seen = atomic_load_explicit(&c.posted, memory_order_relaxed);
  }
  for (int i = 0; i < WAKERS; i++) pthread_join(threads[i], NULL);
  fc_reactor_close(r);
}

typedef struct letter {
  fc_post post;
  struct sender *sender;
  long number;
} letter;

typedef struct sender {
  fc_reactor *reactor;
  letter letters[64]; /* sent again and again: run() gives each back */
  atomic_long run;
} sender;

static void take(fc_post *p) {
  letter *l = FC_CONTAINER(p, letter, post);
  CHECK_INT(l->number, atomic_load_explicit(&l->sender->run, memory_order_relaxed));
  atomic_fetch_add_explicit(&l->sender->run, 1, memory_order_release);
}

static void *send_letters(void *arg) {
  sender *s = arg;
  for (long i = 0; i < ROUNDS; i++) {
    while (i - atomic_load_explicit(&s->run, memory_order_acquire) >= 64) sched_yield();
    letter *l = &s->letters[i % 64];
    l->number = i; /* not atomic: the post alone carries it */
    fc_reactor_post(s->reactor, &l->post);
  }
  return NULL;
}

/* Posts of several threads arrive, each sender's in order, while the reactor sleeps in between. */
static void test_posts(void) {
  fc_reactor *r;
  CHECK_INT(fc_reactor_open(&r, NULL), 0);
  static sender senders[WAKERS];
  pthread_t threads[WAKERS];
  for (int i = 0; i < WAKERS; i++) {
    senders[i].reactor = r;
    atomic_init(&senders[i].run, 0);
    for (int j = 0; j < 64; j++)
      senders[i].letters[j] = (letter){.post.run = take, .sender = &senders[i]};
    pthread_create(&threads[i], NULL, send_letters, &senders[i]);
  }
  for (long run = 0; run < (long)WAKERS * ROUNDS;) {
    CHECK_INT(fc_reactor_wait(r, 20 * (int64_t)FC_NS_PER_S), 1); /* else a post was lost */
    fc_reactor_dispatch(r);
    run = 0;
    for (int i = 0; i < WAKERS; i++) run += atomic_load(&senders[i].run);
  }
  for (int i = 0; i < WAKERS; i++) pthread_join(threads[i], NULL);
  fc_reactor_close(r);
}

int main(void) {
  RUN(test_ping);
  RUN(test_posts);
  RUN(test_flood);
  return 0;
}
