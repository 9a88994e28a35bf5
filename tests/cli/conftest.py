"""A directory with the application, and the command running in it."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from harness.served import Process, flowcore_command

Serve = Callable[..., Process]


@pytest.fixture
def here(tmp_path: Path) -> Path:
    shutil.copy(Path(__file__).parent / "served_app.py", tmp_path / "shop.py")
    return tmp_path


@pytest.fixture
def serve(here: Path) -> Iterator[Serve]:
    """Starts ``flowcore serve``; what is left of it at the end is killed."""
    with ExitStack() as stack:

        def start(*options: str, target: str = "shop:app") -> Process:
            port = [] if "--unix" in options or "--port" in options else ["--port", "0"]
            command = flowcore_command("serve", target, *port, *options)
            return stack.enter_context(Process(command, cwd=here))

        yield start
