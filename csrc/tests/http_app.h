/* http_app.h - a small application on fc_http_server, and a client that reads its replies.
 *
 * What a request gets depends on its target:
 *
 *     /now     "hello", at once            /hold    nothing, until the test replies
 *     /echo    its own body, borrowed      /pieces  a chunked reply of two pieces, at once
 *     /204 /304 /200 ...                   that status with "hello" as its body
 *     /big     FC_BIG_BYTES, borrowed      /begin   a chunked reply's head, the rest by the test */
#ifndef FC_HTTP_APP_H
#define FC_HTTP_APP_H

#include <ctype.h>

#include "failmem.h"
#include "fakeclock.h"
#include "fakesys.h"
#include "fc/err.h"
#include "fc/http_conn.h"
#include "turn.h"

#define FC_BIG_BYTES (1 << 20)
#define TICK_NS 1024

typedef struct app {
  fakeclock clock;
  failmem mem;
  fc_http_config config;
  fc_reactor *reactor;
  fc_http_server *server;
  fc_http_req *held[64];
  int held_len;
  int requests, gones, timeouts, writables, refusals, disconnects;
  int status, error; /* of the last refusal */
  int lent, released;
  long closes_wanted; /* connections that were handed to the server */
  void (*on_request)(fc_http_req *q); /* instead of the table above */
  char big[FC_BIG_BYTES];
} app;

static app the;

/* ---- the application ------------------------------------------------------------------------- */

static void app_unhold(fc_http_req *q) {
  for (int i = 0; i < the.held_len; i++)
    if (the.held[i] == q) the.held[i] = the.held[--the.held_len];
}

static void app_released(void *owner) {
  (void)owner;
  the.released++;
}

static void app_release_req(void *owner) {
  the.released++;
  fc_http_req_release(owner);
}

static fc_http1_response app_response(int status) {
  return (fc_http1_response){.status = status, .content_type = FC_SLICE("text/plain")};
}

static int app_reply(fc_http_req *q, int status, fc_slice body) {
  fc_http1_response r = app_response(status);
  return fc_http_reply(q, &r, body, NULL, NULL);
}

static int app_begin(fc_http_req *q, int64_t length) {
  fc_http1_response r = app_response(200);
  r.content_length = length;
  return fc_http_begin(q, &r);
}

static bool app_is(const fc_http_req *q, const char *target) {
  return fc_slice_eq(fc_http_req_target(q), fc_slice_of(target, strlen(target)));
}

/* A reply whose failure to be sent is fine: then on_gone has come as well. */
static void app_ok(int err) {
  CHECK(err >= 0 || err == FC_ENOMEM || err == FC_ECLOSED);
}

static void app_pieces(fc_http_req *q) {
  if (app_begin(q, -1) < 0) return;
  if (fc_http_send(q, FC_SLICE("one")) < 0 || fc_http_send(q, FC_SLICE("")) < 0) return;
  if (fc_http_send(q, FC_SLICE("two!")) < 0) return;
  app_ok(fc_http_end(q));
}

static void app_on_request(fc_http_server *s, fc_http_req *q) {
  CHECK(s == the.server && q->server == s && q->conn != NULL);
  the.requests++;
  if (the.on_request) {
    the.on_request(q);
    return;
  }
  fc_http1_response r = app_response(200);
  if (app_is(q, "/hold") || app_is(q, "/begin")) {
    the.held[the.held_len++] = q;
    if (app_is(q, "/begin")) app_ok(app_begin(q, -1));
    return;
  }
  if (app_is(q, "/echo")) {
    the.lent++;
    app_ok(fc_http_reply(q, &r, q->body, app_release_req, q));
    return;
  }
  if (app_is(q, "/big")) {
    the.lent++;
    app_ok(fc_http_reply(q, &r, fc_slice_of(the.big, sizeof the.big), app_released, NULL));
  } else if (app_is(q, "/pieces")) {
    app_pieces(q);
  } else if (app_is(q, "/now")) {
    app_ok(app_reply(q, 200, FC_SLICE("hello")));
  } else {
    app_ok(app_reply(q, atoi(fc_http_req_target(q).ptr + 1), FC_SLICE("hello")));
  }
  fc_http_req_release(q);
}

static void app_on_gone(fc_http_req *q) {
  CHECK(q->conn == NULL);
  CHECK_INT(app_reply(q, 200, FC_SLICE("too late")), FC_ECLOSED);
  the.gones++;
}

