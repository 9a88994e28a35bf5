#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <time.h>

#include "fc/clock.h"
#include "shmq_private.h"

/* Looks for a message before a sleep. */
enum { SPINS = 200, YIELDS = 8 };

/* Relaxed: the mutex has ordered it. */
static uint64_t published_head(const fc_shmq *q, uint32_t lane) {
  return atomic_load_explicit(&q->header->lane[lane].head, memory_order_relaxed);
}

static void start_at(fc_shmq *q, uint32_t lane) {
  q->cursor = lane;
  q->turn = FC_SHMQ_TURN;
  q->head = published_head(q, lane);
}

/* Inside the mutex: what pthread_mutex_*lock() returned, the dead holder's state taken over. It
 * needs no repair, since one store of `head` is all a consumer changes. */
static int entered(fc_shmq *q, int err) {
  if (err == EOWNERDEAD) err = pthread_mutex_consistent(&q->header->mutex);
  if (err) return err == ETIMEDOUT ? -EBUSY : -err;
  if (!atomic_load_explicit(&q->consuming, memory_order_relaxed)) {
    err = fc_shmq_lock_byte(q, F_RDLCK, LOCK_CONSUMERS);
    if (err < 0) {
      pthread_mutex_unlock(&q->header->mutex);
      return err;
    }
    atomic_store(&q->consuming, 1);
    atomic_fetch_add(&q->header->consumers.joined, 1);
  }
  q->head = published_head(q, q->cursor);
  return 0;
}

int fc_shmq_recv_trylock(fc_shmq *q) {
  return entered(q, pthread_mutex_trylock(&q->header->mutex));
}

int fc_shmq_recv_lock(fc_shmq *q) {
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  uint64_t ns = (uint64_t)t.tv_nsec + (uint64_t)FC_SHMQ_SLICE_NS;
  t.tv_sec += (time_t)(ns / FC_NS_PER_S);
  t.tv_nsec = (long)(ns % FC_NS_PER_S);
  return entered(q, pthread_mutex_timedlock(&q->header->mutex, &t));
}

/* One store hands the room back. A producer is woken when half of the lane is free, or what it
 * needs if that is more, so that it is not woken for each message. */
static void publish_head(fc_shmq *q) {
  if (!q->untold) return;
  q->untold = 0;
  fc_shmq_lane *lane = &q->header->lane[q->cursor];
  atomic_store(&lane->head, q->head);
  uint32_t need = atomic_load(&lane->need);
  if (!need) return;
  uint64_t room = q->capacity - (q->tail_seen[q->cursor] - q->head);
  if (room >= need && room >= q->capacity / 2) fc_shmq_wake(&lane->need, &lane->bell);
}

void fc_shmq_recv_unlock(fc_shmq *q) {
  publish_head(q);
  pthread_mutex_unlock(&q->header->mutex);
}

static uint32_t lanes_used(const fc_shmq *q) {
  uint32_t n = atomic_load_explicit(&q->header->lanes_used, memory_order_acquire);
  return n < q->lanes ? n : q->lanes;
}

/* The record at `head`, if what the lane says of it can be true. */
static int read_record(const fc_shmq *q, uint32_t lane, uint64_t head, uint64_t tail,
                       fc_shmq_record *r) {
  uint64_t used = tail - head;
  if (used > q->capacity || used < FC_SHMQ_RECORD_HEAD || (head & 7)) return -EPROTO;
  memcpy(r, fc_shmq_ring(q, lane) + (head & (q->capacity - 1)), sizeof *r);
  return fc_shmq_record_bytes(r->len) <= used ? 0 : -EPROTO;
}

/* Whether the cursor's lane has a message. Other consumers may have moved `head` beyond the tail
 * that this one saw last. */
static bool lane_ready(fc_shmq *q) {
  uint64_t *seen = &q->tail_seen[q->cursor];
  if ((int64_t)(*seen - q->head) <= 0)
    *seen = atomic_load_explicit(&q->header->lane[q->cursor].tail, memory_order_acquire);
  return *seen != q->head;
}

int fc_shmq_peek(fc_shmq *q, fc_shmq_msg *m) {
  uint32_t n = lanes_used(q);
  for (uint32_t tries = 0; tries <= n; tries++) {
    if (q->turn && lane_ready(q)) {
      fc_shmq_record r;
      int err = read_record(q, q->cursor, q->head, q->tail_seen[q->cursor], &r);
      if (err < 0) return err;
      const unsigned char *at = fc_shmq_ring(q, q->cursor) + (q->head & (q->capacity - 1));
      *m = (fc_shmq_msg){at + FC_SHMQ_RECORD_HEAD, r.len, r.kind, r.aux};
      q->peeked = fc_shmq_record_bytes(r.len);
      return 0;
    }
    publish_head(q);
    start_at(q, q->cursor + 1 < n ? q->cursor + 1 : 0);
  }
  return -EAGAIN;
}

void fc_shmq_take(fc_shmq *q) {
  q->head += q->peeked;
  q->untold += q->peeked;
  q->peeked = 0;
  q->turn--;
  if (q->untold > q->capacity / FC_SHMQ_PIECES) publish_head(q);
}

int64_t fc_shmq_count(const fc_shmq *q) {
  int64_t count = 0;
  uint32_t n = lanes_used(q);
  for (uint32_t i = 0; i < n; i++) {
    uint64_t head = atomic_load(&q->header->lane[i].head);
    uint64_t tail = atomic_load(&q->header->lane[i].tail);
    for (fc_shmq_record r; head != tail; head += fc_shmq_record_bytes(r.len), count++)
      if (read_record(q, i, head, tail, &r) < 0) return -EPROTO;
  }
  return count;
}

bool fc_shmq_is_empty(const fc_shmq *q) {
  uint32_t n = lanes_used(q);
  for (uint32_t i = 0; i < n; i++) {
    const fc_shmq_lane *lane = &q->header->lane[i];
    if (atomic_load(&lane->head) != atomic_load(&lane->tail)) return false;
  }
  return true;
}

/* A sleep and its wake-up cost more than a short look-out, and cost the producer a system call. */
static bool look_out(const fc_shmq *q) {
  for (int i = 0; i < SPINS + YIELDS; i++) {
    if (!fc_shmq_is_empty(q)) return true;
    if (i < SPINS)
      fc_shmq_pause();
    else
      sched_yield();
  }
  return false;
}

int fc_shmq_wait_message(fc_shmq *q, int64_t timeout_ns) {
  fc_shmq_header *h = q->header;
  if (look_out(q)) return 0;
  uint32_t seen = atomic_load(&h->doorbell);
  atomic_store(&h->sleeping, 1);
  if (!fc_shmq_is_empty(q)) return 0;
  /* Each verdict is followed by another look: what was sent before it must not be missed. */
  if (atomic_load(&h->closed)) return fc_shmq_is_empty(q) ? FC_ECLOSED : 0;
  uint64_t dead = fc_shmq_deaths(q, &h->producers, LOCK_PRODUCERS);
  if (dead > atomic_load(&q->dead_producers)) {
    if (!fc_shmq_is_empty(q)) return 0;
    atomic_store(&q->dead_producers, dead);
    return -EOWNERDEAD;
  }
  fc_shmq_sleep(&h->doorbell, seen, timeout_ns);
  return 0;
}
