"""What the queues within a process have in common: a ring of slots, and Cython without the GIL."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from flowcore.kernel.fc_err cimport FC_ECLOSED
from flowcore.kernel.fc_gate cimport fc_gate_guests, fc_gate_watched
from flowcore.kernel.fc_waiter cimport (
    fc_waiter_cancel,
    fc_waiter_commit,
    fc_waiter_has_sleepers,
    fc_waiter_notify,
    fc_waiter_prepare,
)
from flowcore.kernel.gate cimport Gate
from flowcore.kernel.waiting cimport NOT_YET, WaitableQueue

__all__ = ["BoundedQueue"]


cdef class BoundedQueue(WaitableQueue):
    """A queue whose room is counted in slots. A subclass tells how many there are and are taken."""

    cdef Py_ssize_t length(self) noexcept nogil:
        return 0

    cdef Py_ssize_t slots(self) noexcept nogil:
        return 0

    cdef bint has_items(self) noexcept nogil:
        return self.length() > 0

    cdef bint has_room(self) noexcept nogil:
        return self.length() < self.slots()

    cdef object nothing_yet(self, bint ends_iteration):
        """What an attempt to take answers that found nothing."""
        if self.closed and not self.has_items():
            if ends_iteration:
                raise StopAsyncIteration
            self.refuse()
        return NOT_YET

    @property
    def capacity(self):
        """Slots: the capacity that was asked for, rounded up to a power of two."""
        return self.slots()

    def __len__(self):
        """Items that wait, at this moment."""
        return self.length()

    def __bool__(self):
        return True

    def empty(self):
        """Whether nothing waits, at this moment."""
        return not self.has_items()

    def full(self):
        """Whether there is no room, at this moment."""
        return not self.has_room()

    def __iter__(self):
        """Takes what comes, waiting for it, until the queue is closed and empty."""
        return self

    def __aiter__(self):
        return self

    def __reduce__(self):
        raise TypeError(
            f"a {type(self).__name__} stays in its process; between processes use SharedQueue"
        )

    # ---- without the GIL -----------------------------------------------------------------------

    cdef int share(self) except -1:
        """From now on who waits is looked for with a fence."""
        self.shared = True
        return 0

    cdef int wait_items(self, int64_t deadline_ns) noexcept nogil:
        cdef uint32_t key = fc_waiter_prepare(&self.filled.c.threads)
        if self.has_items() or self.closed:
            fc_waiter_cancel(&self.filled.c.threads, key)
            return 0 if self.has_items() else FC_ECLOSED
        return fc_waiter_commit(&self.filled.c.threads, key, <uint64_t>deadline_ns)

    cdef int wait_room(self, int64_t deadline_ns) noexcept nogil:
        cdef uint32_t key = fc_waiter_prepare(&self.emptied.c.threads)
        if self.has_room() or self.closed:
            fc_waiter_cancel(&self.emptied.c.threads, key)
            return FC_ECLOSED if self.closed else 0
        return fc_waiter_commit(&self.emptied.c.threads, key, <uint64_t>deadline_ns)

    cdef void announce(self, Gate gate, size_t count) noexcept nogil:
        """After an operation that opened the gate for so many."""
        if not fc_gate_watched(&gate.c):
            return
        if fc_gate_guests(&gate.c) > 0:
            with gil:
                gate.wake(count)
            return
        while count and fc_waiter_has_sleepers(&gate.c.threads):
            fc_waiter_notify(&gate.c.threads)
            count -= 1
