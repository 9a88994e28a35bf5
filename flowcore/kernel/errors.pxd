cdef object error_of(int code)
