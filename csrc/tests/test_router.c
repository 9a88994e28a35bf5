#include <stdio.h>

#include "check.h"
#include "failmem.h"
#include "fc/err.h"
#include "fc/router.h"

static fc_slice text(const char *s) {
  return fc_slice_of(s, strlen(s));
}

static fc_router *router_of(const char *const *patterns) {
  fc_router *r = fc_router_new(&fc_mem_libc);
  CHECK(r);
  for (int i = 0; patterns[i]; i++) CHECK_INT(fc_router_add(r, text(patterns[i]), NULL), i);
  return r;
}

#define ROUTER(...) router_of((const char *const[]){__VA_ARGS__, NULL})

/* The match as "route:param|param", or "-". The path is copied to a block of its exact size, so
 * that the sanitiser sees a read behind its end. */
static const char *found(const fc_router *r, const char *path, char *out, size_t room) {
  const size_t len = strlen(path);
  char *copy = malloc(len ? len : 1);
  CHECK(copy);
  memcpy(copy, path, len);
  fc_match m;
  if (!fc_router_match(r, fc_slice_of(copy, len), &m)) {
    snprintf(out, room, "-");
  } else {
    size_t at = (size_t)snprintf(out, room, "%d", m.route);
    for (uint32_t i = 0; i < m.param_count; i++)
      at += (size_t)snprintf(out + at, room - at, "%c%.*s", i ? '|' : ':', (int)m.params[i].len,
                             m.params[i].ptr);
  }
  free(copy);
  return out;
}

#define FINDS(r, path, expected)                                                                   \
  do {                                                                                             \
    char out_[512];                                                                                \
    if (strcmp(found((r), (path), out_, sizeof out_), (expected)) != 0) {                          \
      fprintf(stderr, "%s:%d: %s gives %s, expected %s\n", __FILE__, __LINE__, (path), out_,       \
              (expected));                                                                         \
      exit(1);                                                                                     \
    }                                                                                              \
  } while (0)

static void test_empty_router(void) {
  fc_router *r = fc_router_new(&fc_mem_libc);
  FINDS(r, "/", "-");
  FINDS(r, "", "-");
  fc_router_free(r);
  fc_router_free(NULL);
}

static void test_literals(void) {
  fc_router *r = ROUTER("/", "/a", "/ab", "/abcdefg", "/abcdefgh", "/abcdefghijklmnopqrstuvwxyz");
  FINDS(r, "/", "0");
  FINDS(r, "/a", "1");
  FINDS(r, "/ab", "2");
  FINDS(r, "/abcdefg", "3");
  FINDS(r, "/abcdefgh", "4");
  FINDS(r, "/abcdefghijklmnopqrstuvwxyz", "5");
  FINDS(r, "/abcdefghijklmnopqrstuvwxyZ", "-");
  FINDS(r, "/a/", "-");
  FINDS(r, "/A", "-");
  FINDS(r, "", "-");
  FINDS(r, "*", "-");
  fc_router_free(r);
}

static void test_many_literals(void) {
  fc_router *r = fc_router_new(&fc_mem_libc);
  char path[64], expected[16];
  for (int i = 0; i < 3000; i++) {
    snprintf(path, sizeof path, "/api/v%d/resource-%d", i % 7, i);
    CHECK_INT(fc_router_add(r, text(path), NULL), i);
  }
  for (int i = 0; i < 3000; i++) {
    snprintf(path, sizeof path, "/api/v%d/resource-%d", i % 7, i);
    snprintf(expected, sizeof expected, "%d", i);
    FINDS(r, path, expected);
    CHECK_INT(fc_router_add(r, text(path), NULL), i);
  }
  FINDS(r, "/api/v0/resource-3000", "-");
  fc_router_free(r);
}

static void test_kinds(void) {
  fc_router *r = ROUTER("/i/{v:int}", "/f/{v:float}", "/u/{v:uuid}", "/s/{v}", "/p/{v:path}");
  FINDS(r, "/i/0123", "0:0123");
  FINDS(r, "/i/", "-");
  FINDS(r, "/i/-1", "-");
  FINDS(r, "/i/1a", "-");
  FINDS(r, "/i/1/", "-");
  FINDS(r, "/f/1.5", "1:1.5");
  FINDS(r, "/f/15", "-");
  FINDS(r, "/f/1.", "-");
  FINDS(r, "/f/.5", "-");
  FINDS(r, "/f/1.5.2", "-");
  FINDS(r, "/u/01234567-89ab-CDEF-0123-456789abcdef", "2:01234567-89ab-CDEF-0123-456789abcdef");
  FINDS(r, "/u/01234567-89ab-CDEF-0123-456789abcde", "-");
  FINDS(r, "/u/01234567-89ab-CDEF-0123-456789abcdeg", "-");
  FINDS(r, "/u/01234567a89ab-CDEF-0123-456789abcdef", "-");
  FINDS(r, "/u/01234567-89ab-CDEF-0123-456789abcdef0", "-");
  FINDS(r, "/s/x y%20", "3:x y%20");
  FINDS(r, "/s/", "-");
  FINDS(r, "/s/a/b", "-");
  FINDS(r, "/p/a/b//c/", "4:a/b//c/");
  FINDS(r, "/p/", "-");
  FINDS(r, "/p/\xff/", "4:\xff/");
  fc_router_free(r);
}

