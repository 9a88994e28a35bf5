from cpython.object cimport PyObject

from flowcore.http.request cimport Dispatcher, Request
from flowcore.http.response cimport Response
from flowcore.http.router cimport Endpoint, Route, Router
from flowcore.kernel.fc_http_conn cimport fc_http_req, fc_http_server, fc_listener
from flowcore.kernel.fc_router cimport fc_match
from flowcore.loop.core cimport LoopCore
from flowcore.loop.driver cimport Driver


# A listener of the core that finds its Port: the listener comes first.
ctypedef struct OwnedListener:
    fc_listener listener
    PyObject *owner


cdef class Port:
    cdef OwnedListener owned
    cdef HttpServer server
    cdef readonly object sock
    cdef bint open

    cdef void shut(self) noexcept


cdef class HttpServer(Dispatcher):
    cdef LoopCore core
    cdef object loop
    cdef fc_http_server *http
    cdef Driver driver
    cdef Router router
    cdef object app
    cdef object config
    cdef list ports
    cdef Request spare
    cdef object access_log
    cdef object idle_waiter
    cdef bint held
    cdef bint draining
    cdef size_t max_connections
    cdef size_t suspended
    cdef double exhausted_at

    cdef int dispatch(self, fc_http_req *q) except -1
    cdef int route(self, Request request) except -1
    cdef int run(self, Request request, Endpoint endpoint, fc_match *match) except -1
    cdef int drive(self, Request request, object coro, object context) except -1
    cdef int write(self, Request request, Response response) except -1
    cdef int settle(self, Request request, object result, object context) except -1
    cdef int begin(self, Request request, Response response, object context) except -1
    cdef int drive_stream(self, Request request, object iterator, object context) except -1
    cdef int refuse(self, Request request, int status, str allow) except -1
    cdef int done(self, Request request) except -1
    cdef int wake_if_idle(self) except -1
    cdef int hold_if_full(self) except -1
