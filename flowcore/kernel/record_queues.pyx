"""Bounded queues of fixed-size records, which are copied in and out without an object for each."""

cimport cython
from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS,
    PyBUF_WRITABLE,
    PyBuffer_FillInfo,
    PyBuffer_Release,
    PyObject_GetBuffer,
)
from cpython.exc cimport PyErr_Fetch, PyErr_Restore
from cpython.object cimport PyObject
from libc.stdint cimport int64_t

from flowcore.kernel.bounded_queue cimport BoundedQueue
from flowcore.kernel.errors cimport error_of
from flowcore.kernel.fc_mpmc cimport (
    fc_mpmc_capacity,
    fc_mpmc_free,
    fc_mpmc_len,
    fc_mpmc_new,
    fc_mpmc_pop_many,
    fc_mpmc_push_many,
)
from flowcore.kernel.fc_reactor cimport fc_mem_libc
from flowcore.kernel.fc_spsc cimport (
    fc_span,
    fc_spsc_capacity,
    fc_spsc_claim,
    fc_spsc_consume,
    fc_spsc_free,
    fc_spsc_len,
    fc_spsc_new,
    fc_spsc_peek,
    fc_spsc_pop_many,
    fc_spsc_publish,
    fc_spsc_push_many,
)
from flowcore.kernel.waiting cimport NOT_YET, is_watched

from flowcore.errors import InvalidArgument, InvalidState
from flowcore.kernel.waiting import QueueClosed, QueueFull

__all__ = [
    "ClaimedSlots",
    "MPMCRecordQueue",
    "PeekedRecords",
    "RecordQueue",
    "SPSCRecordQueue",
    "Span",
]

cdef enum:
    # What attempt() does.
    PUSH
    POP
    POP_INTO
    NEXT
    MAX_RECORDS = 1024  # of a pop() that names no number

cdef enum:
    # A side of the SPSC ring, to Python.
    FREE
    OPEN    # a with block claims, or peeks
    LEFT    # the block has ended, and views of its slots have not

# numpy is imported with the first queue: who needs none does not wait for it.
cdef object numpy = None
cdef object array_type = None
cdef object scalar_type = None
cdef object dtype_of = None      # of an array, whatever its class makes of the attribute


cdef int import_numpy() except -1:
    global numpy, array_type, scalar_type, dtype_of
    if numpy is None:
        import numpy as module
        array_type = module.ndarray
        scalar_type = module.generic
        dtype_of = module.ndarray.dtype.__get__
        numpy = module
    return 0


cdef object dtype_for_records(object dtype):
    """The numpy dtype that is meant, if its records may be copied byte by byte."""
    import_numpy()
    if dtype is None:
        raise TypeError("a record queue needs a dtype")
    found = numpy.dtype(dtype)
    # Beside Python objects there are dtypes of numpy's own whose items point to memory elsewhere.
    if found.hasobject or found.kind not in "biufcmMSUV":
        raise InvalidArgument(f"records of {found!r} hold references, which cannot be copied raw")
    if found.itemsize == 0:
        raise InvalidArgument(f"records of {found!r} have no bytes")
    if found.subdtype is not None:
        raise InvalidArgument(f"{found!r} is no dtype of an array: name it as a field of one")
    return found


@cython.final
@cython.freelist(16)
cdef class Batch:
    """An array's memory on its way into a queue, or to be filled from one."""

    def __dealloc__(self):
        PyBuffer_Release(&self.borrowed)


