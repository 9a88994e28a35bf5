"""What a handler may return, and what it becomes on the wire."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import email.utils
import time
import uuid

import numpy
import pytest

from flowcore.errors import InvalidArgument
from flowcore.http import App, Response

TEXT = "text/plain; charset=utf-8"
BINARY = "application/octet-stream"
JSON = "application/json"
CSS = "text/css"


class Str(str):
    pass


class Bytes(bytes):
    pass


class Dict(dict):
    pass


@dataclasses.dataclass
class Point:
    x: int
    y: int


class Teapot(Response):
    def __init__(self) -> None:
        super().__init__("short and stout", 418, {"X-Pot": "tea"})


RETURNED = [
    (lambda: "", 200, TEXT, b""),
    (lambda: "text €", 200, TEXT, "text €".encode()),
    (lambda: Str("sub"), 200, TEXT, b"sub"),
    (lambda: b"bytes\x00\xff", 200, BINARY, b"bytes\x00\xff"),
    (lambda: Bytes(b"sub"), 200, BINARY, b"sub"),
    (lambda: bytearray(b"array"), 200, BINARY, b"array"),
    (lambda: memoryview(b"view")[1:], 200, BINARY, b"iew"),
    (dict, 200, JSON, b"{}"),
    (lambda: {"a": [1, None, "é"]}, 200, JSON, '{"a":[1,null,"é"]}'.encode()),
    (lambda: Dict(a=1), 200, JSON, b'{"a":1}'),
    (list, 200, JSON, b"[]"),
    (lambda: [1, {"b": 2}], 200, JSON, b'[1,{"b":2}]'),
    (lambda: {"p": Point(1, 2)}, 200, JSON, b'{"p":{"x":1,"y":2}}'),
    (lambda: {"n": numpy.arange(3)}, 200, JSON, b'{"n":[0,1,2]}'),
    (lambda: None, 204, None, b""),
    (lambda: ("made", 201), 201, TEXT, b"made"),
    (lambda: ({"a": 1}, 202), 202, JSON, b'{"a":1}'),
    (lambda: (b"", 404), 404, BINARY, b""),
    (lambda: (None, 200), 200, None, b""),
    (lambda: (None, 204), 204, None, b""),
    (lambda: ("", 599), 599, TEXT, b""),
    (lambda: Response(), 200, None, b""),
    (lambda: Response("x", 203), 203, TEXT, b"x"),
    (lambda: Response(b"x", content_type="image/png"), 200, "image/png", b"x"),
    (lambda: Response("x", headers={"content-TYPE": "text/css"}), 200, "text/css", b"x"),
    (lambda: Response(bytearray(b"x")), 200, BINARY, b"x"),
    (lambda: Teapot(), 418, TEXT, b"short and stout"),
    (lambda: Response.json({"a": 1}), 200, JSON, b'{"a":1}'),
    (lambda: Response.json("text", 201), 201, JSON, b'"text"'),
    (lambda: Response.json(None), 200, JSON, b"null"),
    (lambda: Response.json(uuid.UUID(int=1)), 200, JSON, f'"{uuid.UUID(int=1)}"'.encode()),
    (lambda: Response.json(datetime.date(2024, 2, 29)), 200, JSON, b'"2024-02-29"'),
]


@pytest.mark.parametrize("kind", ["sync", "async", "suspended"])
def test_every_plain_return(run_app, kind: str) -> None:
    app = App()

    def handler(n):
        return RETURNED[n][0]()

    async def async_handler(n):
        if kind == "suspended":
            await asyncio.sleep(0)
        return RETURNED[n][0]()

    app.get("/{n:int}")(handler if kind == "sync" else async_handler)
    client = run_app(app).connect()
    for n, (_, status, content_type, body) in enumerate(RETURNED):
        reply = client.get(f"/{n}")
        assert (reply.status, reply.header("content-type"), reply.body) == (
            status,
            content_type,
            body,
        ), n
        if status != 204:
            assert reply.header("content-length") == str(len(body))


class Uninitialised(Response):
    def __init__(self) -> None:
        pass


REFUSED = [
    lambda: 5,
    lambda: 1.5,
    lambda: True,
    lambda: object(),
    lambda: {1, 2},
    lambda: (x for x in "abc"),
    lambda: ("body",),
    lambda: ("body", "200"),
    lambda: ("body", 200, {}, None),
    lambda: ("body", 199),
    lambda: ("body", 600),
    lambda: ("body", 100),
    lambda: (5, 200),
    lambda: (Response("x"), 201),
    lambda: ("body", 200, {"Content-Length": "3"}),
    lambda: ("body", 200, {"X-A": "b\r\nSet-Cookie: stolen=1"}),
    lambda: ("body", 200, {"X-A\r\nSet-Cookie: stolen=1\r\nB": "b"}),
    lambda: ("body", 200, 5),
    lambda: {"a": object()},
    lambda: {1: 2},
    lambda: "\ud800",
    lambda: Response,
    lambda: Uninitialised(),
    lambda: asyncio.Future,
    lambda: Response("x", 99),
]


@pytest.mark.parametrize("kind", ["sync", "async", "suspended"])
def test_what_cannot_be_sent_is_500_and_logged(run_app, caplog, kind: str) -> None:
    app = App()

    def handler(n):
        return REFUSED[n]()

    async def async_handler(n):
        if kind == "suspended":
            await asyncio.sleep(0)
        return REFUSED[n]()

    app.get("/{n:int}")(handler if kind == "sync" else async_handler)
    client = run_app(app).connect(timeout_s=3)
    for n in range(len(REFUSED)):
        caplog.clear()
        reply = client.get(f"/{n}")
        assert (reply.status, reply.text) == (500, "500 Internal Server Error\n"), n
        assert reply.header("set-cookie") is None
        assert [record.name for record in caplog.records] == ["flowcore.http"], n


def test_what_a_handler_returned_is_named_in_the_log(run_app, caplog) -> None:
    app = App()
    app.get("/")(lambda: {1, 2})
    run_app(app).get("/")
    assert "a handler returned set" in caplog.text


# ---- header fields -------------------------------------------------------------------------------


def test_three_part_tuples(run_app) -> None:
    app = App()
    app.get("/map")(lambda: ("x", 201, {"X-A": "1", "Content-Type": "text/css"}))
    app.get("/pairs")(lambda: ("x", 200, [("X-A", "1"), ("X-A", "2"), ("Set-Cookie", "a=b")]))
    client = run_app(app).connect()
    reply = client.get("/map")
    assert (reply.status, reply.header("x-a"), reply.header("content-type")) == (
        201,
        "1",
        "text/css",
    )
    assert client.get("/pairs").all("x-a") == ["1", "2"]


def test_headers_may_be_given_in_every_way(run_app) -> None:
    app = App()

    @app.get("/")
    def handler():
        response = Response("x", headers=[("X-A", "1"), ("x-a", "2")])
        response.add_header("X-A", "3")
        response.add_header("X-Latin", "caf\xe9")
        response.add_header("X-Tab", "a\tb")
        response.add_header("X-Empty", "")
        return response

    reply = run_app(app).get("/")
    assert reply.all("x-a") == ["1", "2", "3"]
    assert reply.header("x-latin") == "café"
    assert reply.header("x-tab") == "a\tb"
    assert reply.header("x-empty") == ""


BAD_NAMES = ["", "a b", "a:b", "a\r", "a\nb", "a\0b", "é", "a\x7f", "(a)", 'a"', "a\tb", "\u2603"]
BAD_VALUES = ["a\r\nb", "a\rb", "a\nb", "a\0b", "\x01", "a\x7f", "\N{SNOWMAN}", "\r\n", "\n"]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_bad_names(name: str) -> None:
    with pytest.raises(InvalidArgument, match="header"):
        Response(headers={name: "x"})
    with pytest.raises(InvalidArgument):
        Response.json({}, headers={name: "x"})
    with pytest.raises(InvalidArgument):
        Response().add_header(name, "x")


@pytest.mark.parametrize("value", BAD_VALUES)
def test_bad_values(value: str) -> None:
    with pytest.raises(InvalidArgument, match="X-A"):
        Response(headers={"X-A": value})
    with pytest.raises(InvalidArgument):
        Response(content_type=value)
    with pytest.raises(InvalidArgument):
        Response(headers={"Content-Type": value})
    with pytest.raises(InvalidArgument):
        Response().set_content_type(value)
    with pytest.raises(InvalidArgument):
        Response.redirect(value)
    with pytest.raises(InvalidArgument):
        Response().set_cookie("a", value)
    with pytest.raises(InvalidArgument):
        Response().set_cookie("a", "b", domain=value)
    with pytest.raises(InvalidArgument):
        Response().set_cookie("a", "b", path=value)


@pytest.mark.parametrize("name", ["Content-Length", "transfer-encoding", "DATE", "Server"])
def test_the_servers_own_fields(name: str) -> None:
    with pytest.raises(InvalidArgument, match="itself"):
        Response(headers={name: "1"})


@pytest.mark.parametrize("value", ["keep-alive", "upgrade", "close, upgrade", ""])
def test_connection_can_only_close(value: str) -> None:
    with pytest.raises(InvalidArgument, match="close"):
        Response(headers={"Connection": value})


def test_a_failed_response_leaves_nothing_behind() -> None:
    response = Response("x", headers={"X-A": "1"})
    with pytest.raises(InvalidArgument):
        response.add_header("X-B", "\n")
    assert response.headers == [("X-A", "1")]


def test_headers_of_other_types() -> None:
    for headers in ({"X-A": 1}, {1: "a"}, {"X-A": None}, {b"X-A": "1"}, {"X-A": b"1"}):
        with pytest.raises(TypeError):
            Response(headers=headers)
    with pytest.raises(TypeError):
        Response(headers=5)


@pytest.mark.parametrize("status", [-1, 0, 99, 100, 101, 199, 600, 999, 2**31 - 1])
def test_statuses_out_of_range(status: int) -> None:
    with pytest.raises(InvalidArgument, match=str(status)):
        Response("x", status)
    with pytest.raises(InvalidArgument):
        Response.json({}, status)


@pytest.mark.parametrize("arguments", [("x", "200"), ("x", None), ("x", 200, None, None, None)])
def test_wrong_arguments(arguments: tuple[object, ...]) -> None:
    with pytest.raises(TypeError):
        Response(*arguments)


@pytest.mark.parametrize("make", [Response, type("Sub", (Response,), {})])
def test_arguments_by_position_and_name(make) -> None:
    for response in (
        make("b", 201, {"X": "1"}, "text/css"),
        make("b", status=201, headers={"X": "1"}, content_type="text/css"),
        make(content_type="text/css", headers={"X": "1"}, status=201, body="b"),
        make("b", 201, content_type="text/css", headers={"X": "1"}),
        make(**{"".join(["sta", "tus"]): 201}, headers={"X": "1"}, body="b", content_type=CSS),
    ):
        assert (response.body, response.status) == (b"b", 201)
        assert (response.headers, response.content_type) == ([("X", "1")], "text/css")
    with pytest.raises(TypeError):
        make("b", unknown=1)
    with pytest.raises(TypeError):
        make("b", body="c")
    assert (make().status, make().body, make().headers) == (200, b"", [])


@pytest.mark.parametrize("body", [5, 1.5, {"a": 1}, ["a"], object(), iter("abc")])
def test_bodies_of_other_types(body: object) -> None:
    with pytest.raises(TypeError, match=type(body).__name__):
        Response(body)


def test_attributes() -> None:
    response = Response("é", 201, {"X-A": "b: c"}, "text/html")
    assert response.status == 201
    assert response.body == "é".encode()
    assert response.content_type == "text/html"
    assert response.headers == [("X-A", "b: c")]
    assert repr(response) == "<Response 201 2 bytes>"
    assert Response().content_type == ""
    with pytest.raises(AttributeError):
        response.status = 5


def test_a_bytearray_is_copied_when_it_is_given() -> None:
    body = bytearray(b"before")
    response = Response(body)
    body[:] = b"after!"
    assert response.body == b"before"


def test_one_response_may_be_returned_many_times(run_app) -> None:
    app = App()
    shared = Response("shared", 203, {"X-A": "1"})
    app.get("/")(lambda: shared)
    client = run_app(app).connect()
    for _ in range(3):
        reply = client.get("/")
        assert (reply.status, reply.text, reply.all("x-a")) == (203, "shared", ["1"])


# ---- cookies and redirects -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({}, "a=b; HttpOnly; Path=/; SameSite=lax"),
        ({"http_only": False, "same_site": None}, "a=b; Path=/"),
        ({"path": None, "same_site": None}, "a=b; HttpOnly"),
        ({"max_age_s": 60}, "a=b; HttpOnly; Max-Age=60; Path=/; SameSite=lax"),
        ({"max_age_s": 0}, "a=b; HttpOnly; Max-Age=0; Path=/; SameSite=lax"),
        ({"max_age_s": 1.9}, "a=b; HttpOnly; Max-Age=1; Path=/; SameSite=lax"),
        (
            {"secure": True, "same_site": "none", "domain": "example.com", "path": "/x"},
            "a=b; Domain=example.com; HttpOnly; Path=/x; SameSite=none; Secure",
        ),
    ],
)
def test_cookies(run_app, arguments: dict[str, object], line: str) -> None:
    app = App()

    @app.get("/")
    def handler():
        response = Response()
        response.set_cookie("a", "b", **arguments)
        response.set_cookie("other", "")
        return response

    first, second = run_app(app).get("/").all("set-cookie")
    assert sorted(first.split("; ")[1:]) == sorted(line.split("; ")[1:])
    assert first.startswith("a=b")
    assert second.startswith("other=;")


@pytest.mark.parametrize("value", ["a;b", "a b", "a,b", 'a"b', "a\\b", "é", "\x00", "a\r\nb"])
def test_cookie_values_that_must_be_encoded(value: str) -> None:
    with pytest.raises(InvalidArgument, match="encoded"):
        Response().set_cookie("a", value)


@pytest.mark.parametrize("name", ["", "a b", "a=b", "a;b", "é", "a\nb", "path", "Max-Age"])
def test_cookie_names(name: str) -> None:
    with pytest.raises(InvalidArgument):
        Response().set_cookie(name, "b")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects(run_app, status: int) -> None:
    app = App()
    app.get("/")(lambda: Response.redirect("/x?y=1#z", status))
    reply = run_app(app).get("/")
    assert (reply.status, reply.header("location"), reply.body) == (status, "/x?y=1#z", b"")


@pytest.mark.parametrize("status", [200, 300, 304, 305, 400])
def test_redirects_of_other_statuses(status: int) -> None:
    with pytest.raises(InvalidArgument, match=str(status)):
        Response.redirect("/", status)


# ---- on the wire ---------------------------------------------------------------------------------


def test_the_head_to_the_letter(run_app) -> None:
    app = App()
    app.get("/")(lambda: Response("body", 201, {"X-A": "b"}))
    client = run_app(app).connect()
    client.ask("GET", "/")
    head = client.until(b"\r\n\r\n").decode().split("\r\n")
    assert head[0] == "HTTP/1.1 201 Created"
    names = sorted(line.split(": ")[0] for line in head[1:])
    assert names == ["Content-Length", "Content-Type", "Date", "Server", "X-A"]
    assert client.exactly(4) == b"body"


def test_date_and_server(run_app) -> None:
    app = App()
    app.get("/")(lambda: "x")
    client = run_app(app).connect()
    for _ in range(3):
        reply = client.get("/")
        assert reply.header("server") == "flowcore"
        date = reply.header("date")
        assert len(date) == 29 and date.endswith(" GMT")
        then = email.utils.parsedate_to_datetime(date)
        assert date == email.utils.format_datetime(then, usegmt=True)
        assert -0.2 <= time.time() - then.timestamp() <= 1.3
        time.sleep(0.6)


@pytest.mark.parametrize("status", [204, 304])
def test_statuses_without_a_body(run_app, status: int) -> None:
    app = App()
    app.get("/")(lambda: Response("never sent", status, {"ETag": '"x"'}))
    client = run_app(app).connect()
    for _ in range(3):
        reply = client.get("/")  # a body would be taken for the next reply
        assert (reply.status, reply.header("etag")) == (status, '"x"')
        assert reply.header("transfer-encoding") is None
        assert reply.header("content-length") is None


@pytest.mark.parametrize("streamed", [False, True])
def test_reset_content_says_that_it_has_no_body(run_app, streamed: bool) -> None:
    app = App()

    async def pieces():
        yield b"never sent"

    app.get("/")(lambda: (pieces() if streamed else "never sent", 205))
    client = run_app(app).connect()
    for _ in range(3):
        reply = client.get("/")  # a body would be taken for the next reply
        assert (reply.status, reply.body, reply.header("content-length")) == (205, b"", "0")
        assert reply.header("transfer-encoding") is None


SIZES = [1, 2, 4095, 4096, 4097, 16_383, 65_536, 65_537, 1_000_003, 8 << 20]


@pytest.mark.parametrize("size", SIZES)
def test_big_bodies(run_app, size: int) -> None:
    app = App()
    body = (b"0123456789abcdefghijklmnopqrstuvwxyz\n" * (size // 37 + 1))[:size]

    @app.get("/")
    def handler():
        return body

    @app.get("/fresh")
    async def fresh():
        await asyncio.sleep(0)
        return bytes(bytearray(body))  # nobody but the server holds this one

    client = run_app(app).connect()
    for target in ("/", "/fresh"):
        reply = client.get(target)
        assert reply.header("content-length") == str(size)
        assert reply.body == body
    head = client.request("HEAD", "/")
    assert head.header("content-length") == str(size)
    assert client.get("/").body == body


def test_big_bodies_to_a_slow_client_and_others_meanwhile(run_app) -> None:
    app = App()
    app.get("/big")(lambda: bytes(4 << 20))
    app.get("/small")(lambda: "small")
    running = run_app(app)
    slow = running.connect()
    slow.ask("GET", "/big")
    slow.ask("GET", "/small")
    assert running.get("/small").text == "small"
    time.sleep(0.05)
    assert len(slow.reply().body) == 4 << 20
    assert slow.reply().text == "small"


# ---- keeping the connection ----------------------------------------------------------------------

PERSISTENCE = [
    ("1.1", None, True, None),
    ("1.1", "keep-alive", True, None),
    ("1.1", "close", False, "close"),
    ("1.1", "Close", False, "close"),
    ("1.1", "keep-alive, close", False, "close"),
    ("1.1", "x, close , y", False, "close"),
    ("1.1", "closed", True, None),
    ("1.0", None, False, "close"),
    ("1.0", "keep-alive", True, "keep-alive"),
    ("1.0", "Keep-Alive", True, "keep-alive"),
    ("1.0", "close", False, "close"),
    ("1.0", "keep-alive, close", False, "close"),
]


@pytest.mark.parametrize(("version", "connection", "stays", "answer"), PERSISTENCE)
@pytest.mark.parametrize("target", ["/", "/big", "/none", "/missing", "/fails"])
def test_persistence(run_app, target, version, connection, stays, answer) -> None:
    app = App()
    app.get("/")(lambda: "x")
    app.get("/big")(lambda: bytes(100_000))
    app.get("/none")(lambda: None)
    app.get("/fails")(lambda: 1 / 0)
    client = run_app(app).connect()
    lines = [f"GET {target} HTTP/{version}", "Host: t"]
    if connection is not None:
        lines.append(f"Connection: {connection}")
    client.send("\r\n".join([*lines, "", ""]).encode())
    reply = client.reply()
    assert reply.header("connection") == answer
    if stays:
        assert client.get("/").text == "x"
    else:
        assert client.ended()


def test_a_response_may_close_the_connection(run_app) -> None:
    app = App()
    app.get("/")(lambda: Response("bye", headers={"Connection": "Close"}))
    client = run_app(app).connect()
    client.send(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n" * 3)
    reply = client.reply()
    assert (reply.text, reply.header("connection")) == ("bye", "close")
    assert client.ended()


def test_nothing_behind_a_last_request_is_answered(run_app) -> None:
    app = App()
    hits = []
    app.get("/")(lambda: hits.append(1))
    client = run_app(app).connect()
    client.send(
        b"GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n"
        b"GET / HTTP/1.1\r\nHost: t\r\n\r\n"
    )
    assert client.reply().status == 204
    assert client.ended()
    assert len(hits) == 1


def test_expect_100_continue(run_app) -> None:
    app = App()
    app.post("/")(lambda request: request.body)
    client = run_app(app).connect()
    head = b"POST / HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"
    client.send(head)
    assert client.head().status == 100
    assert client.silent()
    client.send(b"body")
    assert client.reply().body == b"body"
    # Who does not wait is not told.
    client.send(head + b"more")
    assert client.reply().body == b"more"
    # Nor is who sends no body, or speaks 1.0.
    client.send(head.replace(b": 4", b": 0"))
    assert client.reply().body == b""
    client.send(head.replace(b"1.1", b"1.0") + b"last")
    assert client.reply().body == b"last"
