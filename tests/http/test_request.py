"""What a handler reads off its request."""

from __future__ import annotations

import asyncio
import collections.abc
import gc
import json
import threading

import pytest

from flowcore.http import App, MultiMapping
from flowcore.http.request import Headers, Request


@pytest.fixture
def seen(run_app):
    """``seen(raw_request)``: the Request that a server made of it."""
    app = App()
    kept: list[Request] = []

    @app.get("/{rest:path}")
    @app.post("/{rest:path}")
    def keep(request, rest):
        kept.append(request)

    for method in ("get", "post"):
        getattr(app, method)("/")(lambda request: kept.append(request))
    running = run_app(app)

    def ask(raw: bytes) -> Request:
        with running.connect() as client:
            client.send(raw)
            assert client.reply().status == 204
        return kept.pop()

    return ask


def get(target: str = "/", *fields: str, version: str = "1.1") -> bytes:
    lines = [f"GET {target} HTTP/{version}", "Host: test", *fields, "", ""]
    return "\r\n".join(lines).encode("latin-1")


def post(body: bytes, *fields: str) -> bytes:
    lines = ["Host: test", f"Content-Length: {len(body)}", *fields]
    return ("POST /x HTTP/1.1\r\n" + "\r\n".join(lines) + "\r\n\r\n").encode() + body


# ---- the request line ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "path", "raw_path", "query_string"),
    [
        ("/", "/", b"/", b""),
        ("/a/b", "/a/b", b"/a/b", b""),
        ("/a?", "/a", b"/a", b""),
        ("/a?b=1", "/a", b"/a", b"b=1"),
        ("/a?b?c/d", "/a", b"/a", b"b?c/d"),
        ("/%C3%A9%20x", "/é x", b"/%C3%A9%20x", b""),
        ("/a%2Fb", "/a/b", b"/a%2Fb", b""),
        ("/a%3Fb?c", "/a?b", b"/a%3Fb", b"c"),
        ("/a+b", "/a+b", b"/a+b", b""),
        ("http://h:1/x/y?z=%41", "/x/y", b"/x/y", b"z=%41"),
        ("http://h", "/", b"", b""),
        ("http://h?q", "/", b"", b"q"),
        ("/http://h/x", "/http://h/x", b"/http://h/x", b""),
    ],
)
def test_targets(seen, target: str, path: str, raw_path: bytes, query_string: bytes) -> None:
    request = seen(get(target))
    assert request.target == target
    assert request.path == path
    assert request.raw_path == raw_path
    assert request.query_string == query_string


def test_path_bytes_that_are_no_utf8(run_app) -> None:
    app = App()
    app.get("/{x}")(lambda x: "matched")
    # A parameter is text, so bytes that are none match no route.
    assert run_app(app).get("/%ff").status == 404


@pytest.mark.parametrize(
    ("query", "pairs"),
    [
        ("", []),
        ("a=1", [("a", "1")]),
        ("a=1&b=2&a=3", [("a", "1"), ("b", "2"), ("a", "3")]),
        ("a=&b&=c", [("a", ""), ("b", ""), ("", "c")]),
        ("a=x+y%2Bz", [("a", "x y+z")]),
        ("%C3%A9=%E2%82%AC", [("é", "€")]),
        ("a=%ff", [("a", "�")]),
        ("a=b=c", [("a", "b=c")]),
        ("&&", []),
        ("a=%zz", [("a", "%zz")]),
        ("a=1;b=2", [("a", "1;b=2")]),
    ],
)
def test_query(seen, query: str, pairs: list[tuple[str, str]]) -> None:
    request = seen(get("/?" + query))
    assert isinstance(request.query, MultiMapping)
    assert request.query.pairs() == pairs
    assert request.query is request.query


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_method(seen, method: str) -> None:
    assert seen(get().replace(b"GET", method.encode())).method == method


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_http_version(seen, version: str) -> None:
    assert seen(get(version=version)).http_version == version


def test_a_later_minor_version_is_1_1(seen) -> None:
    assert seen(get(version="1.9")).http_version == "1.1"


# ---- header fields -------------------------------------------------------------------------------

FIELDS = ("X-One: 1", "x-two:  a b\t", "X-ONE: 2", "Empty:", "Latin: caf\xe9")


def test_headers_are_found_in_any_case(seen) -> None:
    headers = seen(get("/", *FIELDS)).headers
    for name in ("x-one", "X-One", "X-ONE", "x-oNe"):
        assert headers[name] == "1"
        assert name in headers
        assert headers.get(name) == "1"
        assert headers.getlist(name) == ["1", "2"]
    assert headers["X-Two"] == "a b"
    assert headers["empty"] == ""
    assert headers["latin"] == "café"


