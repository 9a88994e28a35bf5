/* The reactor: events, tasks, timers and the order of a turn. */
#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <time.h>

#include "failmem.h"
#include "fakeclock.h"
#include "fc/err.h"
#include "turn.h"

static fc_reactor *open_reactor(const fc_clock *clock) {
  fc_reactor *r;
  fc_reactor_config config = {.clock = clock};
  CHECK_INT(fc_reactor_open(&r, &config), 0);
  return r;
}

static int open_descriptors(void) {
  int n = 0;
  for (int fd = 0; fd < 256; fd++) n += fcntl(fd, F_GETFD) >= 0;
  return n;
}

static void test_open_without_memory(void) {
  int before = open_descriptors();
  failmem mem;
  for (long at = 0;; at++) {
    failmem_init(&mem, at);
    fc_reactor *r = NULL;
    fc_reactor_config config = {.mem = &mem.mem};
    int err = fc_reactor_open(&r, &config);
    if (err == 0) {
      CHECK(at >= 3);
      fc_reactor_close(r);
      CHECK_INT(mem.live, 0);
      break;
    }
    CHECK_INT(err, FC_ENOMEM);
    CHECK_INT(mem.live, 0);
    CHECK_INT(open_descriptors(), before);
  }
  CHECK_INT(open_descriptors(), before);
}

/* With the table of descriptors full at either of the two it takes. */
static void test_open_without_descriptors(void) {
  failmem mem;
  failmem_init(&mem, -1);
  fc_reactor_config config = {.mem = &mem.mem};
  struct rlimit old, few;
  CHECK(getrlimit(RLIMIT_NOFILE, &old) == 0);
  few = (struct rlimit){.rlim_cur = 100, .rlim_max = old.rlim_max};
  CHECK(setrlimit(RLIMIT_NOFILE, &few) == 0);
  for (int spare = 0; spare < 2; spare++) {
    int held[100], count = 0;
    while (count < 100 && (held[count] = dup(0)) >= 0) count++;
    CHECK(count < 100 && errno == EMFILE);
    for (int i = 0; i < spare; i++) close(held[--count]);
    fc_reactor *r;
    CHECK_INT(fc_reactor_open(&r, &config), -EMFILE);
    CHECK_INT(mem.live, 0);
    for (int i = 0; i < spare; i++) CHECK((held[count++] = dup(0)) >= 0); /* none is lost */
    while (count > 0) close(held[--count]);
  }
  CHECK(setrlimit(RLIMIT_NOFILE, &old) == 0);
}

/* ---- events ---------------------------------------------------------------------------------- */

typedef struct watch {
  fc_source source;
  fc_reactor *reactor;
  int peer;
  int calls;
  uint32_t events; /* of the last call */
  void (*then)(struct watch *w);
  struct watch *other;
} watch;

static void watch_ready(fc_source *s, uint32_t events) {
  watch *w = FC_CONTAINER(s, watch, source);
  w->calls++;
  w->events = events;
  if (w->then) w->then(w);
}

static void watch_open(watch *w, fc_reactor *r, uint32_t events) {
  int fd[2];
  unix_pair(fd);
  *w = (watch){.reactor = r, .peer = fd[1]};
  fc_source_init(&w->source, fd[0], watch_ready);
  CHECK_INT(fc_source_set(r, &w->source, events), 0);
}

static void watch_close(watch *w) {
  fc_source_set(w->reactor, &w->source, 0);
  close(w->source.fd);
  close(w->peer);
}

