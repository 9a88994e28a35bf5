"""Bounded queues of Python objects between threads, coroutines, and Cython without the GIL."""

cimport cython
from cpython.list cimport PyList_New
from cpython.object cimport PyObject, PyTypeObject, traverseproc, visitproc
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int64_t

from flowcore.kernel.bounded_queue cimport BoundedQueue
from flowcore.kernel.errors cimport error_of
from flowcore.kernel.fc_err cimport FC_EINVALID
from flowcore.kernel.fc_mpmc cimport (
    fc_mpmc,
    fc_mpmc_capacity,
    fc_mpmc_free,
    fc_mpmc_len,
    fc_mpmc_look,
    fc_mpmc_new,
    fc_mpmc_pop_many,
    fc_mpmc_pop_ptr,
    fc_mpmc_push_many,
    fc_mpmc_push_ptr,
)
from flowcore.kernel.fc_reactor cimport fc_mem_libc
from flowcore.kernel.fc_spsc cimport (
    fc_spsc,
    fc_spsc_capacity,
    fc_spsc_free,
    fc_spsc_len,
    fc_spsc_look,
    fc_spsc_new,
    fc_spsc_pop_many,
    fc_spsc_pop_ptr,
    fc_spsc_push_many,
    fc_spsc_push_ptr,
)
from flowcore.kernel.owned cimport fc_owned
from flowcore.kernel.waiting cimport NOT_YET, WaitableQueue, is_watched

import types

from flowcore.errors import InvalidArgument
from flowcore.kernel.waiting import QueueClosed, QueueEmpty, QueueFull

__all__ = ["MPMCQueue", "ObjectQueue", "SPSCQueue"]

cdef extern from *:
    """
    static inline PyObject **fc_list_items(PyObject *list) {
      return ((PyListObject *)list)->ob_item;
    }

    /* Cuts a list that nobody else has seen to the entries that were filled. */
    static inline void fc_list_cut(PyObject *list, Py_ssize_t filled) {
      Py_SET_SIZE((PyVarObject *)list, filled);
    }

    /* Gives `type` method descriptors of its own for those it inherits: the interpreter has a fast
     * call for methods of exactly the object's type only. */
    static int fc_own_methods(PyTypeObject *type) {
      for (PyMethodDef *def = type->tp_base->tp_methods; def && def->ml_name; def++) {
        PyObject *inherited = PyDict_GetItemString(type->tp_base->tp_dict, def->ml_name);
        if (!inherited || !Py_IS_TYPE(inherited, &PyMethodDescr_Type)) continue;
        PyObject *method = PyDescr_NewMethod(type, def);
        int err = method ? PyDict_SetItemString(type->tp_dict, def->ml_name, method) : -1;
        Py_XDECREF(method);
        if (err < 0) return -1;
      }
      PyType_Modified(type);
      return 0;
    }
    """
    PyObject **fc_list_items(list items)
    PyObject **fc_fast_items "PySequence_Fast_ITEMS"(object items)
    void fc_list_cut(list items, Py_ssize_t filled)
    int fc_own_methods(PyTypeObject *type) except -1

cdef enum:
    # What attempt() does.
    GET
    GET_MANY
    NEXT
    PUT
    MAX_ITEMS = 1024  # of a get_many() that names no number


