from libc.stdint cimport uint32_t, uint64_t

from flowcore.kernel.fc_reactor cimport fc_mem


cdef extern from "fc/slab.h" nogil:
    enum:
        FC_SLAB_MAX_CLASSES
        FC_SLAB_MAX_BYTES
        FC_SLAB_TRIM_INTERVAL

    ctypedef struct fc_slab:
        pass

    ctypedef struct fc_slab_cache:
        pass

    ctypedef struct fc_slab_block:
        size_t capacity
        char *data

    ctypedef struct fc_slab_config:
        const size_t *class_bytes
        size_t class_count
        size_t max_bytes
        uint32_t trim_interval

    ctypedef struct fc_slab_stats:
        uint64_t hits
        uint64_t misses
        uint64_t oversize
        uint64_t exhausted
        uint64_t remote_frees
        uint64_t trimmed
        size_t live
        size_t high_water
        size_t idle
        size_t pooled_bytes

    fc_slab_config fc_slab_config_default(const fc_mem *mem)
    int fc_slab_open(fc_slab **out, const fc_slab_config *config)
    int fc_slab_close(fc_slab *s)
    fc_slab_cache *fc_slab_cache_open(fc_slab *s)
    void fc_slab_cache_close(fc_slab_cache *c)
    fc_slab_block *fc_slab_acquire(fc_slab_cache *c, size_t bytes)
    void fc_slab_release(fc_slab_cache *c, fc_slab_block *b)
    size_t fc_slab_trim(fc_slab_cache *c)
    void fc_slab_flush(fc_slab_cache *c)
    fc_slab_stats fc_slab_stat(fc_slab *s)
    bint fc_slab_is_heap(const fc_slab_block *b)