static void test_order_of_kinds(void) {
  fc_router *r = ROUTER("/{v:path}", "/{v}", "/{v:uuid}", "/{v:float}", "/{v:int}", "/12");
  FINDS(r, "/12", "5");
  FINDS(r, "/13", "4:13");
  FINDS(r, "/1.5", "3:1.5");
  FINDS(r, "/01234567-89ab-cdef-0123-456789abcdef", "2:01234567-89ab-cdef-0123-456789abcdef");
  FINDS(r, "/x", "1:x");
  FINDS(r, "/x/y", "0:x/y");
  FINDS(r, "/", "-");
  fc_router_free(r);
}

static void test_backtracking(void) {
  fc_router *r = ROUTER("/users/me/posts", "/users/{id}/likes", "/users/m{rest}/likes",
                        "/users/{id:int}/x", "/{all:path}");
  FINDS(r, "/users/me/posts", "0");
  FINDS(r, "/users/me/likes", "2:e");
  FINDS(r, "/users/m/likes", "1:m");
  FINDS(r, "/users/7/likes", "1:7");
  FINDS(r, "/users/7/x", "3:7");
  FINDS(r, "/users/a/x", "4:users/a/x");
  FINDS(r, "/users/me/post", "4:users/me/post");
  fc_router_free(r);
}

static void test_inside_a_segment(void) {
  fc_router *r =
      ROUTER("/v{n:int}.json", "/{a}-{b}", "/{name}.tar.gz", "/t{x:float}5", "/d{n:int}0");
  FINDS(r, "/v12.json", "0:12");
  FINDS(r, "/v.json", "-");
  FINDS(r, "/a-b-c", "1:a-b|c");
  FINDS(r, "/-b", "-");
  FINDS(r, "/a-", "-");
  FINDS(r, "/x.tar.tar.gz", "2:x.tar");
  FINDS(r, "/t1.55", "3:1.5");
  FINDS(r, "/t1.5", "-");
  FINDS(r, "/d100", "4:10");
  FINDS(r, "/d0", "-");
  fc_router_free(r);
}

static void test_common_prefixes_split(void) {
  fc_router *r = ROUTER("/catalogue/{a}", "/cat/{a}", "/catalogue/{a}/b", "/car{a:int}", "/c{a}",
                        "/catalog/{a}/", "/{a}");
  FINDS(r, "/catalogue/1", "0:1");
  FINDS(r, "/cat/1", "1:1");
  FINDS(r, "/catalogue/1/b", "2:1");
  FINDS(r, "/car9", "3:9");
  FINDS(r, "/carx", "4:arx");
  FINDS(r, "/catalog/1/", "5:1");
  FINDS(r, "/catalog/1", "-");
  FINDS(r, "/c", "6:c");
  fc_router_free(r);
}

/* Every pattern after the first splits an edge and then makes a node for each of its pieces, the
 * most that one can need; the patterns before them shift where the node array is full. */
static void test_splits_at_every_fill(void) {
  static const char *const before[] = {"/-{x}", "/-{x}-", "/-{x:int}"};
  for (int shift = 0; shift <= 3; shift++) {
    fc_router *r = fc_router_new(&fc_mem_libc);
    char pattern[300], expected[32];
    for (int i = 0; i < shift; i++) CHECK_INT(fc_router_add(r, text(before[i]), NULL), i);
    for (int i = 0; i < 250; i++) {
      memset(pattern, 'a', sizeof pattern);
      snprintf(pattern + 255 - i, 16, "b{x}c");
      pattern[0] = '/';
      CHECK_INT(fc_router_add(r, text(pattern), NULL), shift + i);
    }
    for (int i = 0; i < 250; i++) {
      memset(pattern, 'a', sizeof pattern);
      snprintf(pattern + 255 - i, 16, "bxyzc");
      pattern[0] = '/';
      snprintf(expected, sizeof expected, "%d:xyz", shift + i);
      FINDS(r, pattern, expected);
    }
    fc_router_free(r);
  }
}

