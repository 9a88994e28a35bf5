"""A queue of objects, bytes and records between processes, in one segment of shared memory.

A message is copied into the segment by ``put()`` and out of it by ``get()``; nothing else runs in
between, no thread and no pipe. docs/shared-queue.md tells what holds when a process is killed.
"""

cimport cython
from cpython.memoryview cimport PyMemoryView_GET_BUFFER
from libc.errno cimport EAGAIN, EMSGSIZE
from libc.limits cimport INT_MAX
from libc.stdint cimport int64_t, uint16_t

from flowcore.kernel.fc_err cimport FC_ECLOSED, FC_EINVALID
from flowcore.kernel.fc_gate cimport fc_gate_guests
from flowcore.kernel.fc_reactor cimport fc_mem_libc
from flowcore.kernel.fc_shmq cimport (
    EOWNERDEAD,
    FC_SHMQ_MAX_LANES,
    fc_shmq,
    fc_shmq_attach,
    fc_shmq_config,
    fc_shmq_count,
    fc_shmq_create,
    fc_shmq_fd,
    fc_shmq_get_stats,
    fc_shmq_has_space,
    fc_shmq_is_empty,
    fc_shmq_is_shut_down,
    fc_shmq_recv_lock,
    fc_shmq_recv_unlock,
    fc_shmq_shutdown,
    fc_shmq_stats,
    fc_shmq_wait_message,
    fc_shmq_wait_space,
)
from flowcore.kernel.messages cimport BYTES, RECORDS, bytes_view, encode, size_of, unpack
from flowcore.kernel.segment cimport (
    Segment,
    consumer_died,
    failure_of,
    left_until,
    producer_died,
)
from flowcore.kernel.waiting cimport NOT_YET
from flowcore.kernel.watch cimport GONE, Watch

import os
import weakref

from flowcore.errors import InvalidArgument, InvalidState
from flowcore.kernel.segment import PeerDied
from flowcore.kernel.waiting import QueueEmpty, QueueFull

__all__ = ["SharedQueue"]

cdef enum:
    GET
    GET_MANY
    NEXT
    PUT


def _from_duplicate(duplicate):
    """Attaches to a segment that came with a pickle."""
    fd = duplicate.detach()
    try:
        return SharedQueue.from_fd(fd)
    finally:
        os.close(fd)


