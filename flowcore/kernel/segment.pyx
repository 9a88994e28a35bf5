"""The memory that a SharedQueue lies in, as one process uses it: its life, its locks, its waits."""

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_FromStringAndSize
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals
from cpython.memoryview cimport PyMemoryView_GET_BUFFER
from cpython.unicode cimport PyUnicode_AsUTF8AndSize, PyUnicode_DecodeUTF8
from libc.errno cimport EAGAIN, EBUSY, EMSGSIZE, EPROTO, EPROTONOSUPPORT, EUSERS
from libc.stdint cimport int64_t, uint16_t

from flowcore.kernel.errors cimport error_of
from flowcore.kernel.fc_err cimport FC_ECLOSED
from flowcore.kernel.fc_shmq cimport (
    EDEADLK,
    EOWNERDEAD,
    FC_SHMQ_VERSION,
    fc_shmq,
    fc_shmq_close,
    fc_shmq_forked,
    fc_shmq_get_stats,
    fc_shmq_msg,
    fc_shmq_peek,
    fc_shmq_publish,
    fc_shmq_recv_lock,
    fc_shmq_recv_trylock,
    fc_shmq_recv_unlock,
    fc_shmq_renew,
    fc_shmq_reserve,
    fc_shmq_send_lock,
    fc_shmq_send_trylock,
    fc_shmq_send_unlock,
    fc_shmq_stage,
    fc_shmq_take,
    fc_shmq_wait_message,
    fc_shmq_wait_space,
)
from flowcore.kernel.messages cimport BYTES, OBJECT, RECORDS, TEXT, Packed, copy_bytes
from flowcore.kernel.waiting cimport WaitableQueue

import os
import time
import weakref

from flowcore.errors import ConnectionClosed, InvalidState, LimitExceeded, ProtocolError

__all__ = ["PeerDied"]

cdef extern from "<sched.h>":
    int sched_yield()

cdef enum:
    # More at once gains nothing, and malloc would return the memory after each batch and have it
    # faulted in again for the next, which costs ten times the copy.
    BATCH_BYTES = 1 << 17
    # How often a coroutine asks for the consumers' mutex, which is held for a copy, before it has
    # a thread ask.
    TRIES = 16


class PeerDied(ConnectionClosed):
    """The last process on the other side of a SharedQueue died without closing it."""


cdef object failure_of(int err):
    """The exception for a negative code of the shared queue."""
    if err == FC_ECLOSED:
        return ConnectionClosed("the queue was shut down", code="CLOSED")
    if err == -EUSERS:
        return LimitExceeded("living producers own all lanes: max_producers is too small")
    if err == -EMSGSIZE:
        return LimitExceeded("the message is larger than max_message_bytes")
    if err == -EDEADLK:
        return InvalidState("this thread is receiving from the queue already")
    if err == -EPROTO:
        return ProtocolError("the segment is no shared queue, or is damaged")
    if err == -EPROTONOSUPPORT:
        return ProtocolError(
            f"the segment is of another version than {FC_SHMQ_VERSION}, or of another C library"
        )
    return error_of(err)


cdef object producer_died():
    return PeerDied("the queue is empty, and the last other producer died", code="PEER_DIED")


cdef object consumer_died():
    return PeerDied("the queue is full, and the last consumer died", code="PEER_DIED")


cdef int64_t left_until(int64_t deadline) except? -2:
    """The rest of a wait: -1 is for ever, 0 is over."""
    if deadline <= 0:
        return deadline
    cdef int64_t now = time.monotonic_ns()
    return deadline - now if deadline > now else 0


_handles = weakref.WeakSet()


def _renew_handles():
    cdef Segment q
    for q in list(_handles):
        if q.queue is not NULL:
            q.forked()


# At once, and not when the child first uses the queue: until then it would hold the parent's locks,
# and a parent that dies would seem to live.
os.register_at_fork(after_in_child=_renew_handles)