def test_headers_that_are_not_there(seen) -> None:
    headers = seen(get("/", *FIELDS)).headers
    with pytest.raises(KeyError, match="X-Three"):
        headers["X-Three"]
    assert "x-three" not in headers
    assert "x-on" not in headers
    assert "x-one " not in headers
    assert "" not in headers
    assert 5 not in headers
    assert None not in headers
    assert "x-\N{SNOWMAN}" not in headers
    assert headers.get("x-three") is None
    assert headers.get("x-three", "default") == "default"
    assert headers.getlist("x-three") == []


def test_headers_are_a_mapping(seen) -> None:
    headers = seen(get("/", *FIELDS)).headers
    names = ["host", "x-one", "x-two", "empty", "latin"]
    assert isinstance(headers, Headers)
    assert isinstance(headers, collections.abc.Mapping)
    assert list(headers) == list(headers.keys()) == names
    assert len(headers) == 5
    assert list(headers.values()) == ["test", "1", "a b", "", "café"]
    assert dict(headers) == dict(headers.items()) == dict(zip(names, headers.values(), strict=True))
    assert headers.pairs() == [
        ("host", "test"),
        ("x-one", "1"),
        ("x-two", "a b"),
        ("x-one", "2"),
        ("empty", ""),
        ("latin", "café"),
    ]
    assert "x-two" in repr(headers)
    with pytest.raises(TypeError):
        headers["x"] = "y"


def test_a_hundred_headers(seen) -> None:
    headers = seen(get("/", *[f"h{i}: {i}" for i in range(99)])).headers
    assert len(headers) == 100
    assert all(headers[f"H{i}"] == str(i) for i in range(99))


def test_cookies(seen) -> None:
    request = seen(
        get("/", "Cookie: a=1; b=x=y;c=; a=2", 'Cookie: q="quoted"; bad; d = 4 ; =e')
    )
    assert request.cookies == {"a": "1", "b": "x=y", "c": "", "q": "quoted", "d": "4"}
    assert request.cookies is request.cookies


def test_no_cookies(seen) -> None:
    assert seen(get()).cookies == {}


# ---- the body ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 100, 4096, 16_384, 65_536, 300_000, 8 << 20])
def test_bodies_of_a_length(seen, size: int) -> None:
    body = bytes(i * 7 % 251 for i in range(min(size, 5000))) * (size // 5000 + 1)
    request = seen(post(body[:size]))
    assert request.body == body[:size]
    assert request.body is request.body


@pytest.mark.parametrize(
    "chunks", [[], [b"x"], [b"one", b"two", b"three"], [b"y" * 70_000] * 5, [b"z"] * 3000]
)
def test_chunked_bodies(seen, chunks: list[bytes]) -> None:
    wire = b"".join(b"%x\r\n%s\r\n" % (len(c), c) for c in chunks)
    raw = b"POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n" + wire
    request = seen(raw + b"0\r\nTrailer: dropped\r\n\r\n")
    assert request.body == b"".join(chunks)
    assert "trailer" not in request.headers


def test_text(seen) -> None:
    assert seen(post("grüße €".encode())).text() == "grüße €"
    assert seen(get()).text() == ""


@pytest.mark.parametrize(
    "value", [None, True, 1, 1.5, "é", [], {}, {"a": [1, {"b": None}]}, [1] * 10_000]
)
def test_json(seen, value) -> None:
    assert seen(post(json.dumps(value).encode())).json() == value


@pytest.fixture
def body_app() -> App:
    app = App()
    app.post("/json")(lambda request: [request.json()])
    app.post("/text")(lambda request: request.text())
    return app


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b"", "line 1 column 1"),
        (b'{"a": }', "line 1 column 7"),
        (b'{"a": 1,\n "b": x}', "line 2 column 7"),
        (b"[1, 2", "line 1 column 6"),
        (b'"\xff"', "UTF-8"),
        (b"NaN", "line 1 column 1"),
    ],
)
def test_bad_json_is_400_and_says_where(run_app, body_app: App, caplog, body, where) -> None:
    client = run_app(body_app).connect()
    reply = client.post("/json", body, {"Content-Length": str(len(body))})
    assert reply.status == 400
    assert "not JSON" in reply.text and where.lower() in reply.text.lower()
    assert client.post("/json", b"1").text == "[1]"  # the connection goes on
    assert caplog.records == []


def test_text_that_is_no_utf8_is_400_and_says_where(run_app, body_app: App) -> None:
    reply = run_app(body_app).post("/text", b"abc\xff")
    assert reply.status == 400
    assert "byte 3" in reply.text


def test_json_nested_too_deeply_is_400(run_app, body_app: App) -> None:
    assert run_app(body_app).post("/json", b"[" * 100_000).status == 400


# ---- the rest ------------------------------------------------------------------------------------


