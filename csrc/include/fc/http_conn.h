/* http_conn.h - the server's side of an HTTP/1.1 connection.
 *
 *     IDLE --byte--> HEAD --head--> BODY --last byte--> BUSY --reply sent--> IDLE
 *       |              |              |                   |
 *  idle timeout   head timeout   body timeout       handler timeout
 *    (close)         (408)          (408)          (on_timeout upcall)
 *
 * A connection answers one request at a time, in the order they came: pipelined ones wait in the
 * in-block. What a turn's replies add up to leaves in one write. The layer above is entered once
 * per request, with a complete one; it replies at once or later, whole or in pieces.
 *
 * A request is shared by the connection and the layer above, and each lets go of its share. It
 * holds the block its bytes lie in, so that slices stay good after the connection is gone. */
#ifndef FC_HTTP_CONN_H
#define FC_HTTP_CONN_H

#include <netinet/in.h>

#include "fc/http1.h"
#include "fc/stream.h"

/* Defaults of fc_http_config. */
#define FC_HTTP_MAX_PIPELINED 64
#define FC_HTTP_HEAD_TIMEOUT_NS (10 * FC_NS_PER_S)
#define FC_HTTP_BODY_TIMEOUT_NS (30 * FC_NS_PER_S)
#define FC_HTTP_IDLE_TIMEOUT_NS (75 * FC_NS_PER_S)
#define FC_HTTP_SEND_TIMEOUT_NS (30 * FC_NS_PER_S)
#define FC_HTTP_LINGER_NS (2 * FC_NS_PER_S)
#define FC_HTTP_MIN_BODY_BYTES_PER_S 240

typedef struct fc_http_config {
  fc_http1_limits limits;
  uint32_t max_pipelined;  /* requests of one connection answered in one turn; the rest waits */
  uint64_t head_timeout_ns;     /* from a head's first byte to its last */
  uint64_t body_timeout_ns;     /* for a body, and ... */
  uint64_t min_body_bytes_per_s;/* ... a second more for each so many bytes received */
  uint64_t idle_timeout_ns;     /* without a request under way */
  uint64_t handler_timeout_ns;  /* 0: none */
  uint64_t send_timeout_ns;     /* without the peer taking a byte of a reply that waits */
  uint64_t linger_ns;           /* given to a peer to read a last reply */
} fc_http_config;

fc_http_config fc_http_config_default(void);

typedef struct fc_http_server fc_http_server;
typedef struct fc_http_conn fc_http_conn;
typedef struct fc_http_req fc_http_req;

typedef struct fc_http_upcalls {
  /* A request is complete. The callee owns a share of it, given back by fc_http_req_release(). */
  void (*on_request)(fc_http_server *server, fc_http_req *req);
  /* No reply will reach the client any more. Only between on_request and the reply's end. */
  void (*on_gone)(fc_http_req *req);
  /* handler_timeout_ns has passed; a reply is still possible. */
  void (*on_timeout)(fc_http_req *req);
  /* A reply in pieces may go on after fc_http_send() said FC_HTTP_FULL. */
  void (*on_writable)(fc_http_req *req);
  /* A request was refused below the layer above: for the log. `error` is the parser's, or
   * FC_ETIMEOUT. `status` 0: nothing was sent. */
  void (*on_refused)(fc_http_conn *conn, int status, int error);
  /* The number of connections fell. */
  void (*on_disconnect)(fc_http_server *server);
} fc_http_upcalls;

struct fc_http_server {
  fc_reactor *reactor;
  const fc_mem *mem;
  const fc_http_upcalls *up;
  void *user;
  fc_http_config config;
  fc_list conns;
  size_t conn_count;
  size_t req_count;       /* live requests, for the server's own end */
  fc_http_req *free_reqs; /* recycled */
  uint32_t free_req_count;
  bool draining;
  bool closed;
  uint64_t served;   /* replies completed */
  uint64_t refused;  /* requests answered with an error below the layer above */
  uint64_t common_until_ns;
  uint32_t common_len;
  char common[96];   /* the Date and Server lines of this second */
};

typedef union fc_http_peer {
  struct sockaddr any;
  struct sockaddr_in v4;
  struct sockaddr_in6 v6;
} fc_http_peer;

struct fc_http_conn {
  fc_stream stream;
  fc_list link;
  fc_http_server *server;
  fc_http1_parser parser;
  fc_http_req *req; /* being read or answered; NULL when idle */
  fc_task again;
  uint8_t phase;
  bool processing;
  bool ended; /* the client will send no more */
  fc_http_peer peer;
};

struct fc_http_req {
  fc_http_server *server;
  fc_http_conn *conn; /* NULL once no reply can be sent */
  void *user;         /* the layer above's */
  fc_http_req *next_free;
  uint8_t shares;
  uint8_t method; /* fc_http1_method */
  uint8_t minor;
  bool keep_alive, upgrade, expect_continue;
  bool chunked;   /* the reply in pieces */
  bool started;   /* a reply has begun */
  uint16_t status;
  uint64_t reply_bytes; /* of the body */
  int64_t reply_length; /* as announced by fc_http_begin(); -1: not */
  uint64_t started_ns;
  fc_http_peer peer;
  fc_buf *block;  /* what the head lies in */
  fc_buf *body_block;
  const char *head;
  fc_slice body;
  uint32_t method_off, method_len, target_off, target_len;
  uint32_t field_count;
  fc_http1_field fields[]; /* room for limits.max_headers */
};

#define FC_HTTP_FULL 1 /* queued, and the high mark is passed: wait for on_writable */

/* NULL: out of memory. `up` must outlive the server. */
fc_http_server *fc_http_server_new(fc_reactor *r, const fc_http_config *config,
                                   const fc_http_upcalls *up, void *user);

/* Takes over an accepted, non-blocking socket. On failure it is closed. */
int fc_http_server_accept(fc_http_server *s, int fd, const struct sockaddr *peer,
                          socklen_t peer_len);

/* Idle connections close now, the others after the reply they are at. */
void fc_http_server_drain(fc_http_server *s);

/* Aborts what is left. The memory goes with the last connection and request. */
void fc_http_server_close(fc_http_server *s);

static inline fc_slice fc_http_req_method(const fc_http_req *q) {
  return (fc_slice){q->head + q->method_off, q->method_len};
}

static inline fc_slice fc_http_req_target(const fc_http_req *q) {
  return (fc_slice){q->head + q->target_off, q->target_len};
}

/* Gives the share from on_request back. */
void fc_http_req_release(fc_http_req *q);

/* Sends a whole reply: status, content_type and fields of `r` are the caller's, the rest is filled
 * in. A body with a `release` may be borrowed until release(owner) is called, and it is called in
 * every case. HEAD and bodiless statuses send no body. 0, FC_ECLOSED, FC_ESTATE or FC_ENOMEM. */
int fc_http_reply(fc_http_req *q, fc_http1_response *r, fc_slice body, void (*release)(void *),
                  void *owner);

/* A reply in pieces: the head, with r->content_length >= 0 if it is known, else chunked (to an
 * HTTP/1.0 client: until the connection ends); any number of sends; the end. To send more than was
 * announced is FC_EINVALID and sends nothing; to end with less is FC_EINVALID and cuts the
 * connection, as the client would take the next reply for the rest of this one. */
int fc_http_begin(fc_http_req *q, fc_http1_response *r);
int fc_http_send(fc_http_req *q, fc_slice bytes);
int fc_http_end(fc_http_req *q);

/* Cuts the connection: the only honest end of a reply that fails half-way. */
void fc_http_abort(fc_http_req *q);

#endif