@cython.no_gc_clear
cdef class RecordQueue(BoundedQueue):
    """What SPSCRecordQueue and MPMCRecordQueue have in common. The GIL makes each operation one
    step for all Python threads; it is never given up while records are copied."""

    def __cinit__(self, capacity, dtype):
        if not 0 < capacity <= 1 << 40:
            raise InvalidArgument(f"capacity must be 1 to 2^40, not {capacity}")
        self.dtype = dtype_for_records(dtype)
        self.record_bytes = self.dtype.itemsize

    # ---- one step each, without a wake-up ------------------------------------------------------

    cdef size_t give(self, const void *records, size_t count) noexcept nogil:
        return 0

    cdef size_t take(self, void *records, size_t count) noexcept nogil:
        return 0

    # ---- with their wake-ups -------------------------------------------------------------------

    cdef int check_producer(self) except -1:
        return 0

    cdef int check_consumer(self) except -1:
        return 0

    cdef Batch borrow(self, object array, bint writable):
        cdef Batch batch = Batch.__new__(Batch)
        if not isinstance(array, array_type):
            if writable or not isinstance(array, scalar_type):
                raise TypeError(f"records are in numpy arrays, not in {type(array).__name__}")
            array = numpy.asarray(array)
        dtype = dtype_of(array)
        if dtype is not self.dtype and dtype != self.dtype:
            raise InvalidArgument(f"the array is of dtype {dtype}, the queue of {self.dtype}")
        try:
            PyObject_GetBuffer(
                array, &batch.borrowed, PyBUF_C_CONTIGUOUS | (PyBUF_WRITABLE if writable else 0)
            )
        except (BufferError, ValueError) as error:
            self.reject(array, error)
        if batch.borrowed.ndim > 1:
            raise InvalidArgument(f"the array has {batch.borrowed.ndim} dimensions instead of one")
        batch.count = batch.borrowed.len // self.record_bytes
        return batch

    cdef int reject(self, object array, object error) except -1:
        if not array.flags.c_contiguous:
            raise InvalidArgument(
                "the array is not contiguous: numpy.ascontiguousarray() makes a copy that is"
            ) from error
        raise InvalidArgument(f"the array cannot be used: {error}") from error

    cdef bint insert(self, Batch batch) except -1:
        """Copies in what fits. True: all of the batch is in."""
        cdef size_t done
        if self.closed:
            self.refuse()
        self.check_producer()
        done = self.give(
            <char *>batch.borrowed.buf + batch.done * self.record_bytes, batch.count - batch.done
        )
        batch.done += done
        if done and is_watched(self, self.filled):
            self.filled.wake(done)
        return batch.done == batch.count

    cdef Py_ssize_t remove(self, void *records, Py_ssize_t count) except -1:
        """Copies out as many as there are up to ``count``."""
        cdef Py_ssize_t done
        self.check_consumer()
        done = self.take(records, count)
        if done and is_watched(self, self.emptied):
            self.emptied.wake(done)
        return done

    cdef object remove_new(self, Py_ssize_t max_records):
        """An array of the oldest records, as many as there are, or None."""
        cdef Py_ssize_t count = min(max_records, self.length())
        cdef Py_ssize_t done
        cdef Batch batch
        self.check_consumer()
        if not count:
            return None
        found = numpy.empty(count, self.dtype)
        batch = self.borrow(found, True)
        # Making the array may have run a finaliser, which took some.
        done = self.remove(batch.borrowed.buf, count)
        if not done:
            return None
        return found if done == count else found[:done].copy()

    # ---- pushing -------------------------------------------------------------------------------

    def push(self, array, bint block=True, timeout=None):
        """Copies in the records of an array, in their order, and waits for room until all are in;
        if ``timeout`` is a number, so many seconds.

        Args:
            array: of exactly the queue's dtype, with one dimension and contiguous, or one record:
                without a dimension, or a scalar.

        Returns how many were pushed: fewer than there are only when the time was up or the queue
        was closed meanwhile. If none was, that raises.

        Raises:
            QueueFull: no room came free in time, or at once with ``block=False``.
            QueueClosed: the queue is closed, or was closed meanwhile.
            InvalidArgument: the array is none of these, or timeout is negative.
            InvalidState: a ``claim()`` is open.
            BufferError: views of one that was left are alive.
        """
        cdef int64_t deadline = self.deadline_of(block, timeout)
        cdef Batch batch = self.borrow(array, False)
        try:
            while not self.insert(batch):
                self.pause_for_room(deadline)
        except (QueueClosed, QueueFull):
            if not batch.done:
                raise
        return batch.done

    def try_push(self, array, /):
        """Copies in as many records of the array as there is room for; returns how many. Raises as
        ``push()``, but not for want of room."""
        cdef Batch batch = self.borrow(array, False)
        self.insert(batch)
        return batch.done

    def apush(self, array, /):
        """Awaitable: ``push()`` that lets the loop go on while there is no room. The array must
        keep its values until then. If it is cancelled, the first records may be in."""
        return self.wait_at(self.emptied, PUSH, self.borrow(array, False))

    # ---- popping -------------------------------------------------------------------------------

    cdef Batch borrow_room(self, object array):
        cdef Batch batch = self.borrow(array, True)
        if not batch.count:
            raise InvalidArgument("the array has no room for a record")
        return batch

    cdef int check_max_records(self, Py_ssize_t max_records) except -1:
        if max_records < 1:
            raise InvalidArgument(f"max_records must be at least 1, not {max_records}")
        return 0

    def pop_into(self, array, bint block=True, timeout=None):
        """Moves the oldest records into an array, from its beginning: as many as there are and as
        fit. Waits while there is none; if ``timeout`` is a number, so many seconds.

        Args:
            array: of exactly the queue's dtype, with one dimension or none, contiguous and
                writable.

        Returns how many were moved.

        Raises:
            QueueEmpty: none came in time, or at once with ``block=False``.
            QueueClosed: the queue is closed and empty.
            InvalidArgument: the array is none of these or empty, or timeout is negative.
            InvalidState: a ``peek()`` is open.
            BufferError: views of one that was left are alive.
        """
        cdef int64_t deadline = self.deadline_of(block, timeout)
        cdef Batch batch = self.borrow_room(array)
        cdef Py_ssize_t done
        while True:
            done = self.remove(batch.borrowed.buf, batch.count)
            if done:
                return done
            self.pause_for_items(deadline)

    def try_pop_into(self, array, /):
        """``pop_into()`` that does not wait, and returns 0 when there is nothing."""
        cdef Batch batch = self.borrow_room(array)
        cdef Py_ssize_t done = self.remove(batch.borrowed.buf, batch.count)
        if not done and self.closed and not self.has_items():
            self.refuse()
        return done

    def pop(self, Py_ssize_t max_records=MAX_RECORDS, bint block=True, timeout=None):
        """Takes what is there, up to ``max_records``, as a new array; waits as ``pop_into()`` does
        while there is nothing, and raises as it does."""
        cdef int64_t deadline = self.deadline_of(block, timeout)
        self.check_max_records(max_records)
        while True:
            found = self.remove_new(max_records)
            if found is not None:
                return found
            self.pause_for_items(deadline)

    def apop_into(self, array, /):
        """Awaitable: ``pop_into()`` that lets the loop go on while there is nothing."""
        return self.wait_at(self.filled, POP_INTO, self.borrow_room(array))

    def apop(self, Py_ssize_t max_records=MAX_RECORDS, /):
        """Awaitable: ``pop()`` that lets the loop go on while there is nothing."""
        self.check_max_records(max_records)
        return self.wait_at(self.filled, POP, max_records)

    def __next__(self):
        try:
            return self.pop()
        except QueueClosed:
            raise StopIteration from None

    def __anext__(self):
        return self.wait_at(self.filled, NEXT, MAX_RECORDS)

    cdef object attempt(self, int op, object argument):
        if op == PUSH:
            return self.attempt_push(argument)
        if op == POP_INTO:
            found = self.remove((<Batch>argument).borrowed.buf, (<Batch>argument).count) or None
        else:
            found = self.remove_new(argument)
        return self.nothing_yet(op == NEXT) if found is None else found

    cdef object attempt_push(self, Batch batch):
        if self.closed and batch.done:
            return batch.done
        return batch.done if self.insert(batch) else NOT_YET

    # ---- the queue as a whole ------------------------------------------------------------------

    def __repr__(self):
        state = " closed" if self.closed else ""
        return f"<{type(self).__name__} {self.length()}/{self.slots()} of {self.dtype}{state}>"

    # ---- without the GIL -----------------------------------------------------------------------

    cdef bint push_record(self, const void *record) noexcept nogil:
        return self.push_records(record, 1) == 1

    cdef bint pop_record(self, void *record) noexcept nogil:
        return self.pop_records(record, 1) == 1

    cdef size_t push_records(self, const void *records, size_t count) noexcept nogil:
        cdef size_t done
        if self.closed:
            return 0
        done = self.give(records, count)
        if done:
            self.announce(self.filled, done)
        return done

    cdef size_t pop_records(self, void *records, size_t count) noexcept nogil:
        cdef size_t done = self.take(records, count)
        if done:
            self.announce(self.emptied, done)
        return done


