/* http1_drive.h - feeds a stream to the HTTP/1.1 parser in pieces and writes down what it said.
 *
 * Shared by the tests and the fuzz target. Every call of the parser sees a fresh block of exactly
 * the bytes that have arrived: a read past them trips the sanitizer, and a pointer kept from an
 * earlier call points nowhere. Two runs over one stream must give equal logs, however it is cut. */
#ifndef FC_HTTP1_DRIVE_H
#define FC_HTTP1_DRIVE_H

#include "check.h"
#include "fc/err.h"
#include "fc/http1.h"

typedef struct http1_log {
  char *text;
  size_t len, room;
  unsigned messages; /* complete ones */
  int error;
  int status;
} http1_log;

static inline void log_bytes(http1_log *log, const char *bytes, size_t len) {
  if (log->room - log->len < len) {
    log->room = (log->room + len) * 2;
    log->text = realloc(log->text, log->room);
    CHECK(log->text != NULL);
  }
  if (len) memcpy(log->text + log->len, bytes, len);
  log->len += len;
}

static inline void log_part(http1_log *log, const char *head, size_t head_len, uint32_t off,
                            uint32_t len) {
  CHECK(off <= head_len && len <= head_len - off);
  log_bytes(log, head + off, len);
  log_bytes(log, "|", 1);
}

static inline void log_head(http1_log *log, const fc_http1_parser *p, const char *head,
                            size_t head_len) {
  char line[160];
  log_part(log, head, head_len, p->method_off, p->method_len);
  log_part(log, head, head_len, p->target_off, p->target_len);
  int n = snprintf(line, sizeof line, "%u 1.%u framing=%u length=%llu%s%s%s\n", p->method, p->minor,
                   p->framing, (unsigned long long)p->content_length,
                   p->keep_alive ? " keep" : "", p->expect_continue ? " expect" : "",
                   p->upgrade ? " upgrade" : "");
  log_bytes(log, line, (size_t)n);
  CHECK(p->field_count <= p->limits->max_headers);
  for (uint32_t i = 0; i < p->field_count; i++) {
    const fc_http1_field *f = &p->fields[i];
    CHECK(f->name_len > 0);
    log_part(log, head, head_len, f->name, f->name_len);
    log_part(log, head, head_len, f->value, f->value_len);
    log_bytes(log, "\n", 1);
  }
}

static inline void log_error(http1_log *log, fc_http1_parser *p, int error, size_t at) {
  char line[80];
  size_t used;
  fc_slice out;
  int n = snprintf(line, sizeof line, "error %d at %zu", error, at);
  log_bytes(log, line, (size_t)n);
  log->error = error;
  log->status = p->status;
  CHECK_INT(p->status, fc_http1_error_status(error));
  fc_http1_reset(p); /* must not heal it */
  CHECK_INT(fc_http1_head(p, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 27), error);
  CHECK_INT(fc_http1_body(p, "0\r\n\r\n", 5, &used, &out), error);
  CHECK_INT(used, 0);
}

/* Reads the body from the block; `*at` moves on by what was used. Returns what the parser said
 * last. */
static inline int drive_body(http1_log *log, fc_http1_parser *p, const char *block, size_t len,
                             size_t *at) {
  for (size_t used, i = 0;; i += used) {
    fc_slice out;
    int result = fc_http1_body(p, block + i, len - i, &used, &out);
    CHECK(used <= len - i);
    *at += used;
    if (result != FC_HTTP1_DATA) {
      CHECK(out.len == 0 && (result != FC_HTTP1_MORE || used == len - i));
      return result;
    }
    CHECK(used > 0 && out.len > 0 && out.len <= used && out.ptr + out.len == block + i + used);
    log_bytes(log, out.ptr, out.len);
  }
}

/* Takes one head or one stretch of body from the block. Returns > 0 when something was completed, 0
 * when more bytes are needed, or an error. */
static inline int drive_step(http1_log *log, fc_http1_parser *p, bool *in_body, const char *block,
                             size_t len, size_t *at) {
  if (*in_body) {
    int result = drive_body(log, p, block, len, at);
    if (result <= 0) return result;
  } else {
    int64_t n = fc_http1_head(p, block, len);
    CHECK(n <= (int64_t)len);
    if (n <= 0) return (int)n;
    log_head(log, p, block, (size_t)n);
    *at += (size_t)n;
    *in_body = p->framing != FC_HTTP1_NO_BODY;
    if (*in_body) return 1;
  }
  log_bytes(log, "\nend\n", 5);
  log->messages++;
  *in_body = false;
  fc_http1_reset(p);
  return 1;
}

/* Feeds `data` in a first piece of `first` bytes and then pieces of `step`, 0 meaning all the rest.
 * The log is the caller's, to be freed by log_free(). */
static inline http1_log drive(const fc_http1_limits *limits, const char *data, size_t len,
                              size_t first, size_t step) {
  http1_log log = {0};
  fc_http1_field *fields = calloc(limits->max_headers, sizeof *fields);
  fc_http1_parser p;
  bool in_body = false;
  size_t at = 0, arrived = first < len ? first : len;
  CHECK(fields != NULL || limits->max_headers == 0);
  fc_http1_init(&p, limits, fields);
  for (;;) {
    char *block = malloc(arrived - at);
    CHECK(block != NULL || arrived == at);
    if (arrived > at) memcpy(block, data + at, arrived - at);
    int result = drive_step(&log, &p, &in_body, block, arrived - at, &at);
    free(block);
    if (result < 0) log_error(&log, &p, result, at);
    if (result < 0 || (result == 0 && arrived == len)) break;
    if (result == 0) arrived = step && step < len - arrived ? arrived + step : len;
  }
  free(fields);
  return log;
}

static inline void log_free(http1_log *log) {
  free(log->text);
}

/* True when two runs said the same. */
static inline bool log_equal(const http1_log *a, const http1_log *b) {
  return a->error == b->error && a->messages == b->messages && a->len == b->len &&
         (a->len == 0 || memcmp(a->text, b->text, a->len) == 0);
}

#endif
