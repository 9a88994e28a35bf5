"""A ring of bytes in which whatever is read or written lies in one piece."""

cimport cython
from cpython.buffer cimport (
    PyBUF_SIMPLE,
    PyBuffer_FillInfo,
    PyBuffer_Release,
    PyObject_GetBuffer,
)
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from cpython.memoryview cimport PyMemoryView_FromObject
from libc.errno cimport EINTR
from libc.string cimport memcpy

from flowcore.kernel.errors cimport error_of
from flowcore.kernel.fc_err cimport FC_ELIMIT
from flowcore.kernel.fc_reactor cimport fc_mem_libc
from flowcore.kernel.fc_ring cimport (
    fc_ring_claim,
    fc_ring_close,
    fc_ring_commit,
    fc_ring_consume,
    fc_ring_len,
    fc_ring_mapped,
    fc_ring_open,
    fc_ring_peek,
    fc_ring_read_from,
    fc_ring_sys_memfd,
    fc_ring_write_to,
)

import os

from flowcore.errors import InvalidArgument, InvalidState, LimitExceeded

__all__ = ["RingBuffer"]

cdef unsigned long forks_seen = 0


def _after_fork():
    global forks_seen
    forks_seen += 1


os.register_at_fork(after_in_child=_after_fork)


cdef int descriptor_of(object source) except -1:
    cdef int fd = source if isinstance(source, int) else source.fileno()
    if fd < 0:
        raise InvalidArgument(f"{fd} is not a descriptor")
    return fd


@cython.final
@cython.no_gc
@cython.freelist(16)
cdef class _Span:
    """Some bytes of a ring, for a memoryview to export. The ring holds still until it is gone."""

    cdef RingBuffer owner
    cdef char *at
    cdef Py_ssize_t size
    cdef bint writable

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.at, self.size, not self.writable, flags)
        if self.writable:
            self.owner.claim_views += 1
        else:
            self.owner.views += 1

    def __releasebuffer__(self, Py_buffer *buffer):
        if self.writable:
            self.owner.claim_views -= 1
        else:
            self.owner.views -= 1


cdef object view_of(RingBuffer owner, char *at, size_t size, bint writable):
    cdef _Span span = _Span.__new__(_Span)
    span.owner = owner
    span.at = at
    span.size = <Py_ssize_t>size
    span.writable = writable
    return PyMemoryView_FromObject(span)


