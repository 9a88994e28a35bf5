from libc.stdint cimport int64_t

from flowcore.kernel.gate cimport Gate
from flowcore.kernel.waiting cimport WaitableQueue


cdef class BoundedQueue(WaitableQueue):
    cdef Py_ssize_t length(self) noexcept nogil
    cdef Py_ssize_t slots(self) noexcept nogil
    cdef object nothing_yet(self, bint ends_iteration)

    # Before a thread without the GIL uses the queue.
    cdef int share(self) except -1

    # Without the GIL, once the queue is shared. 0: look again; else FC_ETIMEOUT, FC_ECLOSED, or
    # -EINTR when a signal came. The deadline is by CLOCK_MONOTONIC; -1: none.
    cdef int wait_items(self, int64_t deadline_ns) noexcept nogil
    cdef int wait_room(self, int64_t deadline_ns) noexcept nogil
    cdef void announce(self, Gate gate, size_t count) noexcept nogil
