"""What the loop's scheduling calls return: a callback that can be cancelled."""

cimport cython
from cpython.contextvars cimport PyContext_Enter, PyContext_Exit
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
        self._context = context

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

    cdef int invoke(self) except -1:
        cdef tuple args = self._args
        cdef Py_ssize_t n = len(args)
        if n == 0:
            self._callback()
        elif n == 1:
            self._callback(args[0])
        else:
            self._callback(*args)
        return 0

    cdef int run(self) except -1:
        """Runs the callback in its context. Its errors go to the loop's exception handler; only
        SystemExit and KeyboardInterrupt come out."""
        # Held here: cancel() from within the callback clears the handle.
        context = self._context
        callback = self._callback
        PyContext_Enter(context)
        try:
            self.invoke()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            source = format_helpers._format_callback_source(callback, self._args)
            report = {
                "message": f"Exception in callback {source}",
                "exception": exc,
                "handle": self,
            }
            if self._source_traceback:
                report["source_traceback"] = self._source_traceback
            self._loop.call_exception_handler(report)
        finally:
            PyContext_Exit(context)
        return 0

    def _repr_parts(self):
        parts = [type(self).__name__]
        if self._cancelled:
            parts.append("cancelled")
        if self._callback is not None:
            parts.append(format_helpers._format_callback_source(self._callback, self._args))
        if self._source_traceback:
            frame = tuple(self._source_traceback)[len(self._source_traceback) - 1]
            parts.append(f"created at {frame[0]}:{frame[1]}")
        return parts

    def __repr__(self):
        return f"<{' '.join(self._repr_parts())}>"


@cython.final
cdef class TimerHandle(Handle):
    """A callback waiting for its time, with the surface of ``asyncio.TimerHandle``."""

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
