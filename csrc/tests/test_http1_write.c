/* What the HTTP/1.1 writer writes, to the byte. */
#include <time.h>

#include "check.h"
#include "fc/err.h"
#include "fc/http1.h"

/* Writes the head into a block of exactly its bound, and compares. */
static void check_head(const fc_http1_response *r, const char *expected) {
  size_t bound = fc_http1_head_bound(r);
  char *dst = malloc(bound);
  CHECK(dst != NULL);
  size_t n = fc_http1_write_head(dst, r);
  CHECK(n <= bound);
  if (n != strlen(expected) || memcmp(dst, expected, n) != 0) {
    fprintf(stderr, "wrote:\n%.*s\nexpected:\n%s\n", (int)n, dst, expected);
    exit(1);
  }
  free(dst);
}

static void test_head(void) {
  check_head(&(fc_http1_response){.status = 200, .content_length = 0},
             "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
  check_head(&(fc_http1_response){.status = 404,
                                  .connection = FC_HTTP1_CONN_CLOSE,
                                  .content_length = 1234567,
                                  .content_type = FC_SLICE("text/plain"),
                                  .common = FC_SLICE("Server: flowcore\r\n"),
                                  .fields = FC_SLICE("X: y\r\nZ: a\r\n")},
             "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\nContent-Length: 1234567\r\n"
             "Connection: close\r\nServer: flowcore\r\nX: y\r\nZ: a\r\n\r\n");
  check_head(&(fc_http1_response){.status = 200,
                                  .connection = FC_HTTP1_CONN_KEEP_ALIVE,
                                  .content_length = FC_HTTP1_LENGTH_CHUNKED},
             "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n");
  check_head(&(fc_http1_response){.status = 200, .content_length = FC_HTTP1_LENGTH_NONE},
             "HTTP/1.1 200 OK\r\n\r\n");
}

/* The longest of every part at once stays within the bound. */
static void test_head_bound(void) {
  fc_http1_response r = {.status = 511,
                         .connection = FC_HTTP1_CONN_KEEP_ALIVE,
                         .content_length = INT64_MAX,
                         .content_type = FC_SLICE("t")};
  check_head(&r, "HTTP/1.1 511 Network Authentication Required\r\nContent-Type: t\r\n"
                 "Content-Length: 9223372036854775807\r\nConnection: keep-alive\r\n\r\n");
}

static void test_status_line(void) {
  check_head(&(fc_http1_response){.status = 299, .content_length = 5},
             "HTTP/1.1 299 \r\nContent-Length: 5\r\n\r\n");
  check_head(&(fc_http1_response){.status = 999, .content_length = -2}, "HTTP/1.1 999 \r\n\r\n");
  static const int wrong[] = {0, -1, 99, 1000, 2147483647};
  for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
    check_head(&(fc_http1_response){.status = wrong[i], .content_length = -2},
               "HTTP/1.1 500 Internal Server Error\r\n\r\n");
}

/* Where framing is forbidden none is written, whatever was asked for. */
static void test_bodiless(void) {
  check_head(&(fc_http1_response){.status = 204, .content_length = 5},
             "HTTP/1.1 204 No Content\r\n\r\n");
  check_head(&(fc_http1_response){.status = 101, .content_length = FC_HTTP1_LENGTH_CHUNKED},
             "HTTP/1.1 101 Switching Protocols\r\n\r\n");
  check_head(&(fc_http1_response){.status = 304, .content_length = 5},
             "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n");
  CHECK(fc_http1_bodiless(100) && fc_http1_bodiless(199) && fc_http1_bodiless(204));
  CHECK(fc_http1_bodiless(304) && !fc_http1_bodiless(200) && !fc_http1_bodiless(205));
}

static void test_content_length(void) {
  static const int64_t values[] = {0,  1,    9,    10,    11,    99,     100,           101,
                                   999, 1000, 9999, 10000, 65535, 100000, 4294967296ll, INT64_MAX};
  char expected[100];
  for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
    snprintf(expected, sizeof expected, "HTTP/1.1 200 OK\r\nContent-Length: %lld\r\n\r\n",
             (long long)values[i]);
    check_head(&(fc_http1_response){.status = 200, .content_length = values[i]}, expected);
  }
}

static void test_reason(void) {
  CHECK(fc_slice_eq(fc_http1_reason(200), FC_SLICE("OK")));
  CHECK(fc_slice_eq(fc_http1_reason(413), FC_SLICE("Content Too Large")));
  CHECK_INT(fc_http1_reason(299).len, 0);
  CHECK_INT(fc_http1_reason(-1).len, 0);
}

