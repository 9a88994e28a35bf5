/* The byte ring, mapped and plain: wrap, contiguity, descriptors, and each failure of mapping. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <unistd.h>

#include "check.h"
#include "failmem.h"
#include "fc/err.h"
#include "fc/ring.h"
#include "rng.h"

static const fc_ring_sys *const variants[] = {&fc_ring_sys_memfd, NULL};
enum { VARIANTS = sizeof variants / sizeof variants[0] };

static void open_ring(fc_ring *r, size_t capacity, const fc_ring_sys *sys) {
  CHECK_INT(fc_ring_open(r, capacity, &fc_mem_libc, sys), 0);
  CHECK(fc_ring_mapped(r) == (sys != NULL));
}

static void put(fc_ring *r, const char *bytes, size_t n) {
  size_t room;
  char *at = fc_ring_claim(r, &room);
  CHECK(room >= n);
  memcpy(at, bytes, n);
  fc_ring_commit(r, n);
}

static void test_capacity(void) {
  fc_ring r;
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  open_ring(&r, 1, &fc_ring_sys_memfd);
  CHECK_INT(r.capacity, page);
  fc_ring_close(&r);
  open_ring(&r, page + 1, &fc_ring_sys_memfd);
  CHECK_INT(r.capacity, 2 * page);
  fc_ring_close(&r);
  fc_ring_close(&r);
  open_ring(&r, 65, NULL);
  CHECK_INT(r.capacity, 128);
  fc_ring_close(&r);
  CHECK_INT(fc_ring_open(&r, 0, &fc_mem_libc, NULL), FC_EINVALID);
  CHECK_INT(fc_ring_open(&r, FC_RING_MAX_BYTES + 1, &fc_mem_libc, NULL), FC_EINVALID);
  fc_ring_close(&r);
}

static void full_and_empty(const fc_ring_sys *sys) {
  fc_ring r;
  size_t n;
  open_ring(&r, 4096, sys);
  fc_ring_peek(&r, &n);
  CHECK_INT(n, 0);
  for (int round = 0; round < 3; round++) {
    char *at = fc_ring_claim(&r, &n);
    CHECK_INT(n, 4096);
    memset(at, 'a' + round, n);
    fc_ring_commit(&r, n);
    fc_ring_claim(&r, &n);
    CHECK_INT(n, 0);
    CHECK_INT(fc_ring_len(&r), 4096);
    const char *seen = fc_ring_peek(&r, &n);
    CHECK_INT(n, 4096);
    CHECK(seen[0] == 'a' + round && seen[4095] == 'a' + round);
    fc_ring_consume(&r, 4096);
    CHECK_INT(fc_ring_len(&r), 0);
    put(&r, "shift", 5); /* the next round begins elsewhere */
    fc_ring_consume(&r, 5);
  }
  fc_ring_close(&r);
}

static void test_full_and_empty(void) {
  for (int v = 0; v < VARIANTS; v++) full_and_empty(variants[v]);
}

/* Random pieces against a count: each byte is its own position, every span is in one piece. */
static void against_count(const fc_ring_sys *sys, size_t first) {
  fc_ring r;
  rng g = rng_seeded(7);
  size_t n, written = 0, read = 0;
  open_ring(&r, 4096, sys);
  atomic_store(&r.head, first);
  atomic_store(&r.tail, first);
  for (int i = 0; i < 20000; i++) {
    char *at = fc_ring_claim(&r, &n);
    CHECK_INT(n, r.capacity - (written - read));
    size_t take = (size_t)rng_below(&g, n + 1);
    for (size_t k = 0; k < take; k++) at[k] = (char)((written + k) * 131);
    fc_ring_commit(&r, take);
    written += take;
    const char *seen = fc_ring_peek(&r, &n);
    CHECK_INT(n, written - read);
    take = (size_t)rng_below(&g, n + 1);
    for (size_t k = 0; k < take; k++) CHECK(seen[k] == (char)((read + k) * 131));
    fc_ring_consume(&r, take);
    read += take;
  }
  CHECK(written > 1000 * r.capacity);
  fc_ring_close(&r);
}

static void test_random_pieces(void) {
  for (int v = 0; v < VARIANTS; v++) against_count(variants[v], 0);
}

/* The positions themselves pass the end of size_t on the way. */
static void test_positions_wrap(void) {
  for (int v = 0; v < VARIANTS; v++) {
    against_count(variants[v], SIZE_MAX - 100000);
    against_count(variants[v], SIZE_MAX);
  }
}

/* A span that was peeked keeps its address and bytes while the writer goes on. */
static void test_peeked_bytes_stay(void) {
  for (int v = 0; v < VARIANTS; v++) {
    fc_ring r;
    size_t n;
    char *room;
    open_ring(&r, 4096, variants[v]);
    fc_ring_claim(&r, &n);
    fc_ring_commit(&r, 4000);
    fc_ring_consume(&r, 4000);
    char text[201];
    memset(text, 'x', 200);
    put(&r, text, 200); /* passes the end of the first half */
    const char *seen = fc_ring_peek(&r, &n);
    CHECK_INT(n, 200);
    room = fc_ring_claim(&r, &n);
    CHECK_INT(n, 3896);
    memset(room, 'y', n);
    fc_ring_commit(&r, n);
    CHECK(fc_ring_peek(&r, &n) == seen);
    CHECK(memcmp(seen, text, 200) == 0);
    CHECK(seen[200] == 'y' && seen[4095] == 'y');
    fc_ring_close(&r);
  }
}

