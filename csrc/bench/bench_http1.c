/* bench_http1 - nanoseconds to parse the head of a request with 1, 11 and 21 fields.
 *
 *     cc -O2 -Iinclude bench/bench_http1.c src/http1_*.c -o bench_http1 && ./bench_http1 [rounds]
 *
 * The least of five runs is printed: what disturbs a run only ever adds to it. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "fc/http1.h"

#define BROWSER                                                                                    \
  "Connection: keep-alive\r\n"                                                                     \
  "Cache-Control: max-age=0\r\n"                                                                   \
  "Upgrade-Insecure-Requests: 1\r\n"                                                               \
  "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "            \
  "Chrome/130.0.0.0 Safari/537.36\r\n"                                                             \
  "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"  \
  "\r\n"                                                                                           \
  "Sec-Fetch-Site: none\r\n"                                                                       \
  "Sec-Fetch-Mode: navigate\r\n"                                                                   \
  "Accept-Encoding: gzip, deflate, br, zstd\r\n"                                                   \
  "Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n"                                                   \
  "Cookie: session=6f1c9f0be2a34f7b9f5f; theme=dark; _ga=GA1.1.1234567890.1700000000\r\n"

#define MORE                                                                                       \
  "Sec-Fetch-User: ?1\r\n"                                                                         \
  "Sec-Fetch-Dest: document\r\n"                                                                   \
  "Sec-Ch-Ua: \"Chromium\";v=\"130\", \"Not?A_Brand\";v=\"99\"\r\n"                                \
  "Sec-Ch-Ua-Mobile: ?0\r\n"                                                                       \
  "Sec-Ch-Ua-Platform: \"Linux\"\r\n"                                                              \
  "Referer: https://example.org/some/page?with=query\r\n"                                          \
  "If-None-Match: \"33a64df551425fcc55e4d42a148795d9f25f89d4\"\r\n"                                \
  "X-Forwarded-For: 203.0.113.195, 198.51.100.17\r\n"                                              \
  "X-Request-Id: 7b1d6f0a-52a1-4c52-9a41-0f2f6f3b2c11\r\n"                                         \
  "Priority: u=0, i\r\n"

#define LINE "GET / HTTP/1.1\r\nHost: localhost:8080\r\n"

static double now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static double run(fc_http1_parser *p, fc_slice head, long rounds) {
  double start = now_ns();
  for (long i = 0; i < rounds; i++) {
    fc_http1_reset(p);
    if (fc_http1_head(p, head.ptr, head.len) != (int64_t)head.len) exit(1);
  }
  return (now_ns() - start) / (double)rounds;
}

int main(int argc, char **argv) {
  static const struct {
    const char *name;
    fc_slice head;
  } cases[] = {
      {"1 field", FC_SLICE(LINE "\r\n")},
      {"11 fields", FC_SLICE(LINE BROWSER "\r\n")},
      {"21 fields", FC_SLICE(LINE BROWSER MORE "\r\n")},
  };
  long rounds = argc > 1 ? atol(argv[1]) : 1000000;
  fc_http1_limits limits = fc_http1_limits_default();
  fc_http1_field fields[FC_HTTP1_MAX_HEADERS];
  fc_http1_parser p;
  fc_http1_init(&p, &limits, fields);
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    double best = 1e18;
    for (int k = 0; k < 5; k++) {
      double ns = run(&p, cases[i].head, rounds);
      if (ns < best) best = ns;
    }
    printf("%-10s %5zu bytes  %7.1f ns\n", cases[i].name, cases[i].head.len, best);
  }
  return 0;
}
