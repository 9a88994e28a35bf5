/* listener.h - a listening socket that hands on what it accepts.
 *
 * When descriptors or memory run out accepting stops for FC_LISTENER_PAUSE_NS: the queue of the
 * kernel holds the peers meanwhile, and the loop does not spin on a socket that stays readable. */
#ifndef FC_LISTENER_H
#define FC_LISTENER_H

#include "fc/reactor.h"

#define FC_LISTENER_BUDGET 64 /* accepted in one turn before others have theirs */
#define FC_LISTENER_PAUSE_NS (100 * FC_NS_PER_MS)

typedef struct fc_listener fc_listener;

struct fc_listener {
  fc_source source;
  fc_reactor *reactor;
  fc_timer retry;
  /* Takes over `fd`; `peer` is the address it came from. */
  void (*on_accept)(fc_listener *l, int fd, const struct sockaddr *peer, socklen_t peer_len);
  /* accept failed with an error that is not the peer's: -EMFILE and the like; may be NULL. */
  void (*on_exhausted)(fc_listener *l, int err);
  bool held; /* by fc_listener_hold */
};

/* Watches a bound, listening, non-blocking socket, which stays the caller's. */
int fc_listener_open(fc_listener *l, fc_reactor *r, int fd);

/* Stops accepting until released; the kernel's queue fills. */
void fc_listener_hold(fc_listener *l, bool held);

/* Stops watching. The descriptor is the caller's to close. */
void fc_listener_close(fc_listener *l);

#endif
