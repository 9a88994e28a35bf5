/* shmq_private.h - the segment and the handle, as the three shmq*.c see them. */
#ifndef FC_SHMQ_PRIVATE_H
#define FC_SHMQ_PRIVATE_H

#include <errno.h>
#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>

#include "fc/err.h"
#include "fc/shmq.h"

#define LINE 64
#define MAGIC UINT64_C(0x31714d6853634643) /* "CFcShMq1" */

typedef struct fc_shmq_lane {
  alignas(LINE) _Atomic uint64_t tail; /* written by the owner */
  alignas(LINE) _Atomic uint64_t head; /* written by the consumer that holds the mutex */
  alignas(LINE) _Atomic uint32_t need; /* bytes a sleeping producer waits for; 0: none sleeps */
  _Atomic uint32_t bell;               /* futex: room was made */
  _Atomic uint32_t pid;                /* the owner, for people who look; 0: it left */
} fc_shmq_lane;

/* Counts of who came and who took leave; with nobody alive the difference is who died. */
typedef struct fc_shmq_roll {
  _Atomic uint64_t joined, left;
} fc_shmq_roll;

typedef struct fc_shmq_header {
  _Atomic uint64_t magic; /* stored last, when the rest is ready */
  uint32_t version;
  uint32_t abi; /* size of pthread_mutex_t and of a page */
  uint64_t capacity, max_message, size;
  uint32_t lanes;
  alignas(LINE) _Atomic uint32_t sleeping; /* consumers sleep, or slept; producers reset it */
  alignas(LINE) _Atomic uint32_t doorbell; /* futex: messages came */
  alignas(LINE) _Atomic uint32_t closed;
  _Atomic uint32_t lanes_used; /* lanes from here on were never owned */
  fc_shmq_roll producers, consumers;
  alignas(LINE) pthread_mutex_t mutex;
  alignas(LINE) fc_shmq_lane lane[];
} fc_shmq_header;

/* Messages taken from a lane before the next one has its turn. */
enum { FC_SHMQ_TURN = 64 };

/* A batch that is longer than this part of a lane is published in pieces, lest the peer stand idle
 * until all of it has been copied. */
enum { FC_SHMQ_PIECES = 4 };

/* Bytes of the file that locks are put on; that many of them lie anywhere does not matter. */
enum { LOCK_PRODUCERS = 0, LOCK_CONSUMERS = 1, LOCK_LANES = 16 };

struct fc_shmq {
  const fc_mem *mem;
  fc_shmq_header *header;
  unsigned char *rings; /* lanes x 2 x capacity */
  size_t header_bytes;  /* mapped */
  uint64_t capacity;
  uint32_t lanes;
  int fd, lock_fd;
  _Atomic uint32_t *guard; /* on a page of its own that fork() wipes */
  size_t page;
  _Atomic uint64_t dead_producers, dead_consumers; /* reported by this handle */

  /* Sending, under send_mutex. */
  pthread_mutex_t send_mutex;
  fc_shmq_lane *_Atomic lane; /* NULL: none yet; also read without the mutex */
  unsigned char *ring;
  uint64_t tail, published, head_seen;

  /* Receiving, under header->mutex. */
  _Atomic uint32_t consuming;
  uint32_t cursor, turn; /* the lane that is drained, and for how many messages more */
  uint64_t head;         /* of that lane; beyond the published one while messages are taken */
  uint64_t peeked;       /* bytes of the record that was peeked at */
  uint64_t untold;       /* bytes taken since head was published */
  uint64_t tail_seen[];
};

typedef struct fc_shmq_record {
  uint32_t len;
  uint16_t kind, aux;
} fc_shmq_record;

static inline uint64_t fc_shmq_record_bytes(uint64_t len) {
  return (FC_SHMQ_RECORD_HEAD + len + 7) & ~UINT64_C(7);
}

static inline unsigned char *fc_shmq_ring(const fc_shmq *q, uint32_t lane) {
  return q->rings + 2 * q->capacity * lane;
}

/* Takes a lock on a byte of the file if it is free; F_UNLCK gives it back. */
int fc_shmq_lock_byte(const fc_shmq *q, short type, int64_t byte);

/* Whether another handle than this holds a lock on the byte. */
bool fc_shmq_is_locked(const fc_shmq *q, int64_t byte);

/* How many of `roll` died, if no other is alive; else 0. */
uint64_t fc_shmq_deaths(const fc_shmq *q, const fc_shmq_roll *roll, int64_t byte);

/* Takes the first lane that no living producer owns. 0 or -EUSERS. */
int fc_shmq_claim_lane(fc_shmq *q);

/* Sleeps while *word is `seen`, for a slice or `timeout_ns`; returns early on a signal. */
void fc_shmq_sleep(_Atomic uint32_t *word, uint32_t seen, int64_t timeout_ns);

/* Resets `flag` and rings `bell`. In this order, since a sleeper reads the bell, sets the flag and
 * sleeps only if the bell has not rung: the reset hides only a flag whose sleeper sees the bell. */
void fc_shmq_wake(_Atomic uint32_t *flag, _Atomic uint32_t *bell);

static inline void fc_shmq_pause(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

#endif