static void test_events(void) {
  fc_reactor *r = open_reactor(NULL);
  watch w;
  watch_open(&w, r, FC_READ);
  CHECK_INT(turn(r), 0);
  CHECK_INT(send(w.peer, "x", 1, 0), 1);
  turns(r, 2);
  CHECK_INT(w.calls, 2); /* level-triggered */
  CHECK_INT(w.events, FC_READ);
  fc_source_set(r, &w.source, FC_READ | FC_WRITE);
  turn(r);
  CHECK_INT(w.events, FC_READ | FC_WRITE);
  fc_source_set(r, &w.source, FC_WRITE);
  turn(r);
  CHECK_INT(w.events, FC_WRITE);
  fc_source_set(r, &w.source, 0);
  fc_source_set(r, &w.source, 0);
  CHECK_INT(turn(r), 0);
  fc_source_set(r, &w.source, FC_PEER_GONE);
  CHECK_INT(turn(r), 0); /* the unread byte is of no interest */
  shutdown(w.peer, SHUT_WR);
  turn(r);
  CHECK_INT(w.events, FC_PEER_GONE);
  CHECK_INT(w.calls, 5);
  watch_close(&w);
  fc_reactor_close(r);
}

static void test_set_fails(void) {
  fc_reactor *r = open_reactor(NULL);
  fc_source s;
  fc_source_init(&s, 999, watch_ready);
  CHECK_INT(fc_source_set(r, &s, FC_READ), -EBADF);
  CHECK_INT(s.events, 0);
  fc_reactor_close(r);
}

/* A descriptor that was closed behind our back and is in use again: a change adds it anew. */
static void test_descriptor_replaced(void) {
  fc_reactor *r = open_reactor(NULL);
  watch w;
  watch_open(&w, r, FC_READ);
  int fd[2];
  unix_pair(fd);
  CHECK(dup2(fd[0], w.source.fd) == w.source.fd);
  CHECK_INT(fc_source_set(r, &w.source, FC_READ | FC_WRITE), 0);
  turn(r);
  CHECK_INT(w.events, FC_WRITE);
  watch_close(&w);
  close(fd[0]);
  close(fd[1]);
  fc_reactor_close(r);
}

static void remove_other(watch *w) {
  fc_source_set(w->reactor, &w->other->source, 0);
}

static void remove_both(watch *w) {
  remove_other(w);
  fc_source_set(w->reactor, &w->source, 0);
}

/* Of two that are ready at once the first removes the second, which is then not called. */
static void test_stale_event(void) {
  for (int both = 0; both < 2; both++) {
    fc_reactor *r = open_reactor(NULL);
    watch a, b;
    watch_open(&a, r, FC_WRITE);
    watch_open(&b, r, FC_WRITE);
    a.other = &b;
    b.other = &a;
    a.then = b.then = both ? remove_both : remove_other;
    CHECK_INT(turn(r), 2);
    CHECK_INT(a.calls + b.calls, 1);
    CHECK_INT(turn(r), both ? 0 : 1);
    watch_close(&a);
    watch_close(&b);
    fc_reactor_close(r);
  }
}

static void narrow_other(watch *w) {
  fc_source_set(w->reactor, &w->other->source, FC_WRITE);
  w->other->then = NULL;
}

static void renew_other(watch *w) {
  fc_source_set(w->reactor, &w->other->source, 0);
  fc_source_set(w->reactor, &w->other->source, FC_PEER_GONE);
  w->other->then = NULL;
}

/* Neither is a source called for what it no longer asks for. */
static void test_narrowed_event(void) {
  for (int renew = 0; renew < 2; renew++) {
    fc_reactor *r = open_reactor(NULL);
    watch w[2];
    for (int i = 0; i < 2; i++) {
      watch_open(&w[i], r, FC_READ);
      CHECK_INT(send(w[i].peer, "x", 1, 0), 1);
      w[i].other = &w[1 - i];
      w[i].then = renew ? renew_other : narrow_other;
    }
    CHECK_INT(turn(r), 2);
    CHECK_INT(w[0].calls + w[1].calls, 1);
    watch_close(&w[0]);
    watch_close(&w[1]);
    fc_reactor_close(r);
  }
}

static void close_other(watch *w) {
  watch *o = w->other;
  if (!o) return;
  w->other = NULL;
  watch_close(o);
  free(o);
}

