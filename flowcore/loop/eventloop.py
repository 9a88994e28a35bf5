"""The asyncio event loop on flowcore's reactor."""

from __future__ import annotations

import asyncio
import selectors
import signal
import socket
import sys
import threading
from asyncio import format_helpers
from asyncio.base_events import _format_handle  # type: ignore[attr-defined]
from asyncio.log import logger
from asyncio.sslproto import SSLProtocol
from collections.abc import Mapping
from typing import Any

from flowcore.loop.core import LoopCore
from flowcore.loop.socket_transport import SocketTransport

__all__ = ["EventLoop", "new_event_loop"]


class _SelectorView(selectors.BaseSelector):
    """The selector that inherited code may ask what is watched; the reactor does the watching."""

    def __init__(self, loop: LoopCore) -> None:
        self._loop: LoopCore | None = loop

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        if self._loop is None:
            raise RuntimeError("Selector is closed")
        keys = {}
        for fd, (reader, writer) in self._loop._watched().items():
            events = (selectors.EVENT_READ if reader else 0) | (
                selectors.EVENT_WRITE if writer else 0
            )
            keys[fd] = selectors.SelectorKey(fd, fd, events, (reader, writer))
        return keys

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        return super().get_key(fileobj if isinstance(fileobj, int) else fileobj.fileno())

    def close(self) -> None:
        self._loop = None

    def _not_here(self, *_: object) -> Any:
        raise NotImplementedError("use the loop's add_reader() and add_writer()")

    register = unregister = select = _not_here  # type: ignore[assignment]


class EventLoop(LoopCore, asyncio.SelectorEventLoop):  # type: ignore[misc]
    """A complete asyncio event loop: use it wherever an ``asyncio.AbstractEventLoop`` is asked for.

    Callbacks, timers, readers, writers and the connections of ``create_server()``,
    ``create_connection()`` and their like run on the reactor, as does what flowcore serves
    natively. Datagrams, pipes, subprocesses and TLS are the standard library's on top of that.

    A loop belongs to the thread that runs it. Others reach it by ``call_soon_threadsafe()``.
    """

    # The standard library's: the self-pipe's writing end, and the handlers by signal.
    _csock: socket.socket
    _signal_handlers: dict[int, Any]

    def __init__(self) -> None:
        super().__init__(_SelectorView(self))

    def run_forever(self) -> None:
        """Runs until ``stop()`` is called. Not while this or another loop runs (RuntimeError)."""
        # Python 3.13.0 checks too late: its clean-up makes the running loop forget that it runs.
        self._check_closed()  # type: ignore[attr-defined]
        self._check_running()  # type: ignore[attr-defined]
        if threading.current_thread() is not threading.main_thread():
            super().run_forever()
            return
        # A signal that comes in the instant before the loop sleeps is looked at only after the
        # sleep, unless it writes to the loop's self-pipe. A program's own descriptor stays.
        before = signal.set_wakeup_fd(self._csock.fileno(), warn_on_full_buffer=False)
        if before != -1:
            signal.set_wakeup_fd(before)
        try:
            super().run_forever()
        finally:
            if before == -1 and not self._signal_handlers:
                signal.set_wakeup_fd(-1)

    def close(self) -> None:
        """Closes the loop; closing it again does nothing. Not while it runs (RuntimeError)."""
        if self.is_running() or self._turning:
            raise RuntimeError("Cannot close a running event loop")
        if self.is_closed():
            return
        for guest in list(self._guests):
            guest.abort()
        self._forget_watches()
        super().close()
        self._release()

    def _make_socket_transport(
        self,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None = None,
        *,
        extra: dict[str, Any] | None = None,
        server: Any = None,
    ) -> SocketTransport:
        return SocketTransport(self, sock, protocol, waiter, extra, server)

    def _make_ssl_transport(
        self,
        rawsock: socket.socket,
        protocol: asyncio.BaseProtocol,
        sslcontext: Any,
        waiter: asyncio.Future[None] | None = None,
        *,
        extra: dict[str, Any] | None = None,
        server: Any = None,
        **options: Any,
    ) -> Any:
        # The waiter may be None, whatever its stub says.
        tls = SSLProtocol(self, protocol, sslcontext, waiter, **options)  # type: ignore[arg-type]
        SocketTransport(self, rawsock, tls, None, extra, server)
        return tls._app_transport

    async def _sendfile_native(self, transport: Any, file: Any, offset: int, count: int) -> int:
        reading = transport.is_reading()
        transport.pause_reading()
        await transport._make_empty_waiter()
        try:
            # Another number for the socket: the stream goes on watching its own.
            with transport._sock.dup() as sock:
                return await self.sock_sendfile(sock, file, offset, count, fallback=False)
        finally:
            transport._reset_empty_waiter()
            if reading:
                transport.resume_reading()

    def _process_events(self, event_list: list[Any]) -> None:
        raise AssertionError("the reactor dispatches events itself")

    def _trace_handle(self, handle: Any) -> None:
        handle._source_traceback = format_helpers.extract_stack(sys._getframe(1))

    def _run_in_debug(self, handle: Any) -> None:
        """Runs a handle and reports it when it took longer than ``slow_callback_duration``."""
        self._current_handle = handle
        start = self.time()
        try:
            handle._run()
            took = self.time() - start
            if took >= self.slow_callback_duration:
                logger.warning("Executing %s took %.3f seconds", _format_handle(handle), took)
        finally:
            # The frames of what was raised lead back to this one: holding the handle here would
            # close a circle, and a failed task would be reported only when that is collected.
            self._current_handle = handle = None


def new_event_loop() -> EventLoop:
    """A new event loop, not set as the current one. Fits ``asyncio.Runner(loop_factory=...)``."""
    return EventLoop()
