"""The loop's engine: the ready queue, timers, watched descriptors and the turn that drives them.

``EventLoop`` puts this in front of the standard library's selector loop: what is hot is here, what is
not is inherited.
"""

cimport cython
from cpython.contextvars cimport PyContext_CopyCurrent
from cpython.exc cimport PyErr_CheckSignals
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc

from flowcore.kernel.errors cimport error_of
from flowcore.kernel.fc_reactor cimport (
    FC_ERROR,
    FC_READ,
    FC_WAIT_FOREVER,
    FC_WRITE,
    fc_reactor,
    fc_reactor_close,
    fc_reactor_dispatch,
    fc_reactor_end_turn,
    fc_reactor_open,
    fc_reactor_tick,
    fc_reactor_timeout,
    fc_reactor_wait,
    fc_reactor_wake,
    fc_source,
    fc_source_init,
    fc_source_set,
    fc_timer,
    fc_timer_cancel,
    fc_timers_any,
)
from flowcore.loop.handles cimport Handle, OwnedTimer, TimerHandle, handle_of

import sys
import time
from asyncio.log import logger

cdef enum:
    # With work ready the loop still polls after so many callbacks or so many nanoseconds.
    MAX_CALLBACKS_BETWEEN_POLLS = 61
    MAX_NS_BETWEEN_POLLS = 250_000
    FIRST_RING_SIZE = 64


@cython.final
cdef class Watcher:
    """One watched descriptor."""

    cdef int update(self) except -1:
        """Brings the kernel's view in line with the handles."""
        cdef uint32_t events = 0
        if self.reader is not None:
            events |= FC_READ
        if self.writer is not None:
            events |= FC_WRITE
        cdef int err = fc_source_set(self.core.reactor, &self.owned.source, events)
        if err < 0:
            raise error_of(err)
        return 0


cdef void source_ready(fc_source *source, uint32_t events) noexcept:
    cdef Watcher w = <Watcher>(<OwnedSource *>source).owner
    cdef LoopCore core = w.core
    try:
        if events & (FC_READ | FC_ERROR) and w.reader is not None:
            core.push(w.reader)
        if events & (FC_WRITE | FC_ERROR) and w.writer is not None:
            core.push(w.writer)
    except BaseException:
        core.keep_failure()


cdef void timer_ready(fc_timer *timer) noexcept:
    cdef TimerHandle handle = handle_of(timer)
    cdef LoopCore core = handle._loop
    try:
        core.push(handle)
    except BaseException:
        core.keep_failure()
    finally:
        Py_DECREF(handle)


