"""The loop's engine: the ready queue, timers, watched descriptors and the turn that drives them.

``EventLoop`` puts this in front of the standard library's selector loop: what is hot is here, what
is not is inherited.
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
    fc_post,
    fc_reactor,
    fc_reactor_close,
    fc_reactor_dispatch,
    fc_reactor_end_turn,
    fc_reactor_open,
    fc_reactor_post,
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

cdef enum:
    # With work ready the loop still polls after so many callbacks or so many nanoseconds.
    MAX_CALLBACKS_BETWEEN_POLLS = 61
    MAX_NS_BETWEEN_POLLS = 250_000
    CALLBACKS_BETWEEN_CLOCKS = 4
    FIRST_RING_SIZE = 64
    SCRATCH_BYTES = 1 << 18


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
        if events == self.owned.source.events != 0:
            # The handle was replaced, maybe since the number is that of another file by now, which
            # the kernel does not watch. What differs is set anew.
            self.owned.source.events |= FC_ERROR
        cdef int err = fc_source_set(self.core.reactor, &self.owned.source, events)
        if err < 0:
            raise error_of(err)
        return 0

    cdef int drop(self) except -1:
        """``update()`` after a handle was taken away. That does not fail: a descriptor that was
        closed too early is watched by nobody."""
        try:
            self.update()
        except OSError:
            self.owned.source.events = 0
        if self.owned.source.events == 0:
            self.target = None
        return 0

    cdef int forget(self) except -1:
        """Lets go of everything without a word to the kernel."""
        self.reader = self.writer = self.target = None
        self.owned.source.events = 0
        return 0


cdef object number_of(object fd):
    """The number of a descriptor or of an object that has one; -1 when it has none."""
    if isinstance(fd, int):
        return fd
    try:
        return int(fd.fileno())
    except (AttributeError, TypeError, ValueError):
        return -1


cdef int push_ready(LoopCore core, Handle handle) except -1:
    """Queues a descriptor's handle, once until it has run however often the loop polls."""
    if not handle.queued:
        core.push(handle)
        handle.queued = True
    return 0


