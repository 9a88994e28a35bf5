from concurrent.futures import Future
from typing import TypeVar

__all__ = ["WorkFuture"]

_T = TypeVar("_T")

class WorkFuture(Future[_T]): ...
