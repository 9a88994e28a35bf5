"""Steps handlers' coroutines at once, and gives them a task when they need one.

Most handlers never suspend. Such a one is stepped to its end right here: no task is made, no turn
of the loop passes. Yet ``asyncio.current_task()``, and with it timeouts, task groups and
cancellation, must behave in it as in any task. So the current task is set to a ``HandlerTask`` that
exists already but is empty, and it is made real, by running ``asyncio.Task.__init__`` on it, when

* somebody calls one of its methods, or
* the coroutine suspends.

A real task runs a ``Shim`` in the coroutine's place, which knows what has happened before the task
was there::

    EAGER ──returns, raises──> ENDED       the task, if real, is told so by its first step
      └──yields──> YIELDED ──first step hands on what was yielded──> RUNNING ──> the sink is told
"""

cimport cython
from cpython.contextvars cimport PyContext_Enter, PyContext_Exit
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF

from flowcore.loop.core cimport LoopCore

import asyncio
import sys
from asyncio import CancelledError, Task, isfuture
from asyncio.tasks import _enter_task, _leave_task

from flowcore.loop.task import HandlerTask

cdef extern from "Python.h":
    ctypedef enum PySendResult:
        PYGEN_RETURN
        PYGEN_ERROR
        PYGEN_NEXT

    PySendResult PyIter_Send(object iter, object arg, PyObject **result) except PYGEN_ERROR

cdef extern from *:
    """
    /* Whether nobody but its one owner can reach `o`. A type without a fixed place for weak
     * references counts as one that has some. */
    static int fc_is_private(PyObject *o) {
      Py_ssize_t offset = Py_TYPE(o)->tp_weaklistoffset;
      return Py_REFCNT(o) == 1 && offset > 0 && *(PyObject **)((char *)o + offset) == NULL;
    }
    """
    bint fc_is_private(PyObject *o)

# Up to Python 3.13 the current task of each loop stands in a dict: that spares two calls a request.
cdef dict current_tasks = asyncio.tasks._current_tasks if sys.version_info < (3, 14) else None
cdef object task_init = Task.__init__

cdef enum:
    EAGER
    YIELDED
    RUNNING
    ENDED


cdef class Sink:
    cdef int on_result(self, object result) except -1:
        raise NotImplementedError

    cdef int on_error(self, object error) except -1:
        raise NotImplementedError


@cython.final
cdef class Shim:
    """Stands between a task and the coroutine that was stepped before the task was real."""

    # ---- what asyncio asks of a coroutine ------------------------------------------------------

    def __iter__(self):
        return self

    def __await__(self):
        return self

    def __next__(self):
        return self.advance(None, None)

    def send(self, value):
        return self.advance(value, None)

    def throw(self, kind, value=None, traceback=None):
        if value is None:
            value = kind() if isinstance(kind, type) else kind
        if traceback is not None:
            value = value.with_traceback(traceback)
        return self.advance(None, value)

    def close(self):
        self.coro.close()

    @property
    def __name__(self):
        return getattr(self.coro, "__name__", "handler")

    @property
    def __qualname__(self):
        return getattr(self.coro, "__qualname__", "handler")

    @property
    def cr_code(self):
        return getattr(self.coro, "cr_code", None)

    @property
    def cr_frame(self):
        return getattr(self.coro, "cr_frame", None)

    @property
    def cr_running(self):
        return getattr(self.coro, "cr_running", False)

    @property
    def cr_await(self):
        return getattr(self.coro, "cr_await", None)

    # --------------------------------------------------------------------------------------------

    def materialise(self):
        """Makes the task real, if it is not."""
        if self.live:
            return
        self.live = True
        self.first_step = self.core.capture_call(self._make_task, self.task)

    def _make_task(self):
        task_init(
            self.task, self, loop=self.core, name=self.__qualname__, context=self.context
        )

    cdef object resume(self, object value, object error):
        """Continues the coroutine: returns what it yields, raises StopIteration at its end."""
        cdef PyObject *result = NULL
        cdef PySendResult sent
        if error is not None:
            return self.coro.throw(error)
        sent = PyIter_Send(self.coro, value, &result)
        answer = <object>result
        Py_DECREF(answer)
        if sent == PYGEN_NEXT:
            return answer
        raise StopIteration(answer)

    cdef object hand_on(self, object error):
        """The task's first step after the coroutine was suspended. True: the step is over, and what
        was yielded is returned. `error`: the task was cancelled before it was seen waiting, so what
        it waits for is cancelled, as the task would have done."""
        awaited, self.awaited = self.awaited, None
        self.phase = RUNNING
        if awaited is None or error is None:
            return awaited
        if isinstance(error, CancelledError) and isfuture(awaited) and awaited.cancel(*error.args):
            return awaited
        return None

    cdef object advance(self, object value, object error):
        """A step made by the task."""
        if self.phase == ENDED:
            self.replay()
        if self.phase == YIELDED:
            awaited = self.hand_on(error)
            if awaited is not None:
                return awaited
        try:
            return self.resume(value, error)
        except StopIteration as stop:
            self.finish().on_result(stop.value)
            raise
        except BaseException as exc:
            self.finish().on_error(exc)
            raise

    cdef Sink finish(self):
        """Ends the shim's part: the sink is let go of, and the circle with the task opened."""
        sink, self.sink = self.sink, None
        sink.task = None
        self.phase = ENDED
        self.task = None
        self.context = None
        return sink

    cdef int replay(self) except -1:
        """Tells the task how the coroutine ended before the task's first step."""
        outcome, self.outcome = self.outcome, None
        if isinstance(outcome, BaseException):
            raise outcome
        raise StopIteration(outcome[0] if outcome else None)


