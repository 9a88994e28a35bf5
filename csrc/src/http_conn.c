#include "fc/http_conn.h"

#include <stdio.h>

#include "fc/err.h"

enum { IDLE, HEAD, BODY, BUSY, OVER };

/* Recycled requests a server keeps; each is about 1.8 KiB with room for 100 fields. */
#define MAX_FREE_REQS 256

/* A body up to this size is copied behind its head: cheaper than a second span and a release. */
#define COPY_BODY_BYTES 4096

/* What a body's first block holds when all of it does not fit where the head lies. A length that is
 * merely announced buys no more memory than this. */
#define FIRST_BODY_BYTES 65536

/* 205: never a body, but a length of 0 to say so (RFC 9110, 15.3.6). */
#define RESET_CONTENT 205

static void process(fc_http_conn *c);

fc_http_config fc_http_config_default(void) {
  return (fc_http_config){
      .limits = fc_http1_limits_default(),
      .max_pipelined = FC_HTTP_MAX_PIPELINED,
      .head_timeout_ns = FC_HTTP_HEAD_TIMEOUT_NS,
      .body_timeout_ns = FC_HTTP_BODY_TIMEOUT_NS,
      .min_body_bytes_per_s = FC_HTTP_MIN_BODY_BYTES_PER_S,
      .idle_timeout_ns = FC_HTTP_IDLE_TIMEOUT_NS,
      .handler_timeout_ns = 0,
      .send_timeout_ns = FC_HTTP_SEND_TIMEOUT_NS,
      .linger_ns = FC_HTTP_LINGER_NS,
  };
}

/* ---- requests -------------------------------------------------------------------------------- */

static void server_release(fc_http_server *s) {
  if (!s->closed || s->conn_count || s->req_count) return;
  fc_free(s->mem, s);
}

static fc_http_req *req_new(fc_http_server *s) {
  fc_http_req *q = s->free_reqs;
  if (q) {
    s->free_reqs = q->next_free;
    s->free_req_count--;
  } else {
    q = fc_alloc(s->mem, sizeof *q + sizeof q->fields[0] * s->config.limits.max_headers);
    if (!q) return NULL;
  }
  memset(q, 0, sizeof *q);
  q->server = s;
  q->shares = 1;
  s->req_count++;
  return q;
}

void fc_http_req_release(fc_http_req *q) {
  if (--q->shares) return;
  fc_http_server *s = q->server;
  if (q->block) fc_buf_unref(q->block);
  if (q->body_block) fc_buf_unref(q->body_block);
  s->req_count--;
  if (!s->closed && s->free_req_count < MAX_FREE_REQS) {
    q->next_free = s->free_reqs;
    s->free_reqs = q;
    s->free_req_count++;
    return;
  }
  fc_free(s->mem, q);
  server_release(s);
}

/* The connection lets go of its request. */
static void drop_req(fc_http_conn *c) {
  fc_http_req *q = c->req;
  if (!q) return;
  c->req = NULL;
  q->conn = NULL;
  fc_http_req_release(q);
}

/* ---- deadlines ------------------------------------------------------------------------------- */

static void deadline(fc_http_conn *c, uint64_t from_now_ns) {
  fc_stream_deadline(&c->stream, from_now_ns ? c->server->reactor->now_ns + from_now_ns : 0);
}

/* A body may take its time as long as bytes come at the least rate. What counts is what has come,
 * collected or lying in place, not what a chunk's size announces. */
static void body_deadline(fc_http_conn *c) {
  const fc_http_config *cfg = &c->server->config;
  uint64_t received = c->req->body.len + fc_stream_unread(&c->stream).len;
  uint64_t earned = 0;
  if (cfg->min_body_bytes_per_s) earned = received * FC_NS_PER_S / cfg->min_body_bytes_per_s;
  fc_stream_deadline(&c->stream, c->req->started_ns + cfg->body_timeout_ns + earned);
}

/* ---- replies --------------------------------------------------------------------------------- */

