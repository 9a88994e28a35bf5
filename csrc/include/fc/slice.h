/* slice.h - a run of bytes that somebody else owns. */
#ifndef FC_SLICE_H
#define FC_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct fc_slice {
  const char *ptr;
  size_t len;
} fc_slice;

#define FC_SLICE(literal) ((fc_slice){(literal), sizeof(literal) - 1})

static inline fc_slice fc_slice_of(const char *ptr, size_t len) {
  return (fc_slice){ptr, len};
}

static inline bool fc_slice_eq(fc_slice a, fc_slice b) {
  return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

/* ASCII lower case; bytes outside A-Z are left alone. */
static inline unsigned char fc_lower(unsigned char c) {
  return (unsigned char)(c - 'A') < 26 ? (unsigned char)(c | 0x20) : c;
}

/* Case-insensitive in ASCII, as field names and most tokens compare (RFC 9110, 5.1). */
static inline bool fc_slice_ieq(fc_slice a, fc_slice b) {
  if (a.len != b.len) return false;
  for (size_t i = 0; i < a.len; i++)
    if (fc_lower((unsigned char)a.ptr[i]) != fc_lower((unsigned char)b.ptr[i])) return false;
  return true;
}

#endif
