"""What a handler raises to answer with an error status."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from flowcore.errors import FlowcoreError

__all__ = ["HTTPError"]


class HTTPError(FlowcoreError):
    """Ends a request with an error status.

    Raised in a handler it becomes the reply: ``raise HTTPError(404, "no such user")``.

    Args:
        status: 400 to 599.
        detail: the reply's text; by default the status's phrase. Clients see it.
        headers: further header fields of the reply.

    Raises:
        ValueError: the status is no error status.
    """

    status: int

    def __init__(
        self, status: int, detail: str | None = None, *, headers: Mapping[str, str] | None = None
    ) -> None:
        if not 400 <= status <= 599:
            raise ValueError(f"HTTPError takes a status from 400 to 599, not {status}")
        if detail is None:
            try:
                detail = HTTPStatus(status).phrase
            except ValueError:
                detail = "Error"
        super().__init__(detail, status=status)
        self.detail = detail
        self.headers = dict(headers or {})
