"""A queue of objects, bytes and records between processes, in one segment of shared memory.

A message is copied into the segment by ``put()`` and out of it by ``get()``; nothing else runs in
between, no thread and no pipe. docs/shared-queue.md tells what holds when a process is killed.
"""

cimport cython
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_FromStringAndSize
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals
from cpython.memoryview cimport PyMemoryView_GET_BUFFER
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.errno cimport EAGAIN, EBUSY, EMSGSIZE, EPROTO, EPROTONOSUPPORT, EUSERS
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from flowcore.kernel.errors cimport error_of
from flowcore.kernel.fc_err cimport FC_ECLOSED, FC_EINVALID
from flowcore.kernel.fc_reactor cimport fc_mem_libc
from flowcore.kernel.fc_shmq cimport (
    EDEADLK,
    EOWNERDEAD,
    FC_SHMQ_MAX_LANES,
    FC_SHMQ_VERSION,
    fc_shmq,
    fc_shmq_attach,
    fc_shmq_close,
    fc_shmq_config,
    fc_shmq_count,
    fc_shmq_create,
    fc_shmq_fd,
    fc_shmq_forked,
    fc_shmq_get_stats,
    fc_shmq_is_empty,
    fc_shmq_is_shut_down,
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
    fc_shmq_shutdown,
    fc_shmq_stage,
    fc_shmq_stats,
    fc_shmq_take,
    fc_shmq_wait_message,
    fc_shmq_wait_space,
)

import os
import time
import weakref
from pickle import dumps, loads

from flowcore.errors import (
    ConnectionClosed,
    InvalidArgument,
    InvalidState,
    LimitExceeded,
    ProtocolError,
)
from flowcore.kernel.waiting import QueueEmpty, QueueFull

__all__ = ["PeerDied", "SharedQueue"]

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL

cdef enum:
    ANY = 0
    BYTES = 1
    TEXT = 2
    OBJECT = 3
    RECORDS = 4
    ALIGNMENT = 16  # of an object's out-of-band buffers, which is what malloc gives the copy
    # A copy of this size costs more than giving up the GIL and taking it back.
    NOGIL_BYTES = 1 << 16
    # More at once gains nothing, and malloc would return the memory after each batch and have it
    # faulted in again for the next, which costs ten times the copy.
    BATCH_BYTES = 1 << 17


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


cdef int64_t deadline_of(bint block, object timeout) except? -2:
    """When a wait ends; -1 is never, 0 at once."""
    if not block:
        return 0
    if timeout is None:
        return -1
    if timeout < 0:
        raise InvalidArgument("timeout must not be negative")
    return time.monotonic_ns() + <int64_t>(min(timeout, 1e9) * 1e9) if timeout else 0


cdef int64_t left_until(int64_t deadline) except? -2:
    """The rest of a wait: -1 is for ever, 0 is over."""
    if deadline <= 0:
        return deadline
    cdef int64_t now = time.monotonic_ns()
    return deadline - now if deadline > now else 0


@cython.final
@cython.no_gc
cdef class _Packed:
    """A pickled object: the table of sizes and the pickle, then the buffers left out of it.

    ::

        u32 buffers | u32 pickle bytes | u64 (bytes << 1 | read-only) x buffers | pickle | buffers

    Each buffer starts at a multiple of ALIGNMENT, counted from the start of the message.
    """

    cdef bytes head
    cdef list views
    cdef size_t size


cdef inline size_t aligned(size_t size) noexcept:
    return (size + ALIGNMENT - 1) & ~<size_t>(ALIGNMENT - 1)


cdef _Packed pack(object obj):
    cdef list buffers = []
    cdef list views = []
    cdef bytes pickled = dumps(obj, 5, buffer_callback=buffers.append)
    cdef _Packed p = _Packed.__new__(_Packed)
    cdef uint32_t sizes[2]
    cdef uint64_t entry
    cdef Py_buffer *view
    cdef Py_ssize_t i
    sizes[0] = <uint32_t>len(buffers)
    sizes[1] = <uint32_t>len(pickled)
    if len(pickled) >> 31:
        raise failure_of(-EMSGSIZE)
    cdef size_t table = 8 + 8 * sizes[0]
    p.head = PyBytes_FromStringAndSize(NULL, table + sizes[1])
    cdef char *at = PyBytes_AS_STRING(p.head)
    memcpy(at, sizes, 8)
    memcpy(at + table, PyBytes_AS_STRING(pickled), sizes[1])
    p.size = table + sizes[1]
    for i, each in enumerate(buffers):
        raw = each.raw()
        views.append(raw)
        view = PyMemoryView_GET_BUFFER(raw)
        entry = <uint64_t>view.len << 1 | view.readonly
        memcpy(at + 8 + 8 * i, &entry, 8)
        p.size = aligned(p.size) + view.len
    p.views = views
    return p