static void app_on_timeout(fc_http_req *q) {
  (void)q;
  the.timeouts++;
}

static void app_on_writable(fc_http_req *q) {
  CHECK(q->started);
  the.writables++;
}

static void app_on_refused(fc_http_conn *c, int status, int error) {
  CHECK(c->server == the.server);
  the.refusals++;
  the.status = status;
  the.error = error;
}

static void app_on_disconnect(fc_http_server *s) {
  CHECK(s == the.server);
  the.disconnects++;
}

static const fc_http_upcalls app_upcalls = {
    app_on_request, app_on_gone, app_on_timeout, app_on_writable, app_on_refused, app_on_disconnect,
};

/* The application without a server, so that a test may change the.config and then app_serve(). */
static void app_init(void) {
  memset(&the, 0, offsetof(app, big));
  if (!the.big[1])
    for (size_t i = 0; i < sizeof the.big; i++) the.big[i] = (char)(i * 31 + i / 251);
  fakesys_reset();
  fakeclock_init(&the.clock);
  failmem_init(&the.mem, -1);
  the.config = fc_http_config_default();
  fc_reactor_config config = {&the.mem.mem, &the.clock.clock, &fakesys_table};
  CHECK_INT(fc_reactor_open(&the.reactor, &config), 0);
}

static void app_serve(void) {
  the.server = fc_http_server_new(the.reactor, &the.config, &app_upcalls, &the);
  CHECK(the.server != NULL);
}

static inline void app_open(void) {
  app_init();
  app_serve();
}

/* The reply to the request held first, whose share is then given back. */
static inline int app_answer(int status, fc_slice body) {
  fc_http_req *q = the.held[0];
  int err = app_reply(q, status, body);
  app_unhold(q);
  fc_http_req_release(q);
  return err;
}

/* Everything is closed, and then nothing is left: no memory, no timer, no borrowed body. */
static void app_close(void) {
  fc_http_server_close(the.server);
  while (the.held_len) {
    fc_http_req *q = the.held[0];
    app_unhold(q);
    fc_http_req_release(q);
  }
  turns(the.reactor, 2);
  CHECK_INT(the.reactor->timers.count, 0);
  CHECK_INT(the.released, the.lent);
  CHECK_INT(fake.closes, the.closes_wanted);
  fc_reactor_close(the.reactor);
  CHECK_INT(the.mem.live, 0);
}

static inline void app_turn_clock(uint64_t ns) {
  fakeclock_turn(&the.clock, ns + TICK_NS);
  turns(the.reactor, 2);
}

/* ---- the client ------------------------------------------------------------------------------ */

typedef struct client {
  int fd;
  bool eof, reset;
  size_t at, len; /* what has come and is not read yet */
  char in[4 << 20];
} client;

typedef struct reply {
  int status;
  bool chunked, close, keep_alive;
  long length; /* the Content-Length, or -1 */
  fc_slice head, body;
} reply;

static void client_pair(client *c, const int fd[2], const struct sockaddr_in *peer) {
  c->fd = fd[1];
  c->eof = c->reset = false;
  c->at = c->len = 0;
  the.closes_wanted++;
  const struct sockaddr *any = (const struct sockaddr *)peer;
  app_ok(fc_http_server_accept(the.server, fd[0], any, peer ? sizeof *peer : 0));
}

static inline void client_open(client *c) {
  int fd[2];
  unix_pair(fd);
  client_pair(c, fd, NULL);
}

static inline void client_open_tcp(client *c) {
  int fd[2];
  struct sockaddr_in peer;
  socklen_t len = sizeof peer;
  tcp_pair(fd);
  CHECK_INT(getpeername(fd[0], (struct sockaddr *)&peer, &len), 0);
  client_pair(c, fd, &peer);
}

static inline void client_close(client *c) {
  close(c->fd);
}

static void client_send(client *c, fc_slice bytes) {
  CHECK_INT(send(c->fd, bytes.ptr, bytes.len, MSG_NOSIGNAL), bytes.len);
}

static inline void client_says(client *c, const char *text) {
  client_send(c, fc_slice_of(text, strlen(text)));
}

