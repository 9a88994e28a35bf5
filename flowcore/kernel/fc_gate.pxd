from libc.stdint cimport int32_t

from flowcore.kernel.fc_waiter cimport fc_waiter


cdef extern from "fc/gate.h" nogil:
    ctypedef struct fc_gate:
        fc_waiter threads

    int fc_gate_init(fc_gate *g)
    void fc_gate_expect(fc_gate *g, int32_t change)
    int32_t fc_gate_guests(fc_gate *g)
    bint fc_gate_watched(fc_gate *g)
    bint fc_gate_watched_locked(fc_gate *g)
