from libc.stdint cimport uint32_t

cdef extern from "fc/slice.h" nogil:
    ctypedef struct fc_slice:
        const char *ptr
        size_t len

    fc_slice fc_slice_of(const char *ptr, size_t len)
    bint fc_slice_eq(fc_slice a, fc_slice b)
    bint fc_slice_ieq(fc_slice a, fc_slice b)
    unsigned char fc_lower(unsigned char c)
