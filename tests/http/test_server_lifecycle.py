"""A server's life: starting, stopping, and ending badly."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import re
import socket
import subprocess
import sys
import textwrap
import time

import pytest

import flowcore
from flowcore.errors import InvalidArgument, InvalidState
from flowcore.http import App, ServerConfig, serve


def refuses(address) -> bool:
    try:
        socket.create_connection(address, 1).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        # It was in the accept queue when the socket was closed; the next one is refused.
        return False
    return False


@pytest.fixture
def gated():
    """An app whose GET /wait answers once its gate is opened, and what happens in it."""
    app = App()
    app.log = []

    @app.get("/wait")
    async def wait():
        app.log.append("waits")
        try:
            await app.gate.wait()
        except asyncio.CancelledError:
            app.log.append("cancelled")
            raise
        app.log.append("answers")
        return "answer"

    @app.on_startup
    def start():
        app.gate = asyncio.Event()

    @app.on_shutdown
    def stop():
        app.log.append("hook")

    app.get("/")(lambda: "here")
    return app


# ---- starting ------------------------------------------------------------------------------------


def test_another_loop_is_refused() -> None:
    async def main() -> None:
        with pytest.raises(InvalidState, match=r"flowcore\.run"):
            await serve(App(), port=0)

    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(main())


def test_addresses(run_app, tmp_path) -> None:
    server = run_app(App()).server
    assert server.port == server.sockets[0].getsockname()[1] > 0
    assert server.addresses == [f"http://127.0.0.1:{server.port}"]
    path = str(tmp_path / "socket")
    server = run_app(App(), unix=path).server
    assert (server.port, server.addresses) == (0, [f"unix:{path}"])


def test_port_0_is_another_one_each_time(run_app) -> None:
    assert len({run_app(App()).server.port for _ in range(5)}) == 5


def test_a_port_that_is_taken(run_app) -> None:
    port = run_app(App()).server.port
    ran = []
    app = App()
    app.on_startup(lambda: ran.append(1))
    with pytest.raises(OSError, match=str(port)):
        run_app(app, port=port)
    assert ran == []


def test_failing_to_start_leaves_nothing_behind(run_app) -> None:
    busy = run_app(App()).server.port
    app = App()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        before = len(loop._guests)
        descriptors = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            with pytest.raises(OSError):
                await serve(app, port=busy)
            with pytest.raises(OSError):
                await serve(app, unix="/nonexistent/socket")
        gc.collect()
        assert len(loop._guests) == before
        assert len(os.listdir("/proc/self/fd")) == descriptors

    flowcore.run(main())


def test_an_ipv6_address(run_app) -> None:
    app = App()
    app.get("/")(lambda request: request.client[0])
    try:
        running = run_app(app, host="::1")
    except OSError:
        pytest.skip("no IPv6 here")
    assert running.server.addresses == [f"http://[::1]:{running.server.port}"]
    assert running.get("/").text == "::1"


def test_every_address_of_the_machine(run_app, connect_to) -> None:
    app = App()
    app.get("/")(lambda: "here")
    running = run_app(app, host=None)
    assert len({sock.getsockname()[1] for sock in running.server.sockets}) == 1
    for sock in running.server.sockets:
        host = "127.0.0.1" if sock.family == socket.AF_INET else "::1"
        assert connect_to((host, running.server.port)).get("/").text == "here"


def test_a_unix_socket(run_app, tmp_path) -> None:
    app = App()
    app.get("/")(lambda request: repr(request.client))
    path = str(tmp_path / "socket")
    running = run_app(app, unix=path)
    assert running.get("/").text == "None"
    with pytest.raises(OSError, match="in use"):
        run_app(app, unix=path)
    assert running.get("/").text == "None"
    running.stop()
    # Whoever comes next takes the place of what is left.
    assert run_app(app, unix=path).get("/").text == "None"


def test_sockets_of_ones_own(run_app, connect_to) -> None:
    app = App()
    app.get("/")(lambda: "here")
    socks = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    running = run_app(app, sockets=iter(socks))
    assert running.server.sockets == socks
    for sock in socks:
        assert connect_to(sock.getsockname()).get("/").text == "here"
    running.stop()
    assert [sock.fileno() for sock in socks] == [-1, -1]


def test_several_servers_on_one_loop() -> None:
    async def main() -> None:
        apps = [App() for _ in range(3)]
        for n, app in enumerate(apps):
            app.get("/")(lambda n=n: str(n))
        servers = [await serve(app, port=0) for app in apps]
        for n, server in enumerate(servers):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"GET / HTTP/1.0\r\n\r\n")
            assert (await reader.read()).endswith(b"\r\n\r\n%d" % n)
            writer.close()
        assert await asyncio.gather(*(server.shutdown() for server in servers)) == [True] * 3

    flowcore.run(main())


def test_limits_by_name_or_as_a_config() -> None:
    async def main() -> None:
        with pytest.raises(TypeError, match="not both"):
            await serve(App(), port=0, config=ServerConfig(), max_headers=5)
        with pytest.raises(TypeError, match="max_heeaders"):
            await serve(App(), port=0, max_heeaders=5)
        with pytest.raises(InvalidArgument, match="max_headers"):
            await serve(App(), port=0, max_headers=0)
        with pytest.raises(InvalidArgument, match="port"):
            await serve(App(), port=70_000)
        async with await serve(App(), port=0, config=ServerConfig(max_headers=5)):
            pass

    flowcore.run(main())


# ---- hooks ---------------------------------------------------------------------------------------


def test_hooks_run_around_everything(run_app, connect_to) -> None:
    app = App()
    log = []

    @app.on_startup
    async def start():
        await asyncio.sleep(0.01)
        log.append("start")

    @app.on_shutdown
    async def stop():
        log.append(f"stop, {running.server.connections} connections")

    app.get("/")(lambda: log.append("request"))
    running = run_app(app)
    with running.connect() as client:
        client.get("/")
    running.stop()
    assert log == ["start", "request", "stop, 0 connections"]


def test_a_start_up_hook_that_fails(run_app) -> None:
    app = App()
    log = []
    app.on_startup(lambda: log.append("first"))
    app.on_startup(lambda: 1 / 0)
    app.on_startup(lambda: log.append("third"))
    app.on_shutdown(lambda: log.append("stop"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(ZeroDivisionError):
        run_app(app, port=port)
    assert log == ["first"]
    assert refuses(("127.0.0.1", port))


def test_connections_wait_until_start_up_is_over(run_app, connect_to) -> None:
    app = App()
    order = []
    sock = socket.create_server(("127.0.0.1", 0))
    client = connect_to(sock.getsockname())
    client.ask("GET", "/")

    @app.on_startup
    async def start():
        await asyncio.sleep(0.1)
        order.append("started")

    app.get("/")(lambda: order.append("request"))
    run_app(app, sockets=[sock])
    assert client.reply().status == 204
    assert order == ["started", "request"]


def test_a_shut_down_hook_that_fails() -> None:
    app = App()

    @app.on_shutdown
    def fail():
        raise ValueError("no end")

    async def main() -> None:
        server = await serve(app, port=0)
        with pytest.raises(ValueError, match="no end"):
            await server.shutdown()
        assert refuses(("127.0.0.1", server.port))
        with pytest.raises(ValueError, match="no end"):
            await asyncio.wait_for(server.serve_forever(), 5)

    flowcore.run(main())


# ---- stopping ------------------------------------------------------------------------------------


def test_what_is_in_flight_is_finished(run_app, gated, eventually) -> None:
    running = run_app(gated)
    busy, idle = running.connect(), running.connect()
    assert idle.get("/").text == "here"
    busy.ask("GET", "/wait")
    eventually(lambda: gated.log)
    address = running.address
    stopping = asyncio.run_coroutine_threadsafe(running.server.shutdown(), running.loop)
    assert idle.ended()  # at once
    eventually(lambda: refuses(address))
    assert not stopping.done()
    assert gated.log == ["waits"]
    running.loop.call_soon_threadsafe(gated.gate.set)
    reply = busy.reply()
    assert (reply.text, reply.header("connection")) == ("answer", "close")
    assert busy.ended()
    assert stopping.result(10) is True
    assert gated.log == ["waits", "answers", "hook"]


def test_a_request_that_is_half_received_is_still_served(run_app, gated, eventually) -> None:
    running = run_app(gated)
    client = running.connect()
    client.send(b"GET / HTTP/1.1\r\n")
    eventually(lambda: running.server.connections == 1)
    running.call(lambda: None)
    stopping = asyncio.run_coroutine_threadsafe(running.server.shutdown(), running.loop)
    eventually(lambda: refuses(running.where))
    client.send(b"Host: t\r\n\r\n")
    reply = client.reply()
    assert (reply.text, reply.header("connection")) == ("here", "close")
    assert stopping.result(10) is True


def test_a_stream_is_finished(run_app, eventually) -> None:
    app = App()
    gate = []

    @app.get("/")
    async def stream():
        gate.append(asyncio.Event())
        yield b"first"
        await gate[0].wait()
        yield b"last"

    running = run_app(app)
    client = running.connect()
    client.ask("GET", "/")
    eventually(lambda: gate)
    stopping = asyncio.run_coroutine_threadsafe(running.server.shutdown(), running.loop)
    time.sleep(0.05)
    running.loop.call_soon_threadsafe(gate[0].set)
    assert client.reply().chunks == [b"first", b"last"]
    assert client.ended()
    assert stopping.result(10) is True


def test_a_big_reply_is_sent_to_its_end(run_app, eventually) -> None:
    app = App()
    app.get("/")(lambda: bytes(16 << 20))
    running = run_app(app)
    client = running.connect()
    client.ask("GET", "/")
    client.head()
    stopping = asyncio.run_coroutine_threadsafe(running.server.shutdown(), running.loop)
    time.sleep(0.05)
    assert len(client.exactly(16 << 20)) == 16 << 20
    assert stopping.result(10) is True


@pytest.mark.parametrize("how", ["argument", "config"])
def test_what_takes_too_long_is_cut(run_app, gated, eventually, caplog, how) -> None:
    running = run_app(gated, **({"shutdown_timeout_s": 0.2} if how == "config" else {}))
    client, half = running.connect(), running.connect()
    half.send(b"GET / HTTP/1.1\r\n")
    client.ask("GET", "/wait")
    eventually(lambda: gated.log and running.server.connections == 2)
    start = time.monotonic()
    in_time = running.call(running.server.shutdown, *([0.2] if how == "argument" else []))
    assert 0.15 < time.monotonic() - start < 3
    assert in_time is False
    assert gated.log == ["waits", "cancelled", "hook"]
    assert client.ended() and half.ended()
    [record] = caplog.records
    assert "2 connections were cut" in record.getMessage()


def test_a_handler_that_does_not_end_when_cancelled_is_left(run_app, eventually) -> None:
    app = App()
    log = []

    @app.get("/")
    async def stubborn():
        log.append("waits")
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(3)
                return

    running = run_app(app)
    client = running.connect()
    client.ask("GET", "/")
    eventually(lambda: log)
    start = time.monotonic()
    assert running.call(running.server.shutdown, 0.1) is False
    assert time.monotonic() - start < 2.5
    assert client.ended()


def test_abort_cuts_a_shut_down_short(run_app, gated, eventually) -> None:
    running = run_app(gated)
    client, half = running.connect(), running.connect()
    half.send(b"GET / HTTP/1.1\r\n")
    client.ask("GET", "/wait")
    eventually(lambda: gated.log and running.server.connections == 2)
    stopping = asyncio.run_coroutine_threadsafe(running.server.shutdown(), running.loop)
    eventually(lambda: refuses(running.where))
    start = time.monotonic()
    running.call(running.server.abort)
    stopping.result(5)
    assert time.monotonic() - start < 2
    assert gated.log == ["waits", "cancelled", "hook"]
    assert client.ended() and half.ended()


def test_abort_with_nothing_but_a_half_received_request(run_app, gated, eventually) -> None:
    running = run_app(gated)
    half = running.connect()
    half.send(b"GET / HTTP/1.1\r\n")
    eventually(lambda: running.server.connections == 1)
    running.call(lambda: None)
    stopping = asyncio.run_coroutine_threadsafe(running.server.shutdown(), running.loop)
    eventually(lambda: refuses(running.where))
    running.call(running.server.abort)
    start = time.monotonic()
    stopping.result(5)
    assert time.monotonic() - start < 2


def test_abort_without_a_shut_down(run_app, gated, eventually) -> None:
    running = run_app(gated)
    client = running.connect()
    client.ask("GET", "/wait")
    eventually(lambda: gated.log)
    running.call(running.server.abort)
    assert client.ended()
    assert refuses(running.where)
    eventually(lambda: gated.log == ["waits", "cancelled"])
    assert running.call(running.server.shutdown) is True
    assert gated.log[-1] == "hook"


def test_shutting_down_twice(run_app, gated, eventually) -> None:
    running = run_app(gated)
    client = running.connect()
    client.ask("GET", "/wait")
    eventually(lambda: gated.log)
    first, second = (
        asyncio.run_coroutine_threadsafe(running.server.shutdown(0.2), running.loop)
        for _ in range(2)
    )
    assert (first.result(5), second.result(5)) == (False, False)
    assert running.call(running.server.shutdown) is False
    assert gated.log.count("hook") == 1
    assert (running.server.sockets, running.server.connections) == ([], 0)
    assert running.server.port > 0


def test_a_shut_down_that_is_cancelled_goes_on(run_app, gated, eventually) -> None:
    running = run_app(gated)
    client = running.connect()
    client.ask("GET", "/wait")
    eventually(lambda: gated.log)

    async def hurried() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(running.server.shutdown(), 0.05)
        gated.gate.set()
        assert await asyncio.wait_for(running.server.shutdown(), 5) is True

    running.call(hurried)
    assert client.reply().text == "answer"
    assert gated.log == ["waits", "answers", "hook"]


def test_serve_forever_ends_with_the_server(run_app) -> None:
    async def main() -> None:
        server = await serve(App(), port=0)
        forever = asyncio.ensure_future(server.serve_forever())
        await asyncio.sleep(0.01)
        assert not forever.done()
        await server.shutdown()
        await asyncio.wait_for(forever, 1)

        server = await serve(App(), port=0)
        forever = asyncio.ensure_future(server.serve_forever())
        await asyncio.sleep(0.01)
        forever.cancel()
        with pytest.raises(asyncio.CancelledError):
            await forever
        assert refuses(("127.0.0.1", server.port))

    flowcore.run(main())


def test_as_a_context_manager(gated) -> None:
    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            async with await serve(gated, port=0) as server:
                assert not refuses(("127.0.0.1", server.port))
                raise ZeroDivisionError
        assert refuses(("127.0.0.1", server.port))
        assert gated.log == ["hook"]

    flowcore.run(main())


def test_a_handler_may_start_the_shut_down(run_app) -> None:
    app = App()

    @app.get("/stop")
    async def stop():
        app.stopping = asyncio.ensure_future(running.server.shutdown())
        await asyncio.sleep(0.01)
        return "stopping"

    running = run_app(app)
    client = running.connect()
    reply = client.get("/stop")
    assert (reply.text, reply.header("connection")) == ("stopping", "close")

    async def result():
        return await app.stopping

    assert running.call(result) is True


def test_nothing_to_stop() -> None:
    async def main() -> None:
        start = time.monotonic()
        for _ in range(20):
            assert await (await serve(App(), port=0)).shutdown() is True
        assert time.monotonic() - start < 2

    flowcore.run(main())


# ---- what it tells about itself ------------------------------------------------------------------


def test_counts(run_app, eventually) -> None:
    app = App()
    app.get("/")(lambda: "x")
    running = run_app(app)
    server = running.server
    assert (server.connections, server.served, server.refused) == (0, 0, 0)
    clients = [running.connect() for _ in range(3)]
    for client in clients:
        client.get("/")
        client.get("/nope")
    assert (server.connections, server.served, server.refused) == (3, 6, 0)
    clients[0].send(b"bad\r\n\r\n")
    clients[0].rest()
    assert server.refused == 1
    for client in clients:
        client.close()
    eventually(lambda: server.connections == 0)


def test_the_access_log(run_app, caplog, eventually) -> None:
    caplog.set_level(logging.INFO, "flowcore.access")
    app = App()
    app.get("/")(lambda: "x" * 10)
    app.get("/none")(lambda: None)
    app.get("/fails")(lambda: 1 / 0)

    @app.get("/stream")
    async def stream():
        yield b"abc"
        yield b"de"

    @app.get("/gone")
    async def gone():
        await asyncio.sleep(60)

    running = run_app(app, access_log=True)
    client = running.connect()
    who = f"127.0.0.1:{client.sock.getsockname()[1]}"
    client.get("/?q=1")
    client.request("HEAD", "/")
    client.get("/none")
    client.get("/fails")
    client.get("/nope")
    client.get("/stream")
    client.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    client.reply()
    client.send(b"GET / HTTP/1.1\n")
    client.rest()
    other = running.connect()
    there = f"127.0.0.1:{other.sock.getsockname()[1]}"
    other.ask("GET", "/gone")
    eventually(lambda: running.server.connections == 2)
    running.call(lambda: None)
    other.close()

    def lines() -> list[str]:
        texts = [r.getMessage() for r in caplog.records if r.name == "flowcore.access"]
        return [re.sub(r"\d+\.\d+ms$", "TIME", text) for text in texts]

    eventually(lambda: len(lines()) == 9)
    assert lines() == [
        f'{who} "GET /?q=1 HTTP/1.1" 200 10 TIME',
        f'{who} "HEAD / HTTP/1.1" 200 0 TIME',
        f'{who} "GET /none HTTP/1.1" 204 0 TIME',
        f'{who} "GET /fails HTTP/1.1" 500 26 TIME',
        f'{who} "GET /nope HTTP/1.1" 404 14 TIME',
        f'{who} "GET /stream HTTP/1.1" 200 5 TIME',
        f'{who} "GET / HTTP/1.0" 200 10 TIME',
        f'{who} "-" 400 a line does not end in CR LF',
        f'{there} "GET /gone HTTP/1.1" - 0 TIME',
    ]


def test_the_access_log_escapes_what_a_terminal_would_obey(run_app, caplog, eventually) -> None:
    caplog.set_level(logging.INFO, "flowcore.access")
    client = run_app(App(), access_log=True).connect()
    client.send(b"GET /a\x85b\x9b31m\xc3\xa9 HTTP/1.1\r\nHost: t\r\n\r\n")
    assert client.reply().status == 404
    eventually(lambda: caplog.records)
    assert '"GET /a\\x85b\\x9b31m\\xc3\\xa9 HTTP/1.1" 404' in caplog.records[0].getMessage()


def test_no_access_log_unless_asked_for(run_app, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    app = App()
    app.get("/")(lambda: "x")
    run_app(app).get("/")
    assert [record for record in caplog.records if record.name.startswith("flowcore")] == []


# ---- ending badly: each in an interpreter of its own ---------------------------------------------

PREAMBLE = """\
import asyncio, gc, os, signal, socket, sys, threading, time
import flowcore
from flowcore.http import App, HTTPError, Response, serve