/* Sources freed by others in the same batch: a whole ring of them. */
static void test_freed_in_batch(void) {
  enum { COUNT = 64 };
  fc_reactor *r = open_reactor(NULL);
  watch *w[COUNT];
  for (int i = 0; i < COUNT; i++) {
    w[i] = malloc(sizeof *w[i]);
    watch_open(w[i], r, FC_WRITE);
    w[i]->then = close_other;
  }
  for (int i = 0; i < COUNT; i += 2) w[i]->other = w[i + 1];
  CHECK_INT(turn(r), COUNT);
  CHECK_INT(turn(r), COUNT / 2);
  for (int i = 0; i < COUNT; i += 2) {
    CHECK_INT(w[i]->calls, 2);
    watch_close(w[i]);
    free(w[i]);
  }
  fc_reactor_close(r);
}

/* ---- the order of a turn --------------------------------------------------------------------- */

static char trace[64];

static void note(char c) {
  size_t n = strlen(trace);
  CHECK(n + 1 < sizeof trace);
  trace[n] = c;
  trace[n + 1] = 0;
}

static void expect_trace(const char *expected) {
  if (strcmp(trace, expected) != 0) fprintf(stderr, "trace: %s\n", trace);
  CHECK(strcmp(trace, expected) == 0);
  trace[0] = 0;
}

typedef struct step {
  fc_task task;
  char name;
  fc_reactor *reactor;
  struct step *soon, *flush, *bury; /* put off by this one */
} step;

static void step_go(step *s) {
  note(s->name);
  if (s->soon) fc_reactor_soon(s->reactor, &s->soon->task);
  if (s->flush) fc_reactor_flush_later(s->reactor, &s->flush->task);
  if (s->bury) fc_reactor_bury(s->reactor, &s->bury->task);
}

static void step_run(fc_task *t) {
  step_go(FC_CONTAINER(t, step, task));
}

static step step_of(fc_reactor *r, char name) {
  step s = {.name = name, .reactor = r};
  return s;
}

static step *source_step, *timer_step;

static void source_then(watch *w) {
  fc_source_set(w->reactor, &w->source, 0);
  step_go(source_step);
}

static void timer_then(fc_timer *t) {
  (void)t;
  step_go(timer_step);
}

static void test_order(void) {
  fakeclock clock;
  fakeclock_init(&clock);
  fc_reactor *r = open_reactor(&clock.clock);
  step s[8];
  for (int i = 0; i < 8; i++) {
    s[i] = step_of(r, (char)('a' + i));
    fc_task_init(&s[i].task, step_run);
  }
  step ready = step_of(r, 'R'), timer = step_of(r, 'T');
  source_step = &ready;
  timer_step = &timer;
  watch w;
  watch_open(&w, r, FC_WRITE);
  w.then = source_then;
  fc_timer t;
  fc_timer_init(&t, timer_then);
  fc_timer_arm(&r->timers, &t, clock.now_ns);
  fc_reactor_soon(r, &s[0].task);
  fc_reactor_soon(r, &s[0].task); /* once */
  fc_reactor_flush_later(r, &s[1].task);
  fc_reactor_bury(r, &s[2].task);
  ready.soon = &s[3];  /* the next turn */
  s[0].soon = &s[4];   /* the next turn */
  timer.flush = &s[5]; /* this turn's end */
  s[1].flush = &s[6];  /* the next turn's end */
  s[2].bury = &s[7];   /* still this turn's end, or it could wait for ever */
  turn(r);
  expect_trace("RaTbfch");
  CHECK_INT(fc_reactor_timeout(r, FC_WAIT_FOREVER), 0);
  turn(r);
  expect_trace("deg");
  CHECK_INT(fc_reactor_timeout(r, FC_WAIT_FOREVER), FC_WAIT_FOREVER);
  watch_close(&w);
  fc_reactor_bury(r, &s[2].task);
  fc_reactor_close(r);
  expect_trace("ch");
}

static void unlink_other(fc_task *t) {
  step *s = FC_CONTAINER(t, step, task);
  note(s->name);
  fc_list_unlink(&s->soon->task.link);
}

