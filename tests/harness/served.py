"""A server in a process of its own, and what it costs there."""

import contextlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import flowcore
from harness.peers import Peer

HERE = Path(__file__).resolve().parent
STARTED = re.compile(r"serving (?:http://\S*?:(\d+)|unix:\S+)")


def environment() -> dict[str, str]:
    """This one, in which the flowcore under test is found from any directory."""
    path = [str(Path(flowcore.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, path))}


def until(true: Callable[[], object], within_s: float, what: str) -> None:
    """Waits for it; the clock is generous, as the machine may be busy."""
    end = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end, f"not within {within_s} s: {what}"
        time.sleep(0.02)


def found(*names: str) -> str:
    """The path of the first that is installed; skips without any."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    for name in names:
        if hit := shutil.which(name, path=path):
            return hit
    pytest.skip(f"{names[0]} is not installed")


class Process:
    """A command whose stderr is kept and whose start-up line is waited for."""

    def __init__(
        self,
        command: list[str],
        *,
        cwd: Path | None = None,
        open_files: int | None = None,
        within_s: float = 15,
    ) -> None:
        def lower() -> None:
            if open_files:
                resource.setrlimit(resource.RLIMIT_NOFILE, (open_files, open_files))

        began = time.monotonic()
        self.child = subprocess.Popen(
            command,
            cwd=cwd,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lower,
            start_new_session=True,
        )
        self.pid = self.child.pid
        self.lines: list[str] = []
        self.out: list[str] = []
        self._readers = [
            threading.Thread(target=self._read, args=pair, daemon=True)
            for pair in [(self.child.stderr, self.lines), (self.child.stdout, self.out)]
        ]
        for reader in self._readers:
            reader.start()
        self.port = 0
        try:
            until(lambda: self._announced() or self.child.poll() is not None, within_s, "started")
        except AssertionError:
            self.kill()
            raise
        assert self.child.poll() is None or self._announced(), self.log
        self.started_s = time.monotonic() - began

    def _read(self, stream: object, lines: list[str]) -> None:
        for line in stream:  # type: ignore[attr-defined]
            lines.append(line)

    def _announced(self) -> bool:
        for line in self.lines:
            found = STARTED.search(line)
            if found:
                self.port = int(found[1] or 0)
                return True
        return False

    @property
    def log(self) -> str:
        """What it has written to stderr."""
        return "".join(self.lines)

    @property
    def output(self) -> str:
        """What it has written to stdout."""
        return "".join(self.out)

    def signal(self, number: int) -> None:
        self.child.send_signal(number)

    def wait(self, within_s: float) -> int:
        """Its exit status; the readers have then seen all it wrote."""
        status = self.child.wait(within_s)
        for reader in self._readers:
            reader.join(5)
        return status

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.child.wait(10)
        for reader in self._readers:
            reader.join(5)
        for stream in (self.child.stdout, self.child.stderr):
            if stream:
                stream.close()

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    # ---- what it holds ----------------------------------------------------------------------

    def peer(self, **options: object) -> Peer:
        """A new connection."""
        return Peer(self.port, **options)  # type: ignore[arg-type]

    def get(self, target: str) -> str:
        """The body of a reply on a connection that ends with it."""
        with self.peer() as peer:
            peer.get(target, close=True)
            text = peer.reply().text
            # Its end has come: the server no longer holds the connection.
            assert peer.ends()
            return text

    def stats(self) -> dict[str, int]:
        """As the application tells; its own connection is not counted."""
        counts = json.loads(self.get("/stats"))
        counts["connections"] -= 1
        return counts

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def rss_bytes(self) -> int:
        text = Path(f"/proc/{self.pid}/smaps_rollup").read_text()
        found = re.search(r"^Rss:\s+(\d+) kB", text, re.MULTILINE)
        assert found
        return int(found[1]) * 1024

    def cpu_s(self) -> float:
        """User and system time of its main thread."""
        return int(Path(f"/proc/{self.pid}/schedstat").read_text().split()[0]) / 1e9

    @contextlib.contextmanager
    def unharmed(self, grows_bytes: int = 4 * 1024 * 1024, within_s: float = 5) -> Iterator[None]:
        """What it holds comes back to what it was: connections, tasks, descriptors, memory."""

        def held() -> tuple[int, int, int]:
            stats = self.stats()
            return stats["connections"], stats["tasks"], self.descriptors()

        self.get("/")
        until(lambda: self.stats()["connections"] == 0, within_s, "earlier peers have gone")
        before, rss = held(), self.rss_bytes()
        yield
        end = time.monotonic() + within_s
        while (after := held()) != before and time.monotonic() < end:
            time.sleep(0.05)
        assert after == before, "(connections, tasks, descriptors)"
        assert self.rss_bytes() - rss <= grows_bytes
        assert "Traceback" not in self.log, self.log


class Sut(Process):
    """sut.py with these limits."""

    def __init__(self, *, open_files: int | None = None, **limits: object) -> None:
        command = [sys.executable, str(HERE / "sut.py"), json.dumps(limits)]
        super().__init__(command, open_files=open_files, cwd=HERE)


def flowcore_command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "flowcore", *arguments]