static void test_descriptors(void) {
  for (int v = 0; v < VARIANTS; v++) {
    fc_ring r;
    int in[2], out[2];
    char text[3000], back[3000];
    open_ring(&r, 4096, variants[v]);
    CHECK(pipe2(in, O_NONBLOCK) == 0 && pipe2(out, O_NONBLOCK) == 0);
    CHECK_INT(fc_ring_read_from(&r, in[0], SIZE_MAX), -EAGAIN);
    CHECK_INT(fc_ring_write_to(&r, out[1], SIZE_MAX), 0);
    for (int round = 0; round < 5; round++) {
      memset(text, 'a' + round, sizeof text);
      text[0] = '<';
      text[2999] = '>';
      CHECK_INT(write(in[1], text, sizeof text), sizeof text);
      CHECK_INT(fc_ring_read_from(&r, in[0], 1000), 1000);
      CHECK_INT(fc_ring_read_from(&r, in[0], SIZE_MAX), 2000);
      CHECK_INT(fc_ring_write_to(&r, out[1], 1), 1);
      CHECK_INT(fc_ring_write_to(&r, out[1], SIZE_MAX), 2999);
      CHECK_INT(read(out[0], back, sizeof back), sizeof back);
      CHECK(memcmp(text, back, sizeof text) == 0);
    }
    size_t n;
    fc_ring_claim(&r, &n);
    fc_ring_commit(&r, n);
    CHECK_INT(fc_ring_read_from(&r, in[0], SIZE_MAX), FC_ELIMIT);
    close(out[1]);
    CHECK_INT(fc_ring_write_to(&r, out[1], SIZE_MAX), -EBADF);
    CHECK_INT(fc_ring_len(&r), 4096);
    fc_ring_consume(&r, 4096);
    close(in[1]);
    CHECK_INT(fc_ring_read_from(&r, in[0], SIZE_MAX), 0);
    close(in[0]);
    close(out[0]);
    fc_ring_close(&r);
  }
}

/* ---- mapping that fails -----------------------------------------------------------------------*/

static int fail_at, calls, fds, spans;

static size_t small_page(void) {
  return (size_t)sysconf(_SC_PAGESIZE);
}

static int failing_memfd(size_t bytes) {
  if (calls++ == fail_at) return -EMFILE;
  fds++;
  return fc_ring_sys_memfd.memfd(bytes);
}

static int failing_map(char **at, size_t bytes, int fd) {
  if (calls++ == fail_at) return -ENOMEM;
  spans += fd < 0;
  return fc_ring_sys_memfd.map(at, bytes, fd);
}

static void counting_unmap(char *at, size_t bytes) {
  spans--;
  fc_ring_sys_memfd.unmap(at, bytes);
}

static void counting_close(int fd) {
  fds--;
  fc_ring_sys_memfd.close(fd);
}

static const fc_ring_sys failing = {small_page, failing_memfd, failing_map, counting_unmap,
                                    counting_close};

/* Whichever step fails, the ring is plain and works, and nothing of the attempt is left. */
static void test_mapping_fails(void) {
  for (fail_at = 0; fail_at <= 4; fail_at++) {
    fc_ring r;
    calls = 0;
    CHECK_INT(fc_ring_open(&r, 100, &fc_mem_libc, &failing), 0);
    CHECK(fc_ring_mapped(&r) == (fail_at == 4));
    CHECK_INT(fds, 0);
    CHECK_INT(spans, fail_at == 4);
    put(&r, "text", 4);
    size_t n;
    CHECK(memcmp(fc_ring_peek(&r, &n), "text", 4) == 0);
    CHECK_INT(n, 4);
    fc_ring_close(&r);
    CHECK_INT(spans, 0);
  }
}

static void test_out_of_memory(void) {
  failmem mem;
  fc_ring r;
  failmem_init(&mem, 0);
  calls = fail_at = 0;
  CHECK_INT(fc_ring_open(&r, 100, &mem.mem, &failing), FC_ENOMEM);
  fc_ring_close(&r);
  failmem_init(&mem, -1);
  CHECK_INT(fc_ring_open(&r, 100, &mem.mem, NULL), 0);
  CHECK_INT(mem.live, 1);
  fc_ring_close(&r);
  CHECK_INT(mem.live, 0);
}

int main(void) {
  RUN(test_capacity);
  RUN(test_full_and_empty);
  RUN(test_random_pieces);
  RUN(test_positions_wrap);
  RUN(test_peeked_bytes_stay);
  RUN(test_descriptors);
  RUN(test_mapping_fails);
  RUN(test_out_of_memory);
  return 0;
}
