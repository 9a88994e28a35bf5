/* Responses: status line, fields, chunk heads and the date, written into the caller's room. */
#include "http1_private.h"

/* The IANA registry of status codes, with the phrases of RFC 9110 where it has them. */
#define STATUS_MAP(XX)                                                                             \
  XX(100, "Continue")                                                                              \
  XX(101, "Switching Protocols")                                                                   \
  XX(102, "Processing")                                                                            \
  XX(103, "Early Hints")                                                                           \
  XX(200, "OK")                                                                                    \
  XX(201, "Created")                                                                               \
  XX(202, "Accepted")                                                                              \
  XX(203, "Non-Authoritative Information")                                                         \
  XX(204, "No Content")                                                                            \
  XX(205, "Reset Content")                                                                         \
  XX(206, "Partial Content")                                                                       \
  XX(207, "Multi-Status")                                                                          \
  XX(208, "Already Reported")                                                                      \
  XX(226, "IM Used")                                                                               \
  XX(300, "Multiple Choices")                                                                      \
  XX(301, "Moved Permanently")                                                                     \
  XX(302, "Found")                                                                                 \
  XX(303, "See Other")                                                                             \
  XX(304, "Not Modified")                                                                          \
  XX(305, "Use Proxy")                                                                             \
  XX(307, "Temporary Redirect")                                                                    \
  XX(308, "Permanent Redirect")                                                                    \
  XX(400, "Bad Request")                                                                           \
  XX(401, "Unauthorized")                                                                          \
  XX(402, "Payment Required")                                                                      \
  XX(403, "Forbidden")                                                                             \
  XX(404, "Not Found")                                                                             \
  XX(405, "Method Not Allowed")                                                                    \
  XX(406, "Not Acceptable")                                                                        \
  XX(407, "Proxy Authentication Required")                                                         \
  XX(408, "Request Timeout")                                                                       \
  XX(409, "Conflict")                                                                              \
  XX(410, "Gone")                                                                                  \
  XX(411, "Length Required")                                                                       \
  XX(412, "Precondition Failed")                                                                   \
  XX(413, "Content Too Large")                                                                     \
  XX(414, "URI Too Long")                                                                          \
  XX(415, "Unsupported Media Type")                                                                \
  XX(416, "Range Not Satisfiable")                                                                 \
  XX(417, "Expectation Failed")                                                                    \
  XX(421, "Misdirected Request")                                                                   \
  XX(422, "Unprocessable Content")                                                                 \
  XX(423, "Locked")                                                                                \
  XX(424, "Failed Dependency")                                                                     \
  XX(425, "Too Early")                                                                             \
  XX(426, "Upgrade Required")                                                                      \
  XX(428, "Precondition Required")                                                                 \
  XX(429, "Too Many Requests")                                                                     \
  XX(431, "Request Header Fields Too Large")                                                       \
  XX(451, "Unavailable For Legal Reasons")                                                         \
  XX(500, "Internal Server Error")                                                                 \
  XX(501, "Not Implemented")                                                                       \
  XX(502, "Bad Gateway")                                                                           \
  XX(503, "Service Unavailable")                                                                   \
  XX(504, "Gateway Timeout")                                                                       \
  XX(505, "HTTP Version Not Supported")                                                            \
  XX(506, "Variant Also Negotiates")                                                               \
  XX(507, "Insufficient Storage")                                                                  \
  XX(508, "Loop Detected")                                                                         \
  XX(511, "Network Authentication Required")

static const char digit_pairs[] =
    "0001020304050607080910111213141516171819"
    "2021222324252627282930313233343536373839"
    "4041424344454647484950515253545556575859"
    "6061626364656667686970717273747576777879"
    "8081828384858687888990919293949596979899";

fc_slice fc_http1_reason(int status) {
  switch (status) {
#define XX(code, phrase)                                                                           \
  case code:                                                                                       \
    return FC_SLICE(phrase);
    STATUS_MAP(XX)
#undef XX
    default:
      return FC_SLICE("");
  }
}

