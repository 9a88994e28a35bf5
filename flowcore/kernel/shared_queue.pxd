from cpython.buffer cimport Py_buffer
from libc.stdint cimport int64_t, uint16_t

from flowcore.kernel.fc_shmq cimport fc_shmq


cdef class SharedQueue:
    cdef fc_shmq *queue
    cdef int users  # threads that are inside the core without the GIL
    cdef readonly bint closed
    cdef size_t max_message
    cdef list stash  # taken by a batch but not handed out, the next one last
    cdef object __weakref__

    # ---- life ----
    cdef int opened(self) except -1
    cdef fc_shmq *open_queue(self) except NULL
    cdef int release(self) except -1
    cdef void copy(self, void *to, const void *data, size_t size) noexcept
    cdef int returned(self) except -1

    # ---- sending: a turn, in which messages are written ----
    cdef int begin_send(self) except -1
    cdef int write(self, object item, uint16_t kind, uint16_t aux) except? -1
    cdef int end_send(self) except -1
    cdef int wait_space(self, size_t size, int64_t left) except -1
    cdef int send(
        self, object item, uint16_t kind, uint16_t aux, bint block, object timeout
    ) except -1

    # ---- receiving: a turn, in which messages are read ----
    cdef int begin_receive(self, int64_t deadline) except -1
    cdef object read(self, bint only_bytes)
    cdef Py_ssize_t read_records(self, Py_buffer *to) except? -2
    cdef int end_receive(self) except -1
    cdef int wait_message(self, int64_t left) except -1
    cdef int await_more(self, int64_t deadline) except -1
    cdef object receive(self, bint only_bytes, bint block, object timeout)
    cdef object unstash(self, bint only_bytes)
    cdef list unpack_all(self, list found)
