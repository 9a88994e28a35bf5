"""The server: the core's connections on one side, an application's handlers on the other.

A request crosses the language border twice: the core calls ``on_request`` with a complete one, and
``write`` hands the reply back. Between them stand the route, one call of the handler, and one step
of its coroutine.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.contextvars cimport PyContext_CopyCurrent, PyContext_Enter, PyContext_Exit
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport uint64_t
from libc.string cimport memset

from flowcore.http.request cimport ANSWERED, STREAMING, Dispatcher, Request, peer_address
from flowcore.http.response cimport Response, as_response
from flowcore.http.router cimport Endpoint, Route, Router
from flowcore.kernel.errors cimport error_of
from flowcore.kernel.fc_http1 cimport (
    FC_HTTP1_GET,
    FC_HTTP1_HEAD,
    FC_HTTP1_METHOD_OTHER,
    FC_HTTP1_OPTIONS,
    fc_http1_response,
)
from flowcore.kernel.fc_http_conn cimport (
    fc_http_begin,
    fc_http_config,
    fc_http_config_default,
    fc_http_conn,
    fc_http_reply,
    fc_http_req,
    fc_http_server,
    fc_http_server_accept,
    fc_http_server_close,
    fc_http_server_drain,
    fc_http_server_new,
    fc_http_upcalls,
    fc_listener,
    fc_listener_close,
    fc_listener_hold,
    fc_listener_open,
    sockaddr,
    socklen_t,
)
from flowcore.kernel.fc_router cimport fc_match
from flowcore.kernel.fc_slice cimport fc_slice, fc_slice_of
from flowcore.loop.core cimport LoopCore
from flowcore.loop.driver cimport Driver

import asyncio
import logging
import os
import traceback
from collections.abc import Coroutine
from types import CoroutineType

from flowcore.errors import ConnectionClosed, InvalidState
from flowcore.http.errors import HTTPError
from flowcore.http.streaming import pump

cdef extern from "Python.h":
    Py_ssize_t Py_REFCNT(PyObject *o)

cdef object logger = logging.getLogger("flowcore.http")

cdef enum:
    # Bodies from here on are lent to the core rather than copied into its block.
    LEND_BYTES = 4097

# Seconds between two warnings that descriptors have run out.
cdef double EXHAUSTED_EVERY_S = 10.0


# What a path answers to a method it has no handler for; 405 else.
cdef dict STATUS_WITHOUT = {FC_HTTP1_OPTIONS: 204, FC_HTTP1_METHOD_OTHER: 501}

cdef dict REFUSALS = {
    404: "404 Not Found\n",
    405: "405 Method Not Allowed\n",
    501: "501 Not Implemented\n",
}


# ---- the core's upcalls --------------------------------------------------------------------------


cdef void on_request(fc_http_server *s, fc_http_req *q) noexcept:
    cdef HttpServer server = <HttpServer>s.user
    try:
        server.dispatch(q)
    except (KeyboardInterrupt, SystemExit):
        server.core.keep_failure()
    except BaseException:
        logger.exception("a request could not be dispatched")


cdef void on_gone(fc_http_req *q) noexcept:
    if q.user is NULL:
        return
    cdef Request request = <Request>q.user
    try:
        if request.stage != ANSWERED:
            request.client_gone()
    except BaseException:
        logger.exception("a request could not be cancelled")


cdef void on_timeout(fc_http_req *q) noexcept:
    if q.user is NULL:
        return
    try:
        (<Request>q.user).handler_timeout()
    except BaseException:
        logger.exception("a request could not be cancelled")


cdef void on_writable(fc_http_req *q) noexcept:
    if q.user is NULL:
        return
    try:
        (<Request>q.user).writable()
    except BaseException:
        logger.exception("a stream could not be resumed")


cdef void on_refused(fc_http_conn *conn, int status, int error) noexcept:
    cdef HttpServer server = <HttpServer>conn.server.user
    if server.access_log is None:
        return
    try:
        server.access_log.refused(peer_address(&conn.peer), status, str(error_of(error)))
    except BaseException:
        logger.exception("the access log failed")


cdef void on_disconnect(fc_http_server *s) noexcept:
    cdef HttpServer server = <HttpServer>s.user
    try:
        server.hold_if_full()
        server.wake_if_idle()
    except BaseException:
        logger.exception("a closed connection could not be accounted for")


cdef fc_http_upcalls upcalls
upcalls.on_request = on_request
upcalls.on_gone = on_gone
upcalls.on_timeout = on_timeout
upcalls.on_writable = on_writable
upcalls.on_refused = on_refused
upcalls.on_disconnect = on_disconnect


cdef void on_accept(fc_listener *l, int fd, const sockaddr *peer, socklen_t length) noexcept:
    cdef HttpServer server = (<Port>(<OwnedListener *>l).owner).server
    # A failure is out of memory or a descriptor that cannot be watched; the core has closed it.
    fc_http_server_accept(server.http, fd, peer, length)
    try:
        server.hold_if_full()
    except BaseException:
        logger.exception("accepting could not be held")


cdef void on_exhausted(fc_listener *l, int err) noexcept:
    cdef HttpServer server = (<Port>(<OwnedListener *>l).owner).server
    try:
        now = server.loop.time()
        if server.exhausted_at and now - server.exhausted_at < EXHAUSTED_EVERY_S:
            return
        server.exhausted_at = now
        logger.error(
            "cannot accept connections: %s; waiting ones stay in the backlog. Raise the limit of"
            " open files (ulimit -n) or lower max_connections",
            os.strerror(-err),
        )
    except BaseException:
        pass


cdef bint is_coroutine(object result) except -1:
    """Whether it is to be driven; compiled coroutines have types of their own."""
    if isinstance(result, CoroutineType):
        return True
    if type(result) is Response or result is None or isinstance(result, (str, bytes, dict, list)):
        return False
    return isinstance(result, Coroutine)


cdef int report(str text, Request request, object error, int level=logging.ERROR) except -1:
    """Logs a failure. A log that fails itself must not keep the client waiting."""
    try:
        logger.log(level, text, request, exc_info=error)
    except Exception:
        traceback.print_exc()
    return 0


cdef Response error_reply(Request request, object error):
    """What an HTTPError says, or 500 if that cannot be sent."""
    try:
        text = error.detail if error.detail.endswith("\n") else error.detail + "\n"
        return Response(text, error.status, error.headers)
    except Exception as exc:
        report("%r failed: its HTTPError cannot be sent", request, exc)
        return Response("500 Internal Server Error\n", 500)


cdef void release_object(void *owner) noexcept:
    Py_DECREF(<object><PyObject *>owner)


@cython.final
cdef class Port:
    """One listening socket."""

    cdef void shut(self) noexcept:
        if self.open:
            self.open = False
            fc_listener_close(&self.owned.listener)
            self.sock.close()


cdef uint64_t nanoseconds(double seconds):
    return <uint64_t>(seconds * 1e9)


@cython.final
@cython.no_gc_clear
cdef class HttpServer(Dispatcher):
    """Serves one application on one loop. ``flowcore.http.serve()`` makes and starts it."""

    def __init__(self, app, loop, config, access_log=None):
        if not isinstance(loop, LoopCore):
            raise InvalidState(
                f"the HTTP server needs flowcore's event loop, not {type(loop).__name__}:"
                " start the program with flowcore.run()"
            )
        self.core = loop
        self.loop = loop
        self.driver = Driver(loop)
        self.app = app
        self.router = app.router
        self.config = config
        self.access_log = access_log
        self.ports = []
        self.max_connections = config.max_connections
        cdef fc_http_config c = fc_http_config_default()
        c.limits.max_request_line_bytes = config.max_request_line_bytes
        c.limits.max_header_bytes = config.max_header_bytes
        c.limits.max_headers = config.max_headers
        c.limits.max_body_bytes = config.max_body_bytes
        c.limits.max_chunk_extension_bytes = config.max_chunk_extension_bytes
        c.max_pipelined = config.max_pipelined
        c.head_timeout_ns = nanoseconds(config.head_timeout_s)
        c.body_timeout_ns = nanoseconds(config.body_timeout_s)
        c.min_body_bytes_per_s = config.min_body_bytes_per_s
        c.idle_timeout_ns = nanoseconds(config.idle_timeout_s)
        c.handler_timeout_ns = nanoseconds(config.handler_timeout_s or 0)
        c.send_timeout_ns = nanoseconds(config.send_timeout_s)
        c.linger_ns = nanoseconds(config.linger_timeout_s)
        self.http = fc_http_server_new(self.core.open_reactor(), &c, &upcalls, <void *>self)
        if self.http is NULL:
            raise MemoryError()
        # Until abort(): a server that nobody holds serves on, and ends with its loop.
        self.core._guests.add(self)

    # ---- a request's way -----------------------------------------------------------------------

    cdef int dispatch(self, fc_http_req *q) except -1:
        cdef Request request = self.spare
        if request is None:
            request = Request.__new__(Request)
        self.spare = None
        try:
            request.attach(q, self, self.app)
            self.route(request)
        except BaseException as exc:
            self.fail(request, exc)
        if request.stage == ANSWERED and Py_REFCNT(<PyObject *>request) == 1:
            request.reset()
            self.spare = request
        return 0

    cdef int route(self, Request request) except -1:
        cdef fc_match match
        cdef Endpoint endpoint = None
        cdef int method = request.q.method
        cdef fc_slice path = request.route_path()
        cdef Route route
        if path.len == 1 and path.ptr[0] == b"*":
            return self.refuse(request, 204, "GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH")
        route = self.router.find(path, &match)
        if route is None:
            return self.refuse(request, 404, None)
        if method < FC_HTTP1_METHOD_OTHER:
            endpoint = <Endpoint>route.by_method[method]
            if endpoint is None and method == FC_HTTP1_HEAD:
                endpoint = <Endpoint>route.by_method[FC_HTTP1_GET]
        if endpoint is None:
            return self.refuse(request, STATUS_WITHOUT.get(method, 405), route.allow)
        return self.run(request, endpoint, &match)

    cdef int run(self, Request request, Endpoint endpoint, fc_match *match) except -1:
        """Calls the handler, in a context of its own, and steps the coroutine it may return."""
        context = PyContext_CopyCurrent()
        if endpoint.is_async:
            return self.drive(request, endpoint.call(request, match), context)
        PyContext_Enter(context)
        try:
            result = endpoint.call(request, match)
        finally:
            PyContext_Exit(context)
        if is_coroutine(result):
            return self.drive(request, result, context)
        return self.settle(request, result, context)

    cdef int drive(self, Request request, object coro, object context) except -1:
        result = self.driver.start(coro, context, request)
        if not self.driver.suspended:
            return self.settle(request, result, context)
        if request.stage != ANSWERED and request.q.user is NULL:
            # The core finds the request by this when the client goes or time runs out.
            Py_INCREF(request)
            request.q.user = <void *>request
            self.suspended += 1
            if request.q.conn is NULL:
                request.client_gone()
        return 0

    cdef int conclude(self, Request request, object result) except -1:
        return self.settle(request, result, None)

    cdef int settle(self, Request request, object result, object context) except -1:
        """A handler has returned, or a stream has come to its end. `context` is the handler's, in
        which its stream runs too; None: the current one."""
        cdef Response response
        if request.stage == STREAMING:
            return self.done(request)
        if request.stage == ANSWERED:
            return 0
        if type(result) is Response and not (<Response>result).streamed:
            return self.write(request, <Response>result)
        try:
            response = as_response(result)
            if response.streamed:
                return self.begin(request, response, context)
            return self.write(request, response)
        except BaseException as exc:
            return self.fail(request, exc)

    cdef int write(self, Request request, Response response) except -1:
        cdef fc_http1_response r
        cdef bytes body = response.body
        cdef Py_ssize_t size = PyBytes_GET_SIZE(body)
        cdef int err
        memset(&r, 0, sizeof(r))
        r.status = response.status
        r.content_type = fc_slice_of(
            PyBytes_AS_STRING(response.media_type), PyBytes_GET_SIZE(response.media_type)
        )
        r.fields = fc_slice_of(
            PyBytes_AS_STRING(response.fields), PyBytes_GET_SIZE(response.fields)
        )
        if response.closing:
            request.q.keep_alive = False
        if size < LEND_BYTES:
            err = fc_http_reply(
                request.q, &r, fc_slice_of(PyBytes_AS_STRING(body), size), NULL, NULL
            )
        else:
            Py_INCREF(body)
            err = fc_http_reply(
                request.q,
                &r,
                fc_slice_of(PyBytes_AS_STRING(body), size),
                release_object,
                <void *><PyObject *>body,
            )
        # A client that has gone needs no answer; anything else is for the log.
        if err < 0 and request.q.conn is not NULL:
            logger.error("a reply could not be sent: %s", error_of(err))
        return self.done(request)

    cdef int begin(self, Request request, Response response, object context) except -1:
        """Sends a streamed reply's head and drives the iterator from a coroutine of the server."""
        cdef fc_http1_response r
        memset(&r, 0, sizeof(r))
        r.status = response.status
        r.content_length = -1
        r.content_type = fc_slice_of(
            PyBytes_AS_STRING(response.media_type), PyBytes_GET_SIZE(response.media_type)
        )
        r.fields = fc_slice_of(
            PyBytes_AS_STRING(response.fields), PyBytes_GET_SIZE(response.fields)
        )
        if response.closing:
            request.q.keep_alive = False
        request.stage = STREAMING
        cdef int err = fc_http_begin(request.q, &r)
        if err < 0:
            return self.fail(request, error_of(err))
        return self.drive_stream(request, response.body, context)

    cdef int drive_stream(self, Request request, object iterator, object context) except -1:
        # A suspended handler ends inside its task, where no other coroutine can be driven: the
        # stream then gets a task of its own.
        if request.q.user is not NULL:
            task = self.loop.create_task(pump(request, iterator))
            request.task = task
            task.add_done_callback(request._pumped)
            return 0
        if context is None:
            context = PyContext_CopyCurrent()
        return self.drive(request, pump(request, iterator), context)

    cdef int fail(self, Request request, object error) except -1:
        """A handler or a stream has raised."""
        cdef Response response
        if request.stage == ANSWERED:
            report("%r failed after its reply", request, error)
            return 0
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            if self.core.failure is None:
                self.core.failure = error
            request.stage = STREAMING
        cancelled = isinstance(error, asyncio.CancelledError)
        if request.stage == STREAMING:
            if not cancelled and not isinstance(
                error, (ConnectionClosed, KeyboardInterrupt, SystemExit)
            ):
                report("the reply to %r was cut short", request, error)
            request.stage = ANSWERED
            request._abort()
            return self.done(request)
        if isinstance(error, HTTPError):
            response = error_reply(request, error)
        elif cancelled and request.timed_out:
            response = Response("503 Service Unavailable: handler_timeout_s has passed\n", 503)
        elif cancelled and request.q.conn is NULL:
            return self.done(request)
        elif cancelled:
            report("%r was cancelled", request, None, logging.WARNING)
            response = Response("503 Service Unavailable\n", 503)
        else:
            report("%r failed", request, error)
            response = Response("500 Internal Server Error\n", 500)
        return self.write(request, response)

    cdef int refuse(self, Request request, int status, str allow) except -1:
        headers = {"Allow": allow} if allow is not None else None
        return self.write(request, Response(REFUSALS.get(status), status, headers))

    cdef int done(self, Request request) except -1:
        """The reply is with the core, or nobody waits for it any more."""
        request.stage = ANSWERED
        if self.access_log is not None:
            self.access_log.answered(
                request,
                request.q.status,
                request.q.reply_bytes,
                self.loop.time() - request.q.started_ns * 1e-9,
            )
        if request.q.user is not NULL:
            request.q.user = NULL
            self.suspended -= 1
            Py_DECREF(request)
            self.wake_if_idle()
        return 0

    # ---- life ----------------------------------------------------------------------------------

    def listen(self, sock):
        """Accepts from a bound, listening socket, which becomes the server's."""
        cdef Port port = Port.__new__(Port)
        sock.setblocking(False)
        port.server = self
        port.sock = sock
        cdef int err = fc_listener_open(
            &port.owned.listener, self.core.open_reactor(), sock.fileno()
        )
        if err < 0:
            raise error_of(err)
        port.owned.owner = <PyObject *>port
        port.owned.listener.on_accept = on_accept
        port.owned.listener.on_exhausted = on_exhausted
        port.open = True
        self.ports.append(port)

    @property
    def sockets(self):
        """The sockets that are listened on."""
        return [port.sock for port in self.ports]

    @property
    def connections(self):
        """How many connections are open."""
        return self.http.conn_count if self.http is not NULL else 0

    @property
    def served(self):
        """How many replies handlers have given."""
        return self.http.served if self.http is not NULL else 0

    @property
    def refused(self):
        """How many requests were refused before a handler saw them: malformed, late, too big."""
        return self.http.refused if self.http is not NULL else 0

    cdef int hold_if_full(self) except -1:
        """Stops accepting at max_connections, and goes on below it."""
        cdef bint full = self.http is not NULL and self.http.conn_count >= self.max_connections
        if full == self.held:
            return 0
        self.held = full
        for port in self.ports:
            fc_listener_hold(&(<Port>port).owned.listener, full)
        return 0

    cdef int wake_if_idle(self) except -1:
        if self.idle_waiter is not None and not self.suspended and self.connections == 0:
            waiter, self.idle_waiter = self.idle_waiter, None
            if not waiter.done():
                waiter.set_result(None)
        return 0

    def stop_accepting(self):
        """Closes the listening sockets; connections go on."""
        ports, self.ports = self.ports, []
        for port in ports:
            (<Port>port).shut()

    def drain(self):
        """Closes idle connections, and the others after the reply they are at."""
        self.draining = True
        if self.http is not NULL:
            fc_http_server_drain(self.http)

    async def wait_idle(self):
        """Returns once no connection is open and no handler runs."""
        if self.suspended or self.connections:
            self.idle_waiter = self.loop.create_future()
            await self.idle_waiter

    def abort(self):
        """Stops accepting, cuts what is left and cancels its handlers. The loop calls it when it is
        closed, if nobody did before."""
        self.stop_accepting()
        self.core._guests.discard(self)
        if self.http is not NULL:
            http, self.http = self.http, NULL
            fc_http_server_close(http)
            self.wake_if_idle()
