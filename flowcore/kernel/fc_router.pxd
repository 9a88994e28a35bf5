from libc.stdint cimport uint32_t

from flowcore.kernel.fc_reactor cimport fc_mem
from flowcore.kernel.fc_slice cimport fc_slice


cdef extern from "fc/router.h":
    enum:
        FC_ROUTER_MAX_PARAMS

    ctypedef struct fc_router:
        pass

    ctypedef struct fc_match:
        int route
        uint32_t param_count
        fc_slice *params

    fc_router *fc_router_new(const fc_mem *mem)
    void fc_router_free(fc_router *r)
    int fc_router_add(fc_router *r, fc_slice pattern, size_t *where)
    bint fc_router_match(const fc_router *r, fc_slice path, fc_match *m)
