#include "fc/ring.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fc/err.h"

#define MIN_PLAIN_BYTES 64

static size_t page_bytes(void) {
  return (size_t)sysconf(_SC_PAGESIZE);
}

static int memfd(size_t bytes) {
#ifdef __linux__
  int fd = memfd_create("fc-ring", MFD_CLOEXEC);
  if (fd < 0) return -errno;
  if (ftruncate(fd, (off_t)bytes) < 0) {
    int err = -errno;
    close(fd);
    return err;
  }
  return fd;
#else
  (void)bytes;
  return -ENOSYS;
#endif
}

static int map(char **at, size_t bytes, int fd) {
  void *p = fd < 0 ? mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
                   : mmap(*at, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
  if (p == MAP_FAILED) return -errno;
  *at = p;
  return 0;
}

static void unmap(char *at, size_t bytes) {
  munmap(at, bytes);
}

static void close_fd(int fd) {
  close(fd);
}

const fc_ring_sys fc_ring_sys_memfd = {page_bytes, memfd, map, unmap, close_fd};

/* Reserves both halves in one piece first: nothing else can come to lie between them, and whatever
 * fails, one unmap undoes it. The mappings outlive the descriptor. */
static int map_twice(fc_ring *r, const fc_ring_sys *sys) {
  char *base = NULL;
  int fd = sys->memfd(r->capacity);
  if (fd < 0) return fd;
  int err = sys->map(&base, 2 * r->capacity, -1);
  if (err < 0) goto no_space;
  char *upper = base + r->capacity;
  if ((err = sys->map(&base, r->capacity, fd)) < 0) goto no_half;
  if ((err = sys->map(&upper, r->capacity, fd)) < 0) goto no_half;
  sys->close(fd);
  r->base = base;
  r->sys = sys;
  return 0;

no_half:
  sys->unmap(base, 2 * r->capacity);
no_space:
  sys->close(fd);
  return err;
}

static size_t power_of_two(size_t at_least, size_t floor) {
  size_t n = floor;
  while (n < at_least) n <<= 1;
  return n;
}

int fc_ring_open(fc_ring *r, size_t capacity, const fc_mem *mem, const fc_ring_sys *sys) {
  memset(r, 0, sizeof *r);
  if (capacity == 0 || capacity > FC_RING_MAX_BYTES) return FC_EINVALID;
  r->mem = mem;
  atomic_init(&r->head, 0);
  atomic_init(&r->tail, 0);
  if (sys) {
    r->capacity = power_of_two(capacity, sys->page_bytes());
    if (map_twice(r, sys) == 0) return 0;
  }
  r->capacity = power_of_two(capacity, MIN_PLAIN_BYTES);
  r->base = fc_alloc(mem, 2 * r->capacity);
  return r->base ? 0 : FC_ENOMEM;
}

void fc_ring_close(fc_ring *r) {
  if (!r->base) return;
  if (r->sys)
    r->sys->unmap(r->base, 2 * r->capacity);
  else
    fc_free(r->mem, r->base);
  r->base = NULL;
}

void fc_ring_mirror(fc_ring *r, size_t at, size_t n) {
  size_t below = r->capacity - at < n ? r->capacity - at : n;
  memcpy(r->base + r->capacity + at, r->base + at, below);
  memcpy(r->base, r->base + r->capacity, n - below);
}

ssize_t fc_ring_read_from(fc_ring *r, int fd, size_t max) {
  size_t room;
  char *at = fc_ring_claim(r, &room);
  if (room == 0) return FC_ELIMIT;
  ssize_t n = read(fd, at, room < max ? room : max);
  if (n < 0) return -errno;
  fc_ring_commit(r, (size_t)n);
  return n;
}

ssize_t fc_ring_write_to(fc_ring *r, int fd, size_t max) {
  size_t len;
  const char *at = fc_ring_peek(r, &len);
  if (len > max) len = max;
  if (len == 0) return 0;
  ssize_t n = write(fd, at, len);
  if (n < 0) return -errno;
  fc_ring_consume(r, (size_t)n);
  return n;
}
