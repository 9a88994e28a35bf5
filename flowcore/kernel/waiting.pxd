from libc.stdint cimport int64_t

from flowcore.kernel.fc_gate cimport fc_gate_watched, fc_gate_watched_locked
from flowcore.kernel.gate cimport Gate, Party

cdef object NOT_YET                # what attempt() gives when it must be made again later


cdef class WaitableQueue:
    cdef Gate filled               # opens with items
    cdef Gate emptied              # opens with room
    cdef readonly bint closed
    cdef bint shared               # threads without the GIL may use it

    cdef bint has_items(self) noexcept nogil
    cdef bint has_room(self) noexcept nogil
    cdef object attempt(self, int op, object argument)

    cdef int64_t deadline_of(self, bint block, object timeout) except? -2
    cdef int pause_for_items(self, int64_t deadline_ns) except -1
    cdef int pause_for_room(self, int64_t deadline_ns) except -1
    cdef int refuse(self) except -1
    cdef Turn wait_at(self, Gate gate, int op, object argument)


cdef class Turn:
    cdef WaitableQueue queue
    cdef Gate gate
    cdef int op
    cdef object argument
    cdef Party party
    cdef object future             # what it waits for now

    cdef object step(self)
    cdef object advance(self)
    cdef object attempt(self)
    cdef object suspend(self)
    cdef int abandon(self) except -1


cdef inline bint is_watched(WaitableQueue queue, Gate gate) noexcept:
    """Whether anybody waits there. Under the GIL, which who waits holds while it announces itself
    and looks again."""
    return fc_gate_watched(&gate.c) if queue.shared else fc_gate_watched_locked(&gate.c)