/* A task may take back another of the same batch. */
static void test_task_taken_back(void) {
  fc_reactor *r = open_reactor(NULL);
  step a = step_of(r, 'a'), b = step_of(r, 'b');
  fc_task_init(&a.task, unlink_other);
  fc_task_init(&b.task, step_run);
  a.soon = &b;
  fc_reactor_soon(r, &a.task);
  fc_reactor_soon(r, &b.task);
  turns(r, 2);
  expect_trace("a");
  fc_reactor_close(r);
}

/* ---- time ------------------------------------------------------------------------------------ */

static void timer_nothing(fc_timer *t) {
  (void)t;
}

static void test_timeout(void) {
  fakeclock clock;
  fakeclock_init(&clock);
  fc_reactor *r = open_reactor(&clock.clock);
  CHECK_INT(fc_reactor_timeout(r, FC_WAIT_FOREVER), FC_WAIT_FOREVER);
  CHECK_INT(fc_reactor_timeout(r, 0), 0);
  CHECK_INT(fc_reactor_timeout(r, 12345), 12345);
  fc_timer t;
  fc_timer_init(&t, timer_nothing);
  uint64_t at = clock.now_ns + 40 * 1024;
  fc_timer_arm(&r->timers, &t, at);
  int64_t wait = fc_reactor_timeout(r, FC_WAIT_FOREVER);
  CHECK(wait > 0 && wait <= 41 * 1024);
  CHECK_INT(fc_reactor_timeout(r, 10), 10);
  CHECK_INT(fc_reactor_timeout(r, INT64_MAX), wait);
  fakeclock_turn(&clock, 50 * 1024);
  CHECK_INT(fc_reactor_timeout(r, FC_WAIT_FOREVER), 0);
  turn(r);
  CHECK_INT(fc_reactor_timeout(r, FC_WAIT_FOREVER), FC_WAIT_FOREVER);
  fc_timer_arm(&r->timers, &t, UINT64_MAX);
  CHECK(fc_reactor_timeout(r, FC_WAIT_FOREVER) > 0);
  fc_timer_cancel(&r->timers, &t);
  step s = step_of(r, 's');
  fc_task_init(&s.task, step_run);
  fc_reactor_flush_later(r, &s.task);
  CHECK_INT(fc_reactor_timeout(r, FC_WAIT_FOREVER), 0);
  turn(r);
  fc_reactor_soon(r, &s.task);
  CHECK_INT(fc_reactor_timeout(r, FC_WAIT_FOREVER), 0);
  turn(r);
  expect_trace("ss");
  fc_reactor_close(r);
}

static void test_system_clock(void) {
  const fc_clock *clock = &fc_clock_system;
  uint64_t start = clock->now_ns(clock->ctx);
  CHECK(clock->now_ns(clock->ctx) >= start);
  int64_t before = time(NULL), unix_s = clock->unix_s(clock->ctx);
  CHECK(unix_s >= before - 1 && unix_s <= time(NULL));
}

/* Waits around and below a millisecond: never early. */
static void test_waits_are_not_early(void) {
  fc_reactor *r = open_reactor(NULL);
  static const int64_t waits[] = {1, 1000, 50000, 300000, 999999, 1000001, 2500000};
  for (size_t i = 0; i < sizeof waits / sizeof waits[0]; i++) {
    uint64_t start = fc_reactor_tick(r);
    CHECK_INT(fc_reactor_wait(r, waits[i]), 0);
    CHECK(fc_reactor_tick(r) - start >= (uint64_t)waits[i]);
  }
  fc_reactor_close(r);
}

static fc_reactor *signalled;
static int wake_from_signal;

static void on_alarm(int number) {
  (void)number;
  if (wake_from_signal) fc_reactor_wake(signalled);
}

