"""Starts a server on the running loop, and stops it in good order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterable
from types import TracebackType
from typing import Any

from flowcore.http.access import AccessLog
from flowcore.http.app import App
from flowcore.http.config import ServerConfig
from flowcore.http.server import HttpServer
from flowcore.net import bind_tcp, bind_unix, describe

__all__ = ["Server", "serve"]

_logger = logging.getLogger("flowcore.http")

# Given to cancelled handlers to end, once their connections are cut.
_CANCEL_GRACE_S = 1.0


class Server:
    """A running server; ``serve()`` makes it. As a context manager it shuts down on exit."""

    def __init__(self, app: App, http: HttpServer, config: ServerConfig) -> None:
        self._app = app
        self._http = http
        self._config = config
        self._stopping: asyncio.Task[bool] | None = None
        self._stopped = asyncio.get_running_loop().create_future()
        self.addresses = [describe(sock) for sock in http.sockets]
        names = [sock.getsockname() for sock in http.sockets]
        self._port = int(names[0][1]) if names and isinstance(names[0], tuple) else 0

    @property
    def sockets(self) -> list[socket.socket]:
        """The listening sockets; none once it shuts down."""
        return self._http.sockets

    @property
    def port(self) -> int:
        """The TCP port that is listened on; 0 on a Unix socket."""
        return self._port

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return self._http.connections

    @property
    def served(self) -> int:
        """How many replies handlers have given."""
        return self._http.served

    @property
    def refused(self) -> int:
        """How many requests were refused before a handler saw them."""
        return self._http.refused

    async def shutdown(self, timeout_s: float | None = None) -> bool:
        """Stops accepting, runs the drain hooks, finishes what is in flight, closes, and runs the
        shut-down hooks.

        Idle connections close at once, others after their reply. What is not done in time is cut
        and its handlers are cancelled. A second call waits for the first. A call that is cancelled
        leaves the shut-down running.

        Args:
            timeout_s: in place of ``shutdown_timeout_s``.

        Returns:
            Whether everything ended in time.
        """
        if self._stopping is None:
            self._http.stop_accepting()
            self._http.drain()
            if timeout_s is None:
                timeout_s = self._config.shutdown_timeout_s
            self._stopping = asyncio.get_running_loop().create_task(self._stop(timeout_s))
        return await asyncio.shield(self._stopping)

    async def _stop(self, timeout_s: float) -> bool:
        try:
            in_time = await self._finish(timeout_s)
            await self._app.shutdown()
        finally:
            if not self._stopped.done():
                self._stopped.set_result(None)
        return in_time

    async def _finish(self, timeout_s: float) -> bool:
        """Waits for what is in flight, then cuts it and gives its handlers time to clean up."""
        in_time = True
        try:
            async with asyncio.timeout(timeout_s):
                await self._app.drain()
                await self._http.wait_idle()
        except TimeoutError:
            in_time = False
            _logger.warning(
                "%d connections were cut: shutdown_timeout_s (%g s) has passed",
                self.connections,
                timeout_s,
            )
        finally:
            self._http.abort()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CANCEL_GRACE_S):
                await self._http.wait_idle()
        return in_time

    def abort(self) -> None:
        """Cuts every connection now. ``shutdown()`` under way returns soon after."""
        self._http.abort()

    async def serve_forever(self) -> None:
        """Waits until the server has been shut down; cancelling it shuts down."""
        try:
            await asyncio.shield(self._stopped)
        finally:
            await self.shutdown()

    async def __aenter__(self) -> Server:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.shutdown()


async def serve(
    app: App,
    host: str | None = "127.0.0.1",
    port: int = 8000,
    *,
    unix: str | None = None,
    sockets: Iterable[socket.socket] | None = None,
    reuse_port: bool = False,
    access_log: bool = False,
    config: ServerConfig | None = None,
    **limits: Any,
) -> Server:
    """Starts serving on the running loop, which must be flowcore's, and returns the server.

    Args:
        host: a name or address; None: all of the machine's.
        port: 0 chooses a free one, which ``server.port`` tells.
        unix: the path of a Unix socket, in place of host and port.
        sockets: bound and listening sockets, in place of all of these.
        reuse_port: let several processes listen on the address.
        access_log: log a line for each request.
        config: limits and time-outs; or give its fields by name.

    Raises:
        InvalidState: the running loop is not flowcore's.
        InvalidArgument: a limit is out of its range.
        TypeError: a limit is unknown, or given twice.
        OSError: the address cannot be listened on.
    """
    if config is not None and limits:
        raise TypeError(f"give config or {', '.join(limits)}, not both")
    config = config or ServerConfig(**limits)
    http = HttpServer(app, asyncio.get_running_loop(), config, AccessLog() if access_log else None)
    listening: list[socket.socket] = []
    try:
        if sockets is not None:
            listening = list(sockets)
        elif unix is not None:
            listening = [bind_unix(unix, backlog=config.backlog)]
        else:
            listening = bind_tcp(host, port, backlog=config.backlog, reuse_port=reuse_port)
        await app.startup()
        for sock in listening:
            http.listen(sock)
    except BaseException:
        http.abort()
        for sock in listening:
            sock.close()
        raise
    return Server(app, http, config)
