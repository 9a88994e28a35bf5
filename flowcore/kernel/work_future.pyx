"""The futures and tasks of a work-stealing pool, and the sleeping of threads that wait for them.

A task's state moves by compare-and-swap: whoever takes it from PENDING owns what follows. A
future's lists change in a critical section, which is the GIL where there is one.
"""

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

from flowcore.kernel.errors cimport error_of
from flowcore.kernel.fc_concurrent cimport fc_cpu_relax
from flowcore.kernel.fc_reactor cimport fc_mem_libc
from flowcore.kernel.fc_waiter cimport (
    FC_WAITER_NEVER,
    FC_WAITER_PRIVATE,
    fc_waiter_cancel,
    fc_waiter_commit,
    fc_waiter_fini,
    fc_waiter_init,
    fc_waiter_notify,
    fc_waiter_prepare,
)
from flowcore.kernel.fc_wsdeque cimport (
    fc_wsdeque_free,
    fc_wsdeque_new,
    fc_wsdeque_pop,
    fc_wsdeque_push,
)
from flowcore.kernel.words cimport ws_add, ws_drop, ws_load, ws_move, ws_store

import asyncio
import logging
import os
import threading
import weakref
from concurrent.futures import CancelledError, Future, InvalidStateError

__all__ = ["WorkFuture"]

cdef extern from *:
    """
    /* The worker that this thread is; borrowed, its thread holds it. */
    static _Thread_local PyObject *ws_worker;
    static inline PyObject *ws_get_worker(void) { return ws_worker; }
    static inline void ws_set_worker(PyObject *worker) { ws_worker = worker; }

    /* How deep this thread, which is no worker, is in tasks that it runs itself. */
    static _Thread_local int ws_depth;
    static inline int ws_nested(int change) { return ws_depth += change; }

    /* type() without the cost of a call. */
    static inline PyObject *ws_new(PyObject *type, PyObject *no_args) {
      return ((PyTypeObject *)type)->tp_new((PyTypeObject *)type, no_args, NULL);
    }
    """
    PyObject *ws_get_worker() nogil
    void ws_set_worker(PyObject *worker) nogil
    int ws_nested(int change) nogil
    object ws_new(object cls, object no_args)

cdef extern from "Python.h":
    object PyObject_Call(object fn, object args, PyObject *kwargs)
    object PyContext_New()
    int PyContext_Enter(object context) except -1
    int PyContext_Exit(object context) except -1
    unsigned long PyThread_get_thread_ident()

cdef enum:
    LOCAL_CAPACITY = 256
    MIN_HUSKS = 1024      # below this cancelled tasks are not swept out
    SPIN_TRY_NS = 20_000  # long enough for a thread to wake up
    SPIN_MIN_NS = 1_000
    SPIN_RETRY = 32       # of the times that spinning was passed over
    RELAX_STEP = 16
    SLICE_NS = 250_000_000
    MAX_NESTED = 16       # tasks that a thread outside of the pool runs inside of each other

cdef tuple STATE_NAMES = ("PENDING", "RUNNING", "CANCELLED", "CANCELLED_AND_NOTIFIED", "FINISHED")
cdef tuple STATE_WORDS = ("pending", "running", "cancelled", "cancelled", "finished")
cdef tuple NO_ARGS = ()
cdef object LOGGER = logging.getLogger("concurrent.futures")
cdef object running_loop = asyncio._get_running_loop
cdef object cancel_future = asyncio.Future.cancel
cdef unsigned long main_thread = threading.main_thread().ident


cdef bint on_main_thread() noexcept:
    return PyThread_get_thread_ident() == main_thread


cdef uint64_t now_ns() noexcept nogil:
    cdef timespec t
    clock_gettime(CLOCK_MONOTONIC, &t)
    return <uint64_t>t.tv_sec * 1_000_000_000 + <uint64_t>t.tv_nsec


# ---- spinning ------------------------------------------------------------------------------------