@cython.final
@cython.no_gc_clear
cdef class SPSCRecordQueue(RecordQueue):
    """A bounded queue of records with one producer and one consumer, and views of its own memory.

    Under the GIL any number of Python threads and coroutines may stand on either side. Cython code
    that uses it without the GIL must be the only one on its side.

    Args:
        capacity: records, rounded up to a power of two.
        dtype: of the records, whatever numpy takes for one. No objects.

    Raises:
        InvalidArgument: capacity is out of range, or the dtype's items cannot be copied raw.
    """

    def __cinit__(self, capacity, dtype):
        cdef int err = fc_spsc_new(&self.ring, &fc_mem_libc, capacity, self.record_bytes)
        if err < 0:
            raise error_of(err)

    def __dealloc__(self):
        fc_spsc_free(self.ring, &fc_mem_libc)

    cdef size_t give(self, const void *records, size_t count) noexcept nogil:
        return fc_spsc_push_many(self.ring, records, count)

    cdef size_t take(self, void *records, size_t count) noexcept nogil:
        return fc_spsc_pop_many(self.ring, records, count)

    cdef Py_ssize_t length(self) noexcept nogil:
        return fc_spsc_len(self.ring)

    cdef Py_ssize_t slots(self) noexcept nogil:
        return fc_spsc_capacity(self.ring)

    cdef int check_producer(self) except -1:
        if self.claimed == OPEN:
            raise InvalidState("slots of the queue are claimed")
        if self.claimed == LEFT:
            raise BufferError("a view of slots that were claimed is still alive")
        return 0

    cdef int check_consumer(self) except -1:
        if self.peeked == OPEN:
            raise InvalidState("records of the queue are peeked at")
        if self.peeked == LEFT:
            raise BufferError("a view of records that were peeked at is still alive")
        return 0

    # ---- views ---------------------------------------------------------------------------------

    cdef size_t claim_up_to(self, size_t want, void **first) noexcept nogil:
        cdef fc_span span[2]
        fc_spsc_claim(self.ring, want, span)
        first[0] = span[0].data
        return span[0].count

    cdef size_t peek_up_to(self, size_t want, void **first) noexcept nogil:
        cdef fc_span span[2]
        fc_spsc_peek(self.ring, want, span)
        first[0] = span[0].data
        return span[0].count

    def claim(self, Py_ssize_t max_records=MAX_RECORDS, bint block=True, timeout=None):
        """Free slots to be written in place: ``with queue.claim(n) as slots:``.

        There are as many as are free in one piece, at least one and up to ``max_records``: the end
        of the ring may come first. Waits for one as ``push()`` does. They are published at the end
        of the block, or the first ``k`` of them after ``slots.publish(k)``; none if it raises.

        No view of the slots may outlive the block: ``BufferError`` is raised then, nothing is
        published, and the producer's side stays closed until the last view is gone. So it is
        during the block: another claim or push raises ``InvalidState``.

        Raises (on entering the block):
            QueueFull, QueueClosed, InvalidState, BufferError: as ``push()``.
            QueueClosed, on leaving: the queue was closed meanwhile, and nothing is published.
        """
        self.check_max_records(max_records)
        return make_span(ClaimedSlots, self, max_records, self.deadline_of(block, timeout))

    def peek(self, Py_ssize_t max_records=MAX_RECORDS, bint block=True, timeout=None):
        """The oldest records, to be read in place: ``with queue.peek(n) as records:``.

        There are as many as lie in one piece, at least one and up to ``max_records``: the end of
        the ring may come first. Waits for one as ``pop()`` does. They are consumed at the end of
        the block, or the first ``k`` of them after ``records.consume(k)``; none if it raises.

        No view of the records may outlive the block: ``BufferError`` is raised then, nothing is
        consumed, and the consumer's side stays closed until the last view is gone. So it is
        during the block: another peek or pop raises ``InvalidState``.

        Raises (on entering the block):
            QueueEmpty, QueueClosed, InvalidState, BufferError: as ``pop()``.
        """
        self.check_max_records(max_records)
        return make_span(PeekedRecords, self, max_records, self.deadline_of(block, timeout))

    # ---- views without the GIL -----------------------------------------------------------------

    cdef size_t claim_slots(self, size_t want, void **first) noexcept nogil:
        return 0 if self.closed else self.claim_up_to(want, first)

    cdef void publish_slots(self, size_t count) noexcept nogil:
        if count:
            fc_spsc_publish(self.ring, count)
            self.announce(self.filled, count)

    cdef size_t peek_records(self, size_t want, const void **first) noexcept nogil:
        return self.peek_up_to(want, <void **>first)

    cdef void consume_records(self, size_t count) noexcept nogil:
        if count:
            fc_spsc_consume(self.ring, count)
            self.announce(self.emptied, count)


