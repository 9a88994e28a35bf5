"""``flowcore serve``, one process: how it starts, what it refuses, and how it ends."""

import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
from harness.peers import REQUEST, Ended
from harness.served import Process, environment, flowcore_command, until

from flowcore import __version__
from flowcore.http import ServerConfig

Serve = Callable[..., Process]


def flowcore(here: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        flowcore_command(*arguments),
        cwd=here,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=20,
    )


def notes(here: Path) -> list[str]:
    path = here / "notes.txt"
    return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []


# ---- starting ------------------------------------------------------------------------------------


def test_says_where_it_serves_within_a_second(serve: Serve) -> None:
    # The best of three, as other tests may keep the machine busy.
    started = [serve() for _ in range(3)]
    assert min(each.started_s for each in started) < 1
    server = started[0]
    (line,) = server.lines
    assert f"serving http://127.0.0.1:{server.port} (1 worker, pid {server.pid})" in line
    assert server.get("/") == "hello"


def test_what_hello_needs_is_a_module_and_an_app(serve: Serve, here: Path) -> None:
    (here / "hello.py").write_text(
        "from flowcore.http import App\n"
        "app = App()\n"
        "@app.get('/')\n"
        "async def hello(request):\n"
        "    return 'Hello, World!'\n"
    )
    assert serve(target="hello:app").get("/") == "Hello, World!"


def test_factory_and_dotted_attribute(serve: Serve, here: Path) -> None:
    assert serve("--factory", target="shop:make_app").get("/") == "hello"
    (here / "inside.py").write_text("import shop\nclass site:\n    app = shop.app\n")
    assert serve(target="inside:site.app").get("/") == "hello"


def test_unix_socket(serve: Serve, here: Path) -> None:
    for _ in range(2):  # the second finds what the first left
        server = serve("--unix", "s.sock")
        assert f"serving unix:s.sock (1 worker, pid {server.pid})" in server.log
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(str(here / "s.sock"))
            peer.sendall(REQUEST)
            assert peer.recv(1000).endswith(b"hello")
        server.signal(signal.SIGTERM)
        assert server.wait(5) == 0


def test_access_log_has_a_line_for_each_request(serve: Serve) -> None:
    server = serve("--access-log")
    with server.peer() as peer:
        peer.get("/nowhere?a=b")
        assert peer.reply().status == 404
        address = "{}:{}".format(*peer.sock.getsockname())
    with server.peer() as peer:
        peer.send(b"nonsense\r\n\r\n")
        assert peer.reply().status == 400
    until(lambda: server.output.count("\n") == 2, 3, "two lines")
    answered, refused = server.output.splitlines()
    assert f'{address} "GET /nowhere?a=b HTTP/1.1" 404 ' in answered
    assert answered.endswith("ms")
    assert ' "-" 400 ' in refused


def test_without_access_log_nothing_is_written(serve: Serve) -> None:
    server = serve()
    assert server.get("/") == "hello"
    server.signal(signal.SIGTERM)
    assert server.wait(5) == 0
    assert server.output == ""


def test_limits_are_taken(serve: Serve) -> None:
    server = serve("--limit", "max_request_line_bytes=50", "--limit", "idle_timeout_s=0.3")
    with server.peer() as peer:
        peer.get("/" + "a" * 100)
        assert peer.reply().status == 414
    with server.peer() as idle:
        assert idle.heard(3)
        assert idle.sock.recv(1) == b""


# ---- help and errors -----------------------------------------------------------------------------


def test_help_teaches(here: Path) -> None:
    shown = flowcore(here, "--help")
    assert shown.returncode == 0
    assert "serve" in shown.stdout
    shown = flowcore(here, "serve", "--help")
    assert shown.returncode == 0
    assert "flowcore serve hello:app " in shown.stdout
    assert "SIGTERM" in shown.stdout
    for field in fields(ServerConfig):
        assert f"  {field.name} " in shown.stdout
        assert str(field.default) in shown.stdout
    for option in ("--host", "--port", "--unix", "--workers", "--access-log", "--factory"):
        assert option in shown.stdout


def test_version(here: Path) -> None:
    assert flowcore(here, "--version").stdout == f"flowcore {__version__}\n"


