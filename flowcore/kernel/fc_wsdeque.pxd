from flowcore.kernel.fc_reactor cimport fc_mem


cdef extern from "fc/wsdeque.h" nogil:
    ctypedef enum fc_stolen:
        FC_STEAL_EMPTY
        FC_STEAL_LOST
        FC_STEAL_GOT

    ctypedef struct fc_wsdeque:
        pass

    int fc_wsdeque_new(fc_wsdeque **out, const fc_mem *mem, size_t capacity, size_t max_capacity)
    void fc_wsdeque_free(fc_wsdeque *d)
    size_t fc_wsdeque_len(const fc_wsdeque *d)
    int fc_wsdeque_push(fc_wsdeque *d, void *element)
    void *fc_wsdeque_pop(fc_wsdeque *d)
    fc_stolen fc_wsdeque_steal(fc_wsdeque *d, void **element)
