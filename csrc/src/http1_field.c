/* What the parser itself must understand of a head: the form of the target, Host, framing,
 * persistence. Everything else in a field is the application's. */
#include "http1_private.h"

#include <arpa/inet.h>

/* Compares a token with a name in lower case of the same length. Setting bit 5 maps no token byte
 * but the capital onto a small letter, and none at all onto '-'. */
static bool is_lower(const char *token, const char *lower, size_t len) {
  for (size_t i = 0; i < len; i++)
    if ((token[i] | 0x20) != lower[i]) return false;
  return true;
}

static fc_slice trim(const char *start, const char *end) {
  while (start < end && (*start == ' ' || *start == '\t')) start++;
  while (end > start && (end[-1] == ' ' || end[-1] == '\t')) end--;
  return fc_slice_of(start, (size_t)(end - start));
}

/* Cuts the next element off a comma-separated list, which it shortens. False at the list's end. */
static bool next_element(fc_slice *list, fc_slice *element) {
  if (!list->ptr) return false;
  const char *end = list->ptr + list->len;
  const char *comma = list->len ? memchr(list->ptr, ',', list->len) : NULL;
  *element = trim(list->ptr, comma ? comma : end);
  *list = comma ? fc_slice_of(comma + 1, (size_t)(end - comma - 1)) : fc_slice_of(NULL, 0);
  return true;
}

/* 1 to 5 digits that make a port. */
static bool port_ok(const char *s, const char *end) {
  unsigned port = 0;
  if (s == end || end - s > 5) return false;
  for (; s < end; s++) {
    if ((unsigned)(*s - '0') > 9) return false;
    port = port * 10 + (unsigned)(*s - '0');
  }
  return port <= 65535;
}

/* The end of an IPv6 literal "[...]" that starts at `s`, or NULL. Zones and IPvFuture are none. */
static const char *ipv6_end(const char *s, const char *end) {
  char text[INET6_ADDRSTRLEN];
  struct in6_addr address;
  const char *close = memchr(s, ']', (size_t)(end - s));
  if (!close || close - s > (ptrdiff_t)sizeof text) return NULL;
  size_t len = (size_t)(close - s - 1);
  memcpy(text, s + 1, len);
  text[len] = 0;
  return inet_pton(AF_INET6, text, &address) == 1 ? close + 1 : NULL;
}

/* The end of a reg-name or IPv4 address (RFC 3986, 3.2.2); `s` when there is none. */
static const char *name_end(const char *s, const char *end) {
  for (;;) {
    s = fc_http1_span(s, end, FC_H1_IS_HOST);
    if (end - s < 3 || *s != '%' || fc_http1_hex(s[1]) < 0 || fc_http1_hex(s[2]) < 0) return s;
    s += 3;
  }
}

/* A host that is not empty, then ":port". No user information: RFC 9110, 4.2.4. */
static bool authority_ok(const char *s, const char *end, bool port_needed) {
  if (s == end) return false;
  const char *at = *s == '[' ? ipv6_end(s, end) : name_end(s, end);
  if (!at || at == s) return false;
  if (at == end) return !port_needed;
  if (*at++ != ':') return false;
  return at == end ? !port_needed : port_ok(at, end);
}

/* The length of "http://" or "https://" at the start, or 0. */
static size_t scheme_len(fc_slice s) {
  if (s.len > 7 && fc_slice_ieq(fc_slice_of(s.ptr, 7), FC_SLICE("http://"))) return 7;
  if (s.len > 8 && fc_slice_ieq(fc_slice_of(s.ptr, 8), FC_SLICE("https://"))) return 8;
  return 0;
}

bool fc_http1_target_ok(int method, fc_slice target) {
  const char *end = target.ptr + target.len;
  if (method == FC_HTTP1_CONNECT) return authority_ok(target.ptr, end, true);
  if (*target.ptr == '/') return true;
  if (*target.ptr == '*') return target.len == 1 && method == FC_HTTP1_OPTIONS;
  size_t scheme = scheme_len(target);
  if (!scheme) return false;
  const char *host = target.ptr + scheme, *host_end = host;
  while (host_end < end && *host_end != '/' && *host_end != '?') host_end++;
  return authority_ok(host, host_end, false);
}

static int take_host(fc_http1_parser *p, fc_slice value) {
  if (p->flags & FC_H1_HAS_HOST) return FC_EHTTP_HOST;
  p->flags |= FC_H1_HAS_HOST;
  bool ok = value.len == 0 || authority_ok(value.ptr, value.ptr + value.len, false);
  return ok ? 0 : FC_EHTTP_HOST;
}

