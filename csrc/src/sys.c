#include "fc/sys.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <unistd.h>

static ssize_t posix_recv(int fd, void *buf, size_t len) {
  ssize_t n;
  do n = recv(fd, buf, len, 0);
  while (n < 0 && errno == EINTR);
  return n < 0 ? -errno : n;
}

/* One span goes by send(), which is measurably cheaper than sendmsg(). */
static ssize_t posix_sendv(int fd, const struct iovec *iov, int count) {
  ssize_t n;
  do {
    if (count == 1) {
      n = send(fd, iov->iov_base, iov->iov_len, MSG_NOSIGNAL);
    } else {
      struct msghdr m = {.msg_iov = (struct iovec *)iov, .msg_iovlen = (size_t)count};
      n = sendmsg(fd, &m, MSG_NOSIGNAL);
    }
  } while (n < 0 && errno == EINTR);
  return n < 0 ? -errno : n;
}

static int posix_accept(int fd, struct sockaddr *addr, socklen_t *len) {
  int n;
  do n = accept4(fd, addr, len, SOCK_NONBLOCK | SOCK_CLOEXEC);
  while (n < 0 && errno == EINTR);
  return n < 0 ? -errno : n;
}

static int posix_shutdown_write(int fd) {
  return shutdown(fd, SHUT_WR) < 0 ? -errno : 0;
}

/* Not repeated on EINTR: Linux has closed the descriptor all the same. */
static int posix_close(int fd) {
  return close(fd) < 0 ? -errno : 0;
}

static int posix_untaken(int fd) {
  int bytes;
  return ioctl(fd, TIOCOUTQ, &bytes) < 0 ? -errno : bytes;
}

const fc_sys fc_sys_posix = {
    posix_recv, posix_sendv, posix_accept, posix_shutdown_write, posix_close, posix_untaken,
};
