#include "fc/shmq.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "shmq_private.h"

_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "a lock inside an atomic would not be shared");

static uint32_t abi_of(size_t page) {
  return (uint32_t)(sizeof(pthread_mutex_t) | page << 8);
}

static uint64_t header_size(uint32_t lanes, size_t page) {
  uint64_t bytes = sizeof(fc_shmq_header) + lanes * sizeof(fc_shmq_lane);
  return (bytes + page - 1) & ~(uint64_t)(page - 1);
}

/* A descriptor of the same file with an open file description, hence locks, of its own. */
static int reopen(int fd) {
  char path[40];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  int n = open(path, O_RDWR | O_CLOEXEC);
  return n < 0 ? -errno : n;
}

/* ---- locks and sleep ---- */

int fc_shmq_lock_byte(const fc_shmq *q, short type, int64_t byte) {
  struct flock l = {.l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
  int n;
  do n = fcntl(q->lock_fd, F_OFD_SETLK, &l);
  while (n < 0 && errno == EINTR);
  return n < 0 ? -errno : 0;
}

bool fc_shmq_is_locked(const fc_shmq *q, int64_t byte) {
  struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
  /* A failure is not evidence of a death. */
  return fcntl(q->lock_fd, F_OFD_GETLK, &l) < 0 || l.l_type != F_UNLCK;
}

uint64_t fc_shmq_deaths(const fc_shmq *q, const fc_shmq_roll *roll, int64_t byte) {
  /* In this order: who comes after the look is not among `joined`, and who left before it has said
   * so. Who came and left since makes the result too small, until the next look. */
  uint64_t joined = atomic_load(&roll->joined);
  if (fc_shmq_is_locked(q, byte)) return 0;
  uint64_t left = atomic_load(&roll->left);
  uint64_t self = byte == LOCK_PRODUCERS ? q->lane != NULL : atomic_load(&q->consuming);
  return joined > left + self ? joined - left - self : 0;
}

void fc_shmq_sleep(_Atomic uint32_t *word, uint32_t seen, int64_t timeout_ns) {
  if (timeout_ns < 0 || timeout_ns > FC_SHMQ_SLICE_NS) timeout_ns = FC_SHMQ_SLICE_NS;
  struct timespec t = {.tv_nsec = (long)timeout_ns};
  syscall(SYS_futex, (uint32_t *)word, FUTEX_WAIT, seen, &t, NULL, 0);
}

void fc_shmq_wake(_Atomic uint32_t *flag, _Atomic uint32_t *bell) {
  atomic_store(flag, 0);
  atomic_fetch_add(bell, 1);
  syscall(SYS_futex, (uint32_t *)bell, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/* ---- mappings ---- */

static void *map(int fd, uint64_t offset, size_t len, void *at) {
  int flags = MAP_SHARED | (at ? MAP_FIXED : 0);
  void *p = mmap(at, len, PROT_READ | PROT_WRITE, flags, fd, (off_t)offset);
  return p == MAP_FAILED ? NULL : p;
}

static int map_rings(fc_shmq *q) {
  size_t cap = (size_t)q->capacity, all = 2 * cap * q->lanes;
  void *p = mmap(NULL, all, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) return -errno;
  q->rings = p;
  for (uint32_t i = 0; i < q->lanes; i++) {
    uint64_t offset = q->header_bytes + q->capacity * i;
    unsigned char *at = fc_shmq_ring(q, i);
    if (!map(q->fd, offset, cap, at) || !map(q->fd, offset, cap, at + cap)) return -errno;
  }
  return 0;
}

static int map_guard(fc_shmq *q) {
  void *p = mmap(NULL, q->page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) return -errno;
  q->guard = p;
  if (madvise(p, q->page, MADV_WIPEONFORK) < 0) return -errno;
  atomic_store(q->guard, 1);
  return 0;
}

static void release(fc_shmq *q) {
  if (q->guard) munmap((void *)q->guard, q->page);
  if (q->rings) munmap(q->rings, (size_t)(2 * q->capacity * q->lanes));
  if (q->header) munmap(q->header, q->header_bytes);
  if (q->lock_fd >= 0) close(q->lock_fd);
  if (q->fd >= 0) close(q->fd);
  pthread_mutex_destroy(&q->send_mutex);
  fc_free(q->mem, q);
}

/* The handle for a segment whose sizes are known to be right; `fd` becomes its own in any case. */
static int open_handle(fc_shmq **out, const fc_mem *mem, int fd, uint32_t lanes, uint64_t cap) {
  fc_shmq *q = fc_zalloc(mem, sizeof *q + lanes * sizeof q->tail_seen[0]);
  if (!q) {
    close(fd);
    return FC_ENOMEM;
  }
  q->mem = mem;
  q->page = (size_t)sysconf(_SC_PAGESIZE);
  q->lanes = lanes;
  q->capacity = cap;
  q->header_bytes = (size_t)header_size(lanes, q->page);
  q->fd = fd;
  q->turn = FC_SHMQ_TURN;
  pthread_mutex_init(&q->send_mutex, NULL);
  int err = q->lock_fd = reopen(fd);
  if (err >= 0) {
    q->header = map(fd, 0, q->header_bytes, NULL);
    err = q->header ? map_rings(q) : -errno;
  }
  if (err >= 0) err = map_guard(q);
  if (err < 0) {
    release(q);
    return err;
  }
  *out = q;
  return 0;
}

/* ---- creation ---- */

static int init_mutex(pthread_mutex_t *m) {
  pthread_mutexattr_t a;
  int err = pthread_mutexattr_init(&a);
  if (err) return -err;
  pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
  pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
  pthread_mutexattr_settype(&a, PTHREAD_MUTEX_ERRORCHECK);
  err = pthread_mutex_init(m, &a);
  pthread_mutexattr_destroy(&a);
  return -err;
}

static int init_segment(fc_shmq *q, const fc_shmq_config *config) {
  fc_shmq_header *h = q->header;
  h->version = FC_SHMQ_VERSION;
  h->abi = abi_of(q->page);
  h->capacity = q->capacity;
  h->max_message = config->max_message_bytes;
  if (!h->max_message) h->max_message = q->capacity - FC_SHMQ_RECORD_HEAD;
  h->size = q->header_bytes + q->capacity * q->lanes;
  h->lanes = q->lanes;
  int err = init_mutex(&h->mutex);
  if (err < 0) return err;
  atomic_store(&h->magic, MAGIC);
  return 0;
}

int fc_shmq_create(fc_shmq **out, const fc_mem *mem, const fc_shmq_config *config) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  uint64_t cap = page;
  if (config->capacity_bytes < 1 || config->capacity_bytes > FC_SHMQ_MAX_CAPACITY ||
      config->max_producers < 1 || config->max_producers > FC_SHMQ_MAX_LANES)
    return FC_EINVALID;
  while (cap < config->capacity_bytes) cap *= 2;
  if (config->max_message_bytes > cap - FC_SHMQ_RECORD_HEAD) return FC_EINVALID;
  int fd = memfd_create("fc_shmq", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) return -errno;
  uint64_t size = header_size(config->max_producers, page) + cap * config->max_producers;
  /* Sealed, since a shorter file would kill whoever touches what is missing. */
  if (ftruncate(fd, (off_t)size) < 0 ||
      fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
    int err = -errno;
    close(fd);
    return err;
  }
  fc_shmq *q;
  int err = open_handle(&q, mem, fd, config->max_producers, cap);
  if (err < 0) return err;
  err = init_segment(q, config);
  if (err < 0) {
    release(q);
    return err;
  }
  *out = q;
  return 0;
}

/* Reads what the header says and holds it against the file. */
static int check_segment(int fd, fc_shmq_header *h) {
  struct stat st;
  size_t page = (size_t)sysconf(_SC_PAGESIZE);
  ssize_t n = pread(fd, h, sizeof *h, 0);
  if (n < 0) return -errno;
  if (n < (ssize_t)sizeof *h || atomic_load(&h->magic) != MAGIC) return -EPROTO;
  if (h->version != FC_SHMQ_VERSION || h->abi != abi_of(page)) return -EPROTONOSUPPORT;
  if (fstat(fd, &st) < 0) return -errno;
  bool right = h->lanes >= 1 && h->lanes <= FC_SHMQ_MAX_LANES && h->capacity >= page &&
               h->capacity <= FC_SHMQ_MAX_CAPACITY && !(h->capacity & (h->capacity - 1)) &&
               h->max_message <= h->capacity - FC_SHMQ_RECORD_HEAD &&
               h->size == header_size(h->lanes, page) + h->capacity * h->lanes &&
               (uint64_t)st.st_size == h->size;
  return right ? 0 : -EPROTO;
}

int fc_shmq_attach(fc_shmq **out, const fc_mem *mem, int fd) {
  fc_shmq_header h;
  int err = check_segment(fd, &h);
  if (err < 0) return err;
  int own = reopen(fd);
  return own < 0 ? own : open_handle(out, mem, own, h.lanes, h.capacity);
}

/* ---- the handle's life ---- */

int fc_shmq_fd(const fc_shmq *q) {
  return q->fd;
}

bool fc_shmq_forked(const fc_shmq *q) {
  return !atomic_load_explicit(q->guard, memory_order_relaxed);
}

int fc_shmq_renew(fc_shmq *q) {
  int fd = reopen(q->fd);
  if (fd < 0) return fd;
  close(q->lock_fd);
  q->lock_fd = fd;
  q->lane = NULL;
  q->untold = 0;
  atomic_store(&q->consuming, 0);
  /* A thread that does not exist here may have held it. */
  pthread_mutex_init(&q->send_mutex, NULL);
  atomic_store(q->guard, 1);
  return 0;
}

void fc_shmq_close(fc_shmq *q) {
  if (!fc_shmq_forked(q)) {
    /* Said before the locks go with the descriptor, else it would look like a death. */
    if (q->lane) {
      atomic_store(&q->lane->pid, 0);
      atomic_fetch_add(&q->header->producers.left, 1);
    }
    if (atomic_load(&q->consuming)) atomic_fetch_add(&q->header->consumers.left, 1);
  }
  release(q);
}

static void take_lane(fc_shmq *q, uint32_t i) {
  fc_shmq_lane *lane = &q->header->lane[i];
  q->ring = fc_shmq_ring(q, i);
  /* What a dead owner had not published is overwritten; what it had is in front of ours. */
  q->tail = q->published = atomic_load(&lane->tail);
  q->head_seen = atomic_load(&lane->head);
  atomic_store(&lane->need, 0);
  atomic_store(&lane->pid, (uint32_t)getpid());
  /* In this order, or another thread's look for deaths would count us among them. */
  atomic_store(&q->lane, lane);
  atomic_fetch_add(&q->header->producers.joined, 1);
}

int fc_shmq_claim_lane(fc_shmq *q) {
  fc_shmq_header *h = q->header;
  for (uint32_t i = 0; i < q->lanes; i++) {
    int err = fc_shmq_lock_byte(q, F_WRLCK, LOCK_LANES + i);
    if (err == -EAGAIN || err == -EACCES) continue;
    if (err == 0) err = fc_shmq_lock_byte(q, F_RDLCK, LOCK_PRODUCERS);
    if (err < 0) return err;
    uint32_t used = atomic_load(&h->lanes_used);
    while (used <= i && !atomic_compare_exchange_weak(&h->lanes_used, &used, i + 1)) {
    }
    take_lane(q, i);
    return 0;
  }
  return -EUSERS;
}

void fc_shmq_shutdown(fc_shmq *q) {
  fc_shmq_header *h = q->header;
  atomic_store(&h->closed, 1);
  fc_shmq_wake(&h->sleeping, &h->doorbell);
  for (uint32_t i = 0; i < q->lanes; i++) fc_shmq_wake(&h->lane[i].need, &h->lane[i].bell);
}

bool fc_shmq_is_shut_down(const fc_shmq *q) {
  return atomic_load(&q->header->closed);
}

fc_shmq_stats fc_shmq_get_stats(const fc_shmq *q) {
  fc_shmq_header *h = q->header;
  fc_shmq_stats s = {.capacity_bytes = q->capacity,
                     .max_message_bytes = h->max_message,
                     .segment_bytes = h->size,
                     .producers_joined = atomic_load(&h->producers.joined),
                     .producers_left = atomic_load(&h->producers.left),
                     .consumers_joined = atomic_load(&h->consumers.joined),
                     .consumers_left = atomic_load(&h->consumers.left),
                     .max_producers = q->lanes,
                     .lanes_used = atomic_load(&h->lanes_used),
                     .closed = atomic_load(&h->closed)};
  for (uint32_t i = 0; i < s.lanes_used && i < q->lanes; i++) {
    /* `head` first, so that the difference cannot be negative. */
    uint64_t head = atomic_load(&h->lane[i].head);
    s.used_bytes += atomic_load(&h->lane[i].tail) - head;
    if (q->lane == &h->lane[i] || fc_shmq_is_locked(q, LOCK_LANES + i)) s.lanes_owned++;
  }
  return s;
}
