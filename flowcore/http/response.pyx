"""What a handler returns."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE
from cpython.unicode cimport PyUnicode_CheckExact
from libc.stdint cimport int64_t

from flowcore.kernel.errors cimport error_of
from flowcore.kernel.fc_http1 cimport fc_http1_write_field
from flowcore.kernel.fc_slice cimport fc_slice_of

import sys
from http.cookies import Morsel

import orjson

from flowcore.errors import InvalidArgument

cdef bytes TEXT = b"text/plain; charset=utf-8"
cdef bytes BINARY = b"application/octet-stream"
cdef bytes JSON = b"application/json"
cdef bytes NONE = b""

# The server writes these itself; two of them in one reply would let a client misread it.
cdef frozenset RESERVED = frozenset({"content-length", "transfer-encoding", "date", "server"})


cdef extern from "Python.h":
    ctypedef struct PyTypeObject:
        void *tp_vectorcall

    Py_ssize_t PyVectorcall_NARGS(size_t nargsf)

# Content types that were checked before; a program has a handful.
cdef dict known_types = {}
cdef enum:
    MAX_KNOWN_TYPES = 256


cdef bytes checked_type(object value):
    """A Content-Type's bytes, checked once for each that a program uses."""
    known = known_types.get(value)
    if known is not None:
        return <bytes>known
    line = field_line("content-type", value)
    checked = line[len("content-type: ") : len(line) - 2]
    if len(known_types) < MAX_KNOWN_TYPES:
        known_types[value] = checked
    return checked


cdef bytes field_line(str name, str value):
    """``name: value CR LF``, checked, so that no value can smuggle in a line of its own."""
    try:
        n = name.encode("ascii")
        v = value.encode("latin-1")
    except UnicodeEncodeError as exc:
        raise InvalidArgument(f"header {name!r}: {exc.object[exc.start]!r} cannot be sent") from exc
    cdef bytes line = PyBytes_FromStringAndSize(NULL, len(n) + len(v) + 4)
    cdef int64_t size = fc_http1_write_field(
        PyBytes_AS_STRING(line),
        fc_slice_of(PyBytes_AS_STRING(n), len(n)),
        fc_slice_of(PyBytes_AS_STRING(v), len(v)),
    )
    if size < 0:
        error = error_of(<int>size)
        raise InvalidArgument(f"header {name!r}: {error}")
    return line[:size]


@cython.freelist(64)
cdef class Response:
    """A reply: body, status and header fields.

    Args:
        body: ``bytes``-like; ``str``, sent as UTF-8; an asynchronous iterator of either, sent as it
            comes; or None.
        status: 200 to 599.
        headers: a mapping, or pairs where a name stands several times. ``Content-Length``,
            ``Transfer-Encoding``, ``Date`` and ``Server`` are the server's own.
        content_type: by default ``text/plain; charset=utf-8`` for ``str`` and
            ``application/octet-stream`` for bytes and streams.

    Raises:
        InvalidArgument: a status out of range, or a header that cannot be sent.
        TypeError: a body of another type.
    """

    def __init__(self, body=None, status=200, headers=None, content_type=None):
        self.fill(body, status, headers, content_type)

    cdef int fill(self, object body, int status, object headers, object content_type) except -1:
        if not 200 <= status <= 599:
            raise InvalidArgument(f"a reply's status is from 200 to 599, not {status}")
        self.status = status
        self.fields = NONE
        self.set_body(body)
        if headers is not None:
            for name, value in headers.items() if hasattr(headers, "items") else headers:
                self.add_field(name, value)
        if content_type is not None:
            self.media_type = checked_type(content_type)
        return 0

    cdef int set_body(self, object body) except -1:
        if PyBytes_CheckExact(body):
            self.body = body
            self.media_type = BINARY
        elif PyUnicode_CheckExact(body) or isinstance(body, str):
            self.body = (<str>body).encode("utf-8")
            self.media_type = TEXT
        elif body is None:
            self.body = NONE
            self.media_type = NONE
        elif hasattr(body, "__aiter__"):
            self.body = body
            self.streamed = True
            self.media_type = BINARY
        elif isinstance(body, (bytes, bytearray, memoryview)):
            self.body = bytes(body)
            self.media_type = BINARY
        else:
            raise TypeError(
                "a body is bytes, str, an asynchronous iterator or None, not"
                f" {type(body).__name__}; for JSON return the object itself or use Response.json()"
            )
        return 0

    def set_content_type(self, value):
        """Sets Content-Type."""
        self.media_type = checked_type(value)

    cdef int add_field(self, str name, str value) except -1:
        if name is None or value is None:
            raise TypeError("a header's name and value are str, not None")
        cdef str key = name.lower()
        if key == "content-type":
            self.set_content_type(value)
        elif key in RESERVED:
            raise InvalidArgument(f"the server writes {name!r} itself: leave it out")
        elif key == "connection":
            if value.lower() != "close":
                raise InvalidArgument("of 'connection' a reply may only say 'close'")
            self.closing = True
        else:
            self.fields += field_line(name, value)
        return 0

    def add_header(self, name, value):
        """Adds a header field; one of that name that is there already stays."""
        self.add_field(name, value)

    def set_cookie(
        self,
        name,
        value,
        *,
        max_age_s=None,
        path="/",
        domain=None,
        secure=False,
        http_only=True,
        same_site="lax",
    ):
        """Adds a ``Set-Cookie`` field (RFC 6265, 4.1).

        Args:
            max_age_s: life in seconds; None: until the browser ends; 0: deletes the cookie.
            same_site: ``"lax"``, ``"strict"``, ``"none"`` (which browsers take only with
                ``secure``) or None.
        """
        morsel = Morsel()
        quoted = value if value.isascii() and not set(value) & set('";,\\ ') else None
        if quoted is None or any([ord(c) < 33 or ord(c) == 127 for c in value]):
            raise InvalidArgument(
                f"cookie {name!r}: the value holds a character that must be encoded first"
            )
        try:
            morsel.set(name, value, value)
        except Exception as exc:
            raise InvalidArgument(f"cookie {name!r}: {exc}") from exc
        if max_age_s is not None:
            morsel["max-age"] = str(int(max_age_s))
        for attribute, given in (("path", path), ("domain", domain), ("samesite", same_site)):
            if given is not None:
                if set(given) & set(";\r\n"):
                    raise InvalidArgument(f"cookie {name!r}: bad {attribute} {given!r}")
                morsel[attribute] = given
        morsel["secure"] = secure
        morsel["httponly"] = http_only
        self.add_field("set-cookie", morsel.OutputString())

    @staticmethod
    def json(value, status=200, headers=None):
        """A reply with `value` as JSON, by orjson: dict, list, str, numbers, dataclass, datetime,
        UUID, numpy array and what else it knows. TypeError for what it does not."""
        cdef Response response = json_response(value, 200)
        if not 200 <= status <= 599:
            raise InvalidArgument(f"a reply's status is from 200 to 599, not {status}")
        response.status = status
        if headers is not None:
            for name, given in headers.items() if hasattr(headers, "items") else headers:
                response.add_field(name, given)
        return response

    @staticmethod
    def redirect(location, status=302):
        """Sends the client to another address."""
        if status not in (301, 302, 303, 307, 308):
            raise InvalidArgument(f"a redirect's status is 301, 302, 303, 307 or 308, not {status}")
        return Response(None, status, {"location": location})

    @property
    def content_type(self):
        """The Content-Type; empty without one."""
        return self.media_type.decode("latin-1")

    @property
    def headers(self):
        """The further header fields as ``(name, value)`` pairs."""
        lines = self.fields.decode("latin-1").split("\r\n")
        return [tuple(line.split(": ", 1)) for line in lines if line]

    def __repr__(self):
        size = "streamed" if self.streamed else f"{len(self.body)} bytes"
        return f"<Response {self.status} {size}>"