static void test_same_pattern_same_route(void) {
  fc_router *r = ROUTER("/a/{x}/{y:int}", "/b");
  CHECK_INT(fc_router_add(r, FC_SLICE("/a/{p:str}/{q:int}"), NULL), 0);
  CHECK_INT(fc_router_add(r, FC_SLICE("/b"), NULL), 1);
  CHECK_INT(fc_router_add(r, FC_SLICE("/a/{p}/{q}"), NULL), 2);
  CHECK_INT(fc_router_add(r, FC_SLICE("/a/{x}/"), NULL), 3);
  fc_router_free(r);
}

static void test_slices_point_into_the_path(void) {
  fc_router *r = ROUTER("/a/{x}/{y:path}");
  const char *path = "/a/one/two/three";
  fc_match m;
  CHECK(fc_router_match(r, text(path), &m));
  CHECK_INT(m.param_count, 2);
  CHECK(m.params[0].ptr == path + 3);
  CHECK(m.params[1].ptr == path + 7);
  CHECK_INT(m.params[1].len, 9);
  fc_router_free(r);
}

static void test_malformed_patterns(void) {
  static const struct {
    const char *pattern;
    size_t where;
  } cases[] = {
      {"", 0},           {"a", 0},           {"{a}", 0},         {"/{a", 1},
      {"/a}", 2},        {"/{a}}", 4},       {"/{}", 2},         {"/{:int}", 2},
      {"/{1a}", 2},      {"/{a b}", 3},      {"/{a{b}", 3},      {"/{\xc3\xa9}", 2},
      {"/{a:}", 4},      {"/{a:num}", 4},    {"/{a:int }", 4},   {"/{a:INT}", 4},
      {"/{a}/{a}", 6},   {"/{a}/{a:int}", 6}, {"/{a}{b}", 4},    {"/{a:path}/", 1},
      {"/{a:path}x", 1}, {"/{a:path}/{b}", 1}, {"/x{a-b}", 4},   {"/{a:int:int}", 4},
  };
  fc_router *r = ROUTER("/ok/{x}");
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    size_t where = 999;
    const int got = fc_router_add(r, text(cases[i].pattern), &where);
    if (got != FC_EINVALID || where != cases[i].where) {
      fprintf(stderr, "%s: %d at %zu, expected %d at %zu\n", cases[i].pattern, got, where,
              FC_EINVALID, cases[i].where);
      exit(1);
    }
    CHECK_INT(fc_router_add(r, text(cases[i].pattern), NULL), FC_EINVALID);
  }
  FINDS(r, "/ok/1", "0:1");
  CHECK_INT(fc_router_add(r, FC_SLICE("/next"), NULL), 1);
  fc_router_free(r);
}

static void test_limits(void) {
  fc_router *r = fc_router_new(&fc_mem_libc);
  char pattern[FC_ROUTER_MAX_PATTERN_BYTES + 2], path[FC_ROUTER_MAX_PARAMS * 2 + 3];
  size_t at = 0, where = 0;
  for (int i = 0; i < FC_ROUTER_MAX_PARAMS; i++)
    at += (size_t)snprintf(pattern + at, sizeof pattern - at, "/{p%d}", i);
  CHECK_INT(fc_router_add(r, text(pattern), &where), 0);
  snprintf(pattern + at, sizeof pattern - at, "/{one_more}");
  CHECK_INT(fc_router_add(r, text(pattern), &where), FC_ELIMIT);
  CHECK_INT(where, at + 1);
  for (size_t i = 0; i < FC_ROUTER_MAX_PARAMS; i++) memcpy(path + 2 * i, "/x", 3);
  fc_match m;
  CHECK(fc_router_match(r, text(path), &m));
  CHECK_INT(m.param_count, FC_ROUTER_MAX_PARAMS);

  memset(pattern, '/', sizeof pattern);
  const fc_slice full = fc_slice_of(pattern, FC_ROUTER_MAX_PATTERN_BYTES);
  CHECK_INT(fc_router_add(r, full, &where), 1);
  CHECK(fc_router_match(r, full, &m) && m.route == 1);
  CHECK_INT(fc_router_add(r, fc_slice_of(pattern, full.len + 1), &where), FC_ELIMIT);
  CHECK(!fc_router_match(r, fc_slice_of(pattern, full.len + 1), &m));
  fc_router_free(r);
}

