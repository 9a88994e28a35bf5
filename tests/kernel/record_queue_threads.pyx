# cython: language_level=3
"""What test_record_queues_nogil.py does to record queues without the GIL, by their types."""

from libc.stdint cimport int64_t

from flowcore.kernel.fc_err cimport FC_ECLOSED, FC_ETIMEOUT
from flowcore.kernel.record_queues cimport MPMCRecordQueue, RecordQueue, SPSCRecordQueue

cdef enum:
    MOST = 16


def push(RecordQueue queue not None, int64_t first, int64_t count, size_t batch):
    """Pushes ``count`` numbers from ``first`` on; ``batch`` 1 is one by one."""
    cdef int64_t values[MOST]
    cdef int64_t done = 0
    cdef size_t some, i
    queue.share()
    with nogil:
        while done < count and not queue.closed:
            some = min(<int64_t>batch, count - done)
            for i in range(some):
                values[i] = first + done + <int64_t>i
            some = queue.push_record(values) if some == 1 else queue.push_records(values, some)
            done += some
            if not some:
                queue.wait_room(-1)
    return done


def pop(RecordQueue queue not None, size_t batch):
    """All that comes until the queue is closed and empty."""
    cdef int64_t values[MOST]
    cdef size_t some, i
    cdef bint ended
    found = []
    queue.share()
    while True:
        with nogil:
            ended = queue.closed
            some = queue.pop_record(values) if batch == 1 else queue.pop_records(values, batch)
            if not some and not ended:
                queue.wait_items(-1)
        found += [values[i] for i in range(some)]
        if ended and not some:
            return found


def copy_in_place(SPSCRecordQueue source not None, SPSCRecordQueue target not None, size_t batch):
    """From ring to ring until the source ends."""
    cdef const int64_t *records
    cdef int64_t *slots
    cdef size_t there, room, i
    cdef bint ended
    source.share()
    target.share()
    with nogil:
        while True:
            ended = source.closed
            there = source.peek_records(batch, <const void **>&records)
            room = target.claim_slots(there, <void **>&slots)
            for i in range(room):
                slots[i] = records[i]
            target.publish_slots(room)
            source.consume_records(room)
            if not there:
                if ended:
                    break
                source.wait_items(-1)
            elif not room:
                target.wait_room(-1)
    target.close()


def waits(MPMCRecordQueue queue not None):
    """What waiting answers, at once: for items, for room."""
    cdef int items, room
    with nogil:
        items = queue.wait_items(0)
        room = queue.wait_room(0)
    names = {0: "look", FC_ETIMEOUT: "timeout", FC_ECLOSED: "closed"}
    return names[items], names[room]
