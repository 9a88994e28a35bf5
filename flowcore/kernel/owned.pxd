# References that change hands without being counted up and down again.

from cpython.object cimport PyObject


cdef extern from *:
    """
    /* A reference that was somebody's becomes the caller's. */
    static inline PyObject *fc_owned(PyObject *object) { return object; }
    """
    object fc_owned(PyObject *item)