/* Every byte of a long literal has a parameter beside it: the walk back is as deep as it gets. */
static void test_deep_tree(void) {
  fc_router *r = fc_router_new(&fc_mem_libc);
  char pattern[1200];
  for (int i = 1; i < 1000; i++) {
    memset(pattern, 'a', sizeof pattern);
    pattern[0] = '/';
    snprintf(pattern + i, sizeof pattern - (size_t)i, "{x}!");
    CHECK_INT(fc_router_add(r, text(pattern), NULL), i - 1);
  }
  memset(pattern, 'a', sizeof pattern);
  pattern[0] = '/';
  fc_match m;
  CHECK(!fc_router_match(r, fc_slice_of(pattern, 1100), &m));
  pattern[1099] = '!';
  CHECK(fc_router_match(r, fc_slice_of(pattern, 1100), &m));
  CHECK_INT(m.route, 998);
  CHECK_INT(m.params[0].len, 100);
  fc_router_free(r);
}

/* Without the bound this would be some 10^12 steps. */
static void test_backtracking_is_bounded(void) {
  fc_router *r = ROUTER("/{a}-{b}-{c}-{d}-{e}-{f}!", "/{a:int}1{b:int}1{c:int}1{d:int}!");
  static char path[8192];
  fc_match m;
  memset(path, '-', sizeof path);
  path[0] = '/';
  CHECK(!fc_router_match(r, fc_slice_of(path, sizeof path), &m));
  memset(path + 1, '1', sizeof path - 1);
  CHECK(!fc_router_match(r, fc_slice_of(path, sizeof path), &m));
  fc_router_free(r);
}

/* A long path that needs no backtracking is found whatever its length. */
static void test_long_path(void) {
  fc_router *r = ROUTER("/{a}/x/{rest:path}", "/{a:int}/y");
  const size_t len = 1 << 20;
  char *path = malloc(len);
  CHECK(path);
  memset(path, '7', len);
  path[0] = '/';
  memcpy(path + len - 6, "/x/end", 6);
  fc_match m;
  CHECK(fc_router_match(r, fc_slice_of(path, len), &m));
  CHECK_INT(m.route, 0);
  CHECK_INT(m.params[0].len, len - 7);
  memcpy(path + len - 2, "/y", 2);
  memset(path + len - 6, '7', 4);
  CHECK(fc_router_match(r, fc_slice_of(path, len), &m));
  CHECK_INT(m.route, 1);
  free(path);
  fc_router_free(r);
}

static const char *const some[] = {"/a",          "/a/{x}",      "/a/{y:int}/b", "/abc/{z:path}",
                                   "/ab{q:float}", "/b",         "/c",           "/d",
                                   "/e",          "/f",          "/g",           "/h",
                                   "/i",          "/j/{x}-{y}",  "/j/{x}-{y}/k", "/l/m/n/{o:uuid}",
                                   "/p/{a}/{b}/c", "/p/{a}/{b}/d"};
#define SOME ((int)(sizeof some / sizeof some[0]))

/* With the n-th allocation failing: what was added before is found, what failed is not, and it can
 * be added once there is memory again. */
static void test_out_of_memory(void) {
  for (long fail_at = 0;; fail_at++) {
    failmem f;
    failmem_init(&f, fail_at);
    fc_router *r = fc_router_new(&f.mem);
    if (!r) {
      CHECK_INT(f.live, 0);
      continue;
    }
    int added = 0, got = 0;
    while (added < SOME && (got = fc_router_add(r, text(some[added]), NULL)) == added) added++;
    if (added < SOME) CHECK_INT(got, FC_ENOMEM);
    const bool failed = added < SOME;

    fc_match m;
    CHECK_INT(fc_router_match(r, FC_SLICE("/a/1/b"), &m), added > 2);
    CHECK_INT(fc_router_match(r, FC_SLICE("/i"), &m), added > 12);
    CHECK_INT(fc_router_match(r, FC_SLICE("/p/1/2/d"), &m), added > 17);

    f.fail_at = -1;
    for (int i = 0; i < SOME; i++) CHECK_INT(fc_router_add(r, text(some[i]), NULL), i);
    FINDS(r, "/a/1/b", "2:1");
    FINDS(r, "/i", "12");
    FINDS(r, "/j/a-b-c/k", "14:a-b|c");
    FINDS(r, "/p/1/2/d", "17:1|2");
    fc_router_free(r);
    CHECK_INT(f.live, 0);
    if (!failed) return;
  }
}

int main(void) {
  RUN(test_empty_router);
  RUN(test_literals);
  RUN(test_many_literals);
  RUN(test_kinds);
  RUN(test_order_of_kinds);
  RUN(test_backtracking);
  RUN(test_inside_a_segment);
  RUN(test_common_prefixes_split);
  RUN(test_splits_at_every_fill);
  RUN(test_same_pattern_same_route);
  RUN(test_slices_point_into_the_path);
  RUN(test_malformed_patterns);
  RUN(test_limits);
  RUN(test_deep_tree);
  RUN(test_backtracking_is_bounded);
  RUN(test_long_path);
  RUN(test_out_of_memory);
  return 0;
}
