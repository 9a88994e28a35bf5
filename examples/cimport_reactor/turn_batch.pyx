# cython: language_level=3
"""Gathers what is handed over until the loop polls next, and passes it on in one call.

The loop's reactor keeps a list of C tasks that it runs before each poll: the same list that makes
all replies written to a connection meanwhile leave in one system call. Here a task of our own joins
it. Adding to a batch thus costs no handle, no future and no Python call.
"""

from flowcore.kernel.fc_reactor cimport fc_list, fc_reactor, fc_task
from flowcore.loop.core cimport LoopCore

# Inline functions of flowcore's headers; an extension that uses them needs nothing to link with.
cdef extern from "fc/reactor.h":
    void fc_task_init(fc_task *t, void (*run)(fc_task *) noexcept)
    void fc_reactor_flush_later(fc_reactor *r, fc_task *t)

cdef extern from "fc/list.h":
    void fc_list_unlink(fc_list *node)


# The task comes first: its address is the whole's.
ctypedef struct OwnedTask:
    fc_task task
    void *owner


cdef void run_batch(fc_task *task) noexcept:
    cdef TurnBatch batch = <TurnBatch>(<OwnedTask *>task).owner
    try:
        batch.pass_on()
    except BaseException:
        # A C callback cannot raise. The loop will, once its reactor is done.
        batch.core.keep_failure()


cdef class TurnBatch:
    """``consume(items)`` is called before the next poll with what was added since the last.

    What a batch holds when it is itself let go of is dropped.

    Args:
        loop: flowcore's event loop. After it was closed, ``add()`` raises RuntimeError.
        consume: gets the list of what was added; what it raises ends ``run_forever()``.
    """

    cdef LoopCore core
    cdef OwnedTask owned
    cdef object consume
    cdef list items

    def __init__(self, LoopCore loop not None, consume):
        self.core = loop
        self.consume = consume
        self.items = []
        self.owned.owner = <void *>self
        fc_task_init(&self.owned.task, run_batch)

    def __dealloc__(self):
        if self.owned.owner is not NULL:
            fc_list_unlink(&self.owned.task.link)

    def add(self, item):
        """Puts an item in the batch."""
        fc_reactor_flush_later(self.core.open_reactor(), &self.owned.task)
        self.items.append(item)

    cdef int pass_on(self) except -1:
        items, self.items = self.items, []
        self.consume(items)
        return 0
