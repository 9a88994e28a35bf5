/* http1.h - HTTP/1.1 messages on the wire (RFC 9112), without I/O.
 *
 * Reading has two steps. fc_http1_head() finds the request line and the field lines in bytes that
 * lie in one piece, and gives offsets into them; nothing is copied. fc_http1_body() then yields the
 * body, of either framing, as slices of whatever input it is handed.
 *
 *     fc_http1_head()  --0--> more bytes, call again with the same start and a greater length
 *                      --n--> head of n bytes; p->body says what follows
 *                      --<0-> error: answer p->status, then close; the parser stays poisoned
 *     fc_http1_body()  --FC_HTTP1_DATA/DONE/MORE, or an error likewise
 *
 * Offsets, not pointers, because the block that holds the bytes may move while a head arrives.
 * The parser is strict: what RFC 9112 forbids is an error even where common servers tolerate it,
 * and of what it leaves to the server the safer choice is taken: a repeated Content-Length is an
 * error even when the values agree, and so is a list of them. How the bytes are cut into calls
 * never changes a result. */
#ifndef FC_HTTP1_H
#define FC_HTTP1_H

#include "fc/slice.h"

/* Defaults of fc_http1_limits. */
#define FC_HTTP1_MAX_REQUEST_LINE_BYTES 8192
#define FC_HTTP1_MAX_HEADER_BYTES 32768
#define FC_HTTP1_MAX_HEADERS 100
#define FC_HTTP1_MAX_BODY_BYTES (16u * 1024 * 1024)
#define FC_HTTP1_MAX_CHUNK_EXTENSION_BYTES 4096

/* What a parser accepts. `max_headers` is bounded by the room of the array handed to init. */
typedef struct fc_http1_limits {
  uint32_t max_request_line_bytes;    /* without its CR LF; passed: 414 */
  uint32_t max_header_bytes;          /* all field lines with their line ends; passed: 431 */
  uint32_t max_headers;               /* passed: 431 */
  uint64_t max_body_bytes;            /* decoded; passed: 413 */
  uint32_t max_chunk_extension_bytes; /* summed over one body; passed: 400 */
} fc_http1_limits;

/* The default limits. */
fc_http1_limits fc_http1_limits_default(void);

#define FC_HTTP1_METHOD_MAP(XX)                                                                    \
  XX(GET) XX(HEAD) XX(POST) XX(PUT) XX(DELETE) XX(CONNECT) XX(OPTIONS) XX(TRACE) XX(PATCH)

typedef enum fc_http1_method {
#define XX(name) FC_HTTP1_##name,
  FC_HTTP1_METHOD_MAP(XX)
#undef XX
      FC_HTTP1_METHOD_OTHER /* a valid token that is none of the above */
} fc_http1_method;

#define FC_HTTP1_METHOD_COUNT FC_HTTP1_METHOD_OTHER

/* "GET" and so on; FC_HTTP1_METHOD_OTHER gives an empty slice. */
fc_slice fc_http1_method_name(fc_http1_method method);

/* One field line: offsets from the head's first byte. The value is without outer white space. */
typedef struct fc_http1_field {
  uint32_t name;
  uint32_t name_len;
  uint32_t value;
  uint32_t value_len;
} fc_http1_field;

typedef enum fc_http1_framing {
  FC_HTTP1_NO_BODY,
  FC_HTTP1_LENGTH, /* content_length bytes follow; it is > 0 */
  FC_HTTP1_CHUNKED
} fc_http1_framing;

typedef struct fc_http1_parser {
  const fc_http1_limits *limits;
  fc_http1_field *fields; /* the caller's array, room for limits->max_headers */

  /* The head, complete once fc_http1_head() has returned more than zero. */
  uint32_t method_off, method_len; /* method_off is > 0 after a leading empty line */
  uint32_t target_off, target_len;
  uint32_t field_count;
  uint8_t method;        /* fc_http1_method */
  uint8_t minor;         /* 0: HTTP/1.0, 1: HTTP/1.1 and later minors */
  uint8_t framing;       /* fc_http1_framing */
  bool keep_alive;       /* by version and Connection */
  bool expect_continue;  /* Expect: 100-continue on 1.1, with a body to come */
  bool upgrade;          /* on 1.1, Connection: upgrade and an Upgrade field */
  uint64_t content_length;

  /* Private: where it stands. */
  uint8_t state;
  uint8_t digits; /* of the chunk size being read */
  uint16_t status;
  uint16_t flags;           /* what the fields seen so far said */
  int error;
  uint32_t at;              /* bytes of the head that are read and done with */
  uint32_t fields_at;       /* where the first field line starts */
  uint32_t extension_bytes; /* of all chunks */
  uint32_t trailer_bytes, trailer_count;
  uint64_t left;            /* of the body or of the chunk */
  uint64_t received;        /* sum of the chunk sizes so far */
} fc_http1_parser;

