from flowcore.kernel.fc_http_conn cimport fc_http_peer, fc_http_req
from flowcore.kernel.fc_slice cimport fc_slice
from flowcore.loop.driver cimport Sink


cdef class Dispatcher:
    """Who takes a request's outcome: the server."""
    cdef int conclude(self, Request request, object result) except -1
    cdef int fail(self, Request request, object error) except -1


cdef enum Stage:
    HANDLING
    STREAMING
    ANSWERED


cdef class Headers:
    cdef Request request

    cdef fc_slice slice_of(self, unsigned int offset, unsigned int length) noexcept
    cdef object find(self, object name)


cdef class Request(Sink):
    # The core's request: a share that is given back when the object goes or serves another one.
    cdef fc_http_req *q
    cdef Dispatcher dispatcher
    cdef int stage
    cdef bint timed_out
    cdef fc_slice raw_path_slice
    cdef fc_slice query_slice
    cdef bytes decoded_path
    cdef dict params
    cdef bint cached                # one of the next four is set
    cdef object query_cache
    cdef object cookies_cache
    cdef object state_cache
    cdef object drained
    cdef object body_cache
    cdef readonly object app

    cdef int attach(self, fc_http_req *q, Dispatcher dispatcher, object app) except -1
    cdef int split_target(self) except -1
    cdef fc_slice route_path(self) noexcept
    cdef void reset(self) noexcept
    cdef int client_gone(self) except -1
    cdef int handler_timeout(self) except -1
    cdef int writable(self) except -1


cdef object peer_address(const fc_http_peer *peer)
