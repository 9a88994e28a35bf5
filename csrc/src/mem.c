#include "fc/mem.h"

#include <stdlib.h>
#include <string.h>

static void *libc_alloc(void *ctx, size_t size) {
  (void)ctx;
  return malloc(size);
}

static void *libc_realloc(void *ctx, void *ptr, size_t size) {
  (void)ctx;
  return realloc(ptr, size);
}

static void libc_free(void *ctx, void *ptr) {
  (void)ctx;
  free(ptr);
}

const fc_mem fc_mem_libc = {libc_alloc, libc_realloc, libc_free, NULL};

void *fc_zalloc(const fc_mem *m, size_t size) {
  void *p = fc_alloc(m, size);
  if (p) memset(p, 0, size);
  return p;
}
