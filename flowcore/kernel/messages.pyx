"""How an object becomes the bytes of a message and comes back: ``bytes`` and ``str`` as they are,
others by pickle protocol 5, with the buffers that it leaves out of band beside it."""

cimport cython
from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.memoryview cimport PyMemoryView_GET_BUFFER
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy

from pickle import dumps, loads

from flowcore.errors import InvalidArgument, LimitExceeded, ProtocolError

__all__ = []

cdef enum:
    ALIGNMENT = 16  # of an object's out-of-band buffers, which is what malloc gives the copy


cdef inline size_t aligned(size_t size) noexcept:
    return (size + ALIGNMENT - 1) & ~<size_t>(ALIGNMENT - 1)


cdef object damaged():
    return ProtocolError("the message is no packed object, or is damaged")


@cython.final
@cython.no_gc
cdef class Packed:
    """A pickled object: the table of sizes and the pickle, then the buffers left out of it.

    ::

        u32 buffers | u32 pickle bytes | u64 (bytes << 1 | read-only) x buffers | pickle | buffers

    Each buffer starts at a multiple of ALIGNMENT, counted from the start of the message.
    """

    cdef int fill(self, unsigned char *to) except -1:
        """Writes the message to ``to``, where there is room for it. Runs no Python code."""
        cdef size_t place = PyBytes_GET_SIZE(self.head)
        cdef Py_buffer *view
        copy_bytes(to, PyBytes_AS_STRING(self.head), place)
        for each in self.views:
            view = PyMemoryView_GET_BUFFER(each)
            place = aligned(place)
            copy_bytes(to + place, view.buf, view.len)
            place += view.len
        return 0


cdef Packed pack(object obj):
    cdef list buffers = []
    cdef list views = []
    cdef bytes pickled = dumps(obj, 5, buffer_callback=buffers.append)
    cdef Packed p = Packed.__new__(Packed)
    cdef uint32_t sizes[2]
    cdef uint64_t entry
    cdef Py_buffer *view
    cdef Py_ssize_t i
    sizes[0] = <uint32_t>len(buffers)
    sizes[1] = <uint32_t>len(pickled)
    if len(pickled) >> 31:
        raise LimitExceeded("the pickle is larger than 2 GiB")
    cdef size_t table = 8 + 8 * sizes[0]
    p.head = PyBytes_FromStringAndSize(NULL, table + sizes[1])
    cdef char *at = PyBytes_AS_STRING(p.head)
    memcpy(at, sizes, 8)
    memcpy(at + table, PyBytes_AS_STRING(pickled), sizes[1])
    p.size = table + sizes[1]
    for i, each in enumerate(buffers):
        raw = each.raw()
        views.append(raw)
        view = PyMemoryView_GET_BUFFER(raw)
        entry = <uint64_t>view.len << 1 | view.readonly
        memcpy(at + 8 + 8 * i, &entry, 8)
        p.size = aligned(p.size) + view.len
    p.views = views
    return p


cdef object encode(object obj):
    """What is to be sent for an object: bytes and str as they are, else the Packed object."""
    cdef Py_ssize_t size
    if type(obj) is bytes:
        return obj
    if type(obj) is str:
        try:
            PyUnicode_AsUTF8AndSize(obj, &size)
            return obj
        except UnicodeEncodeError:
            pass  # lone surrogates
    return pack(obj)


cdef size_t size_of(object item) except? 0:
    """The bytes of a message: of what ``encode()`` or ``bytes_view()`` returned."""
    cdef Py_ssize_t size
    if type(item) is bytes:
        return PyBytes_GET_SIZE(item)
    if type(item) is str:
        PyUnicode_AsUTF8AndSize(item, &size)
        return size
    if type(item) is Packed:
        return (<Packed>item).size
    return PyMemoryView_GET_BUFFER(item).len


cdef object unpack(bytearray message):
    """The object of a packed message that was copied out; its buffers share the copy."""
    cdef const char *at = PyByteArray_AS_STRING(message)
    cdef size_t size = len(message)
    cdef uint32_t sizes[2]
    cdef uint64_t entry
    cdef size_t place, count
    cdef uint32_t i
    if size < 8:
        raise damaged()
    memcpy(sizes, at, 8)
    place = 8 + 8 * <size_t>sizes[0]
    if place + sizes[1] > size:
        raise damaged()
    whole = memoryview(message)
    pickled = whole[place:place + sizes[1]]
    place += sizes[1]
    buffers = []
    for i in range(sizes[0]):
        memcpy(&entry, at + 8 + 8 * i, 8)
        count = entry >> 1
        place = aligned(place)
        if count > size or place + count > size:
            raise damaged()
        part = whole[place:place + count]
        buffers.append(part.toreadonly() if entry & 1 else part)
        place += count
    return loads(pickled, buffers=buffers)


cdef object bytes_view(object data):
    """A memoryview of contiguous memory."""
    view = memoryview(data)
    if not view.c_contiguous:
        raise InvalidArgument("the buffer is not contiguous")
    return view
