"""What the loop's scheduling calls return: a callback that can be cancelled."""

cimport cython
from cpython.contextvars cimport PyContext_CopyCurrent, PyContext_Enter, PyContext_Exit
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport uint64_t

from flowcore.kernel.fc_reactor cimport (
    fc_timer,
    fc_timer_arm,
    fc_timer_armed,
    fc_timer_cancel,
    fc_timer_init,
    fc_timers,
)

from asyncio import format_helpers

# As far off as a timer is ever set: 146 years on the monotonic clock.
cdef double FAR_NS = 4.6e18

# From 3.13 on arguments are shown only when asked for.
cdef dict _in_debug = (
    {"debug": True} if format_helpers._format_callback_source.__kwdefaults__ else {}
)


cdef object described(object callback, object args, object loop):
    if loop is not None and loop.get_debug():
        return format_helpers._format_callback_source(callback, args, **_in_debug)
    return format_helpers._format_callback_source(callback, args)


@cython.freelist(256)
cdef class Handle:
    """A callback waiting to be run by the loop; ``cancel()`` takes it back.

    Made by ``loop.call_soon()`` and its like, never by users. It has the surface of
    ``asyncio.Handle``.
    """

    def __init__(self, callback, args, loop, context=None):
        self._callback = callback
        self._args = tuple(args)
        self._loop = loop
        self._context = PyContext_CopyCurrent() if context is None else context

    def cancel(self):
        """Makes the loop skip the callback. A second call, or one after the run, does nothing."""
        self._cancelled = True
        self._callback = None
        self._args = ()

    def cancelled(self):
        """Whether ``cancel()`` was called."""
        return self._cancelled

    def get_context(self):
        """The ``contextvars.Context`` the callback runs in."""
        return self._context

    def _run(self):
        self.run()

    cdef int run(self) except -1:
        """Runs the callback in its context. Its errors go to the loop's exception handler; only
        SystemExit and KeyboardInterrupt come out."""
        # Held here: cancel() from within the callback clears the handle.
        context = self._context
        callback = self._callback
        cdef tuple args = self._args
        cdef Py_ssize_t n = len(args)
        error = None
        PyContext_Enter(context)
        try:
            if n == 0:
                callback()
            elif n == 1:
                callback(args[0])
            else:
                callback(*args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            error = exc
        finally:
            PyContext_Exit(context)
        if error is not None:
            # Outside the context, since the loop runs its exception handler in there.
            self.report(callback, error)
        return 0

    cdef int report(self, object callback, object error) except -1:
        report = {
            "message": f"Exception in callback {described(callback, self._args, self._loop)}",
            "exception": error,
            "handle": self,
        }
        if self._source_traceback:
            report["source_traceback"] = self._source_traceback
        self._loop.call_exception_handler(report)
        return 0

    def _repr_parts(self):
        parts = [type(self).__name__]
        if self._cancelled:
            parts.append("cancelled")
        if self._callback is not None:
            parts.append(described(self._callback, self._args, self._loop))
        if self._source_traceback:
            frame = tuple(self._source_traceback)[len(self._source_traceback) - 1]
            parts.append(f"created at {frame[0]}:{frame[1]}")
        return parts

    def __repr__(self):
        return f"<{' '.join(self._repr_parts())}>"


@cython.final
cdef class TimerHandle(Handle):
    """A callback waiting for its time, with the surface of ``asyncio.TimerHandle``."""

    def __init__(self, when, callback, args, loop, context=None):
        Handle.__init__(self, callback, args, loop, context)
        self._when = when

    def cancel(self):
        """Takes the timer off the loop's wheel, in constant time."""
        self.disarm()
        Handle.cancel(self)

    def when(self):
        """The time at which it is due, in seconds of ``loop.time()``."""
        return self._when

    @property
    def _scheduled(self):
        return self.wheel is not NULL and fc_timer_armed(&self.owned.timer)

    cdef int arm(self, fc_timers *wheel, double when, void (*fire)(fc_timer *) noexcept) except -1:
        cdef double ns = when * 1e9
        cdef uint64_t deadline
        if ns != ns:
            raise ValueError("a timer cannot be due at NaN")
        # One nanosecond on, since the product may have been rounded down: never early.
        deadline = 0 if ns <= 0 else (<uint64_t>FAR_NS if ns > FAR_NS else <uint64_t>ns + 1)
        self._when = when
        self.wheel = wheel
        fc_timer_init(&self.owned.timer, fire)
        self.owned.owner = <PyObject *>self
        fc_timer_arm(wheel, &self.owned.timer, deadline)
        Py_INCREF(self)
        return 0

    cdef int disarm(self) except -1:
        if self.wheel is not NULL and fc_timer_armed(&self.owned.timer):
            fc_timer_cancel(self.wheel, &self.owned.timer)
            Py_DECREF(self)
        return 0

    def _repr_parts(self):
        parts = Handle._repr_parts(self)
        parts.insert(2 if self._cancelled else 1, f"when={self._when}")
        return parts

    def __hash__(self):
        return hash(self._when)

    def __lt__(self, other):
        return self._when < other._when if isinstance(other, TimerHandle) else NotImplemented

    def __le__(self, other):
        return self < other or self == other if isinstance(other, TimerHandle) else NotImplemented

    def __gt__(self, other):
        return self._when > other._when if isinstance(other, TimerHandle) else NotImplemented

    def __ge__(self, other):
        return self > other or self == other if isinstance(other, TimerHandle) else NotImplemented

    def __eq__(self, other):
        if not isinstance(other, TimerHandle):
            return NotImplemented
        return (
            self._when == other._when
            and self._callback == other._callback
            and self._args == other._args
            and self._cancelled == other._cancelled
        )


cdef TimerHandle handle_of(fc_timer *timer):
    """The handle that a timer of the wheel belongs to."""
    return <TimerHandle>(<OwnedTimer *>timer).owner
