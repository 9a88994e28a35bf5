from flowcore.kernel.fc_slab cimport fc_slab, fc_slab_block, fc_slab_cache


cdef class BufferPool:
    # The GIL is what makes one cache enough for all threads.
    cdef fc_slab *slab
    cdef fc_slab_cache *cache
    cdef dict places               # in debug mode: block -> (place, nbytes, when)
    cdef size_t unreleased         # buffers that were dropped without release()
    cdef bint closed

    cdef PooledBuffer take(self, Py_ssize_t nbytes)
    cdef int give(self, fc_slab_block *block) except -1


cdef class PooledBuffer:
    cdef BufferPool pool
    cdef fc_slab_block *block      # NULL once it has gone back
    cdef Py_ssize_t size
    cdef Py_ssize_t exports
    cdef bint is_released          # it goes back with the last export

    cdef int warn(self) except -1
    cdef int check(self) except -1
    cdef int give_back(self) except -1


cdef class ObjectPool:
    cdef object factory
    cdef object reset
    cdef list idle                 # None once closed
    cdef Py_ssize_t max_idle
    cdef readonly size_t created
    cdef readonly size_t reused
    cdef readonly size_t dropped

    cdef object take(self)
    cdef int refuse_idle(self, object obj) except -1
    cdef int give(self, object obj) except -1