@cython.final
cdef class RingBuffer:
    """A ring of bytes whose spans are contiguous, also where they pass its end.

    The memory is mapped twice side by side; ``mapped=False``, or a system that refuses, gives plain
    memory of twice the size to which each written byte is copied twice.

    One thread may write while another reads; two writers, or two readers, need a lock of their own.
    A view is bound to its bytes: while one is alive, they can be neither consumed nor overwritten.
    A mapped ring belongs to the process that made it: in the child of a fork it raises
    ``InvalidState``. One with ``mapped=False`` is a copy there.

    Args:
        capacity_bytes: rounded up to a power of two and, when mapped, to a page.
        mapped: whether to ask for the double mapping.

    Raises:
        InvalidArgument: the capacity is not positive or beyond any address space.
        InvalidState: the ring is closed, used after a fork, or busy in another thread.
        BufferError: a view is in the way.
    """

    def __cinit__(self, capacity_bytes, *, bint mapped=True):
        if not 0 < capacity_bytes <= 1 << 46:
            raise InvalidArgument(f"capacity_bytes must be 1 to 2**46, not {capacity_bytes}")
        cdef int err = fc_ring_open(
            &self.ring, capacity_bytes, &fc_mem_libc, &fc_ring_sys_memfd if mapped else NULL
        )
        if err < 0:
            raise error_of(err)
        self.forks = forks_seen

    def __dealloc__(self):
        fc_ring_close(&self.ring)

    def __repr__(self):
        if self.ring.base is NULL:
            return "<RingBuffer closed>"
        return f"<RingBuffer {fc_ring_len(&self.ring)} of {self.ring.capacity} bytes>"

    # ---- what may be done --------------------------------------------------------------------

    cdef int check(self) except -1:
        if self.ring.base is NULL:
            raise InvalidState("the ring is closed")
        if self.forks != forks_seen:
            if fc_ring_mapped(&self.ring):
                raise InvalidState("a mapped ring belongs to the process that made it")
            # The thread that was at work on the ring stayed in the parent.
            self.forks = forks_seen
            self.filling = self.draining = False
        return 0

    cdef int check_writer(self) except -1:
        self.check()
        if self.filling:
            raise InvalidState("another thread is in read_from()")
        if self.claim_views:
            raise BufferError("a view of claimed bytes is still alive")
        return 0

    cdef int check_reader(self) except -1:
        self.check()
        if self.draining:
            raise InvalidState("another thread is in write_to()")
        if self.views:
            raise BufferError("a view of the bytes is still alive")
        return 0

    # ---- what it is --------------------------------------------------------------------------

    @property
    def capacity(self):
        """Bytes it holds when full."""
        return self.ring.capacity

    @property
    def free(self):
        """Bytes that can be written now."""
        self.check()
        return self.ring.capacity - fc_ring_len(&self.ring)

    @property
    def mapped(self):
        """Whether the memory is mapped twice, rather than copied."""
        return fc_ring_mapped(&self.ring)

    @property
    def closed(self):
        return self.ring.base is NULL

    def __len__(self):
        """Bytes that can be read now."""
        self.check()
        return <Py_ssize_t>fc_ring_len(&self.ring)

    # ---- reading -----------------------------------------------------------------------------

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        cdef size_t n
        self.check()
        cdef const char *at = fc_ring_peek(&self.ring, &n)
        PyBuffer_FillInfo(buffer, self, <char *>at, <Py_ssize_t>n, True, flags)
        self.views += 1

    def __releasebuffer__(self, Py_buffer *buffer):
        self.views -= 1

    def __buffer__(self, flags, /):
        # PEP 688's name, which Python itself gives to every buffer from 3.12 on.
        return memoryview(self)

    def peek(self, Py_ssize_t nbytes=-1):
        """A read-only view of the oldest ``nbytes``, or of as many as there are; -1: of all.

        Nothing can be consumed while the view, or anything made from it, is alive: leave a ``with``
        block, or call its ``release()``, first. More can be written meanwhile.
        """
        cdef size_t n
        self.check()
        cdef const char *at = fc_ring_peek(&self.ring, &n)
        if 0 <= nbytes < <Py_ssize_t>n:
            n = nbytes
        return view_of(self, <char *>at, n, False)

    cdef int drop(self, Py_ssize_t n) except -1:
        """Consumes n bytes."""
        cdef size_t there = fc_ring_len(&self.ring)
        if n < 0 or <size_t>n > there:
            raise InvalidArgument(f"cannot consume {n} of {there} bytes")
        fc_ring_consume(&self.ring, n)
        return 0

    def consume(self, Py_ssize_t nbytes, /):
        """Lets go of the oldest ``nbytes``.

        Raises:
            InvalidArgument: there are fewer.
            BufferError: a view of the bytes is alive.
        """
        self.check_reader()
        self.drop(nbytes)

    def read(self, Py_ssize_t nbytes=-1):
        """Takes the oldest ``nbytes`` out, or as many as there are; -1: all. Empty when it is."""
        cdef size_t n
        self.check_reader()
        cdef const char *at = fc_ring_peek(&self.ring, &n)
        if 0 <= nbytes < <Py_ssize_t>n:
            n = nbytes
        taken = PyBytes_FromStringAndSize(at, <Py_ssize_t>n)
        fc_ring_consume(&self.ring, n)
        return taken

    def write_to(self, target, Py_ssize_t max_bytes=-1):
        """Writes once to a descriptor or socket, without the GIL, and consumes what was taken.

        Returns the bytes taken; 0 when there are none. Errors of the system are ``OSError``, such
        as ``BlockingIOError``, and consume nothing.
        """
        cdef int fd = descriptor_of(target)
        cdef size_t most = max_bytes if max_bytes >= 0 else <size_t>-1
        cdef Py_ssize_t n
        while True:
            self.check_reader()
            self.draining = True
            with nogil:
                n = fc_ring_write_to(&self.ring, fd, most)
            self.draining = False
            if n >= 0:
                return n
            if n != -EINTR:
                raise error_of(<int>n)
            PyErr_CheckSignals()

    # ---- writing -----------------------------------------------------------------------------

    def claim(self, Py_ssize_t nbytes=-1):
        """A writable view of the next ``nbytes`` of room; -1: of all the room there is.

        Release the view, then ``commit()`` what was written; a later claim, write or read_from
        forgets what was not committed.

        Raises:
            LimitExceeded: there is less room.
            BufferError: the view of the last claim is alive.
        """
        cdef size_t room
        self.check_writer()
        cdef char *at = fc_ring_claim(&self.ring, &room)
        if nbytes >= 0:
            if <size_t>nbytes > room:
                raise LimitExceeded(f"{nbytes} bytes claimed, {room} of capacity free")
            room = nbytes
        self.claimed = 0
        view = view_of(self, at, room, True)
        self.claimed = room
        return view

    def commit(self, Py_ssize_t nbytes, /):
        """Hands the first ``nbytes`` of the last claim to the reader.

        Raises:
            InvalidArgument: not so many are claimed.
            BufferError: the claim's view is alive.
        """
        self.check_writer()
        if nbytes < 0 or <size_t>nbytes > self.claimed:
            raise InvalidArgument(f"cannot commit {nbytes} of {self.claimed} claimed bytes")
        self.claimed = 0
        fc_ring_commit(&self.ring, nbytes)

    cdef size_t put(self, const char *data, size_t n) except? 0:
        """Writes as much as fits and returns how much that was."""
        cdef size_t room
        self.check_writer()
        cdef char *at = fc_ring_claim(&self.ring, &room)
        if n > room:
            n = room
        self.claimed = 0
        memcpy(at, data, n)
        fc_ring_commit(&self.ring, n)
        return n

    def write(self, data, /):
        """Copies in as much of ``data`` as fits, and returns how many bytes that was."""
        cdef Py_buffer source
        PyObject_GetBuffer(data, &source, PyBUF_SIMPLE)
        try:
            return self.put(<const char *>source.buf, <size_t>source.len)
        finally:
            PyBuffer_Release(&source)

    def read_from(self, source, Py_ssize_t max_bytes=-1):
        """Reads once from a descriptor or socket straight into the ring, without the GIL.

        Returns the bytes that came; 0 at the end of the stream (or for ``max_bytes=0``). Errors of
        the system are ``OSError``; a descriptor that is not blocking gives ``BlockingIOError``.

        Raises:
            LimitExceeded: the ring is full.
        """
        cdef int fd = descriptor_of(source)
        cdef size_t most = max_bytes if max_bytes >= 0 else <size_t>-1
        cdef Py_ssize_t n
        while True:
            self.check_writer()
            self.claimed = 0
            self.filling = True
            with nogil:
                n = fc_ring_read_from(&self.ring, fd, most)
            self.filling = False
            if n >= 0:
                return n
            if n == FC_ELIMIT:
                raise LimitExceeded(f"the ring is full: {self.ring.capacity} bytes of capacity")
            if n != -EINTR:
                raise error_of(<int>n)
            PyErr_CheckSignals()

    # ---- the end -----------------------------------------------------------------------------

    def close(self):
        """Gives the memory back; nothing happens the second time.

        Raises:
            BufferError: a view is alive.
            InvalidState: a thread is in read_from() or write_to().
        """
        if self.views or self.claim_views:
            raise BufferError("a view of the ring is still alive")
        if (self.filling or self.draining) and self.forks == forks_seen:
            raise InvalidState("another thread is in read_from() or write_to()")
        fc_ring_close(&self.ring)

    def __enter__(self):
        self.check()
        return self

    def __exit__(self, kind, error, trace):
        self.close()
