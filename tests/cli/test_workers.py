"""``flowcore serve --workers``: the supervisor and those it looks after."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from harness.served import Process, environment, flowcore_command, until

Serve = Callable[..., Process]

WORKERS = 3


def workers_of(server: Process) -> set[int]:
    """The supervisor's children that are not zombies."""
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    return {int(pid) for pid in children if alive(int(pid))}


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def answering(server: Process, tries: int = 60) -> set[int]:
    """Who answers, over as many connections: the kernel spreads them by their ports."""
    return {int(server.get("/pid")) for _ in range(tries)}


def notes(here: Path, word: str) -> list[int]:
    lines = (here / "notes.txt").read_text().splitlines()
    return [int(line.split()[1]) for line in lines if line.split()[0] == word]


def test_all_workers_answer_once_it_says_so(serve: Serve) -> None:
    server = serve("--workers", str(WORKERS))
    assert f"serving http://127.0.0.1:{server.port} (3 workers, pid {server.pid})" in server.log
    assert answering(server) == workers_of(server)
    assert len(workers_of(server)) == WORKERS
    assert len(server.lines) == 1


def test_killed_worker_is_replaced_and_others_serve_on(serve: Serve) -> None:
    server = serve("--workers", str(WORKERS))
    before = workers_of(server)
    victim = min(before)
    os.kill(victim, signal.SIGKILL)
    until(lambda: len(workers_of(server) - before) == 1, 5, "another is started")
    until(lambda: workers_of(server) - before <= answering(server), 5, "it answers")
    assert workers_of(server) & before == before - {victim}
    assert re.search(rf"worker \d \(pid {victim}\) was killed by SIGKILL; starting", server.log)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_supervisor_stops_all_in_good_order(serve: Serve, here: Path, number: int) -> None:
    server = serve("--workers", str(WORKERS))
    workers = workers_of(server)
    with server.peer() as busy, server.peer() as idle:
        busy.get("/slow/0.7")
        until(lambda: notes(here, "slow"), 3, "the handler runs")
        server.signal(number)
        assert idle.ends(3)
        assert busy.reply().text == "slow"
    assert server.wait(5) == 0
    assert not any(map(alive, workers))
    assert set(notes(here, "down")) == workers
    assert len(server.lines) == 1, server.log


def test_control_c_reaches_the_whole_group_and_is_graceful(serve: Serve, here: Path) -> None:
    server = serve("--workers", str(WORKERS))
    with server.peer() as busy:
        busy.get("/slow/0.7")
        until(lambda: notes(here, "slow"), 3, "the handler runs")
        os.killpg(server.pid, signal.SIGINT)
        assert busy.reply().text == "slow"
    assert server.wait(5) == 0
    assert len(notes(here, "down")) == WORKERS
    assert len(server.lines) == 1, server.log


def test_second_signal_cuts_all_short(serve: Serve, here: Path) -> None:
    server = serve("--workers", "2")
    with server.peer() as busy:
        busy.get("/slow/30.0")
        until(lambda: notes(here, "slow"), 3, "the handler runs")
        server.signal(signal.SIGTERM)
        until(lambda: len(notes(here, "down")) == 1, 3, "the idle worker is down")
        start = time.monotonic()
        server.signal(signal.SIGTERM)
        assert server.wait(5) == 0
        assert time.monotonic() - start < 2.5
    assert len(notes(here, "cancelled")) == 1


def test_shutdown_timeout_holds_for_workers(serve: Serve, here: Path) -> None:
    server = serve("--workers", "2", "--limit", "shutdown_timeout_s=0.5")
    with server.peer() as busy:
        busy.get("/slow/30.0")
        until(lambda: notes(here, "slow"), 3, "the handler runs")
        start = time.monotonic()
        server.signal(signal.SIGTERM)
        assert server.wait(5) == 0
        assert time.monotonic() - start < 3


def test_workers_end_when_the_supervisor_is_killed(serve: Serve, here: Path) -> None:
    server = serve("--workers", str(WORKERS))
    workers = workers_of(server)
    server.signal(signal.SIGKILL)
    until(lambda: not any(map(alive, workers)), 5, "all workers have ended")
    assert set(notes(here, "down")) == workers


def test_worker_that_fails_at_once_is_restarted_ever_more_slowly(serve: Serve, here: Path) -> None:
    server = serve("--workers", "2")
    victim = min(workers_of(server))
    (here / "crash-at-start").touch()
    os.kill(victim, signal.SIGKILL)
    until(lambda: server.log.count("starting another") >= 4, 5, "a few attempts")
    pauses = [float(text) for text in re.findall(r"starting another in (\S+) s", server.log)]
    assert pauses[:4] == [0.1, 0.2, 0.4, 0.8]
    assert "exited with 7" in server.log
    assert server.get("/") == "hello", "the other one does not serve"
    (here / "crash-at-start").unlink()
    until(lambda: len(workers_of(server)) == 2, 5, "it comes up once it can")
    until(lambda: len(answering(server, 30)) == 2, 5, "both answer")
    server.signal(signal.SIGTERM)
    assert server.wait(5) == 0


def test_signals_for_the_application_are_passed_on(serve: Serve, here: Path) -> None:
    (here / "handles.py").write_text(
        "import asyncio, signal\n"
        "from shop import app, note\n"
        "@app.on_startup\n"
        "async def handle():\n"
        "    loop = asyncio.get_running_loop()\n"
        "    for name in ('SIGHUP', 'SIGUSR1', 'SIGUSR2'):\n"
        "        loop.add_signal_handler(getattr(signal, name), note, name)\n"
    )
    server = serve("--workers", "2", target="handles:app")
    workers = workers_of(server)
    for name in ("SIGHUP", "SIGUSR1", "SIGUSR2"):
        server.signal(getattr(signal, name))
        until(lambda name=name: set(notes(here, name)) == workers, 3, f"{name} has come")
    assert workers_of(server) == workers


def test_workers_hold_no_descriptors_of_their_supervisor(serve: Serve) -> None:
    """Started again, a worker has as many as one of the first."""
    server = serve("--workers", "2")
    counts = [len(os.listdir(f"/proc/{pid}/fd")) for pid in workers_of(server)]
    before = workers_of(server)
    os.kill(min(before), signal.SIGKILL)
    until(lambda: len(workers_of(server) - before) == 1, 5, "another is started")
    until(lambda: workers_of(server) <= answering(server), 5, "both answer")
    again = [len(os.listdir(f"/proc/{pid}/fd")) for pid in workers_of(server)]
    assert again == counts
    assert len(set(counts)) == 1


def test_a_worker_that_never_starts_ends_the_command(here: Path) -> None:
    (here / "crash-at-start").touch()
    command = flowcore_command("serve", "shop:app", "--port", "0", "--workers", "2")
    ended = subprocess.run(
        command, cwd=here, env=environment(), capture_output=True, text=True, timeout=10
    )
    assert ended.returncode == 1
    assert re.search(r"worker \d \(pid \d+\) exited with 7 while starting", ended.stderr)
    assert "starting another" not in ended.stderr
    assert "Traceback" not in ended.stderr
