from cpython.object cimport PyObject

from flowcore.kernel.fc_stream cimport fc_stream
from flowcore.loop.core cimport LoopCore


# A stream that finds its transport: the stream comes first, so a pointer to one is a pointer to the
# other.
ctypedef struct OwnedStream:
    fc_stream stream
    PyObject *owner


cdef class SocketTransport:
    cdef OwnedStream owned
    cdef object __weakref__
    cdef LoopCore core
    cdef readonly object _loop
    cdef readonly object _sock
    cdef readonly object _protocol
    cdef readonly dict _extra
    cdef readonly object _server
    cdef object context
    cdef object receive            # the protocol's data_received() or buffer_updated()
    cdef object get_buffer         # of a BufferedProtocol, else None
    cdef Py_buffer view            # where that one reads to, while a read is under way
    cdef bint viewing
    cdef PyObject *incoming        # the bytes object that is being read into
    cdef bint large
    cdef object empty_waiter
    cdef tuple _limits             # to go back to after that
    cdef object error              # what connection_lost() is told
    cdef Py_ssize_t fd
    cdef int lost                  # connection_lost() is under way, and writes since
    cdef bint begun                # connection_made() was called
    cdef bint paused
    cdef bint closing
    cdef bint finished
    cdef readonly bint _protocol_paused

    cdef int use(self, object protocol) except -1
    cdef char *room(self, size_t *size) except? NULL
    cdef int release_view(self) except -1
    cdef int take(self, size_t count) except -1
    cdef int call(self, object function, object argument, str message) except -1
    cdef int fail(self, object error, str message) except -1
    cdef int at_end(self) except -1
    cdef int at_drain(self) except -1
    cdef int unpause(self) except -1
    cdef int end_if_sent(self) except -1
    cdef int at_close(self, int why) except -1
    cdef int send(self, object data) except -1
    cdef int sent(self) except -1
    cdef int shut(self, object error) except -1
