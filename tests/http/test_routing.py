"""Which handler a request reaches, and how the handler is called."""

from __future__ import annotations

import asyncio
import functools
import uuid
from collections.abc import Coroutine

import pytest

from flowcore.errors import InvalidArgument
from flowcore.http import App

TEXT = "text/plain; charset=utf-8"


def echo_params(request):
    params = request.path_params
    return {name: [type(value).__name__, str(value)] for name, value in params.items()}


PATTERNS = [
    "/",
    "/plain",
    "/plain/",
    "/a/b/c",
    "/s/{v}",
    "/i/{v:int}",
    "/f/{v:float}",
    "/u/{v:uuid}",
    "/p/{v:path}",
    "/two/{a}/{b:int}",
    "/mixed/x{v}y",
    "/any/literal",
    "/any/{v:int}",
    "/any/{v:float}",
    "/any/{v:uuid}",
    "/any/{v}",
    "/any/{v:path}",
    "/grüße",
]
U = "0a1b2c3d-0000-4000-8000-0123456789ab"
REACHED = [
    ("/", "/", {}),
    ("/?a=1", "/", {}),
    ("/plain", "/plain", {}),
    ("/plain/", "/plain/", {}),
    ("/%70lain", "/plain", {}),
    ("/a/b/c", "/a/b/c", {}),
    ("/s/x", "/s/{v}", {"v": ["str", "x"]}),
    ("/s/%C3%A9%20+", "/s/{v}", {"v": ["str", "é +"]}),
    ("/i/007", "/i/{v:int}", {"v": ["int", "7"]}),
    ("/i/" + "9" * 4300, "/i/{v:int}", {"v": ["int", "9" * 4300]}),
    ("/f/1.50", "/f/{v:float}", {"v": ["float", "1.5"]}),
    (f"/u/{U}", "/u/{v:uuid}", {"v": ["UUID", U]}),
    (f"/u/{U.upper()}", "/u/{v:uuid}", {"v": ["UUID", U]}),
    ("/p/x/y//z", "/p/{v:path}", {"v": ["str", "x/y//z"]}),
    ("/two/x/5", "/two/{a}/{b:int}", {"a": ["str", "x"], "b": ["int", "5"]}),
    ("/any/literal", "/any/literal", {}),
    ("/any/7", "/any/{v:int}", {"v": ["int", "7"]}),
    ("/any/7.0", "/any/{v:float}", {"v": ["float", "7.0"]}),
    (f"/any/{U}", "/any/{v:uuid}", {"v": ["UUID", U]}),
    ("/any/literally", "/any/{v}", {"v": ["str", "literally"]}),
    ("/any/x/y", "/any/{v:path}", {"v": ["str", "x/y"]}),
    ("/any/literal/more", "/any/{v:path}", {"v": ["str", "literal/more"]}),
    ("/gr%C3%BC%c3%9fe", "/grüße", {}),
    ("http://elsewhere:81/s/x?q", "/s/{v}", {"v": ["str", "x"]}),
    ("http://elsewhere", "/", {}),
    ("http://elsewhere?q=/plain", "/", {}),
]
MISSED = [
    "/nope",
    "/plain//",
    "//plain",
    "/Plain",
    "/a/b",
    "/a/b/c/d",
    "/s/",
    "/s/x/y",
    "/i/x",
    "/i/-1",
    "/i/1.0",
    "/i/" + "9" * 4301,
    "/f/1",
    "/f/1.",
    "/f/1.2.3",
    "/f/nan",
    f"/u/{U[:-1]}",
    f"/u/{U[:-1]}g",
    "/p/",
    "/p",
    "/two/x/y",
    "/any/",
    "/s/%ff",
    "http://elsewhere/nope",
]


@pytest.fixture
def table_app() -> App:
    app = App()

    def add(pattern: str) -> None:
        @app.get(pattern)
        def reached(request):
            return {"pattern": pattern, "params": echo_params(request)}

    for pattern in PATTERNS:
        if "{" not in pattern:
            add(pattern)
            continue
        # A handler that takes no parameters of the path by name still finds them on the request.
        names = [part.split("}")[0].split(":")[0] for part in pattern.split("{")[1:]]
        source = f"lambda request, {', '.join(names)}: answer(request)"

        def answer(request, pattern=pattern):
            return {"pattern": pattern, "params": echo_params(request)}

        app.get(pattern)(eval(source, {"answer": answer}))
    return app


