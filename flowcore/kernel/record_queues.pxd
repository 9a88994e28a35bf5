from libc.stdint cimport int64_t

from flowcore.kernel.bounded_queue cimport BoundedQueue
from flowcore.kernel.fc_mpmc cimport fc_mpmc
from flowcore.kernel.fc_spsc cimport fc_spsc


cdef class Batch:
    cdef Py_buffer borrowed        # the array's memory, of `count` records
    cdef Py_ssize_t count
    cdef Py_ssize_t done           # that are in the queue


cdef class RecordQueue(BoundedQueue):
    cdef readonly object dtype
    cdef Py_ssize_t record_bytes

    # One step each, without a wake-up; how many.
    cdef size_t give(self, const void *records, size_t count) noexcept nogil
    cdef size_t take(self, void *records, size_t count) noexcept nogil

    # With the GIL.
    cdef int check_producer(self) except -1
    cdef int check_consumer(self) except -1
    cdef Batch borrow(self, object array, bint writable)
    cdef int reject(self, object array, object error) except -1
    cdef Batch borrow_room(self, object array)
    cdef int check_max_records(self, Py_ssize_t max_records) except -1
    cdef bint insert(self, Batch batch) except -1
    cdef Py_ssize_t remove(self, void *records, Py_ssize_t count) except -1
    cdef object remove_new(self, Py_ssize_t max_records)
    cdef object attempt_push(self, Batch batch)

    # Without the GIL, after share(). How many records were copied: 0 when there is no room, or
    # nothing, or the queue is closed to pushes. To wait, see BoundedQueue.
    cdef bint push_record(self, const void *record) noexcept nogil
    cdef bint pop_record(self, void *record) noexcept nogil
    cdef size_t push_records(self, const void *records, size_t count) noexcept nogil
    cdef size_t pop_records(self, void *records, size_t count) noexcept nogil


cdef class SPSCRecordQueue(RecordQueue):
    cdef fc_spsc *ring
    cdef int claimed               # who holds the producer's side, and the consumer's
    cdef int peeked

    cdef size_t claim_up_to(self, size_t want, void **first) noexcept nogil
    cdef size_t peek_up_to(self, size_t want, void **first) noexcept nogil

    # Without the GIL, after share(): up to `want` slots from *first on that lie in one piece, or
    # records. Those that were written are then published, those that were read consumed, from the
    # first on.
    cdef size_t claim_slots(self, size_t want, void **first) noexcept nogil
    cdef void publish_slots(self, size_t count) noexcept nogil
    cdef size_t peek_records(self, size_t want, const void **first) noexcept nogil
    cdef void consume_records(self, size_t count) noexcept nogil


cdef class MPMCRecordQueue(RecordQueue):
    cdef fc_mpmc *ring


cdef class Memory:
    cdef SPSCRecordQueue queue
    cdef char *at
    cdef Py_ssize_t size
    cdef bint writable
    cdef Py_ssize_t exports
    cdef bint over                 # nobody may export it any more
    cdef bint held                 # it holds the queue's side

    cdef int hold(self, SPSCRecordQueue queue, size_t count, bint writable) except -1
    cdef int keep(self) except -1
    cdef int let_go(self) except -1
    cdef void let_go_late(self) noexcept


cdef class Span:
    cdef SPSCRecordQueue queue
    cdef Py_ssize_t want
    cdef int64_t deadline
    cdef Memory memory             # while the block runs
    cdef object records
    cdef Py_ssize_t there
    cdef Py_ssize_t wanted         # how many to hand over
    cdef bint entered

    cdef int find(self, Memory memory) except -1
    cdef Py_ssize_t hand_over(self) noexcept
    cdef int tell(self, Py_ssize_t done) except -1
    cdef int choose(self, Py_ssize_t count) except -1
    cdef object the_array(self)


cdef class ClaimedSlots(Span):
    pass


cdef class PeekedRecords(Span):
    pass
