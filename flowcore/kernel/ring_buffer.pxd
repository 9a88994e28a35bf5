from flowcore.kernel.fc_ring cimport fc_ring


cdef class RingBuffer:
    cdef fc_ring ring
    cdef unsigned long forks       # as many as the process had seen when this was made
    cdef Py_ssize_t views          # exports of bytes to read: they must stay
    cdef Py_ssize_t claim_views    # exports of room to write
    cdef size_t claimed            # what commit() may hand on
    cdef bint filling              # a thread is in read_from()
    cdef bint draining             # a thread is in write_to()

    cdef int check(self) except -1
    cdef int check_writer(self) except -1
    cdef int check_reader(self) except -1
    cdef size_t put(self, const char *data, size_t n) except? 0
    cdef int drop(self, Py_ssize_t n) except -1