@cython.no_gc_clear
cdef class ObjectQueue(BoundedQueue):
    """What SPSCQueue and MPMCQueue have in common.

    Between taking a slot and publishing it no Python code runs, so the GIL makes each operation one
    step for all Python threads. As long as only they use the queue, the simpler ring serves both
    kinds, and looking for who waits needs no fence; ``share()`` ends that.
    """

    def __cinit__(self, capacity):
        if not 0 < capacity <= 1 << 40:
            raise InvalidArgument(f"capacity must be 1 to 2^40, not {capacity}")
        cdef int err = fc_spsc_new(&self.spsc, &fc_mem_libc, capacity, sizeof(PyObject *))
        if err < 0:
            raise error_of(err)

    def __dealloc__(self):
        if self.spsc is not NULL or self.mpmc is not NULL:
            self.drain()
        fc_spsc_free(self.spsc, &fc_mem_libc)
        fc_mpmc_free(self.mpmc, &fc_mem_libc)

    cdef int drain(self) except -1:
        cdef void *item = NULL
        while self.take(&item):
            Py_DECREF(<object>item)
        return 0

    # ---- one step each, without a wake-up ------------------------------------------------------

    @cython.final
    cdef inline bint give(self, void *item) noexcept nogil:
        if self.spsc is not NULL:
            return fc_spsc_push_ptr(self.spsc, item)
        return fc_mpmc_push_ptr(self.mpmc, item)

    @cython.final
    cdef inline bint take(self, void **item) noexcept nogil:
        if self.spsc is not NULL:
            return fc_spsc_pop_ptr(self.spsc, item)
        return fc_mpmc_pop_ptr(self.mpmc, item)

    @cython.final
    cdef Py_ssize_t length(self) noexcept nogil:
        if self.spsc is not NULL:
            return fc_spsc_len(self.spsc)
        return fc_mpmc_len(self.mpmc)

    @cython.final
    cdef Py_ssize_t slots(self) noexcept nogil:
        if self.spsc is not NULL:
            return fc_spsc_capacity(self.spsc)
        return fc_mpmc_capacity(self.mpmc)

    @cython.final
    cdef void *look(self, size_t index) noexcept:
        """Where the item ``index`` places behind the oldest is, or NULL; under the GIL alone. The
        collector calls it for queues, too, that have no ring and no table of methods yet."""
        if self.spsc is not NULL:
            return fc_spsc_look(self.spsc, index)
        return NULL if self.mpmc is NULL else fc_mpmc_look(self.mpmc, index)

    # ---- with their wake-ups -------------------------------------------------------------------

    @cython.final
    cdef inline bint insert(self, object item) except -1:
        """False: there is no room."""
        if self.closed:
            self.refuse()
        Py_INCREF(item)
        if not self.give(<void *>item):
            Py_DECREF(item)
            return False
        if is_watched(self, self.filled):
            self.filled.wake(1)
        return True

    @cython.final
    cdef inline PyObject *remove(self) except? NULL:
        """The oldest item with the queue's reference to it, or NULL."""
        cdef void *item = NULL
        if not self.take(&item):
            return NULL
        if is_watched(self, self.emptied):
            self.emptied.wake(1)
        return <PyObject *>item

    @cython.final
    cdef Py_ssize_t insert_many(self, PyObject **items, Py_ssize_t count) except -1:
        """Puts the first of the items, whose owner keeps them alive; returns how many."""
        cdef Py_ssize_t i
        cdef Py_ssize_t done
        if self.closed:
            self.refuse()
        count = min(count, self.slots() - self.length())
        for i in range(count):
            Py_INCREF(<object>items[i])
        if self.spsc is not NULL:
            done = fc_spsc_push_many(self.spsc, items, count)
        else:
            done = fc_mpmc_push_many(self.mpmc, items, count)
        for i in range(done, count):
            Py_DECREF(<object>items[i])
        if done and is_watched(self, self.filled):
            self.filled.wake(done)
        return done

    @cython.final
    cdef list remove_many(self, Py_ssize_t max_items):
        """The oldest items, as many as there are up to ``max_items``."""
        cdef list found = PyList_New(min(max_items, self.length()))
        cdef Py_ssize_t done
        # Making the list may have run a finaliser, which took some.
        if self.spsc is not NULL:
            done = fc_spsc_pop_many(self.spsc, fc_list_items(found), len(found))
        else:
            done = fc_mpmc_pop_many(self.mpmc, fc_list_items(found), len(found))
        fc_list_cut(found, done)
        if done and is_watched(self, self.emptied):
            self.emptied.wake(done)
        return found

    # ---- putting -------------------------------------------------------------------------------

    def put(self, item, bint block=True, timeout=None):
        """Puts an item; waits for room if need be, and if ``timeout`` is a number, so many seconds.

        Raises:
            QueueFull: no room came free in time, or at once with ``block=False``.
            QueueClosed: the queue is closed, or was closed meanwhile.
            InvalidArgument: timeout is negative.
        """
        cdef int64_t deadline = 0
        if timeout is not None:
            deadline = self.deadline_of(block, timeout)
        if self.insert(item):
            return
        if timeout is None:
            deadline = self.deadline_of(block, None)
        while True:
            self.pause_for_room(deadline)
            if self.insert(item):
                return

    def put_nowait(self, item, /):
        """``put(item, block=False)``."""
        if not self.insert(item):
            raise QueueFull("the queue is full")

    def try_put(self, item, /):
        """Puts an item and returns True, or returns False when there is no room.

        Raises:
            QueueClosed: the queue is closed.
        """
        return self.insert(item)

    def put_many(self, items, bint block=True, timeout=None):
        """Puts the items of an iterable in their order, waiting for room as ``put()`` does.

        Returns how many were put: fewer than there are only when the time was up or the queue was
        closed meanwhile. If none was, that raises as in ``put()``.
        """
        cdef int64_t deadline = self.deadline_of(block, timeout)
        cdef Py_ssize_t done = 0
        cdef object todo = items
        if type(items) is not list and type(items) is not tuple:
            todo = tuple(items)
        cdef Py_ssize_t count = len(todo)
        if type(todo) is list and (self.shared or count > self.slots() - self.length()):
            # Others may change the list as soon as this wakes somebody, or waits.
            todo = tuple(todo)
            count = len(todo)
        while True:
            done += self.insert_many(fc_fast_items(todo) + done, count - done)
            if done == count:
                return done
            try:
                self.pause_for_room(deadline)
                if self.closed:
                    self.refuse()
            except (QueueClosed, QueueFull):
                if not done:
                    raise
                return done

    def try_put_many(self, items, /):
        """Puts as many of the items as there is room for; returns how many.

        Raises:
            QueueClosed: the queue is closed.
        """
        cdef object todo = items
        if type(items) is not list and type(items) is not tuple:
            todo = tuple(items)
        return self.insert_many(fc_fast_items(todo), len(todo))

    def aput(self, item, /):
        """Awaitable: ``put()`` that lets the loop go on while there is no room."""
        return self.wait_at(self.emptied, PUT, item)

    # ---- taking --------------------------------------------------------------------------------

    def get(self, bint block=True, timeout=None):
        """Takes the oldest item; waits for one if need be, and if ``timeout`` is a number, so many
        seconds.

        Raises:
            QueueEmpty: none came in time, or at once with ``block=False``.
            QueueClosed: the queue is closed and empty.
            InvalidArgument: timeout is negative.
        """
        cdef int64_t deadline = 0
        if timeout is not None:
            deadline = self.deadline_of(block, timeout)
        cdef PyObject *item = self.remove()
        if item is not NULL:
            return fc_owned(item)
        if timeout is None:
            deadline = self.deadline_of(block, None)
        while True:
            self.pause_for_items(deadline)
            item = self.remove()
            if item is not NULL:
                return fc_owned(item)

    def get_nowait(self):
        """``get(block=False)``."""
        cdef PyObject *item = self.remove()
        if item is NULL:
            self.pause_for_items(0)
            raise QueueEmpty("the queue is empty")
        return fc_owned(item)

    def try_get(self, default=None, /):
        """Takes the oldest item, or returns ``default`` when there is none.

        Raises:
            QueueClosed: the queue is closed and empty.
        """
        cdef PyObject *item = self.remove()
        if item is not NULL:
            return fc_owned(item)
        if self.closed and not self.has_items():
            self.refuse()
        return default

    def get_many(self, Py_ssize_t max_items=MAX_ITEMS, bint block=True, timeout=None):
        """Takes what is there, up to ``max_items``; waits as ``get()`` does while there is nothing.

        Raises:
            QueueEmpty, QueueClosed: as ``get()``.
            InvalidArgument: max_items is not positive, or timeout is negative.
        """
        cdef int64_t deadline = self.deadline_of(block, timeout)
        cdef list found
        self.check_max_items(max_items)
        while True:
            found = self.remove_many(max_items)
            if found:
                return found
            self.pause_for_items(deadline)

    def try_get_many(self, Py_ssize_t max_items=MAX_ITEMS, /):
        """Takes what is there, maybe nothing, up to ``max_items``.

        Raises:
            QueueClosed: the queue is closed and empty.
        """
        self.check_max_items(max_items)
        cdef list found = self.remove_many(max_items)
        if not found and self.closed and not self.has_items():
            self.refuse()
        return found

    cdef int check_max_items(self, Py_ssize_t max_items) except -1:
        if max_items < 1:
            raise InvalidArgument(f"max_items must be at least 1, not {max_items}")
        return 0

    def aget(self):
        """Awaitable: ``get()`` that lets the loop go on while there is nothing."""
        return self.wait_at(self.filled, GET, None)

    def aget_many(self, Py_ssize_t max_items=MAX_ITEMS, /):
        """Awaitable: ``get_many()`` that lets the loop go on while there is nothing."""
        self.check_max_items(max_items)
        return self.wait_at(self.filled, GET_MANY, max_items)

    def __next__(self):
        try:
            return self.get()
        except QueueClosed:
            raise StopIteration from None

    def __anext__(self):
        return self.wait_at(self.filled, NEXT, None)

    cdef object attempt(self, int op, object argument):
        cdef PyObject *item
        cdef list found
        if op == PUT:
            return None if self.insert(argument) else NOT_YET
        if op == GET_MANY:
            found = self.remove_many(argument)
            if found:
                return found
        else:
            item = self.remove()
            if item is not NULL:
                return fc_owned(item)
        return self.nothing_yet(op == NEXT)

    # ---- the queue as a whole ------------------------------------------------------------------

    def __repr__(self):
        state = " closed" if self.closed else ""
        return f"<{type(self).__name__} {self.length()}/{self.slots()}{state}>"

    @classmethod
    def __class_getitem__(cls, item, /):
        return types.GenericAlias(cls, item)

    # ---- without the GIL -----------------------------------------------------------------------

    cdef bint push(self, PyObject *item) noexcept nogil:
        if self.closed or not self.give(item):
            return False
        self.announce(self.filled, 1)
        return True

    cdef PyObject *pop(self) noexcept nogil:
        cdef void *item = NULL
        if self.take(&item):
            self.announce(self.emptied, 1)
        return <PyObject *>item


