"""An asyncio event-loop policy for programs that are switched as a whole."""

from __future__ import annotations

import asyncio
import warnings

from flowcore.loop.eventloop import EventLoop

__all__ = ["EventLoopPolicy", "install"]

with warnings.catch_warnings():
    # Policies are deprecated from Python 3.14 on, and still what older programs are built around.
    warnings.simplefilter("ignore", DeprecationWarning)
    _Default = asyncio.DefaultEventLoopPolicy


class EventLoopPolicy(_Default):
    """Makes ``asyncio.new_event_loop()``, and so ``asyncio.run()``, give flowcore's loop."""

    _loop_factory = EventLoop


def install() -> None:
    """Sets the policy for the process. ``flowcore.run()`` does without."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        asyncio.set_event_loop_policy(EventLoopPolicy())
