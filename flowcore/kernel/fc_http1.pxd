from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from flowcore.kernel.fc_slice cimport fc_slice


cdef extern from "fc/http1.h" nogil:
    enum:
        FC_HTTP1_MAX_REQUEST_LINE_BYTES
        FC_HTTP1_MAX_HEADER_BYTES
        FC_HTTP1_MAX_HEADERS
        FC_HTTP1_MAX_BODY_BYTES
        FC_HTTP1_MAX_CHUNK_EXTENSION_BYTES
        FC_HTTP1_METHOD_COUNT
        FC_HTTP1_MORE
        FC_HTTP1_DATA
        FC_HTTP1_DONE
        FC_HTTP1_LENGTH_CHUNKED
        FC_HTTP1_LENGTH_NONE
        FC_HTTP1_CHUNK_HEAD_MAX
        FC_HTTP1_DATE_BYTES

    ctypedef enum fc_http1_method:
        FC_HTTP1_GET
        FC_HTTP1_HEAD
        FC_HTTP1_POST
        FC_HTTP1_PUT
        FC_HTTP1_DELETE
        FC_HTTP1_CONNECT
        FC_HTTP1_OPTIONS
        FC_HTTP1_TRACE
        FC_HTTP1_PATCH
        FC_HTTP1_METHOD_OTHER

    ctypedef enum fc_http1_framing:
        FC_HTTP1_NO_BODY
        FC_HTTP1_LENGTH
        FC_HTTP1_CHUNKED

    ctypedef enum fc_http1_connection:
        FC_HTTP1_CONN_DEFAULT
        FC_HTTP1_CONN_CLOSE
        FC_HTTP1_CONN_KEEP_ALIVE

    ctypedef struct fc_http1_limits:
        uint32_t max_request_line_bytes
        uint32_t max_header_bytes
        uint32_t max_headers
        uint64_t max_body_bytes
        uint32_t max_chunk_extension_bytes

    ctypedef struct fc_http1_field:
        uint32_t name
        uint32_t name_len
        uint32_t value
        uint32_t value_len

    ctypedef struct fc_http1_parser:
        const fc_http1_limits *limits
        fc_http1_field *fields
        uint32_t method_off
        uint32_t method_len
        uint32_t target_off
        uint32_t target_len
        uint32_t field_count
        uint8_t method
        uint8_t minor
        uint8_t framing
        bint keep_alive
        bint expect_continue
        bint upgrade
        uint64_t content_length
        uint16_t status
        int error

    ctypedef struct fc_http1_response:
        int status
        uint8_t connection
        int64_t content_length
        fc_slice content_type
        fc_slice common
        fc_slice fields

    fc_http1_limits fc_http1_limits_default()
    fc_slice fc_http1_method_name(fc_http1_method method)

    void fc_http1_init(fc_http1_parser *p, const fc_http1_limits *limits, fc_http1_field *fields)
    void fc_http1_reset(fc_http1_parser *p)
    int64_t fc_http1_head(fc_http1_parser *p, const char *data, size_t len)
    int fc_http1_body(fc_http1_parser *p, const char *data, size_t len, size_t *used,
                      fc_slice *out)
    int fc_http1_error_status(int error)
    fc_slice fc_http1_slice(const char *head, uint32_t off, uint32_t len)
    const fc_http1_field *fc_http1_find(const fc_http1_parser *p, const char *head, fc_slice name)

    bint fc_http1_is_value(fc_slice value)
    fc_slice fc_http1_reason(int status)
    bint fc_http1_bodiless(int status)
    size_t fc_http1_head_bound(const fc_http1_response *r)
    size_t fc_http1_write_head(char *dst, const fc_http1_response *r)
    int64_t fc_http1_write_field(char *dst, fc_slice name, fc_slice value)
    size_t fc_http1_write_chunk_head(char *dst, uint64_t size)
    void fc_http1_write_date(char *dst, int64_t unix_seconds)
