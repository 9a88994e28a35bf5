from collections.abc import AsyncIterable, Iterable, Mapping
from typing import Any, Literal

from typing_extensions import disjoint_base

@disjoint_base
class Response:
    def __init__(
        self,
        body: (
            str | bytes | bytearray | memoryview | AsyncIterable[str | bytes | bytearray] | None
        ) = None,
        status: int = 200,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
        content_type: str | None = None,
    ) -> None: ...
    @property
    def status(self) -> int: ...
    @property
    def body(self) -> bytes | AsyncIterable[str | bytes | bytearray]: ...
    @property
    def content_type(self) -> str: ...
    @property
    def headers(self) -> list[tuple[str, str]]: ...
    def set_content_type(self, value: str) -> None: ...
    def add_header(self, name: str, value: str) -> None: ...
    def set_cookie(
        self,
        name: str,
        value: str,
        *,
        max_age_s: float | None = None,
        path: str | None = "/",
        domain: str | None = None,
        secure: bool = False,
        http_only: bool = True,
        same_site: Literal["lax", "strict", "none"] | None = "lax",
    ) -> None: ...
    @staticmethod
    def json(
        value: Any,
        status: int = 200,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None,
    ) -> Response: ...
    @staticmethod
    def redirect(location: str, status: Literal[301, 302, 303, 307, 308] = 302) -> Response: ...
