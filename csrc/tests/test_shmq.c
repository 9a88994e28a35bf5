/* The queue between processes: records, limits, lanes, and what a death leaves behind. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "fc/err.h"
#include "fc/shmq.h"
#include "rng.h"

#define CAP 4096

static fc_shmq *make(uint64_t capacity, uint32_t producers) {
  fc_shmq *q = NULL;
  fc_shmq_config c = {.capacity_bytes = capacity, .max_producers = producers};
  CHECK_INT(fc_shmq_create(&q, &fc_mem_libc, &c), 0);
  return q;
}

static fc_shmq *attach(fc_shmq *q) {
  fc_shmq *other = NULL;
  CHECK_INT(fc_shmq_attach(&other, &fc_mem_libc, fc_shmq_fd(q)), 0);
  return other;
}

static int stage(fc_shmq *q, const void *data, size_t len) {
  unsigned char *at;
  int err = fc_shmq_reserve(q, len, &at);
  if (err < 0) return err;
  memcpy(at, data, len);
  fc_shmq_stage(q, len, 7, 9);
  return 0;
}

static int send(fc_shmq *q, const void *data, size_t len) {
  fc_shmq_send_lock(q);
  int err = stage(q, data, len);
  fc_shmq_publish(q);
  fc_shmq_send_unlock(q);
  return err;
}

/* The length of the message that was taken into `data`, or a negative error. */
static int64_t receive(fc_shmq *q, void *data) {
  CHECK_INT(fc_shmq_recv_trylock(q), 0);
  fc_shmq_msg m;
  int64_t n = fc_shmq_peek(q, &m);
  if (n == 0) {
    memcpy(data, m.data, m.len);
    CHECK_INT(m.kind, 7);
    CHECK_INT(m.aux, 9);
    n = m.len;
    fc_shmq_take(q);
  }
  fc_shmq_recv_unlock(q);
  return n;
}

static int64_t count(fc_shmq *q) {
  CHECK_INT(fc_shmq_recv_trylock(q), 0);
  int64_t n = fc_shmq_count(q);
  fc_shmq_recv_unlock(q);
  return n;
}

/* Lengths of every kind, over many turns of the ring: each comes out as it went in. */
static void test_wrap(void) {
  fc_shmq *q = make(CAP, 1);
  unsigned char in[2][CAP], out[CAP];
  rng g = rng_seeded(1);
  for (int i = 0; i < 20000; i++) {
    size_t len[2];
    for (int k = 0; k < 2; k++) {
      len[k] = (size_t)rng_below(&g, 2000);
      for (size_t j = 0; j < len[k]; j++) in[k][j] = (unsigned char)rng_next(&g);
      CHECK_INT(send(q, in[k], len[k]), 0);
    }
    CHECK_INT(count(q), 2);
    for (int k = 0; k < 2; k++) {
      CHECK_INT(receive(q, out), len[k]);
      CHECK(!memcmp(in[k], out, len[k]));
    }
  }
  CHECK_INT(receive(q, out), -EAGAIN);
  fc_shmq_close(q);
}

static void test_full_and_limits(void) {
  fc_shmq *q = make(CAP, 1);
  static char data[CAP];
  CHECK_INT(send(q, data, CAP - FC_SHMQ_RECORD_HEAD + 1), -EMSGSIZE);
  CHECK(fc_shmq_has_space(q, CAP)); /* no lane yet */
  CHECK_INT(send(q, data, CAP - 3 * FC_SHMQ_RECORD_HEAD), 0);
  CHECK(fc_shmq_has_space(q, 8));
  CHECK(!fc_shmq_has_space(q, 9));
  CHECK_INT(receive(q, data), CAP - 3 * FC_SHMQ_RECORD_HEAD);
  CHECK_INT(send(q, data, CAP - FC_SHMQ_RECORD_HEAD), 0);
  CHECK(!fc_shmq_has_space(q, 0));
  CHECK_INT(send(q, data, 0), -EAGAIN);
  CHECK_INT(receive(q, data), CAP - FC_SHMQ_RECORD_HEAD);
  for (int i = 0; i < CAP / 8; i++) CHECK_INT(send(q, data, 0), 0);
  CHECK_INT(send(q, data, 0), -EAGAIN);
  CHECK_INT(count(q), CAP / 8);
  fc_shmq_close(q);

  fc_shmq_config bad[] = {{0, 0, 1}, {CAP, 0, 0}, {CAP, CAP, 1}, {CAP, 0, FC_SHMQ_MAX_LANES + 1}};
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
    CHECK_INT(fc_shmq_create(&q, &fc_mem_libc, &bad[i]), FC_EINVALID);
  fc_shmq_config small = {CAP, 10, 1};
  CHECK_INT(fc_shmq_create(&q, &fc_mem_libc, &small), 0);
  CHECK_INT(send(q, data, 11), -EMSGSIZE);
  CHECK_INT(send(q, data, 10), 0);
  fc_shmq_close(q);
}

