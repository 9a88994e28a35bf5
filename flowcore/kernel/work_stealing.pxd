from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint32_t

from flowcore.kernel.fc_mpsc cimport fc_mpsc
from flowcore.kernel.fc_waiter cimport fc_waiter
from flowcore.kernel.work_future cimport FutureCore, Home, Mailbox, Node, Task, Worker


# The tasks of one priority. `aside` comes before what is in the inbox.
cdef struct Level:
    fc_mpsc inbox
    Node *aside
    uint32_t passed                # tasks begun since one was waiting here


cdef class Scheduler(Home):
    cdef Level levels[4]
    cdef fc_waiter waiter
    cdef uint32_t level_lock
    cdef uint32_t on_the_way       # 1: a worker will look for work that has not looked yet
    cdef uint32_t spinning         # 1: a worker does
    cdef uint32_t ending
    cdef uint32_t generation       # forks
    cdef uint32_t size
    cdef uint32_t started
    cdef uint32_t alive
    cdef int64_t max_pending
    cdef int64_t submitted
    cdef int64_t idle              # workers that look, sleep or start
    cdef int64_t parked
    cdef int64_t woken
    cdef int64_t parks_before      # of workers that a fork has ended
    cdef PyObject **workers
    cdef bint refusing
    cdef bint closing
    cdef str broken
    cdef str prefix
    cdef object initializer
    cdef object initargs
    cdef object lock               # held while a thread is started
    cdef set threads

    cdef int refuse(self) except -1
    cdef int post(self, Task task, int level, bint local) except -1
    cdef int rouse(self) except -1
    cdef int spawn(self) except -1
    cdef int start_one(self) except -1
    cdef PyObject *take(self, int level) noexcept
    cdef bint waits(self, int level) noexcept
    cdef PyObject *take_overdue(self) noexcept
    cdef void count_passed(self, int level) noexcept
    cdef PyObject *take_shared(self, int highest, int lowest) noexcept
    cdef PyObject *pop_local(self, Worker worker) noexcept
    cdef PyObject *steal(self, Worker worker) noexcept
    cdef PyObject *pick(self, Worker worker) noexcept
    cdef Task next_task(self, Worker worker)
    cdef list drain(self)
    cdef int serve(self, Worker worker) except -1
    cdef bint look_awhile(self) noexcept nogil
    cdef void let_submitter_go(self) noexcept nogil
    cdef void rest(self, Worker worker) noexcept nogil
    cdef int leave(self, Worker worker) except -1
    cdef int break_down(self) except -1
    cdef int close(self, bint cancel) except -1
    cdef int join(self) except -1
    cdef int renew(self) except -1
    cdef dict stats(self)


cdef class PoolCore:
    cdef Scheduler scheduler
    cdef Mailbox mailbox           # of the loop that used the pool last
    cdef object mailboxes

    cdef int check(self) except -1
    cdef FutureCore submit_at(self, int level, bint local, object fn, tuple args, dict kwargs)
    cdef object run_at(self, int level, object fn, tuple args, dict kwargs)
    cdef Mailbox mailbox_of(self, object loop)
