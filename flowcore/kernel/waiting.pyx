"""Waiting for a bounded queue, in threads and in coroutines: what all queues have in common."""

cimport cython
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from libc.stdint cimport int64_t, uint32_t

from flowcore.kernel.fc_waiter cimport fc_waiter_cancel
from flowcore.kernel.gate cimport Gate, Party

import queue
import time
import types
from asyncio import CancelledError, get_running_loop
from math import isnan

from flowcore.errors import FlowcoreError, InvalidArgument

__all__ = ["QueueClosed", "QueueEmpty", "QueueFull", "Turn", "WaitableQueue"]

cdef extern from *:
    """
    /* Ends an await with `value`: StopIteration without the cost of calling the class, which is
     * only needed where PyErr_SetObject() would take the value apart. */
    static int fc_stop_iteration(PyObject *value) {
      if (!PyTuple_Check(value) && !PyExceptionInstance_Check(value)) {
        PyErr_SetObject(PyExc_StopIteration, value);
        return -1;
      }
      PyObject *stop = PyObject_CallOneArg(PyExc_StopIteration, value);
      if (stop) {
        PyErr_SetObject(PyExc_StopIteration, stop);
        Py_DECREF(stop);
      }
      return -1;
    }
    """
    int fc_stop_iteration(object value) except -1
    void fc_set_stop_iteration "fc_stop_iteration" (object value)

cdef extern from "Python.h":
    ctypedef enum PySendResult:
        PYGEN_RETURN
        PYGEN_ERROR
        PYGEN_NEXT

    ctypedef PySendResult (*sendfunc)(PyObject *, PyObject *, PyObject **) except PYGEN_ERROR
    ctypedef PyObject *(*iternextfunc)(PyObject *) except? NULL

    ctypedef struct PyAsyncMethods:
        sendfunc am_send

    ctypedef struct PyTypeObject:
        iternextfunc tp_iternext
        PyAsyncMethods *tp_as_async

# From Python 3.13 on the queues of the standard library can be shut down too.
_ShutDown = getattr(queue, "ShutDown", None)


class QueueEmpty(FlowcoreError, queue.Empty):
    """No item came in time."""


class QueueFull(FlowcoreError, queue.Full):
    """No room came free in time."""


class QueueClosed(FlowcoreError, *(() if _ShutDown is None else (_ShutDown,))):
    """The queue was closed: it takes nothing more, and nothing is left in it."""


NOT_YET = object()


cdef class WaitableQueue:
    """The waiting side of a queue.

    A subclass tells when there are items and room, and ``attempt()`` does one operation of its own
    numbering without waiting.
    """

    def __cinit__(self, *args, **kwargs):
        self.filled = Gate.__new__(Gate)
        self.emptied = Gate.__new__(Gate)

    cdef bint has_items(self) noexcept nogil:
        return False

    cdef bint has_room(self) noexcept nogil:
        return False

    cdef object attempt(self, int op, object argument):
        """The operation's result, or NOT_YET. Raises QueueClosed once it can never succeed, or what
        the await is to end with."""
        raise NotImplementedError

    # ---- threads -------------------------------------------------------------------------------

    cdef int64_t deadline_of(self, bint block, object timeout) except? -2:
        """When a wait ends, by CLOCK_MONOTONIC in nanoseconds; -1 is never, 0 at once."""
        cdef double seconds
        if timeout is None:
            return -1 if block else 0
        seconds = timeout
        if seconds < 0 or isnan(seconds):
            raise InvalidArgument(f"timeout must be a number of seconds, 0 or more: {timeout}")
        if not block or seconds == 0:
            return 0
        return time.monotonic_ns() + <int64_t>(min(seconds, 1e9) * 1e9)

    cdef int refuse(self) except -1:
        raise QueueClosed("the queue is closed")

    cdef int pause_for_items(self, int64_t deadline_ns) except -1:
        """Sleeps, without the GIL, until an attempt to take is worth making again.

        Raises:
            QueueEmpty: the deadline has passed.
            QueueClosed: the queue is closed and empty.
        """
        cdef uint32_t key
        if self.closed:
            if not self.has_items():
                self.refuse()
            return 0
        if deadline_ns == 0 or (deadline_ns > 0 and time.monotonic_ns() >= deadline_ns):
            raise QueueEmpty("the queue is empty")
        key = self.filled.prepare()
        if self.closed or self.has_items():
            fc_waiter_cancel(&self.filled.c.threads, key)
            return 0
        return self.filled.sleep(key, deadline_ns)

    cdef int pause_for_room(self, int64_t deadline_ns) except -1:
        """The same until an attempt to put is.

        Raises:
            QueueFull: the deadline has passed.
            QueueClosed: the queue is closed.
        """
        cdef uint32_t key
        if self.closed:
            self.refuse()
        if deadline_ns == 0 or (deadline_ns > 0 and time.monotonic_ns() >= deadline_ns):
            raise QueueFull("the queue is full")
        key = self.emptied.prepare()
        if self.closed or self.has_room():
            fc_waiter_cancel(&self.emptied.c.threads, key)
            return 0
        return self.emptied.sleep(key, deadline_ns)

    # ---- coroutines ----------------------------------------------------------------------------

    cdef Turn wait_at(self, Gate gate, int op, object argument):
        """An awaitable for ``attempt(op, argument)``, made again whenever the gate opens."""
        cdef Turn turn = Turn.__new__(Turn)
        turn.queue = self
        turn.gate = gate
        turn.op = op
        turn.argument = argument
        return turn

    # ---- life ----------------------------------------------------------------------------------

    def close(self):
        """Ends the queue: who waits for room, and who puts from now on, gets ``QueueClosed``. What
        is in it can still be taken; then takers get ``QueueClosed``. Nothing happens the second
        time."""
        if not self.closed:
            self.closed = True
            try:
                self.filled.wake_all()
            finally:
                self.emptied.wake_all()

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.close()