cdef class Segment(WaitableQueue):
    """One process's handle on the segment, and the turns that its threads take at it.

    Between ``begin_*()`` and ``end_*()`` a lock is held, so no Python code may run there. While a
    thread is in the core without the GIL it counts among ``users``, so that ``close()`` leaves the
    memory to the last of them.
    """

    def __dealloc__(self):
        if self.queue is not NULL:
            fc_shmq_close(self.queue)
            self.queue = NULL

    cdef fc_shmq *open_queue(self) except NULL:
        cdef int err
        if self.closed:
            raise InvalidState("the handle of the queue is closed")
        if fc_shmq_forked(self.queue):
            # A fork that Python does not know of.
            err = self.forked()
            if err < 0:
                raise failure_of(err)
        return self.queue

    cdef int forked(self) noexcept:
        """In the child: what the parent's threads do is not done here. 0 or a negative code."""
        self.users = 0
        return fc_shmq_renew(self.queue)

    cdef int opened(self) except -1:
        self.closed = False
        self.max_message = fc_shmq_get_stats(self.queue).max_message_bytes
        _handles.add(self)
        return 0

    cdef int release(self) except -1:
        if self.users == 0 and self.queue is not NULL:
            fc_shmq_close(self.queue)
            self.queue = NULL
        return 0

    cdef void copy(self, void *to, const void *data, size_t size) noexcept:
        self.users += 1
        copy_bytes(to, data, size)
        self.users -= 1

    cdef int returned(self) except -1:
        """After a wait without the GIL: the handle may have been closed meanwhile."""
        self.users -= 1
        if self.closed:
            self.release()
            raise InvalidState("the handle of the queue was closed")
        return PyErr_CheckSignals()

    # ---- sending -------------------------------------------------------------------------------

    cdef int begin_send(self) except -1:
        """Takes a turn at this process's lane; never waits with the GIL held."""
        cdef fc_shmq *q = self.open_queue()
        if fc_shmq_send_trylock(q):
            return 0
        self.users += 1
        with nogil:
            fc_shmq_send_lock(q)
        self.users -= 1
        if self.closed:
            self.end_send()
            raise InvalidState("the handle of the queue was closed")
        return 0

    cdef int end_send(self) except -1:
        """Publishes what was staged and ends the turn."""
        fc_shmq_publish(self.queue)
        fc_shmq_send_unlock(self.queue)
        if self.closed:
            self.release()
        return 0

    cdef int write(self, object item, uint16_t kind, uint16_t aux) except? -1:
        """Stages one message. No Python code may run in here, since the lock is held."""
        cdef unsigned char *to = NULL
        cdef const void *data
        cdef Py_ssize_t size
        cdef Packed p = None
        if type(item) is bytes:
            data = PyBytes_AS_STRING(item)
            size = PyBytes_GET_SIZE(item)
        elif type(item) is str:
            data = PyUnicode_AsUTF8AndSize(item, &size)
            kind = TEXT
        elif type(item) is Packed:
            p = <Packed>item
            data = PyBytes_AS_STRING(p.head)
            size = p.size
            kind = OBJECT
        else:
            data = PyMemoryView_GET_BUFFER(item).buf
            size = PyMemoryView_GET_BUFFER(item).len
        cdef int err = fc_shmq_reserve(self.queue, size, &to)
        if err < 0:
            return err
        if p is None:
            self.copy(to, data, size)
        else:
            self.users += 1
            p.fill(to)
            self.users -= 1
        fc_shmq_stage(self.queue, size, kind, aux)
        return 0

    cdef int offer(self, object item, uint16_t kind, uint16_t aux) except? -1:
        """Sends one message, without waiting for room: 0 or -EAGAIN."""
        cdef int err
        self.begin_send()
        try:
            err = self.write(item, kind, aux)
        finally:
            self.end_send()
        if err < 0 and err != -EAGAIN:
            raise failure_of(err)
        return err

    cdef int wait_space(self, size_t size, int64_t left) except -1:
        cdef fc_shmq *q = self.queue
        cdef int err
        self.users += 1
        with nogil:
            err = fc_shmq_wait_space(q, size, left)
        self.returned()
        if err == -EOWNERDEAD:
            raise consumer_died()
        if err < 0:
            raise failure_of(err)
        return 0

    # ---- receiving -----------------------------------------------------------------------------

    cdef int begin_receive(self, int64_t deadline) except -1:
        """Becomes the one that receives; never waits with the GIL held. Returns 0, or 1 when the
        time is up, which is looked at once a slice."""
        cdef fc_shmq *q = self.open_queue()
        cdef int err = fc_shmq_recv_trylock(q)
        while err == -EBUSY:
            self.users += 1
            with nogil:
                err = fc_shmq_recv_lock(q)
            if err == 0 and not self.closed:
                self.users -= 1
                return 0
            if err == 0:
                fc_shmq_recv_unlock(q)
            self.returned()
            if err == -EBUSY and left_until(deadline) == 0:
                return 1
        if err < 0:
            raise failure_of(err)
        return 0

    cdef bint begin_receive_now(self) except -1:
        """``begin_receive()`` that does not wait. False: others are receiving."""
        cdef fc_shmq *q = self.open_queue()
        cdef int err = fc_shmq_recv_trylock(q)
        cdef int tries = 1
        while err == -EBUSY and tries < TRIES:
            sched_yield()
            err = fc_shmq_recv_trylock(q)
            tries += 1
        if err < 0 and err != -EBUSY:
            raise failure_of(err)
        return err == 0

    cdef int end_receive(self) except -1:
        """Publishes what was taken and lets the next one receive."""
        fc_shmq_recv_unlock(self.queue)
        if self.closed:
            self.release()
        return 0

    cdef object read(self, bint only_bytes):
        """Takes the next message as bytes, str, or a bytearray to be unpacked; None: there is none.
        No Python code may run in here, since the mutex is held, nor may the collector, which is why
        nothing that it tracks is made."""
        cdef fc_shmq_msg m
        cdef int err = fc_shmq_peek(self.queue, &m)
        if err == -EAGAIN:
            return None
        if err < 0:
            raise failure_of(err)
        if m.kind == BYTES or m.kind == RECORDS:
            raw = PyBytes_FromStringAndSize(NULL, m.len)
            self.copy(PyBytes_AS_STRING(raw), m.data, m.len)
        elif only_bytes:
            raise InvalidState("the next message is an object: take it by get()")
        elif m.kind == TEXT:
            raw = PyUnicode_DecodeUTF8(<const char *>m.data, m.len, NULL)
        elif m.kind == OBJECT:
            raw = PyByteArray_FromStringAndSize(NULL, m.len)
            self.copy(PyByteArray_AS_STRING(raw), m.data, m.len)
        else:
            raise failure_of(-EPROTO)
        fc_shmq_take(self.queue)
        return raw

    cdef int read_many(self, list found, Py_ssize_t max_items) except -1:
        """Takes messages into an empty list, and ends the turn. The list was made before the turn
        began, since the collector tracks it. An error is raised if it comes first; else the next
        turn meets it again, as nothing that fails has been taken."""
        cdef Py_ssize_t size = 0
        try:
            while len(found) < max_items and size < BATCH_BYTES:
                raw = self.read(False)
                if raw is None:
                    break
                found.append(raw)
                size += len(raw)
        except BaseException:
            if not found:
                raise
        finally:
            self.end_receive()
        return 0

    cdef Py_ssize_t read_into(self, Py_buffer *to) except? -2:
        """Takes a message of bytes or records; -1: there is no message."""
        cdef fc_shmq_msg m
        cdef int err = fc_shmq_peek(self.queue, &m)
        if err == -EAGAIN:
            return -1
        if err < 0:
            raise failure_of(err)
        if m.kind != BYTES and m.kind != RECORDS:
            raise InvalidState("the next message is an object: take it by get()")
        if m.len > to.len:
            raise LimitExceeded(
                f"the next message has {m.len} bytes, the buffer has room for {to.len}"
            )
        self.copy(to.buf, m.data, m.len)
        fc_shmq_take(self.queue)
        return m.len

    cdef Py_ssize_t read_records(self, Py_buffer *to) except? -2:
        """Takes the messages of records that fit; -1: there is no message."""
        cdef fc_shmq_msg m
        cdef Py_ssize_t size = -1
        cdef int err
        while True:
            err = fc_shmq_peek(self.queue, &m)
            if err < 0 and err != -EAGAIN:
                raise failure_of(err)
            if err < 0 or (size >= 0 and (
                m.kind != RECORDS or m.aux != to.itemsize or size + m.len > to.len
            )):
                return size
            if m.kind != RECORDS or m.aux != to.itemsize:
                raise InvalidState("the next message has no records of this array's item size")
            if m.len > to.len:
                raise LimitExceeded(
                    f"the next message has {m.len // m.aux} records, the array has room for "
                    f"{to.len // to.itemsize}"
                )
            size = max(size, 0)
            self.copy(<char *>to.buf + size, m.data, m.len)
            size += m.len
            fc_shmq_take(self.queue)

    cdef int wait_message(self, int64_t left) except -1:
        cdef fc_shmq *q = self.queue
        cdef int err
        self.users += 1
        with nogil:
            err = fc_shmq_wait_message(q, left)
        self.returned()
        if err == -EOWNERDEAD:
            raise producer_died()
        if err < 0:
            raise failure_of(err)
        return 0