def test_client(run_app, tmp_path) -> None:
    app = App()
    app.get("/")(lambda request: repr(request.client))
    with run_app(app).connect() as client:
        assert client.get("/").text == repr(client.sock.getsockname())
    with run_app(app, unix=str(tmp_path / "s")).connect() as client:
        assert client.get("/").text == "None"


def test_state_is_each_requests_own(run_app) -> None:
    app = App()

    @app.get("/")
    def handler(request):
        before = dict(request.state)
        request.state["n"] = 1
        assert request.state is request.state
        return before

    client = run_app(app).connect()
    for _ in range(5):
        assert client.get("/").text == "{}"


def test_app_is_the_app(seen, run_app) -> None:
    app = App()
    found = []
    app.get("/")(lambda request: found.append(request.app))
    run_app(app).get("/")
    assert found == [app]


def test_repr(seen) -> None:
    assert repr(seen(get("/x?y=1"))) == "<Request GET /x?y=1>"


def test_path_params_without_any(run_app) -> None:
    app = App()
    app.get("/")(lambda request: request.path_params)
    assert run_app(app).get("/").text == "{}"


def test_connected(run_app, eventually) -> None:
    app = App()
    kept = []

    @app.get("/")
    def handler(request):
        kept.append(request)
        return {"connected": request.connected}

    running = run_app(app)
    client = running.connect()
    assert client.get("/").text == '{"connected":true}'
    assert kept[0].connected is False  # its reply is sent: nothing more can reach the client


def test_requests_cannot_be_made_or_assigned_to(seen) -> None:
    request = seen(get())
    for name in ("method", "path", "body", "headers", "app", "client"):
        with pytest.raises(AttributeError):
            setattr(request, name, None)
    with pytest.raises(TypeError):
        Request("GET", "/")


# ---- a kept request ------------------------------------------------------------------------------


def facts(request: Request) -> tuple[object, ...]:
    return (
        request.method,
        request.target,
        request.path,
        request.raw_path,
        request.query_string,
        request.query.pairs(),
        request.headers.pairs(),
        request.cookies,
        request.path_params,
        request.body,
        request.http_version,
        request.client,
        request.state,
    )


@pytest.mark.parametrize("pipelined", [False, True])
@pytest.mark.parametrize("suspends", [False, True])
def test_kept_requests_stay_as_they_were(run_app, suspends: bool, pipelined: bool) -> None:
    """Objects and memory are recycled from request to request: never those of one that is kept."""
    app = App()
    kept: list[tuple[int, Request, object]] = []

    @app.post("/n/{n:int}")
    async def handler(request, n):
        if suspends:
            await asyncio.sleep(0)
        if n % 3 == 0:
            request.state["n"] = n
            # Of every other one nothing is read before the others have come and gone.
            kept.append((n, request, facts(request) if n % 2 else None))
        return str(n)

    running = run_app(app)
    client = running.connect()
    count = 600
    wanted = {}
    raw = b""
    for n in range(count):
        body = (b"%d." % n) * (n % 50 + (2000 if n % 41 == 0 else 0))
        wanted[n] = body
        one = (
            f"POST /n/{n}?q={n}&r=%41{n} HTTP/1.1\r\nHost: h{n}\r\nX-N: {n}\r\nCookie: c={n}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        ).encode() + body
        if pipelined:
            raw += one
        else:
            client.send(one)
            assert client.reply().text == str(n)
    if pipelined:
        sender = threading.Thread(target=client.send, args=(raw,))
        sender.start()
        for n in range(count):
            assert client.reply().text == str(n)
        sender.join()
    port = client.sock.getsockname()[1]
    client.close()
    running.stop()
    gc.collect()
    assert len(kept) == count // 3
    assert len({id(request) for _, request, _ in kept}) == len(kept)
    for n, request, before in kept:
        after = facts(request)
        assert after == (
            "POST",
            f"/n/{n}?q={n}&r=%41{n}",
            f"/n/{n}",
            f"/n/{n}".encode(),
            f"q={n}&r=%41{n}".encode(),
            [("q", str(n)), ("r", f"A{n}")],
            [
                ("host", f"h{n}"),
                ("x-n", str(n)),
                ("cookie", f"c={n}"),
                ("content-length", str(len(wanted[n]))),
            ],
            {"c": str(n)},
            {"n": n},
            wanted[n],
            "1.1",
            ("127.0.0.1", port),
            {"n": n},
        )
        assert before is None or before == after


def test_kept_headers_keep_their_request(run_app) -> None:
    app = App()
    kept = []
    app.get("/{n}")(lambda request, n: kept.append(request.headers))
    running = run_app(app)
    with running.connect() as client:
        for n in range(100):
            client.get(f"/{n}", {"X-N": str(n)})
    running.stop()
    assert [headers["x-n"] for headers in kept] == [str(n) for n in range(100)]
