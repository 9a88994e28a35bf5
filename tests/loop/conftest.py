"""Fixtures: a fresh loop per test, and what its exception handler was told."""

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import flowcore


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = flowcore.new_event_loop()
    yield loop
    if not loop.is_closed():
        loop.run_until_complete(settle())
    loop.close()


async def settle() -> None:
    """Lets the far ends of a test's connections finish, so that nothing is left unclosed."""
    for _ in range(2):
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            await asyncio.wait(others, timeout=1)
        await asyncio.sleep(0.001)


@pytest.fixture
def reports(loop: asyncio.AbstractEventLoop) -> list[dict[str, Any]]:
    """The contexts that the loop's exception handler was called with."""
    told: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: told.append(context))
    return told


@pytest.fixture
def script() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a program in an interpreter of its own: for signals, crashes and what exits."""

    def run(code: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=timeout
        )

    return run
