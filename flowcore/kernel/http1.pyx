"""HTTP/1.1 requests out of bytes, without I/O: the server's parser for use on its own."""

cimport cython
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from flowcore.kernel.errors cimport error_of
from flowcore.kernel.fc_http1 cimport (
    FC_HTTP1_DATA,
    FC_HTTP1_DONE,
    FC_HTTP1_NO_BODY,
    fc_http1_body,
    fc_http1_field,
    fc_http1_head,
    fc_http1_init,
    fc_http1_limits,
    fc_http1_parser,
    fc_http1_reset,
)
from flowcore.kernel.fc_slice cimport fc_slice

__all__ = ["ParsedRequest", "RequestParser"]


@cython.final
cdef class ParsedRequest:
    """One whole request; header names keep their case, values are without outer white space."""

    cdef readonly bytes method
    cdef readonly bytes target
    cdef readonly int minor
    cdef readonly list headers
    cdef readonly bytes body
    cdef readonly bint keep_alive
    cdef readonly bint upgrade
    cdef readonly bint expect_continue

    def __init__(self):
        raise TypeError("a ParsedRequest comes from RequestParser.feed()")

    def __repr__(self):
        return f"<ParsedRequest {self.method!r} {self.target!r}, body of {len(self.body)} bytes>"


cdef ParsedRequest _request_of(const fc_http1_parser *p, const char *head):
    cdef ParsedRequest request = ParsedRequest.__new__(ParsedRequest)
    cdef const fc_http1_field *f
    cdef uint32_t i
    request.method = PyBytes_FromStringAndSize(head + p.method_off, p.method_len)
    request.target = PyBytes_FromStringAndSize(head + p.target_off, p.target_len)
    request.minor = p.minor
    request.keep_alive = p.keep_alive
    request.upgrade = p.upgrade
    request.expect_continue = p.expect_continue
    request.body = b""
    request.headers = []
    for i in range(p.field_count):
        f = &p.fields[i]
        request.headers.append((
            PyBytes_FromStringAndSize(head + f.name, f.name_len),
            PyBytes_FromStringAndSize(head + f.value, f.value_len),
        ))
    return request


@cython.final
cdef class RequestParser:
    """Requests from the bytes of one connection, strict to RFC 9112 and bounded.

    Args:
        max_request_line_bytes: of the request line without its CR LF; beyond it status 414.
        max_header_bytes: of all field lines of a request, and again of its trailers; 431.
        max_headers: number of fields of a request, and again of its trailers; 431.
        max_body_bytes: of the decoded body; 413.
        max_chunk_extension_bytes: summed over one body; 400.

    Raises:
        OverflowError: a limit is negative, or not below 2**32 (2**64 for the body).
    """

    cdef fc_http1_parser _parser
    cdef fc_http1_limits _limits
    cdef fc_http1_field *_fields
    cdef bytearray _input  # from the first byte of what is not yet complete
    cdef bytearray _body
    cdef ParsedRequest _open  # its head is complete and its body is not

    def __cinit__(
        self,
        *,
        uint32_t max_request_line_bytes=8192,
        uint32_t max_header_bytes=32768,
        uint32_t max_headers=100,
        uint64_t max_body_bytes=16777216,
        uint32_t max_chunk_extension_bytes=4096,
    ):
        self._limits.max_request_line_bytes = max_request_line_bytes
        self._limits.max_header_bytes = max_header_bytes
        self._limits.max_headers = max_headers
        self._limits.max_body_bytes = max_body_bytes
        self._limits.max_chunk_extension_bytes = max_chunk_extension_bytes
        self._fields = <fc_http1_field *>calloc(<size_t>max_headers + 1, sizeof(fc_http1_field))
        if self._fields is NULL:
            raise MemoryError()
        self._input = bytearray()
        fc_http1_init(&self._parser, &self._limits, self._fields)

    def __dealloc__(self):
        free(self._fields)

    def feed(self, data):
        """The requests that `data` completes, in order; the rest is kept for the next call.

        Requests that came before an error in the same data are returned first, since they are to
        be answered first; the error is then raised by the next call, which may feed ``b""``.

        Raises:
            ProtocolError: the bytes are not HTTP/1.1; `status` says what to answer.
            LimitExceeded: a limit was passed; likewise. Either is raised by all later calls too.
        """
        cdef list requests = []
        cdef size_t at = 0
        cdef int result = self._parser.error
        if result == 0:
            self._input += data
            result = self._read(requests, &at)
            del self._input[:at]
        if result < 0 and not requests:
            error = error_of(result)
            error.status = self._parser.status
            raise error
        return requests

    cdef int _read(self, list requests, size_t *at) except? 1:
        """Reads all input, moving `at` over what is done with. Returns 0 or the parser's error."""
        cdef const char *start = PyByteArray_AS_STRING(self._input)
        cdef size_t size = <size_t>PyByteArray_GET_SIZE(self._input)
        cdef int64_t n
        cdef int result
        while True:
            if self._open is None:
                n = fc_http1_head(&self._parser, start + at[0], size - at[0])
                if n <= 0:
                    return <int>n
                self._open = _request_of(&self._parser, start + at[0])
                self._body = bytearray()
                at[0] += <size_t>n
            if self._parser.framing != FC_HTTP1_NO_BODY:
                result = self._read_body(start, size, at)
                if result != FC_HTTP1_DONE:
                    return result
            self._open.body = bytes(self._body)
            requests.append(self._open)
            self._open = None
            fc_http1_reset(&self._parser)

    cdef int _read_body(self, const char *start, size_t size, size_t *at) except? 1:
        """Gathers the body. Returns FC_HTTP1_DONE, FC_HTTP1_MORE or an error."""
        cdef fc_slice piece
        cdef size_t used = 0
        cdef int result
        while True:
            result = fc_http1_body(&self._parser, start + at[0], size - at[0], &used, &piece)
            at[0] += used
            if result != FC_HTTP1_DATA:
                return result
            self._body += piece.ptr[:piece.len]