/* A signal ends the wait, and may wake the reactor for good. */
static void test_signal(void) {
  signalled = open_reactor(NULL);
  struct sigaction act = {.sa_handler = on_alarm}, old;
  sigaction(SIGALRM, &act, &old);
  for (wake_from_signal = 0; wake_from_signal < 2; wake_from_signal++) {
    struct itimerval soon = {.it_value = {0, 2000}};
    setitimer(ITIMER_REAL, &soon, NULL);
    uint64_t start = fc_reactor_tick(signalled);
    CHECK_INT(fc_reactor_wait(signalled, 20 * (int64_t)FC_NS_PER_S), 0);
    CHECK(fc_reactor_tick(signalled) - start < 10 * FC_NS_PER_S);
    fc_reactor_dispatch(signalled);
    CHECK_INT(fc_reactor_wait(signalled, 0), wake_from_signal);
    fc_reactor_dispatch(signalled);
  }
  sigaction(SIGALRM, &old, NULL);
  fc_reactor_close(signalled);
}

/* Any number of wake-ups end one wait, and errno is left alone. */
static void test_wake(void) {
  fc_reactor *r = open_reactor(NULL);
  for (int round = 0; round < 3; round++) {
    errno = EDOM;
    for (int i = 0; i < 5; i++) fc_reactor_wake(r);
    CHECK_INT(errno, EDOM);
    uint64_t count = 0;
    CHECK_INT(read(r->wake.fd, &count, sizeof count), sizeof count);
    CHECK_INT(count, 1); /* one write */
    CHECK_INT(write(r->wake.fd, &count, sizeof count), sizeof count);
    CHECK_INT(fc_reactor_wait(r, FC_WAIT_FOREVER), 1);
    fc_reactor_dispatch(r);
    CHECK_INT(fc_reactor_wait(r, 0), 0);
  }
  fc_reactor_close(r);
}

typedef struct letter {
  fc_post post;
  fc_reactor *reactor;
  int runs, again;
} letter;

static void run_letter(fc_post *p) {
  letter *l = FC_CONTAINER(p, letter, post);
  l->runs++;
  if (l->again-- > 0) fc_reactor_post(l->reactor, &l->post);
}

/* What is posted runs in the next turn; a flood of posts leaves the turn to others in between; what
 * was never run goes with the reactor. */
static void test_posts(void) {
  fc_reactor *r;
  CHECK_INT(fc_reactor_open(&r, NULL), 0);
  letter one = {.post.run = run_letter, .reactor = r};
  fc_reactor_post(r, &one.post);
  CHECK_INT(one.runs, 0);
  CHECK_INT(fc_reactor_wait(r, FC_WAIT_FOREVER), 1);
  fc_reactor_dispatch(r);
  CHECK_INT(one.runs, 1);
  CHECK_INT(turn(r), 0);

  static letter many[FC_REACTOR_MAX_POSTS + 10];
  for (size_t i = 0; i < FC_REACTOR_MAX_POSTS + 10; i++) {
    many[i] = (letter){.post.run = run_letter, .reactor = r};
    fc_reactor_post(r, &many[i].post);
  }
  turn(r);
  CHECK_INT(many[FC_REACTOR_MAX_POSTS - 1].runs, 1);
  CHECK_INT(many[FC_REACTOR_MAX_POSTS].runs, 0);
  turn(r);
  CHECK_INT(many[FC_REACTOR_MAX_POSTS + 9].runs, 1);
  CHECK_INT(turn(r), 0);

  one.again = 3 * FC_REACTOR_MAX_POSTS;
  fc_reactor_post(r, &one.post);
  for (int turns_taken = 1; one.again >= 0; turns_taken++) {
    turn(r);
    CHECK(one.runs <= 1 + turns_taken * FC_REACTOR_MAX_POSTS);
  }
  fc_reactor_post(r, &many[0].post);
  fc_reactor_close(r);
  CHECK_INT(many[0].runs, 1);
}

int main(void) {
  RUN(test_open_without_memory);
  RUN(test_open_without_descriptors);
  RUN(test_events);
  RUN(test_set_fails);
  RUN(test_descriptor_replaced);
  RUN(test_stale_event);
  RUN(test_narrowed_event);
  RUN(test_freed_in_batch);
  RUN(test_order);
  RUN(test_task_taken_back);
  RUN(test_timeout);
  RUN(test_system_clock);
  RUN(test_waits_are_not_early);
  RUN(test_signal);
  RUN(test_wake);
  RUN(test_posts);
  return 0;
}
