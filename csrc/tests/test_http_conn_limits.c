/* Where the server's patience ends: timeouts, refusals, draining and closing. */
#include "http_app.h"

#define GET(target) "GET " target " HTTP/1.1\r\nHost: a\r\n\r\n"
#define POST(target, length) \
  "POST " target " HTTP/1.1\r\nHost: a\r\nContent-Length: " length "\r\n\r\n"
#define CHUNKED(target) \
  "POST " target " HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
#define S(seconds) ((uint64_t)(seconds)*FC_NS_PER_S)

static client c;

/* A reply of that status that ends the connection, and then the connection's end. */
static void expects_refusal(int status, int error) {
  reply r;
  CHECK(client_reply(&c, &r, false));
  CHECK_INT(r.status, status);
  CHECK(r.close && r.body.len > 10);
  CHECK_INT(the.refusals, 1);
  CHECK_INT(the.status, status);
  if (error) CHECK_INT(the.error, error);
  client_expects_end(&c);
}

/* ---- timeouts -------------------------------------------------------------------------------- */

static void test_idle_timeout(void) {
  for (int used = 0; used < 2; used++) {
    app_open();
    client_open(&c);
    if (used) {
      app_turn_clock(S(70));
      client_says(&c, GET("/now"));
      turn(the.reactor);
      client_expects(&c, 200, "hello");
    }
    app_turn_clock(S(74));
    client_expects_nothing(&c);
    app_turn_clock(S(1));
    client_expects_end(&c);
    CHECK_INT(the.refusals, 0);
    CHECK_INT(the.disconnects, 1);
    client_close(&c);
    app_close();
  }
}

/* From the head's first byte, however the others trickle in. */
static void test_head_timeout(void) {
  app_open();
  client_open(&c);
  app_turn_clock(S(60));
  for (int i = 0; i < 9; i++) {
    client_send(&c, fc_slice_of(&GET("/now")[i], 1));
    turn(the.reactor);
    app_turn_clock(S(1));
  }
  client_expects_nothing(&c);
  app_turn_clock(S(1));
  expects_refusal(408, FC_ETIMEOUT);
  CHECK_INT(the.requests, 0);
  client_close(&c);
  app_close();
}

/* Thirty seconds, and one more for each 240 bytes that came: of any framing. */
static void test_body_timeout(void) {
  static const char *const heads[] = {
      POST("/echo", "100000"), POST("/echo", "9000"), CHUNKED("/echo") "186a0\r\n"};
  for (int i = 0; i < 3; i++) {
    app_open();
    client_open(&c);
    client_says(&c, heads[i]);
    turn(the.reactor);
    for (int seconds = 0; seconds < 29; seconds++) {
      client_send(&c, fc_slice_of(the.big, 24)); /* a tenth of what is asked */
      turn(the.reactor);
      app_turn_clock(S(1));
    }
    app_turn_clock(S(3)); /* 29 * 24 bytes have earned 2.9 seconds */
    client_expects_nothing(&c);
    app_turn_clock(S(1));
    expects_refusal(408, FC_ETIMEOUT);
    client_close(&c);
    app_close();
  }
}

static void test_body_at_the_least_rate(void) {
  static const char *const heads[] = {POST("/echo", "72000"), CHUNKED("/echo") "11940\r\n"};
  for (int i = 0; i < 2; i++) {
    app_open();
    client_open(&c);
    client_says(&c, heads[i]);
    for (int seconds = 0; seconds < 300; seconds++) {
      client_send(&c, fc_slice_of(the.big + 240 * seconds, 240));
      turn(the.reactor);
      app_turn_clock(FC_NS_PER_S - TICK_NS);
    }
    if (i) client_says(&c, "\r\n0\r\n\r\n");
    for (int k = 0; k < 5; k++) {
      turn(the.reactor);
      client_read(&c);
    }
    reply r;
    CHECK(client_reply(&c, &r, false) && r.status == 200);
    CHECK(fc_slice_eq(r.body, fc_slice_of(the.big, 72000)));
    client_close(&c);
    app_close();
  }
}