@cython.final
@cython.no_gc_clear
cdef class MPMCRecordQueue(RecordQueue):
    """A bounded queue of records with any number of producers and consumers, with and without the
    GIL.

    Args:
        capacity: records, rounded up to a power of two, 2 or more.
        dtype: of the records, whatever numpy takes for one. No objects.

    Raises:
        InvalidArgument: capacity is out of range, or the dtype's items cannot be copied raw.
    """

    def __cinit__(self, capacity, dtype):
        cdef int err = fc_mpmc_new(&self.ring, &fc_mem_libc, capacity, self.record_bytes)
        if err < 0:
            raise error_of(err)

    def __dealloc__(self):
        fc_mpmc_free(self.ring, &fc_mem_libc)

    cdef size_t give(self, const void *records, size_t count) noexcept nogil:
        return fc_mpmc_push_many(self.ring, records, count)

    cdef size_t take(self, void *records, size_t count) noexcept nogil:
        return fc_mpmc_pop_many(self.ring, records, count)

    cdef Py_ssize_t length(self) noexcept nogil:
        return fc_mpmc_len(self.ring)

    cdef Py_ssize_t slots(self) noexcept nogil:
        return fc_mpmc_capacity(self.ring)


# ---- claims and peeks ----------------------------------------------------------------------------