/* Nothing is seen before the batch is published, and all of it afterwards. */
static void test_batch(void) {
  fc_shmq *q = make(CAP, 1), *other = attach(q);
  char out[CAP];
  fc_shmq_send_lock(q);
  for (int i = 0; i < 5; i++) CHECK_INT(stage(q, "abcde", (size_t)i), 0);
  CHECK_INT(receive(other, out), -EAGAIN);
  fc_shmq_publish(q);
  fc_shmq_send_unlock(q);
  CHECK_INT(count(other), 5);
  for (int i = 0; i < 5; i++) CHECK_INT(receive(other, out), i);
  /* More than a quarter of the lane does not wait for the end of the batch. */
  fc_shmq_send_lock(q);
  CHECK_INT(stage(q, out, 1000), 0);
  CHECK_INT(receive(other, out), -EAGAIN);
  CHECK_INT(stage(q, out, 100), 0);
  CHECK_INT(count(other), 2);
  fc_shmq_send_unlock(q);
  fc_shmq_close(other);
  fc_shmq_close(q);
}

/* Every handle that sends has a lane, and gives it back. */
static void test_lanes(void) {
  fc_shmq *q = make(CAP, 2), *a = attach(q), *b = attach(q), *c = attach(q);
  char out[CAP];
  CHECK_INT(send(a, "a", 1), 0);
  CHECK_INT(send(b, "b", 1), 0);
  CHECK_INT(send(c, "c", 1), -EUSERS);
  CHECK_INT(fc_shmq_get_stats(q).lanes_owned, 2);
  fc_shmq_close(a);
  CHECK_INT(fc_shmq_get_stats(q).lanes_owned, 1);
  CHECK_INT(send(c, "c", 1), 0); /* behind the "a" that is still there */
  CHECK_INT(count(q), 3);
  CHECK_INT(receive(q, out), 1);
  CHECK_INT(out[0], 'a');
  CHECK_INT(receive(q, out), 1);
  CHECK_INT(out[0], 'c');
  CHECK_INT(receive(q, out), 1);
  CHECK_INT(out[0], 'b');
  fc_shmq_close(b);
  fc_shmq_close(c);
  fc_shmq_close(q);
}

/* A busy lane does not keep the others waiting for ever. */
static void test_fairness(void) {
  fc_shmq *q = make(1 << 16, 2), *other = attach(q);
  char out[8];
  for (int i = 0; i < 1000; i++) CHECK_INT(send(q, "busy", 4), 0);
  CHECK_INT(send(other, "x", 1), 0);
  int before = 0;
  while (receive(q, out) == 4) before++;
  CHECK(before <= 64);
  fc_shmq_close(other);
  fc_shmq_close(q);
}

static void test_shutdown(void) {
  fc_shmq *q = make(CAP, 1), *other = attach(q);
  char out[8];
  CHECK_INT(send(q, "a", 1), 0);
  fc_shmq_shutdown(other);
  CHECK_INT(send(q, "b", 1), FC_ECLOSED);
  CHECK_INT(fc_shmq_wait_message(q, 0), 0); /* something is left */
  CHECK_INT(receive(q, out), 1);
  CHECK_INT(fc_shmq_wait_message(q, -1), FC_ECLOSED);
  CHECK(fc_shmq_get_stats(q).closed);
  fc_shmq_close(other);
  fc_shmq_close(q);
}

static void copy(int from, int to, off_t at, const void *patch, size_t len) {
  char buf[1024];
  CHECK_INT(pread(from, buf, sizeof buf, 0), sizeof buf);
  memcpy(buf + at, patch, len);
  CHECK_INT(pwrite(to, buf, sizeof buf, 0), sizeof buf);
}

/* Foreign files and other versions are refused, and nothing is mapped beyond a file's end. */
static void test_refusals(void) {
  fc_shmq *q = make(CAP, 1), *other = NULL;
  uint64_t size = fc_shmq_get_stats(q).segment_bytes;
  int fd = memfd_create("other", 0);
  CHECK_INT(fc_shmq_attach(&other, &fc_mem_libc, fd), -EPROTO);
  CHECK_INT(ftruncate(fd, (off_t)size), 0);
  CHECK_INT(fc_shmq_attach(&other, &fc_mem_libc, fd), -EPROTO);
  copy(fc_shmq_fd(q), fd, 0, "", 0);
  CHECK_INT(fc_shmq_attach(&other, &fc_mem_libc, fd), 0);
  fc_shmq_close(other);
  uint32_t version = FC_SHMQ_VERSION + 1;
  copy(fc_shmq_fd(q), fd, 8, &version, sizeof version);
  CHECK_INT(fc_shmq_attach(&other, &fc_mem_libc, fd), -EPROTONOSUPPORT);
  copy(fc_shmq_fd(q), fd, 0, "", 0);
  CHECK_INT(ftruncate(fd, (off_t)size - 4096), 0);
  CHECK_INT(fc_shmq_attach(&other, &fc_mem_libc, fd), -EPROTO);
  close(fd);
  /* The segment itself cannot be cut short under those who use it. */
  CHECK_INT(ftruncate(fc_shmq_fd(q), 0), -1);
  CHECK_INT(errno, EPERM);
  fc_shmq_close(q);
}

