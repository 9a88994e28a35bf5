#include "fc/stream.h"

#include <errno.h>

#include "fc/err.h"

enum {
  PAUSED = 1,      /* the owner does not want to read */
  FULL_IN = 2,     /* too much is unread */
  ENDED = 4,       /* EOF was read */
  BLOCKED = 8,     /* the kernel's buffer is full */
  OVER = 16,       /* out_bytes passed the high mark and has not come down yet */
  CLOSING = 32,    /* closes once the queue is sent */
  LINGERING = 64,  /* likewise, but discards input first */
  DISCARDING = 128, /* ... and has begun to */
  GONE = 256,       /* the peer went while reading was stopped; it may have sent more before */
  FINISHED = 512,   /* writing is shut down once the queue is sent */
  KEEP_FD = 1024    /* the descriptor is not the stream's to close */
};

#define MAX_IOV 64

/* Less room than this is not worth a system call: the rest is moved first. */
#define MIN_ROOM_BYTES 1024

static void stream_ready(fc_source *source, uint32_t events);
static void stream_timer(fc_timer *t);
static void stream_flush_task(fc_task *t);
static void stream_grave(fc_task *t);
static void all_sent(fc_stream *s);

/* Watches for what the flags ask. A failure here is a broken descriptor: the stream ends. */
static void watch(fc_stream *s) {
  uint32_t events = 0;
  if (!(s->flags & (PAUSED | FULL_IN | ENDED))) events |= FC_READ;
  else if (!(s->flags & (ENDED | GONE))) events |= FC_PEER_GONE;
  if (s->flags & BLOCKED) events |= FC_WRITE;
  int err = fc_source_set(s->reactor, &s->source, events);
  if (err < 0) fc_stream_abort(s, err);
}

int fc_stream_open(fc_stream *s, fc_reactor *r, int fd, const fc_stream_ops *ops) {
  fc_source_init(&s->source, fd, stream_ready);
  s->reactor = r;
  s->ops = ops;
  s->in = NULL;
  s->in_at = 0;
  s->flags = 0;
  s->high_water_bytes = FC_STREAM_HIGH_WATER_BYTES;
  s->low_water_bytes = FC_STREAM_LOW_WATER_BYTES;
  s->max_in_bytes = FC_STREAM_MAX_IN_BYTES;
  s->out_first = s->out_last = NULL;
  s->out_bytes = s->lingered_bytes = 0;
  s->sent_bytes = s->deadline_ns = 0;
  s->stall_timeout_ns = s->stall_ns = s->linger_ns = 0;
  s->untaken = 0;
  fc_timer_init(&s->timer, stream_timer);
  fc_task_init(&s->flush, stream_flush_task);
  fc_task_init(&s->grave, stream_grave);
  return fc_source_set(r, &s->source, FC_READ);
}

/* ---- in -------------------------------------------------------------------------------------- */

static size_t unread_bytes(const fc_stream *s) {
  return s->in ? s->in->len - s->in_at : 0;
}

/* Whether the owner still wants to hear of the stream. */
static bool is_alive(const fc_stream *s) {
  return fc_stream_is_open(s) && !(s->flags & (CLOSING | LINGERING));
}

static bool can_write(const fc_stream *s) {
  return is_alive(s) && !(s->flags & FINISHED);
}

void fc_stream_keep_fd(fc_stream *s) {
  s->flags |= KEEP_FD;
}

static void drop_in(fc_stream *s) {
  if (s->in) fc_buf_unref(s->in);
  s->in = NULL;
  s->in_at = 0;
}

void fc_stream_trim(fc_stream *s) {
  if (unread_bytes(s) == 0) drop_in(s);
  if (!is_alive(s)) return;
  if (unread_bytes(s) >= s->max_in_bytes) s->flags |= FULL_IN;
  else s->flags &= (uint16_t)~FULL_IN;
  watch(s);
}

/* Makes sure that the in-block has room to read into. Bytes that somebody else may be reading are
 * never moved: the unread rest is then copied into a block of its own. */
