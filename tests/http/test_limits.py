"""Every limit of ServerConfig: what stays at it is served, what passes it by one is not."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from flowcore.http import App


@pytest.fixture
def app() -> App:
    app = App()

    @app.route("/{rest:path}", ["GET", "POST"])
    def handler(request, rest):
        return f"{len(request.body)}"

    @app.get("/big")
    def big():
        return bytes(16 << 20)

    @app.get("/slow")
    async def slow():
        await asyncio.sleep(0.3)
        return "slow"

    return app


def refusal(client, status: int) -> None:
    reply = client.reply()
    assert reply.status == status
    assert reply.header("connection") == "close"
    assert client.ended()


# ---- sizes ---------------------------------------------------------------------------------------


def test_max_request_line_bytes(run_app, app: App) -> None:
    running = run_app(app, max_request_line_bytes=100)
    fixed = len("GET / HTTP/1.1")
    client = running.connect()
    assert client.get("/" + "x" * (100 - fixed)).status == 200
    client.ask("GET", "/" + "x" * (101 - fixed))
    refusal(client, 414)


def test_max_request_line_bytes_is_passed_before_the_line_ends(run_app, app: App) -> None:
    client = run_app(app, max_request_line_bytes=100).connect()
    client.send(b"GET /" + b"x" * 200)
    refusal(client, 414)


@pytest.mark.parametrize("over", [0, 1])
def test_max_header_bytes(run_app, app: App, over: int) -> None:
    client = run_app(app, max_header_bytes=200).connect()
    first = b"Host: t\r\n"
    field = b"X: " + b"y" * (200 - len(first) - 5 + over) + b"\r\n"
    client.send(b"GET /x HTTP/1.1\r\n" + first + field + b"\r\n")
    if over:
        refusal(client, 431)
    else:
        assert client.reply().status == 200


@pytest.mark.parametrize("over", [0, 1])
def test_max_header_bytes_may_pass_what_is_read_ahead(run_app, app: App, over: int) -> None:
    limit = 1 << 20
    client = run_app(app, max_header_bytes=limit).connect()
    first = b"Host: t\r\n"
    field = b"X: " + b"y" * (limit - len(first) - 5 + over) + b"\r\n"
    client.send(b"GET /x HTTP/1.1\r\n" + first + field + b"\r\n")
    if over:
        refusal(client, 431)
    else:
        assert client.reply().status == 200


def test_max_header_bytes_counts_trailers(run_app, app: App) -> None:
    running = run_app(app, max_header_bytes=200)
    start = b"POST /x HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    for size, status in ((100, 200), (300, 431)):
        client = running.connect()
        client.send(start + b"X: " + b"y" * size + b"\r\n\r\n")
        assert client.reply().status == status


def test_max_headers(run_app, app: App) -> None:
    client = run_app(app, max_headers=5).connect()
    assert client.get("/x", [(f"X-{n}", "") for n in range(4)]).status == 200  # and Host
    client.ask("GET", "/x", [(f"X-{n}", "") for n in range(5)])
    refusal(client, 431)


@pytest.mark.parametrize("limit", [0, 10, 100_000])
def test_max_body_bytes(run_app, app: App, limit: int) -> None:
    running = run_app(app, max_body_bytes=limit)
    client = running.connect()
    assert client.post("/x", b"x" * limit).text == str(limit)
    client.ask("POST", "/x", {"Content-Length": str(limit + 1)})  # refused before it is sent
    refusal(client, 413)


def test_max_body_bytes_of_chunks(run_app, app: App) -> None:
    client = run_app(app, max_body_bytes=10).connect()
    start = b"POST /x HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n"
    client.send(start + b"5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n")
    assert client.reply().text == "10"
    client.send(start + b"5\r\n01234\r\n6\r\n")
    refusal(client, 413)


def test_max_body_bytes_before_100_continue(run_app, app: App) -> None:
    client = run_app(app, max_body_bytes=10).connect()
    client.ask("POST", "/x", {"Content-Length": "11", "Expect": "100-continue"})
    refusal(client, 413)


@pytest.mark.parametrize("limit", [0, 20])
def test_max_chunk_extension_bytes(run_app, app: App, limit: int) -> None:
    client = run_app(app, max_chunk_extension_bytes=limit).connect()
    start = b"POST /x HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n"

    def body(total: int) -> bytes:
        # Summed over the chunks of a body, semicolons included.
        half = total // 2
        one, two = (b";" + b"x" * (n - 1) if n else b"" for n in (half, total - half))
        return b"1%s\r\na\r\n1%s\r\nb\r\n0\r\n\r\n" % (one, two)

    client.send(start + body(limit))
    assert client.reply().text == "2"
    client.send(start + body(limit + 1))
    refusal(client, 400)


# ---- counts --------------------------------------------------------------------------------------


def test_max_connections(run_app, app: App, eventually) -> None:
    running = run_app(app, max_connections=3)
    clients = [running.connect() for _ in range(3)]
    for client in clients:
        assert client.get("/x").status == 200
    waiting = running.connect()  # by the kernel
    waiting.ask("GET", "/x")
    assert waiting.silent(0.2)
    assert running.server.connections == 3
    for client in clients:
        assert client.get("/x").status == 200
    clients[1].close()
    assert waiting.reply().status == 200
    eventually(lambda: running.server.connections == 3)
    another = running.connect()
    another.ask("GET", "/x")
    assert another.silent(0.1)
    waiting.close()
    clients[0].close()
    assert another.reply().status == 200


def test_max_pipelined_is_backpressure_and_no_error(run_app, app: App) -> None:
    client = run_app(app, max_pipelined=2).connect()
    client.send(b"GET /x HTTP/1.1\r\nHost: t\r\n\r\n" * 50)
    for _ in range(50):
        assert client.reply().status == 200


def test_backlog_is_the_listening_sockets(run_app, app: App) -> None:
    running = run_app(app, backlog=7)
    # TCP_INFO of a listening socket: tcpi_sacked holds the backlog (Linux).
    info = running.server.sockets[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    assert int.from_bytes(info[28:32], "little") == 7


# ---- times ---------------------------------------------------------------------------------------


def since(start: float) -> float:
    return time.monotonic() - start


def test_head_timeout_s(run_app, app: App) -> None:
    running = run_app(app, head_timeout_s=0.4, idle_timeout_s=0.15)
    start = time.monotonic()
    client = running.connect()
    client.send(b"GET /x HTTP/1.1\r\n")
    time.sleep(0.25)
    client.send(b"Host: t\r\n")  # another line earns nothing
    refusal(client, 408)
    assert 0.35 < since(start) < 3
    client = running.connect()
    client.send(b"GET /x HTTP/1.1\r\n")
    time.sleep(0.25)
    client.send(b"Host: t\r\n\r\n")
    assert client.reply().status == 200


def test_body_timeout_s(run_app, app: App) -> None:
    running = run_app(app, body_timeout_s=0.4, min_body_bytes_per_s=0)
    start = time.monotonic()
    client = running.connect()
    client.send(b"POST /x HTTP/1.1\r\nHost: t\r\nContent-Length: 1000\r\n\r\n" + b"x" * 500)
    time.sleep(0.2)
    client.send(b"x" * 499)
    refusal(client, 408)
    assert 0.35 < since(start) < 3
    client = running.connect()
    client.send(b"POST /x HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\nx")
    time.sleep(0.2)
    client.send(b"x")
    assert client.reply().text == "2"


@pytest.mark.parametrize("chunked", [False, True])
def test_min_body_bytes_per_s(run_app, app: App, chunked: bool) -> None:
    """Each 1,000 bytes earn a second over the 0.2 s that every body has."""
    running = run_app(app, body_timeout_s=0.2, min_body_bytes_per_s=1000)
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: 600"

    def start(count: int):
        client = running.connect()
        client.send(b"POST /x HTTP/1.1\r\nHost: t\r\n" + framing + b"\r\n\r\n")
        for _ in range(count):
            # 150 bytes in 100 ms: faster than 1,000 a second.
            client.send((b"96\r\n%s\r\n" if chunked else b"%s") % (b"x" * 150))
            time.sleep(0.1)
        return client

    fast = start(4)
    if chunked:
        fast.send(b"0\r\n\r\n")
    assert fast.reply().text == "600"
    began = time.monotonic()
    refusal(start(1), 408)
    assert 0.3 < since(began) < 2


def test_idle_timeout_s(run_app, app: App) -> None:
    running = run_app(app, idle_timeout_s=0.3)
    fresh, used, busy = running.connect(), running.connect(), running.connect()
    start = time.monotonic()
    time.sleep(0.2)
    assert used.get("/x").status == 200  # begins anew
    assert fresh.ended()
    assert 0.25 < since(start) < 2
    assert used.get("/slow").text == "slow"  # a request under way is not idle, however long
    idle_since = time.monotonic()
    assert used.ended()
    assert 0.25 < since(idle_since) < 2
    assert busy.ended()


@pytest.mark.parametrize("swallows", [False, True])
def test_handler_timeout_s(run_app, caplog, swallows: bool) -> None:
    app = App()
    ended = []

    @app.get("/{seconds:float}")
    async def handler(seconds):
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            ended.append("cancelled")
            if swallows:
                return "swallowed"
            raise
        return "in time"

    client = run_app(app, handler_timeout_s=0.3).connect()
    assert client.get("/0.1").text == "in time"
    start = time.monotonic()
    reply = client.get("/5.0")
    assert 0.25 < since(start) < 2
    assert ended == ["cancelled"]
    if swallows:
        assert (reply.status, reply.text) == (200, "swallowed")
    else:
        assert reply.status == 503
        assert "handler_timeout_s" in reply.text
    assert caplog.records == []
    assert client.get("/0.1").text == "in time"


def test_no_handler_timeout_by_default(run_app, app: App) -> None:
    assert run_app(app, head_timeout_s=0.1, body_timeout_s=0.1).get("/slow").text == "slow"


def test_send_timeout_s(run_app, app: App, eventually) -> None:
    running = run_app(app, send_timeout_s=0.4)
    still, slow = running.connect(), running.connect()
    start = time.monotonic()
    still.ask("GET", "/big")
    slow.ask("GET", "/big")
    slow.head()
    for _ in range(8):  # 0.8 s in all, but it never stands still for 0.4 s
        slow.exactly(2 << 20)
        time.sleep(0.1)
    assert slow.get("/x").status == 200
    eventually(lambda: running.server.connections == 1)
    assert since(start) > 0.4
    with pytest.raises((AssertionError, ConnectionResetError)):
        still.reply()


def test_linger_timeout_s(run_app, app: App, eventually) -> None:
    """After a refusal the connection stays until the client has read it, but not for long."""
    running = run_app(app, linger_timeout_s=0.3)
    client = running.connect()
    client.send(b"nonsense\r\n\r\n")
    assert client.reply().status == 400
    assert client.ended()  # the server sends no more
    start = time.monotonic()
    assert running.server.connections == 1
    eventually(lambda: running.server.connections == 0)
    assert 0.2 < since(start) < 2
    polite = running.connect()
    polite.send(b"nonsense\r\n\r\n")
    assert polite.reply().status == 400
    start = time.monotonic()
    polite.close()
    eventually(lambda: running.server.connections == 0)
    assert since(start) < 0.2


def test_a_refusal_can_be_read_by_who_is_still_sending(run_app, app: App) -> None:
    """Were the connection closed at once, the unread bytes would turn it into a reset."""
    client = run_app(app, max_body_bytes=1000).connect()
    client.ask("POST", "/x", {"Content-Length": "100000"})
    client.send(b"x" * 100_000)
    time.sleep(0.1)
    refusal(client, 413)