REFUSED = {
    "no-colon": (["shop"], "'shop' is not of the form module:app"),
    "no-attribute-named": (["shop:"], "'shop:' is not of the form module:app"),
    "relative": ([".shop:app"], "'.shop:app' is not of the form module:app"),
    "no-module": (["nowhere:app"], "there is no module 'nowhere'"),
    "no-submodule": (["json.nowhere:app"], "there is no module 'json.nowhere'"),
    "no-attribute": (["shop:nothing"], "module 'shop' has no 'nothing'"),
    "no-app": (["shop:not_an_app"], "shop:not_an_app is a int, not a flowcore.http.App"),
    "a-factory": (["shop:make_app"], "is it a factory? then add --factory"),
    "limit-name": (["shop:app", "--limit", "max_boddy=1"], "--limit 'max_boddy=1': expected NAME"),
    "limit-form": (["shop:app", "--limit", "backlog"], "--limit 'backlog': expected NAME=VALUE"),
    "limit-value": (["shop:app", "--limit", "backlog=ten"], "'ten' is not a number"),
    "limit-range": (["shop:app", "--limit", "idle_timeout_s=0"], "must be greater than 0"),
    "limit-nan": (["shop:app", "--limit", "idle_timeout_s=nan"], "must be greater than 0"),
    "limit-whole": (["shop:app", "--limit", "backlog=1.5"], "'1.5' is not a number"),
    "port-range": (["shop:app", "--port", "65536"], "a port is from 0 to 65535, not 65536"),
    "host": (["shop:app", "--host", "no-such.invalid"], "cannot listen on no-such.invalid"),
    "foreign": (["shop:app", "--host", "192.0.2.1"], "cannot listen on 192.0.2.1 port 8000"),
    "workers": (["shop:app", "--workers", "0"], "workers must be at least 1, not 0"),
    "workers-unix": (["shop:app", "--workers", "2", "--unix", "s"], "cannot share a Unix socket"),
    "unix": (["shop:app", "--unix", "none/s"], "cannot listen on none/s: No such file"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_errors_are_one_clear_line(here: Path, what: str) -> None:
    arguments, text = REFUSED[what]
    done = flowcore(here, "serve", *arguments)
    (line,) = done.stderr.splitlines()
    assert line.startswith("flowcore serve: ")
    assert text in line
    assert done.returncode == 1
    assert done.stdout == ""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_port_in_use_is_one_clear_line(serve: Serve, here: Path, workers: str) -> None:
    """With workers too, of which either side would share its port."""
    for first in ("1", "2"):
        server = serve("--workers", first)
        done = flowcore(here, "serve", "shop:app", "--port", str(server.port), "--workers", workers)
        assert done.returncode == 1
        assert done.stderr == (
            f"flowcore serve: cannot listen on 127.0.0.1 port {server.port}:"
            " Address already in use\n"
        )


def test_what_the_application_raises_is_shown_in_full(here: Path) -> None:
    (here / "bad.py").write_text("raise ValueError('from the module itself')\n")
    (here / "lacks.py").write_text("import no_such_thing_here\n")
    (here / "fails.py").write_text(
        "from shop import app\n"
        "@app.on_startup\n"
        "async def up(): raise OSError('from the start-up hook')\n"
    )
    for module, line in [
        ("bad", "ValueError: from the module itself"),
        ("lacks", "ModuleNotFoundError: No module named 'no_such_thing_here'"),
        ("fails", "OSError: from the start-up hook"),
    ]:
        done = flowcore(here, "serve", f"{module}:app", "--port", "0")
        assert done.returncode == 1
        assert "Traceback" in done.stderr
        assert f"{module}.py" in done.stderr
        assert done.stderr.splitlines()[-1] == line


# ---- ending --------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_finishes_what_is_in_flight(serve: Serve, here: Path, number: int) -> None:
    server = serve()
    with server.peer() as busy, server.peer() as idle, server.peer() as fresh:
        idle.send(REQUEST)
        assert idle.reply().status == 200
        busy.get("/slow/0.7")
        until(lambda: "slow" in notes(here), 3, "the handler runs")
        server.signal(number)
        start = time.monotonic()
        assert idle.ends(2)
        assert fresh.ends(2)
        assert time.monotonic() - start < 0.5, "idle connections wait for busy ones"
        assert refuses(server.port)
        reply = busy.reply()
        assert (reply.status, reply.text) == (200, "slow")
        assert reply.headers["connection"] == "close"
        assert busy.ends()
    assert server.wait(3) == 0
    assert notes(here) == ["up", "slow", "down"]
    assert "Traceback" not in server.log


def refuses(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) != 0


def test_second_signal_cuts_it_short(serve: Serve, here: Path) -> None:
    server = serve()
    with server.peer() as busy:
        busy.get("/slow/30.0")
        until(lambda: "slow" in notes(here), 3, "the handler runs")
        server.signal(signal.SIGTERM)
        until(lambda: refuses(server.port), 3, "it stops accepting")
        assert server.child.poll() is None
        server.signal(signal.SIGTERM)
        start = time.monotonic()
        with pytest.raises((Ended, OSError)):
            busy.reply()
        assert server.wait(5) == 0
        assert time.monotonic() - start < 2
    assert notes(here) == ["up", "slow", "cancelled", "down"]


def test_shutdown_timeout_cuts_what_takes_too_long(serve: Serve, here: Path) -> None:
    server = serve("--limit", "shutdown_timeout_s=0.5")
    with server.peer() as busy:
        busy.get("/slow/30.0")
        until(lambda: "slow" in notes(here), 3, "the handler runs")
        server.signal(signal.SIGTERM)
        start = time.monotonic()
        assert server.wait(5) == 0
        assert 0.4 < time.monotonic() - start < 3
    assert notes(here) == ["up", "slow", "cancelled", "down"]
    assert "1 connections were cut: shutdown_timeout_s (0.5 s) has passed" in server.log


def test_signal_with_nothing_in_flight_ends_at_once(serve: Serve) -> None:
    server = serve()
    assert server.get("/") == "hello"
    start = time.monotonic()
    server.signal(signal.SIGINT)
    assert server.wait(3) == 0
    assert time.monotonic() - start < 1.5
