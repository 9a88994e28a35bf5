/* fakesys.h - the socket calls of the kernel, with faults put in between and calls counted.
 *
 * There is one set of faults per program, since fc_sys carries no context. */
#ifndef FC_FAKESYS_H
#define FC_FAKESYS_H

#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "fc/sys.h"

#define FAKESYS_ALL SIZE_MAX

typedef struct fakesys {
  size_t recv_max;  /* a call moves at most so many bytes */
  size_t send_max;
  size_t send_left; /* bytes taken before every further call is -EAGAIN */
  int recv_error;   /* 0, or what every call returns instead of being made */
  int send_error;
  int accept_error;
  int shutdown_error;
  long recvs, sends, accepts, shutdowns, closes; /* calls */
} fakesys;

static fakesys fake;

static inline void fakesys_reset(void) {
  fake = (fakesys){.recv_max = FAKESYS_ALL, .send_max = FAKESYS_ALL, .send_left = FAKESYS_ALL};
}

static ssize_t fakesys_recv(int fd, void *buf, size_t len) {
  fake.recvs++;
  if (fake.recv_error) return fake.recv_error;
  return fc_sys_posix.recv(fd, buf, len < fake.recv_max ? len : fake.recv_max);
}

/* Cuts the spans to what may be sent, so that a short write can end anywhere in them. */
static ssize_t fakesys_sendv(int fd, const struct iovec *iov, int count) {
  struct iovec cut[1024];
  fake.sends++;
  if (fake.send_error) return fake.send_error;
  size_t room = fake.send_left < fake.send_max ? fake.send_left : fake.send_max;
  if (room == 0) return -EAGAIN;
  int n = 0;
  for (; n < count && room > 0; n++) {
    cut[n] = iov[n];
    if (cut[n].iov_len > room) cut[n].iov_len = room;
    room -= cut[n].iov_len;
  }
  ssize_t sent = fc_sys_posix.sendv(fd, cut, n);
  if (sent > 0 && fake.send_left != FAKESYS_ALL) fake.send_left -= (size_t)sent;
  return sent;
}

static int fakesys_accept(int fd, struct sockaddr *addr, socklen_t *len) {
  fake.accepts++;
  if (fake.accept_error) return fake.accept_error;
  return fc_sys_posix.accept(fd, addr, len);
}

static int fakesys_shutdown_write(int fd) {
  fake.shutdowns++;
  return fake.shutdown_error ? fake.shutdown_error : fc_sys_posix.shutdown_write(fd);
}

static int fakesys_close(int fd) {
  fake.closes++;
  return fc_sys_posix.close(fd);
}

static int fakesys_untaken(int fd) {
  return fc_sys_posix.untaken(fd);
}

static const fc_sys fakesys_table = {
    fakesys_recv,           fakesys_sendv, fakesys_accept,
    fakesys_shutdown_write, fakesys_close, fakesys_untaken,
};

#endif
