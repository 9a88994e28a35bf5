/* Every limit of the HTTP/1.1 parser: met exactly, passed by one, passed while still incomplete. */
#include "http1_drive.h"

#define LINE "GET /abcdefghijklmnopqrst HTTP/1.1"
#define FIELDS "Host: a\r\nX: 0123456789abcdef0123456789\r\n"
#define CHUNKED "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
#define LENGTH(n) "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: " n "\r\n\r\n"

/* The outcome of a stream, which must be the same byte by byte: 0 or the error. */
static int outcome(fc_http1_limits limits, fc_slice s, unsigned messages, int status) {
  http1_log whole = drive(&limits, s.ptr, s.len, s.len, 0);
  http1_log bytes = drive(&limits, s.ptr, s.len, 1, 1);
  CHECK(log_equal(&whole, &bytes));
  CHECK_INT(whole.messages, messages);
  CHECK_INT(whole.status, status);
  int error = whole.error;
  log_free(&whole);
  log_free(&bytes);
  return error;
}

static void test_defaults(void) {
  fc_http1_limits limits = fc_http1_limits_default();
  CHECK_INT(limits.max_request_line_bytes, 8192);
  CHECK_INT(limits.max_header_bytes, 32768);
  CHECK_INT(limits.max_headers, 100);
  CHECK_INT(limits.max_body_bytes, 16 * 1024 * 1024);
  CHECK_INT(limits.max_chunk_extension_bytes, 4096);
}

static void test_request_line(void) {
  fc_http1_limits limits = fc_http1_limits_default();
  fc_slice whole = FC_SLICE(LINE "\r\n" FIELDS "\r\n");
  fc_slice led = FC_SLICE("\r\n" LINE "\r\n" FIELDS "\r\n");
  uint32_t line = sizeof LINE - 1;
  limits.max_request_line_bytes = line;
  CHECK_INT(outcome(limits, whole, 1, 0), 0);
  CHECK_INT(outcome(limits, led, 1, 0), 0); /* the empty line is no part of it */
  for (uint32_t max = 0; max < line; max++) {
    limits.max_request_line_bytes = max;
    CHECK_INT(outcome(limits, whole, 0, 414), FC_EHTTP_LINE_LIMIT);
    CHECK_INT(outcome(limits, led, 0, 414), FC_EHTTP_LINE_LIMIT);
    CHECK_INT(outcome(limits, fc_slice_of(whole.ptr, max), 0, 0), 0);
    CHECK_INT(outcome(limits, fc_slice_of(whole.ptr, max + 1), 0, 414), FC_EHTTP_LINE_LIMIT);
  }
}

static void test_header_bytes(void) {
  fc_http1_limits limits = fc_http1_limits_default();
  fc_slice whole = FC_SLICE(LINE "\r\n" FIELDS "\r\n");
  uint32_t line = sizeof LINE + 1, fields = sizeof FIELDS - 1;
  limits.max_header_bytes = fields;
  CHECK_INT(outcome(limits, whole, 1, 0), 0);
  for (uint32_t max = 0; max < fields; max++) {
    limits.max_header_bytes = max;
    CHECK_INT(outcome(limits, whole, 0, 431), FC_EHTTP_HEADER_LIMIT);
    CHECK_INT(outcome(limits, fc_slice_of(whole.ptr, line + max), 0, 0), 0);
    CHECK_INT(outcome(limits, fc_slice_of(whole.ptr, line + max + 1), 0, 431),
              FC_EHTTP_HEADER_LIMIT);
  }
}

static void test_header_count(void) {
  fc_http1_limits limits = fc_http1_limits_default();
  fc_slice s = FC_SLICE("GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: 2\r\n\r\n");
  limits.max_headers = 3;
  CHECK_INT(outcome(limits, s, 1, 0), 0);
  limits.max_headers = 2;
  CHECK_INT(outcome(limits, s, 0, 431), FC_EHTTP_COUNT_LIMIT);
  CHECK_INT(outcome(limits, fc_slice_of(s.ptr, s.len - 8), 0, 0), 0);
  CHECK_INT(outcome(limits, fc_slice_of(s.ptr, s.len - 7), 0, 431), FC_EHTTP_COUNT_LIMIT);
  limits.max_headers = 0;
  CHECK_INT(outcome(limits, s, 0, 431), FC_EHTTP_COUNT_LIMIT);
  CHECK_INT(outcome(limits, FC_SLICE("GET / HTTP/1.0\r\n\r\n"), 1, 0), 0);
}

/* A length is refused with the head, before any of the body. */
static void test_body_by_length(void) {
  fc_http1_limits limits = fc_http1_limits_default();
  limits.max_body_bytes = 5;
  CHECK_INT(outcome(limits, FC_SLICE(LENGTH("5") "hello"), 1, 0), 0);
  CHECK_INT(outcome(limits, FC_SLICE(LENGTH("6")), 0, 413), FC_EHTTP_BODY_LIMIT);
  CHECK_INT(outcome(limits, FC_SLICE(LENGTH("18446744073709551615")), 0, 413),
            FC_EHTTP_BODY_LIMIT);
  limits.max_body_bytes = UINT64_MAX;
  CHECK_INT(outcome(limits, FC_SLICE(LENGTH("18446744073709551615") "a"), 0, 0), 0);
}

