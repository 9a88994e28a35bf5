from cpython.buffer cimport Py_buffer
from libc.stdint cimport int64_t, uint16_t

from flowcore.kernel.fc_shmq cimport fc_shmq
from flowcore.kernel.waiting cimport WaitableQueue


cdef object failure_of(int err)
cdef object producer_died()
cdef object consumer_died()
cdef int64_t left_until(int64_t deadline) except? -2


cdef class Segment(WaitableQueue):
    cdef fc_shmq *queue
    cdef int users  # threads that are inside the core without the GIL
    cdef size_t max_message
    cdef object __weakref__

    # ---- life ----
    cdef int opened(self) except -1
    cdef int forked(self) noexcept
    cdef fc_shmq *open_queue(self) except NULL
    cdef int release(self) except -1
    cdef void copy(self, void *to, const void *data, size_t size) noexcept
    cdef int returned(self) except -1

    # ---- sending: a turn, in which messages are written ----
    cdef int begin_send(self) except -1
    cdef int write(self, object item, uint16_t kind, uint16_t aux) except? -1
    cdef int end_send(self) except -1
    cdef int offer(self, object item, uint16_t kind, uint16_t aux) except? -1
    cdef int wait_space(self, size_t size, int64_t left) except -1

    # ---- receiving: a turn, in which messages are read ----
    cdef int begin_receive(self, int64_t deadline) except -1
    cdef bint begin_receive_now(self) except -1
    cdef object read(self, bint only_bytes)
    cdef int read_many(self, list found, Py_ssize_t max_items) except -1
    cdef Py_ssize_t read_into(self, Py_buffer *to) except? -2
    cdef Py_ssize_t read_records(self, Py_buffer *to) except? -2
    cdef int end_receive(self) except -1
    cdef int wait_message(self, int64_t left) except -1