cdef object unpack(bytearray message):
    """The object of a message that was copied out; its buffers share the copy."""
    cdef const char *at = PyByteArray_AS_STRING(message)
    cdef size_t size = len(message)
    cdef uint32_t sizes[2]
    cdef uint64_t entry
    cdef size_t place, count
    cdef uint32_t i
    if size < 8:
        raise failure_of(-EPROTO)
    memcpy(sizes, at, 8)
    place = 8 + 8 * <size_t>sizes[0]
    if place + sizes[1] > size:
        raise failure_of(-EPROTO)
    whole = memoryview(message)
    pickled = whole[place:place + sizes[1]]
    place += sizes[1]
    buffers = []
    for i in range(sizes[0]):
        memcpy(&entry, at + 8 + 8 * i, 8)
        count = entry >> 1
        place = aligned(place)
        if count > size or place + count > size:
            raise failure_of(-EPROTO)
        part = whole[place:place + count]
        buffers.append(part.toreadonly() if entry & 1 else part)
        place += count
    return loads(pickled, buffers=buffers)


cdef object encode(object obj):
    """What ``SharedQueue.write()`` takes: bytes and str as they are, else the packed object."""
    cdef Py_ssize_t size
    if type(obj) is bytes:
        return obj
    if type(obj) is str:
        try:
            PyUnicode_AsUTF8AndSize(obj, &size)
            return obj
        except UnicodeEncodeError:
            pass  # lone surrogates
    return pack(obj)


cdef size_t size_of(object item) except? 0:
    cdef Py_ssize_t size
    if type(item) is bytes:
        return PyBytes_GET_SIZE(item)
    if type(item) is str:
        PyUnicode_AsUTF8AndSize(item, &size)
        return size
    if type(item) is _Packed:
        return (<_Packed>item).size
    return PyMemoryView_GET_BUFFER(item).len


cdef object bytes_view(object data):
    """A memoryview of contiguous memory."""
    view = memoryview(data)
    if not view.c_contiguous:
        raise InvalidArgument("the buffer is not contiguous")
    return view


cdef int copy_packed(SharedQueue q, unsigned char *to, _Packed p) except -1:
    cdef size_t place = PyBytes_GET_SIZE(p.head)
    cdef Py_buffer *view
    q.copy(to, PyBytes_AS_STRING(p.head), place)
    for each in p.views:
        view = PyMemoryView_GET_BUFFER(each)
        place = aligned(place)
        q.copy(to + place, view.buf, view.len)
        place += view.len
    return 0


_handles = weakref.WeakSet()


def _renew_handles():
    cdef SharedQueue q
    for q in list(_handles):
        if q.queue is not NULL:
            q.users = 0
            fc_shmq_renew(q.queue)


# At once, and not when the child first uses the queue: until then it would hold the parent's locks,
# and a parent that dies would seem to live.
os.register_at_fork(after_in_child=_renew_handles)


def _from_duplicate(duplicate):
    """Attaches to a segment that came with a pickle."""
    fd = duplicate.detach()
    try:
        return SharedQueue.from_fd(fd)
    finally:
        os.close(fd)


