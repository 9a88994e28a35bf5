from libc.string cimport memcpy


cdef enum Kind:
    BYTES = 1
    TEXT = 2
    OBJECT = 3
    RECORDS = 4


cdef enum:
    # A copy of this size costs more than giving up the GIL and taking it back.
    NOGIL_BYTES = 1 << 16


cdef inline void copy_bytes(void *to, const void *data, size_t size) noexcept:
    """memcpy(), letting other threads run when it takes long."""
    if size < NOGIL_BYTES:
        memcpy(to, data, size)
        return
    with nogil:
        memcpy(to, data, size)


cdef class Packed:
    cdef bytes head
    cdef list views                # the buffers, as memoryviews of bytes
    cdef size_t size               # of the whole message

    cdef int fill(self, unsigned char *to) except -1


cdef object encode(object obj)
cdef size_t size_of(object item) except? 0
cdef object unpack(bytearray message)
cdef object bytes_view(object data)
