cdef class Response:
    cdef readonly int status
    cdef readonly object body       # bytes, or an asynchronous iterator
    cdef bytes media_type
    cdef bytes fields               # whole header lines
    cdef bint streamed
    cdef bint closing               # Connection: close was asked for

    cdef int fill(self, object body, int status, object headers, object content_type) except -1
    cdef int set_body(self, object body) except -1
    cdef int add_field(self, str name, str value) except -1


cdef Response as_response(object result)
cdef Response json_response(object value, int status)