/* The Date and Server lines, written once a second (RFC 9110, 6.6.1). */
static fc_slice common_fields(fc_http_server *s) {
  uint64_t now = s->reactor->now_ns;
  if (now >= s->common_until_ns) {
    static const char before[] = "Date: ", after[] = "\r\nServer: flowcore\r\n";
    char *p = s->common;
    memcpy(p, before, sizeof before - 1);
    p += sizeof before - 1;
    fc_http1_write_date(p, s->reactor->clock->unix_s(s->reactor->clock->ctx));
    p += FC_HTTP1_DATE_BYTES;
    memcpy(p, after, sizeof after - 1);
    p += sizeof after - 1;
    s->common_len = (uint32_t)(p - s->common);
    /* A second is cut into ten, so that the line is never more than that behind. */
    s->common_until_ns = now + FC_NS_PER_S / 10;
  }
  return (fc_slice){s->common, s->common_len};
}

/* Closes after a last reply. Unread input would turn the reply into a reset: then linger. From here
 * on only the client's standing still ends the sending early. */
static void close_after_reply(fc_http_conn *c, bool linger) {
  c->phase = OVER;
  fc_stream_deadline(&c->stream, 0);
  if (linger || fc_stream_unread(&c->stream).len)
    fc_stream_linger(&c->stream, c->server->config.linger_ns);
  else
    fc_stream_close(&c->stream);
}

/* The reply is queued in full: the connection goes on to the next request, or ends. */
static void finish(fc_http_req *q) {
  fc_http_conn *c = q->conn;
  fc_http_server *s = c->server;
  /* A reply in pieces may have begun before the server was told to drain. */
  bool keep_alive = q->keep_alive && !s->draining;
  s->served++;
  drop_req(c);
  if (!keep_alive) {
    close_after_reply(c, false);
    return;
  }
  c->phase = IDLE;
  deadline(c, s->config.idle_timeout_ns);
  /* Not at once: the reply may come out of the midst of a task, where no other may be entered. */
  if (!c->processing && (c->ended || fc_stream_unread(&c->stream).len))
    fc_reactor_soon(s->reactor, &c->again);
}

/* What every head gets: the connection's fate, Date and Server. */
static void complete_head(fc_http_req *q, fc_http1_response *r) {
  if (q->server->draining) q->keep_alive = false;
  r->common = common_fields(q->server);
  if (!q->keep_alive) r->connection = FC_HTTP1_CONN_CLOSE;
  else r->connection = q->minor == 0 ? FC_HTTP1_CONN_KEEP_ALIVE : FC_HTTP1_CONN_DEFAULT;
  q->started = true;
  q->status = (uint16_t)r->status;
}

/* Whether no body follows the head that was written. */
static bool no_body(const fc_http_req *q) {
  return q->method == FC_HTTP1_HEAD || q->status == RESET_CONTENT || fc_http1_bodiless(q->status);
}

static int reply_state(const fc_http_req *q, bool started) {
  if (!q->conn || !fc_stream_is_open(&q->conn->stream)) return FC_ECLOSED;
  if (q->conn->phase != BUSY || q->started != started) return FC_ESTATE;
  return 0;
}

/* Queues head and body; `*borrowed` tells whether the body's owner is still needed. */
static int queue_reply(fc_http_req *q, const fc_http1_response *r, fc_slice body,
                       void (*release)(void *), void *owner, bool *borrowed) {
  fc_stream *st = &q->conn->stream;
  bool copy = body.len <= COPY_BODY_BYTES || !release;
  size_t bound = fc_http1_head_bound(r);
  char *dst = fc_stream_reserve(st, bound + (copy ? body.len : 0));
  if (!dst) return FC_ENOMEM;
  size_t n = fc_http1_write_head(dst, r);
  if (copy && body.len) {
    memcpy(dst + n, body.ptr, body.len);
    n += body.len;
  }
  fc_stream_commit(st, n);
  if (copy || body.len == 0) return 0;
  int err = fc_stream_write_borrowed(st, body, release, owner);
  *borrowed = err == 0;
  return err;
}

int fc_http_reply(fc_http_req *q, fc_http1_response *r, fc_slice body, void (*release)(void *),
                  void *owner) {
  bool borrowed = false;
  int err = reply_state(q, false);
  if (err == 0) {
    complete_head(q, r);
    r->content_length = (int64_t)body.len;
    if (fc_http1_bodiless(r->status)) {
      r->content_length = FC_HTTP1_LENGTH_NONE;
      body.len = 0;
    }
    if (r->status == RESET_CONTENT) r->content_length = 0;
    if (no_body(q)) body.len = 0;
    q->reply_bytes = body.len;
    err = queue_reply(q, r, body, release, owner, &borrowed);
    if (err < 0) fc_stream_abort(&q->conn->stream, err);
    else finish(q);
  }
  if (!borrowed && release) release(owner);
  return err;
}

