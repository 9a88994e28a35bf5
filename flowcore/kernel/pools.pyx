"""Pools: of buffers in size classes, and of any objects."""

cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.exc cimport PyErr_WarnEx

from flowcore.kernel.errors cimport error_of
from flowcore.kernel.fc_reactor cimport fc_mem_libc
from flowcore.kernel.fc_slab cimport (
    FC_SLAB_MAX_BYTES,
    FC_SLAB_MAX_CLASSES,
    FC_SLAB_TRIM_INTERVAL,
    fc_slab_acquire,
    fc_slab_cache_open,
    fc_slab_close,
    fc_slab_config,
    fc_slab_config_default,
    fc_slab_flush,
    fc_slab_is_heap,
    fc_slab_open,
    fc_slab_release,
    fc_slab_stat,
    fc_slab_stats,
    fc_slab_trim,
)

import collections
import sys
import time
import types

from flowcore.errors import InvalidArgument, InvalidState

__all__ = ["BufferPool", "Leak", "ObjectPool", "PooledBuffer"]

Leak = collections.namedtuple("Leak", "place nbytes age_s")
Leak.__doc__ = "A buffer that is out: where it was acquired, its size, and for how long it is out."

cdef enum:
    PLACE_FRAMES = 3


cdef str place_of_caller():
    """The innermost Python frames, as file:line in function, nearest first."""
    frame = sys._getframe()
    lines = []
    while frame is not None and len(lines) < PLACE_FRAMES:
        code = frame.f_code
        lines.append(f"{code.co_filename}:{frame.f_lineno} in {code.co_name}")
        frame = frame.f_back
    return " < ".join(lines)


