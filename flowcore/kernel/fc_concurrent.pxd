cdef extern from "fc/concurrent.h" nogil:
    void fc_cpu_relax()
