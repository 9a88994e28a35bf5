from flowcore.kernel.fc_reactor cimport fc_mem


cdef extern from "fc/spsc.h" nogil:
    ctypedef struct fc_spsc:
        pass

    ctypedef struct fc_span:
        void *data
        size_t count

    int fc_spsc_new(fc_spsc **out, const fc_mem *mem, size_t capacity, size_t record_bytes)
    void fc_spsc_free(fc_spsc *q, const fc_mem *mem)
    size_t fc_spsc_capacity(const fc_spsc *q)
    size_t fc_spsc_len(const fc_spsc *q)
    void *fc_spsc_look(fc_spsc *q, size_t index)

    size_t fc_spsc_claim(fc_spsc *q, size_t want, fc_span *span)
    void fc_spsc_publish(fc_spsc *q, size_t count)
    bint fc_spsc_push(fc_spsc *q, const void *record)
    bint fc_spsc_push_ptr(fc_spsc *q, void *pointer)
    size_t fc_spsc_push_many(fc_spsc *q, const void *records, size_t count)

    size_t fc_spsc_peek(fc_spsc *q, size_t want, fc_span *span)
    void fc_spsc_consume(fc_spsc *q, size_t count)
    bint fc_spsc_pop(fc_spsc *q, void *record)
    bint fc_spsc_pop_ptr(fc_spsc *q, void **pointer)
    size_t fc_spsc_pop_many(fc_spsc *q, void *records, size_t count)
