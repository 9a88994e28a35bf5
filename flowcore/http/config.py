"""Every limit and time-out of the server, with its name and default."""

from __future__ import annotations

from dataclasses import dataclass, fields

from flowcore.errors import InvalidArgument

__all__ = ["ServerConfig"]

_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """What a server accepts and how long it waits. Sizes are bytes, times seconds.

    Raises:
        InvalidArgument: a value is out of its range.
    """

    max_request_line_bytes: int = 8192
    """Method, target and version; longer: 414."""
    max_header_bytes: int = 32768
    """All header fields of a request; more: 431."""
    max_headers: int = 100
    """Header fields of a request; more: 431."""
    max_body_bytes: int = 16 * _MIB
    """A request's body, decoded; larger: 413."""
    max_chunk_extension_bytes: int = 4096
    """Chunk extensions of one body; more: 400."""
    max_pipelined: int = 64
    """Requests of one connection answered in one turn of the loop. More of them wait for the next
    turn, and from 128 KiB on in the socket: no error, but backpressure."""
    max_connections: int = 65536
    """Open connections. More wait in the kernel's accept queue."""
    backlog: int = 2048
    """Length of the kernel's accept queue."""
    head_timeout_s: float = 10.0
    """From a request's first byte to the end of its header fields; longer: 408."""
    body_timeout_s: float = 30.0
    """For a request's body; longer: 408. See ``min_body_bytes_per_s``."""
    min_body_bytes_per_s: int = 240
    """Each so many bytes of a body earn another second. 0: a body has ``body_timeout_s`` in all."""
    idle_timeout_s: float = 75.0
    """Without a request under way; then the connection is closed."""
    handler_timeout_s: float | None = None
    """For a handler to begin its reply; longer: it is cancelled, and 503 is sent unless it catches
    that and answers. None: no limit."""
    send_timeout_s: float = 30.0
    """Without the client taking any of a reply that waits; then the connection is cut."""
    linger_timeout_s: float = 2.0
    """Given to a client to read an error reply before the connection is closed."""
    shutdown_timeout_s: float = 30.0
    """For what is in flight when the server stops; then it is cut."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "handler_timeout_s" and value is None:
                continue
            whole = not field.name.endswith("_s") or field.name == "min_body_bytes_per_s"
            least = 0 if field.name in _MAY_BE_ZERO else 1 if whole else None
            if not isinstance(value, int) and (whole or not isinstance(value, float)):
                kind = "a whole number" if whole else "a number"
                raise InvalidArgument(f"{field.name} must be {kind}, not {value!r}")
            ok = value >= least if least is not None else value > 0
            if not ok or value > _MOST:
                bound = f"at least {least}" if least is not None else "greater than 0"
                raise InvalidArgument(
                    f"{field.name} must be {bound} and at most {_MOST}, not {value!r}"
                )


_MAY_BE_ZERO = {"min_body_bytes_per_s", "max_body_bytes", "max_chunk_extension_bytes"}
_MOST = 2**31 - 1
