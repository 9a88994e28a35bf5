/* sys.h - the socket calls a stream makes, as a table that tests replace (short reads and writes,
 * EAGAIN, resets). Each returns what the call returns, with -errno in place of -1. */
#ifndef FC_SYS_H
#define FC_SYS_H


#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

typedef struct fc_sys {
  ssize_t (*recv)(int fd, void *buf, size_t len);
  ssize_t (*sendv)(int fd, const struct iovec *iov, int count);
  int (*accept)(int fd, struct sockaddr *addr, socklen_t *len); /* non-blocking, close-on-exec */
  int (*shutdown_write)(int fd);
  int (*close)(int fd);
  int (*untaken)(int fd); /* bytes sent that the peer's side has not taken yet */
} fc_sys;

extern const fc_sys fc_sys_posix;

#endif
