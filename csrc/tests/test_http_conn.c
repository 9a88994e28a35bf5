/* What the server's side of a connection does with requests of every form. */
#include "http_app.h"

#define GET(target) "GET " target " HTTP/1.1\r\nHost: a\r\n\r\n"
#define POST(target, length) \
  "POST " target " HTTP/1.1\r\nHost: a\r\nContent-Length: " length "\r\n\r\n"
#define CHUNKED(target) \
  "POST " target " HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"

static client c;

static void test_reply_at_once(void) {
  app_open();
  client_open(&c);
  for (int i = 0; i < 3; i++) {
    client_says(&c, GET("/now"));
    turn(the.reactor);
    reply r;
    CHECK(client_reply(&c, &r, false));
    CHECK(reply_is(&r, 200, "hello"));
    CHECK(!r.close && !r.keep_alive && !r.chunked);
    CHECK_INT(fake.sends, i + 1);
    CHECK_INT(fake.recvs, i + 1);
  }
  CHECK_INT(the.server->served, 3);
  CHECK_INT(the.server->req_count, 0);
  client_close(&c);
  turn(the.reactor);
  CHECK_INT(the.disconnects, 1);
  CHECK_INT(the.server->conn_count, 0);
  CHECK_INT(the.gones, 0);
  app_close();
}

static void test_reply_later(void) {
  app_open();
  client_open(&c);
  client_says(&c, GET("/hold") GET("/now"));
  turns(the.reactor, 5);
  client_expects_nothing(&c);
  CHECK_INT(the.requests, 1); /* one at a time */
  CHECK_INT(app_answer(201, FC_SLICE("late")), 0);
  turns(the.reactor, 3);
  client_expects(&c, 201, "late");
  client_expects(&c, 200, "hello");
  CHECK_INT(the.gones, 0);
  client_close(&c);
  app_close();
}

static void test_reply_in_pieces(void) {
  app_open();
  client_open(&c);
  client_says(&c, GET("/pieces") GET("/begin"));
  turn(the.reactor);
  client_expects(&c, 200, "onetwo!");
  fc_http_req *q = the.held[0];
  CHECK_INT(app_begin(q, -1), FC_ESTATE);
  CHECK_INT(app_reply(q, 200, FC_SLICE("x")), FC_ESTATE);
  for (int i = 0; i < 3; i++) {
    CHECK_INT(fc_http_send(q, FC_SLICE("piece ")), 0);
    turn(the.reactor);
  }
  CHECK_INT(fc_http_end(q), 0);
  CHECK_INT(fc_http_end(q), FC_ECLOSED); /* it is over */
  CHECK_INT(fc_http_send(q, FC_SLICE("x")), FC_ECLOSED);
  turn(the.reactor);
  reply r;
  CHECK(client_reply(&c, &r, false));
  CHECK(r.chunked && r.length == -1 && reply_is(&r, 200, "piece piece piece "));
  CHECK_INT(q->reply_bytes, 18);
  client_expects_nothing(&c);
  client_close(&c);
  app_close();
}

static void test_calls_out_of_order(void) {
  app_open();
  client_open(&c);
  client_says(&c, GET("/hold"));
  turn(the.reactor);
  CHECK_INT(fc_http_send(the.held[0], FC_SLICE("x")), FC_ESTATE);
  CHECK_INT(fc_http_end(the.held[0]), FC_ESTATE);
  CHECK_INT(app_answer(200, FC_SLICE("fine")), 0);
  turn(the.reactor);
  client_expects(&c, 200, "fine");
  client_close(&c);
  app_close();
}

