/* stream.h - a connected socket: one block in, a queue out, a deadline.
 *
 *     kernel --recv--> in: | read | unread ......|  room |     fc_stream_unread, fc_stream_consume
 *     kernel <-sendv-- out: [block] -> [borrowed] -> [block|room]       fc_stream_write*, _reserve
 *
 * What is written in a turn leaves in one call at the end of it. The in-block exists only while
 * there are unread bytes, so an idle stream holds no buffer. `out_bytes` passing the high mark is
 * the writer's sign to pause; on_drain says that it fell to the low mark.
 *
 * A peer that takes nothing for stall_timeout_ns while bytes wait is cut off with FC_ETIMEOUT, at
 * most a quarter of that late.
 *
 * Life: fc_stream_open, callbacks, and exactly one on_closed, after which the owner's memory is
 * released by on_free at the end of the turn: until then every call is harmless. */
#ifndef FC_STREAM_H
#define FC_STREAM_H

#include "fc/reactor.h"
#include "fc/slice.h"

#define FC_STREAM_READ_BYTES 16384          /* the block a read starts with */
#define FC_STREAM_READ_BUDGET_BYTES 262144  /* read in one turn before others have theirs */
#define FC_STREAM_MAX_IN_BYTES 131072       /* the default of max_in_bytes */
#define FC_STREAM_HIGH_WATER_BYTES 65536
#define FC_STREAM_LOW_WATER_BYTES 16384
#define FC_STREAM_LINGER_BYTES 67108864     /* discarded at most while lingering: an upload */

typedef struct fc_stream fc_stream;

typedef struct fc_stream_ops {
  void (*on_data)(fc_stream *s);  /* unread bytes have grown */
  void (*on_eof)(fc_stream *s);   /* the peer will send no more; the stream still writes */
  void (*on_drain)(fc_stream *s);
  void (*on_deadline)(fc_stream *s);
  void (*on_closed)(fc_stream *s, int why); /* 0: as asked; else the error */
  void (*on_free)(fc_stream *s);
  /* While reading is stopped: the peer has shut down its side or is gone; what it sent before is
   * still to be read, and on_eof comes after that. May be NULL. */
  void (*on_gone)(fc_stream *s);
  /* An owner that reads into memory of its own sets both, and there is no in-block and no on_data.
   * on_room says where up to *room bytes may go, NULL: nowhere now. on_read follows with how many
   * came, which is 0 for none, for the end and for an error. */
  char *(*on_room)(fc_stream *s, size_t *room);
  void (*on_read)(fc_stream *s, size_t n);
} fc_stream_ops;

/* A piece of the out-queue. */
typedef struct fc_out {
  struct fc_out *next;
  const char *ptr; /* what is still to be sent */
  size_t len;
  fc_buf *block;                /* own bytes; NULL: borrowed */
  void (*release)(void *owner); /* borrowed: called once when sent or dropped; may be NULL */
  void *owner;
} fc_out;

struct fc_stream {
  fc_source source;
  fc_reactor *reactor;
  const fc_stream_ops *ops;
  fc_buf *in;
  uint32_t in_at; /* first unread byte */
  uint16_t flags;
  uint32_t high_water_bytes, low_water_bytes;
  uint32_t max_in_bytes; /* unread bytes at which reading pauses: more than a message's head */
  fc_out *out_first, *out_last;
  size_t out_bytes;
  uint64_t sent_bytes;   /* ever */
  uint64_t deadline_ns;  /* the owner's; 0: none */
  uint64_t stall_timeout_ns; /* how long the peer may take nothing of what waits; 0: for ever */
  uint64_t stall_ns;         /* when that is over; counts while the kernel's buffer is full */
  int untaken;               /* bytes in that buffer when last looked at */
  uint64_t linger_ns;
  size_t lingered_bytes;
  fc_timer timer;
  fc_task flush;
  fc_task grave;
};

/* Takes over a non-blocking socket and starts reading. On failure the caller keeps `fd`. */
int fc_stream_open(fc_stream *s, fc_reactor *r, int fd, const fc_stream_ops *ops);

/* The descriptor stays the caller's, who closes it in on_closed or later. */
void fc_stream_keep_fd(fc_stream *s);

static inline bool fc_stream_is_open(const fc_stream *s) {
  return s->source.fd >= 0;
}

static inline fc_slice fc_stream_unread(const fc_stream *s) {
  return s->in ? (fc_slice){s->in->data + s->in_at, s->in->len - s->in_at} : (fc_slice){NULL, 0};
}

/* Marks `n` unread bytes as read. The block is kept until on_data returns. */
static inline void fc_stream_consume(fc_stream *s, size_t n) {
  s->in_at += (uint32_t)n;
}

/* For a caller that consumed outside on_data: gives up the in-block if all of it is read, and reads
 * on if too much was unread. */
void fc_stream_trim(fc_stream *s);

/* Stops and resumes reading. While stopped the stream still learns when the peer goes: on_gone. */
void fc_stream_pause(fc_stream *s);
void fc_stream_resume(fc_stream *s);

/* Room for `n` contiguous bytes at the end of the out-queue, to be followed by fc_stream_commit of
 * at most n before any other call; NULL: out of memory or closed. */
char *fc_stream_reserve(fc_stream *s, size_t n);
void fc_stream_commit(fc_stream *s, size_t n);

/* Copies into the out-queue. 0, FC_ECLOSED or FC_ENOMEM. */
int fc_stream_write(fc_stream *s, fc_slice bytes);

/* Queues bytes that `owner` keeps alive until release(owner) is called. On failure nothing is
 * released. Worth it from about a page on. */
int fc_stream_write_borrowed(fc_stream *s, fc_slice bytes, void (*release)(void *), void *owner);

/* Sends what is queued now rather than at the end of the turn. */
void fc_stream_flush(fc_stream *s);

/* Changes the water marks; on_drain is owed for what lies above the new ones already. */
void fc_stream_set_limits(fc_stream *s, uint32_t high_water_bytes, uint32_t low_water_bytes);

/* Sends what is queued and shuts down writing; reading goes on. Later writes are FC_ECLOSED. */
void fc_stream_finish(fc_stream *s);

static inline bool fc_stream_is_full(const fc_stream *s) {
  return s->out_bytes > s->high_water_bytes;
}

/* on_deadline once the clock passes `at_ns`; 0 takes it back. Moving a deadline on is two stores:
 * the timer is re-armed only when it fires too soon. */
void fc_stream_deadline(fc_stream *s, uint64_t at_ns);

/* Sends what is queued, then closes; nothing is read meanwhile. */
void fc_stream_close(fc_stream *s);

/* Sends what is queued, shuts down writing, and then discards input for `for_ns` before it closes,
 * so that unread input does not turn the last reply into a reset (RFC 9112, 9.6). The sending is
 * bounded by stall_timeout_ns alone. */
void fc_stream_linger(fc_stream *s, uint64_t for_ns);

/* Closes at once; queued bytes are dropped. `why` is handed to on_closed. */
void fc_stream_abort(fc_stream *s, int why);

#endif
