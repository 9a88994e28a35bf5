from libc.stdint cimport uint16_t, uint32_t, uint64_t

from flowcore.kernel.fc_reactor cimport fc_reactor, fc_source
from flowcore.kernel.fc_slice cimport fc_slice


cdef extern from "fc/stream.h":
    ctypedef struct fc_stream:
        fc_source source
        uint32_t high_water_bytes
        uint32_t low_water_bytes
        size_t out_bytes
        uint64_t sent_bytes

    ctypedef struct fc_stream_ops:
        void (*on_data)(fc_stream *s) noexcept
        void (*on_eof)(fc_stream *s) noexcept
        void (*on_drain)(fc_stream *s) noexcept
        void (*on_deadline)(fc_stream *s) noexcept
        void (*on_closed)(fc_stream *s, int why) noexcept
        void (*on_free)(fc_stream *s) noexcept
        void (*on_gone)(fc_stream *s) noexcept
        char *(*on_room)(fc_stream *s, size_t *room) noexcept
        void (*on_read)(fc_stream *s, size_t n) noexcept

    int fc_stream_open(fc_stream *s, fc_reactor *r, int fd, const fc_stream_ops *ops)
    void fc_stream_keep_fd(fc_stream *s)
    bint fc_stream_is_open(const fc_stream *s)
    void fc_stream_pause(fc_stream *s)
    void fc_stream_resume(fc_stream *s)
    int fc_stream_write(fc_stream *s, fc_slice bytes)
    int fc_stream_write_borrowed(
        fc_stream *s, fc_slice bytes, void (*release)(void *) noexcept, void *owner
    )
    void fc_stream_flush(fc_stream *s)
    void fc_stream_set_limits(fc_stream *s, uint32_t high_water_bytes, uint32_t low_water_bytes)
    void fc_stream_finish(fc_stream *s)
    bint fc_stream_is_full(const fc_stream *s)
    void fc_stream_close(fc_stream *s)
    void fc_stream_abort(fc_stream *s, int why)
