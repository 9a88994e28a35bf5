"""In a handler everything is as in any asyncio task, whether it suspends or not."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import logging
import threading
import time
import weakref

import anyio
import anyio.to_thread
import pytest

try:
    import sniffio
except ImportError:  # anyio can do without it
    sniffio = None

from flowcore.http import App, HTTPError

pytestmark = pytest.mark.filterwarnings("error")

EAGER, SUSPENDED = "eager", "suspended"
both = pytest.mark.parametrize("when", [EAGER, SUSPENDED])


async def maybe(when: str) -> None:
    """Suspends the handler first, or does not."""
    if when == SUSPENDED:
        await asyncio.sleep(0)


def failures(caplog) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == "flowcore.http"]


# ---- current_task --------------------------------------------------------------------------------


@both
def test_current_task_is_a_task_and_stays_the_same(run_app, when: str) -> None:
    app = App()
    seen = []

    @app.get("/")
    async def handler():
        await maybe(when)
        seen.append(asyncio.current_task())
        await asyncio.sleep(0)
        seen.append(asyncio.current_task())
        await asyncio.sleep(0.001)
        seen.append(asyncio.current_task())
        assert asyncio.current_task() in asyncio.all_tasks()

    assert run_app(app).get("/").status == 204
    assert isinstance(seen[0], asyncio.Task)
    assert seen[0] is seen[1] is seen[2]
    assert seen[0].done() and not seen[0].cancelled()


def test_current_task_of_a_handler_that_never_suspends(run_app) -> None:
    app = App()
    seen = []

    @app.get("/")
    async def handler():
        seen.append(asyncio.current_task())
        assert asyncio.current_task() is seen[-1]

    assert run_app(app).get("/").status == 204
    assert isinstance(seen[0], asyncio.Task)
    assert asyncio.isfuture(seen[0])


def test_no_current_task_in_a_plain_handler_or_between(run_app) -> None:
    app = App()
    seen = []
    app.get("/sync")(lambda: seen.append(asyncio.current_task()))

    @app.get("/async")
    async def handler():
        asyncio.get_running_loop().call_soon(lambda: seen.append(asyncio.current_task()))

    @app.get("/raises")
    async def raises():
        asyncio.get_running_loop().call_soon(lambda: seen.append(asyncio.current_task()))
        raise HTTPError(400)

    client = run_app(app).connect()
    for target in ("/sync", "/async", "/raises", "/sync"):
        client.get(target)
    assert seen == [None, None, None, None]


@both
def test_concurrent_requests_have_tasks_of_their_own(run_app, eventually, when: str) -> None:
    app = App()
    tasks = []
    go = []

    @app.get("/")
    async def handler():
        go.append(asyncio.Event())
        await maybe(when)
        tasks.append(asyncio.current_task())
        await go[0].wait()
        assert asyncio.current_task() in tasks
        return "done"

    running = run_app(app)
    clients = [running.connect() for _ in range(10)]
    for client in clients:
        client.ask("GET", "/")
    eventually(lambda: len(tasks) == 10)
    assert len({id(task) for task in tasks}) == 10
    assert set(tasks) <= running.call(asyncio.all_tasks)
    assert not any(task.done() for task in tasks)
    running.call(go[0].set)
    for client in clients:
        assert client.reply().text == "done"
    eventually(lambda: all(task.done() for task in tasks))


def test_a_task_that_somebody_holds_is_never_another_requests(run_app) -> None:
    """The task of a handler that did not suspend is used again: not if it can be told."""
    app = App()
    by_task: weakref.WeakKeyDictionary[asyncio.Task, int] = weakref.WeakKeyDictionary()
    by_weakref, held, aliased = [], [], []

    @app.get("/{n:int}")
    async def handler(n):
        task = asyncio.current_task()
        if task in by_task or hasattr(task, "mark"):
            aliased.append(n)
        kind = n % 4
        if kind == 0:
            by_task[task] = n
        elif kind == 1:
            held.append(task)
        elif kind == 2:
            by_weakref.append(weakref.ref(task))
        else:
            task.mark = n

    running = run_app(app)
    client = running.connect()
    for n in range(2000):
        client.get(f"/{n}")
    assert aliased == []
    assert len(held) == len(set(map(id, held))) == 500
    gc.collect()
    assert len(by_task) <= 1
    assert sum(ref() is not None for ref in by_weakref) <= 1


def test_what_is_kept_by_task_is_dropped_with_it(run_app) -> None:
    app = App()
    store: weakref.WeakKeyDictionary[asyncio.Task, object] = weakref.WeakKeyDictionary()

    @app.get("/{when}")
    async def handler(when):
        task = asyncio.current_task()
        assert task not in store
        store[task] = object()
        await maybe(when)
        assert task in store

    client = run_app(app).connect()
    for _ in range(200):
        assert client.get("/eager").status == client.get("/suspended").status == 204
    gc.collect()
    assert len(store) <= 1


@both
def test_a_task_tells_about_itself(run_app, when: str) -> None:
    app = App()
    seen = {}

    @app.get("/")
    async def handler():
        await maybe(when)
        task = asyncio.current_task()
        seen["name"] = task.get_name()
        task.set_name("mine")
        seen["renamed"] = task.get_name()
        seen["coro"] = task.get_coro().__qualname__
        seen["loop"] = task.get_loop() is asyncio.get_running_loop()
        seen["done"] = (task.done(), task.cancelled(), task.cancelling())
        seen["repr"] = repr(task)
        with pytest.raises(asyncio.InvalidStateError):
            task.result()
        with pytest.raises(asyncio.InvalidStateError):
            task.exception()
        seen["context"] = getattr(task, "get_context", lambda: None)()
        seen["stack"] = task.get_stack()
        await asyncio.sleep(0)
        seen["after"] = task.get_name()

    assert run_app(app).get("/").status == 204
    assert seen["name"] and isinstance(seen["name"], str)
    assert seen["renamed"] == seen["after"] == "mine"
    assert seen["coro"].endswith("handler")
    assert seen["loop"] is True
    assert seen["done"] == (False, False, 0)
    assert "mine" in seen["repr"] and "pending" in seen["repr"]


@both
@pytest.mark.parametrize("outcome", ["returns", "raises", "cancelled"])
def test_done_callbacks_and_awaiting_a_requests_task(run_app, eventually, when, outcome) -> None:
    app = App()
    called, awaited = [], []

    async def watch(task):
        try:
            awaited.append(await task)
        except BaseException as exc:
            awaited.append(type(exc))

    @app.get("/")
    async def handler():
        task = asyncio.current_task()
        if when == SUSPENDED:
            await asyncio.sleep(0)
        task.add_done_callback(called.append)
        removed = called.clear
        task.add_done_callback(removed)
        assert task.remove_done_callback(removed) == 1
        watcher = asyncio.ensure_future(watch(task))
        called_before.append(watcher)
        if outcome == "raises":
            raise HTTPError(418)
        if outcome == "cancelled":
            task.cancel()
            await asyncio.sleep(0)
        return "result"

    called_before: list[asyncio.Task] = []
    running = run_app(app)
    reply = running.get("/")
    assert reply.status == {"returns": 200, "raises": 418, "cancelled": 503}[outcome]
    eventually(lambda: called and awaited)
    [task] = called
    assert task.done()
    assert awaited == [
        {"returns": "result", "raises": HTTPError, "cancelled": asyncio.CancelledError}[outcome]
    ]


# ---- time-outs and cancellation ------------------------------------------------------------------


async def timeout_fires() -> str:
    start = time.monotonic()
    try:
        async with asyncio.timeout(0.02) as scope:
            await asyncio.sleep(10)
    except TimeoutError:
        assert scope.expired() and time.monotonic() - start < 5
        assert asyncio.current_task().cancelling() == 0
        await asyncio.sleep(0)
        return "fired"
    return "not"


async def timeout_does_not_fire() -> str:
    async with asyncio.timeout(10) as scope:
        await asyncio.sleep(0)
    assert not scope.expired()
    async with asyncio.timeout(10):
        pass
    async with asyncio.timeout(None):
        pass
    return "did not"


async def timeouts_nested() -> str:
    try:
        async with asyncio.timeout(10):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.01):
                    await asyncio.sleep(10)
            async with asyncio.timeout(0.01):
                async with asyncio.timeout(10):
                    await asyncio.sleep(10)
    except TimeoutError:
        await asyncio.sleep(0)
        return "outer fired"
    return "not"


async def timeout_already_past() -> str:
    try:
        async with asyncio.timeout(-1):
            await asyncio.sleep(0)
            await asyncio.sleep(0)
    except TimeoutError:
        return "past"
    return "not"


async def timeout_is_moved() -> str:
    async with asyncio.timeout(0.01) as scope:
        scope.reschedule(asyncio.get_running_loop().time() + 10)
        await asyncio.sleep(0.03)
    return "moved"


async def group_succeeds() -> str:
    async def child(n):
        await asyncio.sleep(0.001 * n)
        return n

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(child(n)) for n in range(5)]
    return str([task.result() for task in tasks])


async def group_is_empty() -> str:
    async with asyncio.TaskGroup():
        pass
    return "empty"


async def group_child_fails() -> str:
    cancelled = []

    async def sleeper():
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            cancelled.append(1)
            raise

    async def failing():
        await asyncio.sleep(0)
        raise ValueError("child")

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(sleeper())
            group.create_task(failing())
            await asyncio.sleep(10)  # the body is cancelled as well
    except* ValueError as errors:
        assert [str(error) for error in errors.exceptions] == ["child"]
    assert asyncio.current_task().cancelling() == 0
    await asyncio.sleep(0)
    return f"failed, {len(cancelled)} cancelled"


async def group_body_fails() -> str:
    async def sleeper():
        await asyncio.sleep(10)

    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(sleeper())
            raise ValueError("body")
    except* ValueError:
        pass
    return f"{task.cancelled()}"


async def cancels_itself() -> str:
    task = asyncio.current_task()
    assert task.cancel("why")
    assert task.cancelling() == 1
    try:
        await asyncio.sleep(0)
    except asyncio.CancelledError as exc:
        assert exc.args == ("why",)
        assert task.uncancel() == 0
        await asyncio.sleep(0.001)
        return "caught"
    return "not"


async def cancels_itself_before_a_future() -> str:
    future = asyncio.get_running_loop().create_future()
    asyncio.current_task().cancel()
    try:
        await future
    except asyncio.CancelledError:
        assert future.cancelled()
        asyncio.current_task().uncancel()
        return "caught"
    return "not"


async def cancels_itself_before_a_done_future() -> str:
    future = asyncio.get_running_loop().create_future()
    future.set_result(1)
    asyncio.current_task().cancel()
    assert await future == 1  # which does not suspend
    try:
        await asyncio.sleep(0.01)
    except asyncio.CancelledError:
        asyncio.current_task().uncancel()
        return "caught"
    return "not"


async def shield_protects() -> str:
    log = []

    async def inner():
        await asyncio.sleep(0.02)
        log.append("inner")

    inner_task = asyncio.ensure_future(inner())
    try:
        async with asyncio.timeout(0.005):
            await asyncio.shield(inner_task)
    except TimeoutError:
        await inner_task
    return f"{log}"


async def wait_for_times_out() -> str:
    try:
        await asyncio.wait_for(asyncio.sleep(10), 0.01)
    except TimeoutError:
        return f"timed out, {await asyncio.wait_for(asyncio.sleep(0, 'in time'), 10)}"
    return "not"


async def gathers() -> str:
    async def child(n):
        await asyncio.sleep(0.002 * (3 - n))
        return n

    first = await asyncio.gather(*(child(n) for n in range(3)))

    async def fails():
        raise ValueError("child")

    second = await asyncio.gather(child(1), fails(), return_exceptions=True)
    return f"{first} {second[0]} {type(second[1]).__name__}"


async def waits() -> str:
    tasks = [asyncio.ensure_future(asyncio.sleep(d, d)) for d in (0.001, 10)]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.wait(tasks)
    return f"{len(done)} {len(pending)} {tasks[1].cancelled()}"


async def to_thread() -> str:
    here, there = threading.get_ident(), await asyncio.to_thread(threading.get_ident)
    return str(here != there)


async def in_executor() -> str:
    loop = asyncio.get_running_loop()
    there = await loop.run_in_executor(None, threading.get_ident)
    return str(there != threading.get_ident())


async def uses_a_bare_future() -> str:
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    loop.call_later(0.002, future.set_result, "value")
    return await future


async def uses_a_subprocess() -> str:
    import sys

    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "print(6 * 7)", stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    return out.decode().strip()


async def uses_async_generators() -> str:
    async def numbers():
        for n in range(3):
            yield n
            await asyncio.sleep(0)

    return str([n async for n in numbers()])


async def exits_async_stack() -> str:
    log = []

    @contextlib.asynccontextmanager
    async def scope(name):
        await asyncio.sleep(0)
        try:
            yield
        finally:
            await asyncio.sleep(0)
            log.append(name)

    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(scope("a"))
        await stack.enter_async_context(scope("b"))
    return "".join(log)


async def uses_a_server_and_streams() -> str:
    async def echo(reader, writer):
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"line\n")
        answer = await reader.readline()
        writer.close()
        await writer.wait_closed()
    return answer.decode().strip()


async def sniffs() -> str:
    info = anyio.get_current_task()
    assert info.id == id(asyncio.current_task())
    return sniffio.current_async_library() if sniffio else "asyncio"


async def anyio_timeout() -> str:
    with anyio.move_on_after(0.01) as scope:
        await anyio.sleep(10)
    assert scope.cancelled_caught
    with anyio.move_on_after(10) as scope:
        await anyio.sleep(0)
    assert not scope.cancelled_caught
    try:
        with anyio.fail_after(0.01):
            await anyio.sleep(10)
    except TimeoutError:
        await anyio.sleep(0)
        return "timed out"
    return "not"


async def anyio_group() -> str:
    got = []

    async def child(n):
        await anyio.sleep(0.001 * n)
        got.append(n)

    async with anyio.create_task_group() as group:
        for n in range(3):
            group.start_soon(child, n)
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 10)
            raise ValueError("body")
    except* ValueError:
        pass
    return str(got)


async def anyio_cancel_scope() -> str:
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, 10)
        group.cancel_scope.cancel()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await anyio.sleep(10)
    with anyio.CancelScope(shield=True):
        await anyio.sleep(0)
    return str(scope.cancelled_caught)


async def anyio_thread() -> str:
    there = await anyio.to_thread.run_sync(threading.get_ident)
    return str(there != threading.get_ident())


async def anyio_events_and_streams() -> str:
    send, receive = anyio.create_memory_object_stream[int](1)
    async with anyio.create_task_group() as group, receive:

        async def produce():
            async with send:
                for n in range(3):
                    await send.send(n)

        group.start_soon(produce)
        return str([n async for n in receive])


BODIES = {
    timeout_fires: "fired",
    timeout_does_not_fire: "did not",
    timeouts_nested: "outer fired",
    timeout_already_past: "past",
    timeout_is_moved: "moved",
    group_succeeds: "[0, 1, 2, 3, 4]",
    group_is_empty: "empty",
    group_child_fails: "failed, 1 cancelled",
    group_body_fails: "True",
    cancels_itself: "caught",
    cancels_itself_before_a_future: "caught",
    cancels_itself_before_a_done_future: "caught",
    shield_protects: "['inner']",
    wait_for_times_out: "timed out, in time",
    gathers: "[0, 1, 2] 1 ValueError",
    waits: "1 1 True",
    to_thread: "True",
    in_executor: "True",
    uses_a_bare_future: "value",
    uses_async_generators: "[0, 1, 2]",
    exits_async_stack: "ba",
    uses_a_server_and_streams: "line",
    sniffs: "asyncio",
    anyio_timeout: "timed out",
    anyio_group: "[0, 1, 2]",
    anyio_cancel_scope: "True",
    anyio_thread: "True",
    anyio_events_and_streams: "[0, 1, 2]",
}


def test_the_bodies_behave_so_under_plain_asyncio() -> None:
    """What follows is asyncio's own behaviour, not this suite's idea of it."""
    for body, expected in BODIES.items():
        assert asyncio.run(body()) == expected, body.__name__


@both
@pytest.mark.parametrize(("body", "expected"), BODIES.items(), ids=[b.__name__ for b in BODIES])
def test_a_handler_behaves_as_a_task(run_app, caplog, body, expected: str, when: str) -> None:
    app = App()

    @app.get("/")
    async def handler():
        await maybe(when)
        return await body()

    client = run_app(app).connect()
    for _ in range(3):  # the later ones may meet what the first one left behind
        reply = client.get("/")
        assert (reply.status, reply.text) == (200, expected)
    client.send(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n" * 3)
    for _ in range(3):
        assert client.reply().text == expected
    assert caplog.records == []


def test_many_bodies_at_once(run_app, caplog) -> None:
    app = App()
    bodies = list(BODIES)

    @app.get("/{n:int}")
    async def handler(n):
        return await bodies[n]()

    running = run_app(app)
    pairs = [(running.connect(), n) for n in range(len(bodies)) for _ in range(3)]
    for client, n in pairs:
        client.ask("GET", f"/{n}")
    for client, n in pairs:
        assert client.reply().text == BODIES[bodies[n]], bodies[n].__name__
    assert caplog.records == []


@both
def test_a_handler_that_cancels_itself_and_lets_it_happen(run_app, caplog, when: str) -> None:
    app = App()

    @app.get("/")
    async def handler():
        await maybe(when)
        asyncio.current_task().cancel()
        await asyncio.sleep(10)

    @app.get("/raises")
    async def raises():
        await maybe(when)
        raise asyncio.CancelledError

    app.get("/fine")(lambda: "fine")
    client = run_app(app).connect()
    assert client.get("/").status == 503
    assert client.get("/raises").status == 503
    assert client.get("/fine").text == "fine"
    assert len(failures(caplog)) == 2


@both
def test_a_request_cancelled_by_another(run_app, caplog, eventually, when: str) -> None:
    app = App()
    tasks = []

    @app.get("/victim")
    async def victim():
        tasks.append(asyncio.current_task())
        await maybe(when)
        await asyncio.sleep(60)

    @app.get("/cancel")
    async def cancel():
        tasks[0].cancel("by the other")
        with contextlib.suppress(asyncio.CancelledError):
            await tasks[0]
        return str(tasks[0].cancelled())

    running = run_app(app)
    one, two = running.connect(), running.connect()
    one.ask("GET", "/victim")
    eventually(lambda: tasks)
    assert two.get("/cancel").text == "True"
    assert one.reply().status == 503


def test_locks_events_and_queues_between_requests(run_app, eventually) -> None:
    app = App()
    made: dict[str, object] = {}
    order = []

    @app.on_startup
    async def start():
        made.update(event=asyncio.Event(), lock=asyncio.Lock(), queue=asyncio.Queue(2))

    @app.get("/event")
    async def event():
        order.append("waits")
        await made["event"].wait()
        return "set"

    @app.post("/event")
    async def set_event():
        made["event"].set()

    @app.get("/lock/{n}")
    async def lock(n):
        async with made["lock"]:
            order.append(f"in {n}")
            await asyncio.sleep(0.005)
            order.append(f"out {n}")

    @app.post("/queue/{n:int}")
    async def put(n):
        await made["queue"].put(n)

    @app.get("/queue")
    async def get():
        return str(await made["queue"].get())

    running = run_app(app)
    clients = [running.connect() for _ in range(5)]
    for client in clients:
        client.ask("GET", "/event")
    eventually(lambda: order == ["waits"] * 5)
    assert running.post("/event", b"x").status == 204
    for client in clients:
        assert client.reply().text == "set"
    order.clear()
    for n, client in enumerate(clients):
        client.ask("GET", f"/lock/{n}")
    for client in clients:
        assert client.reply().status == 204
    assert all(order[i].replace("in", "out") == order[i + 1] for i in range(0, 10, 2))
    for client in clients:
        client.ask("GET", "/queue")
    putter = running.connect()
    for n in range(7):  # two of them stay in the queue
        assert putter.post(f"/queue/{n}", b"x").status == 204
    assert sorted(int(client.reply().text) for client in clients) == [0, 1, 2, 3, 4]
    putter.ask("POST", "/queue/7")
    assert putter.silent(0.05)  # it is full
    assert [running.get("/queue").text for _ in range(3)] == ["5", "6", "7"]
    assert putter.reply().status == 204


# ---- context variables ---------------------------------------------------------------------------

colour: contextvars.ContextVar[str] = contextvars.ContextVar("colour", default="none")


@pytest.mark.parametrize("kind", ["sync", EAGER, SUSPENDED])
def test_a_context_variable_stays_with_its_request(run_app, kind: str) -> None:
    app = App()

    def handler(name):
        before = colour.get()
        colour.set(name)
        return f"{before} {colour.get()}"

    async def async_handler(name):
        text = handler(name)
        await maybe(kind)
        return f"{text} {colour.get()}"

    app.get("/{name}")(handler if kind == "sync" else async_handler)
    client = run_app(app).connect()
    for name in ("red", "green", "blue"):
        expected = f"none {name}" if kind == "sync" else f"none {name} {name}"
        assert client.get(f"/{name}").text == expected


def test_context_variables_of_concurrent_requests(run_app) -> None:
    app = App()

    @app.get("/{name}")
    async def handler(name):
        colour.set(name)
        for _ in range(5):
            await asyncio.sleep(0.001)
            assert colour.get() == name
        return colour.get()

    running = run_app(app)
    clients = [running.connect() for _ in range(20)]
    for n, client in enumerate(clients):
        client.ask("GET", f"/{n}")
    for n, client in enumerate(clients):
        assert client.reply().text == str(n)


@both
def test_children_inherit_context_variables(run_app, when: str) -> None:
    app = App()

    async def child():
        value = colour.get()
        colour.set("the child's")
        return value

    @app.get("/")
    async def handler():
        await maybe(when)
        colour.set("red")
        task = asyncio.create_task(child())
        in_thread = await asyncio.to_thread(colour.get)
        called = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(lambda: called.set_result(colour.get()))
        return f"{await task} {in_thread} {await called} {colour.get()}"

    assert run_app(app).get("/").text == "red red red red"


def test_what_is_set_at_start_up_is_seen_by_requests_or_not_but_never_changed(run_app) -> None:
    app = App()
    seen = []

    @app.get("/")
    async def handler():
        seen.append(colour.get())
        colour.set("changed")

    client = run_app(app).connect()
    for _ in range(3):
        client.get("/")
    assert len(set(seen)) == 1


def test_a_token_may_be_reset_after_an_await(run_app) -> None:
    app = App()

    @app.get("/")
    async def handler():
        token = colour.set("inner")
        await asyncio.sleep(0)
        colour.reset(token)
        return colour.get()

    assert run_app(app).get("/").text == "none"


# ---- a client that goes away ---------------------------------------------------------------------


@both
@pytest.mark.parametrize("how", ["close", "reset", "half-close"])
def test_a_handler_is_cancelled_when_its_client_goes(
    run_app, eventually, caplog, how: str, when: str
) -> None:
    app = App()
    log = []

    @app.get("/")
    async def handler(request):
        await maybe(when)
        try:
            log.append("waits")
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            log.append(f"cancelled, connected: {request.connected}")
            raise
        finally:
            await asyncio.sleep(0.01)
            log.append("clean-up")

    running = run_app(app)
    client = running.connect()
    client.ask("GET", "/")
    eventually(lambda: log)
    if how == "half-close":
        client.sock.shutdown(1)
    else:
        getattr(client, how)()
    eventually(lambda: log[-1] == "clean-up")
    assert log == ["waits", "cancelled, connected: False", "clean-up"]
    eventually(lambda: running.server.connections == 0)
    assert running.call(lambda: len(asyncio.all_tasks())) <= 2
    assert caplog.records == []


def test_a_handler_that_swallows_its_cancellation(run_app, eventually, caplog) -> None:
    app = App()
    log = []

    @app.get("/")
    async def handler():
        log.append("waits")
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        await asyncio.sleep(0.01)
        log.append("goes on")
        return "for nobody"

    running = run_app(app)
    client = running.connect()
    client.ask("GET", "/")
    eventually(lambda: log)
    client.close()
    eventually(lambda: log[-1] == "goes on")
    eventually(lambda: running.call(lambda: len(asyncio.all_tasks())) <= 2)
    assert caplog.records == []


def test_a_handler_that_raises_something_else_when_cancelled(run_app, eventually, caplog) -> None:
    app = App()
    log = []

    @app.get("/")
    async def handler():
        log.append("waits")
        try:
            await asyncio.sleep(60)
        finally:
            raise ValueError("in the clean-up")

    running = run_app(app)
    client = running.connect()
    client.ask("GET", "/")
    eventually(lambda: log)
    client.close()
    [record] = eventually(lambda: failures(caplog))
    assert "in the clean-up" in str(record.exc_info[1])


def test_shielded_work_outlives_its_client(run_app, eventually) -> None:
    app = App()
    log = []

    async def work():
        log.append("starts")
        await asyncio.sleep(0.1)
        log.append("finished")

    @app.get("/")
    async def handler():
        await asyncio.shield(asyncio.ensure_future(work()))

    running = run_app(app)
    client = running.connect()
    client.ask("GET", "/")
    eventually(lambda: log)
    client.close()
    eventually(lambda: log == ["starts", "finished"])


def test_pipelined_requests_of_a_client_that_goes_are_not_run(run_app, eventually) -> None:
    app = App()
    log = []

    @app.get("/{n}")
    async def handler(n):
        log.append(n)
        await asyncio.sleep(60)

    running = run_app(app)
    client = running.connect()
    client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: t\r\n\r\n" % n for n in range(3)))
    eventually(lambda: log)
    client.reset()
    eventually(lambda: running.server.connections == 0)
    assert log == ["0"]


# ---- exceptions ----------------------------------------------------------------------------------


class Custom(Exception):
    pass


SECRET = "secret detail"


def broken() -> None:
    raise Custom(SECRET)


@pytest.mark.parametrize("kind", ["sync", EAGER, SUSPENDED])
@pytest.mark.parametrize("looked_at", [False, True])
def test_an_exception_is_logged_once_and_never_shown(run_app, caplog, kind, looked_at) -> None:
    app = App()

    def handler():
        broken()

    async def async_handler():
        if looked_at:
            asyncio.current_task().get_name()
        await maybe(kind)
        broken()

    app.get("/")(handler if kind == "sync" else async_handler)
    app.get("/fine")(lambda: "fine")
    client = run_app(app).connect()
    reply = client.get("/")
    assert (reply.status, reply.text) == (500, "500 Internal Server Error\n")
    assert reply.header("connection") is None
    assert client.get("/fine").text == "fine"
    gc.collect()
    [record] = caplog.records
    assert (record.name, record.levelname) == ("flowcore.http", "ERROR")
    assert record.getMessage() == "<Request GET /> failed"
    formatted = logging.Formatter().format(record)
    assert formatted.count(SECRET) == 1
    assert "in broken" in formatted and "handler" in formatted


@pytest.mark.parametrize("kind", ["sync", EAGER, SUSPENDED])
@pytest.mark.parametrize(
    "error",
    [StopIteration(5), StopAsyncIteration(), GeneratorExit(), TimeoutError(), OSError(5, "x")],
)
def test_awkward_exceptions(run_app, caplog, error, kind: str) -> None:
    app = App()

    def handler():
        raise error

    async def async_handler():
        await maybe(kind)
        raise error

    app.get("/")(handler if kind == "sync" else async_handler)
    app.get("/fine")(lambda: "fine")
    client = run_app(app).connect()
    assert client.get("/").status == 500
    assert client.get("/fine").text == "fine"
    assert len(failures(caplog)) == 1


@both
@pytest.mark.parametrize("value", [(1, 2), StopIteration(3), ValueError("as a value")])
def test_awkward_results(run_app, caplog, eventually, value, when: str) -> None:
    """A result is a result, even one that looks like an exception or like several arguments."""
    app = App()
    results = []

    @app.get("/")
    async def handler():
        asyncio.current_task().add_done_callback(lambda task: results.append(task.result()))
        await maybe(when)
        return value

    running = run_app(app)
    assert running.get("/").status == 500  # it is not a reply
    assert eventually(lambda: results) == [value]


def test_an_exception_group(run_app, caplog) -> None:
    app = App()

    @app.get("/")
    async def handler():
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.to_thread(broken))

    assert run_app(app).get("/").status == 500
    [record] = failures(caplog)
    assert SECRET in logging.Formatter().format(record)


def test_recursion_in_a_handler(run_app, caplog) -> None:
    app = App()

    async def deep(n):
        return await deep(n + 1)

    app.get("/")(lambda: deep(0))
    app.get("/fine")(lambda: "fine")
    client = run_app(app).connect()
    assert client.get("/").status == 500
    assert client.get("/fine").text == "fine"


@pytest.mark.parametrize("kind", ["sync", EAGER, SUSPENDED])
def test_a_broken_log_does_not_keep_the_client_waiting(run_app, capfd, kind: str) -> None:
    class Broken(logging.Handler):
        def emit(self, record):
            raise ValueError("the log is broken")

    app = App()

    async def async_handler():
        await maybe(kind)
        return 1 / 0

    app.get("/")((lambda: 1 / 0) if kind == "sync" else async_handler)
    client = run_app(app).connect()
    logger = logging.getLogger("flowcore.http")
    logger.addHandler(handler := Broken())
    try:
        assert client.get("/").status == 500
    finally:
        logger.removeHandler(handler)
    assert client.get("/").status == 500
    assert "the log is broken" in capfd.readouterr().err


# ---- what is left behind -------------------------------------------------------------------------


def test_nothing_is_left_waiting(run_app) -> None:
    app = App()

    @app.get("/{n:int}")
    async def handler(n):
        if n % 2:
            await asyncio.sleep(0.001)
        if n % 3 == 0:
            raise HTTPError(400)

    running = run_app(app)
    client = running.connect()
    for n in range(60):
        client.get(f"/{n}")
    tasks = running.call(asyncio.all_tasks)
    assert all("handler" not in repr(task) for task in tasks)


def test_all_tasks_never_shows_a_task_that_is_not_real(run_app) -> None:
    app = App()
    seen = []

    @app.get("/")
    async def handler():
        asyncio.current_task()
        seen.append([repr(task) for task in asyncio.all_tasks()])

    client = run_app(app).connect()
    for _ in range(3):
        assert client.get("/").status == 204
    assert len(seen) == 3


# ---- twenty thousand requests of a kind ----------------------------------------------------------


def memory_kib() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4


KINDS = ["sync", "eager", "suspended", "looked at", "raised", "raised later", "stream", "circle"]
LEAVING = ["cancelled", "stream cut"]


@pytest.fixture
def leaky_app() -> App:
    """Whatever can be left behind: tasks, contexts, exceptions, iterators, requests."""
    app = App()

    @app.get("/sync")
    def sync(request):
        return {"path": request.path}

    @app.get("/eager")
    async def eager(request):
        return request.headers["host"]

    @app.get("/suspended")
    async def suspended(request):
        await asyncio.sleep(0)
        return request.target

    @app.get("/looked at")
    async def looked_at(request):
        async with asyncio.timeout(10):
            return asyncio.current_task().get_name()

    @app.get("/raised")
    async def raised(request):
        raise HTTPError(418)

    @app.get("/raised later")
    async def raised_later(request):
        await asyncio.sleep(0)
        raise HTTPError(418)

    @app.get("/stream")
    async def stream(request):
        yield b"a"
        await asyncio.sleep(0)
        yield b"b"

    @app.get("/circle")
    async def circle(request):
        request.state["request"] = request
        colour.set(request.query.get("x", "blue"))
        return request.cookies

    @app.get("/cancelled")
    async def cancelled(request):
        await asyncio.sleep(60)

    @app.get("/stream cut")
    async def stream_cut(request):
        yield b"a"
        await asyncio.sleep(60)

    return app


def settled(running) -> tuple[int, int]:
    running.call(lambda: None)
    gc.collect()
    gc.collect()
    return len(gc.get_objects()), memory_kib()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_requests_leave_nothing_behind(run_app, leaky_app: App, kind: str) -> None:
    running = run_app(leaky_app)
    client = running.connect()
    raw = f"GET /{kind.replace(' ', '%20')} HTTP/1.1\r\nHost: t\r\n\r\n".encode() * 50

    def ask(count: int) -> None:
        for _ in range(count // 50):
            client.send(raw)
            for _ in range(50):
                client.reply()

    ask(2000)
    objects, kib = settled(running)
    ask(20_000)
    objects_after, kib_after = settled(running)
    assert running.server.served == 22_000
    assert objects_after - objects < 200
    assert kib_after - kib < 2000


@pytest.mark.slow
@pytest.mark.parametrize("kind", LEAVING)
def test_clients_that_leave_leave_nothing_behind(run_app, leaky_app: App, eventually, kind) -> None:
    running = run_app(leaky_app)
    target = "/" + kind.replace(" ", "%20")

    def leave(count: int) -> None:
        for _ in range(count // 50):
            clients = [running.connect() for _ in range(50)]
            for client in clients:
                client.ask("GET", target)
            for client in clients:
                if kind == "stream cut":
                    client.head()
                client.reset()
            running._clients.clear()
        eventually(lambda: running.server.connections == 0)

    leave(1000)
    objects, kib = settled(running)
    leave(20_000)
    objects_after, kib_after = settled(running)
    assert objects_after - objects < 200
    assert kib_after - kib < 3000
    assert running.call(lambda: len(asyncio.all_tasks())) <= 2
