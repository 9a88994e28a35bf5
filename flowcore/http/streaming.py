"""Sends a reply that comes in pieces."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowcore.http.request import Request

__all__ = ["pump"]


async def pump(request: Request, body: AsyncIterable[bytes | str]) -> None:
    """Sends each piece as it comes and waits while the client is slower than the iterator.

    Once begun, the iterator is closed in any case: on its end, its failure, and the client's
    leaving. Where no body may follow it is closed without having been asked for a piece.
    """
    iterator = aiter(body)
    try:
        async for piece in iterator if request._takes_body else _nothing():
            if request._send(piece.encode() if isinstance(piece, str) else piece):
                await request._wait_writable()
        request._end()
    finally:
        close = getattr(iterator, "aclose", None)
        if close is not None:
            await close()


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""
