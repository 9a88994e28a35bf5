from cpython.object cimport PyObject

from flowcore.kernel.fc_reactor cimport fc_timer, fc_timers


# A timer of the wheel that finds its handle: the timer comes first, so a pointer to one is a
# pointer to the other.
ctypedef struct OwnedTimer:
    fc_timer timer
    PyObject *owner


cdef class Handle:
    cdef object __weakref__
    cdef readonly object _callback
    cdef readonly tuple _args
    cdef readonly object _context
    cdef readonly object _loop
    cdef public object _source_traceback
    cdef readonly bint _cancelled
    # Of a descriptor's handle: it stands in the ready queue already.
    cdef bint queued

    cdef int run(self) except -1
    cdef int report(self, object callback, object error) except -1


cdef class TimerHandle(Handle):
    # While it is armed the wheel owns a reference to the handle.
    cdef OwnedTimer owned
    cdef fc_timers *wheel
    cdef readonly double _when

    cdef int arm(self, fc_timers *wheel, double when, void (*fire)(fc_timer *) noexcept) except -1
    cdef int disarm(self) except -1


cdef TimerHandle handle_of(fc_timer *timer)