int fc_http_begin(fc_http_req *q, fc_http1_response *r) {
  int err = reply_state(q, false);
  if (err < 0) return err;
  q->reply_length = r->content_length < 0 ? -1 : r->content_length;
  if (r->status == RESET_CONTENT) {
    r->content_length = 0;
  } else if (r->content_length < 0) {
    bool bodiless = fc_http1_bodiless(r->status);
    q->chunked = !bodiless && q->minor > 0;
    if (!bodiless && q->minor == 0) q->keep_alive = false;
    r->content_length = q->chunked ? FC_HTTP1_LENGTH_CHUNKED : FC_HTTP1_LENGTH_NONE;
  }
  complete_head(q, r);
  /* The handler was in time; from here on the client's pace is what is watched. */
  fc_stream_deadline(&q->conn->stream, 0);
  char *dst = fc_stream_reserve(&q->conn->stream, fc_http1_head_bound(r));
  if (!dst) {
    fc_stream_abort(&q->conn->stream, FC_ENOMEM);
    return FC_ENOMEM;
  }
  fc_stream_commit(&q->conn->stream, fc_http1_write_head(dst, r));
  return 0;
}

int fc_http_send(fc_http_req *q, fc_slice bytes) {
  int err = reply_state(q, true);
  if (err < 0) return err;
  fc_stream *st = &q->conn->stream;
  if (bytes.len && !no_body(q)) {
    if (q->reply_length >= 0 && bytes.len > (uint64_t)q->reply_length - q->reply_bytes)
      return FC_EINVALID;
    char *dst = fc_stream_reserve(st, bytes.len + FC_HTTP1_CHUNK_HEAD_MAX + 2);
    if (!dst) {
      fc_stream_abort(st, FC_ENOMEM);
      return FC_ENOMEM;
    }
    size_t n = q->chunked ? fc_http1_write_chunk_head(dst, bytes.len) : 0;
    memcpy(dst + n, bytes.ptr, bytes.len);
    n += bytes.len;
    if (q->chunked) {
      memcpy(dst + n, "\r\n", 2);
      n += 2;
    }
    q->reply_bytes += bytes.len;
    fc_stream_commit(st, n);
  }
  return fc_stream_is_full(st) ? FC_HTTP_FULL : 0;
}

int fc_http_end(fc_http_req *q) {
  int err = reply_state(q, true);
  if (err < 0) return err;
  if (q->reply_length >= 0 && q->reply_bytes < (uint64_t)q->reply_length && !no_body(q)) {
    fc_stream_abort(&q->conn->stream, FC_EINVALID);
    return FC_EINVALID;
  }
  if (q->chunked && !no_body(q)) {
    err = fc_stream_write(&q->conn->stream, FC_SLICE("0\r\n\r\n"));
    if (err < 0) {
      fc_stream_abort(&q->conn->stream, err);
      return err;
    }
  }
  finish(q);
  return 0;
}

void fc_http_abort(fc_http_req *q) {
  if (q->conn) fc_stream_abort(&q->conn->stream, FC_ECLOSED);
}

/* Answers for the layer above, which never sees the request, and ends the connection. */
static void refuse(fc_http_conn *c, int status, int error) {
  fc_http_server *s = c->server;
  s->refused++;
  if (s->up->on_refused) s->up->on_refused(c, status, error);
  char text[192];
  fc_slice reason = fc_http1_reason(status);
  int len = snprintf(text, sizeof text, "%d %.*s: %s\n", status, (int)reason.len, reason.ptr,
                     fc_strerror(error));
  fc_slice body = {text, (size_t)len};
  fc_http1_response r = {.status = status,
                         .connection = FC_HTTP1_CONN_CLOSE,
                         .content_length = len,
                         .content_type = FC_SLICE("text/plain; charset=utf-8"),
                         .common = common_fields(s)};
  char *dst = fc_stream_reserve(&c->stream, fc_http1_head_bound(&r) + body.len);
  if (!dst) {
    fc_stream_abort(&c->stream, FC_ENOMEM);
    return;
  }
  size_t n = fc_http1_write_head(dst, &r);
  memcpy(dst + n, body.ptr, body.len);
  fc_stream_commit(&c->stream, n + body.len);
  drop_req(c);
  close_after_reply(c, true);
}

/* ---- reading --------------------------------------------------------------------------------- */

