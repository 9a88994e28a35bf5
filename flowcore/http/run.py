"""A process that serves until a signal ends it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from flowcore._version import __version__
from flowcore.errors import InvalidArgument
from flowcore.http.app import App
from flowcore.http.config import ServerConfig
from flowcore.http.serve import Server, serve
from flowcore.loop import run

__all__ = ["run_app", "serve_until_signal"]

_logger = logging.getLogger("flowcore.http")


def announce(addresses: list[str], workers: int) -> None:
    """The start-up line: where to point a browser."""
    count = "1 worker" if workers == 1 else f"{workers} workers"
    print(
        f"flowcore {__version__} serving {', '.join(addresses)} ({count}, pid {os.getpid()})",
        file=sys.stderr,
        flush=True,
    )


async def serve_until_signal(
    app: App,
    *,
    signals: tuple[signal.Signals, ...] = (signal.SIGTERM, signal.SIGINT),
    on_started: Callable[[Server], None] | None = None,
    parent_fd: int | None = None,
    **options: Any,
) -> None:
    """Serves until one of the signals, then shuts down in good order; a second one cuts it short.

    Args:
        on_started: called once connections are accepted.
        parent_fd: a descriptor whose end of file means that the parent has died: as good as a
            signal.
        options: for ``serve()``.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    server = await serve(app, **options)

    def on_signal() -> None:
        if stop.is_set():
            server.abort()
        stop.set()

    def on_parent_gone(fd: int) -> None:
        loop.remove_reader(fd)
        stop.set()

    for number in signals:
        loop.add_signal_handler(number, on_signal)
    if parent_fd is not None:
        loop.add_reader(parent_fd, on_parent_gone, parent_fd)
    if on_started is not None:
        on_started(server)
    try:
        await stop.wait()
    finally:
        await server.shutdown()


def run_app(
    app: App,
    host: str | None,
    port: int,
    *,
    unix: str | None = None,
    workers: int = 1,
    access_log: bool = False,
    limits: dict[str, Any] | None = None,
) -> None:
    """``App.run()``: one process, or a supervisor of several."""
    config = ServerConfig(**(limits or {}))
    if workers < 1:
        raise InvalidArgument(f"workers must be at least 1, not {workers}")
    if access_log and not logging.getLogger("flowcore.access").hasHandlers():
        logging.basicConfig(level=logging.INFO, format="%(message)s")
    if workers > 1:
        from flowcore.http.workers import Supervisor

        Supervisor(
            app, host, port, unix=unix, workers=workers, access_log=access_log, config=config
        ).run()
        return
    run(
        serve_until_signal(
            app,
            host=host,
            port=port,
            unix=unix,
            access_log=access_log,
            config=config,
            on_started=lambda server: announce(server.addresses, 1),
        )
    )
