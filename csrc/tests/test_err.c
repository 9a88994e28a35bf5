/* The list of errors. */
#include <errno.h>

#include "check.h"
#include "fc/err.h"

static void test_table(void) {
  size_t count;
  const fc_err_info *table = fc_err_table(&count);
  CHECK(count > 20);
  for (size_t i = 0; i < count; i++) {
    CHECK(table[i].code < FC_ERR_BASE);
    CHECK(table[i].name[0] && table[i].exception[0] && table[i].text[0]);
    CHECK(strcmp(fc_err_name(table[i].code), table[i].name) == 0);
    CHECK(strcmp(fc_strerror(table[i].code), table[i].text) == 0);
    for (size_t k = 0; k < i; k++) {
      CHECK(table[k].code != table[i].code);
      CHECK(strcmp(table[k].name, table[i].name) != 0);
    }
  }
}

static void test_names(void) {
  CHECK(strcmp(fc_err_name(FC_ENOMEM), "NOMEM") == 0);
  CHECK(strcmp(fc_err_name(FC_EHTTP_VERSION_UNKNOWN), "HTTP_VERSION_UNKNOWN") == 0);
  CHECK(fc_err_name(-EPIPE) == NULL);
  CHECK(fc_err_name(0) == NULL);
  CHECK(fc_err_name(FC_ERR_BASE - 9999) == NULL);
}

static void test_texts(void) {
  CHECK(strcmp(fc_strerror(-EPIPE), strerror(EPIPE)) == 0);
  CHECK(strcmp(fc_strerror(FC_ERR_BASE - 9999), "unknown error") == 0);
  CHECK(strcmp(fc_strerror(FC_ERR_BASE), "unknown error") == 0);
  CHECK(strcmp(fc_strerror(7), "unknown error") == 0);
}

int main(void) {
  RUN(test_table);
  RUN(test_names);
  RUN(test_texts);
  return 0;
}
