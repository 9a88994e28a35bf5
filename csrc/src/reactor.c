#include "fc/reactor.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "fc/err.h"
#include "reactor_private.h"

/* A node that is not whole yet hides those behind it; its sender wakes the reactor once it is. */
static void run_posts(fc_reactor *r) {
  for (int i = 0; i < FC_REACTOR_MAX_POSTS; i++) {
    fc_mpsc_node *node = fc_mpsc_pop(&r->inbox);
    if (!node) return;
    fc_post *p = FC_CONTAINER(node, fc_post, node);
    p->run(p);
  }
  if (!fc_mpsc_empty(&r->inbox)) fc_reactor_wake(r);
}

/* The counter is emptied before the flag falls, so that a wake-up which comes between the two is
 * not lost: this one serves it. The flag falls by an exchange, not a store, because that makes what
 * every waker did before visible here. */
static void wake_ready(fc_source *s, uint32_t events) {
  (void)events;
  fc_reactor *r = FC_CONTAINER(s, fc_reactor, wake);
  uint64_t count;
  ssize_t n = read(s->fd, &count, sizeof count);
  (void)n;
  atomic_exchange(&r->woken, 0);
  run_posts(r);
}

void fc_reactor_post(fc_reactor *r, fc_post *p) {
  fc_mpsc_push(&r->inbox, &p->node);
  fc_reactor_wake(r);
}

void fc_reactor_wake(fc_reactor *r) {
  if (atomic_exchange(&r->woken, 1)) return;
  int saved = errno;
  uint64_t one = 1;
  ssize_t n = write(r->wake.fd, &one, sizeof one);
  (void)n;
  errno = saved;
}

int fc_reactor_open(fc_reactor **out, const fc_reactor_config *config) {
  static const fc_reactor_config none = {0};
  if (!config) config = &none;
  const fc_mem *mem = config->mem ? config->mem : &fc_mem_libc;
  int err = FC_ENOMEM;
  fc_reactor *r = fc_zalloc(mem, sizeof *r);
  if (!r) return err;
  r->mem = mem;
  r->clock = config->clock ? config->clock : &fc_clock_system;
  r->sys = config->sys ? config->sys : &fc_sys_posix;
  fc_list_init(&r->soon);
  fc_list_init(&r->flush);
  fc_list_init(&r->graves);
  fc_mpsc_init(&r->inbox);
  fc_timers_init(&r->timers, fc_reactor_tick(r));
  r->pool = fc_pool_new(mem);
  if (!r->pool) goto no_pool;
  if ((err = fc_backend_open(r)) < 0) goto no_backend;
  int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  err = -errno;
  if (fd < 0) goto no_wake;
  fc_source_init(&r->wake, fd, wake_ready);
  if ((err = fc_source_set(r, &r->wake, FC_READ)) < 0) goto no_watch;
  *out = r;
  return 0;

no_watch:
  close(fd);
no_wake:
  fc_backend_close(r);
no_backend:
  fc_pool_close(r->pool);
no_pool:
  fc_free(mem, r);
  return err;
}

static void run_all(fc_list *batch) {
  for (fc_list *node; (node = fc_list_pop(batch));) {
    fc_task *t = FC_CONTAINER(node, fc_task, link);
    t->run(t);
  }
}

/* What is put on the list meanwhile waits for the next time. */
static void run_once(fc_list *list) {
  fc_list batch;
  fc_list_init(&batch);
  fc_list_splice(&batch, list);
  run_all(&batch);
}

void fc_reactor_close(fc_reactor *r) {
  run_all(&r->graves);
  close(r->wake.fd);
  fc_backend_close(r);
  fc_pool_close(r->pool);
  fc_free(r->mem, r);
}

int fc_source_set(fc_reactor *r, fc_source *s, uint32_t events) {
  if (events == s->events) return 0;
  int err = fc_backend_set(r, s, events);
  if (err < 0 && events != 0) return err;
  s->events = events;
  if (events != 0) return 0;
  for (int i = r->batch_at; i < r->batch_len; i++) {
    uint32_t ignored;
    if (fc_backend_event(r, i, &ignored, false) == s) fc_backend_event(r, i, &ignored, true);
  }
  return 0;
}

int64_t fc_reactor_timeout(const fc_reactor *r, int64_t timeout_ns) {
  if (timeout_ns == 0 || !fc_list_empty(&r->soon) || !fc_list_empty(&r->flush)) return 0;
  uint64_t next = fc_timers_next_ns(&r->timers);
  if (next == FC_TIMER_NEVER) return timeout_ns;
  uint64_t now = r->clock->now_ns(r->clock->ctx);
  if (next <= now) return 0;
  uint64_t left = next - now;
  if (left > INT64_MAX) left = INT64_MAX;
  return timeout_ns < 0 || (int64_t)left < timeout_ns ? (int64_t)left : timeout_ns;
}

int fc_reactor_wait(fc_reactor *r, int64_t timeout_ns) {
  r->batch_at = 0;
  int n = fc_backend_wait(r, timeout_ns);
  r->polls++;
  return n;
}

void fc_reactor_dispatch(fc_reactor *r) {
  fc_list left;
  fc_list_init(&left);
  fc_list_splice(&left, &r->soon);
  fc_reactor_tick(r);
  r->events += (uint64_t)r->batch_len;
  /* batch_at is moved first: a source that is removed by its own callback must not look for itself
   * in the entry that is being served. */
  while (r->batch_at < r->batch_len) {
    uint32_t events;
    fc_source *s = fc_backend_event(r, r->batch_at++, &events, false);
    if (!s) continue;
    /* What was asked for may have changed since the kernel answered. */
    events &= s->events | FC_ERROR;
    if (events) s->ready(s, events);
  }
  run_all(&left);
  fc_timers_advance(&r->timers, r->now_ns);
}

void fc_reactor_end_turn(fc_reactor *r) {
  run_once(&r->flush);
  run_all(&r->graves);
}
