from cpython.object cimport PyObject
from libc.stdint cimport uint64_t

from flowcore.kernel.fc_reactor cimport fc_post, fc_reactor, fc_source
from flowcore.loop.handles cimport Handle, TimerHandle


# What a loop does for one descriptor: a source of the reactor and the handle of each direction.
ctypedef struct OwnedSource:
    fc_source source
    PyObject *owner


cdef class Watcher:
    cdef OwnedSource owned
    cdef LoopCore core
    cdef Handle reader
    cdef Handle writer
    # The object that was given for the descriptor: it may be closed, and its number lost, by the
    # time it is removed.
    cdef object target

    cdef int update(self) except -1
    cdef int drop(self) except -1
    cdef int forget(self) except -1


cdef class LoopCore:
    cdef fc_reactor *reactor
    # Handles ready to run: a ring of owned references, its capacity a power of two.
    cdef PyObject **ring
    cdef size_t ring_mask
    cdef size_t ring_head
    cdef size_t ring_len
    cdef dict watchers
    cdef readonly set _guests       # what must be ended before the reactor goes
    cdef unsigned int ran
    cdef uint64_t polled_ns
    cdef bint sleeping
    # How deep _run_once() is nested, and whether the reactor is at work.
    cdef readonly int _turning
    cdef bint in_reactor
    cdef object failure
    cdef char *input_block
    cdef object capturing
    cdef object captured
    cdef public bint _closed
    cdef public bint _stopping
    cdef public bint _debug

    # For the packages that stand on the loop.
    cdef fc_reactor *open_reactor(self) except NULL
    cdef int keep_failure(self) except -1
    cdef bint post(self, fc_post *p) noexcept nogil
    cdef char *scratch(self, size_t *size) except NULL
    cdef object capture_call(self, object function, object owner)

    cdef void release(self) noexcept
    cdef void clear_ready(self) noexcept
    cdef int grow(self) except -1
    cdef int push(self, object handle) except -1
    cdef object pop(self)
    cdef int run_handle(self, object handle) except -1
    cdef int run_ready(self) except -1
    cdef bint is_due(self, unsigned int every) noexcept
    cdef int end_turn(self) except -1
    cdef int poll(self) except -1
    cdef int turn(self) except -1
    cdef int check(self, str caller, object callback) except -1
    cdef Handle schedule(self, object callback, tuple args, object context)
    cdef TimerHandle start_timer(self, double when, object callback, tuple args, object context)
    cdef Watcher watcher(self, object fd)
    cdef Watcher find(self, object fd)
    cdef Handle handle_for(self, object callback, tuple args)
