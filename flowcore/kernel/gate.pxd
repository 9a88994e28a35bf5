from libc.stdint cimport int64_t, uint32_t

from flowcore.kernel.fc_gate cimport fc_gate


cdef class Party:
    cdef object loop
    cdef object futures            # deque: those that wait, the first come first
    cdef Py_ssize_t owed           # wake-ups on their way to them, at most one each
    cdef bint called               # the loop was asked to hand them out


cdef class Gate:
    cdef fc_gate c
    cdef dict parties              # loop -> Party
    cdef unsigned int generation   # the fork it was last used after

    cdef int renew(self) except -1
    cdef uint32_t prepare(self) except? 0
    cdef int sleep(self, uint32_t key, int64_t deadline_ns) except -1
    cdef int wake(self, Py_ssize_t count) except -1
    cdef int wake_all(self) except -1
    cdef int wake_guests(self, Py_ssize_t count) except -1
    cdef int post(self, Party party) except -1
    cdef int drop(self, Party party) except -1
    cdef Party party_of(self, object loop)
    cdef bint counts(self, Party party) except -1
    cdef int enter(self, Party party, object future, bint first) except -1
    cdef int leave(self, Party party, object future) except -1
