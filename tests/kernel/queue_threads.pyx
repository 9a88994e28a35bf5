# cython: language_level=3
"""What test_queues_nogil.py does to queues of objects without the GIL, by their types."""

from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdlib cimport free, malloc

from flowcore.kernel.queues cimport ObjectQueue


def push(ObjectQueue queue not None, list items):
    """Pushes the items without the GIL, asleep while there is no room; returns how many."""
    cdef Py_ssize_t count = len(items)
    cdef Py_ssize_t i
    cdef Py_ssize_t done = 0
    cdef PyObject **references = <PyObject **>malloc(max(count, 1) * sizeof(PyObject *))
    queue.share()
    for i in range(count):
        Py_INCREF(items[i])
        references[i] = <PyObject *>items[i]
    with nogil:
        while done < count:
            if queue.push(references[done]):
                done += 1
            elif queue.closed:
                break
            else:
                queue.wait_room(-1)
    for i in range(done, count):
        Py_DECREF(<object>references[i])
    free(references)
    return done


def pop(ObjectQueue queue not None, Py_ssize_t most):
    """Pops without the GIL until the queue is closed and empty, or `most` have come."""
    cdef PyObject **references = <PyObject **>malloc(max(most, 1) * sizeof(PyObject *))
    cdef PyObject *item
    cdef Py_ssize_t i
    cdef Py_ssize_t done = 0
    cdef bint ended
    queue.share()
    with nogil:
        while done < most:
            ended = queue.closed  # before the look, so that nothing comes after it
            item = queue.pop()
            if item is not NULL:
                references[done] = item
                done += 1
            elif ended:
                break
            else:
                queue.wait_items(-1)
    found = []
    for i in range(done):
        found.append(<object>references[i])
        Py_DECREF(<object>references[i])
    free(references)
    return found
