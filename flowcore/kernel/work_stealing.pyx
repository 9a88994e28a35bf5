"""A thread pool: a queue for each priority, a deque for each worker, rationed wake-ups.

What threads share are csrc's structures and single words that are changed atomically. Under the
GIL nothing here runs Python code between two steps that belong together; that submitting and
closing do not cross is the one thing that leans on it.

A queue holds a reference to each task in it: taken before the push, given up after the pop.
"""

cimport cython
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from flowcore.kernel.errors cimport error_of
from flowcore.kernel.fc_mpsc cimport fc_mpsc_empty, fc_mpsc_init, fc_mpsc_pop, fc_mpsc_push
from flowcore.kernel.fc_waiter cimport (
    FC_WAITER_NEVER,
    FC_WAITER_PRIVATE,
    fc_waiter_cancel,
    fc_waiter_commit,
    fc_waiter_fini,
    fc_waiter_has_sleepers,
    fc_waiter_init,
    fc_waiter_notify,
    fc_waiter_notify_all,
    fc_waiter_prepare,
)
from flowcore.kernel.fc_wsdeque cimport (
    FC_STEAL_GOT,
    FC_STEAL_LOST,
    fc_stolen,
    fc_wsdeque_len,
    fc_wsdeque_pop,
    fc_wsdeque_push,
    fc_wsdeque_steal,
)
from flowcore.kernel.words cimport (
    WS_HAS_GIL,
    ws_add,
    ws_count,
    ws_load,
    ws_lock,
    ws_store,
    ws_swap,
    ws_unlock,
)
from flowcore.kernel.work_future cimport (
    FINISHED,
    PENDING,
    FutureCore,
    LoopTask,
    Mailbox,
    Node,
    Parker,
    Task,
    Worker,
    current_worker,
    future_new,
    loop_task_new,
    mailbox_new,
    now_ns,
    parkers_signal,
    relax,
    set_current_worker,
    spin_budget,
    spin_ended,
    worker_new,
)

import asyncio
import enum
import itertools
import logging
import os
import threading
import time
import weakref
from concurrent.futures.thread import BrokenThreadPool, ThreadPoolExecutor

from flowcore.errors import InvalidArgument, InvalidState, LimitExceeded

__all__ = ["Priority", "WorkStealingPool"]

cdef extern from "Python.h":
    object PyContext_CopyCurrent()

cdef enum:
    LOW
    NORMAL
    HIGH
    CRITICAL
    LEVELS

cdef enum:
    MAX_WORKERS = 1024
    LOCAL_LIMIT = 16      # tasks that may go before one in the worker's own deque
    STEAL_EVERY = 64      # a worker with work of its own looks at the others' this often
    SPIN_NS = 5_000       # the other side answers within 2 us if it spins too, in 8 if it slept
    GIL_WAIT_STEPS = 12   # how often a submitter is seen not to have let go of the GIL yet

# Tasks of other kinds that may begin while one of this priority waits at the head of its queue.
cdef uint32_t AGE_LIMIT[LEVELS]
AGE_LIMIT[:] = [64, 32, 16, 0xFFFFFFFF]

cdef object LOGGER = logging.getLogger("concurrent.futures")
cdef object pool_numbers = itertools.count()
cdef dict live_schedulers = {}
cdef bint exiting = False


class Priority(enum.IntEnum):
    """Which of the waiting tasks begins first."""

    LOW = 0
    NORMAL = 1
    HIGH = 2
    CRITICAL = 3


cdef int level_of(object priority) except -1:
    cdef int level = int(priority)
    if not 0 <= level < LEVELS:
        raise InvalidArgument(f"{priority!r} is not a Priority")
    return level


# ---- workers -------------------------------------------------------------------------------------


