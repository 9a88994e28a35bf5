"""The server's limits: their defaults and ranges. That each is kept is test_limits.py's matter."""

from __future__ import annotations

import dataclasses

import pytest

from flowcore.errors import InvalidArgument
from flowcore.http import ServerConfig

FIELDS = [field.name for field in dataclasses.fields(ServerConfig)]
ZERO_IS_FINE = {"min_body_bytes_per_s", "max_body_bytes", "max_chunk_extension_bytes"}


def test_defaults() -> None:
    assert dataclasses.asdict(ServerConfig()) == {
        "max_request_line_bytes": 8192,
        "max_header_bytes": 32768,
        "max_headers": 100,
        "max_body_bytes": 16 * 1024 * 1024,
        "max_chunk_extension_bytes": 4096,
        "max_pipelined": 64,
        "max_connections": 65536,
        "backlog": 2048,
        "head_timeout_s": 10.0,
        "body_timeout_s": 30.0,
        "min_body_bytes_per_s": 240,
        "idle_timeout_s": 75.0,
        "handler_timeout_s": None,
        "send_timeout_s": 30.0,
        "linger_timeout_s": 2.0,
        "shutdown_timeout_s": 30.0,
    }


@pytest.mark.parametrize("name", FIELDS)
def test_units_stand_last(name: str) -> None:
    counts = {"max_headers", "max_pipelined", "max_connections", "backlog"}
    assert name in counts or name.endswith(("_bytes", "_s"))


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("value", [-1, -0.5, 2**31, float("inf"), float("nan")])
def test_out_of_range(name: str, value: float) -> None:
    with pytest.raises(InvalidArgument, match=name):
        ServerConfig(**{name: value})


@pytest.mark.parametrize("name", FIELDS)
def test_zero(name: str) -> None:
    if name in ZERO_IS_FINE:
        assert getattr(ServerConfig(**{name: 0}), name) == 0
    else:
        with pytest.raises(InvalidArgument, match=name):
            ServerConfig(**{name: 0})


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("value", [1, 2**31 - 1])
def test_the_ends_of_the_range(name: str, value: int) -> None:
    assert getattr(ServerConfig(**{name: value}), name) == value


@pytest.mark.parametrize("name", [name for name in FIELDS if not name.endswith("_s")])
def test_counts_are_whole(name: str) -> None:
    with pytest.raises(InvalidArgument, match=name):
        ServerConfig(**{name: 1.5})


@pytest.mark.parametrize("name", FIELDS)
def test_other_types(name: str) -> None:
    with pytest.raises((InvalidArgument, TypeError), match=name):
        ServerConfig(**{name: "10"})


def test_it_is_frozen_and_by_keyword_only() -> None:
    config = ServerConfig(max_headers=5)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.max_headers = 6  # type: ignore[misc]
    with pytest.raises(TypeError):
        ServerConfig(5)  # type: ignore[misc]
    with pytest.raises(TypeError, match="max_heeaders"):
        ServerConfig(max_heeaders=5)  # type: ignore[call-arg]