static int make_room(fc_stream *s) {
  if (!s->in) {
    s->in = fc_buf_new(s->reactor->pool, FC_STREAM_READ_BYTES);
    s->in_at = 0;
    return s->in ? 0 : FC_ENOMEM;
  }
  if (fc_buf_room(s->in) >= MIN_ROOM_BYTES) return 0;
  size_t unread = s->in->len - s->in_at;
  if (s->in->refs == 1 && s->in_at >= s->in->cap / 2) {
    memmove(s->in->data, s->in->data + s->in_at, unread);
  } else {
    size_t want = unread * 2 > FC_STREAM_READ_BYTES ? unread * 2 : FC_STREAM_READ_BYTES;
    fc_buf *b = fc_buf_new(s->reactor->pool, want);
    if (!b) return FC_ENOMEM;
    memcpy(b->data, s->in->data + s->in_at, unread);
    fc_buf_unref(s->in);
    s->in = b;
  }
  s->in->len = (uint32_t)unread;
  s->in_at = 0;
  return 0;
}

static void stop_reading(fc_stream *s) {
  s->flags |= PAUSED;
  watch(s);
}

static void ended(fc_stream *s) {
  s->flags |= ENDED;
  if (s->flags & DISCARDING) {
    fc_stream_abort(s, 0);
    return;
  }
  watch(s);
  if (is_alive(s)) s->ops->on_eof(s);
}

/* Reads and drops, up to a bound: somebody who goes on sending after an error is cut off, but not
 * before the reply is sent; until then reading only stops. */
static void discard(fc_stream *s) {
  char sink[FC_STREAM_READ_BYTES];
  ssize_t n = s->reactor->sys->recv(s->source.fd, sink, sizeof sink);
  if (n == -EAGAIN) return;
  if (n == 0) {
    ended(s);
    return;
  }
  if (n < 0) {
    fc_stream_abort(s, (int)n);
    return;
  }
  s->lingered_bytes += (size_t)n;
  if (s->lingered_bytes <= FC_STREAM_LINGER_BYTES) return;
  if (s->flags & DISCARDING) fc_stream_abort(s, 0);
  else stop_reading(s);
}

/* Of a read that returned n <= 0. */
static void nothing_read(fc_stream *s, ssize_t n) {
  if (n == 0) ended(s);
  else if (n != -EAGAIN) fc_stream_abort(s, (int)n);
}

/* Reads into the owner's memory. A short read has emptied the socket: another would only return
 * EAGAIN. */
static void read_own(fc_stream *s) {
  size_t budget = FC_STREAM_READ_BUDGET_BYTES;
  while (is_alive(s) && !(s->flags & (PAUSED | ENDED))) {
    size_t room = 0;
    char *to = s->ops->on_room(s, &room);
    if (!to) return;
    /* The owner may have closed the stream while it looked for room, and still wants its read. */
    ssize_t n = fc_stream_is_open(s) ? s->reactor->sys->recv(s->source.fd, to, room) : -EAGAIN;
    s->ops->on_read(s, n > 0 ? (size_t)n : 0);
    if (n <= 0) {
      if (is_alive(s)) nothing_read(s, n);
      return;
    }
    if ((size_t)n < room || (size_t)n >= budget) return;
    budget -= (size_t)n;
  }
}

static void read_ready(fc_stream *s) {
  if (s->flags & (LINGERING | CLOSING)) {
    if (s->flags & LINGERING) discard(s);
    else stop_reading(s);
    return;
  }
  if (s->ops->on_room) {
    read_own(s);
    return;
  }
  size_t budget = FC_STREAM_READ_BUDGET_BYTES;
  while (fc_stream_is_open(s) && !(s->flags & (PAUSED | FULL_IN | ENDED | CLOSING | LINGERING))) {
    if (make_room(s) < 0) {
      fc_stream_abort(s, FC_ENOMEM);
      return;
    }
    size_t room = fc_buf_room(s->in);
    ssize_t n = s->reactor->sys->recv(s->source.fd, s->in->data + s->in->len, room);
    if (n <= 0) {
      if (unread_bytes(s) == 0) drop_in(s);
      nothing_read(s, n);
      return;
    }
    s->in->len += (uint32_t)n;
    s->ops->on_data(s);
    if (is_alive(s)) fc_stream_trim(s);
    else if (fc_stream_is_open(s)) drop_in(s);
    /* A short read has emptied the socket: another would only return EAGAIN. */
    if ((size_t)n < room || (size_t)n >= budget) return;
    budget -= (size_t)n;
  }
}