def _work(Scheduler scheduler, Worker worker):
    """A worker's thread."""
    set_current_worker(<PyObject *>worker)
    try:
        if scheduler.initializer is not None:
            try:
                scheduler.initializer(*scheduler.initargs)
            except BaseException:
                LOGGER.critical("Exception in initializer:", exc_info=True)
                scheduler.break_down()
                return
        scheduler.serve(worker)
    except BaseException:
        LOGGER.critical("Exception in worker", exc_info=True)
    finally:
        set_current_worker(NULL)
        scheduler.leave(worker)


# ---- the scheduler -------------------------------------------------------------------------------


@cython.final
cdef class Scheduler:
    """Queues and workers of one pool. It outlives the pool while workers run.

    Wake-ups. ``on_the_way`` is 1 while some worker is going to look for work that has not looked
    yet; then a submission wakes nobody. A worker sets it to 0 before it looks, for the first time
    since it was idle, and once more between announcing its sleep and its last look. So a
    submission that finds 1 is seen by that look; one that finds 0 wakes a sleeper if there is one,
    and if there is none then each worker has yet to announce its sleep, and to look after that.

    A worker that takes a task and sees more wakes the next one, unless that is on its way.
    """

    def __cinit__(self, uint32_t size, int64_t max_pending):
        cdef int i
        cdef int err = fc_waiter_init(&self.waiter, FC_WAITER_PRIVATE)
        if err < 0:
            raise error_of(err)
        for i in range(LEVELS):
            fc_mpsc_init(&self.levels[i].inbox)
        self.workers = <PyObject **>calloc(size, sizeof(PyObject *))
        if self.workers is NULL:
            raise MemoryError()
        self.size = size
        self.max_pending = max_pending
        self.lock = threading.Lock()
        self.threads = set()
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        self.spin_max_ns = SPIN_NS if cores > 1 else 0
        self.idle_spin.budget_ns = self.result_spin.budget_ns = self.spin_max_ns

    def __dealloc__(self):
        cdef uint32_t i
        if self.workers is not NULL:
            for i in range(self.started):
                Py_DECREF(<object>self.workers[i])
            free(self.workers)
            fc_waiter_fini(&self.waiter)

    # ---- submitting ----------------------------------------------------------------------------

    cdef int refuse(self) except -1:
        if self.broken is not None:
            raise BrokenThreadPool(self.broken)
        if exiting:
            raise InvalidState("cannot schedule new futures after interpreter shutdown")
        raise InvalidState("cannot schedule new futures after shutdown")

    cdef int post(self, Task task, int level, bint local) except -1:
        """Queues the task: in the deque of the worker that this thread is, if that is wanted and
        there is one, else in the inbox of its level."""
        cdef PyObject *this = current_worker() if local else NULL
        if self.refusing or exiting:
            self.refuse()
        if ws_add(&self.pending, 1) > self.max_pending:
            ws_add(&self.pending, -1)
            raise LimitExceeded(f"max_pending: {self.max_pending} tasks wait already; collect "
                                f"results before submitting more, or raise max_pending")
        task.home = task.scheduler = self
        ws_add(&self.submitted, 1)
        ws_add(&self.queued, 1)
        Py_INCREF(task)
        if this is not NULL and (<Worker>this).owner is <void *>self:
            task.is_local = fc_wsdeque_push((<Worker>this).deque, <void *>task) == 0
        if not task.is_local:
            task.node.task = <PyObject *>task
            fc_mpsc_push(&self.levels[level].inbox, &task.node.link)
        try:
            self.rouse()
        except BaseException:
            task.give_up()
            raise
        return 0

    cdef int rouse(self) except -1:
        """After a push: somebody will come for it."""
        if self.started < self.size and ws_count(&self.idle) < ws_count(&self.queued):
            try:
                self.spawn()
            except Exception:
                # A worker that lives will come to it.
                if self.alive == 0:
                    raise
        if ws_swap(&self.on_the_way, 1) == 0 and fc_waiter_has_sleepers(&self.waiter):
            ws_add(&self.woken, 1)
            fc_waiter_notify(&self.waiter)
        return 0

    cdef int spawn(self) except -1:
        """Starts threads while there are fewer idle workers than tasks. Whoever finds the lock
        taken leaves it to the holder, which may be this thread further out."""
        while self.started < self.size and ws_count(&self.idle) < ws_count(&self.queued):
            if not self.lock.acquire(False):
                return 0
            try:
                self.start_one()
            finally:
                self.lock.release()
        return 0

    cdef int start_one(self) except -1:
        cdef Worker worker
        if self.started == self.size:
            return 0
        worker = worker_new(self, <size_t>self.max_pending)
        worker.generation = self.generation
        worker.index = self.started
        thread = threading.Thread(
            target=_work, args=(self, worker), name=f"{self.prefix}_{worker.index}"
        )
        Py_INCREF(worker)
        self.workers[worker.index] = <PyObject *>worker
        self.threads.add(thread)
        live_schedulers[self] = None
        ws_add(&self.idle, 1)
        self.alive += 1
        ws_store(&self.started, self.started + 1)
        try:
            thread.start()
        except Exception:
            # Not started: the system, or an interpreter that ends, has no thread to give.
            ws_store(&self.started, self.started - 1)
            self.threads.discard(thread)
            Py_DECREF(worker)
            self.leave(worker)
            raise
        return 0

    # ---- taking --------------------------------------------------------------------------------

    cdef PyObject *take(self, int level) noexcept:
        cdef Level *queue = &self.levels[level]
        cdef Node *node = queue.aside
        if node is not NULL:
            queue.aside = node.next
            return node.task
        node = <Node *>fc_mpsc_pop(&queue.inbox)
        return NULL if node is NULL else node.task

    cdef bint waits(self, int level) noexcept:
        cdef Level *queue = &self.levels[level]
        return queue.aside is not NULL or not fc_mpsc_empty(&queue.inbox)

    cdef void count_passed(self, int level) noexcept:
        """A task of that level is taken, or -1: of none; the others with tasks have waited."""
        cdef int i
        for i in range(CRITICAL):
            if i == level:
                self.levels[i].passed = 0
            elif self.waits(i):
                self.levels[i].passed += 1

    cdef PyObject *take_overdue(self) noexcept:
        cdef int i
        cdef PyObject *got
        for i in range(CRITICAL):
            if self.levels[i].passed >= AGE_LIMIT[i]:
                got = self.take(i)
                self.levels[i].passed = 0
                if got is not NULL:
                    self.count_passed(i)
                    return got
        return NULL

    cdef PyObject *take_shared(self, int highest, int lowest) noexcept:
        cdef PyObject *got
        while highest >= lowest:
            got = self.take(highest)
            if got is not NULL:
                self.count_passed(highest)
                return got
            highest -= 1
        return NULL

    cdef PyObject *pop_local(self, Worker worker) noexcept:
        cdef PyObject *got = <PyObject *>fc_wsdeque_pop(worker.deque)
        if got is not NULL:
            worker.passed = 0
            worker.local += 1
            ws_lock(&self.level_lock)
            self.count_passed(-1)
            ws_unlock(&self.level_lock)
        return got

    cdef PyObject *steal(self, Worker worker) noexcept:
        """The oldest task of another worker's deque."""
        cdef uint32_t count = ws_load(&self.started)
        cdef uint32_t i
        cdef void *got
        cdef fc_stolen outcome
        cdef Worker victim
        for i in range(1, count):
            victim = <Worker>self.workers[(worker.index + i) % count]
            outcome = FC_STEAL_LOST
            while outcome == FC_STEAL_LOST:
                outcome = fc_wsdeque_steal(victim.deque, &got)
            if outcome == FC_STEAL_GOT:
                worker.stolen += 1
                return <PyObject *>got
        return NULL

    cdef PyObject *pick(self, Worker worker) noexcept:
        """The next task for this worker, with the queue's reference.

        What has waited too long, then CRITICAL and HIGH, the worker's own, NORMAL and LOW, and then
        what others have in their deques."""
        cdef PyObject *got = NULL
        worker.picks += 1
        ws_lock(&self.level_lock)
        got = self.take_overdue()
        if got is NULL and worker.passed < LOCAL_LIMIT:
            got = self.take_shared(CRITICAL, HIGH)
        ws_unlock(&self.level_lock)
        if got is NULL and worker.picks % STEAL_EVERY == 0:
            got = self.steal(worker)
        if got is NULL:
            got = self.pop_local(worker)
            if got is not NULL:
                return got
            worker.passed = 0
            ws_lock(&self.level_lock)
            got = self.take_shared(CRITICAL, LOW)
            ws_unlock(&self.level_lock)
            return got if got is not NULL else self.steal(worker)
        if fc_wsdeque_len(worker.deque):
            worker.passed += 1
        return got

    cdef Task next_task(self, Worker worker):
        """A task, claimed, or None: there is nothing to do."""
        cdef PyObject *got
        cdef Task task
        if worker.is_idle:
            ws_swap(&self.on_the_way, 0)
        while True:
            got = self.pick(worker)
            if got is NULL:
                break
            task = <Task>got
            Py_DECREF(task)
            ws_add(&self.queued, -1)
            if task.claim():
                break
            if not task.is_local:
                ws_add(&self.husks, -1)
        if got is NULL:
            if not worker.is_idle:
                worker.is_idle = True
                ws_add(&self.idle, 1)
            return None
        task.scheduler = None
        ws_add(&self.pending, -1)
        if worker.is_idle:
            worker.is_idle = False
            ws_add(&self.idle, -1)
        if ws_count(&self.queued) > 0:
            self.rouse()
        return task

    cdef int sweep(self) except -1:
        """Lets go of the entries of tasks that will not run, which may lie behind many others."""
        cdef Node *node
        cdef Node *kept
        cdef Node *last
        cdef Node *dead = NULL
        cdef PyObject *got
        cdef int i
        cdef int64_t count = 0
        ws_lock(&self.level_lock)
        for i in range(LEVELS):
            kept = last = NULL
            got = self.take(i)
            while got is not NULL:
                node = &(<Task>got).node
                node.next = NULL
                if (<Task>got).state != PENDING:
                    node.next = dead
                    dead = node
                    count += 1
                elif kept is NULL:
                    kept = last = node
                else:
                    last.next = node
                    last = node
                got = self.take(i)
            self.levels[i].aside = kept
        ws_unlock(&self.level_lock)
        ws_add(&self.husks, -count)
        ws_add(&self.queued, -count)
        while dead is not NULL:
            node, dead = dead, dead.next
            Py_DECREF(<Task>node.task)
        return 0

    cdef list drain(self):
        """Takes all that is queued; gives what has not begun."""
        cdef list tasks = []
        cdef Task task
        cdef PyObject *got
        cdef void *stolen = NULL
        cdef uint32_t i
        cdef int level
        for level in range(LEVELS):
            while True:
                ws_lock(&self.level_lock)
                got = self.take(level)
                ws_unlock(&self.level_lock)
                if got is NULL:
                    break
                tasks.append(<Task>got)
                Py_DECREF(<Task>got)
        for i in range(self.started):
            while fc_wsdeque_steal((<Worker>self.workers[i]).deque, &stolen) == FC_STEAL_GOT:
                tasks.append(<Task>stolen)
                Py_DECREF(<Task>stolen)
        ws_add(&self.queued, -<int64_t>len(tasks))
        live = []
        for task in tasks:
            if task.scheduler is not None:
                task.scheduler = None
                ws_add(&self.pending, -1)
                live.append(task)
            elif not task.is_local:
                ws_add(&self.husks, -1)
        return live

    # ---- workers -------------------------------------------------------------------------------

    cdef int serve(self, Worker worker) except -1:
        """Runs tasks until there is no more to come."""
        cdef Task task
        cdef Parker *due
        while worker.generation == self.generation:
            task = self.next_task(worker)
            due, worker.due = worker.due, NULL
            if task is None:
                if self.ending and ws_count(&self.queued) == 0:
                    parkers_signal(due)
                    break
                with nogil:
                    # Only now, so that who waits for the result finds the GIL free.
                    parkers_signal(due)
                    self.rest(worker)
                continue
            parkers_signal(due)
            try:
                task.call(worker)
            except BaseException:
                LOGGER.critical("Exception in worker", exc_info=True)
            task = None
        return 0

    cdef bint look_awhile(self) noexcept nogil:
        """Looks for work for a little while before sleeping; one worker at a time does. True: there
        is some."""
        cdef uint32_t budget = min(spin_budget(&self.idle_spin), self.spin_max_ns)
        cdef uint64_t end
        cdef bint found = False
        if budget == 0 or ws_swap(&self.spinning, 1):
            return False
        ws_swap(&self.on_the_way, 1)
        end = now_ns() + budget
        while not found and now_ns() < end:
            relax()
            found = ws_count(&self.queued) > 0 or ws_load(&self.ending)
        ws_store(&self.spinning, 0)
        spin_ended(&self.idle_spin, found, self.spin_max_ns)
        return found

    cdef void let_submitter_go(self) noexcept nogil:
        """Work has just come, so its submitter has the GIL still. If it goes on to wait for the
        result it lets go of it in a moment; asking before that would put this thread to sleep."""
        cdef int i
        if not WS_HAS_GIL or self.spin_max_ns == 0:
            return
        for i in range(GIL_WAIT_STEPS):
            if ws_count(&self.blocked) > 0:
                return
            relax()

    @cython.nonecheck(False)  # it has no place without the GIL
    cdef void rest(self, Worker worker) noexcept nogil:
        """Returns when there may be work, or none to come."""
        cdef uint32_t key
        if self.spin_max_ns and self.look_awhile():
            self.let_submitter_go()
            return
        while True:
            key = fc_waiter_prepare(&self.waiter)
            ws_swap(&self.on_the_way, 0)
            if ws_count(&self.queued) > 0 or ws_load(&self.ending):
                ws_swap(&self.on_the_way, 1)
                fc_waiter_cancel(&self.waiter, key)
                self.let_submitter_go()
                return
            worker.parks += 1
            ws_add(&self.parked, 1)
            fc_waiter_commit(&self.waiter, key, FC_WAITER_NEVER)
            ws_add(&self.parked, -1)
            if ws_count(&self.queued) > 0 or ws_load(&self.ending):
                return

    cdef int leave(self, Worker worker) except -1:
        """The worker's thread ends."""
        if worker.generation != self.generation:
            return 0
        if worker.is_idle:
            ws_add(&self.idle, -1)
        self.alive -= 1
        if self.alive == 0:
            live_schedulers.pop(self, None)
        return 0

    cdef int break_down(self) except -1:
        """An initializer failed: nothing runs any more."""
        cdef Task task
        cdef object raised = None
        self.broken = "A thread initializer failed, the thread pool is not usable anymore"
        self.refusing = True
        ws_store(&self.ending, 1)
        for task in self.drain():
            if task.claim():
                task.fn = task.args = task.kwargs = None
                task.error = BrokenThreadPool(self.broken)
                ws_add(&self.begun_outside, 1)
                ws_add(&self.failed_outside, 1)
                try:
                    task.publish(FINISHED, None)
                except BaseException as error:
                    raised = error  # by a callback; the others are to be told first
        fc_waiter_notify_all(&self.waiter)
        if raised is not None:
            raise raised
        return 0

    # ---- ending --------------------------------------------------------------------------------

    cdef int close(self, bint cancel) except -1:
        cdef Task task
        cdef object raised = None
        self.closing = True
        self.refusing = True
        if cancel:
            for task in self.drain():
                try:
                    task.give_up()
                except BaseException as error:
                    raised = error  # by a callback; the others are in no queue any more
        ws_store(&self.ending, 1)
        fc_waiter_notify_all(&self.waiter)
        if raised is not None:
            raise raised
        return 0

    cdef int join(self) except -1:
        """Waits for the workers to end; not for the one that calls."""
        # A thread may be about to start; or it is this one that starts it, further out.
        if self.lock.acquire(timeout=1):
            self.lock.release()
        for thread in list(self.threads):
            if thread is not threading.current_thread() and thread.ident is not None:
                thread.join()
        return 0

    cdef int renew(self) except -1:
        """In a child after a fork: no worker is left, and nothing of the parent's is to be done."""
        cdef Task task
        cdef Worker worker
        cdef PyObject *this = current_worker()
        cdef PyObject *running
        cdef uint32_t i
        for task in self.drain():
            task.orphan()
            self.cancelled += 1
        for i in range(self.started):
            worker = <Worker>self.workers[i]
            running = worker.current
            while running is not NULL and this is not <PyObject *>worker:
                task = <Task>running
                running = task.under
                task.error = InvalidState("the call was running in the parent, not in this fork")
                task.orphan()
                worker.failed += 1
            self.begun_outside += worker.begun
            self.completed_outside += worker.completed
            self.failed_outside += worker.failed
            self.parks_before += worker.parks
            self.workers[i] = NULL
            Py_DECREF(worker)
        self.generation += 1
        self.started = self.alive = self.on_the_way = self.spinning = self.level_lock = 0
        self.idle = self.parked = self.blocked = 0
        self.lock = threading.Lock()
        self.threads = set()
        return fc_waiter_init(&self.waiter, FC_WAITER_PRIVATE)

    cdef dict stats(self):
        cdef int64_t begun = ws_count(&self.begun_outside)
        cdef int64_t completed = ws_count(&self.completed_outside)
        cdef int64_t failed = ws_count(&self.failed_outside)
        cdef int64_t stolen = 0
        cdef int64_t local = 0
        cdef int64_t parks = self.parks_before
        cdef uint32_t i
        cdef Worker worker
        for i in range(self.started):
            worker = <Worker>self.workers[i]
            begun += worker.begun
            completed += worker.completed
            failed += worker.failed
            stolen += worker.stolen
            local += worker.local
            parks += worker.parks
        return {
            "workers": self.alive,
            "parked": ws_count(&self.parked),
            "pending": ws_count(&self.pending),
            "running": begun - completed - failed,
            "submitted": ws_count(&self.submitted),
            "completed": completed,
            "failed": failed,
            "cancelled": ws_count(&self.cancelled),
            "local": local,
            "stolen": stolen,
            "woken": ws_count(&self.woken),
            "parks": parks,
        }


