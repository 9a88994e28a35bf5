"""Listening sockets: bound, with the options a server wants, and accepting."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat

from flowcore.errors import InvalidArgument

__all__ = ["CannotListen", "bind_tcp", "bind_unix", "describe"]


class CannotListen(OSError):
    """An address cannot be listened on; the text names it and says why."""


def _refused(where: str, exc: OSError) -> CannotListen:
    return CannotListen(exc.errno, f"cannot listen on {where}: {exc.strerror}")


def bind_tcp(
    host: str | None,
    port: int,
    *,
    backlog: int = 2048,
    reuse_port: bool = False,
    listen: bool = True,
) -> list[socket.socket]:
    """Listens on every address that ``host`` stands for.

    Args:
        host: a name or a literal address; None or ``""``: all addresses of the machine.
        port: 0 chooses a free one, the same for all addresses.
        backlog: length of the accept queue; the kernel caps it (``net.core.somaxconn``).
        reuse_port: set SO_REUSEPORT, for several processes on one address.
        listen: False only binds, which reserves the address.

    Raises:
        InvalidArgument: the port is out of range.
        CannotListen: the name does not resolve, or the address is taken or not the machine's.
    """
    if not 0 <= port <= 65535:
        raise InvalidArgument(f"a port is from 0 to 65535, not {port}")
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as exc:
        raise _refused(f"{host} port {port}", exc) from None
    sockets: list[socket.socket] = []
    with contextlib.ExitStack() as undo:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            sock = undo.enter_context(socket.socket(family, kind, protocol))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            # Accepted sockets inherit it: replies are gathered already, Nagle only delays them.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if reuse_port:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if port == 0 and sockets:
                address = (address[0], sockets[0].getsockname()[1], *address[2:])
            try:
                sock.bind(address)
                # Here too an address can turn out to be taken.
                if listen:
                    sock.listen(backlog)
            except OSError as exc:
                raise _refused(" port ".join(map(str, address[:2])), exc) from None
            sock.setblocking(False)
            sockets.append(sock)
        undo.pop_all()
    return sockets


class _UnixListener(socket.socket):
    """Takes its file along when it is closed, unless that is somebody else's by then."""

    _file: tuple[str, int] | None = None

    def own(self, path: str) -> None:
        self._file = path, os.stat(path).st_ino

    def close(self) -> None:
        super().close()
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):
                if os.stat(file[0]).st_ino == file[1]:
                    os.unlink(file[0])


def bind_unix(path: str | os.PathLike[str], *, backlog: int = 2048) -> socket.socket:
    """Listens on a Unix socket. One that a dead process left behind is replaced; closing the
    socket removes its file.

    Raises:
        CannotListen: something lives at the path, or is no socket, or there is no such directory.
    """
    name = os.fspath(path)
    sock = _UnixListener(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if _is_left_behind(name):
            os.unlink(name)
        sock.bind(name)
        sock.own(name)
        sock.listen(backlog)
        sock.setblocking(False)
    except OSError as exc:
        sock.close()
        # A path that is too long has no errno.
        raise CannotListen(exc.errno, f"cannot listen on {name}: {exc.strerror or exc}") from None
    return sock


def _is_left_behind(path: str) -> bool:
    """Whether a socket is at the path that nobody listens on."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return False
    except FileNotFoundError:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        # A listener with a full queue is alive, and is not to be waited for.
        probe.setblocking(False)
        return probe.connect_ex(path) == errno.ECONNREFUSED


def describe(sock: socket.socket, scheme: str = "http") -> str:
    """A listening socket as a URL.

    ``http://127.0.0.1:8000``, ``http://[::1]:8000``, ``unix:/path``.
    """
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return f"unix:{name}"
    host = f"[{name[0]}]" if sock.family == socket.AF_INET6 else name[0]
    return f"{scheme}://{host}:{name[1]}"