@cython.final
cdef class BufferPool:
    """Buffers that are kept for the next who asks, in size classes.

    Any thread may acquire and release. Past ``max_bytes``, and for sizes above the largest class,
    a buffer comes from the heap and is counted. What is idle and was not needed for
    ``trim_interval`` acquisitions goes back to the heap by itself, or by ``trim()``.

    Args:
        size_classes: ascending sizes in bytes, at most 48; by default 64 B to 1 MiB, two for each
            doubling.
        max_bytes: of all the pool's buffers, out or idle.
        trim_interval: acquisitions between two trims; 0: only ``trim()``.
        debug: keep the place of each acquisition for ``leaks()``, and warn (``ResourceWarning``)
            of a buffer that is dropped without ``release()``.

    Raises:
        InvalidArgument: the classes do not ascend or are too many, or a number is negative.
    """

    def __cinit__(self, size_classes=None, *, max_bytes=FC_SLAB_MAX_BYTES,
                  trim_interval=FC_SLAB_TRIM_INTERVAL, bint debug=False):
        cdef size_t classes[FC_SLAB_MAX_CLASSES]
        cdef fc_slab_config config = fc_slab_config_default(&fc_mem_libc)
        if not 0 <= max_bytes < 1 << 62 or not 0 <= trim_interval < 1 << 32:
            raise InvalidArgument("max_bytes or trim_interval is out of range")
        config.max_bytes = max_bytes
        config.trim_interval = trim_interval
        if size_classes is not None:
            sizes = list(size_classes)
            if not 0 < len(sizes) <= FC_SLAB_MAX_CLASSES:
                raise InvalidArgument(f"size_classes must be 1 to {FC_SLAB_MAX_CLASSES} sizes")
            if min(sizes) <= 0 or max(sizes) >= 1 << 60:
                raise InvalidArgument("size_classes must be positive")
            for i, size in enumerate(sizes):
                classes[<size_t>i] = size
            config.class_bytes = classes
            config.class_count = len(sizes)
        cdef int err = fc_slab_open(&self.slab, &config)
        if err < 0:
            raise error_of(err)
        self.cache = fc_slab_cache_open(self.slab)
        if self.cache is NULL:
            raise MemoryError()
        if debug:
            self.places = {}

    def __dealloc__(self):
        # Each buffer that is out holds its pool, so none is left here.
        if self.slab is not NULL:
            fc_slab_close(self.slab)

    cdef PooledBuffer take(self, Py_ssize_t nbytes):
        if nbytes < 0:
            raise InvalidArgument(f"{nbytes} is not a size")
        if self.closed:
            raise InvalidState("the pool is closed")
        cdef PooledBuffer buffer = PooledBuffer.__new__(PooledBuffer)
        buffer.pool = self
        buffer.block = fc_slab_acquire(self.cache, <size_t>nbytes)
        if buffer.block is NULL:
            raise MemoryError()
        buffer.size = nbytes
        if self.places is not None:
            place = (place_of_caller(), nbytes, time.monotonic())
            self.places[<size_t>buffer.block] = place
        return buffer

    cdef int give(self, fc_slab_block *block) except -1:
        if self.places is not None:
            self.places.pop(<size_t>block, None)
        fc_slab_release(self.cache, block)
        if self.closed:
            fc_slab_flush(self.cache)
        return 0

    def acquire(self, Py_ssize_t nbytes, /):
        """A buffer of ``nbytes``; what is in it is undefined, and may be what others left there.

        Raises:
            InvalidState: the pool is closed.
        """
        return self.take(nbytes)

    @property
    def is_closed(self):
        return self.closed

    def trim(self):
        """Frees the idle buffers that were not needed since the last trim; returns how many."""
        return fc_slab_trim(self.cache)

    def stats(self):
        """Counts since the beginning, and what is held now.

        ``hits`` and ``misses`` (a buffer had to be made); ``heap_fallbacks``, the sum of
        ``oversize`` (above the largest class) and ``exhausted`` (past max_bytes); ``live`` buffers
        that are out and the pool's ``high_water`` of them; ``idle`` buffers; ``pooled_bytes``, out
        or idle; ``trimmed`` buffers; ``unreleased``, dropped without ``release()``.
        """
        cdef fc_slab_stats s = fc_slab_stat(self.slab)
        return {
            "hits": s.hits,
            "misses": s.misses,
            "heap_fallbacks": s.oversize + s.exhausted,
            "oversize": s.oversize,
            "exhausted": s.exhausted,
            "live": s.live,
            "high_water": s.high_water,
            "idle": s.idle,
            "pooled_bytes": s.pooled_bytes,
            "trimmed": s.trimmed,
            "unreleased": self.unreleased,
        }

    def leaks(self):
        """What is out now, oldest first, with the place of its acquisition.

        Raises:
            InvalidState: the pool was not made with ``debug=True``.
        """
        if self.places is None:
            raise InvalidState("places are kept by BufferPool(debug=True) only")
        now = time.monotonic()
        return [Leak(place, nbytes, now - when) for place, nbytes, when in self.places.values()]

    def close(self):
        """Frees what is idle and refuses further acquisitions; buffers that are out stay valid."""
        self.closed = True
        fc_slab_flush(self.cache)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.close()


@cython.final
@cython.no_gc
@cython.freelist(64)
cdef class PooledBuffer:
    """A buffer from a pool; ``memoryview(buffer)``, numpy and ``recv_into()`` write into it.

    ``release()``, or leaving its ``with`` block, gives it back: from then on it refuses new views.
    Views that are alive keep the bytes; the last of them gives them back.
    """

    def __init__(self, *args, **kwargs):
        raise TypeError("a PooledBuffer comes from BufferPool.acquire()")

    def __dealloc__(self):
        if self.block is NULL:
            return
        try:
            if not self.is_released:
                self.pool.unreleased += 1
                if self.pool.places is not None:
                    self.warn()
        finally:
            self.pool.give(self.block)

    def __repr__(self):
        state = "released" if self.is_released or self.block is NULL else f"{self.size} bytes"
        return f"<PooledBuffer {state}>"

    cdef int warn(self) except -1:
        place = self.pool.places[<size_t>self.block][0]
        text = f"a pooled buffer of {self.size} bytes was dropped; acquired at {place}"
        return PyErr_WarnEx(ResourceWarning, text.encode(), 1)

    cdef int check(self) except -1:
        if self.is_released or self.block is NULL:
            raise InvalidState("the buffer was released")
        return 0

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        if self.is_released or self.block is NULL:
            raise BufferError("the buffer was released")
        PyBuffer_FillInfo(buffer, self, self.block.data, self.size, False, flags)
        self.exports += 1

    def __releasebuffer__(self, Py_buffer *buffer):
        self.exports -= 1
        if self.is_released and self.exports == 0:
            self.give_back()

    def __buffer__(self, flags, /):
        # PEP 688's name, which Python itself gives to every buffer from 3.12 on.
        return memoryview(self)

    cdef int give_back(self) except -1:
        block, self.block = self.block, NULL
        return self.pool.give(block)

    def __len__(self):
        """The bytes asked for."""
        self.check()
        return self.size

    @property
    def capacity(self):
        """The bytes of the block behind it, at least as many."""
        self.check()
        return self.block.capacity

    @property
    def pooled(self):
        """False: from the heap, past the pool's bound or its largest class."""
        self.check()
        return not fc_slab_is_heap(self.block)

    @property
    def released(self):
        return self.is_released or self.block is NULL

    def release(self):
        """Gives the buffer back, as soon as no view is alive; nothing happens the second time."""
        if self.is_released:
            return
        self.is_released = True
        if self.exports == 0 and self.block is not NULL:
            self.give_back()

    def __enter__(self):
        self.check()
        return self

    def __exit__(self, kind, error, trace):
        self.release()


