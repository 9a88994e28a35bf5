from libc.stdint cimport int64_t, uint32_t, uint64_t

from flowcore.kernel.fc_mpsc cimport fc_mpsc_node


cdef extern from "fc/mem.h" nogil:
    ctypedef struct fc_mem:
        pass

    const fc_mem fc_mem_libc


cdef extern from "fc/list.h" nogil:
    ctypedef struct fc_list:
        fc_list *next
        fc_list *prev


cdef extern from "fc/timer.h":
    ctypedef struct fc_timer:
        fc_list link
        uint64_t deadline_ns
        void (*fire)(fc_timer *t) noexcept

    ctypedef struct fc_timers:
        uint64_t tick
        size_t count

    void fc_timer_init(fc_timer *t, void (*fire)(fc_timer *) noexcept)
    bint fc_timer_armed(const fc_timer *t)
    void fc_timer_arm(fc_timers *w, fc_timer *t, uint64_t deadline_ns)
    fc_timer *fc_timers_any(const fc_timers *w)
    void fc_timer_cancel(fc_timers *w, fc_timer *t)


cdef extern from "fc/clock.h":
    ctypedef struct fc_clock:
        uint64_t (*now_ns)(void *ctx) noexcept nogil
        void *ctx


cdef extern from "fc/reactor.h":
    enum:
        FC_READ
        FC_WRITE
        FC_PEER_GONE
        FC_ERROR
        FC_WAIT_FOREVER

    ctypedef struct fc_source:
        int fd
        uint32_t events
        void (*ready)(fc_source *s, uint32_t events) noexcept

    ctypedef struct fc_task:
        fc_list link
        void (*run)(fc_task *t) noexcept

    ctypedef struct fc_post:
        fc_mpsc_node node
        void (*run)(fc_post *p) noexcept

    ctypedef struct fc_reactor:
        const fc_clock *clock
        fc_timers timers
        uint64_t now_ns
        uint64_t polls
        uint64_t events

    ctypedef struct fc_reactor_config:
        pass

    int fc_reactor_open(fc_reactor **out, const fc_reactor_config *config)
    # Runs callbacks, which may need the GIL: call it holding the GIL.
    void fc_reactor_close(fc_reactor *r)
    int64_t fc_reactor_timeout(const fc_reactor *r, int64_t timeout_ns)
    int fc_reactor_wait(fc_reactor *r, int64_t timeout_ns) nogil
    void fc_reactor_dispatch(fc_reactor *r)
    void fc_reactor_end_turn(fc_reactor *r)
    void fc_reactor_wake(fc_reactor *r) nogil
    void fc_reactor_post(fc_reactor *r, fc_post *p) nogil
    int fc_source_set(fc_reactor *r, fc_source *s, uint32_t events)
    void fc_source_init(fc_source *s, int fd, void (*ready)(fc_source *, uint32_t) noexcept)
    uint64_t fc_reactor_tick(fc_reactor *r)
