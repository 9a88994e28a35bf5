/* The head: request line and field lines, read in one pass.
 *
 * Every function here reads on from p->at and leaves it where input ran out, so a head that comes
 * byte by byte costs the same work as one that comes whole. A byte is judged by what stands before
 * it alone, never by how much has arrived: that is why limits are found by scanning up to them, and
 * not by looking at the length of the input. */
#include "http1_private.h"

#define METHOD_MAX_BYTES 32

// clang-format off
const uint8_t fc_http1_class[256] = {
   0,  0,  0,  0,  0,  0,  0,  0,  0,  2,  0,  0,  0,  0,  0,  0,  /* 00 */
   0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  /* 10 */
   2, 15,  6,  3, 15,  7, 15, 15, 14, 14, 15, 15,  6, 15, 15,  6,  /* 20 */
  15, 15, 15, 15, 15, 15, 15, 15, 15, 15,  6, 14,  6, 14,  6,  6,  /* 30 */
   6, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15,  /* 40 */
  15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15,  6,  6,  6,  7, 15,  /* 50 */
   7, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15,  /* 60 */
  15, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15,  6,  7,  6, 15,  0,  /* 70 */
   6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  /* 80 */
   6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  /* 90 */
   6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  /* a0 */
   6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  /* b0 */
   6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  /* c0 */
   6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  /* d0 */
   6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  /* e0 */
   6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  6,  /* f0 */
};
// clang-format on

fc_http1_limits fc_http1_limits_default(void) {
  return (fc_http1_limits){
      .max_request_line_bytes = FC_HTTP1_MAX_REQUEST_LINE_BYTES,
      .max_header_bytes = FC_HTTP1_MAX_HEADER_BYTES,
      .max_headers = FC_HTTP1_MAX_HEADERS,
      .max_body_bytes = FC_HTTP1_MAX_BODY_BYTES,
      .max_chunk_extension_bytes = FC_HTTP1_MAX_CHUNK_EXTENSION_BYTES,
  };
}

