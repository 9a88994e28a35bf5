"""What one process has served, and for how long. With several workers each counts its own."""

import functools
import os
import platform
import time
from collections.abc import Awaitable, Callable
from typing import Any

import flowcore


class Stats:
    """Counters of one process."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.requests = 0
        self.streams = 0

    def counted(self, handler: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        """Decorates a handler whose calls are counted."""

        @functools.wraps(handler)
        async def counting(*args: Any) -> Any:
            self.requests += 1
            return await handler(*args)

        return counting

    def read(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "open_streams": self.streams,
            "uptime_s": round(time.monotonic() - self.started, 3),
            "resident_bytes": resident_bytes(),
            "pid": os.getpid(),
            "flowcore": flowcore.__version__,
            "python": platform.python_version(),
        }


def resident_bytes() -> int | None:
    """Memory of this process that is resident; None where the system does not say."""
    try:
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None