cdef uint32_t spin_budget(Spin *spin) noexcept nogil:
    """How long to look now; 0 is not at all. One time in many it is tried anew."""
    if spin.budget_ns >= SPIN_MIN_NS:
        return spin.budget_ns
    spin.passed += 1
    return SPIN_TRY_NS if spin.passed % SPIN_RETRY == 0 else 0


cdef void spin_ended(Spin *spin, bint found, uint32_t most_ns) noexcept nogil:
    spin.budget_ns = most_ns if found else spin.budget_ns // 2


cdef void relax() noexcept nogil:
    cdef int i
    for i in range(RELAX_STEP):
        fc_cpu_relax()


# ---- parkers -------------------------------------------------------------------------------------


cdef Parker *parker_new() except NULL:
    cdef Parker *parker = <Parker *>malloc(sizeof(Parker))
    if parker is NULL:
        raise MemoryError()
    cdef int err = fc_waiter_init(&parker.waiter, FC_WAITER_PRIVATE)
    if err < 0:
        free(parker)
        raise error_of(err)
    parker.next = NULL
    parker.done = 0
    parker.holders = 1
    return parker


cdef void parker_drop(Parker *parker) noexcept nogil:
    if ws_drop(&parker.holders) == 0:
        fc_waiter_fini(&parker.waiter)
        free(parker)


cdef void parkers_signal(Parker *parker) noexcept nogil:
    """Wakes all of a list, which is gone then."""
    cdef Parker *next
    while parker is not NULL:
        next = parker.next
        ws_store(&parker.done, 1)
        fc_waiter_notify(&parker.waiter)
        parker_drop(parker)
        parker = next


cdef Parker *parkers_join(Parker *first, Parker *then) noexcept:
    cdef Parker *last = first
    if first is NULL:
        return then
    while last.next is not NULL:
        last = last.next
    last.next = then
    return first


cdef int parker_sleep(Parker *parker, uint64_t deadline_ns) noexcept nogil:
    """Until it is signalled; an error of fc_waiter_commit() ends it as well."""
    cdef uint32_t key
    cdef int err
    while not ws_load(&parker.done):
        key = fc_waiter_prepare(&parker.waiter)
        if ws_load(&parker.done):
            fc_waiter_cancel(&parker.waiter, key)
            break
        err = fc_waiter_commit(&parker.waiter, key, deadline_ns)
        if err < 0:
            return err
    return 0


@cython.nonecheck(False)  # it has no place without the GIL
cdef bint parker_spin(Parker *parker, Home home) noexcept nogil:
    """Looks for a while whether it is signalled at once, which spares both sides a system call."""
    cdef Spin *spin = &home.result_spin
    cdef uint32_t budget = spin_budget(spin)
    if budget == 0:
        return False
    if budget == SPIN_TRY_NS:
        # It pays only if both sides do: the worker is to try as well, when it is done.
        home.idle_spin.budget_ns = home.spin_max_ns
    cdef uint64_t end = now_ns() + budget
    cdef bint found = False
    while not found and now_ns() < end:
        relax()
        found = ws_load(&parker.done)
    spin_ended(spin, found, home.spin_max_ns)
    return found


# ---- where tasks come from -----------------------------------------------------------------------


cdef class Home:
    """What a task knows of its scheduler."""

    cdef int sweep(self) except -1:
        raise NotImplementedError


# ---- tasks ---------------------------------------------------------------------------------------


