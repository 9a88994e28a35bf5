/* http1_private.h - what the files of the HTTP/1.1 parser share: states, byte classes, scanners. */
#ifndef FC_HTTP1_PRIVATE_H
#define FC_HTTP1_PRIVATE_H

#include "fc/err.h"
#include "fc/http1.h"

#if defined(__SSE2__) && !defined(FC_NO_SIMD)
#define FC_HTTP1_SSE2 1
#include <emmintrin.h>
#endif

/* A message passes through these from top to bottom; the field states and the chunk states loop. */
enum {
  FC_H1_START,
  FC_H1_START_LF, /* after the CR of the one empty line that may come first */
  FC_H1_METHOD,
  FC_H1_TARGET,
  FC_H1_VERSION,
  FC_H1_LINE_LF,
  FC_H1_FIELD, /* at the first byte of a field line, or of the empty line that ends the head */
  FC_H1_NAME,
  FC_H1_SPACE,
  FC_H1_VALUE,
  FC_H1_VALUE_LF,
  FC_H1_HEAD_LF,

  FC_H1_LENGTH, /* the head is complete from here on */
  FC_H1_SIZE,
  FC_H1_EXT_END, /* after a chunk size or a whole extension: the line may end, or another begin */
  FC_H1_EXT_SPACE,
  FC_H1_EXT_NAME_FIRST,
  FC_H1_EXT_NAME,
  FC_H1_EXT_NAME_SPACE,
  FC_H1_EXT_VALUE_FIRST,
  FC_H1_EXT_VALUE,
  FC_H1_EXT_QUOTED,
  FC_H1_EXT_ESCAPE,
  FC_H1_SIZE_LF,
  FC_H1_CHUNK,
  FC_H1_CHUNK_CR,
  FC_H1_CHUNK_LF,
  FC_H1_TRAILER,
  FC_H1_TRAILER_NAME,
  FC_H1_TRAILER_VALUE,
  FC_H1_TRAILER_LF,
  FC_H1_BODY_LF,
  FC_H1_DONE
};

/* fc_http1_parser.flags: what the fields of this head have said. */
enum {
  FC_H1_HAS_HOST = 1,
  FC_H1_HAS_LENGTH = 2,
  FC_H1_HAS_CODING = 4,
  FC_H1_CODING_CHUNKED = 8,  /* it stood last so far */
  FC_H1_CODING_UNKNOWN = 16, /* another stood before it */
  FC_H1_CLOSE = 32,
  FC_H1_KEEP_ALIVE = 64,
  FC_H1_CONN_UPGRADE = 128,
  FC_H1_HAS_UPGRADE = 256,
  FC_H1_EXPECT = 512
};

enum {
  FC_H1_IS_TOKEN = 1,  /* RFC 9110, 5.6.2 */
  FC_H1_IS_VALUE = 2,  /* HTAB, SP, VCHAR, obs-text */
  FC_H1_IS_TARGET = 4, /* VCHAR and obs-text without '#' */
  FC_H1_IS_HOST = 8    /* unreserved and sub-delims without ',' (RFC 3986, 3.2.2) */
};

/* The classes of every byte, or-ed. */
extern const uint8_t fc_http1_class[256];

static inline bool fc_http1_is(char c, int class) {
  return fc_http1_class[(unsigned char)c] & class;
}

/* 0 to 15, or -1. */
static inline int fc_http1_hex(char c) {
  unsigned digit = (unsigned)(unsigned char)c - '0';
  if (digit < 10) return (int)digit;
  unsigned letter = ((unsigned)(unsigned char)c | 0x20) - 'a';
  return letter < 6 ? (int)letter + 10 : -1;
}

/* The first byte of [s, end) that is not in the class, or `end`. */
static inline const char *fc_http1_span(const char *s, const char *end, int class) {
  while (s < end && fc_http1_is(*s, class)) s++;
  return s;
}

/* As fc_http1_span() for FC_H1_IS_VALUE, 16 bytes at a time; never reads past `end`. */
static inline const char *fc_http1_span_value(const char *s, const char *end) {
#ifdef FC_HTTP1_SSE2
  const __m128i last_control = _mm_set1_epi8(0x1f), tab = _mm_set1_epi8('\t');
  const __m128i del = _mm_set1_epi8(0x7f);
  for (; end - s >= 16; s += 16) {
    __m128i v = _mm_loadu_si128((const __m128i *)(const void *)s);
    __m128i control = _mm_cmpeq_epi8(_mm_min_epu8(v, last_control), v);
    __m128i bad = _mm_or_si128(_mm_andnot_si128(_mm_cmpeq_epi8(v, tab), control),
                               _mm_cmpeq_epi8(v, del));
    int mask = _mm_movemask_epi8(bad);
    if (mask) return s + __builtin_ctz((unsigned)mask);
  }
#endif
  return fc_http1_span(s, end, FC_H1_IS_VALUE);
}

/* As fc_http1_span() for FC_H1_IS_TARGET, likewise. */
static inline const char *fc_http1_span_target(const char *s, const char *end) {
#ifdef FC_HTTP1_SSE2
  const __m128i space = _mm_set1_epi8(' '), hash = _mm_set1_epi8('#');
  const __m128i del = _mm_set1_epi8(0x7f);
  for (; end - s >= 16; s += 16) {
    __m128i v = _mm_loadu_si128((const __m128i *)(const void *)s);
    __m128i bad = _mm_cmpeq_epi8(_mm_min_epu8(v, space), v);
    bad = _mm_or_si128(bad, _mm_or_si128(_mm_cmpeq_epi8(v, hash), _mm_cmpeq_epi8(v, del)));
    int mask = _mm_movemask_epi8(bad);
    if (mask) return s + __builtin_ctz((unsigned)mask);
  }
#endif
  return fc_http1_span(s, end, FC_H1_IS_TARGET);
}

/* True when a field of that length may concern the parser itself: names of 4, 6, 7, 10, 14 and 17
 * bytes, which http1_field.c tells apart. */
static inline bool fc_http1_concerns(uint32_t name_len) {
  const uint32_t lengths = 1u << 4 | 1u << 6 | 1u << 7 | 1u << 10 | 1u << 14 | 1u << 17;
  return name_len < 18 && (lengths >> name_len & 1);
}

/* Poisons the parser; returns the code. */
int fc_http1_fail(fc_http1_parser *p, int code);

/* Takes in a field that fc_http1_concerns(). Returns 0 or an error, which is not yet recorded. */
int fc_http1_take_field(fc_http1_parser *p, const char *head, const fc_http1_field *field);

/* Weighs what all fields said and sets the public members. Returns 0 or an error likewise. */
int fc_http1_finish_fields(fc_http1_parser *p);

/* True when the target has the form its method asks for (RFC 9112, 3.2); bytes were checked. */
bool fc_http1_target_ok(int method, fc_slice target);

#endif
