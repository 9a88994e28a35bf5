/* The body: by length it is a countdown; chunked, a table and a few states around the data. Nothing
 * here needs the bytes of an earlier call, so the input may be any slices of the stream. */
#include "http1_private.h"

#define SIZE_MAX_DIGITS 16

/* Bytes as the grammar of a chunk extension sees them (RFC 9112, 7.1.1). */
enum { CONTROL, SPACE, TOKEN, SEMICOLON, EQUALS, QUOTE, BACKSLASH, CR, OTHER, CLASS_COUNT };

static int ext_class(char c) {
  if (fc_http1_is(c, FC_H1_IS_TOKEN)) return TOKEN;
  switch (c) {
    case ' ':
    case '\t':
      return SPACE;
    case ';':
      return SEMICOLON;
    case '=':
      return EQUALS;
    case '"':
      return QUOTE;
    case '\\':
      return BACKSLASH;
    case '\r':
      return CR;
    default:
      return fc_http1_is(c, FC_H1_IS_VALUE) ? OTHER : CONTROL;
  }
}

/* *( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] ) CR; 0 is an error. */
// clang-format off
#define ROW(state) [FC_H1_##state - FC_H1_EXT_END]
static const uint8_t ext_next[][CLASS_COUNT] = {
  ROW(EXT_END) = {[SPACE] = FC_H1_EXT_SPACE, [SEMICOLON] = FC_H1_EXT_NAME_FIRST,
                  [CR] = FC_H1_SIZE_LF},
  ROW(EXT_SPACE) = {[SPACE] = FC_H1_EXT_SPACE, [SEMICOLON] = FC_H1_EXT_NAME_FIRST},
  ROW(EXT_NAME_FIRST) = {[SPACE] = FC_H1_EXT_NAME_FIRST, [TOKEN] = FC_H1_EXT_NAME},
  ROW(EXT_NAME) = {[TOKEN] = FC_H1_EXT_NAME, [SPACE] = FC_H1_EXT_NAME_SPACE,
                   [SEMICOLON] = FC_H1_EXT_NAME_FIRST, [EQUALS] = FC_H1_EXT_VALUE_FIRST,
                   [CR] = FC_H1_SIZE_LF},
  ROW(EXT_NAME_SPACE) = {[SPACE] = FC_H1_EXT_NAME_SPACE, [SEMICOLON] = FC_H1_EXT_NAME_FIRST,
                         [EQUALS] = FC_H1_EXT_VALUE_FIRST},
  ROW(EXT_VALUE_FIRST) = {[SPACE] = FC_H1_EXT_VALUE_FIRST, [TOKEN] = FC_H1_EXT_VALUE,
                          [QUOTE] = FC_H1_EXT_QUOTED},
  ROW(EXT_VALUE) = {[TOKEN] = FC_H1_EXT_VALUE, [SPACE] = FC_H1_EXT_SPACE,
                    [SEMICOLON] = FC_H1_EXT_NAME_FIRST, [CR] = FC_H1_SIZE_LF},
  ROW(EXT_QUOTED) = {[SPACE] = FC_H1_EXT_QUOTED, [TOKEN] = FC_H1_EXT_QUOTED,
                     [SEMICOLON] = FC_H1_EXT_QUOTED, [EQUALS] = FC_H1_EXT_QUOTED,
                     [OTHER] = FC_H1_EXT_QUOTED, [BACKSLASH] = FC_H1_EXT_ESCAPE,
                     [QUOTE] = FC_H1_EXT_END},
  ROW(EXT_ESCAPE) = {[SPACE] = FC_H1_EXT_QUOTED, [TOKEN] = FC_H1_EXT_QUOTED,
                     [SEMICOLON] = FC_H1_EXT_QUOTED, [EQUALS] = FC_H1_EXT_QUOTED,
                     [OTHER] = FC_H1_EXT_QUOTED, [BACKSLASH] = FC_H1_EXT_QUOTED,
                     [QUOTE] = FC_H1_EXT_QUOTED},
};
#undef ROW
// clang-format on

/* One byte after the size; all but the CR count against the limit. Returns 0 or an error. */
static int extension_byte(fc_http1_parser *p, char c) {
  if (c != '\r' && p->extension_bytes++ == p->limits->max_chunk_extension_bytes)
    return FC_EHTTP_CHUNK_LIMIT;
  p->state = ext_next[p->state - FC_H1_EXT_END][ext_class(c)];
  return p->state ? 0 : FC_EHTTP_CHUNK;
}

static int size_byte(fc_http1_parser *p, char c) {
  int digit = fc_http1_hex(c);
  if (digit < 0) {
    if (p->digits == 0) return FC_EHTTP_CHUNK;
    p->state = FC_H1_EXT_END;
    return extension_byte(p, c);
  }
  if (p->digits++ == SIZE_MAX_DIGITS) return FC_EHTTP_CHUNK;
  p->left = p->left << 4 | (unsigned)digit;
  return 0;
}