# ---- the pool ------------------------------------------------------------------------------------


cdef class PoolCore:
    """The working half of WorkStealingPool."""

    def __init__(self, workers=None, *, thread_name_prefix="", initializer=None, initargs=(),
                 max_pending=1 << 20, caller_runs=None):
        if workers is None:
            workers = min(32, (os.cpu_count() or 1) + 4)
        if not 0 < workers <= MAX_WORKERS:
            raise InvalidArgument(f"workers must be 1 to {MAX_WORKERS}: {workers}")
        if not 0 < max_pending <= 1 << 32:
            raise InvalidArgument(f"max_pending must be 1 to 2**32: {max_pending}")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        cdef Scheduler scheduler = Scheduler(workers, max_pending)
        scheduler.prefix = thread_name_prefix or f"WorkStealingPool-{next(pool_numbers)}"
        scheduler.initializer = initializer
        scheduler.initargs = tuple(initargs)
        if caller_runs is None:
            caller_runs = workers > 1 and initializer is None
        scheduler.caller_runs = caller_runs
        self.scheduler = scheduler
        self.mailboxes = weakref.WeakKeyDictionary()

    def __del__(self):
        # Nobody can submit any more: the workers finish what is queued and end.
        if self.scheduler is not None:
            self.scheduler.close(False)

    cdef int check(self) except -1:
        if self.scheduler is None:
            raise InvalidState("WorkStealingPool.__init__() was not called")
        return 0

    cdef FutureCore submit_at(self, int level, bint local, object fn, tuple args, dict kwargs):
        cdef FutureCore future = future_new()
        self.check()
        future.load(fn, args, kwargs)
        self.scheduler.post(future, level, local)
        return future

    def submit(self, fn, /, *args, **kwargs):
        """Queues ``fn(*args, **kwargs)`` and returns its WorkFuture.

        Raises:
            InvalidState: the pool was shut down.
            LimitExceeded: ``max_pending`` tasks wait already.
            BrokenThreadPool: a worker's initializer has failed.
        """
        return self.submit_at(NORMAL, False, fn, args, kwargs)

    def submit_with(self, priority, fn, /, *args, **kwargs):
        """``submit()`` with a priority."""
        return self.submit_at(level_of(priority), False, fn, args, kwargs)

    def schedule_local(self, fn, /, *args, **kwargs):
        """Queues a part of the task that calls this: in the worker's own deque, youngest first,
        where idle workers steal the oldest. Outside of this pool's workers it is ``submit()``."""
        return self.submit_at(NORMAL, True, fn, args, kwargs)

    cdef Mailbox mailbox_of(self, object loop):
        cdef Mailbox mailbox = self.mailbox
        if mailbox is not None and mailbox.loop_ref() is loop:
            return mailbox
        mailbox = self.mailboxes.get(loop)
        if mailbox is None:
            mailbox = self.mailboxes[loop] = mailbox_new(loop)
        self.mailbox = mailbox
        return mailbox

    cdef object run_at(self, int level, object fn, tuple args, dict kwargs):
        loop = asyncio.get_running_loop()
        self.check()
        cdef LoopTask task = loop_task_new(loop)
        task.load(fn, args, kwargs)
        task.context = PyContext_CopyCurrent()
        task.mailbox = self.mailbox_of(loop)
        future = task.future
        try:
            self.scheduler.post(task, level, False)
        except BaseException:
            task.future = None
            raise
        return future

    def run(self, fn, /, *args, **kwargs):
        """Queues the call, in a copy of the current context, and returns an awaitable future of the
        running loop. Cancelling that cancels a call that has not begun.

        Raises:
            RuntimeError: no event loop runs in this thread.
            InvalidState, LimitExceeded, BrokenThreadPool: as ``submit()``.
        """
        return self.run_at(NORMAL, fn, args, kwargs)

    def run_with(self, priority, fn, /, *args, **kwargs):
        """``run()`` with a priority."""
        return self.run_at(level_of(priority), fn, args, kwargs)

    def map(self, fn, *iterables, timeout=None, chunksize=1):
        """The results of ``fn`` for the items of the iterables, in their order.

        All is submitted at once. The rest is cancelled when the iterator is closed, or an error
        ends it.

        Args:
            timeout: seconds from now within which each result must be there.
            chunksize: calls that make one task.

        Raises:
            InvalidArgument: chunksize is below 1.
            LimitExceeded: the tasks are more than ``max_pending``; a larger chunksize helps.
        """
        if chunksize < 1:
            raise InvalidArgument(f"chunksize must be 1 or more: {chunksize}")
        end = None if timeout is None else time.monotonic() + timeout
        calls = zip(*iterables)
        futures = []
        try:
            if chunksize == 1:
                for args in calls:
                    futures.append(self.submit_at(NORMAL, False, fn, args, None))
            else:
                while chunk := list(itertools.islice(calls, chunksize)):
                    args = (fn, chunk)
                    futures.append(self.submit_at(NORMAL, False, _run_chunk, args, None))
        except BaseException:
            for future in futures:
                future.cancel()
            raise
        futures.reverse()
        results = _results(futures, end)
        return results if chunksize == 1 else itertools.chain.from_iterable(results)

    def shutdown(self, wait=True, *, cancel_futures=False):
        """Takes no more tasks. What is queued still runs, unless ``cancel_futures`` is true.

        With ``wait``, returns when the workers have ended; a worker that calls this waits for the
        others only.
        """
        self.check()
        self.scheduler.close(cancel_futures)
        if wait:
            self.scheduler.join()

    def stats(self):
        """Counts since the beginning, and what there is now.

        ``workers`` that live and ``parked`` ones among them; tasks ``pending`` and ``running``;
        ``submitted``, ``completed``, ``failed`` (raised) and ``cancelled`` ones; tasks that workers
        took from their own deque (``local``) and from another's (``stolen``); ``woken``, system
        calls that woke a worker, and ``parks``, how often one went to sleep.
        """
        self.check()
        return self.scheduler.stats()

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.shutdown(wait=True)
        return False

    def __repr__(self):
        if self.scheduler is None:
            return f"<{type(self).__name__}>"
        state = "shut down" if self.scheduler.refusing else f"{self.scheduler.alive} running"
        return f"<{type(self).__name__} {self.scheduler.size} workers, {state}>"

    # What others read from a ThreadPoolExecutor.

    @property
    def _max_workers(self):
        self.check()
        return self.scheduler.size

    @property
    def _threads(self):
        self.check()
        return self.scheduler.threads

    @property
    def _shutdown(self):
        self.check()
        return self.scheduler.closing

    @property
    def _broken(self):
        self.check()
        return self.scheduler.broken or False


