/* Whole conversations with a fault at each possible point: nothing leaks, nothing is told twice. */
#include "http_app.h"
#include "rng.h"

#define GET(target) "GET " target " HTTP/1.1\r\nHost: a\r\n\r\n"
#define BODY_BYTES 30000

static client c;
static char script[200000];
static size_t script_len;

static void say(const char *bytes, size_t len) {
  CHECK(script_len + len < sizeof script);
  memcpy(script + script_len, bytes, len);
  script_len += len;
}

static void say_text(const char *text) {
  say(text, strlen(text));
}

/* Requests of every form: both framings, in place and collected, pieces, held ones, a refusal. */
static void write_script(bool refused) {
  char head[128];
  script_len = 0;
  say_text(GET("/now") GET("/pieces") GET("/hold"));
  sprintf(head, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", BODY_BYTES);
  say_text(head);
  say(the.big, BODY_BYTES);
  say_text("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
  for (int i = 0; i < 3; i++) {
    sprintf(head, "%x\r\n", BODY_BYTES);
    say_text(head);
    say(the.big, BODY_BYTES);
    say_text("\r\n");
  }
  say_text("0\r\n\r\n" GET("/big") GET("/begin") GET("/204") GET("/now"));
  if (refused) say_text("BAD\r\n\r\n");
}

static void app_step_held(void) {
  fc_http_req *q = the.held[0];
  if (q->started) {
    if (fc_http_send(q, fc_slice_of(the.big, 5000)) >= 0) app_ok(fc_http_end(q));
  } else {
    app_ok(app_reply(q, 200, FC_SLICE("held")));
  }
  app_unhold(q);
  fc_http_req_release(q);
}

/* Plays the script until nothing more happens. */
static void play(void) {
  size_t at = 0;
  for (int quiet = 0; quiet < 6;) {
    ssize_t n = at < script_len ? send(c.fd, script + at, script_len - at, MSG_NOSIGNAL) : 0;
    if (n > 0) at += (size_t)n;
    size_t len = c.len;
    int events = turn(the.reactor);
    client_read(&c);
    quiet = n > 0 || c.len != len || events ? 0 : quiet + 1;
    if (the.held_len && quiet > 1) app_step_held();
  }
}

static void expect_all_replies(bool refused) {
  reply r;
  client_expects(&c, 200, "hello");
  client_expects(&c, 200, "onetwo!");
  client_expects(&c, 200, "held");
  CHECK(client_reply(&c, &r, false) && r.body.len == BODY_BYTES);
  CHECK(memcmp(r.body.ptr, the.big, BODY_BYTES) == 0);
  CHECK(client_reply(&c, &r, false) && r.body.len == 3 * BODY_BYTES);
  CHECK(client_reply(&c, &r, false) && r.body.len == FC_BIG_BYTES);
  CHECK(memcmp(r.body.ptr, the.big, FC_BIG_BYTES) == 0);
  CHECK(client_reply(&c, &r, false) && r.body.len == 5000);
  CHECK(client_reply(&c, &r, false) && r.status == 204);
  client_expects(&c, 200, "hello");
  if (refused) CHECK(client_reply(&c, &r, false) && r.status == 400 && c.eof);
  CHECK_INT(c.len, c.at);
}

/* The n-th allocation fails, alone or with all after it. False: there were not so many. */
static bool conversation_without_memory(long n, bool once) {
  app_open();
  write_script(once);
  the.mem.total = 0;
  the.mem.fail_at = n;
  the.mem.once = once;
  fake.recv_max = 10000;
  client_open(&c);
  play();
  bool failed = the.mem.total > n;
  CHECK(the.gones <= the.requests);
  if (!failed) expect_all_replies(once);
  else CHECK_INT(the.server->conn_count, 0);
  client_close(&c);
  app_close();
  return failed;
}

static void test_out_of_memory(void) {
  for (int once = 0; once < 2; once++) {
    long n = 0;
    while (conversation_without_memory(n, once)) n++;
    CHECK(n > 12);
  }
}

static long calls_left;
static int calls_error;
static bool calls_failed;

static int count_down(void) {
  if (calls_left-- > 0) return 0;
  calls_failed = true;
  return calls_error;
}

static ssize_t failing_recv(int fd, void *buf, size_t len) {
  int err = count_down();
  return err ? err : fakesys_recv(fd, buf, len);
}

static ssize_t failing_sendv(int fd, const struct iovec *iov, int count) {
  int err = count_down();
  return err ? err : fakesys_sendv(fd, iov, count);
}

/* The n-th recv or send of the server, and every one after it, is an error. */
static bool conversation_cut(long n, int err) {
  app_open();
  write_script(false);
  fc_sys failing = fakesys_table;
  failing.recv = failing_recv;
  failing.sendv = failing_sendv;
  the.reactor->sys = &failing;
  fake.recv_max = 5000;
  fake.send_max = 100000;
  calls_left = n;
  calls_error = err;
  calls_failed = false;
  client_open(&c);
  play();
  CHECK(the.gones <= the.requests);
  if (calls_failed) CHECK_INT(the.server->conn_count, 0);
  else expect_all_replies(false);
  client_close(&c);
  app_close();
  return calls_failed;
}

static void test_cut(void) {
  static const int errors[] = {-ECONNRESET, -EPIPE, -ETIMEDOUT};
  for (int i = 0; i < 3; i++) {
    long n = 0;
    while (conversation_cut(n, errors[i])) n++;
    CHECK(n > 20);
  }
}

static rng faults;

static ssize_t erratic_recv(int fd, void *buf, size_t len) {
  if (rng_below(&faults, 4) == 0) return -EAGAIN;
  fake.recv_max = (size_t)rng_span(&faults, 16) + 1;
  return fakesys_recv(fd, buf, len);
}

static ssize_t erratic_sendv(int fd, const struct iovec *iov, int count) {
  if (rng_below(&faults, 4) == 0) return -EAGAIN;
  fake.send_max = (size_t)rng_span(&faults, 18) + 1;
  return fakesys_sendv(fd, iov, count);
}

/* Short reads and writes and false events of any size: the replies are the same to the byte. */
static void test_erratic(void) {
  for (uint64_t seed = 1; seed <= 25; seed++) {
    app_open();
    write_script(seed & 1);
    fc_sys erratic = fakesys_table;
    erratic.recv = erratic_recv;
    erratic.sendv = erratic_sendv;
    the.reactor->sys = &erratic;
    faults = rng_seeded(seed);
    client_open(&c);
    play();
    expect_all_replies(seed & 1);
    client_close(&c);
    app_close();
  }
}

int main(void) {
  RUN(test_out_of_memory);
  RUN(test_cut);
  RUN(test_erratic);
  return 0;
}