/* The chunk that passes the sum is refused at its size, before its data. */
static void test_body_by_chunks(void) {
  fc_http1_limits limits = fc_http1_limits_default();
  limits.max_body_bytes = 5;
  CHECK_INT(outcome(limits, FC_SLICE(CHUNKED "2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n"), 1, 0), 0);
  CHECK_INT(outcome(limits, FC_SLICE(CHUNKED "2\r\nab\r\n4\r\n"), 0, 413), FC_EHTTP_BODY_LIMIT);
  CHECK_INT(outcome(limits, FC_SLICE(CHUNKED "2\r\nab\r\nffffffffffffffff\r\n"), 0, 413),
            FC_EHTTP_BODY_LIMIT);
  limits.max_body_bytes = 0;
  CHECK_INT(outcome(limits, FC_SLICE(CHUNKED "0\r\n\r\n"), 1, 0), 0);
  CHECK_INT(outcome(limits, FC_SLICE(CHUNKED "1\r\n"), 0, 413), FC_EHTTP_BODY_LIMIT);
  limits.max_body_bytes = UINT64_MAX;
  CHECK_INT(outcome(limits, FC_SLICE(CHUNKED "ffffffffffffffff\r\na"), 0, 0), 0);
  CHECK_INT(outcome(limits, FC_SLICE(CHUNKED "1\r\na\r\nffffffffffffffff\r\n"), 0, 413),
            FC_EHTTP_BODY_LIMIT);
}

static void test_chunk_extensions(void) {
  fc_http1_limits limits = fc_http1_limits_default();
  fc_slice s = FC_SLICE(CHUNKED "1;a=b\r\nx\r\n1;c\r\ny\r\n0 ;d\r\n\r\n"); /* 4 + 2 + 3 bytes */
  limits.max_chunk_extension_bytes = 9;
  CHECK_INT(outcome(limits, s, 1, 0), 0);
  for (uint32_t max = 0; max < 9; max++) {
    limits.max_chunk_extension_bytes = max;
    CHECK_INT(outcome(limits, s, 0, 400), FC_EHTTP_CHUNK_LIMIT);
  }
  CHECK_INT(outcome(limits, FC_SLICE(CHUNKED "1;aaaaaaaaaaa"), 0, 400), FC_EHTTP_CHUNK_LIMIT);
  limits.max_chunk_extension_bytes = 0;
  CHECK_INT(outcome(limits, FC_SLICE(CHUNKED "1\r\nx\r\n0\r\n\r\n"), 1, 0), 0);
}

static void test_trailers(void) {
  fc_http1_limits limits = fc_http1_limits_default();
  fc_slice s = FC_SLICE(CHUNKED "0\r\nA: 01234567890123456789012345\r\nB: 1\r\nC: 2\r\n"
                                "D: 01234567890123456789\r\n\r\n");
  limits.max_header_bytes = 31 + 6 + 6 + 25;
  limits.max_headers = 4;
  CHECK_INT(outcome(limits, s, 1, 0), 0);
  limits.max_header_bytes--;
  CHECK_INT(outcome(limits, s, 0, 431), FC_EHTTP_HEADER_LIMIT);
  limits.max_header_bytes++;
  limits.max_headers--;
  CHECK_INT(outcome(limits, s, 0, 431), FC_EHTTP_COUNT_LIMIT);
}

/* The limits hold for each message of a connection anew. */
static void test_limits_start_again(void) {
  fc_http1_limits limits = fc_http1_limits_default();
  fc_slice s = FC_SLICE(CHUNKED "2;a\r\nab\r\n0;b\r\nX: y\r\n\r\n" CHUNKED
                                "2;a\r\nab\r\n0;b\r\nX: y\r\n\r\n");
  limits.max_request_line_bytes = 15;
  limits.max_header_bytes = 9 + 28;
  limits.max_headers = 2;
  limits.max_body_bytes = 2;
  limits.max_chunk_extension_bytes = 4;
  CHECK_INT(outcome(limits, s, 2, 0), 0);
}

static void test_statuses(void) {
  CHECK_INT(fc_http1_error_status(FC_EHTTP_LINE_LIMIT), 414);
  CHECK_INT(fc_http1_error_status(FC_EHTTP_HEADER_LIMIT), 431);
  CHECK_INT(fc_http1_error_status(FC_EHTTP_COUNT_LIMIT), 431);
  CHECK_INT(fc_http1_error_status(FC_EHTTP_BODY_LIMIT), 413);
  CHECK_INT(fc_http1_error_status(FC_EHTTP_CHUNK_LIMIT), 400);
  CHECK_INT(fc_http1_error_status(FC_EHTTP_CODING_UNKNOWN), 501);
  CHECK_INT(fc_http1_error_status(FC_EHTTP_VERSION), 400);
  CHECK_INT(fc_http1_error_status(FC_EHTTP_VERSION_UNKNOWN), 505);
}

int main(void) {
  RUN(test_defaults);
  RUN(test_request_line);
  RUN(test_header_bytes);
  RUN(test_header_count);
  RUN(test_body_by_length);
  RUN(test_body_by_chunks);
  RUN(test_chunk_extensions);
  RUN(test_trailers);
  RUN(test_limits_start_again);
  RUN(test_statuses);
  return 0;
}
