from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t

from flowcore.kernel.fc_reactor cimport fc_mem


cdef extern from "<errno.h>" nogil:
    enum:
        EDEADLK
        EOWNERDEAD


cdef extern from "fc/shmq.h" nogil:
    enum:
        FC_SHMQ_VERSION
        FC_SHMQ_MAX_LANES
        FC_SHMQ_RECORD_HEAD
        FC_SHMQ_SLICE_NS

    ctypedef struct fc_shmq:
        pass

    ctypedef struct fc_shmq_config:
        uint64_t capacity_bytes
        uint64_t max_message_bytes
        uint32_t max_producers

    ctypedef struct fc_shmq_msg:
        const unsigned char *data
        uint32_t len
        uint16_t kind
        uint16_t aux

    ctypedef struct fc_shmq_stats:
        uint64_t capacity_bytes
        uint64_t max_message_bytes
        uint64_t used_bytes
        uint64_t segment_bytes
        uint64_t producers_joined
        uint64_t producers_left
        uint64_t consumers_joined
        uint64_t consumers_left
        uint32_t max_producers
        uint32_t lanes_used
        uint32_t lanes_owned
        bint closed

    int fc_shmq_create(fc_shmq **out, const fc_mem *mem, const fc_shmq_config *config)
    int fc_shmq_attach(fc_shmq **out, const fc_mem *mem, int fd)
    void fc_shmq_close(fc_shmq *q)
    int fc_shmq_fd(const fc_shmq *q)
    bint fc_shmq_forked(const fc_shmq *q)
    int fc_shmq_renew(fc_shmq *q)
    void fc_shmq_shutdown(fc_shmq *q)
    bint fc_shmq_is_shut_down(const fc_shmq *q)
    bint fc_shmq_is_empty(const fc_shmq *q)
    fc_shmq_stats fc_shmq_get_stats(const fc_shmq *q)

    bint fc_shmq_send_trylock(fc_shmq *q)
    void fc_shmq_send_lock(fc_shmq *q)
    void fc_shmq_send_unlock(fc_shmq *q)
    int fc_shmq_reserve(fc_shmq *q, size_t len, unsigned char **data)
    void fc_shmq_stage(fc_shmq *q, size_t len, uint16_t kind, uint16_t aux)
    void fc_shmq_publish(fc_shmq *q)
    bint fc_shmq_has_space(const fc_shmq *q, size_t len)
    int fc_shmq_wait_space(fc_shmq *q, size_t len, int64_t timeout_ns)

    int fc_shmq_recv_trylock(fc_shmq *q)
    int fc_shmq_recv_lock(fc_shmq *q)
    void fc_shmq_recv_unlock(fc_shmq *q)
    int fc_shmq_peek(fc_shmq *q, fc_shmq_msg *m)
    void fc_shmq_take(fc_shmq *q)
    int64_t fc_shmq_count(const fc_shmq *q)
    int fc_shmq_wait_message(fc_shmq *q, int64_t timeout_ns)
