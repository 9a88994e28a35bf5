/* turn.h - turns of a reactor, and pairs of connected sockets. */
#ifndef FC_TURN_H
#define FC_TURN_H

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "fc/reactor.h"

/* One turn that waits for nothing. Returns the events there were. */
static inline int turn(fc_reactor *r) {
  int n = fc_reactor_wait(r, 0);
  CHECK(n >= 0);
  fc_reactor_dispatch(r);
  fc_reactor_end_turn(r);
  return n;
}

static inline void turns(fc_reactor *r, int count) {
  while (count-- > 0) turn(r);
}

static inline void no_delay(int fd) {
  CHECK(fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
}

static inline void unix_pair(int fd[2]) {
  CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd) == 0);
}

/* A non-blocking listening socket of the loopback and its address. */
static inline int tcp_listen(struct sockaddr_in *at) {
  socklen_t len = sizeof *at;
  *at = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  CHECK(fd >= 0 && bind(fd, (struct sockaddr *)at, len) == 0 && listen(fd, 256) == 0);
  CHECK(getsockname(fd, (struct sockaddr *)at, &len) == 0);
  return fd;
}

static inline int tcp_connect(const struct sockaddr_in *to) {
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  CHECK(fd >= 0 && connect(fd, (const struct sockaddr *)to, sizeof *to) == 0);
  no_delay(fd);
  return fd;
}

static inline void tcp_pair(int fd[2]) {
  struct sockaddr_in at;
  int listening = tcp_listen(&at);
  fd[1] = tcp_connect(&at);
  fd[0] = accept4(listening, NULL, NULL, SOCK_NONBLOCK);
  CHECK(fd[0] >= 0);
  close(listening);
}

/* Closes so that the peer gets a reset. */
static inline void reset_close(int fd) {
  struct linger now = {1, 0};
  CHECK(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now) == 0);
  close(fd);
}

#endif
