# Single words that threads share and csrc has no structure for, and a lock where the GIL is none.

from libc.stdint cimport int64_t, uint32_t

from flowcore.kernel.fc_concurrent cimport fc_cpu_relax


cdef extern from *:
    """
    #include <stdint.h>

    static inline uint32_t ws_load(const uint32_t *word) {
      return __atomic_load_n(word, __ATOMIC_ACQUIRE);
    }
    static inline void ws_store(uint32_t *word, uint32_t value) {
      __atomic_store_n(word, value, __ATOMIC_RELEASE);
    }
    static inline uint32_t ws_swap(uint32_t *word, uint32_t value) {
      return __atomic_exchange_n(word, value, __ATOMIC_SEQ_CST);
    }
    static inline int ws_move(uint32_t *word, uint32_t from, uint32_t to) {
      return __atomic_compare_exchange_n(word, &from, to, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
    }
    static inline uint32_t ws_drop(uint32_t *word) {
      return __atomic_sub_fetch(word, 1, __ATOMIC_ACQ_REL);
    }
    static inline int64_t ws_count(const int64_t *word) {
      return __atomic_load_n(word, __ATOMIC_ACQUIRE);
    }
    static inline int64_t ws_add(int64_t *word, int64_t n) {
      return __atomic_add_fetch(word, n, __ATOMIC_SEQ_CST);
    }

    /* Around the consumers' side of the inboxes, a few instructions that call nothing. */
    #ifdef Py_GIL_DISABLED
    #define WS_HAS_GIL 0
    static inline void ws_lock(uint32_t *word) {
      while (__atomic_exchange_n(word, 1, __ATOMIC_ACQUIRE)) fc_cpu_relax();
    }
    static inline void ws_unlock(uint32_t *word) { __atomic_store_n(word, 0, __ATOMIC_RELEASE); }
    #else
    #define WS_HAS_GIL 1
    static inline void ws_lock(uint32_t *word) { (void)word; }
    static inline void ws_unlock(uint32_t *word) { (void)word; }
    #endif

    """
    bint WS_HAS_GIL
    uint32_t ws_load(const uint32_t *word) nogil
    void ws_store(uint32_t *word, uint32_t value) nogil
    uint32_t ws_swap(uint32_t *word, uint32_t value) nogil
    bint ws_move(uint32_t *word, uint32_t start, uint32_t end) nogil
    uint32_t ws_drop(uint32_t *word) nogil
    int64_t ws_count(const int64_t *word) nogil
    int64_t ws_add(int64_t *word, int64_t n) nogil
    void ws_lock(uint32_t *word) nogil
    void ws_unlock(uint32_t *word) nogil
