from libc.stdint cimport uint32_t, uint64_t


cdef extern from "fc/waiter.h" nogil:
    enum:
        FC_WAITER_PRIVATE
    const uint64_t FC_WAITER_NEVER

    ctypedef struct fc_waiter:
        pass

    int fc_waiter_init(fc_waiter *w, uint32_t shared)
    void fc_waiter_fini(fc_waiter *w)
    uint32_t fc_waiter_prepare(fc_waiter *w)
    void fc_waiter_cancel(fc_waiter *w, uint32_t key)
    int fc_waiter_commit(fc_waiter *w, uint32_t key, uint64_t deadline_ns)
    bint fc_waiter_has_sleepers(fc_waiter *w)
    void fc_waiter_notify(fc_waiter *w)
    void fc_waiter_notify_all(fc_waiter *w)
