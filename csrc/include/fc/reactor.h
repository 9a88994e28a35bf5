/* reactor.h - readiness, timers and the end of a turn.
 *
 * One turn, as whoever drives the reactor makes it:
 *
 *     fc_reactor_timeout()   how long the wait may be
 *     fc_reactor_wait()      sleeps in the kernel; touches nothing that callbacks touch, so that a
 *                            lock (the GIL) may be released around it
 *     fc_reactor_dispatch()  ready sources, then tasks left from the turn before, then timers
 *     ...                    the driver's own work
 *     fc_reactor_end_turn()  one gathered write per stream that was written to; dead things freed
 *
 * A reactor belongs to one thread. The calls allowed from others, and from signal handlers, are
 * fc_reactor_wake() and fc_reactor_post(). The back end (epoll here) is the five functions of
 * reactor_private.h. */
#ifndef FC_REACTOR_H
#define FC_REACTOR_H

#include <stdatomic.h>

#include "fc/buf.h"
#include "fc/clock.h"
#include "fc/list.h"
#include "fc/mpsc.h"
#include "fc/sys.h"
#include "fc/timer.h"

enum {
  FC_READ = 1,
  FC_WRITE = 2,
  FC_PEER_GONE = 4, /* the peer has shut down its side; asked for by a source that does not read */
  FC_ERROR = 8      /* reported whether asked for or not */
};

/* A descriptor that is watched, level-triggered. Embedded in what owns it. */
typedef struct fc_source {
  int fd;
  uint32_t events; /* FC_* asked for; 0: not registered */
  void (*ready)(struct fc_source *s, uint32_t events);
} fc_source;

/* Work put off: to the next turn (fc_reactor_soon), to the end of this one (fc_reactor_flush_later)
 * or, to be freed, until no callback of this turn can still hold it (fc_reactor_bury). */
typedef struct fc_task {
  fc_list link;
  void (*run)(struct fc_task *t);
} fc_task;

/* Work that any thread sends to the reactor's. The memory is the sender's until `run`, which has it
 * then and may send it again. */
typedef struct fc_post {
  fc_mpsc_node node;
  void (*run)(struct fc_post *p);
} fc_post;

#define FC_REACTOR_MAX_POSTS 256 /* run in one turn before others have theirs */
#define FC_REACTOR_BATCH 256 /* events taken from the kernel at once */
#define FC_WAIT_FOREVER INT64_C(-1)

typedef struct fc_reactor fc_reactor;

typedef struct fc_reactor_config {
  const fc_mem *mem;     /* NULL: fc_mem_libc */
  const fc_clock *clock; /* NULL: fc_clock_system */
  const fc_sys *sys;     /* NULL: fc_sys_posix */
} fc_reactor_config;

struct fc_reactor {
  const fc_mem *mem;
  const fc_clock *clock;
  const fc_sys *sys;
  fc_pool *pool;
  fc_timers timers;
  uint64_t now_ns; /* as of the last wait */
  fc_list soon;
  fc_list flush;
  fc_list graves;
  fc_mpsc inbox; /* of posts */
  fc_source wake;
  atomic_int woken;   /* a wake-up is on its way: further ones are free */
  int backend_fd;
  int batch_len, batch_at;
  void *batch; /* the back end's event array */
  uint64_t polls, events; /* counted for whoever shows statistics */
};

/* Opens a reactor; `config` may be NULL. Returns 0, or a negative error with nothing left open. */
int fc_reactor_open(fc_reactor **out, const fc_reactor_config *config);

/* Runs what is buried, then frees everything. Sources and timers must have been removed. */
void fc_reactor_close(fc_reactor *r);

/* `timeout_ns` (FC_WAIT_FOREVER, or >= 0) cut short by what is due: tasks and unsent writes at
 * once, the next timer at its time. */
int64_t fc_reactor_timeout(const fc_reactor *r, int64_t timeout_ns);

/* Waits at most `timeout_ns` for events or a wake-up. Returns the number of events, or a negative
 * error. A signal ends the wait early. */
int fc_reactor_wait(fc_reactor *r, int64_t timeout_ns);

void fc_reactor_dispatch(fc_reactor *r);
void fc_reactor_end_turn(fc_reactor *r);

/* Ends the wait that is under way, or makes the next one return at once. Thread-safe, async-signal-
 * safe, and one system call for any number of calls until the reactor has woken. */
void fc_reactor_wake(fc_reactor *r);

/* Has p->run(p) called on the reactor's thread, in the order of the posts of one sender. Wakes the
 * reactor as fc_reactor_wake() does. What has not run when the reactor is closed is dropped. */
void fc_reactor_post(fc_reactor *r, fc_post *p);

/* Watches the source for `events`, or stops with 0; registers and removes as needed. A source
 * removed here gets no further event, not even one already taken from the kernel. */
int fc_source_set(fc_reactor *r, fc_source *s, uint32_t events);

static inline void fc_source_init(fc_source *s, int fd,
                                  void (*ready)(fc_source *s, uint32_t events)) {
  s->fd = fd;
  s->events = 0;
  s->ready = ready;
}

static inline void fc_task_init(fc_task *t, void (*run)(fc_task *)) {
  fc_list_init(&t->link);
  t->run = run;
}

static inline void fc_task_put(fc_list *list, fc_task *t) {
  if (fc_list_empty(&t->link)) fc_list_push(list, &t->link);
}

static inline void fc_reactor_soon(fc_reactor *r, fc_task *t) {
  fc_task_put(&r->soon, t);
}

static inline void fc_reactor_flush_later(fc_reactor *r, fc_task *t) {
  fc_task_put(&r->flush, t);
}

static inline void fc_reactor_bury(fc_reactor *r, fc_task *t) {
  fc_task_put(&r->graves, t);
}

/* Reads the clock and remembers it as now. */
static inline uint64_t fc_reactor_tick(fc_reactor *r) {
  return r->now_ns = r->clock->now_ns(r->clock->ctx);
}

#endif
