"""The access log: one line for each request, to the logger ``flowcore.access``."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowcore.http.request import Request

__all__ = ["AccessLog"]

_logger = logging.getLogger("flowcore.access")


class AccessLog:
    """Formats and emits the lines. What is not printable ASCII is escaped, so that no client can
    write a line, or a terminal's command, of its own."""

    def answered(self, request: Request, status: int, sent_bytes: int, took_s: float) -> None:
        """A handler's reply went out, or (status 0) its client left without one."""
        _logger.info(
            '%s "%s %s HTTP/%s" %s %d %.1fms',
            _name(request.client),
            request.method,
            request.target.encode("ascii", "backslashreplace").decode("ascii"),
            request.http_version,
            status or "-",
            sent_bytes,
            took_s * 1000,
        )

    def refused(self, client: tuple[str, int] | None, status: int, reason: str) -> None:
        """A request was answered before it reached a handler."""
        _logger.info('%s "-" %d %s', _name(client), status, reason)


def _name(client: tuple[str, int] | None) -> str:
    return f"{client[0]}:{client[1]}" if client else "-"