/* The whole status line of a registered status; empty for any other. */
static fc_slice status_line(int status) {
  switch (status) {
#define XX(code, phrase)                                                                           \
  case code:                                                                                       \
    return FC_SLICE("HTTP/1.1 " #code " " phrase "\r\n");
    STATUS_MAP(XX)
#undef XX
    default:
      return FC_SLICE("");
  }
}

bool fc_http1_is_value(fc_slice value) {
  if (value.len == 0) return true;
  const char *end = value.ptr + value.len;
  return fc_http1_span_value(value.ptr, end) == end;
}

static char *put(char *dst, fc_slice s) {
  if (s.len) memcpy(dst, s.ptr, s.len);
  return dst + s.len;
}

static char *put_two(char *dst, unsigned n) {
  memcpy(dst, digit_pairs + 2 * n, 2);
  return dst + 2;
}

static char *put_decimal(char *dst, uint64_t n) {
  char digits[20], *at = digits + sizeof digits;
  for (; n >= 100; n /= 100) put_two(at -= 2, (unsigned)(n % 100));
  if (n >= 10)
    put_two(at -= 2, (unsigned)n);
  else
    *--at = (char)('0' + n);
  return put(dst, fc_slice_of(at, (size_t)(digits + sizeof digits - at)));
}

/* The space after the number stays even where there is no phrase (RFC 9112, 4). */
static char *put_status(char *dst, int status) {
  fc_slice line = status_line(status);
  if (line.len) return put(dst, line);
  dst = put_decimal(put(dst, FC_SLICE("HTTP/1.1 ")), (uint64_t)status);
  return put(dst, FC_SLICE(" \r\n"));
}

/* Nothing for 1xx and 204, where a framing field is forbidden (RFC 9110, 8.6; RFC 9112, 6.1). */
static char *put_framing(char *dst, int status, int64_t content_length) {
  if (status < 200 || status == 204) return dst;
  if (content_length == FC_HTTP1_LENGTH_CHUNKED)
    return put(dst, FC_SLICE("Transfer-Encoding: chunked\r\n"));
  if (content_length < 0) return dst;
  dst = put_decimal(put(dst, FC_SLICE("Content-Length: ")), (uint64_t)content_length);
  return put(dst, FC_SLICE("\r\n"));
}

static char *put_connection(char *dst, uint8_t connection) {
  if (connection == FC_HTTP1_CONN_CLOSE) return put(dst, FC_SLICE("Connection: close\r\n"));
  if (connection == FC_HTTP1_CONN_KEEP_ALIVE)
    return put(dst, FC_SLICE("Connection: keep-alive\r\n"));
  return dst;
}

/* 192 covers the longest of each fixed part: status line 49, Content-Type 16, Content-Length 38,
 * Connection 24, empty line 2. */
size_t fc_http1_head_bound(const fc_http1_response *r) {
  return 192 + r->content_type.len + r->common.len + r->fields.len;
}

size_t fc_http1_write_head(char *dst, const fc_http1_response *r) {
  int status = r->status >= 100 && r->status <= 999 ? r->status : 500;
  char *at = put_status(dst, status);
  if (r->content_type.len && fc_http1_is_value(r->content_type)) {
    at = put(put(at, FC_SLICE("Content-Type: ")), r->content_type);
    at = put(at, FC_SLICE("\r\n"));
  }
  at = put_framing(at, status, r->content_length);
  at = put_connection(at, r->connection);
  at = put(put(at, r->common), r->fields);
  at = put(at, FC_SLICE("\r\n"));
  return (size_t)(at - dst);
}

int64_t fc_http1_write_field(char *dst, fc_slice name, fc_slice value) {
  if (name.len == 0) return FC_EHTTP_NAME;
  const char *name_end = name.ptr + name.len;
  if (fc_http1_span(name.ptr, name_end, FC_H1_IS_TOKEN) != name_end) return FC_EHTTP_NAME;
  if (!fc_http1_is_value(value)) return FC_EHTTP_VALUE;
  char *at = put(put(put(dst, name), FC_SLICE(": ")), value);
  at = put(at, FC_SLICE("\r\n"));
  return at - dst;
}

size_t fc_http1_write_chunk_head(char *dst, uint64_t size) {
  size_t digits = 1;
  for (uint64_t rest = size >> 4; rest; rest >>= 4) digits++;
  for (size_t i = digits; i-- > 0; size >>= 4) dst[i] = "0123456789abcdef"[size & 15];
  memcpy(dst + digits, "\r\n", 2);
  return digits + 2;
}

/* The Gregorian date of a day counted from 0000-01-01. Years are counted from March in eras of 400
 * years, so that the leap day comes last and an era is always 146,097 days; one era is added and
 * taken off again, since January and February of year 0 lie before the first. */
static void civil_date(uint64_t days, unsigned *year, unsigned *month, unsigned *day) {
  uint64_t from_march = days - 60 + 146097;
  unsigned era = (unsigned)(from_march / 146097), of_era = (unsigned)(from_march % 146097);
  unsigned era_year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
  unsigned of_year = of_era - (365 * era_year + era_year / 4 - era_year / 100);
  unsigned from_march_month = (5 * of_year + 2) / 153; /* five months have 153 days */
  *day = of_year - (153 * from_march_month + 2) / 5 + 1;
  *month = from_march_month < 10 ? from_march_month + 3 : from_march_month - 9;
  *year = (era - 1) * 400 + era_year + (*month <= 2);
}

void fc_http1_write_date(char *dst, int64_t unix_seconds) {
  static const char weekdays[7][4] = {"Sat", "Sun", "Mon", "Tue", "Wed", "Thu", "Fri"};
  static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                     "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  const int64_t year_0 = -62167219200, year_9999_end = 253402300799;
  if (unix_seconds < year_0) unix_seconds = year_0;
  if (unix_seconds > year_9999_end) unix_seconds = year_9999_end;
  uint64_t days = (uint64_t)(unix_seconds - year_0) / 86400;
  unsigned second = (unsigned)((uint64_t)(unix_seconds - year_0) % 86400);
  unsigned year, month, day;
  civil_date(days, &year, &month, &day);
  memcpy(dst, weekdays[days % 7], 3); /* 0000-01-01 is a Saturday */
  memcpy(dst + 3, ", ", 2);
  put_two(dst + 5, day);
  dst[7] = ' ';
  memcpy(dst + 8, months[month - 1], 3);
  dst[11] = ' ';
  put_two(put_two(dst + 12, year / 100), year % 100);
  dst[16] = ' ';
  put_two(dst + 17, second / 3600);
  dst[19] = ':';
  put_two(dst + 20, second / 60 % 60);
  dst[22] = ':';
  put_two(dst + 23, second % 60);
  memcpy(dst + 25, " GMT", 4);
}
