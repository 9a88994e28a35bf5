from typing import final

__all__ = ["ParsedRequest", "RequestParser"]

@final
class ParsedRequest:
    @property
    def method(self) -> bytes: ...
    @property
    def target(self) -> bytes: ...
    @property
    def minor(self) -> int: ...
    @property
    def headers(self) -> list[tuple[bytes, bytes]]: ...
    @property
    def body(self) -> bytes: ...
    @property
    def keep_alive(self) -> bool: ...
    @property
    def upgrade(self) -> bool: ...
    @property
    def expect_continue(self) -> bool: ...

@final
class RequestParser:
    def __init__(
        self,
        *,
        max_request_line_bytes: int = 8192,
        max_header_bytes: int = 32768,
        max_headers: int = 100,
        max_body_bytes: int = 16777216,
        max_chunk_extension_bytes: int = 4096,
    ) -> None: ...
    def feed(self, data: bytes | bytearray | memoryview) -> list[ParsedRequest]: ...
