from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint32_t, uint64_t

from flowcore.kernel.fc_mpsc cimport fc_mpsc_node
from flowcore.kernel.fc_waiter cimport fc_waiter
from flowcore.kernel.fc_wsdeque cimport fc_wsdeque


# A task's state.
cdef enum:
    PENDING
    RUNNING
    CANCELLED                      # and nobody was told
    NOTIFIED                       # cancelled
    FINISHED

# What one thread sleeps at until a task is done. Held by the thread and, until it was signalled, by
# the task or by the worker that finished it.
cdef struct Parker:
    fc_waiter waiter
    Parker *next
    uint32_t done
    uint32_t holders

# How long to look before sleeping: long while that pays, briefly or not at all while it does not.
cdef struct Spin:
    uint32_t budget_ns
    uint32_t passed

# A task's place in a queue, which holds a reference to it.
cdef struct Node:
    fc_mpsc_node link
    Node *next
    PyObject *task


# What a task knows of its scheduler.
cdef class Home:
    cdef Spin idle_spin
    cdef Spin result_spin
    cdef uint32_t spin_max_ns
    cdef bint caller_runs
    cdef int64_t queued            # entries in all queues, those of cancelled tasks included
    cdef int64_t husks             # entries in the inboxes whose tasks will not run from there
    cdef int64_t pending
    cdef int64_t cancelled
    cdef int64_t blocked           # threads that wait for a result, without the GIL
    cdef int64_t begun_outside     # tasks that no worker ran
    cdef int64_t completed_outside
    cdef int64_t failed_outside

    cdef int sweep(self) except -1


cdef class Task:
    cdef Node node
    cdef uint32_t state
    cdef bint is_local             # in a worker's deque, not in an inbox
    cdef Home scheduler            # None once it has begun or will not
    cdef Home home                 # the one it was given to
    cdef object fn
    cdef tuple args
    cdef dict kwargs
    cdef object value
    cdef object error
    cdef PyObject *under           # the task that this worker runs this one inside of

    cdef int load(self, object fn, tuple args, dict kwargs) except -1
    cdef bint claim(self) noexcept
    cdef int leave_queue(self) except -1
    cdef int call(self, Worker worker) except -1
    cdef bint give_up(self) except -1
    cdef object invoke(self)
    cdef int publish(self, uint32_t state, Worker worker) except -1
    cdef int orphan(self) except -1


cdef class FutureCore(Task):
    cdef Parker *parkers
    cdef object condition          # made when somebody asks for it
    cdef list waiters
    cdef list callbacks

    cdef Parker *detach(self, uint32_t state)
    cdef int tell_waiters(self) except -1
    cdef int notify(self, list callbacks) except -1
    cdef int settle(self, object value, object error) except -1
    cdef int wait_for(self, object timeout) except -1
    cdef bint run_here(self) except -1
    cdef int block(self, uint64_t deadline_ns) except -1
    cdef int unlink(self, Parker *parker) except -1


cdef class LoopTask(Task):
    cdef object future
    cdef object context
    cdef Mailbox mailbox


# Tasks that are done and that one loop does not know of yet.
cdef class Mailbox:
    cdef object loop_ref
    cdef list done
    cdef bint armed

    cdef int post(self, LoopTask task) except -1


cdef class Worker:
    cdef fc_wsdeque *deque
    cdef void *owner               # the scheduler, borrowed
    cdef PyObject *current         # the task that runs, borrowed
    cdef Parker *due               # to be signalled before anything else runs
    cdef uint32_t generation
    cdef uint32_t index
    cdef uint32_t picks
    cdef uint32_t passed           # tasks begun since one was waiting in the deque
    cdef bint is_idle
    cdef int64_t begun
    cdef int64_t completed
    cdef int64_t failed
    cdef int64_t stolen
    cdef int64_t local
    cdef int64_t parks


cdef uint64_t now_ns() noexcept nogil
cdef void relax() noexcept nogil
cdef uint32_t spin_budget(Spin *spin) noexcept nogil
cdef void spin_ended(Spin *spin, bint found, uint32_t most_ns) noexcept nogil
cdef void parkers_signal(Parker *parker) noexcept nogil
cdef FutureCore future_new()
cdef LoopTask loop_task_new(object loop)
cdef Mailbox mailbox_new(object loop)
cdef Worker worker_new(Home owner, size_t max_local)
cdef PyObject *current_worker() noexcept
cdef void set_current_worker(PyObject *worker) noexcept