def test_what_each_path_reaches(run_app, table_app: App) -> None:
    client = run_app(table_app, max_request_line_bytes=20_000).connect()
    for target, pattern, params in REACHED:
        reply = client.get(target)
        assert reply.status == 200, target
        expected = f'{{"pattern":"{pattern}","params":{{'
        assert reply.text.startswith(expected), target
        for name, (kind, value) in params.items():
            assert f'"{name}":["{kind}","{value}"]' in reply.text, target


def test_what_no_path_reaches(run_app, table_app: App) -> None:
    client = run_app(table_app, max_request_line_bytes=20_000).connect()
    for target in MISSED:
        reply = client.get(target)
        assert reply.status == 404, target
        assert reply.header("connection") is None
        assert reply.header("content-type") == TEXT


# ---- methods -------------------------------------------------------------------------------------

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


@pytest.fixture
def methods_app() -> App:
    app = App()

    @app.get("/get")
    def get(request):
        return "the body", 200, {"X-From": "get"}

    @app.get("/both")
    def both_get(request):
        return "from get"

    @app.head("/both")
    def both_head(request):
        return "", 200, {"X-From": "head"}

    @app.options("/own-options")
    def own_options(request):
        return "mine", 200, {"Allow": "NOTHING"}

    app.post("/post")(lambda: "posted")
    app.put("/all")(lambda: "PUT")
    app.patch("/all")(lambda: "PATCH")
    app.delete("/all")(lambda: "DELETE")
    app.post("/all")(lambda: "POST")
    app.get("/all")(lambda: "GET")
    app.route("/several", ["put", "DELETE"])(lambda request: request.method)
    app.route("/one", "GET")(lambda: "one")
    return app


def allowed(reply) -> list[str]:
    return reply.header("allow").split(", ")


def test_methods_find_their_handlers(run_app, methods_app: App) -> None:
    client = run_app(methods_app).connect()
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        assert client.request(method, "/all").text == method
    assert client.request("PUT", "/several").text == "PUT"
    assert client.request("DELETE", "/several").text == "DELETE"
    assert client.get("/one").text == "one"


@pytest.mark.parametrize(
    ("method", "target", "allow"),
    [
        ("POST", "/get", ["GET", "HEAD", "OPTIONS"]),
        ("DELETE", "/get", ["GET", "HEAD", "OPTIONS"]),
        ("TRACE", "/get", ["GET", "HEAD", "OPTIONS"]),
        ("GET", "/post", ["OPTIONS", "POST"]),
        ("HEAD", "/post", ["OPTIONS", "POST"]),
        ("GET", "/several", ["DELETE", "OPTIONS", "PUT"]),
    ],
)
def test_405_names_what_is_allowed(run_app, methods_app: App, method, target, allow) -> None:
    client = run_app(methods_app).connect()
    reply = client.request(method, target)
    assert reply.status == 405
    assert allowed(reply) == allow
    assert client.get("/get").status == 200  # and the connection goes on


@pytest.mark.parametrize("method", ["BREW", "get", "PROPFIND"])
def test_methods_nobody_knows_are_501(run_app, methods_app: App, method: str) -> None:
    client = run_app(methods_app).connect()
    assert client.request(method, "/get").status == 501
    assert client.request(method, "/nope").status == 404
    assert client.get("/get").status == 200


def test_head_is_answered_by_the_get_handler_without_its_body(run_app, methods_app: App) -> None:
    client = run_app(methods_app).connect()
    get, head = client.get("/get"), client.request("HEAD", "/get")
    assert head.status == 200
    assert head.header("content-length") == get.header("content-length") == "8"
    assert head.header("content-type") == get.header("content-type")
    assert head.header("x-from") == "get"
    # Had a body followed, this reply would not parse.
    assert client.get("/get").text == "the body"


def test_an_explicit_head_handler_comes_first(run_app, methods_app: App) -> None:
    client = run_app(methods_app).connect()
    assert client.request("HEAD", "/both").header("x-from") == "head"
    assert client.get("/both").text == "from get"


def test_head_of_what_is_not_there(run_app, methods_app: App) -> None:
    client = run_app(methods_app).connect()
    reply = client.request("HEAD", "/nope")
    assert (reply.status, reply.header("content-length")) == (404, "14")
    assert client.get("/get").status == 200


def test_options(run_app, methods_app: App) -> None:
    client = run_app(methods_app).connect()
    reply = client.request("OPTIONS", "/get")
    assert (reply.status, allowed(reply)) == (204, ["GET", "HEAD", "OPTIONS"])
    reply = client.request("OPTIONS", "/own-options")
    assert (reply.status, reply.text, allowed(reply)) == (200, "mine", ["NOTHING"])
    assert client.request("OPTIONS", "/nope").status == 404
    assert client.request("GET", "/own-options").status == 405