@cython.final
cdef class SharedQueue(Segment):
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

    def __reduce__(self):
        from multiprocessing.reduction import DupFd

        return _from_duplicate, (DupFd(fc_shmq_fd(self.open_queue())),)

    def __repr__(self):
        if self.closed:
            return "<SharedQueue closed>"
        cdef fc_shmq_stats s = fc_shmq_get_stats(self.open_queue())
        return (
            f"<SharedQueue capacity_bytes={s.capacity_bytes} used_bytes={s.used_bytes} "
            f"producers={s.lanes_owned}/{s.max_producers}>"
        )

    # ---- life ----------------------------------------------------------------------------------

    cdef int forked(self) noexcept:
        self.message_watch = None
        self.room_watch = None
        self.filled.renew()
        self.emptied.renew()
        return Segment.forked(self)

    def close(self):
        """Closes this handle: gives back the lane and the memory. Others go on with the queue, and
        what was put stays in it. Threads that wait in this handle raise ``InvalidState``, within
        a tenth of a second, and coroutines at once."""
        if self.closed:
            return
        self.closed = True
        self.release()
        self.filled.wake_all()
        self.emptied.wake_all()
        if self.message_watch is not None:
            self.message_watch.retire()
        if self.room_watch is not None:
            self.room_watch.retire()

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

    # ---- sending -------------------------------------------------------------------------------

    cdef int send(
        self, object item, uint16_t kind, uint16_t aux, bint block, object timeout
    ) except -1:
        cdef int err
        cdef int64_t left
        cdef int64_t deadline = self.deadline_of(block, timeout)
        while True:
            err = self.offer(item, kind, aux)
            if err == 0:
                return 0
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
        cdef int64_t deadline = self.deadline_of(block, timeout)
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

    cdef int await_more(self, int64_t deadline) except -1:
        """Waits until there may be a message."""
        cdef int64_t left = left_until(deadline)
        if left == 0:
            if fc_shmq_is_shut_down(self.open_queue()) and fc_shmq_is_empty(self.queue):
                raise failure_of(FC_ECLOSED)
            raise QueueEmpty("no message came")
        return self.wait_message(left)

    cdef object receive(self, bint only_bytes, bint block, object timeout):
        cdef int64_t deadline = self.deadline_of(block, timeout)
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

    def get_into(self, buffer, bint block=True, timeout=None):
        """``get_bytes()`` into the front of a writable contiguous buffer. Returns the number of
        bytes. A message that is larger (``LimitExceeded``) stays in the queue."""
        view = bytes_view(buffer)
        if view.readonly:
            raise InvalidArgument("the buffer is read-only")
        cdef Py_ssize_t size = -1
        cdef int64_t deadline = self.deadline_of(block, timeout)
        if self.stash:
            raise InvalidState("a batch left objects: take them by get()")
        while True:
            if self.begin_receive(deadline) == 0:
                try:
                    size = self.read_into(PyMemoryView_GET_BUFFER(view))
                finally:
                    self.end_receive()
                if size >= 0:
                    return size
            self.await_more(deadline)

    def get_many(self, Py_ssize_t max_items=1024, bint block=True, timeout=None):
        """Waits for a message and takes it, with what else is there, up to ``max_items`` and until
        128 KiB are reached.

        An object that cannot be unpickled raises when it is the first; else it ends the list, and
        the next call begins with it. Then the messages behind it have left the shared memory.
        """
        if max_items < 1:
            raise InvalidArgument("max_items must be at least 1")
        cdef list found = []
        cdef int64_t deadline = self.deadline_of(block, timeout)
        while not self.stash:
            if self.begin_receive(deadline) == 0:
                self.read_many(found, max_items)
                if found:
                    return self.unpack_all(found)
            self.await_more(deadline)
        return self.unpack_all(self.unstash_many(max_items))

    cdef list unstash_many(self, Py_ssize_t max_items):
        cdef list found = []
        while self.stash and len(found) < max_items:
            found.append(self.stash.pop())
        return found

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
        cdef int64_t deadline = self.deadline_of(block, timeout)
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

    # ---- coroutines ----------------------------------------------------------------------------

    def aget(self):
        """``get()`` for coroutines. A message that is there is returned at once, without letting
        other tasks run; to be cancelled takes no message away."""
        return self.wait_at(self.filled, GET, None)

    def aget_many(self, Py_ssize_t max_items=1024):
        """``get_many()`` for coroutines."""
        if max_items < 1:
            raise InvalidArgument("max_items must be at least 1")
        return self.wait_at(self.filled, GET_MANY, max_items)

    def aput(self, obj):
        """``put()`` for coroutines. The buffers of the object must not change until it is sent."""
        return self.wait_at(self.emptied, PUT, encode(obj))

    def __aiter__(self):
        """The messages until the queue was shut down and nothing is left."""
        return self

    def __anext__(self):
        return self.wait_at(self.filled, NEXT, None)

    cdef object attempt(self, int op, object argument):
        if op == PUT:
            return self.attempt_put(argument)
        result = self.attempt_get_many(argument) if op == GET_MANY else self.attempt_get()
        if result is NOT_YET:
            self.watch_messages(op)
        elif fc_gate_guests(&self.filled.c) > 0 and not fc_shmq_is_empty(self.queue):
            self.filled.wake(1)
        return result

    cdef object attempt_get(self):
        raw = None
        if self.stash:
            raw = self.stash.pop()
        elif self.begin_receive_now():
            try:
                raw = self.read(False)
            finally:
                self.end_receive()
        if raw is None:
            return NOT_YET
        return unpack(raw) if type(raw) is bytearray else raw

    cdef object attempt_get_many(self, Py_ssize_t max_items):
        cdef list found = []
        if self.stash:
            found = self.unstash_many(max_items)
        elif self.begin_receive_now():
            self.read_many(found, max_items)
        return self.unpack_all(found) if found else NOT_YET

    cdef object attempt_put(self, object item):
        if self.offer(item, BYTES, 0) == 0:
            if fc_gate_guests(&self.emptied.c) > 0:
                self.emptied.wake(1)
            return None
        failure, self.no_consumer = self.no_consumer, None
        if failure is not None:
            raise failure
        self.room_wanted = size_of(item)
        if fc_gate_guests(&self.emptied.c) > 0:
            if self.room_watch is None:
                self.room_watch = RoomWatch(self.emptied, self)
            self.room_watch.arm()
        return NOT_YET

    cdef int watch_messages(self, int op) except -1:
        """No message came: ends the await if none can come, else has a thread look for one."""
        if fc_shmq_is_shut_down(self.open_queue()) and fc_shmq_is_empty(self.queue):
            if op == NEXT:
                raise StopAsyncIteration
            raise failure_of(FC_ECLOSED)
        failure, self.no_producer = self.no_producer, None
        if failure is not None:
            raise failure
        if fc_gate_guests(&self.filled.c) > 0:
            if self.message_watch is None:
                self.message_watch = MessageWatch(self.filled, self)
            self.message_watch.arm()
        return 0

    cdef int look_for_message(self) except -1:
        """For MessageWatch: waits a slice."""
        cdef fc_shmq *q = self.queue
        cdef int err = 0
        cdef bint ready = False
        if self.closed or self.stash:
            return INT_MAX
        self.users += 1
        with nogil:
            err = fc_shmq_wait_message(q, -1)
            if err == 0 and not fc_shmq_is_empty(q) and fc_shmq_recv_lock(q) == 0:
                # Whoever is woken is to find the mutex free.
                fc_shmq_recv_unlock(q)
                ready = True
        self.users -= 1
        if self.closed:
            self.release()
        elif err == -EOWNERDEAD:
            self.no_producer = producer_died()
            return 1
        return INT_MAX if self.closed or err < 0 else ready

    cdef int look_for_room(self) except -1:
        """For RoomWatch: waits a slice."""
        cdef fc_shmq *q = self.queue
        cdef size_t wanted = self.room_wanted
        cdef int err = 0
        cdef bint ready = False
        if self.closed:
            return INT_MAX
        self.users += 1
        with nogil:
            err = fc_shmq_wait_space(q, wanted, -1)
            ready = err == 0 and fc_shmq_has_space(q, wanted)
        self.users -= 1
        if self.closed:
            self.release()
        elif err == -EOWNERDEAD:
            self.no_consumer = consumer_died()
            return 1
        return INT_MAX if self.closed or err < 0 else ready


@cython.final
cdef class MessageWatch(Watch):
    """Watches for messages in a queue that may go meanwhile."""

    def __init__(self, gate, queue):
        self.queue = weakref.ref(queue)

    cdef int look(self) except -1:
        cdef SharedQueue q = self.queue()
        return GONE if q is None else q.look_for_message()


@cython.final
cdef class RoomWatch(Watch):
    """Watches for room in a queue that may go meanwhile."""

    def __init__(self, gate, queue):
        self.queue = weakref.ref(queue)

    cdef int look(self) except -1:
        cdef SharedQueue q = self.queue()
        return GONE if q is None else q.look_for_room()
