"""A real server on a loop and thread of its own, and a client that speaks through a bare socket."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import queue
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

import flowcore
from flowcore.http import App, Server, serve

PATIENCE_S = 10.0
"""For what must come; a test that waits this long has failed."""


@dataclass
class Reply:
    """One reply as it stood on the wire."""

    status: int
    reason: str
    version: str
    fields: list[tuple[str, str]]
    body: bytes = b""
    chunks: list[bytes] = field(default_factory=list)

    def header(self, name: str) -> str | None:
        """The one value of that name; a name that stands twice fails the test."""
        found = self.all(name)
        assert len(found) < 2, f"{name} stands {len(found)} times"
        return found[0] if found else None

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key.lower() == name.lower()]

    @property
    def text(self) -> str:
        return self.body.decode()


class Client:
    """A connection. Replies are parsed to the letter: what is not as RFC 9112 says fails."""

    def __init__(self, address: Any, timeout_s: float = PATIENCE_S) -> None:
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        if isinstance(address, tuple) and ":" in address[0]:
            family = socket.AF_INET6
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        self.sock.settimeout(timeout_s)
        self.sock.connect(address)
        if family != socket.AF_UNIX:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._unread = b""

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def ask(
        self,
        method: str,
        target: str,
        headers: dict[str, str] | list[tuple[str, str]] | None = None,
        body: bytes = b"",
    ) -> None:
        """Sends a request without waiting for its reply."""
        pairs = list(headers.items()) if isinstance(headers, dict) else list(headers or [])
        names = {name.lower() for name, _ in pairs}
        if "host" not in names:
            pairs.insert(0, ("Host", "test"))
        if body and "content-length" not in names:
            pairs.append(("Content-Length", str(len(body))))
        lines = "".join(f"{name}: {value}\r\n" for name, value in pairs)
        self.send(f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + body)

    def request(self, method: str, target: str, headers: Any = None, body: bytes = b"") -> Reply:
        self.ask(method, target, headers, body)
        return self.reply(head=method == "HEAD")

    def get(self, target: str, headers: Any = None) -> Reply:
        return self.request("GET", target, headers)

    def post(self, target: str, body: bytes, headers: Any = None) -> Reply:
        return self.request("POST", target, headers, body)

    # ---- reading -------------------------------------------------------------------------------

    def _more(self) -> bool:
        data = self.sock.recv(1 << 18)
        self._unread += data
        return bool(data)

    def until(self, mark: bytes) -> bytes:
        while mark not in self._unread:
            assert self._more(), f"the connection ended before {mark!r}: {self._unread[:200]!r}"
        found, _, self._unread = self._unread.partition(mark)
        return found

    def exactly(self, count: int) -> bytes:
        parts = [self._unread]
        have = len(self._unread)
        while have < count:
            data = self.sock.recv(1 << 18)
            assert data, f"the connection ended {count - have} bytes early"
            parts.append(data)
            have += len(data)
        whole = b"".join(parts)
        self._unread = whole[count:]
        return whole[:count]

    def rest(self) -> bytes:
        """Everything up to the connection's end."""
        parts = [self._unread]
        while data := self.sock.recv(1 << 18):
            parts.append(data)
        self._unread = b""
        return b"".join(parts)

    def ended(self) -> bool:
        """Whether the server closes now, with nothing more to read. Waits for it."""
        try:
            return not self._unread and not self._more()
        except ConnectionResetError:
            return True

    def silent(self, for_s: float = 0.1) -> bool:
        """Whether nothing comes, not even the end."""
        before = self.sock.gettimeout()
        self.sock.settimeout(for_s)
        try:
            return not self._unread and bool(self.sock.recv(1, socket.MSG_PEEK)) and False
        except TimeoutError:
            return True
        finally:
            self.sock.settimeout(before)

    def head(self) -> Reply:
        line, *rows = self.until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        version, status, reason = line.split(" ", 2)
        assert version == "HTTP/1.1", line
        fields = []
        for row in rows:
            name, colon, value = row.partition(": ")
            assert colon and name and "\n" not in row, row
            fields.append((name, value))
        return Reply(int(status), reason, version, fields)

    def reply(self, head: bool = False) -> Reply:
        reply = self.head()
        coding, length = reply.header("transfer-encoding"), reply.header("content-length")
        assert coding is None or length is None, "both framings"
        if head or reply.status in (204, 304) or reply.status < 200:
            return reply
        if coding is not None:
            assert coding == "chunked"
            reply.chunks = list(self._chunks())
            reply.body = b"".join(reply.chunks)
        elif length is not None:
            reply.body = self.exactly(int(length))
        else:
            assert reply.header("connection") == "close", "a body without a length"
            reply.body = self.rest()
        return reply

    def _chunks(self) -> Iterator[bytes]:
        while True:
            size = int(self.until(b"\r\n"), 16)
            data = self.exactly(size)
            assert self.exactly(2) == b"\r\n"
            if not size:
                return
            yield data

    # ---- leaving -------------------------------------------------------------------------------

    def close(self) -> None:
        self.sock.close()

    def reset(self) -> None:
        """Leaves with a RST instead of a FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Running:
    """A server that runs on a loop and thread of its own."""

    server: Server
    loop: asyncio.AbstractEventLoop

    def __init__(self, app: App, **options: Any) -> None:
        self.app = app
        self.options = {"port": 0, **options}
        self.complaints: list[dict[str, Any]] = []
        """What the loop's exception handler was told: never anything in a healthy server."""
        self.outcome: BaseException | None = None
        self._clients: list[Client] = []
        self._started: queue.Queue[BaseException | None] = queue.Queue()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()
        failed = self._started.get(timeout=PATIENCE_S)
        if failed is not None:
            self.thread.join(PATIENCE_S)
            raise failed

    def _run(self) -> None:
        try:
            flowcore.run(self._main())
        except BaseException as exc:
            self.outcome = exc
            self._started.put(exc)

    async def _main(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.loop.set_exception_handler(lambda _, context: self.complaints.append(context))
        self._stop = asyncio.Event()
        self.server = await serve(self.app, **self.options)
        self._started.put(None)
        await self._stop.wait()
        await self.server.shutdown(0.5)

    @property
    def address(self) -> Any:
        return self.options.get("unix") or self.server.sockets[0].getsockname()[:2]

    def connect(self, timeout_s: float = PATIENCE_S) -> Client:
        client = Client(self.where, timeout_s)
        self._clients.append(client)
        return client

    @property
    def where(self) -> Any:
        """The address, also once the listening socket is closed."""
        if not hasattr(self, "_where"):
            self._where = self.address
        return self._where

    def request(self, method: str, target: str, headers: Any = None, body: bytes = b"") -> Reply:
        """One request on a connection of its own."""
        with Client(self.where) as client:
            return client.request(method, target, headers, body)

    def get(self, target: str, headers: Any = None) -> Reply:
        return self.request("GET", target, headers)

    def post(self, target: str, body: bytes, headers: Any = None) -> Reply:
        return self.request("POST", target, headers, body)

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Calls on the server's loop; a coroutine that comes out is awaited there."""

        async def there() -> Any:
            result = function(*args)
            return await result if asyncio.iscoroutine(result) else result

        return asyncio.run_coroutine_threadsafe(there(), self.loop).result(PATIENCE_S)

    def stop(self) -> None:
        if self.thread.is_alive():
            with contextlib.suppress(RuntimeError):
                self.loop.call_soon_threadsafe(self._stop.set)
            self.thread.join(PATIENCE_S)
            assert not self.thread.is_alive(), "the server does not stop"
        self.leave()

    def leave(self) -> None:
        for client in self._clients:
            client.close()


def eventually(condition: Callable[[], Any], within_s: float = PATIENCE_S) -> Any:
    """Waits for another thread to bring a condition about; returns what it gave."""
    until = time.monotonic() + within_s
    while not (result := condition()):
        assert time.monotonic() < until, "it never came about"
        time.sleep(0.002)
    return result


@pytest.fixture(name="eventually")
def _eventually() -> Callable[..., Any]:
    return eventually


@pytest.fixture
def run_app() -> Iterator[Callable[..., Running]]:
    """``run_app(app, **options of serve())``. Afterwards the loop must have had no complaints."""
    started: list[Running] = []

    def start(app: App, **options: Any) -> Running:
        started.append(running := Running(app, **options))
        return running

    yield start
    for running in started:
        # A server waits for clients that it has sent away to go.
        running.leave()
        running.stop()
    gc.collect()
    for running in started:
        assert not running.complaints, running.complaints
        assert running.outcome is None, running.outcome


@pytest.fixture
def connect_to() -> Iterator[Callable[..., Client]]:
    """``connect_to(address)``: a client of a server that is not ``run_app``'s."""
    with contextlib.ExitStack() as stack:
        yield lambda address, **kw: stack.enter_context(Client(address, **kw))
