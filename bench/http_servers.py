"""The servers that the HTTP benchmark compares: how each is started, checked for and stopped."""

import contextlib
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from support import machine

ROOT = Path(__file__).resolve().parent.parent
APPS = ROOT / "bench" / "http_apps"
START_S = 15.0


class Unavailable(Exception):
    """The server cannot be run here; the text says why."""


@dataclass
class Server:
    """One running server; `ports` by the name of a canned reply, or one port for them all."""

    name: str
    pids: list[int]
    ports: dict[str, int]
    processes: list[subprocess.Popen] = field(repr=False, default_factory=list)

    def port(self, canned: str) -> int:
        return self.ports.get(canned) or self.ports[""]

    def pid(self, canned: str) -> int:
        return self.pids[list(self.ports).index(canned if canned in self.ports else "")]

    def stop(self) -> None:
        for p in self.processes:
            _signal(p, signal.SIGTERM)
        for p in self.processes:
            try:
                p.wait(timeout=5)
            except subprocess.TimeoutExpired:
                _signal(p, signal.SIGKILL)
                p.wait()


def _signal(process: subprocess.Popen, number: int) -> None:
    """To the process's own group, so that workers get it too."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def _launch(name: str, command: list[str], port: int, scratch: Path) -> subprocess.Popen:
    """Starts a server and waits until `port` accepts; raises Unavailable with its last words."""
    log = scratch / f"{name}-{port}.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=out, stderr=out, stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return process
        except OSError:
            time.sleep(0.05)
    if process.poll() is None:
        _signal(process, signal.SIGKILL)
        process.wait()
    lines = log.read_text(errors="replace").strip().splitlines()
    raise Unavailable(f"did not start: {lines[-1] if lines else 'no output'}")


def _needs(*distributions: str) -> None:
    for d in distributions:
        if machine.version_of(d) is None:
            raise Unavailable(f"{d} is not installed")


def _bare_c(scratch: Path) -> Server:
    compiler = os.environ.get("CC") or shutil.which("cc")
    if not compiler:
        raise Unavailable("there is no C compiler")
    program = scratch / "http_epoll"
    source = ROOT / "bench" / "limit" / "http_epoll.c"
    done = subprocess.run([compiler, "-O2", "-o", program, source], capture_output=True, text=True)
    if done.returncode:
        raise Unavailable(f"does not compile: {done.stderr.strip()[-300:]}")
    server = Server("bare-c", [], {})
    for canned in ("plain", "json", "upload"):
        port = _free_port()
        process = _launch("bare-c", [str(program), str(port), canned], port, scratch)
        server.processes.append(process)
        server.pids.append(process.pid)
        server.ports[canned] = port
    return server


def _one(name: str, command: list[str], port: int, scratch: Path) -> Server:
    process = _launch(name, command, port, scratch)
    return Server(name, [process.pid], {"": port}, [process])


def _flowcore(scratch: Path) -> Server:
    probe = [sys.executable, "-c", "from flowcore.http import App, Response"]
    done = subprocess.run(probe, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise Unavailable((done.stderr.strip().splitlines() or ["cannot be imported"])[-1])
    port = _free_port()
    command = [sys.executable, "-m", "flowcore", "serve", "bench.http_apps.flowcore_app:app"]
    return _one("flowcore", [*command, "--host", "127.0.0.1", "--port", str(port)], port, scratch)


def _nginx(scratch: Path) -> Server:
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if not program:
        raise Unavailable("nginx is not installed")
    port = _free_port()
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)  # nginx takes memory for each at once
    values = {
        "DIR": str(scratch),
        "PORT": str(port),
        "FILES": str(soft if 0 < soft < 1 << 20 else 1 << 20),
        "USER": "user root;" if os.geteuid() == 0 else "",
    }
    text = (APPS / "nginx.conf").read_text()
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    conf = scratch / "nginx.conf"
    conf.write_text(text)
    return _one("nginx", [program, "-p", str(scratch), "-c", str(conf)], port, scratch)


def _uvicorn(scratch: Path) -> Server:
    _needs("uvicorn", "uvloop", "httptools")
    port = _free_port()
    command = [sys.executable, "-m", "uvicorn", "bench.http_apps.asgi_app:app"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--loop", "uvloop"]
    command += ["--http", "httptools", "--no-access-log", "--log-level", "warning"]
    command += ["--lifespan", "off", "--timeout-keep-alive", "3600"]
    return _one("uvicorn", command, port, scratch)


def _granian(interface: str, scratch: Path) -> Server:
    _needs("granian", "uvloop")
    port = _free_port()
    command = [sys.executable, "-m", "granian", "--interface", interface, "--workers", "1"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--loop", "uvloop"]
    command += ["--no-access-log", "--log-level", "error", "--http", "1"]
    command += [f"bench.http_apps.{interface}_app:app"]
    return _one(f"granian-{interface}", command, port, scratch)


STARTERS = {
    "bare-c": _bare_c,
    "flowcore": _flowcore,
    "nginx": _nginx,
    "uvicorn": _uvicorn,
    "granian-asgi": lambda scratch: _granian("asgi", scratch),
    "granian-rsgi": lambda scratch: _granian("rsgi", scratch),
}
ABOUT = {
    "bare-c": "bench/limit/http_epoll.c: epoll, canned reply, nothing parsed",
    "flowcore": "async handlers, one worker",
    "nginx": "return 200, one worker; discards the POST body",
    "uvicorn": "raw ASGI application, uvloop and httptools",
    "granian-asgi": "raw ASGI application, one worker, uvloop",
    "granian-rsgi": "raw RSGI application, one worker, uvloop",
}


class Servers:
    """Starts the named servers on entry and stops them on exit. `skipped`: name to reason."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.running: dict[str, Server] = {}
        self.skipped: dict[str, str] = {}
        self._scratch = TemporaryDirectory(prefix="bench-http-")

    def __enter__(self) -> "Servers":
        try:
            for name in self.names:
                try:
                    self.running[name] = STARTERS[name](Path(self._scratch.name))
                except Unavailable as reason:
                    self.skipped[name] = str(reason)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for server in self.running.values():
            server.stop()
        self._scratch.cleanup()
