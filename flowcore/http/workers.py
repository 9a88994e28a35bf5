"""Several processes on one address, and the one that looks after them."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Set
from dataclasses import dataclass

from flowcore.errors import FlowcoreError, InvalidArgument
from flowcore.http.app import App
from flowcore.http.config import ServerConfig
from flowcore.http.run import announce, serve_until_signal
from flowcore.http.serve import Server
from flowcore.loop import run
from flowcore.net import bind_tcp, describe

__all__ = ["Supervisor", "WorkerStartError"]

_logger = logging.getLogger("flowcore.http")

# A worker that lived less than this is restarted after a pause, which doubles each time.
_HEALTHY_AFTER_S = 5.0
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 10.0

# Between two looks at whether all workers accept connections, until they do.
_POLL_S = 0.02

# Beyond shutdown_timeout_s, for a worker's own end.
_KILL_GRACE_S = 5.0

_STOP = {signal.SIGTERM, signal.SIGINT}
_PASSED_ON = {signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP}


class WorkerStartError(FlowcoreError):
    """A worker ended before all had come up; what it printed says why."""


@dataclass(slots=True)
class _Worker:
    number: int
    pid: int
    started: float


class Supervisor:
    """Forks workers that share an address by SO_REUSEPORT, and replaces one that dies.

    The start-up line comes when each worker accepts connections. SIGTERM and SIGINT stop the
    workers in good order; a second one cuts them short. SIGHUP, SIGUSR1 and SIGUSR2 are passed on
    as they are. If the supervisor itself is killed, the workers stop.
    """

    def __init__(
        self,
        app: App,
        host: str | None,
        port: int,
        *,
        workers: int,
        config: ServerConfig,
        unix: str | None = None,
        access_log: bool = False,
    ) -> None:
        if unix is not None:
            raise InvalidArgument("several workers cannot share a Unix socket: use one, or TCP")
        self._app = app
        self._host = host
        self._port = port
        self._count = workers
        self._config = config
        self._access_log = access_log
        self._workers: dict[int, _Worker] = {}
        self._restarts: list[tuple[float, int]] = []
        self._pauses = [_FIRST_PAUSE_S] * workers
        # Workers yet to accept connections for the first time, and how they tell that they do.
        self._awaited = set(range(workers))
        self._ready_read = self._ready_write = -1
        self._stopping = False
        self._hasty = False  # told to stop a second time
        self._start_failure = ""

    def run(self) -> None:
        """Serves until told to stop.

        Raises:
            OSError: the address cannot be listened on.
            WorkerStartError: a worker ended before all had come up for the first time.
        """
        # SO_REUSEPORT would share the address with whoever else sets it: first see that it is free.
        for sock in bind_tcp(self._host, self._port, listen=False):
            sock.close()
        # Bound but not listening, these keep the address ours, and tell the port if it was 0.
        reserved = bind_tcp(self._host, self._port, reuse_port=True, listen=False)
        self._port = reserved[0].getsockname()[1]
        read_end, self._lifeline = os.pipe()
        self._ready_read, self._ready_write = os.pipe()
        os.set_blocking(self._ready_read, False)
        waited = _STOP | _PASSED_ON | {signal.SIGCHLD}
        before = signal.pthread_sigmask(signal.SIG_BLOCK, waited)
        try:
            for number in range(self._count):
                self._start(number, read_end, reserved, before)
            self._watch(waited, read_end, reserved, before)
            if self._start_failure:
                raise WorkerStartError(self._start_failure)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            for fd in (self._lifeline, read_end, self._ready_read, self._ready_write):
                os.close(fd)
            for sock in reserved:
                sock.close()

    def _start(
        self, number: int, lifeline: int, reserved: list[socket.socket], mask: Set[int]
    ) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid:
            self._workers[pid] = _Worker(number, pid, time.monotonic())
            return
        status = 1
        try:
            os.close(self._lifeline)
            os.close(self._ready_read)
            for sock in reserved:
                sock.close()
            # Control-C reaches the whole group; the supervisor alone decides.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            self._work(number, lifeline)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                logging.shutdown()
                sys.stdout.flush()
                sys.stderr.flush()
            # Not sys.exit(): what the parent registered to run at its exit is not the worker's.
            os._exit(status)

    def _work(self, number: int, lifeline: int) -> None:
        def tell_ready(_: Server) -> None:
            if number in self._awaited:
                os.write(self._ready_write, number.to_bytes(4, sys.byteorder))

        run(
            serve_until_signal(
                self._app,
                host=self._host,
                port=self._port,
                reuse_port=True,
                access_log=self._access_log,
                config=self._config,
                signals=(signal.SIGTERM,),
                parent_fd=lifeline,
                on_started=tell_ready,
            )
        )

    def _watch(
        self,
        waited: set[signal.Signals],
        lifeline: int,
        reserved: list[socket.socket],
        mask: Set[int],
    ) -> None:
        kill_at = float("inf")
        while self._workers or not self._stopping:
            info = signal.sigtimedwait(waited, self._next_wake(kill_at))
            now = time.monotonic()
            self._announce_if_ready(reserved)
            number = signal.Signals(info.si_signo) if info is not None else None
            if number in _STOP:
                self._hasty = self._stopping
                self._stop()
            elif self._hasty:
                # Two signals that a worker has not taken yet are one to it: say it until it ends.
                self._signal_all(signal.SIGTERM)
            elif number in _PASSED_ON:
                self._signal_all(number)
            self._reap(now)
            if self._stopping:
                kill_at = min(kill_at, now + self._config.shutdown_timeout_s + _KILL_GRACE_S)
            if now >= kill_at:
                self._signal_all(signal.SIGKILL)
                kill_at = now + _KILL_GRACE_S
            due = [worker for when, worker in self._restarts if when <= now]
            self._restarts = [entry for entry in self._restarts if entry[0] > now]
            for worker in due:
                if not self._stopping:
                    self._start(worker, lifeline, reserved, mask)

    def _next_wake(self, kill_at: float) -> float:
        soonest = min([kill_at, *(when for when, _ in self._restarts)])
        longest = _POLL_S if self._awaited or self._hasty else 3600.0
        return max(0.0, min(soonest - time.monotonic(), longest))

    def _announce_if_ready(self, reserved: list[socket.socket]) -> None:
        if not self._awaited or self._stopping:
            return
        with contextlib.suppress(BlockingIOError):
            told = os.read(self._ready_read, 4096)
            self._awaited -= set(memoryview(told).cast("I"))
        if not self._awaited:
            announce([describe(sock) for sock in reserved], self._count)

    def _stop(self) -> None:
        self._signal_all(signal.SIGTERM)
        self._stopping = True

    def _signal_all(self, number: signal.Signals) -> None:
        for pid in list(self._workers):
            os.kill(pid, number)

    def _reap(self, now: float) -> None:
        while self._workers:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            worker = self._workers.pop(pid, None)
            if worker is None or self._stopping:
                continue
            code = os.waitstatus_to_exitcode(status)
            if code < 0:
                how = f"was killed by {signal.Signals(-code).name}"
            else:
                how = f"exited with {code}"
            if worker.number in self._awaited:
                # What has never worked is not tried again: the program or its address is at fault.
                self._start_failure = f"worker {worker.number} (pid {pid}) {how} while starting"
                self._stop()
                continue
            pause = self._pauses[worker.number]
            if now - worker.started >= _HEALTHY_AFTER_S:
                pause = _FIRST_PAUSE_S
            self._pauses[worker.number] = min(pause * 2, _LONGEST_PAUSE_S)
            _logger.warning(
                "worker %d (pid %d) %s; starting another in %g s", worker.number, pid, how, pause
            )
            self._restarts.append((now + pause, worker.number))
