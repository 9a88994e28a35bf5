"""The task a handler runs in, made real only when somebody looks at it."""

from __future__ import annotations

import asyncio
from typing import Any

__all__ = ["HandlerTask"]


def _real(name: str) -> Any:
    inherited = getattr(asyncio.Task, name)

    def method(self: HandlerTask, *args: Any, **kwargs: Any) -> Any:
        self._shim.materialise()
        return inherited(self, *args, **kwargs)

    method.__name__ = name
    method.__qualname__ = f"HandlerTask.{name}"
    method.__doc__ = inherited.__doc__
    return method


class HandlerTask(asyncio.Task):  # type: ignore[type-arg]
    """The ``asyncio.Task`` of a coroutine that is stepped before it has one.

    The driver sets this object as the current task and steps the coroutine.
    ``asyncio.Task.__init__`` has not run by then: most handlers end without anybody asking for the
    task, and the object is used again for the next. The first call of any of its methods makes it
    real, and from then on it is a task like any other.
    """

    __slots__ = ("_shim",)

    _shim: Any

    for _name in (
        "add_done_callback",
        "cancel",
        "cancelled",
        "cancelling",
        "done",
        "exception",
        "get_context",
        "get_loop",
        "get_name",
        "get_stack",
        "print_stack",
        "remove_done_callback",
        "result",
        "set_name",
        "uncancel",
        "__await__",
        "__iter__",
        "__repr__",
    ):
        if hasattr(asyncio.Task, _name):
            locals()[_name] = _real(_name)
    del _name

    def __setattr__(self, name: str, value: Any) -> None:
        # What a program keeps on its task is that task's: it is not to be used again.
        if name != "_shim":
            self._shim.materialise()
        super().__setattr__(name, value)

    def get_coro(self) -> Any:
        """The handler's own coroutine."""
        return self._shim.coro

    def __del__(self) -> None:
        # What a handler raised is reported by whoever drives it, not a second time from here.
        shim = getattr(self, "_shim", None)
        if shim is not None and shim.live:
            if self.done():
                self._log_traceback = False
            super().__del__()
