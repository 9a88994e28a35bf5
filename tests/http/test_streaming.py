"""Replies that come in pieces."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import time

import pytest

from flowcore.http import App, HTTPError, Response


class Feed:
    """An asynchronous iterator that is no generator."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = list(pieces)
        self.closed = False

    def __aiter__(self) -> Feed:
        return self

    async def __anext__(self) -> bytes:
        if not self.pieces:
            raise StopAsyncIteration
        return self.pieces.pop(0)


class Iterable:
    """What can be iterated, but is no iterator itself."""

    async def __aiter__(self):
        yield b"from "
        yield b"aiter"


@pytest.mark.parametrize("suspends", [False, True])
def test_what_may_be_streamed(run_app, suspends: bool) -> None:
    app = App()

    async def pieces():
        yield b"one"
        if suspends:
            await asyncio.sleep(0.001)
        yield "zwölf"
        yield bytearray(b"three")
        yield memoryview(b"four")

    @app.get("/generator")
    async def generator(request):
        async for piece in pieces():
            yield piece

    app.get("/returned")(lambda: pieces())
    app.get("/response")(lambda: Response(pieces(), 201, {"X-A": "b"}, "text/event-stream"))
    app.get("/tuple")(lambda: (pieces(), 202, {"X-A": "b"}))
    app.get("/feed")(lambda: Feed([b"one", "zwölf".encode(), b"three", b"four"]))
    app.get("/iterable")(lambda: Iterable())

    @app.get("/later")
    async def later():
        await asyncio.sleep(0)
        return pieces()

    client = run_app(app).connect()
    chunks = [b"one", "zwölf".encode(), b"three", b"four"]
    for target, status, content_type in (
        ("/generator", 200, "application/octet-stream"),
        ("/returned", 200, "application/octet-stream"),
        ("/response", 201, "text/event-stream"),
        ("/tuple", 202, "application/octet-stream"),
        ("/feed", 200, "application/octet-stream"),
        ("/later", 200, "application/octet-stream"),
    ):
        reply = client.get(target)
        assert reply.status == status
        assert reply.header("transfer-encoding") == "chunked"
        assert reply.header("content-type") == content_type
        assert reply.chunks == chunks, target
    assert client.get("/response").header("x-a") == "b"
    assert client.get("/iterable").body == b"from aiter"


def test_framing_to_the_letter(run_app) -> None:
    app = App()

    @app.get("/")
    async def handler():
        yield b"abc"
        yield b""  # an empty chunk would end the reply
        yield b"x" * 17

    app.get("/nothing")(lambda: Feed([]))
    client = run_app(app).connect()
    client.ask("GET", "/")
    client.until(b"\r\n\r\n")
    wire = b"3\r\nabc\r\n11\r\n" + b"x" * 17 + b"\r\n0\r\n\r\n"
    assert client.exactly(len(wire)) == wire
    client.ask("GET", "/nothing")
    client.until(b"\r\n\r\n")
    assert client.exactly(5) == b"0\r\n\r\n"
    assert client.silent(0.05)


def test_pieces_arrive_as_they_are_made(run_app) -> None:
    app = App()
    steps: list[asyncio.Event] = []

    @app.get("/")
    async def handler():
        for n in range(3):
            yield b"%d" % n
            steps.append(asyncio.Event())
            await steps[-1].wait()

    running = run_app(app)
    client = running.connect()
    client.ask("GET", "/")
    client.head()
    for n in range(3):
        assert client.exactly(6) == b"1\r\n%d\r\n" % n
        assert client.silent(0.02)
        running.call(lambda: steps[-1].set())
    assert client.exactly(5) == b"0\r\n\r\n"


@pytest.mark.parametrize("keep_alive", [False, True])
def test_http_1_0_ends_with_the_connection(run_app, keep_alive: bool) -> None:
    app = App()
    app.get("/")(lambda: Feed([b"a", b"b", b"c" * 50_000]))
    client = run_app(app).connect()
    field = b"Connection: keep-alive\r\n" if keep_alive else b""
    client.send(b"GET / HTTP/1.0\r\n" + field + b"\r\n")
    reply = client.reply()
    assert reply.header("transfer-encoding") is None
    assert reply.header("content-length") is None
    assert reply.header("connection") == "close"
    assert reply.body == b"ab" + b"c" * 50_000


def test_the_connection_goes_on_after_a_stream(run_app) -> None:
    app = App()
    app.get("/s")(lambda: Feed([b"x"] * 10))
    app.get("/p")(lambda: "plain")
    client = run_app(app).connect()
    pair = b"GET /s HTTP/1.1\r\nHost: t\r\n\r\n" + b"GET /p HTTP/1.1\r\nHost: t\r\n\r\n"
    client.send(pair * 50)
    for _ in range(50):
        assert client.reply().body == b"x" * 10
        assert client.reply().text == "plain"