void fc_stream_pause(fc_stream *s) {
  if (is_alive(s)) stop_reading(s);
}

void fc_stream_resume(fc_stream *s) {
  if (!is_alive(s)) return;
  s->flags &= (uint16_t)~PAUSED;
  watch(s);
}

/* ---- time ------------------------------------------------------------------------------------ */

/* The timer is armed for the earliest of what it serves; one that fires too soon is armed again. */
static void arm(fc_stream *s, uint64_t at_ns) {
  if (!fc_timer_armed(&s->timer) || s->timer.deadline_ns > at_ns)
    fc_timer_arm(&s->reactor->timers, &s->timer, at_ns);
}

void fc_stream_deadline(fc_stream *s, uint64_t at_ns) {
  s->deadline_ns = at_ns;
  if (at_ns != 0 && fc_stream_is_open(s)) arm(s, at_ns);
}

/* The stall's clock starts anew. */
static void start_stall(fc_stream *s) {
  s->stall_ns = s->reactor->now_ns + s->stall_timeout_ns;
  s->untaken = s->reactor->sys->untaken(s->source.fd);
}

/* Looks four times in a stall's length. The kernel asks for more only once a third of its buffer is
 * free, which can be a megabyte: a slow peer that takes less than that does take something. */
static void watch_stall(fc_stream *s) {
  uint64_t next = s->reactor->now_ns + s->stall_timeout_ns / 4;
  arm(s, next < s->stall_ns ? next : s->stall_ns);
}

/* Whether the peer has taken nothing for too long. */
static bool stalled(fc_stream *s) {
  if (s->reactor->sys->untaken(s->source.fd) < s->untaken) start_stall(s);
  return s->stall_ns <= s->reactor->now_ns;
}

static void stream_timer(fc_timer *t) {
  fc_stream *s = FC_CONTAINER(t, fc_stream, timer);
  uint64_t now = s->reactor->now_ns;
  if (s->flags & BLOCKED && s->stall_timeout_ns) {
    if (stalled(s)) {
      fc_stream_abort(s, FC_ETIMEOUT);
      return;
    }
    watch_stall(s);
  }
  if (s->deadline_ns == 0) return;
  if (s->deadline_ns > now) {
    arm(s, s->deadline_ns);
    return;
  }
  s->deadline_ns = 0;
  if (s->flags & LINGERING) fc_stream_abort(s, 0);
  else s->ops->on_deadline(s);
}

/* ---- out ------------------------------------------------------------------------------------- */

static void out_free(fc_stream *s, fc_out *o) {
  if (o->block) fc_buf_unref(o->block);
  else if (o->release) o->release(o->owner);
  fc_free(s->reactor->mem, o);
}

static fc_out *out_push(fc_stream *s) {
  fc_out *o = fc_alloc(s->reactor->mem, sizeof *o);
  if (!o) return NULL;
  *o = (fc_out){0};
  if (s->out_last) s->out_last->next = o;
  else s->out_first = o;
  s->out_last = o;
  return o;
}

char *fc_stream_reserve(fc_stream *s, size_t n) {
  if (!can_write(s)) return NULL;
  fc_out *o = s->out_last;
  if (o && o->block && fc_buf_room(o->block) >= n) return o->block->data + o->block->len;
  fc_buf *b = fc_buf_new(s->reactor->pool, n);
  if (!b) return NULL;
  o = out_push(s);
  if (!o) {
    fc_buf_unref(b);
    return NULL;
  }
  o->block = b;
  o->ptr = b->data;
  return b->data;
}

