"""An application: its routes, and what runs before and after it serves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

from flowcore.http.router import Router

__all__ = ["App"]

Handler = TypeVar("Handler", bound=Callable[..., Any])
Hook = TypeVar("Hook", bound=Callable[[], Awaitable[None] | None])


class App:
    """A web application.

    ::

        app = App()

        @app.get("/users/{id:int}")
        async def user(request, id):
            return {"id": id}

    A handler is ``async def`` or ``def``; a plain ``def`` is called on the loop and must not block.
    It receives the path's parameters by their names, and the ``Request`` as its one other argument,
    which may be left out. It returns a ``Response``, ``str``, ``bytes``, ``dict`` or ``list`` (sent
    as JSON), ``None`` (204), an asynchronous iterator (sent as it comes), or ``(body, status)``.
    What it raises becomes 500 and is logged; ``HTTPError`` becomes its status.

    A path is literal but for ``{name}`` (one segment) and ``{name:kind}``, where kind is ``str``,
    ``int``, ``float``, ``uuid`` or, at the end of a path, ``path``. GET answers HEAD too; OPTIONS
    and 405 are answered with the methods of the path.
    """

    def __init__(self) -> None:
        self.router = Router()
        self._startup: list[Callable[[], Awaitable[None] | None]] = []
        self._drain: list[Callable[[], Awaitable[None] | None]] = []
        self._shutdown: list[Callable[[], Awaitable[None] | None]] = []

    def route(self, path: str, methods: Iterable[str] = ("GET",)) -> Callable[[Handler], Handler]:
        """Decorates a handler for several methods of a path.

        Raises:
            InvalidArgument: the path is malformed, a method unknown, the place taken, or the
                handler's parameters do not fit the path.
        """
        names = [methods] if isinstance(methods, str) else list(methods)

        def add(handler: Handler) -> Handler:
            for name in names:
                self.router.add(name.upper(), path, handler)
            return handler

        return add

    def get(self, path: str) -> Callable[[Handler], Handler]:
        """Decorates a handler for GET, and HEAD."""
        return self.route(path, ("GET",))

    def head(self, path: str) -> Callable[[Handler], Handler]:
        """Decorates a handler for HEAD, in place of the GET handler."""
        return self.route(path, ("HEAD",))

    def post(self, path: str) -> Callable[[Handler], Handler]:
        """Decorates a handler for POST."""
        return self.route(path, ("POST",))

    def put(self, path: str) -> Callable[[Handler], Handler]:
        """Decorates a handler for PUT."""
        return self.route(path, ("PUT",))

    def patch(self, path: str) -> Callable[[Handler], Handler]:
        """Decorates a handler for PATCH."""
        return self.route(path, ("PATCH",))

    def delete(self, path: str) -> Callable[[Handler], Handler]:
        """Decorates a handler for DELETE."""
        return self.route(path, ("DELETE",))

    def options(self, path: str) -> Callable[[Handler], Handler]:
        """Decorates a handler for OPTIONS, in place of the built-in answer."""
        return self.route(path, ("OPTIONS",))

    def on_startup(self, hook: Hook) -> Hook:
        """Decorates what runs in each process before it accepts connections, in the order added."""
        self._startup.append(hook)
        return hook

    def on_drain(self, hook: Hook) -> Hook:
        """Decorates what runs when the server begins to shut down, in the order added, while what
        is in flight goes on: the place to tell endless streams to end."""
        self._drain.append(hook)
        return hook

    def on_shutdown(self, hook: Hook) -> Hook:
        """Decorates what runs after the last connection has closed, in the reverse order."""
        self._shutdown.append(hook)
        return hook

    async def startup(self) -> None:
        """Runs the start-up hooks; the server calls it."""
        for hook in self._startup:
            await _call(hook)

    async def drain(self) -> None:
        """Runs the drain hooks; the server calls it."""
        for hook in self._drain:
            await _call(hook)

    async def shutdown(self) -> None:
        """Runs the shut-down hooks; the server calls it."""
        for hook in reversed(self._shutdown):
            await _call(hook)

    def run(
        self,
        host: str | None = "127.0.0.1",
        port: int = 8000,
        *,
        unix: str | None = None,
        workers: int = 1,
        access_log: bool = False,
        **limits: Any,
    ) -> None:
        """Serves until SIGTERM or SIGINT, then finishes what is in flight and returns.

        Args:
            unix: the path of a Unix socket to listen on, in place of host and port.
            workers: processes; more than one share the address by SO_REUSEPORT, and one that dies
                is replaced.
            access_log: log a line for each request to the logger ``flowcore.access``.
            limits: fields of ``ServerConfig``.

        Raises:
            OSError: the address cannot be listened on.
            InvalidArgument: an argument is out of its range.
        """
        from flowcore.http.run import run_app

        run_app(
            self, host, port, unix=unix, workers=workers, access_log=access_log, limits=limits
        )


async def _call(hook: Callable[[], Awaitable[None] | None]) -> None:
    result = hook()
    if result is not None:
        await result
