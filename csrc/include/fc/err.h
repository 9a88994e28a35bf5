/* err.h - the one list of errors.
 *
 * A function that can fail returns a negative code. A code is either the negated errno of the
 * system call that failed (-EPIPE) or one of FC_E* below, all of which lie under FC_ERR_BASE so
 * that the two never meet. Zero and above is success. */
#ifndef FC_ERR_H
#define FC_ERR_H

#include <stddef.h>

#define FC_ERR_BASE (-10000)

/* XX(name, offset, exception, text): `exception` names the class of flowcore.errors that Python
 * raises for the code; the table there is built by walking this list. `status` codes of HTTP are
 * not here: http1.h maps a parser error to its status. */
#define FC_ERR_MAP(XX)                                                                             \
  XX(NOMEM, 1, "MemoryError", "out of memory")                                                     \
  XX(EOF, 2, "ConnectionClosed", "the peer closed its side of the connection")                     \
  XX(CLOSED, 3, "ConnectionClosed", "the stream is closed")                                        \
  XX(TIMEOUT, 4, "DeadlineExceeded", "the deadline passed")                                        \
  XX(LIMIT, 5, "LimitExceeded", "a configured limit was passed")                                   \
  XX(INVALID, 6, "InvalidArgument", "an argument is out of range or malformed")                    \
  XX(EXISTS, 7, "InvalidArgument", "the name is already taken")                                    \
  XX(STATE, 8, "InvalidState", "the call is not allowed in this state")                            \
  XX(HTTP_METHOD, 20, "ProtocolError", "the request method is not a token")                        \
  XX(HTTP_TARGET, 21, "ProtocolError", "the request target is malformed")                          \
  XX(HTTP_VERSION, 22, "ProtocolError", "the HTTP version is malformed")                           \
  XX(HTTP_LINE_END, 23, "ProtocolError", "a line does not end in CR LF")                           \
  XX(HTTP_NAME, 24, "ProtocolError", "a field name holds a byte that is not a token character")    \
  XX(HTTP_VALUE, 25, "ProtocolError", "a field value holds a control character")                   \
  XX(HTTP_FOLD, 26, "ProtocolError", "a field line is folded (obs-fold)")                          \
  XX(HTTP_HOST, 27, "ProtocolError", "the Host field is missing, repeated or malformed")           \
  XX(HTTP_LENGTH, 28, "ProtocolError", "the Content-Length is malformed or repeated")              \
  XX(HTTP_FRAMING, 29, "ProtocolError", "Transfer-Encoding beside Content-Length, or on HTTP/1.0") \
  XX(HTTP_CODING, 30, "ProtocolError", "the Transfer-Encoding does not end in chunked")            \
  XX(HTTP_CODING_UNKNOWN, 31, "ProtocolError", "a transfer coding is not implemented")             \
  XX(HTTP_CHUNK, 32, "ProtocolError", "a chunk size or a chunk's end is malformed")                \
  XX(HTTP_LINE_LIMIT, 33, "LimitExceeded", "the request line exceeds max_request_line_bytes")      \
  XX(HTTP_HEADER_LIMIT, 34, "LimitExceeded", "the header section is larger than max_header_bytes") \
  XX(HTTP_COUNT_LIMIT, 35, "LimitExceeded", "there are more header fields than max_headers")       \
  XX(HTTP_BODY_LIMIT, 36, "LimitExceeded", "the body is larger than max_body_bytes")               \
  XX(HTTP_CHUNK_LIMIT, 37, "LimitExceeded", "chunk extensions exceed max_chunk_extension_bytes")   \
  XX(HTTP_VERSION_UNKNOWN, 38, "ProtocolError", "the major version of HTTP is not supported")

enum fc_err {
#define XX(name, offset, exception, text) FC_E##name = FC_ERR_BASE - (offset),
  FC_ERR_MAP(XX)
#undef XX
};

typedef struct fc_err_info {
  int code;
  const char *name;      /* "NOMEM" */
  const char *exception; /* "MemoryError" */
  const char *text;
} fc_err_info;

/* The list as a table, for whoever walks it; `*count` is set to its length. */
const fc_err_info *fc_err_table(size_t *count);

/* One line of text for any negative code, system errors included. Never NULL. */
const char *fc_strerror(int code);

/* "NOMEM" for an FC_E* code, NULL for a system error or an unknown code. */
const char *fc_err_name(int code);

#endif