def test_connection_close_with_a_stream(run_app) -> None:
    app = App()
    app.get("/")(lambda: Response(Feed([b"x"]), headers={"Connection": "close"}))
    app.get("/asked")(lambda: Feed([b"x"]))
    running = run_app(app)
    for target, headers in (("/", {}), ("/asked", {"Connection": "close"})):
        client = running.connect()
        reply = client.get(target, headers)
        assert (reply.body, reply.header("connection")) == (b"x", "close")
        assert client.ended()


@pytest.mark.parametrize("status", [200, 204, 304])
def test_a_stream_nobody_may_see_is_closed_unasked(run_app, eventually, status: int) -> None:
    app = App()
    log = []

    async def endless():
        log.append("asked")
        while True:
            yield b"x"
            await asyncio.sleep(0.01)

    class Closable(Feed):
        async def aclose(self) -> None:
            log.append("closed")

    app.get("/")(lambda: Response(endless(), status))
    app.get("/closable")(lambda: Response(Closable([b"x"]), status))
    client = run_app(app).connect()
    method = "HEAD" if status == 200 else "GET"
    for target in ("/", "/closable"):
        reply = client.request(method, target)
        assert reply.status == status
        assert reply.header("transfer-encoding") == ("chunked" if status == 200 else None)
    assert client.request(method, "/").status == status  # nothing came in between
    eventually(lambda: log)
    assert log == ["closed"]


# ---- a slow client -------------------------------------------------------------------------------


@pytest.mark.parametrize("suspends", [False, True])
def test_the_producer_waits_for_the_client(run_app, eventually, suspends: bool) -> None:
    app = App()
    made = []
    piece = bytes(10_000)
    total = 3000

    @app.get("/")
    async def handler():
        for n in range(total):
            if suspends and n % 7 == 0:
                await asyncio.sleep(0)
            made.append(n)
            yield piece

    client = run_app(app).connect()
    client.ask("GET", "/")
    client.head()
    before = -1
    while len(made) != before:
        before = len(made)
        time.sleep(0.1)
    # What the sockets hold, and no more than a little on top of it.
    assert 0 < before < total // 2
    got = 0
    for chunk in client._chunks():
        assert chunk == piece
        got += 1
        if got % 500 == 0:
            # The producer is never further ahead than the sockets' buffers, which may have grown.
            assert len(made) - got < total // 2
    assert got == total == len(made)


def test_memory_of_a_stream_is_bounded(run_app) -> None:
    import resource

    app = App()

    @app.get("/")
    async def handler():
        for _ in range(4000):
            yield bytes(100_000)

    client = run_app(app).connect()
    client.ask("GET", "/")
    client.head()
    time.sleep(0.3)
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    got = sum(len(chunk) for chunk in client._chunks())
    assert got == 400_000_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start < 50_000  # KiB


# ---- a client that leaves ------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("where", ["waits", "blocked", "after suspending"])
def test_a_client_that_leaves_closes_the_iterator(run_app, eventually, caplog, how, where) -> None:
    app = App()
    log: list[str] = []

    async def pieces():
        try:
            yield b"first"
            if where == "blocked":
                while True:
                    yield bytes(100_000)
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            log.append("cancelled")
            raise
        finally:
            await asyncio.sleep(0)  # clean-up may wait
            log.append("finally")

    @app.get("/")
    async def handler():
        if where == "after suspending":
            await asyncio.sleep(0)
        return pieces()

    running = run_app(app)
    client = running.connect()
    client.ask("GET", "/")
    client.head()
    time.sleep(0.05)
    assert log == []
    getattr(client, how)()
    eventually(lambda: log and log[-1] == "finally")
    if where != "blocked":
        assert log == ["cancelled", "finally"]
    eventually(lambda: running.server.connections == 0)
    assert caplog.records == []


def test_a_producer_that_never_waits_is_stopped_when_the_client_leaves(run_app, eventually) -> None:
    app = App()
    ended = []

    @app.get("/")
    async def handler():
        try:
            while True:
                yield b"x" * 1000
        finally:
            ended.append(1)

    running = run_app(app)
    client = running.connect()
    client.ask("GET", "/")
    client.exactly(100_000)
    client.close()
    eventually(lambda: ended)


def test_connected_tells_a_stream_that_its_client_has_left(run_app, eventually) -> None:
    app = App()
    seen = []

    @app.get("/")
    async def handler(request):
        try:
            yield b"x"
            await asyncio.sleep(60)
        finally:
            seen.append(request.connected)

    client = run_app(app).connect()
    client.ask("GET", "/")
    client.exactly(10)
    client.close()
    assert eventually(lambda: seen) == [False]


# ---- a producer that fails -----------------------------------------------------------------------