@cython.final
@cython.freelist(64)
cdef class Turn:
    """A coroutine's turn at a queue: awaited once, it answers at once where it can.

    It has the methods of a coroutine, so a task can be made of it.
    """

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        return self.step()

    @classmethod
    def __class_getitem__(cls, item, /):
        return types.GenericAlias(cls, item)

    def send(self, value, /):
        return self.step()

    cdef object step(self):
        """Raises StopIteration with the result, or gives the future to wait for."""
        result = self.advance()
        if self.future is None:
            fc_stop_iteration(result)
        return result

    cdef object advance(self):
        """Gives the result, or the future to wait for, which is ``self.future`` then."""
        if self.queue is None:
            raise RuntimeError("cannot reuse an awaited operation of a queue")
        if self.future is not None:
            if not self.future.done():
                raise RuntimeError("a queue's operation was resumed before it was woken")
            if self.future.cancelled():
                self.abandon()
                raise CancelledError()
            self.future = None
        result = self.attempt()
        return self.suspend() if result is NOT_YET else result

    cdef object attempt(self):
        try:
            result = self.queue.attempt(self.op, self.argument)
        except BaseException:
            self.abandon()
            raise
        if result is not NOT_YET:
            self.abandon()
        return result

    cdef object suspend(self):
        """The future to wait for; or the result, which has come meanwhile."""
        cdef bint woken = self.party is not None
        if not woken:
            self.party = self.gate.party_of(get_running_loop())
        self.future = self.party.loop.create_future()
        self.gate.enter(self.party, self.future, woken)
        result = self.attempt()
        if result is not NOT_YET:
            return result
        # What a future of asyncio says to the task that it is yielded to.
        self.future._asyncio_future_blocking = True
        return self.future

    cdef int abandon(self) except -1:
        """Done, or given up: nothing waits any more."""
        future, self.future = self.future, None
        self.queue = None
        if future is not None:
            self.gate.leave(self.party, future)
        return 0

    def throw(self, kind, value=None, trace=None, /):
        self.abandon()
        if value is None:
            value = kind() if isinstance(kind, type) else kind
        raise value.with_traceback(trace) if trace is not None else value

    def close(self):
        self.abandon()

    def __dealloc__(self):
        # A task that is dropped while it waits.
        if self.future is not None and self.gate is not None and self.party is not None:
            self.abandon()


# What tasks and ``await`` use, filled in by hand, since StopIteration that leaves a function of
# Cython gets a traceback, which costs several times the operation.
cdef PySendResult send_turn(PyObject *self, PyObject *value, PyObject **answer) except PYGEN_ERROR:
    cdef Turn turn = <Turn>self
    result = turn.advance()
    Py_INCREF(result)
    answer[0] = <PyObject *>result
    return PYGEN_RETURN if turn.future is None else PYGEN_NEXT


cdef PyObject *next_turn(PyObject *self) except? NULL:
    cdef Turn turn = <Turn>self
    result = turn.advance()
    if turn.future is None:
        if result is not None:  # which an iterator that ends without an exception stands for
            fc_set_stop_iteration(result)
        return NULL
    Py_INCREF(result)
    return <PyObject *>result


(<PyTypeObject *>Turn).tp_iternext = next_turn
(<PyTypeObject *>Turn).tp_as_async.am_send = send_turn
