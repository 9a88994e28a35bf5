/* Accepting, from real sockets and with faults put in between. */
#include "failmem.h"
#include "fakeclock.h"
#include "fakesys.h"
#include "fc/listener.h"
#include "turn.h"

typedef struct accepting {
  fc_listener listener;
  int fd;
  struct sockaddr_in at;
  int accepted, exhausted, last_error;
  uint16_t peer_port;
  void (*then)(struct accepting *a);
} accepting;

static fakeclock now;
static fc_reactor *reactor;

static void on_accept(fc_listener *l, int fd, const struct sockaddr *peer, socklen_t len) {
  accepting *a = FC_CONTAINER(l, accepting, listener);
  CHECK_INT(len, sizeof(struct sockaddr_in));
  CHECK_INT(peer->sa_family, AF_INET);
  a->peer_port = ((const struct sockaddr_in *)peer)->sin_port;
  CHECK(fcntl(fd, F_GETFL) & O_NONBLOCK);
  CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
  a->accepted++;
  close(fd);
  if (a->then) a->then(a);
}

static void on_exhausted(fc_listener *l, int err) {
  accepting *a = FC_CONTAINER(l, accepting, listener);
  a->exhausted++;
  a->last_error = err;
  if (a->then) a->then(a);
}

static void setup(accepting *a) {
  fakesys_reset();
  fakeclock_init(&now);
  fc_reactor_config config = {.clock = &now.clock, .sys = &fakesys_table};
  CHECK_INT(fc_reactor_open(&reactor, &config), 0);
  *a = (accepting){.listener = {.on_accept = on_accept, .on_exhausted = on_exhausted}};
  a->fd = tcp_listen(&a->at);
  CHECK_INT(fc_listener_open(&a->listener, reactor, a->fd), 0);
}

static void teardown(accepting *a) {
  fc_listener_close(&a->listener);
  fc_listener_close(&a->listener);
  fc_listener_hold(&a->listener, true);
  CHECK_INT(reactor->timers.count, 0);
  CHECK(fcntl(a->fd, F_GETFD) >= 0); /* the descriptor stays the caller's */
  CHECK_INT(turn(reactor), 0);
  close(a->fd);
  fc_reactor_close(reactor);
}

static void connect_and_close(const accepting *a, int count) {
  while (count-- > 0) close(tcp_connect(&a->at));
}

static void test_accept(void) {
  accepting a;
  setup(&a);
  turn(reactor);
  CHECK_INT(a.accepted, 0);
  int fd = tcp_connect(&a.at);
  struct sockaddr_in own;
  socklen_t len = sizeof own;
  CHECK_INT(getsockname(fd, (struct sockaddr *)&own, &len), 0);
  turn(reactor);
  CHECK_INT(a.accepted, 1);
  CHECK_INT(a.peer_port, own.sin_port);
  close(fd);
  teardown(&a);
}

static void test_budget(void) {
  accepting a;
  setup(&a);
  connect_and_close(&a, FC_LISTENER_BUDGET + 20);
  turn(reactor);
  CHECK_INT(a.accepted, FC_LISTENER_BUDGET);
  turn(reactor);
  CHECK_INT(a.accepted, FC_LISTENER_BUDGET + 20);
  teardown(&a);
}

/* Out of descriptors: a pause without events, then another try, for as long as it lasts. */
static void test_exhausted(void) {
  static const int errors[] = {-EMFILE, -ENFILE, -ENOBUFS, -ENOMEM};
  for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
    accepting a;
    setup(&a);
    fake.accept_error = errors[i];
    connect_and_close(&a, 3);
    turn(reactor);
    CHECK_INT(fake.accepts, 1);
    CHECK_INT(a.exhausted, 1);
    CHECK_INT(a.last_error, errors[i]);
    CHECK_INT(turn(reactor), 0);
    int64_t wait = fc_reactor_timeout(reactor, FC_WAIT_FOREVER);
    CHECK(wait > 0 && wait <= (int64_t)FC_LISTENER_PAUSE_NS + 1024);
    fakeclock_turn(&now, FC_LISTENER_PAUSE_NS + 1024);
    turns(reactor, 2);
    CHECK_INT(a.exhausted, 2);
    CHECK_INT(a.accepted, 0);
    fake.accept_error = 0;
    fakeclock_turn(&now, FC_LISTENER_PAUSE_NS + 1024);
    turns(reactor, 2);
    CHECK_INT(a.accepted, 3);
    CHECK_INT(a.exhausted, 2);
    teardown(&a);
  }
}