def test_options_of_the_whole_server(run_app, methods_app: App) -> None:
    client = run_app(methods_app).connect()
    reply = client.request("OPTIONS", "*")
    assert reply.status == 204
    assert {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} <= set(allowed(reply))


def test_the_asterisk_is_for_options_only(run_app, methods_app: App) -> None:
    assert run_app(methods_app).connect().get("*").status == 400


# ---- refused at registration ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "plain",
        "/{",
        "/}",
        "/{}",
        "/{x",
        "/x}",
        "/{1}",
        "/{x:}",
        "/{x:unknown}",
        "/{x:path}/more",
        "/{x}/{x}",
        "/{x}{y}",
        "/{x y}",
        "/" + "/".join(f"{{p{i}}}" for i in range(17)),
        "/" + "x" * 2048,
    ],
)
def test_malformed_patterns(pattern: str) -> None:
    app = App()
    with pytest.raises(InvalidArgument):
        app.get(pattern)(lambda **params: None)
    assert app.router.table() == []


def test_a_place_is_taken_once() -> None:
    app = App()
    app.get("/x/{a}")(lambda a: "first")
    with pytest.raises(InvalidArgument, match="taken"):
        app.get("/x/{a}")(lambda a: "second")
    with pytest.raises(InvalidArgument, match="taken"):
        app.get("/x/{other}")(lambda other: "second")
    app.post("/x/{other}")(lambda other: "fine")
    app.get("/x/{a:int}")(lambda a: "fine")
    assert [(method, pattern) for method, pattern, _ in app.router.table()] == [
        ("GET", "/x/{a}"),
        ("POST", "/x/{a}"),
        ("GET", "/x/{a:int}"),
    ]


def test_unknown_methods() -> None:
    with pytest.raises(InvalidArgument, match="BREW"):
        App().route("/", ["BREW"])(lambda: None)


@pytest.mark.parametrize(
    "handler",
    [
        lambda request, unknown: None,
        lambda request, id, unknown: None,
        lambda request, *, unknown: None,
    ],
)
def test_signatures_that_do_not_fit(handler) -> None:
    with pytest.raises(InvalidArgument, match="unknown"):
        App().get("/{id}")(handler)


# ---- how handlers are called ---------------------------------------------------------------------


class Greeter:
    greeting = "bound"

    def method(self, request, name):
        return f"{self.greeting} {request.method} {name}"

    async def async_method(self, name):
        return f"{self.greeting} {name}"

    @staticmethod
    def static(name, request):
        return f"static {request.method} {name}"

    @classmethod
    async def made(cls, request, name):
        return f"{cls.__name__} {name}"


class Callable:
    def __call__(self, request, name):
        return f"called {request.method} {name}"


class AsyncCallable:
    async def __call__(self, name, request):
        return f"async called {request.method} {name}"


def logged(handler):
    @functools.wraps(handler)
    def wrapper(*args, **kwargs):
        return handler(*args, **kwargs)

    return wrapper


def awaited(handler):
    @functools.wraps(handler)
    async def wrapper(*args, **kwargs):
        return "wrapped " + await handler(*args, **kwargs)

    return wrapper


def guarded(handler):
    """Wraps a coroutine function, but may answer without it."""

    @functools.wraps(handler)
    def wrapper(request, name):
        if name != "friend":
            return "refused", 403
        return handler(request, name)

    return wrapper


def plain(request, name):
    return f"plain {request.method} {name}"


async def asynchronous(request, name):
    return f"async {request.method} {name}"


def name_first(name, request):
    return f"first {request.method} {name}"


def no_request(name):
    return f"none {name}"


async def async_no_request(name):
    return f"async none {name}"


def keyword_only(request, *, name):
    return f"keyword {request.method} {name}"


async def all_keyword_only(*, name, request):
    return f"keywords {request.method} {name}"


def with_default(request, name="unused", extra="kept"):
    return f"default {request.method} {name} {extra}"


def default_in_the_middle(request, extra="kept", name="unused"):
    return f"middle {request.method} {name} {extra}"


def positional_only(request, name, /):
    return f"positional {request.method} {name}"


def another_word(r, name):
    return f"word {r.method} {name}"


def variadic(request, name, *args, **kwargs):
    return f"variadic {request.method} {name} {args} {kwargs}"


def no_arguments():
    return "nothing"


async def configured(greeting, request, name):
    return f"{greeting} {request.method} {name}"


