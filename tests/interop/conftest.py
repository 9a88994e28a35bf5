"""A server, and the clients that are found on the machine."""

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness.served import HERE, Process, environment, flowcore_command

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture(scope="package")
def server() -> Iterator[Process]:
    command = flowcore_command("serve", "sut:app", "--port", "0", "--access-log")
    with Process(command, cwd=HERE) as process:
        yield process
        assert "Traceback" not in process.log, process.log


@pytest.fixture
def url(server: Process) -> str:
    return f"http://127.0.0.1:{server.port}"


@pytest.fixture
def logged(server: Process) -> Callable[[str, int], list[str]]:
    """Waits for lines of the access log that have come since, and contain the text."""
    start = len(server.out)

    def lines(text: str, count: int) -> list[str]:
        end = time.monotonic() + 3
        while len(hits := [x for x in server.out[start:] if text in x]) < count:
            assert time.monotonic() < end, f"{hits} of {count}"
            time.sleep(0.02)
        return hits

    return lines


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs a client in an empty directory; its failure is the test's."""

    def call(*command: str, data: bytes | None = None, within_s: float = 20) -> object:
        done = subprocess.run(
            command, input=data, cwd=tmp_path, env=environment(), capture_output=True,
            timeout=within_s,
        )  # fmt: skip
        assert done.returncode == 0, (done.returncode, done.stdout[-500:], done.stderr[-1000:])
        return done

    return call  # type: ignore[return-value]
