"""The request a handler sees: everything is decoded when it is asked for."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.unicode cimport PyUnicode_DecodeASCII, PyUnicode_DecodeLatin1
from libc.string cimport memchr

from flowcore.kernel.errors cimport error_of
from flowcore.kernel.fc_http1 cimport (
    FC_HTTP1_HEAD,
    FC_HTTP1_METHOD_OTHER,
    fc_http1_bodiless,
    fc_http1_field,
    fc_http1_method,
    fc_http1_method_name,
)
from flowcore.kernel.fc_http_conn cimport (
    AF_INET,
    AF_INET6,
    FC_HTTP_FULL,
    fc_http_abort,
    fc_http_end,
    fc_http_peer,
    fc_http_req,
    fc_http_req_method,
    fc_http_req_release,
    fc_http_req_target,
    fc_http_send,
    ntohs,
)
from flowcore.kernel.fc_slice cimport fc_slice, fc_slice_ieq, fc_slice_of
from flowcore.loop.driver cimport Sink

import asyncio
import socket
from collections.abc import ItemsView, KeysView, Mapping, ValuesView
from urllib.parse import parse_qsl, unquote_to_bytes

import orjson

from flowcore.errors import ConnectionClosed, InvalidState
from flowcore.http.errors import HTTPError
from flowcore.http.multimap import MultiMapping


cdef inline bytes as_bytes(fc_slice s):
    return PyBytes_FromStringAndSize(s.ptr, <Py_ssize_t>s.len)


cdef inline str as_latin1(fc_slice s):
    return PyUnicode_DecodeLatin1(s.ptr, <Py_ssize_t>s.len, NULL)


cdef tuple METHODS = tuple(
    [as_latin1(fc_http1_method_name(<fc_http1_method>i)) for i in range(FC_HTTP1_METHOD_OTHER)]
)


cdef object peer_address(const fc_http_peer *peer):
    """``(address, port)``, or None on a Unix socket."""
    if peer.any.sa_family == AF_INET:
        raw = PyBytes_FromStringAndSize(<const char *>&peer.v4.sin_addr, 4)
        return socket.inet_ntop(socket.AF_INET, raw), ntohs(peer.v4.sin_port)
    if peer.any.sa_family == AF_INET6:
        raw = PyBytes_FromStringAndSize(<const char *>&peer.v6.sin6_addr, 16)
        return socket.inet_ntop(socket.AF_INET6, raw), ntohs(peer.v6.sin6_port)
    return None


cdef class Dispatcher:
    cdef int conclude(self, Request request, object result) except -1:
        raise NotImplementedError

    cdef int fail(self, Request request, object error) except -1:
        raise NotImplementedError


@cython.final
cdef class Headers:
    """A request's header fields: a read-only mapping, its names in any case.

    ``headers["host"]`` is the first value of that name, ``headers.getlist(name)`` all. Values are
    decoded as Latin-1, as RFC 9110, 5.5 leaves bytes outside ASCII opaque.
    """

    def __init__(self):
        raise TypeError("Headers are made by the server")

    cdef fc_slice slice_of(self, unsigned int offset, unsigned int length) noexcept:
        return fc_slice_of(self.request.q.head + offset, length)

    cdef object find(self, object name):
        cdef bytes wanted = name.encode("latin-1", "replace") if isinstance(name, str) else b""
        cdef fc_slice w = fc_slice_of(PyBytes_AS_STRING(wanted), len(wanted))
        cdef fc_http_req *q = self.request.q
        cdef unsigned int i
        for i in range(q.field_count):
            if fc_slice_ieq(self.slice_of(q.fields[i].name, q.fields[i].name_len), w):
                return as_latin1(self.slice_of(q.fields[i].value, q.fields[i].value_len))
        return None

    def __getitem__(self, name):
        value = self.find(name)
        if value is None:
            raise KeyError(name)
        return value

    def get(self, name, default=None):
        """The first value of that name, or `default`."""
        value = self.find(name)
        return default if value is None else value

    def __contains__(self, name):
        return self.find(name) is not None

    def getlist(self, name):
        """All values of that name, in the order they came."""
        wanted = name.lower()
        return [value for key, value in self.pairs() if key == wanted]

    def pairs(self):
        """Every ``(name, value)``, names in lower case, in the order they came."""
        cdef fc_http_req *q = self.request.q
        cdef unsigned int i
        found = []
        for i in range(q.field_count):
            found.append((
                as_latin1(self.slice_of(q.fields[i].name, q.fields[i].name_len)).lower(),
                as_latin1(self.slice_of(q.fields[i].value, q.fields[i].value_len)),
            ))
        return found

    def keys(self):
        """The names in lower case, each once."""
        return KeysView(self)

    def values(self):
        """The first value of each name."""
        return ValuesView(self)

    def items(self):
        """Each name with its first value."""
        return ItemsView(self)

    def __iter__(self):
        return iter(dict.fromkeys([key for key, _ in self.pairs()]))

    def __len__(self):
        return len({key for key, _ in self.pairs()})

    def __eq__(self, other):
        if not isinstance(other, Mapping):
            return NotImplemented
        return dict(self.items()) == dict(other.items())

    __hash__ = None

    def __repr__(self):
        return f"Headers({self.pairs()!r})"


Mapping.register(Headers)


@cython.final
cdef class Request(Sink):
    """One HTTP request, complete with its body.

    Made by the server. It may be kept after the handler has returned: what it holds stays good.
    """

    def __init__(self):
        raise TypeError("a Request is made by the server")

    # ---- what was asked ------------------------------------------------------------------------

    @property
    def method(self):
        """The method, as sent: ``"GET"``."""
        if self.q.method < FC_HTTP1_METHOD_OTHER:
            return METHODS[self.q.method]
        return as_latin1(fc_http_req_method(self.q))

    @property
    def target(self):
        """The request target as it came, percent-encoded, with the query."""
        return as_latin1(fc_http_req_target(self.q))

    @property
    def path(self):
        """The path, percent-decoded; bytes that are no UTF-8 become U+FFFD."""
        cdef fc_slice path = self.route_path()
        return path.ptr[: path.len].decode("utf-8", "replace")

    @property
    def raw_path(self):
        """The path's bytes as they came."""
        return as_bytes(self.raw_path_slice)

    @property
    def query_string(self):
        """The bytes behind ``?``; empty without a query."""
        return as_bytes(self.query_slice)

    @property
    def query(self):
        """The query's parameters, decoded (``MultiMapping``)."""
        if self.query_cache is None:
            text = as_bytes(self.query_slice).decode("utf-8", "replace")
            self.cached = True
            self.query_cache = MultiMapping(parse_qsl(text, keep_blank_values=True))
        return self.query_cache

    @property
    def headers(self):
        """The header fields (``Headers``)."""
        cdef Headers headers = Headers.__new__(Headers)
        headers.request = self
        return headers

    @property
    def cookies(self):
        """The cookies by name (RFC 6265, 4.2.1); of equal names the first counts."""
        if self.cookies_cache is None:
            jar = {}
            for line in self.headers.getlist("cookie"):
                for part in line.split(";"):
                    name, sign, value = part.partition("=")
                    name, value = name.strip(), value.strip()
                    if sign and name and name not in jar:
                        if len(value) >= 2 and value[0] == value[len(value) - 1] == '"':
                            value = value[1 : len(value) - 1]
                        jar[name] = value
            self.cached = True
            self.cookies_cache = jar
        return self.cookies_cache

    @property
    def path_params(self):
        """The path's parameters by name, converted as the route says."""
        return self.params if self.params is not None else {}

    @property
    def http_version(self):
        """``"1.1"`` or ``"1.0"``."""
        return "1.1" if self.q.minor else "1.0"

    @property
    def client(self):
        """The client's ``(address, port)``; None on a Unix socket."""
        return peer_address(&self.q.peer)

    @property
    def connected(self):
        """Whether a reply can still reach the client."""
        return self.q.conn is not NULL

    # ---- what was sent along -------------------------------------------------------------------

    @property
    def body(self):
        """The body's bytes, transfer coding removed."""
        if self.body_cache is None:
            self.body_cache = as_bytes(self.q.body)
        return self.body_cache

    def text(self):
        """The body as UTF-8 text; HTTPError(400) if it is none."""
        try:
            return self.body.decode("utf-8")
        except UnicodeDecodeError as exc:
            said = f"the body is not UTF-8: {exc.reason} at byte {exc.start}"
            raise HTTPError(400, said) from exc

    def json(self):
        """The body parsed as JSON; HTTPError(400) that says where, if it is none."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError as exc:
            raise HTTPError(400, f"the body is not JSON: {exc}") from exc

    # ---- what a program adds -------------------------------------------------------------------

    @property
    def state(self):
        """A dict for the program's own use, empty at first."""
        if self.state_cache is None:
            self.cached = True
            self.state_cache = {}
        return self.state_cache

    def __repr__(self):
        return f"<Request {self.method} {self.target}>"

    # ---- the server's side ---------------------------------------------------------------------

    def __dealloc__(self):
        if self.q is not NULL:
            fc_http_req_release(self.q)

    cdef int attach(self, fc_http_req *q, Dispatcher dispatcher, object app) except -1:
        """Takes over a share of `q`."""
        self.q = q
        self.dispatcher = dispatcher
        self.app = app
        self.stage = HANDLING
        self.timed_out = False
        return self.split_target()

    cdef void reset(self) noexcept:
        """Ready for another request: only for an object nobody else holds."""
        fc_http_req_release(self.q)
        self.q = NULL
        if self.decoded_path is not None:
            self.decoded_path = None
        if self.params is not None:
            self.params = None
        if self.body_cache is not None:
            self.body_cache = None
        if self.cached:
            self.cached = False
            self.query_cache = self.cookies_cache = self.state_cache = self.drained = None

    cdef int split_target(self) except -1:
        """Finds path and query in the target. Of an absolute-form target the authority is skipped;
        percent-encoding is undone only where there is any."""
        cdef fc_slice t = fc_http_req_target(self.q)
        cdef const char *p = t.ptr
        cdef const char *end = t.ptr + t.len
        cdef const char *query
        if t.len and p[0] != b"/" and p[0] != b"*":
            p = <const char *>memchr(p, b":", t.len)
            if p is not NULL and end - p > 3 and p[1] == b"/" and p[2] == b"/":
                p += 3
                while p < end and p[0] != b"/" and p[0] != b"?":
                    p += 1
            else:
                p = t.ptr
        query = <const char *>memchr(p, b"?", end - p)
        self.raw_path_slice = fc_slice_of(p, (query if query is not NULL else end) - p)
        if query is NULL:
            self.query_slice = fc_slice_of(end, 0)
        else:
            self.query_slice = fc_slice_of(query + 1, end - query - 1)
        if not self.raw_path_slice.len:
            self.decoded_path = b"/"
        elif memchr(self.raw_path_slice.ptr, b"%", self.raw_path_slice.len) is not NULL:
            self.decoded_path = unquote_to_bytes(as_bytes(self.raw_path_slice))
        return 0

    cdef fc_slice route_path(self) noexcept:
        if self.decoded_path is None:
            return self.raw_path_slice
        return fc_slice_of(PyBytes_AS_STRING(self.decoded_path), len(self.decoded_path))

    cdef int on_result(self, object result) except -1:
        return self.dispatcher.conclude(self, result)

    cdef int on_error(self, object error) except -1:
        return self.dispatcher.fail(self, error)

    cdef int client_gone(self) except -1:
        if self.task is not None:
            self.task.cancel("the client has gone")
        return 0

    cdef int handler_timeout(self) except -1:
        self.timed_out = True
        if self.task is not None:
            self.task.cancel("handler_timeout_s has passed")
        return 0

    cdef int writable(self) except -1:
        drained, self.drained = self.drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)
        return 0

    # ---- a reply in pieces, for flowcore.http.streaming ----------------------------------------

    @property
    def _takes_body(self):
        """Whether pieces will be sent, or dropped: to HEAD, and for a status that has no body."""
        cdef int status = self.q.status
        if self.q.method == FC_HTTP1_HEAD or status == 205:
            return False
        return not fc_http1_bodiless(status)

    def _send(self, const unsigned char[::1] chunk not None):
        """Queues a piece. True: the client is slow, and ``_wait_writable()`` is to be awaited."""
        cdef const char *ptr = NULL
        if chunk.shape[0]:
            ptr = <const char *>&chunk[0]
        cdef int err = fc_http_send(self.q, fc_slice_of(ptr, chunk.shape[0]))
        if err < 0:
            raise error_of(err)
        return err == FC_HTTP_FULL

    def _wait_writable(self):
        """A future that is done once the client has taken most of what waits."""
        if self.q.conn is NULL:
            raise ConnectionClosed("the client has gone")
        self.cached = True
        self.drained = asyncio.get_running_loop().create_future()
        return self.drained

    def _end(self):
        cdef int err = fc_http_end(self.q)
        if err < 0:
            raise error_of(err)

    def _pumped(self, task):
        """The done callback of a stream's own task."""
        self.task = None
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is None:
            self.dispatcher.conclude(self, None)
        else:
            self.dispatcher.fail(self, error)

    def _abort(self):
        fc_http_abort(self.q)