HANDLERS = [
    (plain, "plain GET you"),
    (asynchronous, "async GET you"),
    (name_first, "first GET you"),
    (no_request, "none you"),
    (async_no_request, "async none you"),
    (keyword_only, "keyword GET you"),
    (all_keyword_only, "keywords GET you"),
    (with_default, "default GET you kept"),
    (default_in_the_middle, "middle GET you kept"),
    (positional_only, "positional GET you"),
    (another_word, "word GET you"),
    (variadic, "variadic GET you () {}"),
    (no_arguments, "nothing"),
    (lambda request, name: f"lambda {name}", "lambda you"),
    (Greeter().method, "bound GET you"),
    (Greeter().async_method, "bound you"),
    (Greeter.static, "static GET you"),
    (Greeter.made, "Greeter you"),
    (Callable(), "called GET you"),
    (AsyncCallable(), "async called GET you"),
    (functools.partial(configured, "partial"), "partial GET you"),
    (functools.partial(configured, greeting="partial"), "partial GET you"),
    (functools.partial(plain), "plain GET you"),
    (functools.partial(Greeter().async_method), "bound you"),
    (functools.partial(AsyncCallable()), "async called GET you"),
    (logged(plain), "plain GET you"),
    (logged(asynchronous), "async GET you"),
    (logged(logged(async_no_request)), "async none you"),
    (awaited(asynchronous), "wrapped async GET you"),
    (awaited(awaited(async_no_request)), "wrapped wrapped async none you"),
    (functools.partial(awaited(asynchronous)), "wrapped async GET you"),
]


@pytest.mark.parametrize(("handler", "expected"), HANDLERS, ids=[e for _, e in HANDLERS])
def test_every_kind_of_callable(run_app, handler, expected: str) -> None:
    app = App()
    app.get("/hello/{name}")(handler)
    reply = run_app(app).get("/hello/you")
    assert (reply.status, reply.text) == (200, expected)


def test_a_sync_wrapper_may_answer_for_the_coroutine_function_it_wraps(run_app) -> None:
    app = App()
    app.get("/{name}")(guarded(asynchronous))
    client = run_app(app).connect()
    assert client.get("/friend").text == "async GET friend"
    assert client.get("/foe").status == 403


class Compiled(Coroutine):
    """A coroutine that is not CPython's own, as compilers make them."""

    def __init__(self, coro):
        self.coro = coro

    def send(self, value):
        return self.coro.send(value)

    def throw(self, *error):
        return self.coro.throw(*error)

    def close(self):
        self.coro.close()

    def __await__(self):
        return self.coro.__await__()


def test_coroutines_of_other_types_are_driven(run_app) -> None:
    app = App()

    async def later(name):
        await asyncio.sleep(0.001)
        return f"{asyncio.current_task() in asyncio.all_tasks()} {name}"

    app.get("/now/{name}")(lambda request, name: Compiled(asynchronous(request, name)))
    app.get("/later/{name}")(lambda name: Compiled(later(name)))
    client = run_app(app).connect()
    assert client.get("/now/you").text == "async GET you"
    assert client.get("/later/you").text == "True you"


def test_typed_parameters_arrive_converted(run_app) -> None:
    app = App()
    got = []

    @app.get("/{i:int}/{f:float}/{u:uuid}/{s}/{p:path}")
    async def handler(p, s, request, u, f, *, i):
        got.append((i, f, u, s, p, request.path_params))

    assert run_app(app).get(f"/12/0.5/{U}/x/y/z").status == 204
    i, f, u, s, p, params = got[0]
    assert (i, f, u, s, p) == (12, 0.5, uuid.UUID(U), "x", "y/z")
    assert params == {"i": 12, "f": 0.5, "u": uuid.UUID(U), "s": "x", "p": "y/z"}
    assert type(i) is int and type(f) is float and type(u) is uuid.UUID


def test_a_float_too_large_for_one_is_no_match(run_app) -> None:
    app = App()
    app.get("/{v:float}")(lambda v: repr(v))
    client = run_app(app).connect()
    assert client.get("/1.5").text == "1.5"
    assert client.get(f"/{'9' * 400}.0").status == 404


def test_routes_may_be_added_while_serving(run_app) -> None:
    app = App()
    running = run_app(app)
    assert running.get("/late").status == 404
    running.call(lambda: app.get("/late")(lambda: "here"))
    assert running.get("/late").text == "here"


def test_many_routes(run_app) -> None:
    app = App()
    for i in range(500):
        app.get(f"/lit/{i}")(lambda i=i: str(i))
        app.get(f"/par/{i}/{{x}}")(lambda x, i=i: f"{i} {x}")
    client = run_app(app).connect()
    for i in range(0, 500, 7):
        assert client.get(f"/lit/{i}").text == str(i)
        assert client.get(f"/par/{i}/q").text == f"{i} q"
