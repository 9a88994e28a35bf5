#include <string.h>

#include "shmq_private.h"

bool fc_shmq_send_trylock(fc_shmq *q) {
  return !pthread_mutex_trylock(&q->send_mutex);
}

void fc_shmq_send_lock(fc_shmq *q) {
  pthread_mutex_lock(&q->send_mutex);
}

void fc_shmq_send_unlock(fc_shmq *q) {
  pthread_mutex_unlock(&q->send_mutex);
}

int fc_shmq_reserve(fc_shmq *q, size_t len, unsigned char **data) {
  if (len > q->header->max_message) return -EMSGSIZE;
  if (atomic_load_explicit(&q->header->closed, memory_order_relaxed)) return FC_ECLOSED;
  int err = q->lane ? 0 : fc_shmq_claim_lane(q);
  if (err < 0) return err;
  uint64_t need = fc_shmq_record_bytes(len);
  if (need > q->capacity - (q->tail - q->head_seen)) {
    /* Acquire: what the consumer read from there was read before we write. */
    q->head_seen = atomic_load_explicit(&q->lane->head, memory_order_acquire);
    uint64_t used = q->tail - q->head_seen;
    if (used > q->capacity) return -EPROTO;
    if (need > q->capacity - used) return -EAGAIN;
  }
  *data = q->ring + (q->tail & (q->capacity - 1)) + FC_SHMQ_RECORD_HEAD;
  return 0;
}

void fc_shmq_stage(fc_shmq *q, size_t len, uint16_t kind, uint16_t aux) {
  fc_shmq_record r = {(uint32_t)len, kind, aux};
  memcpy(q->ring + (q->tail & (q->capacity - 1)), &r, sizeof r);
  q->tail += fc_shmq_record_bytes(len);
  if (q->tail - q->published > q->capacity / FC_SHMQ_PIECES) fc_shmq_publish(q);
}

void fc_shmq_publish(fc_shmq *q) {
  if (!q->lane || q->tail == q->published) return;
  atomic_store(&q->lane->tail, q->tail);
  q->published = q->tail;
  fc_shmq_header *h = q->header;
  if (atomic_load(&h->sleeping)) fc_shmq_wake(&h->sleeping, &h->doorbell);
}

static bool has_room(const fc_shmq *q, const fc_shmq_lane *lane, uint64_t need) {
  uint64_t head = atomic_load(&lane->head);
  return need <= q->capacity - (atomic_load(&lane->tail) - head);
}

bool fc_shmq_has_space(const fc_shmq *q, size_t len) {
  const fc_shmq_lane *lane = q->lane;
  return !lane || has_room(q, lane, fc_shmq_record_bytes(len));
}

int fc_shmq_wait_space(fc_shmq *q, size_t len, int64_t timeout_ns) {
  fc_shmq_lane *lane = q->lane;
  if (!lane) return 0;
  uint64_t need = fc_shmq_record_bytes(len);
  uint32_t seen = atomic_load(&lane->bell);
  atomic_store(&lane->need, (uint32_t)need);
  if (has_room(q, lane, need)) return 0;
  if (atomic_load(&q->header->closed)) return FC_ECLOSED;
  uint64_t dead = fc_shmq_deaths(q, &q->header->consumers, LOCK_CONSUMERS);
  if (dead > atomic_load(&q->dead_consumers)) {
    atomic_store(&q->dead_consumers, dead);
    return -EOWNERDEAD;
  }
  fc_shmq_sleep(&lane->bell, seen, timeout_ns);
  return 0;
}
