/* Two threads on one handle, so that a sanitizer sees both sides of the memory: sleeps, wake-ups,
 * full and empty lanes, and several consumers. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

#include "check.h"
#include "fc/err.h"
#include "fc/shmq.h"

#define CAP 4096
#define MESSAGES 60000
#define CONSUMERS 2

typedef struct record {
  uint64_t number, filling[6];
} record;

static size_t length_of(uint64_t number) {
  return sizeof(uint64_t) * (1 + number % 7);
}

static void *produce(void *arg) {
  fc_shmq *q = arg;
  for (uint64_t i = 0; i < MESSAGES; i++) {
    unsigned char *at;
    int err;
    for (;;) {
      fc_shmq_send_lock(q);
      err = fc_shmq_reserve(q, length_of(i), &at);
      if (err == 0) break;
      CHECK_INT(err, -EAGAIN);
      fc_shmq_publish(q);
      fc_shmq_send_unlock(q);
      CHECK_INT(fc_shmq_wait_space(q, length_of(i), -1), 0);
    }
    record r = {.number = i};
    for (int k = 0; k < 6; k++) r.filling[k] = i * 31 + (uint64_t)k;
    memcpy(at, &r, length_of(i));
    fc_shmq_stage(q, length_of(i), 0, 0);
    if (i % 3) fc_shmq_publish(q); /* else it goes with the next one */
    fc_shmq_send_unlock(q);
  }
  fc_shmq_send_lock(q);
  fc_shmq_publish(q);
  fc_shmq_send_unlock(q);
  return NULL;
}

static void check(const record *r, size_t len) {
  CHECK_INT(len, length_of(r->number));
  size_t filled = len / sizeof(uint64_t) - 1;
  for (size_t k = 0; k < filled; k++) CHECK_INT(r->filling[k], r->number * 31 + k);
}

/* The number of the message taken, or a negative error. */
static int64_t take(fc_shmq *q) {
  int err = fc_shmq_recv_lock(q);
  if (err == -EBUSY) return -EAGAIN;
  CHECK_INT(err, 0);
  fc_shmq_msg m;
  int64_t n = fc_shmq_peek(q, &m);
  if (n == 0) {
    record r = {0};
    CHECK(m.len <= sizeof r);
    memcpy(&r, m.data, m.len);
    check(&r, m.len);
    n = (int64_t)r.number;
    fc_shmq_take(q);
  }
  fc_shmq_recv_unlock(q);
  return n;
}

static void test_in_order(void) {
  fc_shmq *q;
  fc_shmq_config c = {.capacity_bytes = CAP, .max_producers = 1};
  CHECK_INT(fc_shmq_create(&q, &fc_mem_libc, &c), 0);
  pthread_t thread;
  pthread_create(&thread, NULL, produce, q);
  for (int64_t i = 0; i < MESSAGES;) {
    int64_t n = take(q);
    if (n == -EAGAIN) {
      CHECK_INT(fc_shmq_wait_message(q, -1), 0);
      continue;
    }
    CHECK_INT(n, i);
    i++;
  }
  pthread_join(thread, NULL);
  CHECK_INT(take(q), -EAGAIN);
  fc_shmq_close(q);
}

typedef struct crowd {
  fc_shmq *q;
  atomic_uchar seen[MESSAGES];
} crowd;

static void *consume(void *arg) {
  crowd *c = arg;
  int64_t last = -1;
  for (;;) {
    int64_t n = take(c->q);
    if (n == -EAGAIN) {
      int err = fc_shmq_wait_message(c->q, -1);
      if (err == FC_ECLOSED) return NULL;
      CHECK_INT(err, 0);
      continue;
    }
    CHECK(n > last); /* each consumer sees the producer's order */
    last = n;
    CHECK_INT(atomic_fetch_add(&c->seen[n], 1), 0);
  }
}

static crowd many; /* too large for a stack */

static void test_several_consumers(void) {
  fc_shmq_config config = {.capacity_bytes = CAP, .max_producers = 1};
  CHECK_INT(fc_shmq_create(&many.q, &fc_mem_libc, &config), 0);
  pthread_t producer, consumers[CONSUMERS];
  for (int i = 0; i < CONSUMERS; i++) pthread_create(&consumers[i], NULL, consume, &many);
  pthread_create(&producer, NULL, produce, many.q);
  pthread_join(producer, NULL);
  fc_shmq_shutdown(many.q);
  for (int i = 0; i < CONSUMERS; i++) pthread_join(consumers[i], NULL);
  for (int i = 0; i < MESSAGES; i++) CHECK_INT(many.seen[i], 1);
  fc_shmq_close(many.q);
}

int main(void) {
  RUN(test_in_order);
  RUN(test_several_consumers);
  return 0;
}
