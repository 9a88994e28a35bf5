#include <errno.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "fc/err.h"
#include "reactor_private.h"

#if defined(__GLIBC__)
#if __GLIBC_PREREQ(2, 35)
#define HAVE_PWAIT2
#endif
#endif

int fc_backend_open(fc_reactor *r) {
  r->batch = fc_alloc(r->mem, sizeof(struct epoll_event) * FC_REACTOR_BATCH);
  if (!r->batch) return FC_ENOMEM;
  r->backend_fd = epoll_create1(EPOLL_CLOEXEC);
  if (r->backend_fd >= 0) return 0;
  int err = -errno;
  fc_free(r->mem, r->batch);
  return err;
}

void fc_backend_close(fc_reactor *r) {
  close(r->backend_fd);
  fc_free(r->mem, r->batch);
}

/* A descriptor that was closed and opened again behind our back has left the set: a change then
 * finds nothing to change, and is an addition. */
int fc_backend_set(fc_reactor *r, fc_source *s, uint32_t events) {
  struct epoll_event e = {.data.ptr = s};
  if (events & FC_READ) e.events |= EPOLLIN;
  if (events & FC_WRITE) e.events |= EPOLLOUT;
  if (events & FC_PEER_GONE) e.events |= EPOLLRDHUP;
  int op = s->events == 0 ? EPOLL_CTL_ADD : events == 0 ? EPOLL_CTL_DEL : EPOLL_CTL_MOD;
  int err = epoll_ctl(r->backend_fd, op, s->fd, &e) < 0 ? -errno : 0;
  if (err == -ENOENT && op == EPOLL_CTL_MOD)
    err = epoll_ctl(r->backend_fd, EPOLL_CTL_ADD, s->fd, &e) < 0 ? -errno : 0;
  return err;
}

/* epoll_wait() counts milliseconds. Where the kernel has epoll_pwait2() (5.11) a timer below one
 * costs no busy polling; elsewhere (or where a sandbox forbids it, which is EPERM) the wait is
 * rounded up, since a timer is never early. */
static int wait_ns(fc_reactor *r, int64_t timeout_ns) {
  if (timeout_ns > 0) {
#ifdef HAVE_PWAIT2
    struct timespec t = {timeout_ns / (int64_t)FC_NS_PER_S, timeout_ns % (int64_t)FC_NS_PER_S};
    int n = epoll_pwait2(r->backend_fd, r->batch, FC_REACTOR_BATCH, &t, NULL);
    if (n >= 0 || (errno != ENOSYS && errno != EPERM)) return n;
#endif
    int64_t ms = (timeout_ns + (int64_t)FC_NS_PER_MS - 1) / (int64_t)FC_NS_PER_MS;
    if (ms > INT32_MAX) ms = INT32_MAX;
    return epoll_wait(r->backend_fd, r->batch, FC_REACTOR_BATCH, (int)ms);
  }
  return epoll_wait(r->backend_fd, r->batch, FC_REACTOR_BATCH, timeout_ns < 0 ? -1 : 0);
}

int fc_backend_wait(fc_reactor *r, int64_t timeout_ns) {
  int n = wait_ns(r, timeout_ns);
  if (n < 0) {
    r->batch_len = 0;
    return errno == EINTR ? 0 : -errno;
  }
  return r->batch_len = n;
}

fc_source *fc_backend_event(fc_reactor *r, int i, uint32_t *events, bool forget) {
  struct epoll_event *e = (struct epoll_event *)r->batch + i;
  fc_source *s = e->data.ptr;
  if (forget) e->data.ptr = NULL;
  *events = (e->events & EPOLLIN ? FC_READ : 0u) | (e->events & EPOLLOUT ? FC_WRITE : 0u) |
            (e->events & EPOLLRDHUP ? FC_PEER_GONE : 0u) |
            (e->events & (EPOLLERR | EPOLLHUP) ? FC_ERROR : 0u);
  return s;
}