@cython.final
cdef class Driver:
    """Drives handlers on one loop."""

    def __init__(self, loop):
        self.core = loop
        self.loop = loop

    cdef Shim new_shim(self):
        cdef Shim shim = Shim.__new__(Shim)
        shim.core = self.core
        shim.task = HandlerTask.__new__(HandlerTask)
        shim.task._shim = shim
        return shim

    cdef object start(self, object coro, object context, Sink sink):
        """Steps `coro` in `context`, to its end or to where it suspends.

        At its end: returns its result, or raises what it raised. Suspended: `self.suspended` is
        set, None is returned, and the sink is told later (or has been told, if the coroutine was
        cancelled at once).
        """
        cdef Shim shim = self.spare
        if shim is None:
            shim = self.new_shim()
        self.spare = None
        self.suspended = False
        shim.coro = coro
        shim.context = context
        shim.sink = sink
        shim.phase = EAGER
        PyContext_Enter(context)
        try:
            return self.first_step(shim)
        finally:
            PyContext_Exit(context)

    cdef object first_step(self, Shim shim):
        cdef PyObject *value = NULL
        cdef PySendResult sent = PYGEN_ERROR
        cdef object answer = None
        cdef object error = None
        if current_tasks is not None:
            current_tasks[self.loop] = shim.task
        else:
            _enter_task(self.loop, shim.task)
        try:
            sent = PyIter_Send(shim.coro, None, &value)
        except BaseException as exc:
            error = exc
        if current_tasks is not None:
            del current_tasks[self.loop]
        else:
            _leave_task(self.loop, shim.task)
        if error is None:
            answer = <object>value
            Py_DECREF(answer)
            if sent == PYGEN_NEXT:
                self.suspend(shim, answer)
                return None
        self.end(shim, answer, error)
        if error is not None:
            raise error
        return answer

    cdef int suspend(self, Shim shim, object awaited) except -1:
        """From here on the coroutine is the task's. A bare yield costs it a turn of the loop, as it
        would in any task; a future is handed on at once."""
        shim.materialise()
        shim.phase = YIELDED
        shim.awaited = awaited
        shim.sink.task = shim.task
        self.suspended = True
        step, shim.first_step = shim.first_step, None
        if awaited is None:
            self.core.schedule(step, (), shim.context)
        else:
            step()
        return 0

    cdef int end(self, Shim shim, object answer, object error) except -1:
        """The coroutine ended in its first step: the shim serves the next one, unless somebody
        holds the task. Then the task becomes real, if it was not, and is told."""
        if not shim.live:
            if fc_is_private(<PyObject *>shim.task):
                shim.coro = shim.context = shim.sink = None
                self.spare = shim
                return 0
            shim.materialise()
        shim.finish()
        shim.outcome = (answer,) if error is None else error
        step, shim.first_step = shim.first_step, None
        step()
        return 0