static bool start_head(fc_http_conn *c) {
  c->req = req_new(c->server);
  if (!c->req) {
    fc_stream_abort(&c->stream, FC_ENOMEM);
    return false;
  }
  c->req->conn = c;
  c->req->started_ns = c->server->reactor->now_ns;
  c->parser.fields = c->req->fields;
  fc_http1_reset(&c->parser);
  c->phase = HEAD;
  return true;
}

/* The head's facts move to the request, which holds on to the block they lie in. */
static void take_head(fc_http_conn *c, fc_slice unread) {
  fc_http_req *q = c->req;
  const fc_http1_parser *p = &c->parser;
  q->block = fc_buf_ref(c->stream.in);
  q->head = unread.ptr;
  q->method = p->method;
  q->minor = p->minor;
  q->keep_alive = p->keep_alive;
  q->upgrade = p->upgrade;
  q->expect_continue = p->expect_continue;
  q->method_off = p->method_off;
  q->method_len = p->method_len;
  q->target_off = p->target_off;
  q->target_len = p->target_len;
  q->field_count = p->field_count;
  q->peer = c->peer;
}

/* True when the head is complete and the phase has moved on. */
static bool read_head(fc_http_conn *c) {
  fc_slice unread = fc_stream_unread(&c->stream);
  int64_t n = fc_http1_head(&c->parser, unread.ptr, unread.len);
  if (n < 0) {
    refuse(c, c->parser.status, (int)n);
    return false;
  }
  if (n == 0) {
    fc_stream_deadline(&c->stream, c->req->started_ns + c->server->config.head_timeout_ns);
    return false;
  }
  take_head(c, unread);
  fc_stream_consume(&c->stream, (size_t)n);
  c->phase = BODY;
  if (c->parser.framing == FC_HTTP1_NO_BODY) return true;
  c->req->started_ns = c->server->reactor->now_ns;
  if (!c->parser.expect_continue || fc_stream_unread(&c->stream).len > 0) return true;
  int err = fc_stream_write(&c->stream, FC_SLICE("HTTP/1.1 100 Continue\r\n\r\n"));
  if (err < 0) fc_stream_abort(&c->stream, err);
  return err == 0;
}

/* The most bytes that the body being read can come to. */
static size_t most_body(const fc_http_conn *c) {
  uint64_t most = c->parser.framing == FC_HTTP1_LENGTH ? c->parser.content_length
                                                       : c->server->config.limits.max_body_bytes;
  return most < SIZE_MAX ? (size_t)most : SIZE_MAX;
}

/* Appends to the request's own body block, growing it by half or more, not past what can come. */
static int append_body(fc_http_req *q, fc_slice piece) {
  fc_buf *b = q->body_block;
  if (!b || fc_buf_room(b) < piece.len) {
    size_t have = b ? b->len : 0;
    size_t want = have + piece.len > have * 3 / 2 ? have + piece.len : have * 3 / 2;
    if (want < FIRST_BODY_BYTES) want = FIRST_BODY_BYTES;
    size_t most = most_body(q->conn);
    if (want > most && most >= have + piece.len) want = most;
    fc_buf *grown = fc_buf_new(q->server->reactor->pool, want);
    if (!grown) return FC_ENOMEM;
    if (b) {
      memcpy(grown->data, b->data, have);
      grown->len = (uint32_t)have;
      fc_buf_unref(b);
    }
    q->body_block = b = grown;
  }
  memcpy(b->data + b->len, piece.ptr, piece.len);
  b->len += (uint32_t)piece.len;
  q->body = (fc_slice){b->data, b->len};
  return 0;
}

/* A body that lies whole in the in-block is lent from there. One that is still to come is waited
 * for in place while it fits behind what has been received, and the stream would read it all.
 * 1: complete. 0: more. -1: to be collected, now or since an earlier call. */
static int body_in_place(fc_http_conn *c) {
  uint64_t length = c->parser.content_length;
  if (c->parser.framing != FC_HTTP1_LENGTH || c->req->body_block) return -1;
  if (length > FC_STREAM_MAX_IN_BYTES) return -1;
  fc_slice unread = fc_stream_unread(&c->stream);
  if (unread.len < length) {
    bool fits = c->stream.in && c->stream.in == c->req->block &&
                c->stream.in_at + length <= c->stream.in->cap;
    return fits ? 0 : -1;
  }
  if (c->stream.in != c->req->block) c->req->body_block = fc_buf_ref(c->stream.in);
  c->req->body = (fc_slice){unread.ptr, (size_t)length};
  fc_stream_consume(&c->stream, (size_t)length);
  return 1;
}

