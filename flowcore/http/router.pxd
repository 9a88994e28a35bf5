from flowcore.http.request cimport Request
from flowcore.kernel.fc_router cimport fc_match, fc_router
from flowcore.kernel.fc_slice cimport fc_slice


cdef class Endpoint:
    """A handler and how it is called."""
    cdef readonly object handler
    cdef bint is_async
    cdef bint takes_request_only
    # For each argument: -1 is the request, else the number of a path parameter.
    cdef tuple plan
    cdef tuple keywords
    cdef tuple names
    cdef tuple kinds

    cdef object call(self, Request request, fc_match *match)
    cdef tuple convert(self, fc_match *match)


cdef class Route:
    """A path, with a handler for each method that is served there."""
    cdef readonly str pattern
    cdef list by_method             # an Endpoint or None for each fc_http1_method
    cdef str allow


cdef class Router:
    cdef fc_router *core
    cdef list routes

    cdef Route find(self, fc_slice path, fc_match *match)