/* A length that was announced is kept: neither more nor less is sent. */
static void test_announced_length(void) {
  app_open();
  client_open(&c);
  client_says(&c, GET("/hold") GET("/hold"));
  turn(the.reactor);
  fc_http_req *q = the.held[0];
  CHECK_INT(app_begin(q, 7), 0);
  CHECK_INT(fc_http_send(q, FC_SLICE("four")), 0);
  CHECK_INT(fc_http_send(q, FC_SLICE("four")), FC_EINVALID);
  CHECK_INT(fc_http_send(q, FC_SLICE("333")), 0);
  CHECK_INT(fc_http_send(q, FC_SLICE("")), 0);
  CHECK_INT(fc_http_send(q, FC_SLICE("x")), FC_EINVALID);
  CHECK_INT(fc_http_end(q), 0);
  app_unhold(q);
  fc_http_req_release(q);
  turns(the.reactor, 2);
  client_expects(&c, 200, "four333");

  q = the.held[0];
  CHECK_INT(app_begin(q, 7), 0);
  CHECK_INT(fc_http_send(q, FC_SLICE("four")), 0);
  turn(the.reactor);
  CHECK_INT(fc_http_end(q), FC_EINVALID);
  CHECK_INT(the.gones, 1);
  turn(the.reactor);
  client_read(&c);
  CHECK(c.eof);
  client_close(&c);
  app_close();
}

/* ---- bodiless -------------------------------------------------------------------------------- */

static void test_bodiless(void) {
  app_open();
  client_open(&c);
  client_says(&c, GET("/204") GET("/304") "HEAD /now HTTP/1.1\r\nHost: a\r\n\r\n"
                  "HEAD /pieces HTTP/1.1\r\nHost: a\r\n\r\n"
                  "HEAD /big HTTP/1.1\r\nHost: a\r\n\r\n" GET("/now"));
  turn(the.reactor);
  reply r;
  CHECK(client_reply(&c, &r, false) && r.status == 204 && r.length == -1 && !r.chunked);
  CHECK(client_reply(&c, &r, false) && r.status == 304 && r.length == -1 && !r.chunked);
  CHECK(client_reply(&c, &r, true) && r.status == 200 && r.length == 5);
  CHECK(client_reply(&c, &r, true) && r.status == 200 && r.chunked);
  CHECK(client_reply(&c, &r, true) && r.status == 200 && r.length == FC_BIG_BYTES);
  CHECK_INT(the.released, 1); /* the body is given back although it was not sent */
  client_expects(&c, 200, "hello");
  client_expects_nothing(&c);
  client_close(&c);
  app_close();
}

static void begin_204(fc_http_req *q) {
  fc_http1_response r = {.status = 204, .content_length = -1};
  CHECK_INT(fc_http_begin(q, &r), 0);
  CHECK_INT(fc_http_send(q, FC_SLICE("nothing of this")), 0);
  CHECK_INT(fc_http_end(q), 0);
  fc_http_req_release(q);
}

static void test_bodiless_in_pieces(void) {
  app_open();
  the.on_request = begin_204;
  client_open(&c);
  client_says(&c, GET("/") GET("/"));
  turn(the.reactor);
  reply r;
  for (int i = 0; i < 2; i++)
    CHECK(client_reply(&c, &r, false) && r.status == 204 && r.length == -1 && !r.chunked);
  client_expects_nothing(&c);
  client_close(&c);
  app_close();
}

/* ---- versions and the end of a connection ---------------------------------------------------- */

