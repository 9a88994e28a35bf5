/* Lines of the input are patterns up to the first empty line, then paths. The router must agree
 * with a matcher that knows nothing of trees: it narrows the set of all patterns byte by byte. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fc/err.h"
#include "fc/router.h"

#define MAX_PATTERNS 24
#define MAX_PATH 96
#define MAX_TOKENS (FC_ROUTER_MAX_PATTERN_BYTES + 1)
#define GIVE_UP 20000

/* A pattern as tokens: a byte, or 256 + fc_param_kind; -1 ends it. */
typedef struct naive {
  int16_t tokens[MAX_TOKENS];
  int route;
} naive;

typedef struct search {
  const naive *patterns;
  fc_slice path;
  size_t steps;
  fc_match found;
} search;

#define MUST(cond)                                                                                 \
  do {                                                                                             \
    if (!(cond)) abort();                                                                          \
  } while (0)

/* Only for patterns that the router took: syntax is not checked again. */
static void tokenize(fc_slice text, naive *p) {
  static const char *const kinds[] = {"int", "float", "uuid", "str", "path"};
  size_t count = 0;
  for (size_t i = 0; i < text.len; i++) {
    if (text.ptr[i] != '{') {
      p->tokens[count++] = (unsigned char)text.ptr[i];
      continue;
    }
    const char *brace = memchr(text.ptr + i, '}', text.len - i);
    const size_t close = (size_t)(brace - text.ptr);
    const char *colon = memchr(text.ptr + i, ':', close - i);
    int kind = FC_PARAM_STR;
    for (int k = 0; colon && k < 5; k++)
      if (fc_slice_eq(fc_slice_of(colon + 1, (size_t)(text.ptr + close - colon - 1)),
                      fc_slice_of(kinds[k], strlen(kinds[k]))))
        kind = k;
    p->tokens[count++] = (int16_t)(256 + kind);
    i = close;
  }
  p->tokens[count] = -1;
}

static bool digit(char c) {
  return c >= '0' && c <= '9';
}

/* Whether these bytes, as a whole, are a value of that kind. */
static bool is_value(int kind, const char *p, size_t len) {
  size_t dots = 0;
  if (kind == FC_PARAM_UUID && len != 36) return false;
  for (size_t i = 0; i < len; i++) {
    const bool dash = i == 8 || i == 13 || i == 18 || i == 23;
    if (kind == FC_PARAM_INT && !digit(p[i])) return false;
    if (kind == FC_PARAM_STR && p[i] == '/') return false;
    if (kind == FC_PARAM_UUID && (dash ? p[i] != '-' : !memchr("0123456789abcdefABCDEF", p[i], 22)))
      return false;
    if (kind == FC_PARAM_FLOAT && p[i] == '.') dots++;
    else if (kind == FC_PARAM_FLOAT && !digit(p[i])) return false;
  }
  if (kind == FC_PARAM_FLOAT && (dots != 1 || p[0] == '.' || p[len - 1] == '.')) return false;
  return len > 0;
}

/* The patterns of `live` (a bit each) whose token at their place is `token`, moved behind it. */
static uint32_t narrow(const search *s, uint32_t live, const uint16_t *places, int token,
                       uint16_t *next) {
  uint32_t left = 0;
  for (int i = 0; i < MAX_PATTERNS; i++) {
    next[i] = places[i];
    if (!(live & 1u << i) || s->patterns[i].tokens[places[i]] != token) continue;
    left |= 1u << i;
    next[i]++;
  }
  return left;
}

static bool seek(search *s, uint32_t live, const uint16_t *places, size_t at) {
  uint16_t next[MAX_PATTERNS];
  if (++s->steps > GIVE_UP) return false;
  if (at == s->path.len) {
    for (int i = 0; i < MAX_PATTERNS; i++)
      if ((live & 1u << i) && s->patterns[i].tokens[places[i]] == -1) {
        s->found.route = s->patterns[i].route;
        return true;
      }
    return false;
  }
  uint32_t left = narrow(s, live, places, (unsigned char)s->path.ptr[at], next);
  if (left && seek(s, left, next, at + 1)) return true;
  for (int kind = FC_PARAM_INT; kind <= FC_PARAM_PATH; kind++) {
    left = narrow(s, live, places, 256 + kind, next);
    if (!left) continue;
    for (size_t len = s->path.len - at; len > 0; len--) {
      s->steps++;
      if (!is_value(kind, s->path.ptr + at, len)) continue;
      s->found.params[s->found.param_count++] = fc_slice_of(s->path.ptr + at, len);
      if (seek(s, left, next, at + len)) return true;
      s->found.param_count--;
    }
  }
  return false;
}

static void compare(const fc_router *r, const naive *patterns, uint32_t live, fc_slice path) {
  fc_match m;
  search s = {patterns, path, 0, {0}};
  const uint16_t start[MAX_PATTERNS] = {0};
  const bool expected = live && seek(&s, live, start, 0);
  const bool got = fc_router_match(r, path, &m);
  if (s.steps > GIVE_UP) return;
  if (!got) {
    /* The router may stop searching, but not before it has spent its steps. */
    MUST(!expected || s.steps > FC_ROUTER_MAX_STEPS);
    return;
  }
  MUST(expected && m.route == s.found.route && m.param_count == s.found.param_count);
  for (uint32_t i = 0; i < m.param_count; i++)
    MUST(m.params[i].ptr == s.found.params[i].ptr && m.params[i].len == s.found.params[i].len);
}

/* The next line of the input, without its end; false at the end of the input. */
static bool next_line(const char **p, const char *end, fc_slice *line) {
  if (*p == end) return false;
  const char *stop = memchr(*p, '\n', (size_t)(end - *p));
  *line = fc_slice_of(*p, (size_t)((stop ? stop : end) - *p));
  *p = stop ? stop + 1 : end;
  return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  const char *p = (const char *)data, *end = p + size;
  static naive patterns[MAX_PATTERNS];
  uint32_t count = 0, live = 0;
  int routes = 0;
  fc_slice line;
  fc_router *r = fc_router_new(&fc_mem_libc);
  MUST(r);
  while (count < MAX_PATTERNS && next_line(&p, end, &line) && line.len > 0) {
    size_t where = SIZE_MAX;
    const int route = fc_router_add(r, line, &where);
    MUST(route >= 0 || ((route == FC_EINVALID || route == FC_ELIMIT) && where <= line.len));
    if (route < 0) continue;
    MUST(route <= routes);
    if (route == routes) routes++;
    tokenize(line, &patterns[count]);
    patterns[count].route = route;
    live |= 1u << count++;
  }
  while (next_line(&p, end, &line))
    if (line.len <= MAX_PATH) compare(r, patterns, live, line);
  fc_router_free(r);
  return 0;
}