fc_slice fc_http1_method_name(fc_http1_method method) {
  switch (method) {
#define XX(name)                                                                                   \
  case FC_HTTP1_##name:                                                                            \
    return FC_SLICE(#name);
    FC_HTTP1_METHOD_MAP(XX)
#undef XX
    case FC_HTTP1_METHOD_OTHER:
      break;
  }
  return FC_SLICE("");
}

void fc_http1_init(fc_http1_parser *p, const fc_http1_limits *limits, fc_http1_field *fields) {
  *p = (fc_http1_parser){.limits = limits, .fields = fields};
}

void fc_http1_reset(fc_http1_parser *p) {
  if (!p->error) fc_http1_init(p, p->limits, p->fields);
}

int fc_http1_error_status(int error) {
  switch (error) {
    case FC_EHTTP_LINE_LIMIT:
      return 414;
    case FC_EHTTP_HEADER_LIMIT:
    case FC_EHTTP_COUNT_LIMIT:
      return 431;
    case FC_EHTTP_BODY_LIMIT:
      return 413;
    case FC_EHTTP_CODING_UNKNOWN:
      return 501;
    case FC_EHTTP_VERSION_UNKNOWN:
      return 505;
    default:
      return 400;
  }
}

int fc_http1_fail(fc_http1_parser *p, int code) {
  p->error = code;
  p->status = (uint16_t)fc_http1_error_status(code);
  return code;
}

/* Input ran out at `at`: the next call goes on there. */
static int pause_at(fc_http1_parser *p, const char *head, const char *at, uint8_t state) {
  p->state = state;
  p->at = (uint32_t)(at - head);
  return 0;
}

/* `end`, or `start + max` where that comes first: the byte there may not be read. */
static const char *bounded(const char *start, const char *end, uint32_t max) {
  return end - start > (ptrdiff_t)max ? start + max : end;
}

static uint8_t method_of(const char *s, size_t len) {
  switch (len) {
#define IS(name) (memcmp(s, #name, sizeof #name - 1) == 0)
    case 3:
      return IS(GET) ? FC_HTTP1_GET : IS(PUT) ? FC_HTTP1_PUT : FC_HTTP1_METHOD_OTHER;
    case 4:
      return IS(POST) ? FC_HTTP1_POST : IS(HEAD) ? FC_HTTP1_HEAD : FC_HTTP1_METHOD_OTHER;
    case 5:
      return IS(PATCH) ? FC_HTTP1_PATCH : IS(TRACE) ? FC_HTTP1_TRACE : FC_HTTP1_METHOD_OTHER;
    case 6:
      return IS(DELETE) ? FC_HTTP1_DELETE : FC_HTTP1_METHOD_OTHER;
    case 7:
      return IS(OPTIONS)   ? FC_HTTP1_OPTIONS
             : IS(CONNECT) ? FC_HTTP1_CONNECT
                           : FC_HTTP1_METHOD_OTHER;
    default:
      return FC_HTTP1_METHOD_OTHER;
#undef IS
  }
}

/* "HTTP/" DIGIT "." DIGIT; true when byte `i` of it may be `c`. */
static bool version_byte_ok(size_t i, char c) {
  return i == 5 || i == 7 ? (unsigned)(c - '0') < 10 : c == "HTTP/0.0"[i];
}

/* Skips the one CR LF that may stand before the request line (RFC 9112, 2.2). */
static int skip_empty_line(fc_http1_parser *p, const char *head, const char *end) {
  if (p->state == FC_H1_START && *head == '\r') {
    p->state = FC_H1_START_LF;
    p->at = 1;
    if (end - head == 1) return 0;
  }
  if (p->state == FC_H1_START_LF) {
    if (head[1] != '\n') return fc_http1_fail(p, FC_EHTTP_LINE_END);
    p->at = p->method_off = 2;
  }
  p->state = FC_H1_METHOD;
  return 1;
}

/* The line has ended: what could only be judged as a whole. Returns 1 or an error. */
static int finish_line(fc_http1_parser *p, const char *head) {
  const char *version = head + p->target_off + p->target_len + 1;
  if (version[5] != '1') return fc_http1_fail(p, FC_EHTTP_VERSION_UNKNOWN);
  p->minor = version[7] != '0';
  p->method = method_of(head + p->method_off, p->method_len);
  if (!fc_http1_target_ok(p->method, fc_http1_slice(head, p->target_off, p->target_len)))
    return fc_http1_fail(p, FC_EHTTP_TARGET);
  p->at = p->fields_at = (uint32_t)(version + 10 - head);
  p->state = FC_H1_FIELD;
  return 1;
}

/* Reads "method SP target SP version CR LF". Returns 1 when it is complete, 0 or an error. */
static int read_line(fc_http1_parser *p, const char *head, const char *end) {
  const char *at = head + p->at, *start = head + p->method_off;
  const char *stop = bounded(start, end, p->limits->max_request_line_bytes);
  uint8_t state = p->state;
  switch (state) {
    case FC_H1_METHOD:
      at = fc_http1_span(at, bounded(start, stop, METHOD_MAX_BYTES + 1), FC_H1_IS_TOKEN);
      if (at - start > METHOD_MAX_BYTES) return fc_http1_fail(p, FC_EHTTP_METHOD);
      if (at == stop) goto ran_out;
      if (*at != ' ' || at == start) return fc_http1_fail(p, FC_EHTTP_METHOD);
      p->method_len = (uint32_t)(at++ - start);
      p->target_off = (uint32_t)(at - head);
      state = FC_H1_TARGET;
      /* fall through */
    case FC_H1_TARGET:
      at = fc_http1_span_target(at, stop);
      if (at == stop) goto ran_out;
      if (*at == '\r') return fc_http1_fail(p, FC_EHTTP_VERSION);
      if (*at == '\n') return fc_http1_fail(p, FC_EHTTP_LINE_END);
      p->target_len = (uint32_t)(at - head) - p->target_off;
      if (*at != ' ' || p->target_len == 0) return fc_http1_fail(p, FC_EHTTP_TARGET);
      at++;
      state = FC_H1_VERSION;
      /* fall through */
    case FC_H1_VERSION: {
      const char *version = head + p->target_off + p->target_len + 1;
      for (; at < version + 8; at++) {
        if (at == stop) goto ran_out;
        if (!version_byte_ok((size_t)(at - version), *at))
          return fc_http1_fail(p, *at == '\n' ? FC_EHTTP_LINE_END : FC_EHTTP_VERSION);
      }
      if (at == end) goto ran_out;
      if (*at == '\n') return fc_http1_fail(p, FC_EHTTP_LINE_END);
      if (*at != '\r') return fc_http1_fail(p, at == stop ? FC_EHTTP_LINE_LIMIT : FC_EHTTP_VERSION);
      at++;
      state = FC_H1_LINE_LF;
    }
      /* fall through */
    default: /* FC_H1_LINE_LF */
      if (at == end) return pause_at(p, head, at, state);
      if (*at != '\n') return fc_http1_fail(p, FC_EHTTP_LINE_END);
      return finish_line(p, head);
  }
ran_out:
  return at < end ? fc_http1_fail(p, FC_EHTTP_LINE_LIMIT) : pause_at(p, head, at, state);
}

/* Judges the first byte of a field line. Returns 0 or an error. */
static int field_first(const fc_http1_parser *p, char c) {
  if (c == ' ' || c == '\t') return FC_EHTTP_FOLD;
  if (c == '\n') return FC_EHTTP_LINE_END;
  if (!fc_http1_is(c, FC_H1_IS_TOKEN)) return FC_EHTTP_NAME;
  return p->field_count == p->limits->max_headers ? FC_EHTTP_COUNT_LIMIT : 0;
}

/* The line of `field` is complete, its value ending at `end`. Returns 0 or an error. */
static int field_last(fc_http1_parser *p, const char *head, fc_http1_field *field,
                      const char *end) {
  const char *value = head + field->value;
  while (end > value && (end[-1] == ' ' || end[-1] == '\t')) end--;
  field->value_len = (uint32_t)(end - value);
  p->field_count++;
  return fc_http1_concerns(field->name_len) ? fc_http1_take_field(p, head, field) : 0;
}

/* Reads field lines and the empty line. Returns 1 at the end of the head, 0 or an error. */
static int read_fields(fc_http1_parser *p, const char *head, const char *end) {
  const char *at = head + p->at;
  const char *stop = bounded(head + p->fields_at, end, p->limits->max_header_bytes);
  fc_http1_field *field = p->fields + p->field_count;
  uint8_t state = p->state;
  int error;
  switch (state) {
    for (;;) { /* one turn a line; a call that goes on in the middle of one jumps into it */
      case FC_H1_FIELD:
        state = FC_H1_FIELD;
        if (at == end) goto ran_out;
        if (*at == '\r') break;
        if (at == stop) goto ran_out;
        if ((error = field_first(p, *at)) < 0) return fc_http1_fail(p, error);
        field->name = (uint32_t)(at - head);
        state = FC_H1_NAME;
        /* fall through */
      case FC_H1_NAME:
        at = fc_http1_span(at, stop, FC_H1_IS_TOKEN);
        if (at == stop) goto ran_out;
        if (*at != ':') return fc_http1_fail(p, FC_EHTTP_NAME);
        field->name_len = (uint32_t)(at++ - head) - field->name;
        state = FC_H1_SPACE;
        /* fall through */
      case FC_H1_SPACE:
        while (at < stop && (*at == ' ' || *at == '\t')) at++;
        if (at == stop) goto ran_out;
        field->value = (uint32_t)(at - head);
        state = FC_H1_VALUE;
        /* fall through */
      case FC_H1_VALUE:
        at = fc_http1_span_value(at, stop);
        if (at == stop) goto ran_out;
        if (*at != '\r')
          return fc_http1_fail(p, *at == '\n' ? FC_EHTTP_LINE_END : FC_EHTTP_VALUE);
        at++;
        state = FC_H1_VALUE_LF;
        /* fall through */
      case FC_H1_VALUE_LF:
        if (at == stop) goto ran_out;
        if (*at != '\n') return fc_http1_fail(p, FC_EHTTP_LINE_END);
        if ((error = field_last(p, head, field, at - 1)) < 0) return fc_http1_fail(p, error);
        at++;
        field++;
    }
    at++; /* the CR of the empty line */
    state = FC_H1_HEAD_LF;
    /* fall through */
    default: /* FC_H1_HEAD_LF */
      if (at == end) goto ran_out;
      if (*at != '\n') return fc_http1_fail(p, FC_EHTTP_LINE_END);
      p->at = (uint32_t)(at + 1 - head);
      return 1;
  }
ran_out:
  return at < end ? fc_http1_fail(p, FC_EHTTP_HEADER_LIMIT) : pause_at(p, head, at, state);
}

int64_t fc_http1_head(fc_http1_parser *p, const char *data, size_t len) {
  int result = 1;
  if (p->error) return p->error;
  if (p->state > FC_H1_HEAD_LF) return FC_ESTATE;
  if (len > UINT32_MAX) len = UINT32_MAX; /* offsets end there, whatever the limits allow */
  if (len <= p->at) return len == UINT32_MAX ? fc_http1_fail(p, FC_EHTTP_HEADER_LIMIT) : 0;
  const char *end = data + len;
  if (p->state < FC_H1_METHOD) result = skip_empty_line(p, data, end);
  if (result > 0 && p->state < FC_H1_FIELD) result = read_line(p, data, end);
  if (result > 0) result = read_fields(p, data, end);
  if (result <= 0) return result;
  if ((result = fc_http1_finish_fields(p)) < 0) return fc_http1_fail(p, result);
  return (int64_t)p->at;
}

const fc_http1_field *fc_http1_find(const fc_http1_parser *p, const char *head, fc_slice name) {
  for (uint32_t i = 0; i < p->field_count; i++) {
    const fc_http1_field *field = p->fields + i;
    if (fc_slice_ieq(fc_http1_slice(head, field->name, field->name_len), name)) return field;
  }
  return NULL;
}