static void test_handler_timeout(void) {
  app_init();
  the.config.handler_timeout_ns = S(5);
  app_serve();
  client_open(&c);
  client_says(&c, GET("/hold") GET("/hold"));
  turn(the.reactor);
  app_turn_clock(S(4));
  CHECK_INT(the.timeouts, 0);
  app_turn_clock(S(1));
  CHECK_INT(the.timeouts, 1);
  app_turn_clock(S(20));
  CHECK_INT(the.timeouts, 1); /* once a request */
  CHECK_INT(app_answer(503, FC_SLICE("busy")), 0);
  turns(the.reactor, 2);
  client_expects(&c, 503, "busy");
  CHECK_INT(the.requests, 2);
  app_turn_clock(S(4));
  CHECK_INT(app_answer(200, FC_SLICE("in time")), 0);
  turns(the.reactor, 2);
  app_turn_clock(S(2)); /* the deadline went with the request */
  CHECK_INT(the.timeouts, 1);
  client_expects(&c, 200, "in time");
  client_close(&c);
  app_close();
}

/* Without one a handler may take for ever, and the idle timeout does not count. */
static void test_no_handler_timeout(void) {
  app_open();
  client_open(&c);
  client_says(&c, GET("/hold"));
  turn(the.reactor);
  app_turn_clock(S(100000));
  CHECK_INT(app_answer(200, FC_SLICE("at last")), 0);
  turn(the.reactor);
  client_expects(&c, 200, "at last");
  client_close(&c);
  app_close();
}

/* A client that takes nothing of a reply is cut; the layer above has long been told it is sent. */
static void test_stalled_reader(void) {
  app_open();
  client_open(&c);
  client_says(&c, GET("/big"));
  turns(the.reactor, 2);
  CHECK_INT(the.released, 0);
  app_turn_clock(S(29));
  CHECK_INT(the.server->conn_count, 1);
  app_turn_clock(S(2));
  CHECK_INT(the.server->conn_count, 0);
  CHECK_INT(the.released, 1);
  CHECK_INT(the.gones, 0);
  client_close(&c);

  client_open(&c); /* in the midst of one in pieces it is told */
  client_says(&c, GET("/begin"));
  turn(the.reactor);
  while (fc_http_send(the.held[0], fc_slice_of(the.big, 50000)) == 0) turn(the.reactor);
  turn(the.reactor);
  app_turn_clock(S(31));
  CHECK_INT(the.gones, 1);
  CHECK_INT(fc_http_send(the.held[0], FC_SLICE("x")), FC_ECLOSED);
  client_close(&c);
  app_close();
}

/* Slow but steady readers get all of it, past every other timeout, also of a last reply. */
static void test_slow_reader(void) {
  for (int last = 0; last < 3; last++) {
    app_init();
    the.config.handler_timeout_ns = S(5);
    app_serve();
    client_open(&c);
    client_says(&c, "GET /big HTTP/1.1\r\nHost: a\r\n");
    client_says(&c, last ? "Connection: close\r\n\r\n" : "\r\n");
    if (last == 2) client_says(&c, GET("/now")); /* unread: the connection lingers */
    fake.send_left = 0;
    turn(the.reactor);
    for (int i = 0; i < 100; i++) {
      fake.send_left = 10000;
      turn(the.reactor);
      client_read(&c);
      app_turn_clock(S(20));
    }
    CHECK_INT(the.server->conn_count, 1);
    fake.send_left = FAKESYS_ALL;
    for (int i = 0; i < 40; i++) {
      turn(the.reactor);
      client_read(&c);
    }
    reply r;
    CHECK(client_reply(&c, &r, false));
    CHECK(fc_slice_eq(r.body, fc_slice_of(the.big, FC_BIG_BYTES)));
    if (last) client_expects_end(&c);
    CHECK_INT(the.refusals + the.timeouts, 0);
    client_close(&c);
    app_close();
  }
}

/* ---- refusals -------------------------------------------------------------------------------- */