cdef class Task:
    """A call that is to be made, and what came of it."""

    cdef int load(self, object fn, tuple args, dict kwargs) except -1:
        self.fn = fn
        self.args = args
        self.kwargs = kwargs if kwargs else None
        return 0

    cdef bint claim(self) noexcept:
        """True: the task is the caller's to run."""
        return ws_move(&self.state, PENDING, RUNNING)

    cdef int leave_queue(self) except -1:
        """Of a task that was taken out of PENDING while its entry stays where it is."""
        cdef Home home = self.scheduler
        if home is None:
            return 0
        self.scheduler = None
        ws_add(&home.pending, -1)
        if not self.is_local:
            if ws_add(&home.husks, 1) > MIN_HUSKS and 2 * home.husks > home.queued:
                home.sweep()
        return 0

    cdef object invoke(self):
        fn, self.fn = self.fn, None
        args, self.args = self.args, None
        kwargs, self.kwargs = self.kwargs, None
        return PyObject_Call(fn, args, NULL if kwargs is None else <PyObject *>kwargs)

    cdef int call(self, Worker worker) except -1:
        """Runs the task, which is claimed, in this thread."""
        cdef object value = None
        cdef object error = None
        cdef Home home = self.home
        if worker is not None:
            self.under = worker.current
            worker.current = <PyObject *>self
            worker.begun += 1
        else:
            ws_add(&home.begun_outside, 1)
        try:
            value = self.invoke()
        except BaseException as raised:
            error = raised
        if worker is None:
            ws_add(&home.completed_outside if error is None else &home.failed_outside, 1)
        else:
            worker.current = self.under
            if error is None:
                worker.completed += 1
            else:
                worker.failed += 1
        self.value = value
        self.error = error
        self.publish(FINISHED, worker)
        return 0

    cdef bint give_up(self) except -1:
        """Cancels the task if it has not begun; its call is dropped at once."""
        if not ws_move(&self.state, PENDING, CANCELLED):
            return False
        fn, self.fn = self.fn, None
        args, self.args = self.args, None
        kwargs, self.kwargs = self.kwargs, None
        if self.home is not None:
            ws_add(&self.home.cancelled, 1)
            self.leave_queue()
        self.publish(CANCELLED if self.home is None else NOTIFIED, None)
        return True

    cdef int publish(self, uint32_t state, Worker worker) except -1:
        """Makes the outcome, stored already, known to whoever waits for it."""
        raise NotImplementedError

    cdef int orphan(self) except -1:
        """In a child after a fork: ends the task; nobody is told."""
        self.fn = self.args = self.kwargs = None
        self.scheduler = None
        ws_store(&self.state, NOTIFIED if self.error is None else FINISHED)
        return 0


