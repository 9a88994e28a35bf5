cdef extern from "fc/mpsc.h" nogil:
    ctypedef struct fc_mpsc_node:
        pass

    ctypedef struct fc_mpsc:
        pass

    void fc_mpsc_init(fc_mpsc *q)
    void fc_mpsc_push(fc_mpsc *q, fc_mpsc_node *node)
    fc_mpsc_node *fc_mpsc_pop(fc_mpsc *q)
    bint fc_mpsc_empty(const fc_mpsc *q)
