#include "fc/listener.h"

#include <errno.h>

/* The peer's doing, or a passing fault of the network: accept(2) says to try the next. */
static bool of_the_peer(int err) {
  switch (-err) {
    case ECONNABORTED:
    case EPROTO:
    case ENETDOWN:
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case EPERM:
      return true;
    default:
      return false;
  }
}

static void rest(fc_listener *l, int err) {
  fc_source_set(l->reactor, &l->source, 0);
  fc_timer_arm(&l->reactor->timers, &l->retry, l->reactor->now_ns + FC_LISTENER_PAUSE_NS);
  if (l->on_exhausted) l->on_exhausted(l, err);
}

static void listener_ready(fc_source *s, uint32_t events) {
  (void)events;
  fc_listener *l = FC_CONTAINER(s, fc_listener, source);
  for (int i = 0; i < FC_LISTENER_BUDGET && l->source.events; i++) {
    struct sockaddr_storage peer;
    socklen_t len = sizeof peer;
    int fd = l->reactor->sys->accept(l->source.fd, (struct sockaddr *)&peer, &len);
    if (fd >= 0) {
      l->on_accept(l, fd, (struct sockaddr *)&peer, len);
    } else if (fd == -EAGAIN) {
      return;
    } else if (!of_the_peer(fd)) {
      rest(l, fd);
      return;
    }
  }
}

static void listener_retry(fc_timer *t) {
  fc_listener *l = FC_CONTAINER(t, fc_listener, retry);
  if (l->held) return;
  int err = fc_source_set(l->reactor, &l->source, FC_READ);
  if (err < 0) rest(l, err);
}

int fc_listener_open(fc_listener *l, fc_reactor *r, int fd) {
  fc_source_init(&l->source, fd, listener_ready);
  fc_timer_init(&l->retry, listener_retry);
  l->reactor = r;
  l->held = false;
  return fc_source_set(r, &l->source, FC_READ);
}

void fc_listener_hold(fc_listener *l, bool held) {
  if (l->held == held || l->source.fd < 0) return;
  l->held = held;
  if (held) fc_source_set(l->reactor, &l->source, 0);
  else if (!fc_timer_armed(&l->retry)) listener_retry(&l->retry);
}

void fc_listener_close(fc_listener *l) {
  if (l->source.fd < 0) return;
  fc_source_set(l->reactor, &l->source, 0);
  fc_timer_cancel(&l->reactor->timers, &l->retry);
  l->source.fd = -1;
}
