/* check.h - the whole test framework: a failed CHECK prints where and ends the process. */
#ifndef FC_CHECK_H
#define FC_CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(cond)                                                                                \
  do {                                                                                             \
    if (!(cond)) {                                                                                 \
      fprintf(stderr, "%s:%d: %s: CHECK failed: %s\n", __FILE__, __LINE__, __func__, #cond);       \
      exit(1);                                                                                     \
    }                                                                                              \
  } while (0)

#define CHECK_INT(actual, expected)                                                                \
  do {                                                                                             \
    long long a_ = (long long)(actual), e_ = (long long)(expected);                                \
    if (a_ != e_) {                                                                                \
      fprintf(stderr, "%s:%d: %s: %s is %lld, expected %lld\n", __FILE__, __LINE__, __func__,      \
              #actual, a_, e_);                                                                    \
      exit(1);                                                                                     \
    }                                                                                              \
  } while (0)

/* Runs one test function and says so; main() is a list of these. */
#define RUN(test)                                                                                  \
  do {                                                                                             \
    test();                                                                                        \
    printf("ok %s\n", #test);                                                                      \
    fflush(stdout);                                                                                \
  } while (0)

#endif