/* A record that cannot be true is reported, not followed. */
static void test_damage(void) {
  fc_shmq *q = make(CAP, 1);
  char out[8];
  CHECK_INT(send(q, "a", 1), 0);
  uint32_t len = CAP;
  uint64_t size = fc_shmq_get_stats(q).segment_bytes;
  CHECK_INT(pwrite(fc_shmq_fd(q), &len, sizeof len, (off_t)(size - CAP)), sizeof len);
  CHECK_INT(receive(q, out), -EPROTO);
  CHECK_INT(count(q), -EPROTO);
  fc_shmq_close(q);
}

/* ---- deaths ---- */

/* A child that calls `act` and waits to be killed; returns when it is dead. */
static void kill_after(fc_shmq *q, void (*act)(fc_shmq *)) {
  int ready[2];
  CHECK_INT(pipe(ready), 0);
  pid_t pid = fork();
  CHECK(pid >= 0);
  if (!pid) {
    CHECK(fc_shmq_forked(q));
    CHECK_INT(fc_shmq_renew(q), 0);
    act(q);
    CHECK_INT(write(ready[1], "x", 1), 1);
    for (;;) pause();
  }
  char c;
  CHECK_INT(read(ready[0], &c, 1), 1);
  CHECK(!fc_shmq_forked(q));
  kill(pid, SIGKILL);
  CHECK_INT(waitpid(pid, NULL, 0), pid);
  close(ready[0]);
  close(ready[1]);
}

static void send_and_stage(fc_shmq *q) {
  CHECK_INT(send(q, "sent", 4), 0);
  fc_shmq_send_lock(q);
  CHECK_INT(stage(q, "staged", 6), 0);
}

/* What it published is there, what it had not is not; its lane is free, and its death is told once,
 * after the last message. */
static void test_producer_dies(void) {
  fc_shmq *q = make(CAP, 1);
  char out[8];
  CHECK_INT(receive(q, out), -EAGAIN);
  kill_after(q, send_and_stage);
  CHECK_INT(fc_shmq_wait_message(q, 0), 0);
  CHECK_INT(receive(q, out), 4);
  CHECK_INT(receive(q, out), -EAGAIN);
  CHECK_INT(fc_shmq_wait_message(q, 0), -EOWNERDEAD);
  CHECK_INT(fc_shmq_wait_message(q, 0), 0);
  CHECK_INT(send(q, "mine", 4), 0);
  CHECK_INT(receive(q, out), 4);
  CHECK(!memcmp(out, "mine", 4));
  fc_shmq_close(q);
}

static void peek_and_hold(fc_shmq *q) {
  fc_shmq_msg m;
  CHECK_INT(fc_shmq_recv_trylock(q), 0);
  CHECK_INT(fc_shmq_peek(q, &m), 0);
  fc_shmq_take(q);
}

/* It died with the mutex held and the message not given back: the next one gets both. */
static void test_consumer_dies(void) {
  fc_shmq *q = make(CAP, 1);
  char out[CAP];
  CHECK_INT(send(q, "abc", 3), 0);
  CHECK_INT(send(q, out, CAP - 32), 0);
  kill_after(q, peek_and_hold);
  CHECK_INT(fc_shmq_wait_space(q, 100, 0), -EOWNERDEAD);
  CHECK_INT(fc_shmq_wait_space(q, 100, 0), 0);
  CHECK_INT(receive(q, out), 3);
  CHECK_INT(receive(q, out), CAP - 32);
  fc_shmq_close(q);
}

static void leave(fc_shmq *q) {
  char out[8];
  CHECK_INT(receive(q, out), -EAGAIN);
  CHECK_INT(send(q, "bye", 3), 0);
  fc_shmq_close(q);
}

/* Leaving is no death. */
static void test_leaving(void) {
  fc_shmq *q = make(CAP, 1);
  char out[8];
  kill_after(q, leave);
  CHECK_INT(receive(q, out), 3);
  CHECK_INT(fc_shmq_wait_message(q, 0), 0);
  fc_shmq_stats s = fc_shmq_get_stats(q);
  CHECK_INT(s.producers_joined, 1);
  CHECK_INT(s.producers_left, 1);
  CHECK_INT(s.consumers_left, 1);
  fc_shmq_close(q);
}

static void test_receiving_twice(void) {
  fc_shmq *q = make(CAP, 1);
  CHECK_INT(fc_shmq_recv_trylock(q), 0);
  CHECK_INT(fc_shmq_recv_trylock(q), -EDEADLK);
  CHECK_INT(fc_shmq_recv_lock(q), -EDEADLK);
  fc_shmq_recv_unlock(q);
  CHECK_INT(fc_shmq_recv_lock(q), 0);
  fc_shmq_recv_unlock(q);
  fc_shmq_close(q);
}

int main(void) {
  RUN(test_wrap);
  RUN(test_full_and_limits);
  RUN(test_batch);
  RUN(test_lanes);
  RUN(test_fairness);
  RUN(test_shutdown);
  RUN(test_refusals);
  RUN(test_damage);
  RUN(test_producer_dies);
  RUN(test_consumer_dies);
  RUN(test_leaving);
  RUN(test_receiving_twice);
  return 0;
}
