"""From the core's negative error codes to exceptions."""

from flowcore.kernel.fc_err cimport fc_err_info, fc_err_name, fc_err_table, fc_strerror

import os

import flowcore.errors


cdef dict _build_table():
    cdef size_t count = 0
    cdef size_t i
    cdef const fc_err_info *info = fc_err_table(&count)
    table = {}
    for i in range(count):
        name = info[i].exception.decode()
        made = MemoryError if name == "MemoryError" else getattr(flowcore.errors, name)
        table[info[i].code] = made
    return table


cdef dict _classes = _build_table()


cdef object error_of(int code):
    """The exception for a negative code, ready to be raised."""
    cls = _classes.get(code)
    if cls is MemoryError:
        return MemoryError()
    if cls is not None:
        return cls(fc_strerror(code).decode(), code=fc_err_name(code).decode())
    return OSError(-code, os.strerror(-code))


def error_from_code(code: int) -> BaseException:
    """The exception that stands for a negative code of the core.

    Codes from the core's own list give classes of ``flowcore.errors`` or ``MemoryError``; others
    are negated errno values and give the fitting subclass of ``OSError``.

    Raises:
        ValueError: the code is not negative.
    """
    if code >= 0:
        raise ValueError(f"{code} is not an error code: those are negative")
    return error_of(code)