static void test_exhausted_without_a_callback(void) {
  accepting a;
  setup(&a);
  a.listener.on_exhausted = NULL;
  fake.accept_error = -EMFILE;
  connect_and_close(&a, 1);
  turns(reactor, 3);
  CHECK_INT(fake.accepts, 1);
  teardown(&a); /* in the midst of the pause */
}

/* A peer that gave up is no reason to pause; nor does a row of them take the whole turn. */
static void test_errors_of_the_peer(void) {
  static const int errors[] = {-ECONNABORTED, -EPROTO, -ENETUNREACH, -EPERM};
  for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
    accepting a;
    setup(&a);
    fake.accept_error = errors[i];
    connect_and_close(&a, 2);
    turn(reactor);
    CHECK_INT(fake.accepts, FC_LISTENER_BUDGET);
    CHECK_INT(a.exhausted, 0);
    fake.accept_error = 0;
    turn(reactor);
    CHECK_INT(a.accepted, 2);
    teardown(&a);
  }
}

static void test_hold(void) {
  accepting a;
  setup(&a);
  fc_listener_hold(&a.listener, true);
  fc_listener_hold(&a.listener, true);
  connect_and_close(&a, 2);
  CHECK_INT(turn(reactor), 0);
  fc_listener_hold(&a.listener, false);
  turn(reactor);
  CHECK_INT(a.accepted, 2);
  teardown(&a);
}

/* Held and released while it pauses for want of descriptors, before and after the pause is over. */
static void test_hold_while_exhausted(void) {
  for (int late = 0; late < 2; late++) {
    accepting a;
    setup(&a);
    fake.accept_error = -EMFILE;
    connect_and_close(&a, 1);
    turn(reactor);
    fake.accept_error = 0;
    fc_listener_hold(&a.listener, true);
    if (late) {
      fakeclock_turn(&now, FC_LISTENER_PAUSE_NS + 1024);
      turns(reactor, 2);
      CHECK_INT(a.accepted, 0);
    }
    fc_listener_hold(&a.listener, false);
    turn(reactor);
    CHECK_INT(a.accepted, late);
    fakeclock_turn(&now, FC_LISTENER_PAUSE_NS + 1024);
    turns(reactor, 2);
    CHECK_INT(a.accepted, 1);
    teardown(&a);
  }
}

static void then_close(accepting *a) {
  fc_listener_close(&a->listener);
}

static void then_hold(accepting *a) {
  fc_listener_hold(&a->listener, true);
}

/* Closed or held in the callback for the first of several. */
static void test_ended_in_callback(void) {
  accepting a;
  setup(&a);
  a.then = then_close;
  connect_and_close(&a, 3);
  turns(reactor, 2);
  CHECK_INT(a.accepted, 1);
  teardown(&a);

  setup(&a);
  a.then = then_hold;
  connect_and_close(&a, 3);
  turns(reactor, 2);
  CHECK_INT(a.accepted, 1);
  a.then = NULL;
  fc_listener_hold(&a.listener, false);
  turn(reactor);
  CHECK_INT(a.accepted, 3);
  teardown(&a);

  setup(&a);
  a.then = then_close;
  fake.accept_error = -EMFILE;
  connect_and_close(&a, 3);
  turn(reactor);
  CHECK_INT(a.exhausted, 1);
  CHECK_INT(reactor->timers.count, 0);
  teardown(&a);
}

static void test_open_fails(void) {
  accepting a;
  setup(&a);
  fc_listener other = {.on_accept = on_accept};
  CHECK_INT(fc_listener_open(&other, reactor, 999), -EBADF);
  teardown(&a);
}

int main(void) {
  RUN(test_accept);
  RUN(test_budget);
  RUN(test_exhausted);
  RUN(test_exhausted_without_a_callback);
  RUN(test_errors_of_the_peer);
  RUN(test_hold);
  RUN(test_hold_while_exhausted);
  RUN(test_ended_in_callback);
  RUN(test_open_fails);
  return 0;
}
