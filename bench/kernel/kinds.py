"""The queues between threads that are compared, and what their methods are called."""

import queue
from asyncio import Queue as AsyncioQueue
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flowcore.kernel import MPMCQueue, SPSCQueue

CAPACITY = 1024
ENDLESS = 1 << 20  # as good as none: no slice has as many items


@dataclass(frozen=True)
class Kind:
    name: str
    make: Callable[[], Any]
    put: str = "put"
    get: str = "get"
    ours: bool = False


SPSC = Kind("SPSCQueue", lambda: SPSCQueue(CAPACITY), ours=True)
MPMC = Kind("MPMCQueue", lambda: MPMCQueue(CAPACITY), ours=True)
SPSC_ENDLESS = Kind(f"SPSCQueue({ENDLESS})", lambda: SPSCQueue(ENDLESS))
SIMPLE = Kind("queue.SimpleQueue", queue.SimpleQueue)
QUEUE = Kind("queue.Queue", lambda: queue.Queue(CAPACITY))
DEQUE = Kind("collections.deque", deque, "append", "popleft")
ASYNCIO = Kind("asyncio.Queue", lambda: AsyncioQueue(CAPACITY), "put_nowait", "get_nowait")
