from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from flowcore.kernel.fc_http1 cimport fc_http1_field, fc_http1_limits, fc_http1_response
from flowcore.kernel.fc_reactor cimport fc_reactor
from flowcore.kernel.fc_slice cimport fc_slice


cdef extern from "<netinet/in.h>":
    struct in_addr:
        pass
    struct in6_addr:
        pass
    ctypedef unsigned int socklen_t
    struct sockaddr:
        uint16_t sa_family
    struct sockaddr_in:
        in_addr sin_addr
        uint16_t sin_port
    struct sockaddr_in6:
        in6_addr sin6_addr
        uint16_t sin6_port
    uint16_t ntohs(uint16_t port)
    enum:
        AF_INET
        AF_INET6


cdef extern from "fc/listener.h":
    ctypedef struct fc_listener:
        void (*on_accept)(fc_listener *l, int fd, const sockaddr *peer, socklen_t len) noexcept
        void (*on_exhausted)(fc_listener *l, int err) noexcept

    int fc_listener_open(fc_listener *l, fc_reactor *r, int fd)
    void fc_listener_hold(fc_listener *l, bint held)
    void fc_listener_close(fc_listener *l)


cdef extern from "fc/http_conn.h":
    enum:
        FC_HTTP_FULL

    ctypedef struct fc_http_config:
        fc_http1_limits limits
        uint32_t max_pipelined
        uint64_t head_timeout_ns
        uint64_t body_timeout_ns
        uint64_t min_body_bytes_per_s
        uint64_t idle_timeout_ns
        uint64_t handler_timeout_ns
        uint64_t send_timeout_ns
        uint64_t linger_ns

    ctypedef union fc_http_peer:
        sockaddr any
        sockaddr_in v4
        sockaddr_in6 v6

    ctypedef struct fc_http_server:
        void *user
        size_t conn_count
        uint64_t served
        uint64_t refused

    ctypedef struct fc_http_conn:
        fc_http_server *server
        fc_http_peer peer

    ctypedef struct fc_http_req:
        fc_http_server *server
        fc_http_conn *conn
        void *user
        uint8_t method
        uint8_t minor
        bint keep_alive
        bint started
        uint16_t status
        uint64_t reply_bytes
        uint64_t started_ns
        fc_http_peer peer
        const char *head
        fc_slice body
        uint32_t field_count
        fc_http1_field *fields

    ctypedef struct fc_http_upcalls:
        void (*on_request)(fc_http_server *server, fc_http_req *req) noexcept
        void (*on_gone)(fc_http_req *req) noexcept
        void (*on_timeout)(fc_http_req *req) noexcept
        void (*on_writable)(fc_http_req *req) noexcept
        void (*on_refused)(fc_http_conn *conn, int status, int error) noexcept
        void (*on_disconnect)(fc_http_server *server) noexcept

    fc_http_config fc_http_config_default()
    fc_http_server *fc_http_server_new(fc_reactor *r, const fc_http_config *config,
                                       const fc_http_upcalls *up, void *user)
    int fc_http_server_accept(fc_http_server *s, int fd, const sockaddr *peer, socklen_t peer_len)
    void fc_http_server_drain(fc_http_server *s)
    void fc_http_server_close(fc_http_server *s)
    fc_slice fc_http_req_method(const fc_http_req *q)
    fc_slice fc_http_req_target(const fc_http_req *q)
    void fc_http_req_release(fc_http_req *q)
    int fc_http_reply(fc_http_req *q, fc_http1_response *r, fc_slice body,
                      void (*release)(void *) noexcept, void *owner)
    int fc_http_begin(fc_http_req *q, fc_http1_response *r)
    int fc_http_send(fc_http_req *q, fc_slice bytes)
    int fc_http_end(fc_http_req *q)
    void fc_http_abort(fc_http_req *q)
