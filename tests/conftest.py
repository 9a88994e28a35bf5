"""Shared fixtures: where the source tree lies, and skipping what needs it when it is not there."""

import signal
from pathlib import Path

import pytest

# A shell's background job starts with Control-C ignored, and what it starts inherits that: tests
# of it would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent


def in_source_tree() -> bool:
    return (ROOT / "setup.py").is_file() and (ROOT / "csrc").is_dir()


@pytest.fixture(scope="session")
def root() -> Path:
    """The directory that holds tests/; the source tree unless a wheel is being tested."""
    return ROOT


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if in_source_tree():
        return
    skip = pytest.mark.skip(reason="needs the source tree")
    for item in items:
        if item.get_closest_marker("source_tree"):
            item.add_marker(skip)
