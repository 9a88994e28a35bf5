"""Loops with a fault each, that the harness must notice."""

import asyncio
import os
import signal
from typing import Any


class Deaf(asyncio.SelectorEventLoop):
    """Forgets its timers."""

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: Any = None
    ) -> Any:
        return asyncio.TimerHandle(when, callback, args, self, context)


class Wrong(asyncio.SelectorEventLoop):
    """Does not say whether it had a writer."""

    def remove_writer(self, fd: Any) -> None:  # type: ignore[override]
        super().remove_writer(fd)


class Fatal(asyncio.SelectorEventLoop):
    """Takes the process along."""

    def add_writer(self, *args: Any) -> None:  # type: ignore[override]
        os.kill(os.getpid(), signal.SIGKILL)
