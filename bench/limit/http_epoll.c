/* http_epoll.c - the bare C limit for the HTTP benchmark: what the system calls alone cost.
 *
 *     cc -O2 -o http_epoll bench/limit/http_epoll.c
 *     ./http_epoll PORT plain|json|upload
 *
 * One thread, one epoll. It finds where request heads end and, for POST, skips Content-Length
 * bytes; nothing else is looked at. Every request gets the same reply, and all requests of one
 * recv are answered with one send. Not a server: malformed input only closes the connection. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BUFFER_BYTES 16384
#define COPIES 64 /* replies that one send can carry */
#define MAX_EVENTS 256

typedef struct conn {
  int fd;
  int wants_write;
  size_t used; /* bytes in `in`: the beginning of a head */
  size_t skip; /* bytes of a body still to come */
  size_t owed; /* bytes of replies still to send */
  char in[BUFFER_BYTES];
} conn;

typedef struct reply {
  const char *type, *body;
  time_t second; /* of the Date that `copies` carries */
  size_t len;    /* of one reply; the same for every Date */
  char copies[COPIES * 512];
} reply;

static void die(const char *what) {
  perror(what);
  exit(1);
}

/* Rebuilds the replies when the second has changed. */
static void refresh(reply *r) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME_COARSE, &now);
  if (now.tv_sec == r->second) return;
  r->second = now.tv_sec;
  struct tm tm;
  char date[64];
  gmtime_r(&now.tv_sec, &tm);
  strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", &tm);
  r->len = (size_t)snprintf(r->copies, 512,
                            "HTTP/1.1 200 OK\r\nServer: bare-c\r\nDate: %s\r\nContent-Type: %s\r\n"
                            "Content-Length: %zu\r\n\r\n%s",
                            date, r->type, strlen(r->body), r->body);
  for (size_t i = 1; i < COPIES; i++) memcpy(r->copies + i * r->len, r->copies, r->len);
}

static size_t content_length(const char *head, size_t len) {
  static const char name[] = "\r\ncontent-length:";
  for (size_t i = 0; i + sizeof name - 1 < len; i++)
    if (head[i] == '\r' && strncasecmp(head + i, name, sizeof name - 1) == 0)
      return strtoul(head + i + sizeof name - 1, NULL, 10); /* ends at the CR of the head's end */
  return 0;
}

/* Counts the requests that are complete in `in` and keeps what follows them. */
static size_t take_requests(conn *c) {
  size_t at = 0, count = 0;
  for (;;) {
    if (c->skip) {
      const size_t n = c->skip < c->used - at ? c->skip : c->used - at;
      at += n;
      c->skip -= n;
      if (c->skip) break;
      count++;
      continue;
    }
    const char *head = c->in + at;
    const char *end = c->used > at ? memmem(head, c->used - at, "\r\n\r\n", 4) : NULL;
    if (!end) break;
    const size_t head_len = (size_t)(end - head) + 4;
    at += head_len;
    if (*head == 'P') c->skip = content_length(head, head_len);
    if (c->skip == 0) count++;
  }
  c->used -= at;
  if (c->used) memmove(c->in, c->in + at, c->used);
  return count;
}

/* Sends what is owed; 0, or -1 when the connection is to be closed. */
static int flush(int ep, conn *c, reply *r) {
  while (c->owed) {
    const size_t from = (r->len - c->owed % r->len) % r->len;
    const size_t most = COPIES * r->len - from;
    ssize_t n = send(c->fd, r->copies + from, c->owed < most ? c->owed : most, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno != EAGAIN) return -1;
    if (n < 0) break;
    c->owed -= (size_t)n;
  }
  const int wants_write = c->owed > 0;
  if (wants_write != c->wants_write) {
    struct epoll_event e = {.events = wants_write ? EPOLLOUT : EPOLLIN, .data.ptr = c};
    if (epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &e) < 0) return -1;
    c->wants_write = wants_write;
  }
  return 0;
}

static int serve(int ep, conn *c, reply *r) {
  if (c->wants_write) return flush(ep, c, r);
  ssize_t n = recv(c->fd, c->in + c->used, sizeof c->in - c->used, 0);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
  if (n <= 0) return -1; /* also when the head fills the buffer: then the room asked for is 0 */
  c->used += (size_t)n;
  c->owed += take_requests(c) * r->len;
  return flush(ep, c, r);
}

static void accept_one(int ep, int listener) {
  int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd < 0) return;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
  conn *c = malloc(sizeof *c);
  if (!c) die("malloc");
  c->fd = fd;
  c->wants_write = 0;
  c->used = c->skip = c->owed = 0;
  struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
  if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e) < 0) die("epoll_ctl");
}

static int listen_on(int port) {
  struct sockaddr_in a = {.sin_family = AF_INET,
                          .sin_port = htons((unsigned short)port),
                          .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) die("socket");
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
  if (bind(fd, (struct sockaddr *)&a, sizeof a) < 0) die("bind");
  if (listen(fd, 4096) < 0) die("listen");
  return fd;
}

static reply reply_of(const char *mode) {
  reply r = {.type = "text/plain; charset=utf-8", .body = NULL};
  if (strcmp(mode, "plain") == 0) r.body = "Hello, World!";
  if (strcmp(mode, "upload") == 0) r.body = "4096";
  if (strcmp(mode, "json") == 0) {
    r.type = "application/json";
    r.body = "{\"message\":\"Hello, World!\"}";
  }
  return r;
}

int main(int argc, char **argv) {
  static reply r;
  if (argc == 3) r = reply_of(argv[2]);
  if (!r.body) {
    fprintf(stderr, "usage: %s PORT plain|json|upload\n", argv[0]);
    return 2;
  }
  const int listener = listen_on(atoi(argv[1]));
  const int ep = epoll_create1(EPOLL_CLOEXEC);
  if (ep < 0) die("epoll_create1");
  struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
  if (epoll_ctl(ep, EPOLL_CTL_ADD, listener, &e) < 0) die("epoll_ctl");
  for (;;) {
    struct epoll_event events[MAX_EVENTS];
    int n = epoll_wait(ep, events, MAX_EVENTS, -1);
    if (n < 0 && errno != EINTR) die("epoll_wait");
    refresh(&r);
    for (int i = 0; i < n; i++) {
      conn *c = events[i].data.ptr;
      if (!c) {
        accept_one(ep, listener);
      } else if (serve(ep, c, &r) < 0) {
        close(c->fd);
        free(c);
      }
    }
  }
}