/* Ready for the first request. Both pointers must outlive the parser. */
void fc_http1_init(fc_http1_parser *p, const fc_http1_limits *limits, fc_http1_field *fields);

/* Ready for the next request of the connection. Not allowed after an error: the error stays. */
void fc_http1_reset(fc_http1_parser *p);

/* Reads the head. `data` holds every byte from the head's first on, and more may follow.
 * Returns the head's length, 0 when it is incomplete, or an error (p->status is then set). One
 * empty line before the request line is skipped and belongs to the head. Once complete, a further
 * call without a reset is FC_ESTATE. */
int64_t fc_http1_head(fc_http1_parser *p, const char *data, size_t len);

enum { FC_HTTP1_MORE = 0, FC_HTTP1_DATA = 1, FC_HTTP1_DONE = 2 };

/* Reads the body after a complete head whose framing is not FC_HTTP1_NO_BODY.
 * `*used` is set to the bytes consumed, whatever is returned. FC_HTTP1_DATA: `*out` is the next
 * piece; call again with the rest. FC_HTTP1_DONE: the message ended, trailers included.
 * FC_HTTP1_MORE: all input was used. Trailers are checked, bounded by the header limits (431), and
 * dropped. DONE comes in a call of its own after the last piece, and needs no input when a length
 * framed the body. Before the head is complete: FC_ESTATE. */
int fc_http1_body(fc_http1_parser *p, const char *data, size_t len, size_t *used, fc_slice *out);

/* The status for an error of this parser: 400, 413, 414, 431, 501 or 505. */
int fc_http1_error_status(int error);

static inline fc_slice fc_http1_slice(const char *head, uint32_t off, uint32_t len) {
  return (fc_slice){head + off, len};
}

/* The first field of that name (any case), or NULL. */
const fc_http1_field *fc_http1_find(const fc_http1_parser *p, const char *head, fc_slice name);

/* ---- writing ------------------------------------------------------------------------------ */

/* True when it may stand as a field's value: no control characters but HTAB. */
bool fc_http1_is_value(fc_slice value);

/* "OK" for 200; "" for a status without a registered phrase. */
fc_slice fc_http1_reason(int status);

/* True when a response of that status never has a body: 1xx, 204, 304. */
static inline bool fc_http1_bodiless(int status) {
  return status < 200 || status == 204 || status == 304;
}

#define FC_HTTP1_LENGTH_CHUNKED (-1) /* Transfer-Encoding: chunked */
#define FC_HTTP1_LENGTH_NONE (-2)    /* no framing field: bodiless, or ends with the connection */

typedef enum fc_http1_connection {
  FC_HTTP1_CONN_DEFAULT,    /* what the version implies: no field */
  FC_HTTP1_CONN_CLOSE,      /* Connection: close */
  FC_HTTP1_CONN_KEEP_ALIVE  /* Connection: keep-alive, for a 1.0 client that asked */
} fc_http1_connection;

typedef struct fc_http1_response {
  int status;             /* 100 to 999; anything else is written as 500 */
  uint8_t connection;     /* fc_http1_connection */
  int64_t content_length; /* >= 0, or FC_HTTP1_LENGTH_*; not written for 1xx and 204 */
  fc_slice content_type;  /* no field when empty, or when it is not a value (see is_value) */
  fc_slice common;        /* whole field lines written as they are: Date and Server */
  fc_slice fields;        /* whole, checked field lines of this response, each with its CR LF */
} fc_http1_response;

/* An upper bound of what fc_http1_write_head() writes. */
size_t fc_http1_head_bound(const fc_http1_response *r);

/* Writes status line, fields and the empty line to `dst`, which has room for the bound; returns the
 * bytes written. The status line says HTTP/1.1 (RFC 9110, 6.2). */
size_t fc_http1_write_head(char *dst, const fc_http1_response *r);

/* Checks name (a token) and value (no control characters but HTAB) and writes "name: value\r\n".
 * `dst` has room for name.len + value.len + 4. Returns bytes written, FC_EHTTP_NAME or
 * FC_EHTTP_VALUE: that is what keeps a reply from being split. */
int64_t fc_http1_write_field(char *dst, fc_slice name, fc_slice value);

#define FC_HTTP1_CHUNK_HEAD_MAX 18 /* 16 hex digits and CR LF */

/* Writes "<hex size>\r\n"; returns its length. The caller adds the data and CR LF. */
size_t fc_http1_write_chunk_head(char *dst, uint64_t size);

#define FC_HTTP1_DATE_BYTES 29

/* Writes an IMF-fixdate ("Sun, 06 Nov 1994 08:49:37 GMT", RFC 9110, 5.6.7), 29 bytes, no NUL.
 * Times outside the years 0 to 9999 are written as the nearest one inside. */
void fc_http1_write_date(char *dst, int64_t unix_seconds);

#endif