cdef class FutureCore(Task):
    """The working half of WorkFuture."""

    def __init__(self):
        # In place of concurrent.futures.Future's own: all there is begins empty.
        pass

    # ---- for the machinery ---------------------------------------------------------------------

    cdef Parker *detach(self, uint32_t state):
        """Sets the state and takes off whoever sleeps. In the future's critical section."""
        cdef Parker *parkers = self.parkers
        self.parkers = NULL
        ws_store(&self.state, state)
        return parkers

    cdef int publish(self, uint32_t state, Worker worker) except -1:
        cdef Parker *parkers = NULL
        cdef list callbacks
        cdef object condition
        with cython.critical_section(self):
            condition = self.condition
            if condition is None:
                parkers = self.detach(state)
                callbacks, self.callbacks = self.callbacks, None
        if condition is not None:
            # wait() and as_completed() hold it while they look at the state and enter themselves.
            with condition:
                with cython.critical_section(self):
                    parkers = self.detach(state)
                    callbacks, self.callbacks = self.callbacks, None
                if state != CANCELLED:
                    self.tell_waiters()
                condition.notify_all()
        if parkers is not NULL:
            if worker is None or self.under is not NULL or callbacks is not None:
                parkers_signal(parkers)
            else:
                worker.due = parkers_join(parkers, worker.due)
        if callbacks is not None:
            self.notify(callbacks)
        return 0

    cdef int tell_waiters(self) except -1:
        if self.waiters is None:
            return 0
        for waiter in self.waiters:
            if self.state != FINISHED:
                waiter.add_cancelled(self)
            elif self.error is not None:
                waiter.add_exception(self)
            else:
                waiter.add_result(self)
        return 0

    cdef int notify(self, list callbacks) except -1:
        for callback in callbacks:
            try:
                callback(self)
            except Exception:
                LOGGER.exception("exception calling callback for %r", self)
        return 0

    cdef int settle(self, object value, object error) except -1:
        if ws_load(&self.state) > RUNNING:
            raise InvalidStateError(f"{STATE_NAMES[self.state]}: {self!r}")
        if self.claim():
            self.leave_queue()
        self.value = value
        self.error = error
        self.publish(FINISHED, None)
        return 0

    cdef int orphan(self) except -1:
        cdef Parker *next
        Task.orphan(self)
        self.condition = self.waiters = self.callbacks = None
        while self.parkers is not NULL:
            # Both of its holders are threads of the parent.
            next = self.parkers.next
            free(self.parkers)
            self.parkers = next
        return 0

    # ---- waiting -------------------------------------------------------------------------------

    cdef int wait_for(self, object timeout) except -1:
        cdef double seconds
        if timeout is None:
            if ws_load(&self.state) == PENDING and self.home is not None and self.run_here():
                return 0
            return self.block(FC_WAITER_NEVER)
        seconds = timeout
        if not seconds > 0:
            return 0
        return self.block(now_ns() + <uint64_t>(min(seconds, 1e9) * 1e9))

    cdef bint run_here(self) except -1:
        """Runs a task that nobody has begun in the thread that waits for it, where that is allowed:
        in the pool's own workers, which would otherwise wait for each other, and with caller_runs.
        """
        cdef PyObject *this = ws_get_worker()
        cdef Worker worker = None
        cdef void *youngest
        if this is not NULL and (<Worker>this).owner is <void *>self.home:
            worker = <Worker>this
        elif not self.home.caller_runs or running_loop() is not None:
            return False
        elif ws_nested(0) == MAX_NESTED:
            # Tasks that wait for each other in a long row: the workers come from its other end.
            return False
        if not self.claim():
            return False
        self.leave_queue()
        if worker is not None and self.is_local:
            # Usually the youngest of this worker's: then no husk is left behind.
            youngest = fc_wsdeque_pop(worker.deque)
            if youngest is <void *>self:
                ws_add(&self.home.queued, -1)
                Py_DECREF(self)
            elif youngest is not NULL:
                fc_wsdeque_push(worker.deque, youngest)
        if worker is not None:
            self.call(worker)
            return True
        # The caller's context variables are none of the task's, as in a thread of the pool.
        context = PyContext_New()
        ws_nested(1)
        PyContext_Enter(context)
        try:
            self.call(None)
        finally:
            PyContext_Exit(context)
            ws_nested(-1)
        if isinstance(self.error, KeyboardInterrupt) and on_main_thread():
            # That was meant for the caller, who may have asked for exception().
            raise self.error
        return True

    @cython.nonecheck(False)  # it has no place without the GIL
    cdef int block(self, uint64_t deadline_ns) except -1:
        """Sleeps without the GIL until the task is done or the deadline has passed.

        The main thread looks for signals now and then: one that comes in the instant before the
        sleep does not end it."""
        cdef Parker *parker = parker_new()
        cdef Home home = self.home
        cdef uint64_t until = deadline_ns
        cdef bint sliced = on_main_thread()
        cdef bint spins = home is not None and home.spin_max_ns > 0
        with cython.critical_section(self):
            if self.state <= RUNNING:
                parker.holders = 2
                parker.next = self.parkers
                self.parkers = parker
            else:
                parker.done = 1
        try:
            while not parker.done:
                with nogil:
                    if spins:
                        ws_add(&home.blocked, 1)
                    if not spins or not parker_spin(parker, home):
                        if sliced:
                            until = min(deadline_ns, now_ns() + SLICE_NS)
                        parker_sleep(parker, until)
                    if spins:
                        ws_add(&home.blocked, -1)
                        spins = False
                if ws_load(&parker.done) or now_ns() >= deadline_ns:
                    break
                PyErr_CheckSignals()
        finally:
            self.unlink(parker)
        return 0

    cdef int unlink(self, Parker *parker) except -1:
        cdef Parker **link
        with cython.critical_section(self):
            link = &self.parkers
            while link[0] is not NULL and link[0] is not parker:
                link = &link[0].next
            if link[0] is parker:
                link[0] = parker.next
                parker_drop(parker)
        parker_drop(parker)
        return 0

    # ---- concurrent.futures.Future -------------------------------------------------------------

    def cancel(self):
        """Cancels the call if it has not begun. Returns whether it is cancelled."""
        return self.give_up() or ws_load(&self.state) in (CANCELLED, NOTIFIED)

    def cancelled(self):
        return ws_load(&self.state) in (CANCELLED, NOTIFIED)

    def running(self):
        return ws_load(&self.state) == RUNNING

    def done(self):
        """Whether the call has ended or was cancelled."""
        return ws_load(&self.state) > RUNNING

    def result(self, timeout=None):
        """What the call returned. Waits for it, ``timeout`` seconds at most.

        A worker of the same pool that asks for a task nobody has begun runs it.

        Raises:
            CancelledError: the call was cancelled.
            TimeoutError: it has not ended in time.
            Exception: what the call raised.
        """
        if ws_load(&self.state) <= RUNNING:
            self.wait_for(timeout)
        cdef uint32_t state = ws_load(&self.state)
        if state == FINISHED:
            if self.error is None:
                return self.value
            raise self.error
        if state <= RUNNING:
            raise TimeoutError()
        raise CancelledError()

    def exception(self, timeout=None):
        """What the call raised, or None. Waits, and raises, as ``result()`` does."""
        if ws_load(&self.state) <= RUNNING:
            self.wait_for(timeout)
        cdef uint32_t state = ws_load(&self.state)
        if state == FINISHED:
            return self.error
        if state <= RUNNING:
            raise TimeoutError()
        raise CancelledError()

    def add_done_callback(self, fn):
        """Calls ``fn(future)`` when the call has ended or was cancelled; at once if it has."""
        cdef bint done
        with cython.critical_section(self):
            done = self.state > RUNNING
            if not done:
                if self.callbacks is None:
                    self.callbacks = []
                self.callbacks.append(fn)
        if done:
            self.notify([fn])

    def set_running_or_notify_cancel(self):
        """For executors: False if the call was cancelled, else it counts as running.

        Raises:
            RuntimeError: it has begun already.
        """
        if self.claim():
            self.leave_queue()
            return True
        if ws_move(&self.state, CANCELLED, NOTIFIED):
            if self.condition is not None:
                with self.condition:
                    self.tell_waiters()
            return False
        if self.state == NOTIFIED and self.home is not None:
            return False
        LOGGER.critical("Future %s in unexpected state: %s", id(self), STATE_NAMES[self.state])
        raise RuntimeError("Future in unexpected state")

    def set_result(self, result):
        """For executors. Raises InvalidStateError if there is an outcome already."""
        self.settle(result, None)

    def set_exception(self, exception):
        """For executors. Raises InvalidStateError if there is an outcome already."""
        self.settle(None, exception)

    def __repr__(self):
        cdef uint32_t state = ws_load(&self.state)
        text = f"<{type(self).__name__} at {id(self):#x} state={STATE_WORDS[state]}"
        if state != FINISHED:
            return text + ">"
        if self.error is not None:
            return f"{text} raised {type(self.error).__name__}>"
        return f"{text} returned {type(self.value).__name__}>"

    # What concurrent.futures.wait() and as_completed() handle.

    @property
    def _condition(self):
        made = threading.Condition() if self.condition is None else None
        with cython.critical_section(self):
            if self.condition is None:
                self.condition = made
        return self.condition

    @property
    def _state(self):
        return STATE_NAMES[ws_load(&self.state)]

    @property
    def _waiters(self):
        with cython.critical_section(self):
            if self.waiters is None:
                self.waiters = []
            return self.waiters

    @property
    def _done_callbacks(self):
        return [] if self.callbacks is None else self.callbacks

    @property
    def _result(self):
        return self.value

    @property
    def _exception(self):
        return self.error