def _run_chunk(fn, chunk):
    return [fn(*args) for args in chunk]


cdef object result_of(FutureCore future, object end):
    try:
        return future.result(None if end is None else end - time.monotonic())
    finally:
        future.cancel()


def _results(list futures, end):
    """Yields the results, the last future's first, and keeps none of them."""
    try:
        while futures:
            yield result_of(futures.pop(), end)
    finally:
        for future in futures:
            future.cancel()


class WorkStealingPool(PoolCore, ThreadPoolExecutor):
    """A thread pool in which a submission costs a push, and a wake-up only if nobody is awake.

    It is a ``ThreadPoolExecutor`` by type, since event loops take nothing else as their default
    executor, and shares nothing else with it. Threads start as they are needed.

    Args:
        workers: threads at most, 1 to 1024; by default the processors and 4, 32 at most.
        thread_name_prefix: of the threads' names.
        initializer: called with ``initargs`` in each thread before its first task; if it fails, the
            pool is broken and so are the tasks that wait.
        max_pending: tasks that may wait; one more raises ``LimitExceeded``.
        caller_runs: a thread that waits for the result of a task that has not begun, without a
            time-out and outside of an event loop, runs it itself, which spares two switches of
            threads. By default so unless the pool's threads matter to its tasks: a single worker
            or an initializer says that they do.

    Raises:
        InvalidArgument: workers or max_pending is out of range.
    """


# ---- the process ---------------------------------------------------------------------------------


def _at_exit():
    """As with ThreadPoolExecutor, what is queued is done before the interpreter ends."""
    global exiting
    cdef Scheduler scheduler
    exiting = True
    for scheduler in list(live_schedulers):
        scheduler.close(False)
    for scheduler in list(live_schedulers):
        scheduler.join()


def _after_fork():
    cdef Scheduler scheduler
    for scheduler in list(live_schedulers):
        scheduler.renew()
    live_schedulers.clear()
    set_current_worker(NULL)


threading._register_atexit(_at_exit)
os.register_at_fork(after_in_child=_after_fork)