app = App()
GET = b"GET %s HTTP/1.1\\r\\nHost: t\\r\\n\\r\\n"

@app.get("/")
def here():
    return "here"

@app.get("/wait")
async def wait():
    await asyncio.sleep(60)

@app.get("/stream")
async def stream():
    while True:
        yield b"x" * 1000
        await asyncio.sleep(0.001)

@app.get("/big")
def big():
    return bytes(16 << 20)

def connect(server, *targets):
    socks = []
    for target in targets:
        sock = socket.create_connection(("127.0.0.1", server.port))
        if target is not None:
            sock.sendall(GET % target.encode())
        socks.append(sock)
    return socks
"""


def run_script(script: str, *, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    code = PREAMBLE + textwrap.dedent(script)
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", "-X", "dev", "-c", code],
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def test_a_server_nobody_holds_serves_on() -> None:
    done = run_script("""
    async def main():
        port = (await serve(app, port=0)).port
        for _ in range(3):
            gc.collect()
            await asyncio.sleep(0)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET % b"/")
        print((await reader.readuntil(b"here")).decode().splitlines()[0])
        writer.close()
    flowcore.run(main())
    gc.collect()
    """)
    assert (done.returncode, done.stdout) == (0, "HTTP/1.1 200 OK\n"), done.stderr


@pytest.mark.parametrize("hold", ["server", "nothing"])
@pytest.mark.parametrize("close", ["run", "close only"])
def test_the_loop_is_closed_over_live_connections(hold: str, close: str) -> None:
    done = run_script(f"""
    kept = []
    requests = []

    @app.get("/keep")
    async def keep(request):
        requests.append(request)
        await asyncio.sleep(60)

    async def main():
        server = await serve(app, port=0)
        if {hold!r} == "server":
            kept.append(server)
        socks = connect(server, None, "/", "/wait", "/stream", "/big", "/keep", "/keep")
        partial = socket.create_connection(("127.0.0.1", server.port))
        partial.sendall(b"POST / HTTP/1.1\\r\\nHost: t\\r\\nContent-Length: 9\\r\\n\\r\\nabc")
        kept.append((socks, partial))
        while server.connections < 8 or len(requests) < 2:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)

    if {close!r} == "run":
        flowcore.run(main())
    else:
        loop = flowcore.new_event_loop()
        loop.run_until_complete(main())
        loop.close()
        del loop
    gc.collect()
    # Requests are good for as long as they are held.
    print([(r.path, r.headers["host"], r.connected) for r in requests])
    for sock in kept[-1][0]:
        sock.settimeout(5)
        try:
            while sock.recv(1 << 20):
                pass
        except ConnectionResetError:
            pass
    print("closed")
    requests.clear()
    kept.clear()
    gc.collect()
    """)
    expected = "[('/keep', 't', False), ('/keep', 't', False)]\nclosed\n"
    assert (done.returncode, done.stdout) == (0, expected), done.stderr
    assert "Fatal" not in done.stderr


def test_exiting_with_everything_open() -> None:
    done = run_script("""
    async def main():
        server = await serve(app, port=0)
        global socks
        socks = connect(server, None, "/", "/wait", "/stream", "/big")
        await asyncio.sleep(0.1)
        sys.exit(7)
    flowcore.run(main())
    """)
    assert done.returncode == 7, done.stderr
    assert "Fatal" not in done.stderr


@pytest.mark.parametrize("kind", ["sync", "async", "suspended", "stream", "looked at"])
@pytest.mark.parametrize("error", ["KeyboardInterrupt", "SystemExit(3)"])
def test_keyboard_interrupt_and_system_exit_stop_the_loop(kind: str, error: str) -> None:
    done = run_script(f"""
    kind = {kind!r}

    def sync(): raise {error}
    async def handler():
        if kind == "suspended":
            await asyncio.sleep(0)
        if kind == "looked at":
            asyncio.current_task().get_name()
        raise {error}
    async def streamed():
        yield b"x"
        await asyncio.sleep(0)
        raise {error}

    app.get("/raise")(sync if kind == "sync" else streamed if kind == "stream" else handler)

    async def main():
        server = await serve(app, port=0)
        socks = connect(server, "/raise")
        await asyncio.sleep(10)
        print("not stopped")
    try:
        flowcore.run(main())
    except {error.split("(")[0]} as exc:
        print("stopped", *exc.args)
    """)
    expected = f"stopped{' 3' if '(' in error else ''}\n"
    assert (done.returncode, done.stdout) == (0, expected), done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    assert "never" not in done.stderr, done.stderr


def test_signals_shut_down_in_good_order_and_the_second_cuts_short() -> None:
    script = """
    out = []

    @app.get("/slow")
    async def slow():
        out.append("in flight")
        await asyncio.sleep(0.4)
        return "done"

    @app.on_shutdown
    def hook():
        out.append("hook")

    def client(port, target):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.sendall(GET % target)
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGTERM)
        if target == b"/wait":
            time.sleep(0.2)
            os.kill(os.getpid(), signal.SIGTERM)
        data = b""
        try:
            while more := sock.recv(65536):
                data += more
        except ConnectionResetError:
            pass
        out.append(data.endswith(b"done"))

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    def begin():
        global thread
        thread = threading.Thread(target=client, args=(port, TARGET))
        thread.start()
    @app.on_startup
    def start():
        asyncio.get_running_loop().call_later(0.1, begin)
    start = time.monotonic()
    app.run(port=port)
    thread.join()
    print(sorted(map(str, out)), time.monotonic() - start < 5)
    """
    done = run_script(script.replace("TARGET", 'b"/slow"'))
    expected = "['True', 'hook', 'in flight'] True\n"
    assert (done.returncode, done.stdout) == (0, expected), done.stderr
    done = run_script(script.replace("TARGET", 'b"/wait"'))
    assert (done.returncode, done.stdout) == (0, "['False', 'hook'] True\n"), done.stderr


def test_a_server_in_each_of_several_threads() -> None:
    done = run_script("""
    results = []

    def one():
        async def main():
            own = App()
            own.get("/{n}")(lambda n: n)
            async with await serve(own, port=0) as server:
                for n in range(50):
                    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
                    writer.write(b"GET /%d HTTP/1.0\\r\\n\\r\\n" % n)
                    results.append((await reader.read()).endswith(b"\\r\\n\\r\\n%d" % n))
                    writer.close()
        flowcore.run(main())

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    print(len(results), all(results))
    """)
    assert (done.returncode, done.stdout) == (0, "200 True\n"), done.stderr


def test_servers_one_after_another_leave_no_descriptors() -> None:
    done = run_script("""
    async def main():
        server = await serve(app, port=0)
        socks = connect(server, None, "/", "/wait", "/stream")
        await asyncio.sleep(0.05)
        await server.shutdown(0.05)
        for sock in socks:
            sock.close()

    for n in range(12):
        flowcore.run(main())
        gc.collect()
        count = len(os.listdir("/proc/self/fd"))
        if n == 1:
            first = count
    print(count - first)
    """)
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr
