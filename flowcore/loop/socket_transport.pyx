"""asyncio's transport for stream sockets, on the kernel's stream."""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.contextvars cimport PyContext_CopyCurrent, PyContext_Enter, PyContext_Exit
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport UINT32_MAX, uint32_t

from flowcore.kernel.errors cimport error_of
from flowcore.kernel.fc_err cimport FC_ENOMEM
from flowcore.kernel.fc_slice cimport fc_slice
from flowcore.kernel.fc_stream cimport (
    fc_stream,
    fc_stream_abort,
    fc_stream_close,
    fc_stream_finish,
    fc_stream_flush,
    fc_stream_is_full,
    fc_stream_keep_fd,
    fc_stream_open,
    fc_stream_ops,
    fc_stream_pause,
    fc_stream_resume,
    fc_stream_set_limits,
    fc_stream_write,
    fc_stream_write_borrowed,
)
from flowcore.kernel.owned cimport fc_owned
from flowcore.loop.core cimport LoopCore

import asyncio
import sys
import warnings
from asyncio import base_events, constants, futures, transports, trsock
from asyncio.log import logger

__all__ = ["SocketTransport"]

cdef extern from "<sys/ioctl.h>" nogil:
    enum:
        FIONREAD
    int ioctl(int fd, unsigned long request, void *argument)

cdef extern from "Python.h":
    PyObject *new_bytes "PyBytes_FromStringAndSize"(char *data, Py_ssize_t size) except NULL
    int _PyBytes_Resize(PyObject **data, Py_ssize_t size) except -1

cdef enum:
    # After a read of so much the next one goes straight into the object that the protocol gets.
    DIRECT_BYTES = 1 << 16
    MAX_DIRECT_BYTES = 1 << 18
    # A write of this size is queued as it is, without a copy.
    BORROW_BYTES = 4096

# From 3.13 on a server keeps count of its transports by name.
cdef bint server_wants_transport = sys.version_info >= (3, 13)


cdef SocketTransport of(fc_stream *s):
    return <SocketTransport>(<OwnedStream *>s).owner


cdef char *on_room(fc_stream *s, size_t *room) noexcept:
    cdef SocketTransport t = of(s)
    try:
        return t.room(room)
    except BaseException:
        t.core.keep_failure()
        return NULL


cdef void on_read(fc_stream *s, size_t n) noexcept:
    cdef SocketTransport t = of(s)
    try:
        t.take(n)
    except BaseException:
        t.core.keep_failure()


cdef void on_eof(fc_stream *s) noexcept:
    cdef SocketTransport t = of(s)
    try:
        t.at_end()
    except BaseException:
        t.core.keep_failure()


cdef void on_drain(fc_stream *s) noexcept:
    cdef SocketTransport t = of(s)
    try:
        t.at_drain()
    except BaseException:
        t.core.keep_failure()


cdef void on_closed(fc_stream *s, int why) noexcept:
    cdef SocketTransport t = of(s)
    try:
        t.at_close(why)
    except BaseException:
        t.core.keep_failure()


cdef void on_free(fc_stream *s) noexcept:
    Py_DECREF(of(s))


cdef void drop_bytes(void *owner) noexcept:
    Py_DECREF(<object>owner)


cdef fc_stream_ops stream_ops
stream_ops.on_data = NULL
stream_ops.on_eof = on_eof
stream_ops.on_drain = on_drain
stream_ops.on_deadline = NULL
stream_ops.on_closed = on_closed
stream_ops.on_free = on_free
stream_ops.on_gone = NULL
stream_ops.on_room = on_room
stream_ops.on_read = on_read


@cython.final
cdef class SocketTransport:
    """A connected stream socket and its protocol.

    Made by the loop's ``create_connection()``, ``create_server()`` and their like. What a callback
    writes leaves in one system call at the end of the loop's turn, or at once when it passes the
    high-water mark.
    """

    _start_tls_compatible = True
    _sendfile_compatible = constants._SendfileMode.TRY_NATIVE

    def __cinit__(self, loop, sock, protocol, waiter=None, extra=None, server=None):
        cdef int err
        self.core = loop
        self._extra = {} if extra is None else extra
        self._extra["socket"] = trsock.TransportSocket(sock)
        if "peername" not in self._extra:
            try:
                self._extra["peername"] = sock.getpeername()
            except OSError:
                self._extra["peername"] = None
        self.fd = sock.fileno()
        self.context = PyContext_CopyCurrent()
        self.use(protocol)
        base_events._set_nodelay(sock)
        self.owned.owner = <PyObject *>self
        err = fc_stream_open(
            &self.owned.stream, self.core.open_reactor(), self.fd, &stream_ops
        )
        if err < 0:
            raise error_of(err)
        fc_stream_keep_fd(&self.owned.stream)
        Py_INCREF(self)
        self._loop = loop
        self._sock = sock
        self.core._guests.add(self)
        loop._transports[self.fd] = self
        if server is not None:
            self._server = server
            server._attach(*((self,) if server_wants_transport else ()))
        loop.call_soon(self._begin)
        if waiter is not None:
            # Woken only when connection_made() has been called.
            loop.call_soon(futures._set_result_unless_cancelled, waiter, None)

    @property
    def __class__(self):
        # isinstance() asks here: to a program this is a transport of asyncio, which no type with
        # an inside of its own can inherit from.
        return transports._FlowControlMixin

    def _begin(self):
        try:
            self._protocol.connection_made(self)
        finally:
            self.begun = True

    def __del__(self):
        if self._sock is not None:
            warnings.warn(f"unclosed transport {self!r}", ResourceWarning, source=self)
            self._sock.close()

    def __repr__(self):
        info = [type(self).__name__]
        if self._sock is None:
            info.append("closed")
        elif self.closing:
            info.append("closing")
        info.append(f"fd={self.fd}")
        if self._sock is not None:
            info.append("read=polling" if self.is_reading() else "read=idle")
            size = self.owned.stream.out_bytes
            info.append(f"write=<{'polling' if size else 'idle'}, bufsize={size}>")
        return f"<{' '.join(info)}>"

    # ---- what there is -------------------------------------------------------------------------

    def get_extra_info(self, name, default=None):
        """``socket``, ``sockname``, ``peername`` and what the connection's maker added."""
        if name == "sockname" and name not in self._extra and self._sock is not None:
            try:
                self._extra[name] = self._sock.getsockname()
            except OSError:
                self._extra[name] = None
        return self._extra.get(name, default)

    def get_protocol(self):
        return self._protocol

    def set_protocol(self, protocol):
        """The one who is told of what comes from now on."""
        self.use(protocol)

    cdef int use(self, object protocol) except -1:
        self._protocol = protocol
        if isinstance(protocol, asyncio.BufferedProtocol):
            self.get_buffer = protocol.get_buffer
            self.receive = protocol.buffer_updated
        else:
            self.get_buffer = None
            # Looked up once; one that has none is noticed when something comes.
            self.receive = getattr(protocol, "data_received", None)
        return 0

    def is_closing(self):
        return self.closing

    def is_reading(self):
        return not self.closing and not self.paused

    # ---- reading -------------------------------------------------------------------------------

    def pause_reading(self):
        """Calls the protocol no more until ``resume_reading()``; the peer is slowed down."""
        if not self.is_reading():
            return
        self.paused = True
        fc_stream_pause(&self.owned.stream)
        if self.core._debug:
            logger.debug("%r pauses reading", self)

    def resume_reading(self):
        if self.closing or not self.paused:
            return
        self.paused = False
        fc_stream_resume(&self.owned.stream)
        if self.core._debug:
            logger.debug("%r resumes reading", self)

    cdef char *room(self, size_t *size) except? NULL:
        """Where the next bytes may go."""
        cdef int waiting = 0
        if not self.begun:
            return NULL
        if self.get_buffer is None:
            # Memory of the very size, and not of the largest: the allocator would give that back to
            # the system each time, and have it faulted in again.
            if not self.large or ioctl(self.fd, FIONREAD, &waiting) < 0 or waiting < DIRECT_BYTES:
                return self.core.scratch(size)
            size[0] = min(waiting, MAX_DIRECT_BYTES)
            self.incoming = new_bytes(NULL, size[0])
            return PyBytes_AS_STRING(<object>self.incoming)
        PyContext_Enter(self.context)
        try:
            buffer = self.get_buffer(-1)
            PyObject_GetBuffer(buffer, &self.view, PyBUF_WRITABLE)
            self.viewing = True
            if self.view.len == 0:
                raise RuntimeError("get_buffer() returned an empty buffer")
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.release_view()
            self.fail(error, "Fatal error: protocol.get_buffer() call failed.")
            return NULL
        finally:
            PyContext_Exit(self.context)
        size[0] = self.view.len
        return <char *>self.view.buf

    cdef int release_view(self) except -1:
        if self.viewing:
            self.viewing = False
            PyBuffer_Release(&self.view)
        return 0

    cdef int take(self, size_t count) except -1:
        """``count`` bytes have come to where there was room."""
        cdef size_t size
        cdef PyObject *incoming
        cdef bytes data
        if self.viewing:
            self.release_view()
            if count and not self.lost:
                self.call(
                    self.receive, count, "Fatal error: protocol.buffer_updated() call failed."
                )
            return 0
        if self.incoming is not NULL:
            incoming, self.incoming = self.incoming, NULL
            if count != <size_t>PyBytes_GET_SIZE(<object>incoming):
                _PyBytes_Resize(&incoming, count)
            data = fc_owned(incoming)
        else:
            data = PyBytes_FromStringAndSize(self.core.scratch(&size), count)
        self.large = count >= DIRECT_BYTES
        if count and not self.lost:
            self.call(self.receive, data, "Fatal error: protocol.data_received() call failed.")
        return 0

    cdef int call(self, object function, object argument, str message) except -1:
        PyContext_Enter(self.context)
        try:
            function(argument)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.fail(error, message)
        finally:
            PyContext_Exit(self.context)
        return 0

    cdef int at_end(self) except -1:
        if self.core._debug:
            logger.debug("%r received EOF", self)
        PyContext_Enter(self.context)
        try:
            keep_open = self._protocol.eof_received()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.fail(error, "Fatal error: protocol.eof_received() call failed.")
            return 0
        finally:
            PyContext_Exit(self.context)
        if not keep_open:
            self.close()
        return 0

    # ---- writing -------------------------------------------------------------------------------

    def write(self, data):
        """Queues bytes for the peer."""
        if self.finished:
            raise RuntimeError("Cannot call write() after write_eof()")
        if self.empty_waiter is not None:
            raise RuntimeError("unable to write; sendfile is in progress")
        self.send(data)
        self.sent()

    def writelines(self, list_of_data):
        """Queues each of an iterable's pieces; they leave together."""
        if self.finished:
            raise RuntimeError("Cannot call writelines() after write_eof()")
        if self.empty_waiter is not None:
            raise RuntimeError("unable to writelines; sendfile is in progress")
        for data in list_of_data:
            self.send(data)
        self.sent()

    cdef int send(self, object data) except -1:
        cdef fc_slice piece
        cdef Py_buffer view
        cdef int err
        if type(data) is bytes:
            piece.ptr = PyBytes_AS_STRING(data)
            piece.len = PyBytes_GET_SIZE(data)
            if piece.len == 0:
                return 0
            if piece.len < BORROW_BYTES:
                err = fc_stream_write(&self.owned.stream, piece)
            else:
                Py_INCREF(data)
                err = fc_stream_write_borrowed(
                    &self.owned.stream, piece, drop_bytes, <void *>data
                )
                if err < 0:
                    Py_DECREF(data)
        else:
            if not isinstance(data, (bytes, bytearray, memoryview)):
                raise TypeError(
                    f"data argument must be a bytes-like object, not {type(data).__name__!r}"
                )
            # What may be changed after the call is copied now.
            PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
            piece.ptr = <const char *>view.buf
            piece.len = view.len
            err = fc_stream_write(&self.owned.stream, piece) if view.len else 0
            PyBuffer_Release(&view)
        if err == FC_ENOMEM:
            raise MemoryError()
        if err < 0 and self.lost:
            if self.lost >= constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES:
                logger.warning("socket.send() raised exception.")
            self.lost += 1
        return 0

    cdef int sent(self) except -1:
        """After something was queued: past the high-water mark the kernel gets it now, and if it
        does not take enough, the protocol is asked to pause."""
        if not fc_stream_is_full(&self.owned.stream) or self._protocol_paused:
            return 0
        fc_stream_flush(&self.owned.stream)
        if fc_stream_is_full(&self.owned.stream) and not self._protocol_paused:
            self._protocol_paused = True
            try:
                self._protocol.pause_writing()
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                self._complain("protocol.pause_writing() failed", error)
        return 0

    cdef int at_drain(self) except -1:
        if self.empty_waiter is not None:
            futures._set_result_unless_cancelled(self.empty_waiter, None)
        elif self._protocol_paused:
            self.unpause()
        if self.closing:
            self.end_if_sent()
        return 0

    cdef int unpause(self) except -1:
        self._protocol_paused = False
        PyContext_Enter(self.context)
        try:
            self._protocol.resume_writing()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._complain("protocol.resume_writing() failed", error)
        finally:
            PyContext_Exit(self.context)
        return 0

    def _complain(self, message, error):
        self._loop.call_exception_handler({
            "message": message,
            "exception": error,
            "transport": self,
            "protocol": self._protocol,
        })

    def can_write_eof(self):
        return True

    def write_eof(self):
        """Shuts down this side once everything is sent; the peer may go on sending."""
        if self.closing or self.finished:
            return
        self.finished = True
        fc_stream_finish(&self.owned.stream)

    def get_write_buffer_size(self):
        """Bytes that the kernel has not taken yet."""
        return self.owned.stream.out_bytes

    def get_write_buffer_limits(self):
        return self.owned.stream.low_water_bytes, self.owned.stream.high_water_bytes

    def set_write_buffer_limits(self, high=None, low=None):
        """When ``pause_writing()`` and ``resume_writing()`` are called, in bytes that wait."""
        if high is None:
            high = 64 * 1024 if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        fc_stream_set_limits(
            &self.owned.stream,
            <uint32_t>min(high, UINT32_MAX),
            <uint32_t>min(low, UINT32_MAX),
        )
        self.sent()

    def _make_empty_waiter(self):
        """A future for the moment when nothing waits any more; until _reset_empty_waiter() nothing
        may be written."""
        if self.empty_waiter is not None:
            raise RuntimeError("Empty waiter is already set")
        self.empty_waiter = self._loop.create_future()
        self._limits = self.get_write_buffer_limits()
        fc_stream_set_limits(&self.owned.stream, 0, 0)
        if self.owned.stream.out_bytes == 0:
            self.empty_waiter.set_result(None)
        return self.empty_waiter

    def _reset_empty_waiter(self):
        self.empty_waiter = None
        if not self.closing:
            low, high = self._limits
            fc_stream_set_limits(&self.owned.stream, high, low)

    # ---- the end -------------------------------------------------------------------------------

    def close(self):
        """Sends what is queued, reads no more, and then closes."""
        if self.closing:
            return
        self.closing = True
        # There is nothing to be gathered with any more.
        fc_stream_flush(&self.owned.stream)
        self.end_if_sent()
        if not self.lost:
            # Until the last byte has gone, more may be written: TLS has a backlog of its own.
            fc_stream_pause(&self.owned.stream)
            fc_stream_set_limits(&self.owned.stream, 0, 0)

    cdef int end_if_sent(self) except -1:
        if self.owned.stream.out_bytes == 0:
            fc_stream_close(&self.owned.stream)
        return 0

    def abort(self):
        """Closes at once and drops what is queued."""
        self.shut(None)

    def _force_close(self, error):
        self.shut(error)

    cdef int shut(self, object error) except -1:
        if self.lost:
            return 0
        self.closing = True
        self.error = error
        fc_stream_abort(&self.owned.stream, 0)
        return 0

    cdef int fail(self, object error, str message) except -1:
        if isinstance(error, OSError):
            if self.core._debug:
                logger.debug("%r: %s", self, message, exc_info=True)
        else:
            self._complain(message, error)
        return self.shut(error)

    cdef int at_close(self, int why) except -1:
        self.closing = True
        self.lost = 1
        if why < 0:
            self.error = error_of(why)
            if self.core._debug:
                logger.debug("%r: connection lost", self, exc_info=self.error)
        waiter = self.empty_waiter
        if waiter is not None and not waiter.done():
            waiter.set_exception(self.error or ConnectionError("Connection is closed by peer"))
        self._loop.call_soon(self._lose, self.error, context=self.context)
        return 0

    def _lose(self, error):
        try:
            self._protocol.connection_lost(error)
        finally:
            self._sock.close()
            self._sock = None
            self._protocol = self.receive = self.get_buffer = None
            self.core._guests.discard(self)
            self._loop = None
            server, self._server = self._server, None
            if server is not None:
                server._detach(*((self,) if server_wants_transport else ()))
