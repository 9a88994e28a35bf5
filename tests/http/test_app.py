"""The application object: decorators, hooks, errors."""

from __future__ import annotations

import asyncio

import pytest

import flowcore
from flowcore.errors import FlowcoreError, InvalidArgument
from flowcore.http import App, HTTPError, serve


def test_decorators_return_the_handler() -> None:
    app = App()

    def handler() -> None: ...

    for number, decorate in enumerate(
        (app.get, app.head, app.post, app.put, app.patch, app.delete, app.options, app.route)
    ):
        assert decorate(f"/{number}")(handler) is handler
    assert app.on_startup(handler) is handler
    assert app.on_shutdown(handler) is handler
    methods = [method for method, _, _ in app.router.table()]
    assert methods == ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "GET"]


def test_hooks_run_in_order_and_in_reverse() -> None:
    app = App()
    ran: list[str] = []
    for number in range(3):

        async def asynchronous(number=number):
            await asyncio.sleep(0)
            ran.append(f"async {number}")

        app.on_startup(asynchronous)
        app.on_startup(lambda number=number: ran.append(f"plain {number}"))
        app.on_shutdown(lambda number=number: ran.append(f"end {number}"))
    asyncio.run(app.startup())
    expected = [f"{kind} {number}" for number in range(3) for kind in ("async", "plain")]
    assert ran == expected
    asyncio.run(app.shutdown())
    assert ran == [*expected, "end 2", "end 1", "end 0"]


def test_one_handler_may_serve_several_paths(run_app) -> None:
    app = App()

    @app.get("/a")
    @app.get("/b")
    @app.post("/b")
    def handler(request):
        return f"{request.method} {request.path}"

    client = run_app(app).connect()
    assert client.get("/a").text == "GET /a"
    assert client.get("/b").text == "GET /b"
    assert client.request("POST", "/b").text == "POST /b"


def test_apps_share_nothing(run_app) -> None:
    one, two = App(), App()
    one.get("/x")(lambda: "one")
    two.get("/x")(lambda: "two")
    a, b = run_app(one), run_app(two)
    assert (a.get("/x").text, b.get("/x").text) == ("one", "two")


def test_run_refuses_bad_arguments_before_it_listens() -> None:
    with pytest.raises(InvalidArgument, match="workers"):
        App().run(port=0, workers=0)
    with pytest.raises(InvalidArgument, match="max_headers"):
        App().run(port=0, max_headers=0)
    with pytest.raises(TypeError, match="max_heeaders"):
        App().run(port=0, max_heeaders=1)
    with pytest.raises(InvalidArgument, match="port"):
        App().run(port=65536)


# ---- HTTPError -----------------------------------------------------------------------------------


def test_http_error_holds_what_it_was_given() -> None:
    error = HTTPError(404, "no such user", headers={"X-A": "b"})
    assert (error.status, error.detail, error.headers) == (404, "no such user", {"X-A": "b"})
    assert str(error) == "no such user"
    assert isinstance(error, FlowcoreError)
    assert HTTPError(404).detail == "Not Found"
    assert HTTPError(599).detail == "Error"
    assert HTTPError(418).headers == {}


@pytest.mark.parametrize("status", [0, 200, 302, 399, 600, 1000, -1])
def test_http_error_takes_error_statuses_only(status: int) -> None:
    with pytest.raises(ValueError, match=str(status)):
        HTTPError(status)


@pytest.mark.parametrize("suspends", [False, True])
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_http_error_becomes_the_reply(run_app, caplog, kind: str, suspends: bool) -> None:
    app = App()

    def fail(request) -> None:
        headers = {"X-Why": "because", "Content-Type": "text/x-error"} if request.query else None
        status, detail = request.headers["x-status"], request.headers["x-detail"]
        raise HTTPError(int(status), detail, headers=headers)

    async def fail_later(request) -> None:
        if suspends:
            await asyncio.sleep(0)
        fail(request)

    app.get("/")(fail if kind == "sync" else fail_later)
    client = run_app(app).connect()
    for status in (400, 401, 404, 409, 418, 429, 499, 500, 503, 599):
        reply = client.get("/", {"X-Status": str(status), "X-Detail": f"why {status}"})
        assert (reply.status, reply.text) == (status, f"why {status}\n")
        assert reply.header("content-type") == "text/plain; charset=utf-8"
        assert reply.header("connection") is None
    reply = client.get("/?headers", {"X-Status": "400", "X-Detail": "d"})
    assert (reply.header("x-why"), reply.header("content-type")) == ("because", "text/x-error")
    assert caplog.records == []


@pytest.mark.parametrize("suspends", [False, True])
@pytest.mark.parametrize(
    "error",
    [
        lambda: HTTPError(400, headers={"X-A": "b\r\nInjected: yes"}),
        lambda: HTTPError(400, headers={"Content-Length": "5"}),
        lambda: HTTPError(400, headers={"X-A": 5}),  # type: ignore[dict-item]
        lambda: HTTPError(400, b"bytes"),  # type: ignore[arg-type]
        lambda: HTTPError(400, "\ud800"),
    ],
    ids=["injection", "reserved", "no string", "bytes", "surrogate"],
)
def test_http_error_that_cannot_be_sent_is_500(run_app, caplog, error, suspends: bool) -> None:
    app = App()

    @app.get("/")
    async def handler():
        if suspends:
            await asyncio.sleep(0)
        raise error()

    app.get("/fine")(lambda: "fine")
    client = run_app(app).connect(timeout_s=3)
    reply = client.get("/")
    assert (reply.status, reply.text) == (500, "500 Internal Server Error\n")
    assert reply.header("injected") is None
    assert [record.name for record in caplog.records] == ["flowcore.http"]
    assert client.get("/fine").text == "fine"


def test_drain_hooks_let_endless_streams_end() -> None:
    app = App()
    ended: list[str] = []

    async def main() -> bool:
        stop = asyncio.Event()
        app.on_drain(stop.set)
        app.on_drain(lambda: ended.append("drain"))
        app.on_shutdown(lambda: ended.append("shutdown"))

        @app.get("/")
        async def endless():
            while not stop.is_set():
                yield "tick\n"
                await asyncio.sleep(0.01)
            yield "end\n"

        server = await serve(app, port=0)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"tick\n")
        in_time = await server.shutdown(5)
        assert (await reader.read()).endswith(b"end\n\r\n0\r\n\r\n")
        writer.close()
        return in_time

    assert flowcore.run(main())
    assert ended == ["drain", "shutdown"]