static void test_refusals(void) {
  static char line[10000], header[40000], many[4000];
  memset(line, 'x', sizeof line - 1);
  memcpy(line, "GET /", 5);
  memset(header, 'x', sizeof header - 1);
  memcpy(header, "GET / HTTP/1.1\r\nHost: a\r\nX: ", 28);
  strcpy(many, "GET / HTTP/1.1\r\nHost: a\r\n");
  for (int i = 0; i < 120; i++) strcat(many, "a: b\r\n");
  const struct {
    const char *text;
    int status;
  } cases[] = {
      {"GET / HTTP/1.1\r\n\r\n", 400},
      {"G\x01T / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
      {CHUNKED("/now") "zz\r\n", 400},
      {POST("/now", "99999999999"), 413},
      {CHUNKED("/now") "7fffffff\r\n", 413},
      {line, 414},
      {header, 431},
      {many, 431},
      {"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501},
      {"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    for (int before = 0; before < 2; before++) {
      app_open();
      client_open_tcp(&c);
      if (before) client_says(&c, GET("/now"));
      client_says(&c, cases[i].text);
      turns(the.reactor, 4);
      if (before) client_expects(&c, 200, "hello");
      expects_refusal(cases[i].status, 0);
      CHECK_INT(the.requests, before);
      CHECK_INT(the.server->refused, 1);
      app_turn_clock(S(2));
      CHECK_INT(the.server->conn_count, 0);
      client_close(&c);
      app_close();
    }
  }
}

/* Who goes on sending a body that was refused reads the refusal all the same. */
static void test_refused_while_sending(void) {
  app_open();
  client_open_tcp(&c);
  client_says(&c, POST("/now", "99999999999"));
  for (int i = 0; i < 60; i++) {
    client_send(&c, fc_slice_of(the.big, 10000));
    turn(the.reactor);
  }
  expects_refusal(413, FC_EHTTP_BODY_LIMIT);
  app_turn_clock(S(2));
  CHECK_INT(the.disconnects, 1);
  client_close(&c);
  app_close();
}

/* Nor does the rest of a large body change into a request. */
static void test_nothing_after_a_refusal(void) {
  app_open();
  client_open(&c);
  client_says(&c, "BAD\r\n\r\n" GET("/now"));
  turn(the.reactor);
  for (int i = 0; i < 5; i++) {
    client_says(&c, GET("/now"));
    turn(the.reactor);
  }
  CHECK_INT(the.requests, 0);
  expects_refusal(400, 0);
  client_close(&c);
  app_close();
}

static void refuse_by_abort(fc_http_conn *conn, int status, int error) {
  (void)status;
  (void)error;
  fc_stream_abort(&conn->stream, 0);
}

/* The log's callback may end the connection itself. */
static void test_abort_in_on_refused(void) {
  app_init();
  fc_http_upcalls up = app_upcalls;
  up.on_refused = refuse_by_abort;
  the.server = fc_http_server_new(the.reactor, &the.config, &up, &the);
  client_open(&c);
  client_says(&c, "BAD\r\n\r\n");
  turn(the.reactor);
  client_read(&c);
  CHECK_INT(c.len, 0);
  CHECK_INT(the.server->conn_count, 0);
  client_close(&c);
  app_close();
}

/* ---- clients that go ------------------------------------------------------------------------- */

/* In every phase, by a close, a half-close or a reset: on_gone once if a reply was due. */
static void test_gone(void) {
  static const char *const phases[] = {
      "",           "GET /no",     POST("/echo", "10") "12", CHUNKED("/echo") "5\r\nab",
      GET("/hold"), GET("/begin"),
  };
  for (int phase = 0; phase < 6; phase++) {
    for (int how = 0; how < 3; how++) {
      app_open();
      client_open_tcp(&c);
      client_says(&c, phases[phase]);
      turn(the.reactor);
      bool due = phase >= 4;
      CHECK_INT(the.held_len, due);
      if (how == 0) close(c.fd);
      else if (how == 1) shutdown(c.fd, SHUT_WR);
      else reset_close(c.fd);
      turns(the.reactor, 2);
      CHECK_INT(the.gones, due);
      CHECK_INT(the.disconnects, 1);
      if (due) {
        CHECK_INT(fc_http_end(the.held[0]), FC_ECLOSED);
        the.lent++;
        fc_http1_response r = app_response(200);
        CHECK_INT(fc_http_reply(the.held[0], &r, FC_SLICE("x"), app_released, NULL), FC_ECLOSED);
        CHECK_INT(the.released, 1);
        fc_http_abort(the.held[0]);
      }
      CHECK_INT(the.refusals, 0);
      if (how == 1) client_close(&c);
      app_close();
      CHECK_INT(the.gones, due);
    }
  }
}

/* Also with the input full and reading stopped. */
static void test_gone_with_full_input(void) {
  app_open();
  client_open(&c);
  client_says(&c, GET("/hold"));
  for (int idle = 0; idle < 3; turn(the.reactor))
    if (send(c.fd, the.big, 5000, MSG_NOSIGNAL) < 0) idle++;
  CHECK_INT(the.gones, 0);
  client_close(&c);
  turns(the.reactor, 2);
  CHECK_INT(the.gones, 1);
  app_turn_clock(S(3));
  CHECK_INT(the.disconnects, 1);
  app_close();
}

static void test_abort(void) {
  app_open();
  client_open(&c);
  client_says(&c, GET("/begin"));
  turn(the.reactor);
  CHECK_INT(fc_http_send(the.held[0], FC_SLICE("half")), 0);
  fc_http_abort(the.held[0]);
  CHECK_INT(the.gones, 1);
  turn(the.reactor);
  fc_http_abort(the.held[0]);
  client_read(&c);
  CHECK(c.eof);
  client_close(&c);
  app_close();
}

/* ---- the server's end ------------------------------------------------------------------------ */

/* Idle connections end at once, the others after the reply they are at; new ones get one each. */
static void test_drain(void) {
  static client idle, busy, half, fresh;
  app_open();
  client_open(&idle);
  client_open(&busy);
  client_open(&half);
  client_says(&busy, GET("/hold") GET("/now"));
  client_says(&half, "GET /now HTTP/1.1\r\n");
  turn(the.reactor);
  fc_http_server_drain(the.server);
  turn(the.reactor);
  client_expects_end(&idle);
  client_expects_nothing(&busy);
  CHECK_INT(the.server->conn_count, 2);
  reply r;
  CHECK_INT(app_answer(200, FC_SLICE("last")), 0);
  client_says(&half, "Host: a\r\n\r\n");
  client_open(&fresh);
  client_says(&fresh, GET("/now"));
  turns(the.reactor, 3);
  CHECK(client_reply(&busy, &r, false) && reply_is(&r, 200, "last") && r.close);
  CHECK(client_reply(&half, &r, false) && reply_is(&r, 200, "hello") && r.close);
  CHECK(client_reply(&fresh, &r, false) && reply_is(&r, 200, "hello") && r.close);
  client_expects_end(&busy);
  client_close(&busy); /* its second request was left unread, so we lingered for it */
  turns(the.reactor, 2);
  CHECK_INT(the.server->conn_count, 0);
  CHECK_INT(the.requests, 3);
  client_close(&idle);
  client_close(&half);
  client_close(&fresh);
  app_close();
}

/* With requests held and replies queued; the server's memory goes with the last share. */
static void test_close_with_requests(void) {
  static client more[3];
  app_open();
  for (int i = 0; i < 3; i++) client_open(&more[i]);
  client_says(&more[0], GET("/hold"));
  client_says(&more[1], GET("/big"));
  client_says(&more[2], GET("/begin"));
  turn(the.reactor);
  CHECK_INT(the.held_len, 2);
  fc_http_server_close(the.server);
  CHECK_INT(the.gones, 2);
  turns(the.reactor, 2);
  CHECK_INT(the.disconnects, 0);
  CHECK_INT(the.released, 1);
  long live = the.mem.live;
  CHECK_INT(app_answer(200, FC_SLICE("x")), FC_ECLOSED);
  CHECK_INT(the.mem.live, live - 1); /* the request; a block went back to the pool */
  CHECK_INT(app_answer(200, FC_SLICE("x")), FC_ECLOSED);
  CHECK_INT(the.mem.live, live - 3); /* the other one and the server */
  for (int i = 0; i < 3; i++) {
    client_read(&more[i]);
    CHECK(more[i].eof);
    client_close(&more[i]);
  }
  fc_reactor_close(the.reactor);
  CHECK_INT(the.mem.live, 0);
}

static void close_server(fc_http_req *q) {
  fc_http_server_close(the.server);
  CHECK_INT(the.gones, 1);
  CHECK_INT(app_reply(q, 200, FC_SLICE("x")), FC_ECLOSED);
  fc_http_req_release(q);
}

/* From within a request, with others waiting behind it. */
static void test_close_in_request(void) {
  app_open();
  the.on_request = close_server;
  client_open(&c);
  client_says(&c, GET("/") GET("/"));
  turns(the.reactor, 2);
  CHECK_INT(the.requests, 1);
  client_close(&c);
  fc_reactor_close(the.reactor);
  CHECK_INT(the.mem.live, 0);
}

static void close_on_disconnect(fc_http_server *s) {
  CHECK_INT(s->conn_count, 0);
  fc_http_server_close(s);
}

/* From the notice that the last connection went, as a graceful stop does. */
static void test_close_on_disconnect(void) {
  app_init();
  fc_http_upcalls up = app_upcalls;
  up.on_disconnect = close_on_disconnect;
  the.server = fc_http_server_new(the.reactor, &the.config, &up, &the);
  client_open(&c);
  client_says(&c, GET("/now"));
  turn(the.reactor);
  client_close(&c);
  turn(the.reactor);
  fc_reactor_close(the.reactor);
  CHECK_INT(the.mem.live, 0);
}

static void test_accept_fails(void) {
  app_open();
  the.mem.fail_at = the.mem.total;
  int fd[2];
  unix_pair(fd);
  CHECK_INT(fc_http_server_accept(the.server, fd[0], NULL, 0), FC_ENOMEM);
  CHECK_INT(fcntl(fd[0], F_GETFD), -1);
  the.mem.fail_at = -1;
  int file = open("/dev/null", O_RDWR); /* of a kind that cannot be watched */
  CHECK_INT(fc_http_server_accept(the.server, file, NULL, 0), -EPERM);
  CHECK_INT(fcntl(file, F_GETFD), -1);
  CHECK_INT(the.server->conn_count, 0);
  the.closes_wanted = 2;
  close(fd[1]);
  app_close();
}

static void test_peer_address(void) {
  app_open();
  client_open_tcp(&c);
  struct sockaddr_in own;
  socklen_t len = sizeof own;
  CHECK_INT(getsockname(c.fd, (struct sockaddr *)&own, &len), 0);
  client_says(&c, GET("/hold"));
  turn(the.reactor);
  CHECK_INT(the.held[0]->peer.any.sa_family, AF_INET);
  CHECK_INT(the.held[0]->peer.v4.sin_port, own.sin_port);
  client_close(&c);
  app_close();
}

int main(void) {
  RUN(test_idle_timeout);
  RUN(test_head_timeout);
  RUN(test_body_timeout);
  RUN(test_body_at_the_least_rate);
  RUN(test_handler_timeout);
  RUN(test_no_handler_timeout);
  RUN(test_stalled_reader);
  RUN(test_slow_reader);
  RUN(test_refusals);
  RUN(test_refused_while_sending);
  RUN(test_nothing_after_a_refusal);
  RUN(test_abort_in_on_refused);
  RUN(test_gone);
  RUN(test_gone_with_full_input);
  RUN(test_abort);
  RUN(test_drain);
  RUN(test_close_with_requests);
  RUN(test_close_in_request);
  RUN(test_close_on_disconnect);
  RUN(test_accept_fails);
  RUN(test_peer_address);
  return 0;
}
