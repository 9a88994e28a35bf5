"""``run()``: a program's way in."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from flowcore.loop.eventloop import new_event_loop

__all__ = ["run"]

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T], *, debug: bool | None = None) -> T:
    """Runs a coroutine on a new flowcore loop and returns its result; ``asyncio.run()`` otherwise.

    The loop is closed afterwards: asynchronous generators are finalised, the default executor is
    joined, remaining tasks are cancelled. Control-C cancels the main task and then raises
    KeyboardInterrupt.

    Raises:
        RuntimeError: a loop is running in this thread already.
        ValueError: ``main`` is not a coroutine (TypeError from Python 3.14 on).
    """
    if asyncio._get_running_loop() is not None:
        # Before the runner has made a loop, which it could not close from here.
        raise RuntimeError("flowcore.run() cannot be called from a running event loop")
    with asyncio.Runner(debug=debug, loop_factory=new_event_loop) as runner:
        return runner.run(main)