/* A content type that would split the reply is left out. */
static void test_content_type_injection(void) {
  static const fc_slice types[] = {FC_SLICE("a\r\nX: y"), FC_SLICE("a\n"), FC_SLICE("\r"),
                                   FC_SLICE("a\0"), FC_SLICE("text/plain; charset=utf-8\x7f")};
  for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
    check_head(
        &(fc_http1_response){.status = 200, .content_length = 0, .content_type = types[i]},
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
}

static void check_field(fc_slice name, fc_slice value, const char *expected, int error) {
  size_t room = name.len + value.len + 4;
  char *dst = malloc(room);
  CHECK(dst != NULL);
  int64_t n = fc_http1_write_field(dst, name, value);
  CHECK_INT(n, error ? error : (int)room);
  CHECK(error || memcmp(dst, expected, room) == 0);
  free(dst);
}

static void test_field(void) {
  check_field(FC_SLICE("X-Y"), FC_SLICE("a\tb"), "X-Y: a\tb\r\n", 0);
  check_field(FC_SLICE("a"), FC_SLICE(""), "a: \r\n", 0);
  check_field(FC_SLICE("a"), FC_SLICE("\xc3\xa9"), "a: \xc3\xa9\r\n", 0);
  check_field(FC_SLICE("a"), (fc_slice){NULL, 0}, "a: \r\n", 0);
}

static void test_field_injection(void) {
  check_field(FC_SLICE(""), FC_SLICE("x"), NULL, FC_EHTTP_NAME);
  check_field(FC_SLICE("a b"), FC_SLICE("x"), NULL, FC_EHTTP_NAME);
  check_field(FC_SLICE("a:"), FC_SLICE("x"), NULL, FC_EHTTP_NAME);
  check_field(FC_SLICE("a\r\nb"), FC_SLICE("x"), NULL, FC_EHTTP_NAME);
  check_field(FC_SLICE("a\0"), FC_SLICE("x"), NULL, FC_EHTTP_NAME);
  check_field(FC_SLICE("\xc3\xa9"), FC_SLICE("x"), NULL, FC_EHTTP_NAME);
  check_field(FC_SLICE("a"), FC_SLICE("x\r\nSet-Cookie: y"), NULL, FC_EHTTP_VALUE);
  check_field(FC_SLICE("a"), FC_SLICE("x\r"), NULL, FC_EHTTP_VALUE);
  check_field(FC_SLICE("a"), FC_SLICE("\nx"), NULL, FC_EHTTP_VALUE);
  check_field(FC_SLICE("a"), FC_SLICE("0123456789abcdef\n"), NULL, FC_EHTTP_VALUE);
  for (int c = 0; c < 256; c++) { /* at places the 16-byte and the tail loop read */
    for (size_t at = 0; at < 20; at += 3) {
      char value[20], dst[40];
      memset(value, 'v', sizeof value);
      value[at] = (char)c;
      bool ok = c == '\t' || (c >= ' ' && c != 0x7f);
      CHECK_INT(fc_http1_write_field(dst, FC_SLICE("a"), fc_slice_of(value, sizeof value)) > 0, ok);
      CHECK_INT(fc_http1_is_value(fc_slice_of(value, sizeof value)), ok);
    }
  }
}

static void test_chunk_head(void) {
  static const uint64_t sizes[] = {0, 1, 9, 10, 15, 16, 255, 256, 0xabcdef, UINT32_MAX, UINT64_MAX};
  char dst[FC_HTTP1_CHUNK_HEAD_MAX], expected[FC_HTTP1_CHUNK_HEAD_MAX + 1];
  for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
    int n = snprintf(expected, sizeof expected, "%llx\r\n", (unsigned long long)sizes[i]);
    CHECK_INT(fc_http1_write_chunk_head(dst, sizes[i]), n);
    CHECK(memcmp(dst, expected, (size_t)n) == 0);
  }
}

static void check_date(int64_t seconds, const char *expected) {
  char dst[FC_HTTP1_DATE_BYTES];
  fc_http1_write_date(dst, seconds);
  if (memcmp(dst, expected, sizeof dst) != 0) {
    fprintf(stderr, "%lld: %.29s, expected %s\n", (long long)seconds, dst, expected);
    exit(1);
  }
}

static void test_date(void) {
  check_date(784111777, "Sun, 06 Nov 1994 08:49:37 GMT");
  check_date(0, "Thu, 01 Jan 1970 00:00:00 GMT");
  check_date(-1, "Wed, 31 Dec 1969 23:59:59 GMT");
  check_date(951782400, "Tue, 29 Feb 2000 00:00:00 GMT");
  check_date(4107542400, "Mon, 01 Mar 2100 00:00:00 GMT");
  check_date(253402300799, "Fri, 31 Dec 9999 23:59:59 GMT");
  check_date(INT64_MAX, "Fri, 31 Dec 9999 23:59:59 GMT");
  check_date(-62167219200, "Sat, 01 Jan 0000 00:00:00 GMT");
  check_date(INT64_MIN, "Sat, 01 Jan 0000 00:00:00 GMT");
}

/* Against the C library, in the C locale, at steps that wander through days and years. */
static void test_date_against_libc(void) {
  for (int64_t t = -62167219200; t <= 253402300799; t += 86400 * 37 + 12345) {
    char expected[80];
    struct tm tm;
    time_t seconds = (time_t)t;
    CHECK(gmtime_r(&seconds, &tm) != NULL);
    int year = tm.tm_year + 1900;
    size_t n = strftime(expected, sizeof expected, "%a, %d %b ", &tm);
    n += (size_t)snprintf(expected + n, sizeof expected - n, "%04d ", year);
    strftime(expected + n, sizeof expected - n, "%H:%M:%S GMT", &tm);
    check_date(t, expected);
  }
}

int main(void) {
  RUN(test_head);
  RUN(test_head_bound);
  RUN(test_status_line);
  RUN(test_bodiless);
  RUN(test_content_length);
  RUN(test_reason);
  RUN(test_content_type_injection);
  RUN(test_field);
  RUN(test_field_injection);
  RUN(test_chunk_head);
  RUN(test_date);
  RUN(test_date_against_libc);
  return 0;
}
