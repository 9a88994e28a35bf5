from cpython.object cimport PyObject

from flowcore.kernel.bounded_queue cimport BoundedQueue
from flowcore.kernel.fc_mpmc cimport fc_mpmc
from flowcore.kernel.fc_spsc cimport fc_spsc


cdef class ObjectQueue(BoundedQueue):
    cdef fc_spsc *spsc             # one of the two; each entry is a reference that it owns
    cdef fc_mpmc *mpmc

    cdef bint give(self, void *item) noexcept nogil
    cdef bint take(self, void **item) noexcept nogil
    cdef void *look(self, size_t index) noexcept
    cdef int drain(self) except -1

    # With the GIL.
    cdef bint insert(self, object item) except -1
    cdef PyObject *remove(self) except? NULL
    cdef Py_ssize_t insert_many(self, PyObject **items, Py_ssize_t count) except -1
    cdef list remove_many(self, Py_ssize_t max_items)
    cdef int check_max_items(self, Py_ssize_t max_items) except -1

    # Without the GIL, after share(). The reference goes with the item: push() takes the caller's
    # over if it returns true, pop() gives the caller one. To wait, see BoundedQueue.
    cdef bint push(self, PyObject *item) noexcept nogil
    cdef PyObject *pop(self) noexcept nogil


cdef class SPSCQueue(ObjectQueue):
    pass


cdef class MPMCQueue(ObjectQueue):
    pass
