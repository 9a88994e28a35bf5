# cython: language_level=3
"""One thread feeds records into a queue and another takes them out, both without the GIL.

The queue's methods are called through its type, so there is nothing of flowcore to link with. To
Python it stays the same queue: numpy arrays go in and come out, coroutines may wait on it.
"""

from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int64_t

from flowcore.kernel.queues cimport SPSCQueue
from flowcore.kernel.record_queues cimport SPSCRecordQueue

TICK = [("number", "i8"), ("price", "f8")]

cdef enum:
    BATCH = 64
    FOREVER = -1  # as a deadline


cdef packed struct Tick:
    int64_t number
    double price


cdef int prepare(SPSCRecordQueue queue) except -1:
    import numpy
    if queue.dtype != numpy.dtype(TICK):
        raise ValueError(f"a queue of ticks is needed, not of {queue.dtype}")
    queue.share()
    return 0


def produce(SPSCRecordQueue queue not None, int64_t count):
    """Pushes ticks number 0 to ``count - 1``, each copied in, unless the queue is closed before;
    then closes it."""
    cdef Tick tick
    cdef int64_t i = 0
    prepare(queue)
    with nogil:
        while i < count and not queue.closed:
            tick.number = i
            tick.price = 0.5 * (i % 8)
            if queue.push_record(&tick):
                i += 1
            else:
                # Sleeps until there is room. It may return for other reasons, such as a signal;
                # then the push fails again.
                queue.wait_room(FOREVER)
    queue.close()


def produce_in_place(SPSCRecordQueue queue not None, int64_t count):
    """The same, each written where it lies in the queue."""
    cdef Tick *ticks
    cdef int64_t i = 0
    cdef size_t room, k
    prepare(queue)
    with nogil:
        while i < count and not queue.closed:
            room = queue.claim_slots(min(<int64_t>BATCH, count - i), <void **>&ticks)
            if not room:
                queue.wait_room(FOREVER)
                continue
            for k in range(room):
                ticks[k].number = i
                ticks[k].price = 0.5 * (i % 8)
                i += 1
            queue.publish_slots(room)
    queue.close()


def consume(SPSCRecordQueue queue not None):
    """Takes ticks until the queue is closed and empty. Returns how many, and the sum of prices.

    Raises:
        ValueError: their numbers are not 0, 1, 2, ...
    """
    cdef Tick ticks[BATCH]
    cdef int64_t count = 0
    cdef double total = 0
    cdef size_t there, k
    cdef bint in_order = True, ended
    prepare(queue)
    with nogil:
        while True:
            # Looked at first: what came before the end of the queue is there after it.
            ended = queue.closed
            there = queue.pop_records(ticks, BATCH)
            for k in range(there):
                in_order = in_order and ticks[k].number == count
                total += ticks[k].price
                count += 1
            if not there:
                if ended:
                    break
                queue.wait_items(FOREVER)
    if not in_order:
        raise ValueError("the ticks came in another order")
    return count, total


def put_repeatedly(SPSCQueue queue not None, item, int64_t count):
    """Puts one object ``count`` times into a queue of objects, unless that is closed before; then
    closes it."""
    cdef PyObject *reference = <PyObject *>item
    cdef int64_t i, done = 0
    queue.share()
    for i in range(count):
        Py_INCREF(item)  # each goes along with the object, to whoever takes it out
    with nogil:
        while done < count and not queue.closed:
            if queue.push(reference):
                done += 1
            else:
                queue.wait_room(FOREVER)
    for i in range(done, count):
        Py_DECREF(item)
    queue.close()