static void grew(fc_stream *s, size_t n) {
  s->out_bytes += n;
  if (s->out_bytes > s->high_water_bytes) s->flags |= OVER;
  if (!(s->flags & BLOCKED)) fc_reactor_flush_later(s->reactor, &s->flush);
}

void fc_stream_commit(fc_stream *s, size_t n) {
  fc_out *o = s->out_last;
  o->block->len += (uint32_t)n;
  o->len += n;
  grew(s, n);
}

int fc_stream_write(fc_stream *s, fc_slice bytes) {
  if (bytes.len == 0) return can_write(s) ? 0 : FC_ECLOSED;
  char *dst = fc_stream_reserve(s, bytes.len);
  if (!dst) return can_write(s) ? FC_ENOMEM : FC_ECLOSED;
  memcpy(dst, bytes.ptr, bytes.len);
  fc_stream_commit(s, bytes.len);
  return 0;
}

int fc_stream_write_borrowed(fc_stream *s, fc_slice bytes, void (*release)(void *), void *owner) {
  if (!can_write(s)) return FC_ECLOSED;
  fc_out *o = out_push(s);
  if (!o) return FC_ENOMEM;
  o->ptr = bytes.ptr;
  o->len = bytes.len;
  o->release = release;
  o->owner = owner;
  grew(s, bytes.len);
  return 0;
}

static void out_free_all(fc_stream *s, fc_out *o) {
  for (fc_out *next; o; o = next) {
    next = o->next;
    out_free(s, o);
  }
}

/* Takes `n` sent bytes off the queue. Owners are told last, as they may call the stream. */
static void sent(fc_stream *s, size_t n) {
  s->out_bytes -= n;
  s->sent_bytes += n;
  fc_out *first = s->out_first, *last = NULL;
  while (s->out_first && n >= s->out_first->len) {
    last = s->out_first;
    n -= last->len;
    s->out_first = last->next;
  }
  if (!s->out_first) s->out_last = NULL;
  if (n > 0) {
    s->out_first->ptr += n;
    s->out_first->len -= n;
  }
  if (!last) return;
  last->next = NULL;
  out_free_all(s, first);
}

/* The last byte has gone to the kernel: the peer now has its time to read it. */
static void start_discarding(fc_stream *s) {
  s->flags = (uint16_t)((s->flags | DISCARDING) & ~PAUSED);
  s->lingered_bytes = 0;
  int err = s->reactor->sys->shutdown_write(s->source.fd);
  if (err < 0 || (s->flags & ENDED)) {
    fc_stream_abort(s, 0);
    return;
  }
  fc_stream_deadline(s, s->reactor->now_ns + s->linger_ns);
  watch(s);
}

void fc_stream_finish(fc_stream *s) {
  if (!can_write(s)) return;
  s->flags |= FINISHED;
  if (!s->out_first) all_sent(s);
}

void fc_stream_set_limits(fc_stream *s, uint32_t high_water_bytes, uint32_t low_water_bytes) {
  s->high_water_bytes = high_water_bytes;
  s->low_water_bytes = low_water_bytes;
  if (s->out_bytes > high_water_bytes) s->flags |= OVER;
}

/* The queue is empty: what was waiting for that goes on. */
static void all_sent(fc_stream *s) {
  s->flags &= (uint16_t)~BLOCKED;
  if ((s->flags & FINISHED) && is_alive(s)) s->reactor->sys->shutdown_write(s->source.fd);
  if (s->flags & CLOSING) fc_stream_abort(s, 0);
  else if ((s->flags & LINGERING) && !(s->flags & DISCARDING)) start_discarding(s);
  else watch(s);
}

/* The kernel took less than there is. Called at every such attempt, so that any progress since the
 * last one starts the stall's clock anew. */
static void blocked(fc_stream *s, bool progress) {
  if (s->stall_timeout_ns && (progress || !(s->flags & BLOCKED))) {
    start_stall(s);
    watch_stall(s);
  }
  if (s->flags & BLOCKED) return;
  s->flags |= BLOCKED;
  watch(s);
}