@pytest.mark.parametrize("suspends", [False, True])
@pytest.mark.parametrize("error", [ValueError("broken"), HTTPError(404, "too late")])
def test_an_error_in_mid_stream_cuts_the_connection(run_app, caplog, suspends, error) -> None:
    app = App()

    @app.get("/")
    async def handler():
        yield b"first"
        if suspends:
            await asyncio.sleep(0.05)
        raise error

    client = run_app(app).connect()
    client.ask("GET", "/")
    try:
        everything = client.rest()
    except ConnectionResetError:
        everything = b""
    assert not everything.endswith(b"0\r\n\r\n")  # the client must not take it for complete
    assert b"broken" not in everything and b"Traceback" not in everything
    [record] = [r for r in caplog.records if r.name == "flowcore.http"]
    assert "cut short" in record.getMessage()
    assert record.exc_info[1] is error


@pytest.mark.parametrize("piece", [5, None, ["x"], "\ud800", 1.5])
def test_pieces_of_other_types(run_app, caplog, piece) -> None:
    app = App()

    @app.get("/")
    async def handler():
        yield piece

    client = run_app(app).connect()
    client.ask("GET", "/")
    with contextlib.suppress(ConnectionResetError):
        assert not client.rest().endswith(b"0\r\n\r\n")
    assert [record.name for record in caplog.records] == ["flowcore.http"]


def test_an_iterator_that_fails_to_close(run_app, caplog, eventually) -> None:
    app = App()

    class Sticky(Feed):
        async def aclose(self) -> None:
            raise ValueError("stuck")

    app.get("/")(lambda: Sticky([b"x"]))
    running = run_app(app)
    client = running.connect()
    client.ask("GET", "/")
    client.head()
    eventually(lambda: caplog.records)
    assert "stuck" in caplog.text
    assert running.get("/nope").status == 404


def test_an_iterator_whose_start_fails(run_app, caplog) -> None:
    app = App()

    class Broken:
        def __aiter__(self):
            raise ValueError("no start")

    app.get("/")(lambda: Broken())
    client = run_app(app).connect()
    client.ask("GET", "/")
    with contextlib.suppress(ConnectionResetError):
        assert not client.rest().endswith(b"0\r\n\r\n")
    assert "no start" in caplog.text


# ---- surroundings --------------------------------------------------------------------------------

colour: contextvars.ContextVar[str] = contextvars.ContextVar("colour", default="none")


@pytest.mark.parametrize("kind", ["sync", "async", "suspended"])
def test_a_stream_runs_in_its_handlers_context(run_app, kind: str) -> None:
    app = App()

    async def pieces():
        yield colour.get()
        await asyncio.sleep(0)
        yield " " + colour.get()
        colour.set("changed")
        await asyncio.sleep(0)
        yield " " + colour.get()

    def handler(name):
        colour.set(name)
        return pieces()

    async def async_handler(name):
        if kind == "suspended":
            await asyncio.sleep(0)
        return handler(name)

    app.get("/{name}")(handler if kind == "sync" else async_handler)
    client = run_app(app).connect()
    for name in ("red", "blue"):
        assert client.get(f"/{name}").text == f"{name} {name} changed"
    assert colour.get() == "none"


@pytest.mark.parametrize("suspends", [False, True])
def test_a_stream_runs_in_a_task(run_app, suspends: bool) -> None:
    app = App()
    tasks = []

    @app.get("/")
    async def handler():
        tasks.append(asyncio.current_task())
        if suspends:
            await asyncio.sleep(0)
        tasks.append(asyncio.current_task())
        async with asyncio.timeout(5):
            yield b"x"
            await asyncio.sleep(0)
        tasks.append(asyncio.current_task())

    client = run_app(app).connect()
    assert client.get("/").body == b"x"
    assert isinstance(tasks[0], asyncio.Task)
    assert tasks[0] is tasks[1] is tasks[2]


def test_many_streams_at_once(run_app) -> None:
    app = App()

    @app.get("/{n:int}")
    async def handler(n):
        for i in range(20):
            await asyncio.sleep(0.001 * (n % 3))
            yield f"{n}.{i} "

    running = run_app(app)
    clients = [running.connect() for _ in range(50)]
    for n, client in enumerate(clients):
        client.ask("GET", f"/{n}")
    for n, client in enumerate(clients):
        assert client.reply().text == "".join(f"{n}.{i} " for i in range(20))


def test_streams_leave_nothing_behind(run_app, eventually) -> None:
    app = App()

    @app.get("/")
    async def handler():
        yield b"x"
        await asyncio.sleep(0)
        yield b"y"

    running = run_app(app)
    client = running.connect()
    for _ in range(50):
        client.get("/")
    gc.collect()
    before = len(gc.get_objects())
    for _ in range(500):
        client.get("/")
    gc.collect()
    assert len(gc.get_objects()) - before < 100
    assert running.call(lambda: len(asyncio.all_tasks())) <= 2