/* The size line has ended: data, or the trailers after the chunk of size zero. */
static int size_done(fc_http1_parser *p) {
  p->digits = 0;
  p->state = p->left ? FC_H1_CHUNK : FC_H1_TRAILER;
  if (p->left > p->limits->max_body_bytes - p->received) return FC_EHTTP_BODY_LIMIT;
  p->received += p->left;
  return 0;
}

/* The first byte of a trailer line, or of the empty line that ends the body. */
static int trailer_first(fc_http1_parser *p, char c) {
  if (c == ' ' || c == '\t') return FC_EHTTP_FOLD;
  if (c == '\n') return FC_EHTTP_LINE_END;
  if (!fc_http1_is(c, FC_H1_IS_TOKEN)) return FC_EHTTP_NAME;
  if (p->trailer_count++ == p->limits->max_headers) return FC_EHTTP_COUNT_LIMIT;
  p->state = FC_H1_TRAILER_NAME;
  return 0;
}

static int trailer_byte(fc_http1_parser *p, char c) {
  if (p->state == FC_H1_TRAILER && c == '\r') {
    p->state = FC_H1_BODY_LF;
    return 0;
  }
  if (p->trailer_bytes++ == p->limits->max_header_bytes) return FC_EHTTP_HEADER_LIMIT;
  switch (p->state) {
    case FC_H1_TRAILER:
      return trailer_first(p, c);
    case FC_H1_TRAILER_NAME:
      if (c == ':') p->state = FC_H1_TRAILER_VALUE;
      return c == ':' || fc_http1_is(c, FC_H1_IS_TOKEN) ? 0 : FC_EHTTP_NAME;
    case FC_H1_TRAILER_VALUE:
      if (c == '\r') p->state = FC_H1_TRAILER_LF;
      if (c == '\r' || fc_http1_is(c, FC_H1_IS_VALUE)) return 0;
      return c == '\n' ? FC_EHTTP_LINE_END : FC_EHTTP_VALUE;
    default: /* FC_H1_TRAILER_LF */
      p->state = FC_H1_TRAILER;
      return c == '\n' ? 0 : FC_EHTTP_LINE_END;
  }
}

/* One byte that is not data. Returns 0 or an error. */
static int framing_byte(fc_http1_parser *p, char c) {
  switch (p->state) {
    case FC_H1_SIZE:
      return size_byte(p, c);
    case FC_H1_SIZE_LF:
      return c == '\n' ? size_done(p) : FC_EHTTP_CHUNK;
    case FC_H1_CHUNK_CR:
      p->state = FC_H1_CHUNK_LF;
      return c == '\r' ? 0 : FC_EHTTP_CHUNK;
    case FC_H1_CHUNK_LF:
      p->state = FC_H1_SIZE;
      return c == '\n' ? 0 : FC_EHTTP_CHUNK;
    case FC_H1_TRAILER:
    case FC_H1_TRAILER_NAME:
    case FC_H1_TRAILER_VALUE:
    case FC_H1_TRAILER_LF:
      return trailer_byte(p, c);
    case FC_H1_BODY_LF:
      p->state = FC_H1_DONE;
      return c == '\n' ? 0 : FC_EHTTP_LINE_END;
    default:
      return extension_byte(p, c);
  }
}

/* What of the input belongs to the body or chunk that is open. */
static int take_data(fc_http1_parser *p, const char *data, size_t len, fc_slice *out) {
  size_t n = len < p->left ? len : (size_t)p->left;
  p->left -= n;
  *out = fc_slice_of(data, n);
  return FC_HTTP1_DATA;
}

static int read_length(fc_http1_parser *p, const char *data, size_t len, size_t *used,
                       fc_slice *out) {
  if (p->left == 0) {
    p->state = FC_H1_DONE;
    return FC_HTTP1_DONE;
  }
  if (len == 0) return FC_HTTP1_MORE;
  int result = take_data(p, data, len, out);
  *used = out->len;
  return result;
}

static int read_chunked(fc_http1_parser *p, const char *data, size_t len, size_t *used,
                        fc_slice *out) {
  for (size_t i = 0; i < len;) {
    if (p->state == FC_H1_CHUNK && p->left) {
      int result = take_data(p, data + i, len - i, out);
      *used = i + out->len;
      return result;
    }
    if (p->state == FC_H1_CHUNK) p->state = FC_H1_CHUNK_CR;
    int error = framing_byte(p, data[i]);
    *used = ++i;
    if (error) return fc_http1_fail(p, error);
    if (p->state == FC_H1_DONE) return FC_HTTP1_DONE;
  }
  return FC_HTTP1_MORE;
}

int fc_http1_body(fc_http1_parser *p, const char *data, size_t len, size_t *used, fc_slice *out) {
  *used = 0;
  *out = fc_slice_of(NULL, 0);
  if (p->error) return p->error;
  if (p->state < FC_H1_LENGTH) return FC_ESTATE;
  if (p->state == FC_H1_DONE) return FC_HTTP1_DONE;
  return p->state == FC_H1_LENGTH ? read_length(p, data, len, used, out)
                                  : read_chunked(p, data, len, used, out);
}
