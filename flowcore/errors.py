"""The exceptions flowcore raises, in one tree.

::

    FlowcoreError
    ├── ConnectionClosed      (also ConnectionError)  the peer or this side has closed
    ├── DeadlineExceeded      (also TimeoutError)     a deadline passed
    ├── InvalidArgument       (also ValueError)       an argument is out of range or malformed
    ├── InvalidState          (also RuntimeError)     the call is not allowed at this point
    ├── LimitExceeded                                 a named limit was passed
    └── ProtocolError                                 the peer broke the protocol

The C core reports failures as negative codes; ``flowcore.kernel.errors`` maps each code of its one
list to a class of this tree. System errors stay what they are: ``OSError``.
"""

from __future__ import annotations

__all__ = [
    "ConnectionClosed",
    "DeadlineExceeded",
    "FlowcoreError",
    "InvalidArgument",
    "InvalidState",
    "LimitExceeded",
    "ProtocolError",
]


class FlowcoreError(Exception):
    """Base of all exceptions that are flowcore's own.

    Attributes:
        status: the HTTP status a server answers with, where there is one.
        code: the name of the core's error code, such as ``"HTTP_FRAMING"``, where there is one.
    """

    def __init__(
        self, message: str = "", *, status: int | None = None, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class ConnectionClosed(FlowcoreError, ConnectionError):
    """The peer or this side has closed the connection."""


class DeadlineExceeded(FlowcoreError, TimeoutError):
    """A deadline passed before the work was done."""


class InvalidArgument(FlowcoreError, ValueError):
    """An argument is out of range or malformed."""


class InvalidState(FlowcoreError, RuntimeError):
    """The call is not allowed at this point of the object's life."""


class LimitExceeded(FlowcoreError):
    """A named limit was passed; the message says which."""


class ProtocolError(FlowcoreError):
    """The peer sent what its protocol forbids."""
