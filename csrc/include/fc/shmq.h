/* shmq.h - a queue of messages between processes, in one shared segment.
 *
 *     header   magic, version, sizes | sleeping | doorbell | closed, counters | consumers' mutex
 *     lane 0   tail | head | need, bell, pid            (each | starts a cache line)
 *     ...
 *     ring 0   capacity bytes, mapped twice in a row, so that no record is ever cut in two
 *     ...
 *
 *     record   u32 length | u16 kind | u16 aux | payload, filled up to 8 bytes
 *
 * A producer owns one lane, a ring with one writer (Lamport, 1977, with the peer's index cached).
 * `tail` and `head` count bytes and never turn back; modulo the capacity they are places. A
 * producer writes beyond `tail` and then publishes with one store of `tail`: if it is killed
 * before, nothing was sent, and whoever owns the lane next overwrites the rest.
 * Consumers share one robust mutex, which the kernel passes on when its holder dies; one copies
 * out and then publishes with one store of `head`: if it is killed before, the next one gets the
 * message. There is no ABA: 64-bit counters of bytes do not come round.
 *
 * Who lives is asked of the kernel: a handle holds record locks (of its own open file description)
 * on its lane, and shared ones as a producer and as a consumer. They go when the process goes, by
 * whatever means, and not while it is merely stopped. docs/shared-queue.md has the argument.
 *
 * Memory order: the owner reads its own index relaxed, the peer's with acquire, so that payload is
 * seen after `tail` and is overwritten only after `head`. Both are stored seq_cst, and the flags of
 * sleepers are stored and loaded seq_cst: publish then look for a sleeper, against fall asleep then
 * look for news (Dekker), so that one of the two sees the other.
 *
 * Segment: an anonymous file (memfd), gone with its last descriptor and mapping, of a sealed size.
 * Functions return 0, or -EAGAIN, FC_ECLOSED, or another negative code. */
#ifndef FC_SHMQ_H
#define FC_SHMQ_H

#include <stdbool.h>
#include <stdint.h>

#include "fc/mem.h"

#define FC_SHMQ_VERSION 1
#define FC_SHMQ_MAX_LANES 256
#define FC_SHMQ_MAX_CAPACITY (UINT64_C(1) << 31)
#define FC_SHMQ_RECORD_HEAD 8

typedef struct fc_shmq fc_shmq; /* one process's handle */

typedef struct fc_shmq_config {
  uint64_t capacity_bytes;    /* of a lane; rounded up to a power of two and to a page */
  uint64_t max_message_bytes; /* 0: what an empty lane holds */
  uint32_t max_producers;     /* lanes */
} fc_shmq_config;

typedef struct fc_shmq_msg {
  const unsigned char *data; /* in the lane; valid until the message is taken */
  uint32_t len;
  uint16_t kind, aux; /* as the producer gave them */
} fc_shmq_msg;

typedef struct fc_shmq_stats {
  uint64_t capacity_bytes, max_message_bytes, used_bytes, segment_bytes;
  uint64_t producers_joined, producers_left, consumers_joined, consumers_left;
  uint32_t max_producers, lanes_used, lanes_owned;
  bool closed;
} fc_shmq_stats;

/* A new segment. FC_EINVALID for sizes out of range. */
int fc_shmq_create(fc_shmq **out, const fc_mem *mem, const fc_shmq_config *config);

/* Another handle on the segment of `fd`, which stays the caller's. -EPROTO: `fd` is no segment, or
 * a damaged one. -EPROTONOSUPPORT: it is of another version or of another C library. */
int fc_shmq_attach(fc_shmq **out, const fc_mem *mem, int fd);

/* Leaves in good order and frees the handle. No other thread may be using it. In a forked child
 * this frees the child's copy and the parent does not notice. */
void fc_shmq_close(fc_shmq *q);

/* The segment's descriptor, close-on-exec. No lock hangs on it, so it may be passed on freely. */
int fc_shmq_fd(const fc_shmq *q);

/* Whether the handle was copied by fork() and must be renewed, which drops what it shares with the
 * parent: the lane, the locks. Cheap enough for each call. */
bool fc_shmq_forked(const fc_shmq *q);
int fc_shmq_renew(fc_shmq *q);

/* Closes the queue for all processes and wakes them. What is in it can still be taken. */
void fc_shmq_shutdown(fc_shmq *q);

bool fc_shmq_is_shut_down(const fc_shmq *q);

/* Whether no message waits, at this moment. */
bool fc_shmq_is_empty(const fc_shmq *q);

/* Asks the kernel about each lane's owner. */
fc_shmq_stats fc_shmq_get_stats(const fc_shmq *q);

/* ---- sending. Threads of a process share its lane and take turns: lock, reserve and stage any
 * number of messages, publish them together, unlock. ---- */

bool fc_shmq_send_trylock(fc_shmq *q);
void fc_shmq_send_lock(fc_shmq *q);
void fc_shmq_send_unlock(fc_shmq *q);

/* Room for a message of `len` bytes behind those staged. -EAGAIN: the lane is full. -EMSGSIZE: it
 * never fits. -EUSERS: living producers own all lanes. */
int fc_shmq_reserve(fc_shmq *q, size_t len, unsigned char **data);

/* Stages the message that was reserved and filled. `len` may be less than was reserved. With more
 * than a quarter of the lane staged, that much is published at once. */
void fc_shmq_stage(fc_shmq *q, size_t len, uint16_t kind, uint16_t aux);

/* Makes what is staged visible, at once, and wakes consumers that sleep. */
void fc_shmq_publish(fc_shmq *q);

/* Whether a message of `len` bytes may fit at this moment; true while no lane is owned. */
bool fc_shmq_has_space(const fc_shmq *q, size_t len);

/* Without the lock: sleeps until a message of `len` bytes may fit, for `timeout_ns` at most and for
 * FC_SHMQ_SLICE_NS at most, or until a signal. 0: look again. FC_ECLOSED: the queue was shut down.
 * -EOWNERDEAD, once for each death: the last consumer died, and no other has come. */
int fc_shmq_wait_space(fc_shmq *q, size_t len, int64_t timeout_ns);

/* ---- receiving: lock, peek and take any number of messages, unlock. ---- */

/* -EBUSY: another thread or process is receiving. -EDEADLK: this thread is. */
int fc_shmq_recv_trylock(fc_shmq *q);

/* The same, waiting FC_SHMQ_SLICE_NS at most. */
int fc_shmq_recv_lock(fc_shmq *q);

/* Publishes what was taken, wakes producers that wait for room, and lets the next one in. */
void fc_shmq_recv_unlock(fc_shmq *q);

/* The next message. -EAGAIN: there is none. -EPROTO: a lane is damaged. */
int fc_shmq_peek(fc_shmq *q, fc_shmq_msg *m);

/* Done with the message that was peeked at, whose room may be given back at once. */
void fc_shmq_take(fc_shmq *q);

/* How many messages wait; with the lock held, since it walks through them. -EPROTO as above. */
int64_t fc_shmq_count(const fc_shmq *q);

/* Without the lock: like fc_shmq_wait_space(). FC_ECLOSED: shut down, and nothing is left.
 * -EOWNERDEAD: nothing is left, and the last other producer died. */
int fc_shmq_wait_message(fc_shmq *q, int64_t timeout_ns);

/* Sleeps are cut into slices: the death of a peer, and a wake-up that a producer did not live to
 * send, are noticed after one at the latest. Death itself is never judged by time. */
#define FC_SHMQ_SLICE_NS INT64_C(100000000)

#endif