@cython.final
@cython.no_gc_clear
cdef class SPSCQueue(ObjectQueue):
    """A bounded queue with one producer and one consumer.

    Under the GIL any number of Python threads and coroutines may stand on either side. Cython code
    that uses it without the GIL must be the only one on its side.

    Args:
        capacity: items, rounded up to a power of two.

    Raises:
        InvalidArgument: capacity is out of range.
    """


@cython.final
@cython.no_gc_clear
cdef class MPMCQueue(ObjectQueue):
    """A bounded queue with any number of producers and consumers, with and without the GIL.

    Args:
        capacity: items, rounded up to a power of two.

    Raises:
        InvalidArgument: capacity is out of range.
    """

    cdef int share(self) except -1:
        cdef fc_mpmc *ring
        cdef void *item = NULL
        cdef int err
        if self.spsc is NULL:
            return 0
        err = fc_mpmc_new(&ring, &fc_mem_libc, self.slots(), sizeof(PyObject *))
        if err < 0:
            raise error_of(err)
        while fc_spsc_pop_ptr(self.spsc, &item):
            fc_mpmc_push_ptr(ring, item)
        fc_spsc_free(self.spsc, &fc_mem_libc)
        self.spsc = NULL
        self.mpmc = ring
        self.shared = True
        return 0


# ---- the collector: Cython does not know that the rings hold objects ---------------------------

cdef traverseproc traverse_members = (<PyTypeObject *>WaitableQueue).tp_traverse


cdef int traverse(PyObject *self, visitproc visit, void *arg) noexcept:
    cdef int err = traverse_members(self, visit, arg)
    cdef size_t i = 0
    cdef void *place
    # A thread without the GIL may take an item while this looks, and then have the only reference.
    while not err and not (<ObjectQueue>self).shared:
        place = (<ObjectQueue>self).look(i)
        if place is NULL:
            break
        err = visit((<PyObject **>place)[0], arg)
        i += 1
    return err


cdef int clear(object self) except -1:
    return (<ObjectQueue>self).drain()


cdef int complete(PyTypeObject *type) except -1:
    type.tp_traverse = <traverseproc>traverse
    type.tp_clear = clear
    return fc_own_methods(type)


complete(<PyTypeObject *>SPSCQueue)
complete(<PyTypeObject *>MPMCQueue)
