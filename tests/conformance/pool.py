"""A few nurseries at work on one suite."""

import json
import os
import queue
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from harness.served import environment

TESTS = Path(__file__).resolve().parent.parent
LIMIT_S = 60.0


class Nursery:
    """One nursery's process; used by one thread at a time."""

    def __init__(self, loop: str, limit_s: float) -> None:
        env = environment()
        env["PYTHONPATH"] = os.pathsep.join([env["PYTHONPATH"], str(TESTS)])
        self.child = subprocess.Popen(
            [sys.executable, "-m", "conformance.nursery", loop, str(limit_s)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=env,
            text=True,
        )
        self.greeting = self._hear()

    def _hear(self) -> dict[str, Any]:
        assert self.child.stdout
        line = self.child.stdout.readline()
        assert line, "the nursery died"
        said: dict[str, Any] = json.loads(line)
        return said

    def run(self, number: int) -> dict[str, Any]:
        assert self.child.stdin
        self.child.stdin.write(f"{number}\n")
        self.child.stdin.flush()
        return self._hear()

    def close(self) -> None:
        """Ends the process; it has no test running, or is no longer needed."""
        assert self.child.stdin and self.child.stdout
        self.child.stdin.close()
        self.child.stdout.close()
        self.child.wait(LIMIT_S)


class Pool:
    """Tests of one loop, `module:class`, of which so many run at a time."""

    def __init__(self, loop: str, *, limit_s: float = LIMIT_S, size: int = 2) -> None:
        self.loop = loop
        self.limit_s = limit_s
        first = Nursery(loop, limit_s)
        self.missing: str | None = first.greeting.get("missing")
        self.tests: list[dict[str, str]] = first.greeting.get("tests", [])
        self._nurseries: queue.SimpleQueue[Nursery | None] = queue.SimpleQueue()
        self._nurseries.put(first)
        for _ in range(size - 1):
            # Started when there is work for it.
            self._nurseries.put(None)
        self._threads = ThreadPoolExecutor(size)

    def submit(self, number: int) -> "Future[dict[str, Any]]":
        """Has a test run; the result holds its `outcome`, `reason` and `log`."""
        return self._threads.submit(self._run, number)

    def _run(self, number: int) -> dict[str, Any]:
        nursery = self._nurseries.get()
        try:
            nursery = nursery or Nursery(self.loop, self.limit_s)
            return nursery.run(number)
        finally:
            self._nurseries.put(nursery)

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)
        while not self._nurseries.empty():
            nursery = self._nurseries.get()
            if nursery is not None:
                nursery.close()