class WorkFuture(FutureCore, Future):
    """A ``concurrent.futures.Future`` that makes its lock and its lists when they are needed."""

    __slots__ = ()


# ---- tasks of event loops ------------------------------------------------------------------------


@cython.final
cdef class LoopTask(Task):
    """A call whose outcome goes to a future of a loop."""

    cdef object invoke(self):
        context, self.context = self.context, None
        PyContext_Enter(context)
        try:
            return Task.invoke(self)
        finally:
            PyContext_Exit(context)

    cdef int publish(self, uint32_t state, Worker worker) except -1:
        ws_store(&self.state, state)
        self.context = None
        return self.mailbox.post(self)


@cython.final
cdef class Mailbox:
    """Collects the outcomes for one loop: however many there are, it is woken once."""

    cdef int post(self, LoopTask task) except -1:
        cdef bint wake
        future = task.future
        if future is None:
            return 0
        with cython.critical_section(self):
            self.done.append(task)
            wake = not self.armed
            self.armed = True
        if wake:
            try:
                future.get_loop().call_soon_threadsafe(self.deliver)
            except RuntimeError:
                # The loop is closed: nobody can be waiting.
                self.done = []
                self.armed = False
            except BaseException:
                # What a signal's handler raises in there must not cost the loop its wake-up.
                future.get_loop().call_soon_threadsafe(self.deliver)
                raise
        return 0

    def deliver(self):
        """In the loop's thread: settles the futures."""
        cdef list tasks
        cdef LoopTask task
        with cython.critical_section(self):
            self.armed = False
            tasks, self.done = self.done, []
        for task in tasks:
            future, task.future = task.future, None
            if future is None or future.done():
                continue
            if task.state == NOTIFIED:
                cancel_future(future)
            elif task.error is None:
                future.set_result(task.value)
            elif isinstance(task.error, StopIteration):
                # Would end the coroutine that awaits, in silence.
                wrapped = RuntimeError("the call raised StopIteration")
                wrapped.__cause__ = task.error
                future.set_exception(wrapped)
            else:
                future.set_exception(task.error)
            task.value = task.error = None