/* Reads what has come of the body into the request's block. 1: complete. 0: more. <0: error. */
static int collect_body(fc_http_conn *c) {
  for (;;) {
    fc_slice unread = fc_stream_unread(&c->stream), piece;
    size_t used;
    int what = fc_http1_body(&c->parser, unread.ptr, unread.len, &used, &piece);
    fc_stream_consume(&c->stream, used);
    if (what < 0) return what;
    if (what == FC_HTTP1_DONE) return 1;
    if (what == FC_HTTP1_MORE) return 0;
    int err = append_body(c->req, piece);
    if (err < 0) return err;
  }
}

/* True when the body is complete. */
static bool read_body(fc_http_conn *c) {
  if (c->parser.framing == FC_HTTP1_NO_BODY) return true;
  int done = body_in_place(c);
  if (done < 0) done = collect_body(c);
  if (done > 0) return true;
  if (done == FC_ENOMEM) fc_stream_abort(&c->stream, done);
  else if (done < 0) refuse(c, c->parser.status, done);
  else body_deadline(c);
  return false;
}

static void deliver(fc_http_conn *c) {
  c->phase = BUSY;
  deadline(c, c->server->config.handler_timeout_ns);
  c->req->shares++;
  c->server->up->on_request(c->server, c->req);
}

/* No complete request is left, and none will come. What has been replied is still sent. */
static bool used_up(const fc_http_conn *c) {
  return c->ended && c->phase < BUSY && fc_list_empty(&c->again.link) &&
         fc_stream_is_open(&c->stream) && !fc_stream_is_full(&c->stream);
}

/* Serves what has been received, until it is used up, a reply is awaited, or it is others' turn. */
static void process(fc_http_conn *c) {
  if (!fc_list_empty(&c->again.link)) return;
  c->processing = true;
  uint32_t turn = 0;
  while (fc_stream_is_open(&c->stream) && c->phase < BUSY && !fc_stream_is_full(&c->stream)) {
    if (c->phase == IDLE) {
      if (fc_stream_unread(&c->stream).len == 0) break;
      if (turn++ == c->server->config.max_pipelined) {
        fc_reactor_soon(c->server->reactor, &c->again);
        break;
      }
      if (!start_head(c)) break;
    }
    if (c->phase == HEAD && !read_head(c)) break;
    if (!read_body(c)) break;
    deliver(c);
  }
  c->processing = false;
  if (used_up(c)) fc_stream_close(&c->stream);
}

static void conn_again(fc_task *t) {
  fc_http_conn *c = FC_CONTAINER(t, fc_http_conn, again);
  if (c->phase < BUSY) process(c);
  fc_stream_trim(&c->stream);
}

/* ---- the stream's callbacks ------------------------------------------------------------------ */

static fc_http_conn *of(fc_stream *st) {
  return FC_CONTAINER(st, fc_http_conn, stream);
}

static void conn_data(fc_stream *st) {
  fc_http_conn *c = of(st);
  if (c->phase < BUSY && !c->processing) process(c);
}

/* The reply that is awaited will reach nobody. */
static void lose(fc_http_conn *c) {
  fc_http_req *q = c->req;
  c->phase = OVER;
  q->conn = NULL;
  c->server->up->on_gone(q);
  drop_req(c);
}

/* Between requests this is how connections end; those that wait for their turn are still answered.
 * In a request the client is taken to be gone, as a plain close and a half-close look alike; what
 * has been replied is still sent. */
static void conn_eof(fc_stream *st) {
  fc_http_conn *c = of(st);
  c->ended = true;
  if (c->phase < BUSY) {
    process(c);
  } else if (c->phase == BUSY) {
    lose(c);
    close_after_reply(c, false);
  }
}

/* Of what waits unread while a reply is awaited nothing will be answered either. */
static void conn_gone(fc_stream *st) {
  fc_http_conn *c = of(st);
  if (c->phase == BUSY) conn_eof(st);
}

static void conn_drain(fc_stream *st) {
  fc_http_conn *c = of(st);
  if (c->phase == BUSY) {
    if (c->req->started) c->server->up->on_writable(c->req);
  } else if (!c->processing) {
    process(c);
    fc_stream_trim(st);
  }
}