@cython.final
@cython.no_gc_clear
cdef class Memory:
    """Slots of a ring, for numpy to export. As long as it exists, or anything that was made from
    it, they are neither used again nor handed over."""

    cdef int hold(self, SPSCRecordQueue queue, size_t count, bint writable) except -1:
        self.queue = queue
        self.size = count * queue.record_bytes
        self.writable = writable
        self.held = True
        return 0

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        if self.over:
            raise BufferError("the slots were given back")
        PyBuffer_FillInfo(buffer, self, self.at, self.size, not self.writable, flags)
        self.exports += 1

    def __releasebuffer__(self, Py_buffer *buffer):
        cdef PyObject *kind
        cdef PyObject *value
        cdef PyObject *trace
        self.exports -= 1
        if self.over and not self.exports:
            # Maybe while an exception is on its way, which must not get lost.
            PyErr_Fetch(&kind, &value, &trace)
            self.let_go_late()
            PyErr_Restore(kind, value, trace)

    def __dealloc__(self):
        self.let_go_late()

    cdef void let_go_late(self) noexcept:
        self.let_go()

    cdef int keep(self) except -1:
        """The block has ended, and views have not."""
        if self.writable:
            self.queue.claimed = LEFT
        else:
            self.queue.peeked = LEFT
        return 0

    cdef int let_go(self) except -1:
        """Opens the queue's side again. Who sleeps there may do so because a wake-up came here."""
        cdef SPSCRecordQueue queue = self.queue
        if not self.held:
            return 0
        self.held = False
        if self.writable:
            queue.claimed = FREE
            if is_watched(queue, queue.emptied):
                queue.emptied.wake(queue.slots() - queue.length())
        else:
            queue.peeked = FREE
            if is_watched(queue, queue.filled):
                queue.filled.wake(queue.length())
        return 0


cdef object make_span(type kind, SPSCRecordQueue queue, Py_ssize_t want, int64_t deadline):
    cdef Span span = kind.__new__(kind)
    span.queue = queue
    span.want = want
    span.deadline = deadline
    return span


