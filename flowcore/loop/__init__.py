"""The event loop: a drop-in for asyncio's, on flowcore's reactor."""

from flowcore.loop.eventloop import EventLoop, new_event_loop
from flowcore.loop.policy import EventLoopPolicy, install
from flowcore.loop.runner import run

__all__ = ["EventLoop", "EventLoopPolicy", "install", "new_event_loop", "run"]