/* A client that is still reading replies is not idle, and one whose input is left alone until it
 * has read them is not late: whether it reads is the stall timeout's affair. */
static void conn_deadline(fc_stream *st) {
  fc_http_conn *c = of(st);
  switch (c->phase) {
    case IDLE:
      if (st->out_bytes) deadline(c, c->server->config.idle_timeout_ns);
      else fc_stream_close(st);
      break;
    case HEAD:
    case BODY:
      if (fc_stream_is_full(st)) deadline(c, c->server->config.head_timeout_ns);
      else refuse(c, 408, FC_ETIMEOUT);
      break;
    case BUSY:
      c->server->up->on_timeout(c->req);
  }
}

static void conn_closed(fc_stream *st, int why) {
  fc_http_conn *c = of(st);
  (void)why;
  fc_list_unlink(&c->link);
  fc_list_unlink(&c->again.link);
  if (c->phase == BUSY) lose(c);
  else drop_req(c);
  c->phase = OVER;
}

static void conn_free(fc_stream *st) {
  fc_http_conn *c = of(st);
  fc_http_server *s = c->server;
  fc_free(s->mem, c);
  s->conn_count--;
  if (s->closed) server_release(s);
  else if (s->up->on_disconnect) s->up->on_disconnect(s); /* which may close the server */
}

static const fc_stream_ops stream_ops = {
    conn_data, conn_eof, conn_drain, conn_deadline, conn_closed, conn_free, conn_gone, NULL, NULL,
};

/* ---- the server ------------------------------------------------------------------------------ */

fc_http_server *fc_http_server_new(fc_reactor *r, const fc_http_config *config,
                                   const fc_http_upcalls *up, void *user) {
  fc_http_server *s = fc_zalloc(r->mem, sizeof *s);
  if (!s) return NULL;
  s->reactor = r;
  s->mem = r->mem;
  s->up = up;
  s->user = user;
  s->config = *config;
  if (s->config.max_pipelined == 0) s->config.max_pipelined = 1;
  fc_list_init(&s->conns);
  return s;
}

int fc_http_server_accept(fc_http_server *s, int fd, const struct sockaddr *peer,
                          socklen_t peer_len) {
  fc_http_conn *c = fc_zalloc(s->mem, sizeof *c);
  if (!c) {
    s->reactor->sys->close(fd);
    return FC_ENOMEM;
  }
  c->server = s;
  fc_task_init(&c->again, conn_again);
  if (peer && peer_len <= sizeof c->peer) memcpy(&c->peer, peer, peer_len);
  fc_http1_init(&c->parser, &s->config.limits, NULL);
  int err = fc_stream_open(&c->stream, s->reactor, fd, &stream_ops);
  if (err < 0) {
    s->reactor->sys->close(fd);
    fc_free(s->mem, c);
    return err;
  }
  c->stream.stall_timeout_ns = s->config.send_timeout_ns;
  /* A head must come in whole before its limits can refuse it. */
  uint64_t head = (uint64_t)s->config.limits.max_request_line_bytes +
                  s->config.limits.max_header_bytes + FC_STREAM_READ_BYTES;
  if (head > c->stream.max_in_bytes)
    c->stream.max_in_bytes = head < UINT32_MAX / 4 ? (uint32_t)head : UINT32_MAX / 4;
  fc_list_push(&s->conns, &c->link);
  s->conn_count++;
  deadline(c, s->config.idle_timeout_ns);
  return 0;
}

void fc_http_server_drain(fc_http_server *s) {
  s->draining = true;
  for (fc_list *node = s->conns.next, *next; node != &s->conns; node = next) {
    next = node->next;
    fc_http_conn *c = FC_CONTAINER(node, fc_http_conn, link);
    if (c->phase == IDLE && fc_stream_unread(&c->stream).len == 0) fc_stream_close(&c->stream);
  }
}

void fc_http_server_close(fc_http_server *s) {
  while (!fc_list_empty(&s->conns)) {
    fc_http_conn *c = FC_CONTAINER(s->conns.next, fc_http_conn, link);
    fc_stream_abort(&c->stream, FC_ECLOSED);
  }
  while (s->free_reqs) {
    fc_http_req *q = s->free_reqs;
    s->free_reqs = q->next_free;
    fc_free(s->mem, q);
  }
  s->free_req_count = 0;
  s->closed = true;
  server_release(s);
}