@cython.final
@cython.freelist(16)
cdef class _Lease:
    """An object from a pool for the length of a ``with`` block."""

    cdef ObjectPool pool
    cdef list held

    def __enter__(self):
        obj = self.pool.take()
        self.held.append(obj)
        return obj

    def __exit__(self, kind, error, trace):
        self.pool.give(self.held.pop())


@cython.final
cdef class ObjectPool:
    """Objects that are kept for the next who asks; the one given back last comes first.

    Any thread may acquire and release; ``factory`` and ``reset`` may use the pool themselves.

    Args:
        factory: makes an object when none is idle.
        reset: called with each object that comes back; when it raises, the object is dropped and
            the error goes on to who released it.
        max_idle: objects kept; more are dropped. ``release()`` looks through them all for the
            object, so keep it in the hundreds.

    Raises:
        InvalidArgument: max_idle is negative.
    """

    def __init__(self, factory, reset=None, *, Py_ssize_t max_idle=64):
        if not callable(factory) or not (reset is None or callable(reset)):
            raise TypeError("factory and reset must be callable")
        if max_idle < 0:
            raise InvalidArgument(f"max_idle must not be negative: {max_idle}")
        self.factory = factory
        self.reset = reset
        self.max_idle = max_idle
        self.idle = []

    @classmethod
    def __class_getitem__(cls, item, /):
        return types.GenericAlias(cls, item)

    @property
    def is_closed(self):
        return self.idle is None

    def __len__(self):
        """Objects that are idle."""
        return 0 if self.idle is None else len(self.idle)

    cdef object take(self):
        if self.idle is None:
            raise InvalidState("the pool is closed")
        if self.idle:
            self.reused += 1
            return self.idle.pop()
        made = self.factory()
        self.created += 1
        return made

    cdef int refuse_idle(self, object obj) except -1:
        cdef object each
        for each in self.idle:
            if each is obj:
                raise InvalidState("the object is in the pool already")
        return 0

    cdef int give(self, object obj) except -1:
        if self.idle is None:
            self.dropped += 1
            return 0
        self.refuse_idle(obj)
        if self.reset is not None:
            try:
                self.reset(obj)
            except BaseException:
                self.dropped += 1
                raise
        # Whatever reset() ran may have closed the pool, filled it, or released the object.
        if self.idle is None or len(self.idle) >= self.max_idle:
            self.dropped += 1
            return 0
        if self.reset is not None:
            self.refuse_idle(obj)
        self.idle.append(obj)
        return 0

    def acquire(self):
        """An object that is idle, else a new one.

        Raises:
            InvalidState: the pool is closed.
        """
        return self.take()

    def release(self, obj, /):
        """Gives an object back, after ``reset``; to a closed pool it is dropped as it is.

        Raises:
            InvalidState: it is in the pool already.
        """
        self.give(obj)

    def lease(self):
        """A context manager that acquires on entry and releases on exit."""
        cdef _Lease lease = _Lease.__new__(_Lease)
        lease.pool = self
        lease.held = []
        return lease

    def close(self):
        """Drops what is idle; nothing happens the second time."""
        # Dropping runs finalisers, which may use the pool: it is closed by then.
        idle, self.idle = self.idle, None
        del idle
