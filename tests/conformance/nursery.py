"""Runs tests, each in a process of its own: nursery.py MODULE:LOOP LIMIT_S

Writes the tests there are, or why there are none, then reads one test's number a line and writes
what became of it, all as lines of JSON. A test's process is forked off this one, in which the
modules are imported and no thread is running.
"""

import contextlib
import dataclasses
import faulthandler
import importlib
import json
import os
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
import unittest
from typing import Any

from conformance import suite

LOG_TAIL_BYTES = 20_000


def run_here(test: suite.Test, substitute: suite.Substitute) -> dict[str, str]:
    """Runs a test in this process."""
    module = sys.modules[f"{suite.PACKAGE}.{test.module}"]
    found = unittest.defaultTestLoader.loadTestsFromName(f"{test.case}.{test.method}", module)
    result = unittest.TestResult()
    found.run(result)
    bad = [text for _, text in [*result.errors, *result.failures]]
    if result.unexpectedSuccesses:
        bad.append("passes, although CPython expects it to fail")
    if bad:
        return {"outcome": "failed", "reason": "\n".join(bad)}
    if result.skipped:
        return {"outcome": "skipped", "reason": result.skipped[0][1]}
    if not substitute.made:
        return {"outcome": "skipped", "reason": "makes no loop"}
    return {"outcome": "passed", "reason": ""}


def child(test: suite.Test, substitute: suite.Substitute, answer: int, limit_s: float) -> None:
    """The forked process: says what became of the test."""
    os.setsid()
    log = os.open("log", os.O_CREAT | os.O_RDWR | os.O_APPEND)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    faulthandler.enable(log)
    faulthandler.dump_traceback_later(limit_s * 0.9, file=log)
    verdict = run_here(test, substitute)
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    with open(answer, "wb") as pipe:
        pipe.write(json.dumps(verdict).encode())


def listen(answer: int, pid: int, limit_s: float) -> dict[str, str]:
    """What the child says, until it ends or its time is over."""
    end = time.monotonic() + limit_s
    said = b""
    while (left := end - time.monotonic()) > 0 and select.select([answer], [], [], left)[0]:
        part = os.read(answer, 65536)
        said += part
        # What a test leaves running may hold the pipe open: the end of the file is not waited for.
        with contextlib.suppress(json.JSONDecodeError):
            verdict: dict[str, str] = json.loads(said)
            return verdict
        if not part:
            return {"outcome": "failed", "reason": "the test's process died"}
    return {"outcome": "failed", "reason": f"not done within {limit_s} s"}


def run_forked(test: suite.Test, substitute: suite.Substitute, limit_s: float) -> dict[str, str]:
    """Runs a test in a process, a process group and a directory of its own; nothing is left."""
    home = tempfile.mkdtemp()
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.close(reading)
            os.chdir(home)
            child(test, substitute, writing, limit_s)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(writing)
    verdict = listen(reading, pid, limit_s)
    os.close(reading)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        # It may have been stopped before it had a group of its own.
        os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    with contextlib.suppress(FileNotFoundError), open(f"{home}/log", errors="replace") as log:
        verdict["log"] = log.read()[-LOG_TAIL_BYTES:]
    shutil.rmtree(home, ignore_errors=True)
    return verdict


def main(loop: str, limit_s: float) -> None:
    def say(what: Any) -> None:
        print(json.dumps(what), flush=True)

    module, _, name = loop.partition(":")
    try:
        substitute = suite.Substitute(getattr(importlib.import_module(module), name))
    except (ImportError, unittest.SkipTest) as error:
        say({"missing": str(error)})
        return
    tests = list(suite.tests())
    say({"tests": [dataclasses.asdict(test) | {"name": test.name} for test in tests]})
    for line in sys.stdin:
        say(run_forked(tests[int(line)], substitute, limit_s))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