@cython.no_gc_clear
cdef class Span:
    """What ``claim()`` and ``peek()`` return, for one ``with`` block. In it, ``array`` is the numpy
    array of the slots, and indexing and assigning to an index do so to that."""

    cdef int find(self, Memory memory) except -1:
        """Waits for slots and takes hold of them."""
        raise NotImplementedError

    cdef Py_ssize_t hand_over(self) noexcept:
        """Ends the slots' life here; how many were handed over."""
        return 0

    cdef int tell(self, Py_ssize_t done) except -1:
        return 0

    def __enter__(self):
        cdef Memory memory
        if self.queue is None or self.entered:
            raise InvalidState("claim() and peek() are for one with block each")
        self.entered = True
        memory = Memory.__new__(Memory)
        self.find(memory)
        # numpy.ndarray(buffer=...) would not keep its export.
        self.records = numpy.frombuffer(memory, self.queue.dtype)
        self.there = self.wanted = memory.size // self.queue.record_bytes
        self.memory = memory
        return self

    def __exit__(self, kind, error, trace):
        cdef Memory memory = self.memory
        cdef Py_ssize_t done = 0
        if memory is None:
            raise InvalidState("the with block was left already")
        self.memory = None
        self.records = None
        memory.over = True
        if memory.exports:
            memory.keep()
            if kind is None:
                raise BufferError(
                    "a view outlives the with block, so nothing was handed over: drop it inside "
                    "the block (del), or copy()"
                )
            return
        if kind is None:
            done = self.hand_over()
        memory.let_go()
        if kind is None:
            self.tell(done)

    cdef int choose(self, Py_ssize_t count) except -1:
        self.the_array()
        if not 0 <= count <= self.there:
            raise InvalidArgument(f"{count} of {self.there} records")
        self.wanted = count
        return 0

    cdef object the_array(self):
        if self.memory is None:
            raise InvalidState("the slots are there in the with block only")
        return self.records

    @property
    def array(self):
        """The numpy array of the slots themselves. Let go of it before the block ends."""
        return self.the_array()

    def __array__(self, dtype=None, *, copy=None):
        array = self.the_array()
        if dtype is not None and dtype != array.dtype:
            if copy is False:
                raise ValueError(f"records of {array.dtype} become {dtype} by copying only")
            return array.astype(dtype)
        return array.copy() if copy else array

    def __len__(self):
        self.the_array()
        return self.there

    def __getitem__(self, key):
        return self.the_array()[key]

    def __iter__(self):
        return iter(self.the_array())


@cython.final
@cython.no_gc_clear
cdef class ClaimedSlots(Span):
    """Free slots of a queue, whose contents are undefined until they are written."""

    cdef int find(self, Memory memory) except -1:
        cdef SPSCRecordQueue queue = self.queue
        cdef size_t count
        while True:
            if queue.closed:
                queue.refuse()
            queue.check_producer()
            count = queue.claim_up_to(self.want, <void **>&memory.at)
            if count:
                break
            queue.pause_for_room(self.deadline)
        queue.claimed = OPEN
        memory.hold(queue, count, True)
        return 0

    cdef Py_ssize_t hand_over(self) noexcept:
        if self.queue.closed:
            return 0
        fc_spsc_publish(self.queue.ring, self.wanted)
        return self.wanted

    cdef int tell(self, Py_ssize_t done) except -1:
        if done < self.wanted:
            self.queue.refuse()
        if done and is_watched(self.queue, self.queue.filled):
            self.queue.filled.wake(done)
        return 0

    def publish(self, Py_ssize_t count, /):
        """Has only the first ``count`` records published at the end of the block."""
        self.choose(count)

    def __setitem__(self, key, value):
        self.the_array()[key] = value


@cython.final
@cython.no_gc_clear
cdef class PeekedRecords(Span):
    """The oldest records of a queue, which cannot be changed."""

    cdef int find(self, Memory memory) except -1:
        cdef SPSCRecordQueue queue = self.queue
        cdef size_t count
        while True:
            queue.check_consumer()
            count = queue.peek_up_to(self.want, <void **>&memory.at)
            if count:
                break
            queue.pause_for_items(self.deadline)
        queue.peeked = OPEN
        memory.hold(queue, count, False)
        return 0

    cdef Py_ssize_t hand_over(self) noexcept:
        fc_spsc_consume(self.queue.ring, self.wanted)
        return self.wanted

    cdef int tell(self, Py_ssize_t done) except -1:
        if done and is_watched(self.queue, self.queue.emptied):
            self.queue.emptied.wake(done)
        return 0

    def consume(self, Py_ssize_t count, /):
        """Has only the first ``count`` records consumed at the end of the block."""
        self.choose(count)
