from flowcore.loop.core cimport LoopCore


cdef class Sink:
    """Who takes a driven coroutine's outcome when it comes later than start().

    While the coroutine is suspended `task` is its asyncio.Task.
    """
    cdef object task

    cdef int on_result(self, object result) except -1
    cdef int on_error(self, object error) except -1


cdef class Shim:
    cdef LoopCore core
    cdef object task
    cdef readonly object coro
    cdef object context
    cdef Sink sink
    cdef object awaited
    cdef object outcome
    cdef int phase
    cdef readonly bint live
    cdef object first_step

    cdef object resume(self, object value, object error)
    cdef object hand_on(self, object error)
    cdef object advance(self, object value, object error)
    cdef Sink finish(self)
    cdef int replay(self) except -1


cdef class Driver:
    cdef LoopCore core
    cdef object loop
    cdef Shim spare
    cdef bint suspended

    cdef object start(self, object coro, object context, Sink sink)
    cdef object first_step(self, Shim shim)
    cdef int suspend(self, Shim shim, object awaited) except -1
    cdef int end(self, Shim shim, object answer, object error) except -1
    cdef Shim new_shim(self)