@cython.final
cdef class SharedQueue:
    """A queue between processes: any number of consumers, one lane of memory for each producer.

    It is handed to other processes as an argument of ``multiprocessing.Process`` (whatever the
    start method), over a ``multiprocessing`` pipe or queue, by ``fork()``, or as the descriptor
    ``fileno()`` to ``from_fd()``. Messages of one producer arrive in their order. The memory goes
    when the last process that has it goes, by whatever means.

    A process that is killed leaves nothing half-sent and keeps nobody waiting: ``get()`` raises
    ``PeerDied`` when nothing is left and the last other producer died, ``put()`` when there is no
    room and the last consumer died. Each does so once for a death; the queue can be used on.

    Args:
        capacity_bytes: memory of each lane, rounded up to a power of two. A message takes its own
            bytes, 8 more, and what fills them up to a multiple of 8.
        max_producers: lanes. One belongs to each process (each handle) that has put something,
            until it closes its handle or dies.
        max_message_bytes: the largest message; by default what an empty lane holds.
    """

    def __cinit__(self):
        self.closed = True
        self.stash = []

    def __init__(
        self, capacity_bytes=1 << 20, *, max_producers=16, max_message_bytes=None
    ):
        cdef fc_shmq_config config
        if self.queue is not NULL:
            raise InvalidState("the queue was set up already")
        if not 1 <= max_producers <= FC_SHMQ_MAX_LANES:
            raise InvalidArgument(f"max_producers must be 1 to {FC_SHMQ_MAX_LANES}")
        if not 1 <= capacity_bytes <= 1 << 31:
            raise InvalidArgument("capacity_bytes must be 1 to 2^31")
        if max_message_bytes is not None and not 1 <= max_message_bytes < 1 << 31:
            raise InvalidArgument("max_message_bytes must be 1 to 2^31 - 1")
        config.capacity_bytes = capacity_bytes
        config.max_producers = max_producers
        config.max_message_bytes = max_message_bytes or 0
        cdef int err = fc_shmq_create(&self.queue, &fc_mem_libc, &config)
        if err == FC_EINVALID:
            raise InvalidArgument("max_message_bytes does not fit into capacity_bytes")
        if err < 0:
            raise failure_of(err)
        self.opened()

    @classmethod
    def from_fd(cls, int fd):
        """Another handle on the segment of a descriptor, which stays the caller's.

        Raises:
            ProtocolError: it is no segment of a queue, or one of another version.
        """
        cdef SharedQueue self = SharedQueue.__new__(SharedQueue)
        cdef int err = fc_shmq_attach(&self.queue, &fc_mem_libc, fd)
        if err < 0:
            raise failure_of(err)
        self.opened()
        return self

    def __dealloc__(self):
        if self.queue is not NULL:
            fc_shmq_close(self.queue)
            self.queue = NULL

    def __reduce__(self):
        from multiprocessing.reduction import DupFd

        return _from_duplicate, (DupFd(fc_shmq_fd(self.open_queue())),)

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.close()

    def __repr__(self):
        if self.closed:
            return "<SharedQueue closed>"
        cdef fc_shmq_stats s = fc_shmq_get_stats(self.open_queue())
        return (
            f"<SharedQueue capacity_bytes={s.capacity_bytes} used_bytes={s.used_bytes} "
            f"producers={s.lanes_owned}/{s.max_producers}>"
        )

    # ---- life ----------------------------------------------------------------------------------

    cdef fc_shmq *open_queue(self) except NULL:
        cdef int err
        if self.closed:
            raise InvalidState("the handle of the queue is closed")
        if fc_shmq_forked(self.queue):
            # A fork that Python does not know of.
            self.users = 0
            err = fc_shmq_renew(self.queue)
            if err < 0:
                raise failure_of(err)
        return self.queue

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

    def close(self):
        """Closes this handle: gives back the lane and the memory. Others go on with the queue, and
        what was put stays in it. Threads that wait in this handle raise ``InvalidState``, within
        a tenth of a second."""
        if not self.closed:
            self.closed = True
            self.release()

    def shutdown(self):
        """Closes the queue for all processes and wakes them. ``put()`` raises
        ``ConnectionClosed`` from now on, ``get()`` when nothing is left."""
        fc_shmq_shutdown(self.open_queue())

    def fileno(self):
        """The descriptor of the segment, for ``from_fd()`` in another process."""
        return fc_shmq_fd(self.open_queue())

    def stats(self):
        """Sizes and counts of the queue as a dict."""
        cdef fc_shmq_stats s = fc_shmq_get_stats(self.open_queue())
        return {
            "capacity_bytes": s.capacity_bytes,
            "max_message_bytes": s.max_message_bytes,
            "max_producers": s.max_producers,
            "segment_bytes": s.segment_bytes,
            "used_bytes": s.used_bytes,
            "producers": s.lanes_owned,
            "producers_joined": s.producers_joined,
            "producers_left": s.producers_left,
            "consumers_joined": s.consumers_joined,
            "consumers_left": s.consumers_left,
            "shut_down": bool(s.closed),
        }

    def __len__(self):
        cdef int64_t n
        self.begin_receive(-1)
        try:
            n = fc_shmq_count(self.queue)
        finally:
            self.end_receive()
        if n < 0:
            raise failure_of(<int>n)
        return n + len(self.stash)

    def __bool__(self):
        return True

    def empty(self):
        """Whether nothing waits, at this moment."""
        return fc_shmq_is_empty(self.open_queue()) and not self.stash

    cdef void copy(self, void *to, const void *data, size_t size) noexcept:
        """memcpy(), letting other threads run when it takes long."""
        if size < NOGIL_BYTES:
            memcpy(to, data, size)
            return
        self.users += 1
        with nogil:
            memcpy(to, data, size)
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
        cdef _Packed p = None
        if type(item) is bytes:
            data = PyBytes_AS_STRING(item)
            size = PyBytes_GET_SIZE(item)
        elif type(item) is str:
            data = PyUnicode_AsUTF8AndSize(item, &size)
            kind = TEXT
        elif type(item) is _Packed:
            p = <_Packed>item
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
            copy_packed(self, to, p)
        fc_shmq_stage(self.queue, size, kind, aux)
        return 0

    cdef int wait_space(self, size_t size, int64_t left) except -1:
        cdef fc_shmq *q = self.queue
        cdef int err
        self.users += 1
        with nogil:
            err = fc_shmq_wait_space(q, size, left)
        self.returned()
        if err == -EOWNERDEAD:
            raise PeerDied("the queue is full, and the last consumer died", code="PEER_DIED")
        if err < 0:
            raise failure_of(err)
        return 0

    cdef int send(
        self, object item, uint16_t kind, uint16_t aux, bint block, object timeout
    ) except -1:
        cdef int err
        cdef int64_t left
        cdef int64_t deadline = deadline_of(block, timeout)
        while True:
            self.begin_send()
            try:
                err = self.write(item, kind, aux)
            finally:
                self.end_send()
            if err == 0:
                return 0
            if err != -EAGAIN:
                raise failure_of(err)
            left = left_until(deadline)
            if left == 0:
                raise QueueFull("the lane of this producer is full")
            self.wait_space(size_of(item), left)

    def put(self, obj, bint block=True, timeout=None):
        """Sends an object. ``bytes`` and ``str`` go as they are, others by pickle protocol 5, whose
        out-of-band buffers (numpy arrays) are copied straight into the lane.

        Args:
            block: whether to wait for room.
            timeout: for how many seconds at most; None is for ever.

        Raises:
            QueueFull: (a ``queue.Full``) no room came free in time.
            ConnectionClosed: the queue was shut down; ``PeerDied``: see the class.
            LimitExceeded: the message is larger than ``max_message_bytes``, or all lanes are owned.
        """
        self.send(encode(obj), BYTES, 0, block, timeout)

    def put_nowait(self, obj):
        """``put(obj, block=False)``."""
        self.send(encode(obj), BYTES, 0, False, None)

    def put_bytes(self, data, bint block=True, timeout=None):
        """``put()`` of the bytes of any contiguous buffer, which arrive as ``bytes``."""
        item = data if type(data) is bytes else bytes_view(data)
        self.send(item, BYTES, 0, block, timeout)

    def push(self, array, bint block=True, timeout=None):
        """Sends the items of a contiguous array as one message, for ``pop_into()``."""
        view = bytes_view(array)
        if view.itemsize > 0xFFFF:
            raise InvalidArgument("the items of the array are larger than 65535 bytes")
        self.send(view, RECORDS, view.itemsize, block, timeout)

    def put_many(self, items, bint block=True, timeout=None):
        """``put()`` of each object, made visible together, or by quarters of the lane.

        Returns how many were sent: fewer than there are only when the time was up. If none was,
        ``QueueFull`` is raised. An item that is too large is refused before anything is sent.
        """
        cdef list todo = [encode(each) for each in items]
        cdef Py_ssize_t n = len(todo)
        cdef Py_ssize_t i = 0
        cdef int err
        cdef int64_t left
        cdef int64_t deadline = deadline_of(block, timeout)
        for each in todo:
            if size_of(each) > self.max_message:
                raise failure_of(-EMSGSIZE)
        while i < n:
            err = 0
            self.begin_send()
            try:
                while i < n:
                    err = self.write(todo[i], BYTES, 0)
                    if err < 0:
                        break
                    i += 1
            finally:
                self.end_send()
            if err == -EAGAIN:
                left = left_until(deadline)
                if left == 0:
                    break
                self.wait_space(size_of(todo[i]), left)
            elif err < 0:
                raise failure_of(err)
        if n and not i:
            raise QueueFull("the lane of this producer is full")
        return i

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

    cdef int wait_message(self, int64_t left) except -1:
        cdef fc_shmq *q = self.queue
        cdef int err
        self.users += 1
        with nogil:
            err = fc_shmq_wait_message(q, left)
        self.returned()
        if err == -EOWNERDEAD:
            raise PeerDied("the queue is empty, and the last other producer died", code="PEER_DIED")
        if err < 0:
            raise failure_of(err)
        return 0

    cdef int await_more(self, int64_t deadline) except -1:
        """Waits until there may be a message."""
        cdef int64_t left = left_until(deadline)
        if left == 0:
            if fc_shmq_is_shut_down(self.open_queue()) and fc_shmq_is_empty(self.queue):
                raise failure_of(FC_ECLOSED)
            raise QueueEmpty("no message came")
        return self.wait_message(left)

    cdef object receive(self, bint only_bytes, bint block, object timeout):
        cdef int64_t deadline = deadline_of(block, timeout)
        raw = None
        while True:
            if self.stash:
                return self.unstash(only_bytes)
            if self.begin_receive(deadline) == 0:
                try:
                    raw = self.read(only_bytes)
                finally:
                    self.end_receive()
                if raw is not None:
                    return raw
            self.await_more(deadline)

    cdef object unstash(self, bint only_bytes):
        raw = self.stash.pop()
        if only_bytes and type(raw) is not bytes:
            self.stash.append(raw)
            raise InvalidState("the next message is an object: take it by get()")
        return raw

    def get(self, bint block=True, timeout=None):
        """Takes the next object. Buffers of the objects that were sent share one fresh copy.

        Args:
            block: whether to wait for a message.
            timeout: for how many seconds at most; None is for ever.

        Raises:
            QueueEmpty: (a ``queue.Empty``) no message came in time.
            ConnectionClosed: the queue was shut down and nothing is left; ``PeerDied``: see the
                class.
        """
        raw = self.receive(False, block, timeout)
        return unpack(raw) if type(raw) is bytearray else raw

    def get_nowait(self):
        """``get(block=False)``."""
        return self.get(False)

    def get_bytes(self, bint block=True, timeout=None):
        """``get()`` of a message that is bytes or records. Any other stays in the queue, and
        ``InvalidState`` is raised."""
        return self.receive(True, block, timeout)

    def get_many(self, Py_ssize_t max_items=1024, bint block=True, timeout=None):
        """Waits for a message and takes it, with what else is there, up to ``max_items`` and until
        128 KiB are reached.

        An object that cannot be unpickled raises when it is the first; else it ends the list, and
        the next call begins with it. Then the messages behind it have left the shared memory.
        """
        if max_items < 1:
            raise InvalidArgument("max_items must be at least 1")
        cdef list found = []
        cdef Py_ssize_t size = 0
        cdef int64_t deadline = deadline_of(block, timeout)
        while not self.stash:
            if self.begin_receive(deadline) == 0:
                try:
                    while len(found) < max_items and size < BATCH_BYTES:
                        raw = self.read(False)
                        if raw is None:
                            break
                        found.append(raw)
                        size += len(raw)
                finally:
                    self.end_receive()
                if found:
                    return self.unpack_all(found)
            self.await_more(deadline)
        while self.stash and len(found) < max_items:
            found.append(self.stash.pop())
        return self.unpack_all(found)

    cdef list unpack_all(self, list found):
        """Unpacks the messages of a batch in place; see get_many() for what fails."""
        cdef Py_ssize_t i
        for i in range(len(found)):
            if type(found[i]) is bytearray:
                try:
                    found[i] = unpack(found[i])
                except BaseException:
                    # The one that fails is gone when it is the first, as with get().
                    self.stash.extend(reversed(found[i + (i == 0):]))
                    if i == 0:
                        raise
                    del found[i:]
                    break
        return found

    def pop_into(self, array, bint block=True, timeout=None):
        """Waits for a message of ``push()`` and copies its items to the front of a writable
        contiguous array, and those of the messages behind it as long as they fit.

        Returns the number of items. A message that is no records or has items of another size
        (``InvalidState``), or is larger than the array (``LimitExceeded``), stays in the queue.
        """
        view = bytes_view(array)
        if view.readonly:
            raise InvalidArgument("the array is read-only")
        cdef Py_buffer *to = PyMemoryView_GET_BUFFER(view)
        if to.itemsize == 0:
            raise InvalidArgument("the items of the array have no size")
        cdef Py_ssize_t size = 0
        cdef int64_t deadline = deadline_of(block, timeout)
        if self.stash:
            raise InvalidState("a batch left objects: take them by get()")
        while True:
            if self.begin_receive(deadline) == 0:
                try:
                    size = self.read_records(to)
                finally:
                    self.end_receive()
                if size >= 0:
                    return size // to.itemsize
            self.await_more(deadline)

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