/* 1*DIGIT within 64 bits, once. */
static int take_length(fc_http1_parser *p, fc_slice value) {
  if (p->flags & FC_H1_HAS_LENGTH || value.len == 0) return FC_EHTTP_LENGTH;
  p->flags |= FC_H1_HAS_LENGTH;
  uint64_t n = 0;
  for (size_t i = 0; i < value.len; i++) {
    unsigned digit = (unsigned)(unsigned char)value.ptr[i] - '0';
    if (digit > 9 || n > (UINT64_MAX - digit) / 10) return FC_EHTTP_LENGTH;
    n = n * 10 + digit;
  }
  p->content_length = n;
  return 0;
}

/* Codings in the order they were applied, over all lines. Chunked has no parameters and ends the
 * list; a name that is no token, an empty element or a quoted string is malformed. */
static int take_coding(fc_http1_parser *p, fc_slice value) {
  fc_slice coding;
  p->flags |= FC_H1_HAS_CODING;
  while (next_element(&value, &coding)) {
    const char *end = coding.ptr + coding.len;
    const char *name_stop = fc_http1_span(coding.ptr, end, FC_H1_IS_TOKEN);
    if (p->flags & FC_H1_CODING_CHUNKED || name_stop == coding.ptr) return FC_EHTTP_CODING;
    if (fc_slice_ieq(coding, FC_SLICE("chunked"))) {
      p->flags |= FC_H1_CODING_CHUNKED;
      continue;
    }
    bool chunked = fc_slice_ieq(fc_slice_of(coding.ptr, (size_t)(name_stop - coding.ptr)),
                                FC_SLICE("chunked"));
    bool parameters = name_stop == end || *trim(name_stop, end).ptr == ';';
    if (chunked || !parameters || memchr(coding.ptr, '"', coding.len)) return FC_EHTTP_CODING;
    p->flags |= FC_H1_CODING_UNKNOWN;
  }
  return 0;
}

static void take_connection(fc_http1_parser *p, fc_slice value) {
  fc_slice option;
  while (next_element(&value, &option)) {
    if (fc_slice_ieq(option, FC_SLICE("close"))) p->flags |= FC_H1_CLOSE;
    if (fc_slice_ieq(option, FC_SLICE("keep-alive"))) p->flags |= FC_H1_KEEP_ALIVE;
    if (fc_slice_ieq(option, FC_SLICE("upgrade"))) p->flags |= FC_H1_CONN_UPGRADE;
  }
}

int fc_http1_take_field(fc_http1_parser *p, const char *head, const fc_http1_field *field) {
  const char *name = head + field->name;
  fc_slice value = fc_http1_slice(head, field->value, field->value_len);
  switch (field->name_len) {
    case 4:
      return is_lower(name, "host", 4) ? take_host(p, value) : 0;
    case 6:
      if (is_lower(name, "expect", 6) && fc_slice_ieq(value, FC_SLICE("100-continue")))
        p->flags |= FC_H1_EXPECT;
      return 0;
    case 7:
      if (is_lower(name, "upgrade", 7) && value.len) p->flags |= FC_H1_HAS_UPGRADE;
      return 0;
    case 10:
      if (is_lower(name, "connection", 10)) take_connection(p, value);
      return 0;
    case 14:
      return is_lower(name, "content-length", 14) ? take_length(p, value) : 0;
    case 17:
      return is_lower(name, "transfer-encoding", 17) ? take_coding(p, value) : 0;
    default:
      return 0;
  }
}

/* Decides what follows the head (RFC 9112, 6.3). Returns 0 or an error. */
static int finish_framing(fc_http1_parser *p) {
  p->state = FC_H1_DONE;
  if (p->flags & FC_H1_HAS_CODING) {
    if (p->minor == 0 || p->flags & FC_H1_HAS_LENGTH) return FC_EHTTP_FRAMING;
    if (!(p->flags & FC_H1_CODING_CHUNKED)) return FC_EHTTP_CODING;
    if (p->flags & FC_H1_CODING_UNKNOWN) return FC_EHTTP_CODING_UNKNOWN;
    p->framing = FC_HTTP1_CHUNKED;
    p->state = FC_H1_SIZE;
  } else if (p->content_length) {
    if (p->content_length > p->limits->max_body_bytes) return FC_EHTTP_BODY_LIMIT;
    p->framing = FC_HTTP1_LENGTH;
    p->left = p->content_length;
    p->state = FC_H1_LENGTH;
  }
  return 0;
}

int fc_http1_finish_fields(fc_http1_parser *p) {
  unsigned flags = p->flags;
  if (p->minor && !(flags & FC_H1_HAS_HOST)) return FC_EHTTP_HOST;
  int error = finish_framing(p);
  if (error) return error;
  p->keep_alive = !(flags & FC_H1_CLOSE) && (p->minor || flags & FC_H1_KEEP_ALIVE);
  p->expect_continue = p->minor && flags & FC_H1_EXPECT && p->framing != FC_HTTP1_NO_BODY;
  p->upgrade = p->minor && flags & FC_H1_CONN_UPGRADE && flags & FC_H1_HAS_UPGRADE;
  return 0;
}