void fc_stream_flush(fc_stream *s) {
  while (s->out_first && fc_stream_is_open(s)) {
    struct iovec iov[MAX_IOV];
    int count = 0;
    size_t total = 0;
    for (fc_out *o = s->out_first; o && count < MAX_IOV; o = o->next, count++) {
      iov[count] = (struct iovec){(void *)o->ptr, o->len};
      total += o->len;
    }
    ssize_t n = s->reactor->sys->sendv(s->source.fd, iov, count);
    if (n < 0 && n != -EAGAIN) {
      fc_stream_abort(s, (int)n);
      return;
    }
    if (n >= 0) sent(s, (size_t)n);
    if (!fc_stream_is_open(s)) return;
    if (n < 0 || (size_t)n < total) {
      blocked(s, n > 0);
      break;
    }
  }
  if (!fc_stream_is_open(s)) return;
  bool drained = (s->flags & OVER) && s->out_bytes <= s->low_water_bytes;
  if (drained) s->flags &= (uint16_t)~OVER;
  if (!s->out_first) all_sent(s);
  if (drained && is_alive(s)) s->ops->on_drain(s);
}

static void stream_flush_task(fc_task *t) {
  fc_stream *s = FC_CONTAINER(t, fc_stream, flush);
  if (fc_stream_is_open(s) && !(s->flags & BLOCKED)) fc_stream_flush(s);
}

/* ---- life ------------------------------------------------------------------------------------ */

/* The peer has shut down its side, or reset the connection, and there is nothing to read or reading
 * is stopped. A stopped stream leaves in the kernel what came before; else a read tells why. */
static void peer_gone(fc_stream *s, uint32_t events) {
  if ((s->flags & (PAUSED | FULL_IN)) && !(s->flags & GONE)) {
    s->flags |= GONE;
    watch(s);
    if (is_alive(s) && s->ops->on_gone) s->ops->on_gone(s);
  } else if (events & FC_ERROR) {
    char byte;
    ssize_t n = s->reactor->sys->recv(s->source.fd, &byte, 1);
    fc_stream_abort(s, n < 0 && n != -EAGAIN ? (int)n : FC_EEOF);
  }
}

static void stream_ready(fc_source *source, uint32_t events) {
  fc_stream *s = FC_CONTAINER(source, fc_stream, source);
  if (events & FC_WRITE) fc_stream_flush(s);
  if (!fc_stream_is_open(s)) return;
  if (events & FC_READ) read_ready(s);
  else if (events & (FC_PEER_GONE | FC_ERROR)) peer_gone(s, events);
}

void fc_stream_close(fc_stream *s) {
  if (!is_alive(s)) return;
  s->flags |= CLOSING;
  if (!s->out_first) fc_stream_abort(s, 0);
}

void fc_stream_linger(fc_stream *s, uint64_t for_ns) {
  if (!is_alive(s)) return;
  s->flags |= LINGERING;
  s->flags &= (uint16_t)~(PAUSED | FULL_IN);
  s->linger_ns = for_ns;
  s->deadline_ns = 0;
  if (s->out_first) watch(s);
  else start_discarding(s);
}

void fc_stream_abort(fc_stream *s, int why) {
  if (!fc_stream_is_open(s)) return;
  fc_reactor *r = s->reactor;
  fc_source_set(r, &s->source, 0);
  if (!(s->flags & KEEP_FD)) r->sys->close(s->source.fd);
  s->source.fd = -1;
  fc_timer_cancel(&r->timers, &s->timer);
  fc_list_unlink(&s->flush.link);
  fc_out *dropped = s->out_first;
  s->out_first = s->out_last = NULL;
  s->out_bytes = 0;
  out_free_all(s, dropped);
  s->ops->on_closed(s, why);
  fc_reactor_bury(r, &s->grave);
}

static void stream_grave(fc_task *t) {
  fc_stream *s = FC_CONTAINER(t, fc_stream, grave);
  drop_in(s);
  s->ops->on_free(s);
}