class LoopFuture(asyncio.Future):
    """What ``run()`` gives. Cancelled, it cancels a call that has not begun."""

    __slots__ = ("_work",)

    def cancel(self, msg=None):
        cdef LoopTask task = self._work
        if task is not None and not self.done():
            task.future = None
            self._work = None
            task.give_up()
        return cancel_future(self, msg)

cdef FutureCore future_new():
    return ws_new(WorkFuture, NO_ARGS)


cdef LoopTask loop_task_new(object loop):
    """A task for which there is a future of the loop."""
    cdef LoopTask task = LoopTask.__new__(LoopTask)
    task.future = future = LoopFuture(loop=loop)
    future._work = task
    return task


cdef Mailbox mailbox_new(object loop):
    cdef Mailbox mailbox = Mailbox.__new__(Mailbox)
    mailbox.done = []
    mailbox.loop_ref = weakref.ref(loop)
    return mailbox


# ---- workers -------------------------------------------------------------------------------------


@cython.final
cdef class Worker:
    """A thread's deque and its counts."""

    def __dealloc__(self):
        cdef void *left
        if self.deque is not NULL:
            left = fc_wsdeque_pop(self.deque)
            while left is not NULL:
                Py_DECREF(<object>left)
                left = fc_wsdeque_pop(self.deque)
            fc_wsdeque_free(self.deque)


cdef Worker worker_new(Home owner, size_t max_local):
    cdef Worker worker = Worker.__new__(Worker)
    cdef size_t most = LOCAL_CAPACITY
    while most < max_local:
        most *= 2
    cdef int err = fc_wsdeque_new(&worker.deque, &fc_mem_libc, LOCAL_CAPACITY, most)
    if err < 0:
        raise error_of(err)
    worker.owner = <void *>owner
    worker.is_idle = True
    return worker


cdef PyObject *current_worker() noexcept:
    """The worker that this thread is, borrowed, or NULL."""
    return ws_get_worker()


cdef void set_current_worker(PyObject *worker) noexcept:
    ws_set_worker(worker)


def _after_fork():
    global main_thread
    main_thread = threading.get_ident()


os.register_at_fork(after_in_child=_after_fork)