cdef void source_ready(fc_source *source, uint32_t events) noexcept:
    cdef Watcher w = <Watcher>(<OwnedSource *>source).owner
    cdef LoopCore core = w.core
    try:
        if events & (FC_READ | FC_ERROR) and w.reader is not None:
            if w.reader._cancelled:
                core._remove_reader(source.fd)
            else:
                push_ready(core, w.reader)
        if events & (FC_WRITE | FC_ERROR) and w.writer is not None:
            if w.writer._cancelled:
                core._remove_writer(source.fd)
            else:
                push_ready(core, w.writer)
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
        self._guests = set()
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
        free(self.input_block)
        self.input_block = NULL

    cdef void clear_ready(self) noexcept:
        while self.ring_len:
            self.pop()

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

    cdef bint post(self, fc_post *p) noexcept nogil:
        """Has ``p.run(p)`` called on the loop's thread, with the GIL. Any thread may post, without
        the GIL as well, as long as something keeps the loop open; false: it was closed."""
        if self.reactor is NULL:
            return False
        fc_reactor_post(self.reactor, p)
        return True

    cdef char *scratch(self, size_t *size) except NULL:
        """Memory for what one call reads and copies out, the loop's for all its transports."""
        if self.input_block is NULL:
            self.input_block = <char *>malloc(SCRATCH_BYTES)
            if self.input_block is NULL:
                raise MemoryError()
        size[0] = SCRATCH_BYTES
        return self.input_block

    # ---- the ready queue -----------------------------------------------------------------------
    #
    # Other threads push too, and what keeps them apart is the GIL. So nothing in these three may
    # let it go: no Python call, and no line tracing either, whose tracer is one.

    @cython.linetrace(False)
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

    @cython.linetrace(False)
    cdef int push(self, object handle) except -1:
        if self.ring is NULL:
            return 0
        if self.ring_len > self.ring_mask:
            self.grow()
        Py_INCREF(handle)
        self.ring[(self.ring_head + self.ring_len) & self.ring_mask] = <PyObject *>handle
        self.ring_len += 1
        return 0

    @cython.linetrace(False)
    cdef object pop(self):
        """The first handle; there must be one."""
        cdef PyObject *entry = self.ring[self.ring_head]
        cdef object handle = <object>entry
        self.ring_head = (self.ring_head + 1) & self.ring_mask
        self.ring_len -= 1
        Py_DECREF(handle)
        return handle

    cdef int run_handle(self, object handle) except -1:
        cdef Handle h
        if isinstance(handle, Handle):
            h = handle
            h.queued = False
            if h._cancelled:
                return 0
            if not self._debug:
                h.run()
                return 0
        elif handle._cancelled:
            return 0
        if self._debug:
            self._run_in_debug(handle)
        else:
            # One of the standard library's own, made by the code inherited from it.
            handle._run()
        return 0

    cdef int run_ready(self) except -1:
        """Runs what is ready now; what these callbacks schedule waits for the next turn. A long
        queue is interrupted to poll, and what that finds ready waits as well."""
        cdef size_t todo = self.ring_len
        while todo:
            todo -= 1
            self.ran += 1
            self.run_handle(self.pop())
            # A nested turn may have run some of them.
            if todo > self.ring_len:
                todo = self.ring_len
            if todo and self.is_due(CALLBACKS_BETWEEN_CLOCKS):
                self.poll()
        return 0

    # ---- the turn ------------------------------------------------------------------------------

    cdef bint is_due(self, unsigned int every) noexcept:
        """Whether it is time to poll although work is ready. The clock, which costs as much as a
        small callback, is read only when the count of callbacks divides by `every`."""
        if self.ran >= MAX_CALLBACKS_BETWEEN_POLLS:
            return True
        if self.ran % every:
            return False
        return fc_reactor_tick(self.reactor) - self.polled_ns >= MAX_NS_BETWEEN_POLLS

    cdef int end_turn(self) except -1:
        self.in_reactor = True
        fc_reactor_end_turn(self.reactor)
        self.in_reactor = False
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        return 0

    @cython.linetrace(False)
    cdef int poll(self) except -1:
        """Sends what the last turn wrote, then waits for events and takes them in.

        From the look at the queue to the mark that the loop sleeps, the GIL is held. It is released
        only for a wait that may sleep: giving it up for a look at the kernel would cost a busy
        program a switch of threads each time."""
        cdef fc_reactor *r = self.reactor
        cdef int err
        self.end_turn()
        # Before the decision to sleep, since a signal's handler may schedule something.
        PyErr_CheckSignals()
        cdef int64_t timeout = 0
        if not self.ring_len and not self._stopping:
            timeout = fc_reactor_timeout(r, FC_WAIT_FOREVER)
        if timeout:
            self.sleeping = True
            with nogil:
                err = fc_reactor_wait(r, timeout)
            self.sleeping = False
            # What a signal's handler raises is the program's, not that of the callback it would
            # otherwise first be noticed in.
            PyErr_CheckSignals()
        else:
            err = fc_reactor_wait(r, 0)
        if err < 0:
            raise error_of(err)
        self.in_reactor = True
        fc_reactor_dispatch(r)
        self.in_reactor = False
        self.polled_ns = r.now_ns
        self.ran = 0
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        return 0

    cdef int turn(self) except -1:
        if not self.ring_len or self.is_due(1):
            self.poll()
        return self.run_ready()

    def _run_once(self):
        """Runs turns until the loop is told to stop: ``run_forever()`` of the base class calls this
        in its own loop, and turning here spares it a Python call a turn. Whoever else calls it, be
        it from a callback, gets one turn."""
        if self.reactor is NULL:
            raise RuntimeError("Event loop is closed")
        if self.in_reactor:
            raise RuntimeError("the event loop cannot be run from within its reactor's callbacks")
        cdef bint once = self._turning or self._thread_id is None
        self._turning += 1
        self.ran = MAX_CALLBACKS_BETWEEN_POLLS
        try:
            self.turn()
            while not (once or self._stopping):
                self.turn()
            self.end_turn()
        finally:
            self._turning -= 1

    def stop(self):
        """Ends ``run_forever()`` once the callbacks that are ready now have run."""
        self._stopping = True

    def _write_to_self(self):
        if self.reactor is not NULL:
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
        if self.capturing is not None and getattr(callback, "__self__", None) is self.capturing:
            self.capturing = None
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
        if self.sleeping:
            fc_reactor_wake(self.reactor)

    def _timer_handle_cancelled(self, handle):
        pass

    cdef object capture_call(self, object function, object owner):
        """Calls ``function()`` and returns the method of `owner` that it handed to ``call_soon()``,
        which is then not scheduled: how a task's first step is taken out of its constructor. What
        a finalizer schedules meanwhile, when memory is collected, is not `owner`'s."""
        self.capturing = owner
        try:
            function()
            return self.captured
        finally:
            self.capturing = None
            self.captured = None

    # ---- descriptors ---------------------------------------------------------------------------

    # A watcher is kept for its number until the loop is closed. The kernel may report a descriptor
    # after it was closed, as long as a duplicate is open, and does so by the watcher's address.

    cdef Watcher watcher(self, object fd):
        cdef int number = number_of(fd)
        if number < 0:
            raise ValueError(f"Invalid file descriptor: {fd!r}")
        cdef Watcher w = self.watchers.get(number)
        if w is None:
            w = Watcher.__new__(Watcher)
            w.core = self
            w.owned.owner = <PyObject *>w
            fc_source_init(&w.owned.source, number, source_ready)
            self.watchers[number] = w
        w.target = fd
        return w

    cdef Watcher find(self, object fd):
        """The watcher of a descriptor, or None if it never had one."""
        cdef Watcher w
        number = number_of(fd)
        if number >= 0:
            return self.watchers.get(number)
        for w in self.watchers.values():
            if w.target is fd:
                return w
        return None

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
        cdef Watcher w = self.watcher(fd)
        old, w.reader = w.reader, self.handle_for(callback, args)
        try:
            w.update()
        except BaseException:
            w.reader = old
            raise
        if old is not None:
            old.cancel()
        return w.reader

    def _add_writer(self, fd, callback, *args):
        self.check("add_writer", callback)
        cdef Watcher w = self.watcher(fd)
        old, w.writer = w.writer, self.handle_for(callback, args)
        try:
            w.update()
        except BaseException:
            w.writer = old
            raise
        if old is not None:
            old.cancel()
        return w.writer

    def _remove_reader(self, fd):
        if self._closed:
            return False
        cdef Watcher w = self.find(fd)
        if w is None or w.reader is None:
            return False
        old, w.reader = w.reader, None
        w.drop()
        old.cancel()
        return True

    def _remove_writer(self, fd):
        if self._closed:
            return False
        cdef Watcher w = self.find(fd)
        if w is None or w.writer is None:
            return False
        old, w.writer = w.writer, None
        w.drop()
        old.cancel()
        return True

    def _watched(self):
        """``{descriptor: (reader, writer)}``, the handles or None: what the selector would know."""
        cdef Watcher w
        return {
            fd: (w.reader, w.writer)
            for fd, w in self.watchers.items()
            if w.reader is not None or w.writer is not None
        }

    # ---- the end -------------------------------------------------------------------------------

    def _forget_watches(self):
        """Drops the descriptors' handles. The kernel is not told: its set is about to be closed,
        and after a fork it is the parent's as well, which goes on with it."""
        cdef Watcher w
        for w in list(self.watchers.values()):
            w.forget()

    def _release(self):
        """Drops every handle, timer and descriptor's watch. Nothing runs afterwards."""
        cdef Watcher w
        self._forget_watches()
        self.release()
        for w in self.watchers.values():
            # Opens the circle.
            w.core = None
        self.watchers.clear()
