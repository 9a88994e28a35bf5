from flowcore.kernel.fc_reactor cimport fc_mem


cdef extern from "fc/mpmc.h" nogil:
    ctypedef struct fc_mpmc:
        pass

    int fc_mpmc_new(fc_mpmc **out, const fc_mem *mem, size_t capacity, size_t record_bytes)
    void fc_mpmc_free(fc_mpmc *q, const fc_mem *mem)
    size_t fc_mpmc_capacity(const fc_mpmc *q)
    size_t fc_mpmc_len(const fc_mpmc *q)
    void *fc_mpmc_look(fc_mpmc *q, size_t index)
    bint fc_mpmc_push(fc_mpmc *q, const void *record)
    bint fc_mpmc_pop(fc_mpmc *q, void *record)
    bint fc_mpmc_push_ptr(fc_mpmc *q, void *pointer)
    bint fc_mpmc_pop_ptr(fc_mpmc *q, void **pointer)
    size_t fc_mpmc_push_many(fc_mpmc *q, const void *records, size_t count)
    size_t fc_mpmc_pop_many(fc_mpmc *q, void *records, size_t count)
