from flowcore.kernel.gate cimport Gate


cdef enum:
    GONE = -2                      # from look(): nothing is there to be watched any more


cdef class Watch:
    cdef Gate gate
    cdef object bell               # threading.Event, rung for a thread that rests
    cdef bint running              # there is a thread
    cdef bint resting              # which waits for the bell
    cdef bint retired              # and is not to wait for it any more

    cdef int look(self) except -1
    cdef int arm(self) except -1
    cdef bint rest(self) except -1
    cdef int retire(self) except -1
    cdef int forget_closed_loops(self) except -1