cdef class LoopCore:
    """The part of an event loop that runs on every turn. See ``flowcore.loop.EventLoop``."""

    def __cinit__(self, *args, **kwargs):
        self.watchers = {}
        self.ring = <PyObject **>malloc(FIRST_RING_SIZE * sizeof(PyObject *))
        if self.ring is NULL:
            raise MemoryError()
        self.ring_mask = FIRST_RING_SIZE - 1
        cdef int err = fc_reactor_open(&self.reactor, NULL)
        if err < 0:
            raise error_of(err)

    def __dealloc__(self):
        self.release()

    cdef void release(self) noexcept:
        """Gives back what the loop holds; a closed loop holds nothing."""
        cdef fc_timer *timer
        if self.reactor is not NULL:
            while True:
                timer = fc_timers_any(&self.reactor.timers)
                if timer is NULL:
                    break
                fc_timer_cancel(&self.reactor.timers, timer)
                if timer.fire == timer_ready:
                    Py_DECREF(handle_of(timer))
            fc_reactor_close(self.reactor)
            self.reactor = NULL
        if self.ring is not NULL:
            self.clear_ready()
            free(self.ring)
            self.ring = NULL

    cdef void clear_ready(self) noexcept:
        cdef PyObject *handle
        while self.ring_len:
            handle = self.ring[self.ring_head]
            self.ring_head = (self.ring_head + 1) & self.ring_mask
            self.ring_len -= 1
            Py_DECREF(<object>handle)

    cdef fc_reactor *open_reactor(self) except NULL:
        """The reactor, for a package that puts its own protocols on it."""
        if self.reactor is NULL or self._closed:
            raise RuntimeError("Event loop is closed")
        return self.reactor

    cdef int keep_failure(self) except -1:
        """Keeps the exception being handled, for the turn to raise once the reactor is done. Called
        where a C callback cannot raise."""
        if self.failure is None:
            self.failure = sys.exc_info()[1]
        return 0

    # ---- the ready queue -----------------------------------------------------------------------

    cdef int grow(self) except -1:
        cdef size_t size = (self.ring_mask + 1) * 2
        cdef size_t i
        cdef PyObject **ring = <PyObject **>malloc(size * sizeof(PyObject *))
        if ring is NULL:
            raise MemoryError()
        for i in range(self.ring_len):
            ring[i] = self.ring[(self.ring_head + i) & self.ring_mask]
        free(self.ring)
        self.ring = ring
        self.ring_head = 0
        self.ring_mask = size - 1
        return 0

    cdef int push(self, object handle) except -1:
        if self.ring is NULL:
            return 0
        if self.ring_len > self.ring_mask:
            self.grow()
        Py_INCREF(handle)
        self.ring[(self.ring_head + self.ring_len) & self.ring_mask] = <PyObject *>handle
        self.ring_len += 1
        return 0

    cdef int run_handle(self, object handle) except -1:
        if isinstance(handle, Handle):
            if not (<Handle>handle)._cancelled:
                if self._debug:
                    self._run_in_debug(handle)
                else:
                    (<Handle>handle).run()
        elif not handle._cancelled:
            # The standard library's own handles, made by the code inherited from it.
            handle._run()
        return 0

    cdef int run_ready(self) except -1:
        """Runs what is ready now; what these callbacks schedule waits for the next turn."""
        cdef size_t todo = self.ring_len
        cdef PyObject *entry
        cdef object handle
        self.ran += <unsigned int>todo
        while todo and self.ring_len:
            todo -= 1
            entry = self.ring[self.ring_head]
            self.ring_head = (self.ring_head + 1) & self.ring_mask
            self.ring_len -= 1
            handle = <object>entry
            Py_DECREF(handle)
            self.run_handle(handle)
        return 0

    # ---- the turn ------------------------------------------------------------------------------

    cdef int poll(self) except -1:
        """Sends what the last turn wrote, then waits for events and takes them in. The GIL is
        released only for a wait that may sleep: giving it up for a look at the queue would cost a
        busy program a switch of threads each time."""
        cdef fc_reactor *r = self.reactor
        cdef int err
        fc_reactor_end_turn(r)
        cdef int64_t timeout = 0
        if not self.ring_len and not self._stopping:
            timeout = fc_reactor_timeout(r, FC_WAIT_FOREVER)
        if timeout:
            self.sleeping = True
            with nogil:
                err = fc_reactor_wait(r, timeout)
            self.sleeping = False
        else:
            err = fc_reactor_wait(r, 0)
        PyErr_CheckSignals()
        if err < 0:
            raise error_of(err)
        fc_reactor_dispatch(r)
        self.polled_ns = r.now_ns
        self.ran = 0
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        return 0

    def _run_once(self):
        """Runs turns until the loop is told to stop. ``run_forever()`` of the base class calls this
        in its own loop: turning here spares it a Python call a turn."""
        self.ran = MAX_CALLBACKS_BETWEEN_POLLS
        while True:
            if (
                not self.ring_len
                or self.ran >= MAX_CALLBACKS_BETWEEN_POLLS
                or fc_reactor_tick(self.reactor) - self.polled_ns >= MAX_NS_BETWEEN_POLLS
            ):
                self.poll()
            if self.ring_len:
                self.run_ready()
            if self._stopping:
                break
        fc_reactor_end_turn(self.reactor)

    def stop(self):
        """Ends ``run_forever()`` once the callbacks that are ready now have run."""
        self._stopping = True

    def _write_to_self(self):
        fc_reactor_wake(self.reactor)

    def time(self):
        """The loop's clock in seconds: ``time.monotonic()``."""
        return time.monotonic() if self.reactor is NULL else fc_reactor_tick(self.reactor) * 1e-9

    # ---- scheduling ----------------------------------------------------------------------------

    cdef Handle schedule(self, object callback, tuple args, object context):
        cdef Handle handle = Handle.__new__(Handle)
        handle._callback = callback
        handle._args = args
        handle._loop = self
        handle._context = PyContext_CopyCurrent() if context is None else context
        if self._debug:
            self._trace_handle(handle)
        self.push(handle)
        return handle

    cdef int check(self, str caller, object callback) except -1:
        if self._closed:
            raise RuntimeError("Event loop is closed")
        if self._debug:
            self._check_callback(callback, caller)
        return 0

    def call_soon(self, callback, *args, context=None):
        """Has ``callback(*args)`` called on the next turn, after what was scheduled before it.

        Returns a handle to cancel it by. ``context`` defaults to a copy of the current one.
        """
        if self.capturing:
            self.capturing = False
            self.captured = callback
            return None
        self.check("call_soon", callback)
        if self._debug:
            self._check_thread()
        return self.schedule(callback, args, context)

    def call_soon_threadsafe(self, callback, *args, context=None):
        """``call_soon()`` for other threads. A sleeping loop is woken, once for any number of
        calls; one that is awake costs no system call."""
        self.check("call_soon_threadsafe", callback)
        handle = self.schedule(callback, args, context)
        if self.sleeping:
            fc_reactor_wake(self.reactor)
        return handle

    def call_later(self, delay, callback, *args, context=None):
        """Has ``callback(*args)`` called after ``delay`` seconds, never earlier."""
        if delay is None:
            raise TypeError("delay must not be None")
        return self.start_timer(self.time() + delay, callback, args, context)

    def call_at(self, when, callback, *args, context=None):
        """Has ``callback(*args)`` called at ``when`` in seconds of ``loop.time()``."""
        if when is None:
            raise TypeError("when cannot be None")
        return self.start_timer(when, callback, args, context)

    cdef TimerHandle start_timer(self, double when, object callback, tuple args, object context):
        self.check("call_at", callback)
        if self._debug:
            self._check_thread()
        cdef TimerHandle handle = TimerHandle.__new__(TimerHandle)
        handle._callback = callback
        handle._args = args
        handle._loop = self
        handle._context = PyContext_CopyCurrent() if context is None else context
        if self._debug:
            self._trace_handle(handle)
        handle.arm(&self.reactor.timers, when, timer_ready)
        return handle

    def _add_callback(self, handle):
        if not handle._cancelled:
            self.push(handle)

    def _add_callback_signalsafe(self, handle):
        self._add_callback(handle)
        fc_reactor_wake(self.reactor)

    def _timer_handle_cancelled(self, handle):
        pass

    cdef object capture_call(self, object function):
        """Calls ``function()`` and returns the callback that it handed to ``call_soon()``, which is
        then not scheduled: how a task's first step is taken out of its constructor."""
        self.capturing = True
        try:
            function()
            return self.captured
        finally:
            self.capturing = False
            self.captured = None

    # ---- descriptors ---------------------------------------------------------------------------

    cdef Watcher watcher(self, object fd, bint make):
        cdef int number = fd if isinstance(fd, int) else fd.fileno()
        if number < 0:
            raise ValueError(f"Invalid file descriptor: {number}")
        cdef Watcher w = self.watchers.get(number)
        if w is None and make:
            w = Watcher.__new__(Watcher)
            w.core = self
            w.owned.owner = <PyObject *>w
            fc_source_init(&w.owned.source, number, source_ready)
            self.watchers[number] = w
        return w

    cdef int forget_if_idle(self, Watcher w) except -1:
        if w.reader is None and w.writer is None:
            self.watchers.pop(w.owned.source.fd, None)
            # Breaks the cycle with the loop.
            w.core = None
        return 0

    cdef Handle handle_for(self, object callback, tuple args):
        cdef Handle handle = Handle.__new__(Handle)
        handle._callback = callback
        handle._args = args
        handle._loop = self
        handle._context = PyContext_CopyCurrent()
        if self._debug:
            self._trace_handle(handle)
        return handle

    def _add_reader(self, fd, callback, *args):
        self.check("add_reader", callback)
        cdef Watcher w = self.watcher(fd, True)
        old, w.reader = w.reader, self.handle_for(callback, args)
        try:
            w.update()
        except BaseException:
            w.reader = old
            self.forget_if_idle(w)
            raise
        if old is not None:
            old.cancel()
        return w.reader

    def _add_writer(self, fd, callback, *args):
        self.check("add_writer", callback)
        cdef Watcher w = self.watcher(fd, True)
        old, w.writer = w.writer, self.handle_for(callback, args)
        try:
            w.update()
        except BaseException:
            w.writer = old
            self.forget_if_idle(w)
            raise
        if old is not None:
            old.cancel()
        return w.writer

    def _remove_reader(self, fd):
        if self._closed:
            return False
        cdef Watcher w = self.watcher(fd, False)
        if w is None or w.reader is None:
            return False
        old, w.reader = w.reader, None
        w.update()
        self.forget_if_idle(w)
        old.cancel()
        return True

    def _remove_writer(self, fd):
        if self._closed:
            return False
        cdef Watcher w = self.watcher(fd, False)
        if w is None or w.writer is None:
            return False
        old, w.writer = w.writer, None
        w.update()
        self.forget_if_idle(w)
        old.cancel()
        return True

    def _watched(self):
        """``{descriptor: (reader, writer)}``, the handles or None: what the selector would know."""
        return {fd: ((<Watcher>w).reader, (<Watcher>w).writer) for fd, w in self.watchers.items()}

    # ---- the end -------------------------------------------------------------------------------

    def _release(self):
        """Drops every handle, timer and descriptor's watch. Nothing runs afterwards."""
        cdef Watcher w
        for w in list(self.watchers.values()):
            w.reader = w.writer = None
            w.update()
            w.core = None
        self.watchers.clear()
        self.release()