static void client_read(client *c) {
  for (;;) {
    CHECK(c->len < sizeof c->in);
    ssize_t n = recv(c->fd, c->in + c->len, sizeof c->in - c->len, MSG_DONTWAIT);
    if (n == 0) c->eof = true;
    if (n < 0 && errno == ECONNRESET) c->reset = true;
    if (n <= 0) return;
    c->len += (size_t)n;
  }
}

/* Sends all of it, reading what comes meanwhile. */
static inline void client_pushes(client *c, fc_slice bytes) {
  for (size_t at = 0; at < bytes.len;) {
    ssize_t n = send(c->fd, bytes.ptr + at, bytes.len - at, MSG_NOSIGNAL);
    CHECK(n >= 0 || errno == EAGAIN);
    if (n > 0) at += (size_t)n;
    turn(the.reactor);
    client_read(c);
  }
}

static const char *client_field(fc_slice head, const char *name) {
  size_t len = strlen(name);
  for (size_t i = 0; i + len + 4 < head.len; i++)
    if (strncasecmp(head.ptr + i, name, len) == 0 && memcmp(head.ptr + i - 2, "\r\n", 2) == 0)
      return head.ptr + i + len;
  return NULL;
}

/* Joins the chunks where they lie. False: incomplete. */
static bool client_unchunk(client *c, size_t at, reply *r, size_t *end) {
  char *start = c->in + at, *to = start;
  for (char *p = start;;) {
    char *line = memmem(p, (size_t)(c->in + c->len - p), "\r\n", 2);
    if (!line) return false;
    size_t n = strtoul(p, NULL, 16);
    if ((size_t)(c->in + c->len - line) < n + 4) return false;
    CHECK(isxdigit((unsigned char)*p) && memcmp(line + 2 + n, "\r\n", 2) == 0);
    memmove(to, line + 2, n);
    to += n;
    p = line + n + 4;
    if (n > 0) continue;
    r->body = (fc_slice){start, (size_t)(to - start)};
    *end = (size_t)(p - c->in);
    return true;
  }
}

/* The next reply that has come whole; `bodiless`: to HEAD. A body without length ends with the
 * connection. Unchunking happens in place, so a false answer may leave only a chunked body spoilt:
 * whoever waits for one reads after the end. */
static bool client_reply(client *c, reply *r, bool bodiless) {
  client_read(c);
  char *start = c->in + c->at;
  char *end = memmem(start, c->len - c->at, "\r\n\r\n", 4);
  if (!end) return false;
  *r = (reply){.length = -1, .head = {start, (size_t)(end - start) + 4}};
  CHECK(memcmp(start, "HTTP/1.1 ", 9) == 0);
  r->status = atoi(start + 9);
  const char *length = client_field(r->head, "content-length:");
  const char *coding = client_field(r->head, "transfer-encoding:");
  const char *connection = client_field(r->head, "connection:");
  CHECK(r->status < 200 || (client_field(r->head, "date:") && client_field(r->head, "server:")));
  CHECK(!length || !coding);
  if (length) r->length = atol(length);
  r->chunked = coding != NULL;
  r->close = connection && strncmp(connection, " close", 6) == 0;
  r->keep_alive = connection && strncmp(connection, " keep-alive", 11) == 0;
  size_t at = c->at + r->head.len;
  if (bodiless || fc_http1_bodiless(r->status)) {
    c->at = at;
    return true;
  }
  if (r->chunked) return client_unchunk(c, at, r, &c->at);
  if (r->length < 0 && !c->eof) return false;
  size_t n = r->length < 0 ? c->len - at : (size_t)r->length;
  if (c->len - at < n) return false;
  r->body = (fc_slice){c->in + at, n};
  c->at = at + n;
  return true;
}

static bool reply_is(const reply *r, int status, const char *body) {
  return r->status == status && fc_slice_eq(r->body, fc_slice_of(body, strlen(body)));
}

/* A reply has to be there, with that status and body. */
static void client_expects(client *c, int status, const char *body) {
  reply r;
  CHECK(client_reply(c, &r, false));
  CHECK_INT(r.status, status);
  CHECK(reply_is(&r, status, body));
}

/* Nothing (more) has come. */
static inline void client_expects_nothing(client *c) {
  client_read(c);
  CHECK_INT(c->len, c->at);
  CHECK(!c->eof && !c->reset);
}

/* The connection has ended in good order, with nothing (more) before it. */
static inline void client_expects_end(client *c) {
  client_read(c);
  CHECK_INT(c->len, c->at);
  CHECK(c->eof && !c->reset);
}

#endif
