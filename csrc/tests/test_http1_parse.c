/* What the HTTP/1.1 parser accepts, what it rejects, and that pieces never matter. Limits are in
 * test_http1_limits.c. */
#include "http1_drive.h"

#define GET "GET / HTTP/1.1\r\nHost: a\r\n"
#define POST "POST / HTTP/1.1\r\nHost: a\r\n"
#define CHUNKED POST "Transfer-Encoding: chunked\r\n\r\n"
#define LINE(text) text "\r\nHost: a\r\n\r\n"
#define HOST(text) "GET / HTTP/1.1\r\nHost:" text "\r\n\r\n"
#define LENGTH(text) POST "Content-Length:" text "\r\n\r\n"
#define CODING(text) POST "Transfer-Encoding:" text "\r\n\r\n"

typedef struct sample {
  const char *name;
  fc_slice input;
  int error;
  int status;
} sample;

#define S(name, input, error, status) {name, {input, sizeof(input) - 1}, FC_EHTTP_##error, status}

static const sample rejected[] = {
    S("TLS ClientHello", "\x16\x03\x01\x02", METHOD, 400),
    S("method: one bad byte of an incomplete line", "G\x16", METHOD, 400),
    S("method: empty", " / HTTP/1.1\r\n", METHOD, 400),
    S("method: separator", "GE(T / HTTP/1.1\r\n", METHOD, 400),
    S("method: NUL", "GE\0T / HTTP/1.1\r\n", METHOD, 400),
    S("method: 33 bytes", "ABCDEFGHIJKLMNOPQRSTUVWXYZ1234567", METHOD, 400),
    S("method: ended by HTAB", "GET\t/ HTTP/1.1\r\n", METHOD, 400),
    S("two empty lines first", "\r\n\r\n" GET "\r\n", METHOD, 400),
    S("bare LF first", "\n" GET "\r\n", METHOD, 400),
    S("bare CR first", "\rGET / HTTP/1.1\r\n", LINE_END, 400),

    S("target: empty", LINE("GET  HTTP/1.1"), TARGET, 400),
    S("target: two spaces before", LINE("GET  / HTTP/1.1"), TARGET, 400),
    S("target: HTAB inside", LINE("GET /\ta HTTP/1.1"), TARGET, 400),
    S("target: NUL", LINE("GET /\0 HTTP/1.1"), TARGET, 400),
    S("target: DEL", LINE("GET /\x7f HTTP/1.1"), TARGET, 400),
    S("target: fragment", LINE("GET /a#b HTTP/1.1"), TARGET, 400),
    S("target: fragment after 16 bytes", LINE("GET /0123456789abcdef#b HTTP/1.1"), TARGET, 400),
    S("target: no slash", LINE("GET a HTTP/1.1"), TARGET, 400),
    S("target: * for GET", LINE("GET * HTTP/1.1"), TARGET, 400),
    S("target: ** for OPTIONS", LINE("OPTIONS ** HTTP/1.1"), TARGET, 400),
    S("target: authority-form for GET", LINE("GET a:80 HTTP/1.1"), TARGET, 400),
    S("target: origin-form for CONNECT", LINE("CONNECT / HTTP/1.1"), TARGET, 400),
    S("target: absolute-form for CONNECT", LINE("CONNECT http://a:80 HTTP/1.1"), TARGET, 400),
    S("target: CONNECT without port", LINE("CONNECT a HTTP/1.1"), TARGET, 400),
    S("target: CONNECT with empty port", LINE("CONNECT a: HTTP/1.1"), TARGET, 400),
    S("target: CONNECT without host", LINE("CONNECT :80 HTTP/1.1"), TARGET, 400),
    S("target: another scheme", LINE("GET ftp://a/ HTTP/1.1"), TARGET, 400),
    S("target: scheme without host", LINE("GET http:/// HTTP/1.1"), TARGET, 400),
    S("target: scheme alone", LINE("GET http:// HTTP/1.1"), TARGET, 400),
    S("target: user information", LINE("GET http://u@a/ HTTP/1.1"), TARGET, 400),
    S("target: bad port", LINE("GET http://a:8x/ HTTP/1.1"), TARGET, 400),

    S("version: none (HTTP/0.9)", "GET /\r\n", VERSION, 400),
    S("version: lower case", LINE("GET / http/1.1"), VERSION, 400),
    S("version: mixed case", LINE("GET / HTTp/1.1"), VERSION, 400),
    S("version: another name", LINE("GET / HTTQ/1.1"), VERSION, 400),
    S("version: no minor", LINE("GET / HTTP/1"), VERSION, 400),
    S("version: comma", LINE("GET / HTTP/1,1"), VERSION, 400),
    S("version: minor of two digits", LINE("GET / HTTP/1.10"), VERSION, 400),
    S("version: major of two digits", LINE("GET / HTTP/11.1"), VERSION, 400),
    S("version: letter", LINE("GET / HTTP/1.x"), VERSION, 400),
    S("version: two spaces before", LINE("GET /  HTTP/1.1"), VERSION, 400),
    S("version: space after", LINE("GET / HTTP/1.1 "), VERSION, 400),
    S("version: a fourth part", LINE("GET / a HTTP/1.1"), VERSION, 400),
    S("version: 2.0", LINE("GET / HTTP/2.0"), VERSION_UNKNOWN, 505),
    S("version: 0.9", LINE("GET / HTTP/0.9"), VERSION_UNKNOWN, 505),
    S("version: the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", VERSION_UNKNOWN, 505),
    S("request line: bare LF", "GET / HTTP/1.1\nHost: a\r\n\r\n", LINE_END, 400),
    S("request line: bare LF, no version", "GET /\nHost: a\r\n\r\n", LINE_END, 400),
    S("request line: bare CR", "GET / HTTP/1.1\rHost: a\r\n\r\n", LINE_END, 400),

    S("name: empty", GET ": b\r\n\r\n", NAME, 400),
    S("name: space before the colon", GET "X : b\r\n\r\n", NAME, 400),
    S("name: HTAB before the colon", GET "X\t: b\r\n\r\n", NAME, 400),
    S("name: no colon", GET "X\r\n\r\n", NAME, 400),
    S("name: NUL", GET "X\0: b\r\n\r\n", NAME, 400),
    S("name: not ASCII", GET "\xc3\xa9: b\r\n\r\n", NAME, 400),
    S("name: bare CR", GET "X\rY: b\r\n\r\n", NAME, 400),
    S("value: NUL", GET "X: a\0b\r\n\r\n", VALUE, 400),
    S("value: NUL after 16 bytes", GET "X: 0123456789abcdef\0b\r\n\r\n", VALUE, 400),
    S("value: vertical tab", GET "X: a\vb\r\n\r\n", VALUE, 400),
    S("value: DEL", GET "X: a\x7f\r\n\r\n", VALUE, 400),
    S("value: ESC at its start", GET "X:\x1b\r\n\r\n", VALUE, 400),
    S("value: bare CR", GET "X: a\rb\r\n\r\n", LINE_END, 400),
    S("value: CR CR LF", GET "X: a\r\r\n\r\n", LINE_END, 400),
    S("value: bare LF", GET "X: a\n\r\n", LINE_END, 400),
    S("empty line: bare LF", GET "\n", LINE_END, 400),
    S("empty line: bare CR", GET "\rX", LINE_END, 400),
    S("fold: space", GET "X: a\r\n b\r\n\r\n", FOLD, 400),
    S("fold: HTAB", GET "X: a\r\n\tb\r\n\r\n", FOLD, 400),
    S("fold: before the first field", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", FOLD, 400),
    S("fold: of nothing", GET " \r\n\r\n", FOLD, 400),

    S("Host: missing", "GET / HTTP/1.1\r\n\r\n", HOST, 400),
    S("Host: twice", GET "Host: a\r\n\r\n", HOST, 400),
    S("Host: twice on 1.0", "GET / HTTP/1.0\r\nHost: a\r\nhost: b\r\n\r\n", HOST, 400),
    S("Host: space", HOST("a b"), HOST, 400),
    S("Host: list", HOST("a,b"), HOST, 400),
    S("Host: slash", HOST("a/b"), HOST, 400),
    S("Host: user information", HOST("u@a"), HOST, 400),
    S("Host: not ASCII", HOST("\xc3\xa9"), HOST, 400),
    S("Host: port alone", HOST(":80"), HOST, 400),
    S("Host: two ports", HOST("a:80:80"), HOST, 400),
    S("Host: port with a sign", HOST("a:+80"), HOST, 400),
    S("Host: port of letters", HOST("a:http"), HOST, 400),
    S("Host: port too large", HOST("a:65536"), HOST, 400),
    S("Host: port too long", HOST("a:000080"), HOST, 400),
    S("Host: bare IPv6", HOST("::1"), HOST, 400),
    S("Host: open bracket", HOST("[::1"), HOST, 400),
    S("Host: bracketed name", HOST("[a]"), HOST, 400),
    S("Host: empty brackets", HOST("[]"), HOST, 400),
    S("Host: text after the bracket", HOST("[::1]a"), HOST, 400),
    S("Host: IPv6 of nine groups", HOST("[1:2:3:4:5:6:7:8:9]"), HOST, 400),
    S("Host: IPv6 zone", HOST("[fe80::1%25eth0]"), HOST, 400),
    S("Host: NUL-like end of IPv6",
      HOST("[0000:0000:0000:0000:0000:0000:0000:0000:0000:0000]"), HOST, 400),
    S("Host: bad percent", HOST("a%2x"), HOST, 400),
    S("Host: cut percent", HOST("a%2"), HOST, 400),

    S("length: empty", LENGTH(""), LENGTH, 400),
    S("length: plus", LENGTH(" +5"), LENGTH, 400),
    S("length: minus", LENGTH(" -5"), LENGTH, 400),
    S("length: minus zero", LENGTH(" -0"), LENGTH, 400),
    S("length: hexadecimal", LENGTH(" 0x5"), LENGTH, 400),
    S("length: underscore", LENGTH(" 1_0"), LENGTH, 400),
    S("length: space inside", LENGTH(" 1 0"), LENGTH, 400),
    S("length: fraction", LENGTH(" 5.0"), LENGTH, 400),
    S("length: quoted", LENGTH(" \"5\""), LENGTH, 400),
    S("length: list of equals", LENGTH(" 5, 5"), LENGTH, 400),
    S("length: list", LENGTH(" 5, 6"), LENGTH, 400),
    S("length: repeated, equal", LENGTH(" 5\r\nContent-Length: 5"), LENGTH, 400),
    S("length: repeated, different", LENGTH(" 5\r\nContent-Length: 6"), LENGTH, 400),
    S("length: 2^64", LENGTH(" 18446744073709551616"), LENGTH, 400),
    S("length: 2^64 + 5", LENGTH(" 18446744073709551621"), LENGTH, 400),
    S("length: 10 * 2^64", LENGTH(" 184467440737095516160"), LENGTH, 400),
    S("length: 2^64 - 1", LENGTH(" 18446744073709551615"), BODY_LIMIT, 413),

    S("framing: both", CODING(" chunked\r\nContent-Length: 5"), FRAMING, 400),
    S("framing: both, length first", LENGTH(" 0\r\nTransfer-Encoding: chunked"), FRAMING, 400),
    S("framing: coding on 1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", FRAMING,
      400),
    S("coding: empty", CODING(""), CODING, 400),
    S("coding: identity", CODING(" identity"), CODING, 400),
    S("coding: gzip alone", CODING(" gzip"), CODING, 400),
    S("coding: chunked not last", CODING(" chunked, gzip"), CODING, 400),
    S("coding: chunked not on the last line",
      CODING(" chunked\r\nTransfer-Encoding: gzip"), CODING, 400),
    S("coding: chunked twice", CODING(" chunked, chunked"), CODING, 400),
    S("coding: chunked on two lines",
      CODING(" chunked\r\nTransfer-Encoding: chunked"), CODING, 400),
    S("coding: empty element first", CODING(" , chunked"), CODING, 400),
    S("coding: empty element last", CODING(" chunked,"), CODING, 400),
    S("coding: chunked with parameter", CODING(" chunked;q=1"), CODING, 400),
    S("coding: chunked with parameter, before", CODING(" chunked;q=1, chunked"), CODING, 400),
    S("coding: quoted", CODING(" \"chunked\""), CODING, 400),
    S("coding: not a list", CODING(" gzip chunked"), CODING, 400),
    S("coding: prefix", CODING(" xchunked"), CODING, 400),
    S("coding: suffix", CODING(" chunkedx"), CODING, 400),
    S("coding: vertical tab", CODING(" \vchunked"), VALUE, 400),
    S("coding: unknown first", CODING(" gzip, chunked"), CODING_UNKNOWN, 501),
    S("coding: unknown with parameter", CODING(" x;q=1 , chunked"), CODING_UNKNOWN, 501),
    S("coding: unknown on a line before",
      CODING(" gzip\r\nTransfer-Encoding: chunked"), CODING_UNKNOWN, 501),

    S("chunk: empty size", CHUNKED "\r\n", CHUNK, 400),
    S("chunk: extension without size", CHUNKED ";a\r\n", CHUNK, 400),
    S("chunk: plus", CHUNKED "+1\r\na\r\n", CHUNK, 400),
    S("chunk: minus", CHUNKED "-1\r\na\r\n", CHUNK, 400),
    S("chunk: 0x", CHUNKED "0x1\r\na\r\n", CHUNK, 400),
    S("chunk: underscore", CHUNKED "1_0\r\n", CHUNK, 400),
    S("chunk: not hexadecimal", CHUNKED "g\r\n", CHUNK, 400),
    S("chunk: space before", CHUNKED " 1\r\na\r\n", CHUNK, 400),
    S("chunk: space after", CHUNKED "1 \r\na\r\n", CHUNK, 400),
    S("chunk: space inside", CHUNKED "1 0\r\n", CHUNK, 400),
    S("chunk: 17 digits", CHUNKED "00000000000000001\r\na\r\n", CHUNK, 400),
    S("chunk: 2^64", CHUNKED "10000000000000000\r\n", CHUNK, 400),
    S("chunk: bare LF after the size", CHUNKED "1\na\r\n", CHUNK, 400),
    S("chunk: bare CR after the size", CHUNKED "1\ra\r\n", CHUNK, 400),
    S("chunk: data too long", CHUNKED "1\r\nab\r\n", CHUNK, 400),
    S("chunk: bare LF after the data", CHUNKED "1\r\na\n0\r\n\r\n", CHUNK, 400),
    S("chunk: bare CR after the data", CHUNKED "1\r\na\r0\r\n\r\n", CHUNK, 400),
    S("chunk: sum passes 64 bits", CHUNKED "1\r\na\r\nffffffffffffffff\r\n", BODY_LIMIT, 413),
    S("extension: without name", CHUNKED "1;\r\na\r\n", CHUNK, 400),
    S("extension: without value", CHUNKED "1;a=\r\na\r\n", CHUNK, 400),
    S("extension: NUL", CHUNKED "1;a\0\r\na\r\n", CHUNK, 400),
    S("extension: bare LF", CHUNKED "1;a\na\r\n", CHUNK, 400),
    S("extension: bare CR", CHUNKED "1;a\rb\r\n", CHUNK, 400),
    S("extension: open quote", CHUNKED "1;a=\"b\r\na\r\n", CHUNK, 400),
    S("extension: control in quotes", CHUNKED "1;a=\"\x01\"\r\na\r\n", CHUNK, 400),
    S("extension: escaped CR", CHUNKED "1;a=\"\\\r\n\"\r\na\r\n", CHUNK, 400),
    S("extension: text after quotes", CHUNKED "1;a=\"b\"c\r\na\r\n", CHUNK, 400),
    S("extension: two values", CHUNKED "1;a=b=c\r\na\r\n", CHUNK, 400),
    S("extension: two names", CHUNKED "1;a b\r\na\r\n", CHUNK, 400),
    S("trailer: fold", CHUNKED "0\r\nX: a\r\n b\r\n\r\n", FOLD, 400),
    S("trailer: empty name", CHUNKED "0\r\n: a\r\n\r\n", NAME, 400),
    S("trailer: no colon", CHUNKED "0\r\nX\r\n\r\n", NAME, 400),
    S("trailer: space before the colon", CHUNKED "0\r\nX : a\r\n\r\n", NAME, 400),
    S("trailer: control", CHUNKED "0\r\nX: \x01\r\n\r\n", VALUE, 400),
    S("trailer: bare LF", CHUNKED "0\r\nX: a\n\r\n", LINE_END, 400),
    S("trailer: bare CR", CHUNKED "0\r\nX: a\rb\r\n\r\n", LINE_END, 400),
    S("trailer: bare LF for the empty line", CHUNKED "0\r\n\n", LINE_END, 400),
    S("trailer: bare CR for the empty line", CHUNKED "0\r\n\rX", LINE_END, 400),
};

/* Valid streams; `status` is the number of messages in them, and no byte is left over. */
#define V(name, input, messages) {name, {input, sizeof(input) - 1}, 0, messages}

static const sample accepted[] = {
    V("plain", GET "\r\n", 1),
    V("one empty line first", "\r\n" GET "\r\n", 1),
    V("1.0 without Host", "GET / HTTP/1.0\r\n\r\n", 1),
    V("a token of 32 bytes", LINE("ABCDEFGHIJKLMNOPQRSTUVWXYZ!#$%&' / HTTP/1.1"), 1),
    V("OPTIONS *", LINE("OPTIONS * HTTP/1.1"), 1),
    V("OPTIONS of a path", LINE("OPTIONS /a HTTP/1.1"), 1),
    V("CONNECT name", LINE("CONNECT example.org:443 HTTP/1.1"), 1),
    V("CONNECT IPv6", LINE("CONNECT [::1]:443 HTTP/1.1"), 1),
    V("absolute-form", LINE("GET HtTp://example.org HTTP/1.1"), 1),
    V("absolute-form, https, query", LINE("GET https://[::ffff:1.2.3.4]:8?a=b HTTP/1.1"), 1),
    V("target of odd bytes", LINE("GET /\"<>\\^`{|}\x80\xff~%zz?a=[]?* HTTP/1.1"), 1),
    V("fields of every shape",
      GET "A:\r\nB: \t \r\nC:c\r\nD: \t d d\t \r\nE: \xff\x80\r\n!#$%&'*+-.^_`|~9z: x\r\n\r\n", 1),
    V("long value", GET "A: 0123456789abcdef0123456789abcdef0123456789abcdef\r\n\r\n", 1),
    V("length", LENGTH(" 5") "hello", 1),
    V("length with zeros", LENGTH("\t005 ") "hello", 1),
    V("length zero", LENGTH("0"), 1),
    V("chunked", CHUNKED "5\r\nhello\r\n00a\r\n0123456789\r\nF\r\n0123456789abcde\r\n0\r\n\r\n", 1),
    V("no chunks", CHUNKED "0000000000000000\r\n\r\n", 1),
    V("extensions",
      CHUNKED "1;a\r\nx\r\n1 ; a = b\t;c=\"\";d=\"\\\" ;=\xff\\\t\" ;e\r\ny\r\n0;z\r\n\r\n", 1),
    V("trailers", CHUNKED "0\r\nA: b\r\nContent-Length: 7\r\nC:\r\n\r\n", 1),
    V("CHUNKED", CODING("\tCHUNKED ") "0\r\n\r\n", 1),
    V("pipeline",
      GET "\r\n" LENGTH("2") "ab" CHUNKED "1\r\n\n\r\n0\r\nX: y\r\n\r\n\r\n" GET "\r\n", 4),
};

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static void check_same(const sample *s, const http1_log *whole, size_t first, size_t step) {
  fc_http1_limits limits = fc_http1_limits_default();
  http1_log cut = drive(&limits, s->input.ptr, s->input.len, first, step);
  if (!log_equal(whole, &cut)) {
    fprintf(stderr, "%s: cut at %zu, %zu:\n%.*s\nbut whole:\n%.*s\n", s->name, first, step,
            (int)cut.len, cut.text, (int)whole->len, whole->text);
    exit(1);
  }
  log_free(&cut);
}

/* Whole, byte by byte, and cut in two at every byte. */
static void check_sample(const sample *s, unsigned messages) {
  fc_http1_limits limits = fc_http1_limits_default();
  http1_log whole = drive(&limits, s->input.ptr, s->input.len, s->input.len, 0);
  bool right = whole.error == s->error && (s->error ? whole.status == s->status
                                                    : whole.messages == messages);
  if (!right) {
    fprintf(stderr, "%s: error %d (%s), status %d, %u messages\n", s->name, whole.error,
            whole.error ? fc_err_name(whole.error) : "none", whole.status, whole.messages);
    exit(1);
  }
  check_same(s, &whole, 1, 1);
  for (size_t cut = 0; cut < s->input.len; cut++) check_same(s, &whole, cut, 0);
  log_free(&whole);
}

static void test_rejected(void) {
  for (size_t i = 0; i < COUNT(rejected); i++) check_sample(&rejected[i], 0);
}

static void test_accepted(void) {
  for (size_t i = 0; i < COUNT(accepted); i++)
    check_sample(&accepted[i], (unsigned)accepted[i].status);
}

/* A rejection needs no byte more than the one that is wrong: all but it is still acceptable. */
static void test_errors_come_at_once(void) {
  static const struct {
    fc_slice input;
    int error;
  } early[] = {
      {FC_SLICE("\x16"), FC_EHTTP_METHOD},
      {FC_SLICE("GET a\t"), FC_EHTTP_TARGET},
      {FC_SLICE("GET / h"), FC_EHTTP_VERSION},
      {FC_SLICE(GET " "), FC_EHTTP_FOLD},
      {FC_SLICE(GET "X: a\n"), FC_EHTTP_LINE_END},
      {FC_SLICE(GET "Host: b\r\n"), FC_EHTTP_HOST},
      {FC_SLICE(CHUNKED "g"), FC_EHTTP_CHUNK},
  };
  fc_http1_limits limits = fc_http1_limits_default();
  for (size_t i = 0; i < COUNT(early); i++) {
    fc_slice s = early[i].input;
    http1_log short_of_it = drive(&limits, s.ptr, s.len - 1, 1, 1);
    http1_log with_it = drive(&limits, s.ptr, s.len, 1, 1);
    CHECK_INT(short_of_it.error, 0);
    CHECK_INT(with_it.error, early[i].error);
    log_free(&short_of_it);
    log_free(&with_it);
  }
}

/* ---- every byte in every place, against the sets the RFCs name ------------------------------ */

static bool is_token(int c) {
  return c && (strchr("!#$%&'*+-.^_`|~", c) || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
               (c >= 'A' && c <= 'Z'));
}

static bool is_value(int c) {
  return c == '\t' || (c >= ' ' && c != 0x7f);
}

static bool is_target(int c) {
  return c > ' ' && c != 0x7f && c != '#';
}

static bool is_host(int c) {
  return c && (strchr("-._~!$&'()*+;=", c) || (is_token(c) && !strchr("#%^`|", c)));
}

/* Whether the stream is accepted with the byte at `at` replaced by `c`. */
static bool ok_with(const char *text, size_t at, int c) {
  char stream[256];
  size_t len = strlen(text);
  fc_http1_limits limits = fc_http1_limits_default();
  memcpy(stream, text, len);
  stream[at] = (char)c;
  http1_log log = drive(&limits, stream, len, len, 0);
  bool ok = log.messages == 1 && log.error == 0;
  log_free(&log);
  return ok;
}

static void test_every_byte(void) {
  const char *text = "GxT /0x23456789abcdef HTTP/1.1\r\nHost: axb\r\nNxN: 0123456789abcxef\r\n\r\n";
  size_t target = (size_t)(strstr(text, "0x2") - text) + 1;
  size_t host = (size_t)(strstr(text, "axb") - text) + 1;
  size_t name = (size_t)(strstr(text, "NxN") - text) + 1;
  size_t value = (size_t)(strstr(text, "cxe") - text) + 1;
  for (int c = 0; c < 256; c++) {
    CHECK_INT(ok_with(text, 1, c), is_token(c));
    CHECK_INT(ok_with(text, target, c), is_target(c));
    CHECK_INT(ok_with(text, host, c), is_host(c));
    CHECK_INT(ok_with(text, name, c), is_token(c) || c == ':');
    for (size_t i = value - 13; i < value + 3; i++) CHECK_INT(ok_with(text, i, c), is_value(c));
  }
}

/* ---- what a head says ----------------------------------------------------------------------- */

typedef struct parsed {
  fc_http1_parser p;
  fc_http1_limits limits;
  fc_http1_field fields[FC_HTTP1_MAX_HEADERS];
  int64_t result;
} parsed;

static void parse(parsed *t, const char *text) {
  t->limits = fc_http1_limits_default();
  fc_http1_init(&t->p, &t->limits, t->fields);
  t->result = fc_http1_head(&t->p, text, strlen(text));
}

static void test_methods(void) {
  static const char *const names[] = {"GET",     "HEAD",    "POST",  "PUT",  "DELETE",
                                      "CONNECT", "OPTIONS", "TRACE", "PATCH"};
  static const char *const others[] = {"get", "GEX", "POSX", "HEAX", "TRACX", "DELETX", "OPTIONX",
                                       "G",   "PROPFIND"};
  char text[80];
  parsed t;
  CHECK_INT(COUNT(names), FC_HTTP1_METHOD_COUNT);
  for (unsigned i = 0; i < COUNT(names); i++) {
    snprintf(text, sizeof text, "%s %s HTTP/1.0\r\n\r\n", names[i], i == 5 ? "a:1" : "/");
    parse(&t, text);
    CHECK_INT(t.result, strlen(text));
    CHECK_INT(t.p.method, i);
    CHECK(fc_slice_eq(fc_http1_method_name((fc_http1_method)i),
                      fc_slice_of(names[i], strlen(names[i]))));
  }
  for (unsigned i = 0; i < COUNT(others); i++) {
    snprintf(text, sizeof text, "%s / HTTP/1.0\r\n\r\n", others[i]);
    parse(&t, text);
    CHECK_INT(t.result, strlen(text));
    CHECK_INT(t.p.method, FC_HTTP1_METHOD_OTHER);
  }
  CHECK_INT(fc_http1_method_name(FC_HTTP1_METHOD_OTHER).len, 0);
}

static void test_minor(void) {
  parsed t;
  parse(&t, "GET / HTTP/1.0\r\n\r\n");
  CHECK_INT(t.p.minor, 0);
  parse(&t, GET "\r\n");
  CHECK_INT(t.p.minor, 1);
  parse(&t, LINE("GET / HTTP/1.9"));
  CHECK_INT(t.p.minor, 1);
}

static void test_offsets_and_find(void) {
  const char *text = "\r\nPOST /a?b HTTP/1.1\r\nhost:\tx\t \t\r\n"
                     "X-A: 1\r\nx-a: 2\r\nE:\r\n\r\nrest";
  parsed t;
  parse(&t, text);
  CHECK_INT(t.result, strlen(text) - 4);
  CHECK_INT(t.p.method_off, 2);
  CHECK(fc_slice_eq(fc_http1_slice(text, t.p.target_off, t.p.target_len), FC_SLICE("/a?b")));
  CHECK_INT(t.p.field_count, 4);
  const fc_http1_field *f = fc_http1_find(&t.p, text, FC_SLICE("x-A"));
  CHECK(f == &t.fields[1]);
  CHECK(fc_slice_eq(fc_http1_slice(text, f->name, f->name_len), FC_SLICE("X-A")));
  CHECK(fc_slice_eq(fc_http1_slice(text, f->value, f->value_len), FC_SLICE("1")));
  f = fc_http1_find(&t.p, text, FC_SLICE("Host"));
  CHECK(f && fc_slice_eq(fc_http1_slice(text, f->value, f->value_len), FC_SLICE("x")));
  f = fc_http1_find(&t.p, text, FC_SLICE("e"));
  CHECK(f && f->value_len == 0);
  CHECK(!fc_http1_find(&t.p, text, FC_SLICE("X")));
  CHECK(!fc_http1_find(&t.p, text, FC_SLICE("")));
}

/* The whole of what is read, spelled out once. */
static void test_log_of_a_pipeline(void) {
  fc_slice stream = FC_SLICE("\r\nPUT /a HTTP/1.1\r\nhost:x\t\r\nT: \t\r\n"
                             "Content-Length: 3\r\n\r\n"
                             "a\r\n" CHUNKED "1;x=y\r\nb\r\n0C\r\n\r\n0\r\n\r\nhello"
                             "\r\n0\r\nX: y\r\n\r\nGET / HTTP/1.0\r\n\r\n");
  const char *expected = "PUT|/a|3 1.1 framing=1 length=3 keep\nhost|x|\nT||\nContent-Length|3|\n"
                         "a\r\n\nend\n"
                         "POST|/|2 1.1 framing=2 length=0 keep\nHost|a|\n"
                         "Transfer-Encoding|chunked|\n"
                         "b\r\n0\r\n\r\nhello"
                         "\nend\n"
                         "GET|/|0 1.0 framing=0 length=0\n\nend\n";
  fc_http1_limits limits = fc_http1_limits_default();
  http1_log log = drive(&limits, stream.ptr, stream.len, stream.len, 0);
  CHECK(fc_slice_eq(fc_slice_of(log.text, log.len), fc_slice_of(expected, strlen(expected))));
  log_free(&log);
}

static void test_hosts(void) {
  static const char *const good[] = {"", "a", "a:", "a:0", "a:65535", "1.2.3.4:80", "[::1]",
                                     "[::1]:80", "[::]:", "a%2Eb.c-d", "_x", "LOCALHOST",
                                     "[1:2:3:4:5:6:255.255.255.255]"};
  char text[120];
  parsed t;
  for (size_t i = 0; i < COUNT(good); i++) {
    snprintf(text, sizeof text, "GET / HTTP/1.1\r\nHOST: %s\r\n\r\n", good[i]);
    parse(&t, text);
    CHECK_INT(t.result, strlen(text));
  }
}

static void test_keep_alive(void) {
  static const struct {
    int minor;
    const char *fields;
    bool keep_alive;
  } cases[] = {
      {1, "", true},
      {1, "Connection: close\r\n", false},
      {1, "connection: CLOSE\r\n", false},
      {1, "Connection: keep-alive, close\r\n", false},
      {1, "Connection: ,close,,\r\n", false},
      {1, "Connection: x\r\nConnection: a,\tclose \r\n", false},
      {1, "Connection: closed\r\n", true},
      {1, "Connection: not-close, \"close\"\r\n", true},
      {1, "Connection:\r\n", true},
      {1, "Keep-Alive: close\r\n", true},
      {1, "Connectiom: close\r\n", true},
      {0, "", false},
      {0, "Connection: keep-alive\r\n", true},
      {0, "Connection: Keep-Alive, x\r\n", true},
      {0, "Connection: keep-alive\r\nConnection: close\r\n", false},
      {0, "Keep-Alive: 5\r\n", false},
  };
  char text[200];
  parsed t;
  for (size_t i = 0; i < COUNT(cases); i++) {
    snprintf(text, sizeof text, "GET / HTTP/1.%d\r\nHost: a\r\n%s\r\n", cases[i].minor,
             cases[i].fields);
    parse(&t, text);
    CHECK_INT(t.result, strlen(text));
    CHECK_INT(t.p.keep_alive, cases[i].keep_alive);
  }
}

static void test_expect_and_upgrade(void) {
  parsed t;
  parse(&t, POST "Expect: 100-Continue\r\nContent-Length: 1\r\n\r\n");
  CHECK(t.p.expect_continue && t.p.framing == FC_HTTP1_LENGTH && t.p.content_length == 1);
  parse(&t, POST "Transfer-Encoding: chunked\r\nEXPECT: 100-continue\r\n\r\n");
  CHECK(t.p.expect_continue && t.p.framing == FC_HTTP1_CHUNKED);
  parse(&t, POST "Expect: 100-continue\r\nContent-Length: 0\r\n\r\n");
  CHECK(t.result > 0 && !t.p.expect_continue && t.p.framing == FC_HTTP1_NO_BODY);
  parse(&t, POST "Expect: 100-continue, x\r\nContent-Length: 1\r\n\r\n");
  CHECK(t.result > 0 && !t.p.expect_continue);
  parse(&t, "POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n");
  CHECK(t.result > 0 && !t.p.expect_continue);

  parse(&t, GET "Connection: keep-alive, Upgrade\r\nupgrade: websocket\r\n\r\n");
  CHECK(t.p.upgrade && t.p.keep_alive);
  parse(&t, GET "Upgrade: websocket\r\n\r\n");
  CHECK(t.result > 0 && !t.p.upgrade);
  parse(&t, GET "Connection: upgrade\r\nUpgrade:\r\n\r\n");
  CHECK(t.result > 0 && !t.p.upgrade);
  parse(&t, "GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: a\r\n\r\n");
  CHECK(t.result > 0 && !t.p.upgrade);
}

/* ---- the order of calls --------------------------------------------------------------------- */

static void test_call_order(void) {
  const char *text = LENGTH("2");
  parsed t;
  size_t used = 7;
  fc_slice out;
  parse(&t, "GET /");
  CHECK_INT(t.result, 0);
  CHECK_INT(fc_http1_body(&t.p, "x", 1, &used, &out), FC_ESTATE);
  CHECK_INT(used, 0);
  parse(&t, text);
  CHECK_INT(t.result, strlen(text));
  CHECK_INT(fc_http1_head(&t.p, text, strlen(text)), FC_ESTATE);
  CHECK_INT(fc_http1_body(&t.p, "", 0, &used, &out), FC_HTTP1_MORE);
  CHECK_INT(fc_http1_body(&t.p, "abc", 3, &used, &out), FC_HTTP1_DATA);
  CHECK(used == 2 && fc_slice_eq(out, FC_SLICE("ab")));
  CHECK_INT(fc_http1_body(&t.p, NULL, 0, &used, &out), FC_HTTP1_DONE);
  CHECK_INT(fc_http1_body(&t.p, "c", 1, &used, &out), FC_HTTP1_DONE);
  CHECK_INT(used, 0);
  parse(&t, GET "\r\n");
  CHECK_INT(fc_http1_body(&t.p, "c", 1, &used, &out), FC_HTTP1_DONE);
  CHECK_INT(used, 0);
}

/* A reset forgets everything of the message before, even one that was left in the middle. */
static void test_reset(void) {
  parsed t;
  const char *text = "GET / HTTP/1.0\r\n\r\n";
  parse(&t, POST "Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n");
  CHECK(t.result > 0);
  fc_http1_reset(&t.p);
  CHECK_INT(fc_http1_head(&t.p, text, strlen(text)), strlen(text));
  CHECK(t.p.framing == FC_HTTP1_NO_BODY && t.p.field_count == 0 && !t.p.keep_alive);
  parse(&t, "GET / HTT");
  fc_http1_reset(&t.p);
  CHECK_INT(fc_http1_head(&t.p, text, strlen(text)), strlen(text));
}

int main(void) {
  RUN(test_rejected);
  RUN(test_accepted);
  RUN(test_errors_come_at_once);
  RUN(test_every_byte);
  RUN(test_methods);
  RUN(test_minor);
  RUN(test_offsets_and_find);
  RUN(test_log_of_a_pipeline);
  RUN(test_hosts);
  RUN(test_keep_alive);
  RUN(test_expect_and_upgrade);
  RUN(test_call_order);
  RUN(test_reset);
  return 0;
}
