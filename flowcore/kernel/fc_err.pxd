cdef extern from "fc/err.h" nogil:
    enum:
        FC_ENOMEM
        FC_EEOF
        FC_ECLOSED
        FC_ETIMEOUT
        FC_ELIMIT
        FC_EINVALID
        FC_EEXISTS
        FC_ESTATE

    ctypedef struct fc_err_info:
        int code
        const char *name
        const char *exception
        const char *text

    const fc_err_info *fc_err_table(size_t *count)
    const char *fc_strerror(int code)
    const char *fc_err_name(int code)
