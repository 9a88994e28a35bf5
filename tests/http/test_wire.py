"""The server as a peer sees it that sends what it should not, or in odd pieces."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time

import pytest

from flowcore.http import App

GET = b"GET / HTTP/1.1\r\nHost: t\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: t\r\n"


@pytest.fixture
def hits() -> list[str]:
    return []


@pytest.fixture
def app(hits: list[str]) -> App:
    app = App()

    @app.route("/", ["GET", "POST", "PUT", "DELETE", "PATCH"])
    def handler(request):
        hits.append(request.method)
        return f"{request.method} {len(request.body)}"

    return app


def lines(*each: str) -> bytes:
    return "\r\n".join([*each, "", ""]).encode("latin-1")


CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
BOTH = b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"
BOTH_TURNED = b"Transfer-Encoding: chunked\r\nContent-Length: 0\r\n"
REFUSED = {
    # RFC 9112, 6.1 and 6.3: the two framings, and what hides one from the other
    "length and chunked": (400, POST + BOTH + b"\r\n0\r\n\r\n"),
    "chunked and length": (400, POST + BOTH_TURNED + b"\r\n0\r\n\r\n"),
    "two lengths": (400, POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc"),
    "the same length twice": (400, POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc"),
    "a list of lengths": (400, POST + b"Content-Length: 3, 3\r\n\r\nabc"),
    "negative length": (400, POST + b"Content-Length: -3\r\n\r\nabc"),
    "signed length": (400, POST + b"Content-Length: +3\r\n\r\nabc"),
    "hex length": (400, POST + b"Content-Length: 0x3\r\n\r\nabc"),
    "empty length": (400, POST + b"Content-Length:\r\n\r\nabc"),
    "length with a blank": (400, POST + b"Content-Length: 1 2\r\n\r\nabc"),
    "length past 64 bits": (400, POST + b"Content-Length: 18446744073709551616\r\n\r\n"),
    "huge length": (413, POST + b"Content-Length: 9223372036854775807\r\n\r\n"),
    "chunked on 1.0": (400, lines("POST / HTTP/1.0", "Host: t", "Transfer-Encoding: chunked")),
    "chunked twice": (400, POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n"),
    "chunked not last": (400, POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n"),
    "not chunked at all": (400, POST + b"Transfer-Encoding: identity\r\n\r\n"),
    "unknown coding": (501, POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n"),
    "coding with a vertical tab": (400, POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n"),
    # RFC 9112, 2.2, 5.1, 5.2: lines and fields
    "bare line feed": (400, b"GET / HTTP/1.1\nHost: t\n\n"),
    "bare line feed in a field": (400, b"GET / HTTP/1.1\r\nHost: t\nX: y\r\n\r\n"),
    "bare carriage return": (400, b"GET / HTTP/1.1\r\nHost: t\rX: y\r\n\r\n"),
    "folded field": (400, lines("GET / HTTP/1.1", "Host: t", "X: a", " b")),
    "folded with a tab": (400, lines("GET / HTTP/1.1", "Host: t", "X: a", "\tb")),
    "blank before the first field": (400, lines("GET / HTTP/1.1", " Host: t")),
    "space before the colon": (400, lines("GET / HTTP/1.1", "Host : t")),
    "tab before the colon": (400, lines("GET / HTTP/1.1", "Host: t", "X\t: y")),
    "no colon": (400, lines("GET / HTTP/1.1", "Host: t", "nonsense")),
    "no name": (400, lines("GET / HTTP/1.1", "Host: t", ": y")),
    "NUL in a value": (400, lines("GET / HTTP/1.1", "Host: t", "X: a\0b")),
    "NUL in a name": (400, lines("GET / HTTP/1.1", "Host: t", "X\0: b")),
    "DEL in a value": (400, lines("GET / HTTP/1.1", "Host: t", "X: a\x7fb")),
    "bytes in a name": (400, lines("GET / HTTP/1.1", "Host: t", "\xe9: b")),
    # RFC 9112, 3.2: Host
    "no host": (400, lines("GET / HTTP/1.1")),
    "two hosts": (400, lines("GET / HTTP/1.1", "Host: t", "Host: t")),
    "host with a blank": (400, lines("GET / HTTP/1.1", "Host: a b")),
    "host with a path": (400, lines("GET / HTTP/1.1", "Host: a/b")),
    "host with a user": (400, lines("GET / HTTP/1.1", "Host: u@h")),
    # RFC 9112, 3: the request line
    "no version": (400, lines("GET /", "Host: t")),
    "two blanks": (400, lines("GET  / HTTP/1.1", "Host: t")),
    "blank in the target": (400, lines("GET /a b HTTP/1.1", "Host: t")),
    "fragment": (400, lines("GET /a#b HTTP/1.1", "Host: t")),
    "NUL in the target": (400, lines("GET /a\0b HTTP/1.1", "Host: t")),
    "relative target": (400, lines("GET a HTTP/1.1", "Host: t")),
    "method that is no token": (400, lines("G(T / HTTP/1.1", "Host: t")),
    "blank before the method": (400, lines(" GET / HTTP/1.1", "Host: t")),
    "lower-case version": (400, lines("GET / http/1.1", "Host: t")),
    "no minor version": (400, lines("GET / HTTP/1", "Host: t")),
    "version with two digits": (400, lines("GET / HTTP/1.10", "Host: t")),
    "version 2": (505, lines("GET / HTTP/2.0", "Host: t")),
    "version 0.9": (505, lines("GET / HTTP/0.9", "Host: t")),
    "preface of HTTP/2": (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "TLS": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(40)),
    "two empty lines": (400, b"\r\n\r\n" + GET),
    # RFC 9112, 7.1: chunks
    "no chunk size": (400, CHUNKED + b"\r\nabc\r\n0\r\n\r\n"),
    "chunk size that is no number": (400, CHUNKED + b"xyz\r\nabc\r\n0\r\n\r\n"),
    "chunk size with 0x": (400, CHUNKED + b"0x3\r\nabc\r\n0\r\n\r\n"),
    "negative chunk size": (400, CHUNKED + b"-3\r\nabc\r\n0\r\n\r\n"),
    "blank before the chunk size": (400, CHUNKED + b" 3\r\nabc\r\n0\r\n\r\n"),
    "chunk size past 64 bits": (400, CHUNKED + b"10000000000000000\r\n"),
    "chunk size past the limit": (413, CHUNKED + b"fffffffffffffff\r\n"),
    "bare line feed behind a chunk size": (400, CHUNKED + b"3\nabc\r\n0\r\n\r\n"),
    "chunk longer than its size": (400, CHUNKED + b"3\r\nabcd\r\n0\r\n\r\n"),
    "chunk without its end": (400, CHUNKED + b"3\r\nabc0\r\n\r\n"),
    "control character in a chunk extension": (400, CHUNKED + b"3;a\0\r\nabc\r\n0\r\n\r\n"),
    "folded trailer": (400, CHUNKED + b"0\r\nX: a\r\n b\r\n\r\n"),
    "trailer without a colon": (400, CHUNKED + b"0\r\nnonsense\r\n\r\n"),
}


@pytest.mark.parametrize(("status", "raw"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused(run_app, app: App, hits, caplog, status: int, raw: bytes) -> None:
    running = run_app(app)
    client = running.connect()
    # What stands behind the error must not be taken for a request, whatever it looks like.
    client.send(raw + GET * 3)
    reply = client.reply()
    assert reply.status == status
    assert reply.header("connection") == "close"
    assert reply.header("content-type") == "text/plain; charset=utf-8"
    assert reply.text.startswith(f"{status} {reply.reason}: ")
    assert client.ended()
    client.close()  # the server listens no longer to what else might come
    assert hits == []
    assert running.call(lambda: (running.server.refused, running.server.served)) == (1, 0)
    assert caplog.records == []
    assert running.get("/").status == 200


def test_a_good_request_before_a_bad_one_is_answered(run_app, app: App, hits) -> None:
    client = run_app(app).connect()
    client.send(GET + b"bad\r\n\r\n" + GET)
    assert client.reply().text == "GET 0"
    assert client.reply().status == 400
    assert client.ended()
    assert hits == ["GET"]


ACCEPTED = {
    "an empty line before": (b"\r\n" + GET, "GET 0"),
    "1.0 without a host": (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "GET 0"),
    "an empty host": (lines("GET / HTTP/1.1", "Host:"), "GET 0"),
    "host in every case": (lines("GET / HTTP/1.1", "hOsT: t"), "GET 0"),
    "host with a port": (lines("GET / HTTP/1.1", "Host: t:80"), "GET 0"),
    "host as an address": (lines("GET / HTTP/1.1", "Host: [::1]:80"), "GET 0"),
    "blanks around a value": (lines("GET / HTTP/1.1", "Host: \t t \t"), "GET 0"),
    "no blank behind the colon": (lines("GET / HTTP/1.1", "Host:t"), "GET 0"),
    "an empty field": (lines("GET / HTTP/1.1", "Host: t", "X:"), "GET 0"),
    "latin-1 in a value": (lines("GET / HTTP/1.1", "Host: t", "X: \xe9"), "GET 0"),
    "bytes in the target, as browsers used to": (lines("GET /?\xe9 HTTP/1.1", "Host: t"), "GET 0"),
    "length 0": (POST + b"Content-Length: 0\r\n\r\n", "POST 0"),
    "length with zeros before": (POST + b"Content-Length: 003\r\n\r\nabc", "POST 3"),
    "a body on GET": (lines("GET / HTTP/1.1", "Host: t", "Content-Length: 3") + b"abc", "GET 3"),
    "chunked in capitals": (POST + b"Transfer-Encoding: CHUNKED\r\n\r\n0\r\n\r\n", "POST 0"),
    "chunk size in capitals": (CHUNKED + b"A\r\n0123456789\r\n0\r\n\r\n", "POST 10"),
    "chunk size with zeros before": (CHUNKED + b"0003\r\nabc\r\n000\r\n\r\n", "POST 3"),
    "chunk extensions": (CHUNKED + b'3;a;b=c;d="e;f"\r\nabc\r\n0;z\r\n\r\n', "POST 3"),
    "trailers": (CHUNKED + b"3\r\nabc\r\n0\r\nX: y\r\nZ:\r\n\r\n", "POST 3"),
    "a crlf inside a chunk": (CHUNKED + b"4\r\n\r\n\r\n\r\n0\r\n\r\n", "POST 4"),
}


@pytest.mark.parametrize(("raw", "text"), ACCEPTED.values(), ids=ACCEPTED)
def test_what_is_accepted(run_app, app: App, raw: bytes, text: str) -> None:
    client = run_app(app).connect()
    client.send(raw + GET)
    assert client.reply().text == text
    assert client.reply().text == "GET 0"


# ---- odd pieces ----------------------------------------------------------------------------------

WHOLE = {
    "get": (GET, "GET 0"),
    "length": (POST + b"Content-Length: 5\r\n\r\nhello", "POST 5"),
    "chunked": (CHUNKED + b"3;x=y\r\nabc\r\n8\r\n01234567\r\n0\r\nT: r\r\n\r\n", "POST 11"),
}


@pytest.mark.parametrize(("raw", "text"), WHOLE.values(), ids=WHOLE)
def test_split_at_every_byte(run_app, app: App, raw: bytes, text: str) -> None:
    running = run_app(app)
    client = running.connect()
    for at in range(1, len(raw)):
        client.send(raw[:at])
        # The server has read the first piece when it has answered somebody else.
        running.call(lambda: None)
        client.send(raw[at:])
        assert client.reply().text == text, at


@pytest.mark.parametrize(("raw", "text"), WHOLE.values(), ids=WHOLE)
def test_byte_by_byte(run_app, app: App, raw: bytes, text: str) -> None:
    client = run_app(app).connect()
    for at in range(len(raw)):
        client.send(raw[at : at + 1])
    assert client.reply().text == text


def test_a_refusal_is_the_same_in_pieces(run_app, app: App, hits) -> None:
    running = run_app(app)
    for name in ("length and chunked", "folded field", "chunk longer than its size"):
        status, raw = REFUSED[name]
        client = running.connect()
        for at in range(len(raw)):
            try:
                client.send(raw[at : at + 1])
            except (BrokenPipeError, ConnectionResetError):
                break
        assert client.reply().status == status
        assert client.ended()
    assert hits == []


# ---- pipelining ----------------------------------------------------------------------------------


@pytest.fixture
def numbered() -> App:
    app = App()
    app.get("/n/{n}")(lambda n: n)
    app.post("/n/{n}")(lambda request, n: f"{n} {request.body.decode()}")

    @app.get("/later/{n:int}")
    async def later(n):
        # The earlier ones take longer, and still come first.
        await asyncio.sleep(0.001 if n % 3 else 0.003)
        return str(n)

    return app


@pytest.mark.parametrize("max_pipelined", [1, 3, 64, 5000])
def test_a_thousand_requests_in_one_write(run_app, numbered: App, max_pipelined: int) -> None:
    client = run_app(numbered, max_pipelined=max_pipelined).connect()
    raw = b"".join(b"GET /n/%d HTTP/1.1\r\nHost: t\r\n\r\n" % n for n in range(1000))
    client.send(raw)
    for n in range(1000):
        assert client.reply().text == str(n)


def test_ten_thousand_requests_with_bodies(run_app, numbered: App) -> None:
    client = run_app(numbered).connect()
    raw = b"".join(
        b"POST /n/%d HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n" % (n, n % 90)
        + b"b" * (n % 90)
        for n in range(10_000)
    )
    sender = threading.Thread(target=client.send, args=(raw,))
    sender.start()
    for n in range(10_000):
        assert client.reply().text == f"{n} {'b' * (n % 90)}"
    sender.join()


def test_replies_come_in_the_order_of_the_requests(run_app, numbered: App) -> None:
    client = run_app(numbered).connect()
    raw = b"".join(
        b"GET /%s/%d HTTP/1.1\r\nHost: t\r\n\r\n" % (b"later" if n % 2 else b"n", n)
        for n in range(100)
    )
    client.send(raw)
    for n in range(100):
        assert client.reply().text == str(n)


def test_pipelined_requests_are_answered_although_no_more_will_come(run_app, numbered) -> None:
    client = run_app(numbered, max_pipelined=2).connect()
    client.send(b"".join(b"GET /n/%d HTTP/1.1\r\nHost: t\r\n\r\n" % n for n in range(20)))
    client.sock.shutdown(socket.SHUT_WR)
    for n in range(20):
        assert client.reply().text == str(n)
    assert client.ended()


def test_one_connection_does_not_hold_up_others(run_app, numbered: App) -> None:
    """Of many pipelined requests max_pipelined are answered, then others have their turn."""
    order = []
    app = App()
    app.get("/{who}/{n}")(lambda who, n: order.append(who))
    running = run_app(app, max_pipelined=4)
    a, b = running.connect(), running.connect()
    a.get("/warm/0"), b.get("/warm/0")
    order.clear()

    def write_both() -> None:
        # From the loop's own thread, so that both are there when the server looks next.
        a.send(b"".join(b"GET /a/%d HTTP/1.1\r\nHost: t\r\n\r\n" % n for n in range(100)))
        b.send(b"".join(b"GET /b/%d HTTP/1.1\r\nHost: t\r\n\r\n" % n for n in range(100)))

    running.call(write_both)
    for _ in range(100):
        assert a.reply().status == b.reply().status == 204
    first_b = order.index("b") if order[0] == "a" else order.index("a")
    assert first_b == 4
    assert sorted(order) == ["a"] * 100 + ["b"] * 100


def test_a_client_that_never_reads_is_not_read_from_forever(run_app, eventually) -> None:
    """Replies that nobody takes stop the server from answering more, and from reading more."""
    app = App()
    hits = []

    @app.get("/")
    def handler():
        hits.append(1)
        return bytes(100_000)

    running = run_app(app)
    client = running.connect()
    client.sock.setblocking(False)
    sent = 0
    deadline = time.monotonic() + 2
    with contextlib.suppress(BlockingIOError):
        while time.monotonic() < deadline:
            sent += client.sock.send(GET * 1000)
    time.sleep(0.3)
    count = len(hits)
    assert count < 1000  # of the tens of thousands that were sent
    time.sleep(0.2)
    assert len(hits) == count
    client.sock.settimeout(10)
    for _ in range(count + 5):
        assert len(client.reply().body) == 100_000
    assert len(hits) > count