static void test_http10(void) {
  app_open();
  reply r;
  client_open(&c);
  client_says(&c, "GET /now HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  turn(the.reactor);
  CHECK(client_reply(&c, &r, false) && reply_is(&r, 200, "hello") && r.keep_alive);
  client_says(&c, "GET /now HTTP/1.0\r\n\r\n");
  turn(the.reactor);
  CHECK(client_reply(&c, &r, false) && reply_is(&r, 200, "hello") && r.close);
  client_expects_end(&c);
  client_close(&c);

  client_open(&c); /* without a length only the end of the connection tells, asked or not */
  client_says(&c, "GET /pieces HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
  turn(the.reactor);
  CHECK(client_reply(&c, &r, false));
  CHECK(reply_is(&r, 200, "onetwo!") && r.close && !r.chunked && r.length == -1);
  client_expects_end(&c);
  client_close(&c);
  app_close();
}

static void test_close_asked(void) {
  app_open();
  client_open_tcp(&c);
  client_says(&c, "GET /now HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" GET("/now"));
  turns(the.reactor, 2);
  reply r;
  CHECK(client_reply(&c, &r, false) && reply_is(&r, 200, "hello") && r.close);
  CHECK_INT(the.requests, 1);
  client_expects_end(&c); /* and no reset, in spite of the second request */
  client_close(&c);
  app_close();
}

/* ---- pipelining ------------------------------------------------------------------------------ */

static void number_reply(fc_http_req *q) {
  fc_slice target = fc_http_req_target(q);
  target.ptr++, target.len--;
  app_ok(app_reply(q, 200, target));
  fc_http_req_release(q);
}

static void test_pipelined(void) {
  enum { COUNT = 1000 };
  static char text[COUNT * 40];
  for (uint32_t max = 1; max <= 1000; max *= 10) {
    app_init();
    the.config.max_pipelined = max;
    the.on_request = number_reply;
    app_serve();
    client_open(&c);
    size_t len = 0;
    for (int i = 0; i < COUNT; i++)
      len += (size_t)sprintf(text + len, "GET /%d HTTP/1.1\r\nHost: a\r\n\r\n", i);
    client_send(&c, fc_slice_of(text, len));
    int before = 0;
    for (int turn_count = 0; the.requests < COUNT; turn_count++) {
      turn(the.reactor);
      client_read(&c);
      CHECK(the.requests - before <= (int)max);
      CHECK(the.requests > before);
      before = the.requests;
    }
    turn(the.reactor);
    for (int i = 0; i < COUNT; i++) {
      char expected[16];
      sprintf(expected, "%d", i);
      client_expects(&c, 200, expected);
    }
    client_expects_nothing(&c);
    CHECK_INT(the.server->served, COUNT);
    client_close(&c);
    app_close();
  }
}

/* All of them and the end of the client's side in one go: all are answered, then we close too. */
static void test_pipelined_and_half_closed(void) {
  app_open();
  client_open(&c);
  for (int i = 0; i < 200; i++) client_says(&c, GET("/now"));
  shutdown(c.fd, SHUT_WR);
  for (int i = 0; i < 20; i++) turn(the.reactor);
  for (int i = 0; i < 200; i++) client_expects(&c, 200, "hello");
  client_expects_end(&c);
  CHECK_INT(the.disconnects, 1);
  client_close(&c);

  client_open(&c); /* the same with an incomplete one at the end */
  for (int i = 0; i < 100; i++) client_says(&c, GET("/now"));
  client_says(&c, "GET /now HT");
  shutdown(c.fd, SHUT_WR);
  for (int i = 0; i < 20; i++) turn(the.reactor);
  for (int i = 0; i < 100; i++) client_expects(&c, 200, "hello");
  client_expects_end(&c);
  client_close(&c);
  CHECK_INT(the.gones, 0);
  app_close();
}

/* More than the input may hold piles up behind a request under way; nothing of it is lost. */
static void test_pipelined_behind_a_slow_one(void) {
  enum { COUNT = 9000 };
  app_open();
  client_open(&c);
  client_says(&c, GET("/hold"));
  int sent = 0;
  for (int idle = 0; idle < 3; turn(the.reactor))
    if (sent == COUNT || send(c.fd, GET("/now"), sizeof GET("/now") - 1, MSG_NOSIGNAL) < 0) idle++;
    else sent++;
  CHECK(sent > 3000);
  CHECK_INT(the.requests, 1);
  CHECK_INT(app_answer(200, FC_SLICE("slow")), 0);
  for (; sent < COUNT; sent++) client_pushes(&c, FC_SLICE(GET("/now")));
  for (int i = 0; i < 400; i++) {
    turn(the.reactor);
    client_read(&c);
  }
  client_expects(&c, 200, "slow");
  for (int i = 0; i < COUNT; i++) client_expects(&c, 200, "hello");
  client_close(&c);
  app_close();
}

static void answer_all_first(fc_http_req *q) {
  while (the.held_len) CHECK_INT(app_answer(200, FC_SLICE("by another")), 0);
  the.held[the.held_len++] = q;
}

/* Replies given from within another connection's on_request, all the way round. */
static void test_replies_across(void) {
  static client d;
  app_open();
  the.on_request = answer_all_first;
  client_open(&c);
  client_open(&d);
  for (int i = 0; i < 50; i++) {
    client_says(&c, GET("/"));
    client_says(&d, GET("/"));
  }
  for (int i = 0; i < 300; i++) turn(the.reactor);
  CHECK_INT(the.requests, 100);
  for (int i = 0; i < 49; i++) {
    client_expects(&c, 200, "by another");
    client_expects(&d, 200, "by another");
  }
  client_close(&c);
  client_close(&d);
  app_close();
}

/* ---- bodies and how they come ---------------------------------------------------------------- */

/* A stream of requests with bodies of both framings, cut in two at every byte, and into bytes. */
static void test_split_everywhere(void) {
  static const char text[] = GET("/now") POST("/echo", "10") "0123456789" CHUNKED("/echo")
      "5\r\nabcde\r\nA;x=y\r\nfghijklmno\r\n0\r\nTrailer: t\r\n\r\n" POST("/echo", "0")
          GET("/pieces");
  size_t len = sizeof text - 1;
  for (size_t cut = 0; cut <= len; cut++) {
    app_open();
    client_open(&c);
    if (cut == 0) {
      for (size_t i = 0; i < len; i++) {
        client_send(&c, fc_slice_of(text + i, 1));
        turn(the.reactor);
      }
    } else {
      client_send(&c, fc_slice_of(text, cut));
      turn(the.reactor);
      client_send(&c, fc_slice_of(text + cut, len - cut));
      turn(the.reactor);
    }
    client_expects(&c, 200, "hello");
    client_expects(&c, 200, "0123456789");
    client_expects(&c, 200, "abcdefghijklmno");
    client_expects(&c, 200, "");
    client_expects(&c, 200, "onetwo!");
    client_expects_nothing(&c);
    CHECK_INT(the.server->req_count, 0);
    client_close(&c);
    app_close();
  }
}

/* Bodies from nothing to more than the input holds, at any place in it: `ahead` requests lie before
 * the one with the body, and more follow, which must not be taken for parts of it. */
static void echo_once(size_t length, int ahead, size_t recv_max, bool chunked) {
  enum { BEHIND = 60 };
  static char text[400000];
  app_init();
  the.config.max_pipelined = 5000; /* so that the place in the block is known */
  app_serve();
  fake.recv_max = recv_max;
  client_open(&c);
  size_t len = 0;
  for (int i = 0; i < ahead; i++) len += (size_t)sprintf(text + len, GET("/now"));
  if (chunked) {
    len += (size_t)sprintf(text + len, CHUNKED("/echo"));
    for (size_t at = 0, n; at < length; at += n) {
      n = length - at < 7000 ? length - at : 7000;
      len += (size_t)sprintf(text + len, "%zx\r\n", n);
      memcpy(text + len, the.big + at, n);
      len += n + (size_t)sprintf(text + len + n, "\r\n");
    }
    len += (size_t)sprintf(text + len, "0\r\n\r\n");
  } else {
    len += (size_t)sprintf(text + len, POST("/echo", "%zu"), length);
    memcpy(text + len, the.big, length);
    len += length;
  }
  for (int i = 0; i < BEHIND; i++) len += (size_t)sprintf(text + len, GET("/now"));
  CHECK(len < sizeof text);
  client_pushes(&c, fc_slice_of(text, len));
  for (int i = 0; the.requests < ahead + 1 + BEHIND; i++) {
    CHECK(i < 100000);
    turn(the.reactor);
    client_read(&c);
  }
  turns(the.reactor, 3);
  for (int i = 0; i < ahead; i++) client_expects(&c, 200, "hello");
  reply r;
  CHECK(client_reply(&c, &r, false));
  CHECK_INT(r.body.len, length);
  CHECK(memcmp(r.body.ptr, the.big, length) == 0);
  for (int i = 0; i < BEHIND; i++) client_expects(&c, 200, "hello");
  client_expects_nothing(&c);
  client_close(&c);
  app_close();
}

static void test_bodies(void) {
  static const size_t lengths[] = {0,     1,     100,   1400,  4096,   4097,
                                   15000, 16384, 20000, 70000, 130000, 300000};
  static const size_t reads[] = {FAKESYS_ALL, 1000, 16384};
  static const int aheads[] = {0, 1, 400, 500, 535, 540, 542, 543, 1200};
  for (size_t l = 0; l < sizeof lengths / sizeof lengths[0]; l++)
    for (size_t a = 0; a < sizeof aheads / sizeof aheads[0]; a++)
      for (int k = 0; k < 6; k++) echo_once(lengths[l], aheads[a], reads[k % 3], k >= 3);
}

/* Bodies behind a request under way, so that they wait in an input block of any size. */
static void test_bodies_behind_a_slow_one(void) {
  static const size_t lengths[] = {100, 20000, 100000, 131000, 131072, 131073, 200000, 260000};
  for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
    app_open();
    client_open(&c);
    char head[128];
    sprintf(head, GET("/hold") POST("/echo", "%zu"), lengths[i]);
    client_says(&c, head);
    size_t at = 0, first = 130500; /* leaves little room in a block of twice 64 KiB */
    for (int idle = 0; idle < 3 && at < lengths[i]; turn(the.reactor)) {
      size_t n = at < first && first < lengths[i] ? first - at : lengths[i] - at;
      if (at >= first && n > 1000) n = 1000;
      ssize_t taken = send(c.fd, the.big + at, n, MSG_NOSIGNAL);
      if (taken < 0) idle++;
      else at += (size_t)taken;
    }
    CHECK_INT(app_answer(200, FC_SLICE("slow")), 0);
    client_pushes(&c, fc_slice_of(the.big + at, lengths[i] - at));
    for (int k = 0; k < 30; k++) {
      turn(the.reactor);
      client_read(&c);
    }
    client_expects(&c, 200, "slow");
    reply r;
    CHECK(client_reply(&c, &r, false));
    CHECK(fc_slice_eq(r.body, fc_slice_of(the.big, lengths[i])));
    client_close(&c);
    app_close();
  }
}

static fc_http_req *kept;

static void keep_it(fc_http_req *q) {
  kept = q;
}

/* A request's slices outlive its connection. */
static void test_request_outlives_connection(void) {
  app_open();
  the.on_request = keep_it;
  client_open(&c);
  client_says(&c, "POST /path HTTP/1.1\r\nHost: a\r\nX-Field: value\r\nContent-Length: 4\r\n\r\n"
                  "body");
  turn(the.reactor);
  reset_close(c.fd);
  turn(the.reactor);
  CHECK_INT(the.gones, 1);
  fc_http_server_close(the.server);
  turn(the.reactor);
  CHECK(app_is(kept, "/path"));
  CHECK(fc_slice_eq(fc_http_req_method(kept), FC_SLICE("POST")));
  CHECK(fc_slice_eq(kept->body, FC_SLICE("body")));
  CHECK_INT(kept->field_count, 3);
  CHECK(memcmp(kept->head + kept->fields[1].value, "value", 5) == 0);
  fc_reactor_close(the.reactor);
  CHECK(the.mem.live > 0); /* the server, the request, the pool and the block */
  fc_http_req_release(kept);
  CHECK_INT(the.mem.live, 0);
}

#define ASKING \
  "POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"

static void test_continue(void) {
  app_open();
  reply r;
  client_open(&c);
  client_says(&c, ASKING);
  turn(the.reactor);
  CHECK(client_reply(&c, &r, false) && r.status == 100);
  client_expects_nothing(&c);
  client_says(&c, "body");
  turn(the.reactor);
  client_expects(&c, 200, "body");
  client_says(&c, ASKING "b");
  turn(the.reactor);
  client_expects_nothing(&c); /* it did not wait to be asked */
  client_says(&c, "ody");
  turn(the.reactor);
  client_expects(&c, 200, "body");
  client_close(&c);
  app_close();
}

/* ---- backpressure ---------------------------------------------------------------------------- */

/* A client that does not read: pieces stop at FC_HTTP_FULL and go on at on_writable. */
static void test_full(void) {
  app_open();
  client_open(&c);
  client_says(&c, GET("/begin"));
  turn(the.reactor);
  fc_http_req *q = the.held[0];
  size_t sent = 0;
  for (int rounds = 0; rounds < 5; rounds++) {
    int before = the.writables, err = 0;
    while (err == 0) {
      err = fc_http_send(q, fc_slice_of(the.big, 10000));
      sent += 10000;
      turn(the.reactor);
    }
    CHECK_INT(err, FC_HTTP_FULL);
    CHECK(q->conn->stream.out_bytes > FC_STREAM_HIGH_WATER_BYTES);
    CHECK(q->conn->stream.out_bytes < FC_STREAM_HIGH_WATER_BYTES + 30000);
    CHECK_INT(the.writables, before);
    for (int i = 0; i < 20; i++) {
      client_read(&c);
      turn(the.reactor);
    }
    CHECK_INT(the.writables, before + 1);
  }
  CHECK_INT(fc_http_end(q), 0);
  turns(the.reactor, 2);
  reply r;
  CHECK(client_reply(&c, &r, false));
  CHECK_INT(r.body.len, sent);
  client_close(&c);
  app_close();
}

/* A client that pipelines and does not read is not served on until it does. */
static void test_pipelined_and_full(void) {
  app_open();
  client_open(&c);
  for (int i = 0; i < 5; i++) client_says(&c, GET("/big"));
  client_says(&c, GET("/now"));
  for (int i = 0; i < 10; i++) turn(the.reactor);
  CHECK_INT(the.requests, 1);
  for (int i = 0; i < 400; i++) {
    client_read(&c);
    c.len = c.len > 8192 ? 8192 : c.len; /* the bytes do not matter here */
    turn(the.reactor);
  }
  CHECK_INT(the.requests, 6);
  CHECK_INT(the.released, 5);
  CHECK_INT(the.server->served, 6);
  client_close(&c);
  app_close();
}

static void test_big(void) {
  app_open();
  client_open_tcp(&c);
  client_says(&c, GET("/big") GET("/now"));
  for (int i = 0; i < 400 && the.server->served < 2; i++) {
    turn(the.reactor);
    client_read(&c);
  }
  turns(the.reactor, 2);
  reply r;
  CHECK(client_reply(&c, &r, false));
  CHECK(fc_slice_eq(r.body, fc_slice_of(the.big, FC_BIG_BYTES)));
  client_expects(&c, 200, "hello");
  client_close(&c);
  app_close();
}

int main(void) {
  RUN(test_reply_at_once);
  RUN(test_reply_later);
  RUN(test_reply_in_pieces);
  RUN(test_calls_out_of_order);
  RUN(test_announced_length);
  RUN(test_bodiless);
  RUN(test_bodiless_in_pieces);
  RUN(test_http10);
  RUN(test_close_asked);
  RUN(test_pipelined);
  RUN(test_pipelined_and_half_closed);
  RUN(test_pipelined_behind_a_slow_one);
  RUN(test_replies_across);
  RUN(test_split_everywhere);
  RUN(test_bodies);
  RUN(test_bodies_behind_a_slow_one);
  RUN(test_request_outlives_connection);
  RUN(test_continue);
  RUN(test_full);
  RUN(test_pipelined_and_full);
  RUN(test_big);
  return 0;
}