cdef object call_response(object kind, PyObject *const *args, size_t nargsf, PyObject *kwnames):
    """``Response(...)`` without the tuple and the dict that ``__init__`` would be called with: it
    is made once a request. Subclasses go the ordinary way."""
    cdef PyObject *given[4]
    cdef Py_ssize_t n = PyVectorcall_NARGS(nargsf)
    cdef Py_ssize_t i, place
    cdef object name
    if n > 4:
        raise TypeError(f"Response takes at most 4 arguments, {n} were given")
    for i in range(4):
        given[i] = args[i] if i < n else NULL
    if kwnames is not NULL:
        for i in range(PyTuple_GET_SIZE(<object>kwnames)):
            name = <object>PyTuple_GET_ITEM(<object>kwnames, i)
            # Names in a call are interned, so the first two comparisons nearly always do.
            if name is CONTENT_TYPE:
                place = 3
            elif name is STATUS:
                place = 1
            else:
                place = ARGUMENTS.index(name) if name in ARGUMENTS else -1
            if place < 0:
                raise TypeError(f"Response has no argument {name!r}")
            if given[place] is not NULL:
                raise TypeError(f"Response got {name!r} twice")
            given[place] = args[n + i]
    cdef Response response = Response.__new__(Response)
    response.fill(
        None if given[0] is NULL else <object>given[0],
        200 if given[1] is NULL else <object>given[1],
        None if given[2] is NULL else <object>given[2],
        None if given[3] is NULL else <object>given[3],
    )
    return response


cdef str STATUS = sys.intern("status")
cdef str CONTENT_TYPE = sys.intern("content_type")
cdef tuple ARGUMENTS = ("body", STATUS, "headers", CONTENT_TYPE)

(<PyTypeObject *>Response).tp_vectorcall = <void *>call_response


cdef Response json_response(object value, int status):
    cdef Response response = Response.__new__(Response)
    response.status = status
    response.fields = NONE
    response.media_type = JSON
    response.body = orjson.dumps(value, None, orjson.OPT_SERIALIZE_NUMPY)
    return response


cdef Response as_response(object result):
    """A reply from whatever a handler returned."""
    cdef Response response
    if isinstance(result, Response):
        if (<Response>result).body is None:
            raise TypeError(f"{type(result).__name__}.__init__() did not call Response's")
        return result
    if isinstance(result, (dict, list)):
        return json_response(result, 200)
    if isinstance(result, tuple):
        if not 2 <= len(result) <= 3 or not isinstance(result[1], int):
            raise TypeError(
                "a handler that returns a tuple returns (body, status) or (body, status, headers)"
            )
        response = as_response(result[0])
        if response is result[0]:
            raise TypeError("give a Response its status and headers itself, not in a tuple")
        if not 200 <= result[1] <= 599:
            raise InvalidArgument(f"a reply's status is from 200 to 599, not {result[1]}")
        response.status = result[1]
        if len(result) == 3:
            headers = result[2]
            for name, value in headers.items() if hasattr(headers, "items") else headers:
                response.add_field(name, value)
        return response
    response = Response.__new__(Response)
    response.status = 204 if result is None else 200
    response.fields = NONE
    try:
        response.set_body(result)
    except TypeError:
        raise TypeError(
            f"a handler returned {type(result).__name__}; it may return Response, str, bytes, dict,"
            " list, None, an asynchronous iterator, or (body, status)"
        ) from None
    return response
