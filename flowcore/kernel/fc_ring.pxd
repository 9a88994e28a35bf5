from flowcore.kernel.fc_reactor cimport fc_mem


cdef extern from "fc/ring.h" nogil:
    ctypedef struct fc_ring_sys:
        pass

    ctypedef struct fc_ring:
        char *base
        size_t capacity

    const fc_ring_sys fc_ring_sys_memfd
    int fc_ring_open(fc_ring *r, size_t capacity, const fc_mem *mem, const fc_ring_sys *sys)
    void fc_ring_close(fc_ring *r)
    bint fc_ring_mapped(const fc_ring *r)
    size_t fc_ring_len(const fc_ring *r)
    char *fc_ring_claim(const fc_ring *r, size_t *room)
    void fc_ring_commit(fc_ring *r, size_t n)
    const char *fc_ring_peek(const fc_ring *r, size_t *len)
    void fc_ring_consume(fc_ring *r, size_t n)
    Py_ssize_t fc_ring_read_from(fc_ring *r, int fd, size_t max)
    Py_ssize_t fc_ring_write_to(fc_ring *r, int fd, size_t max)
