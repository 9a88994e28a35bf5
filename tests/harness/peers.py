"""Peers of a server at the level of sockets: good, slow, rude."""

import socket
import struct
import threading
import time
from dataclasses import dataclass, field

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class Ended(Exception):
    """The connection ended before a whole reply had come; what had come is the text."""


@dataclass
class Reply:
    """A whole reply."""

    status: int
    headers: dict[str, str]
    body: bytes = b""
    interim: list[int] = field(default_factory=list)

    @property
    def text(self) -> str:
        return self.body.decode()


class Peer:
    """A client's socket that speaks as it is told to."""

    def __init__(
        self, port: int, *, timeout_s: float = 10, receive_bytes: int | None = None
    ) -> None:
        self.sock = socket.socket()
        if receive_bytes:
            # Before connecting, else the window has been announced.
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.sock.settimeout(timeout_s)
        self.sock.connect(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._read = b""

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def get(self, target: str = "/", *, close: bool = False) -> None:
        connection = "Connection: close\r\n" if close else ""
        self.send(f"GET {target} HTTP/1.1\r\nHost: x\r\n{connection}\r\n".encode())

    def drip(self, data: bytes, every_s: float) -> None:
        """Byte by byte, until the server has had enough of it."""
        try:
            for byte in data:
                self.send(bytes([byte]))
                if self.heard(every_s):
                    return
        except OSError:
            return

    def heard(self, within_s: float) -> bool:
        """Whether something comes, be it the end."""
        self.sock.settimeout(within_s)
        try:
            self.sock.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            return False
        except OSError:
            return True
        finally:
            self.sock.settimeout(10)
        return True

    def _more(self) -> None:
        data = self.sock.recv(262144)
        if not data:
            raise Ended(self._read[:200])
        self._read += data

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._read:
            self._more()
        taken, _, self._read = self._read.partition(mark)
        return taken

    def _exactly(self, size: int) -> bytes:
        while len(self._read) < size:
            self._more()
        taken, self._read = self._read[:size], self._read[size:]
        return taken

    def _head(self) -> Reply:
        first, *lines = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        version, status, _ = first.split(" ", 2)
        assert version == "HTTP/1.1", first
        pairs = (line.split(": ", 1) for line in lines)
        return Reply(int(status), {name.lower(): value for name, value in pairs})

    def reply(self, *, head_only: bool = False) -> Reply:
        """The next whole reply; Ended or OSError if none comes."""
        reply, interim = self._head(), []
        while reply.status < 200:
            interim.append(reply.status)
            reply = self._head()
        reply.interim = interim
        if head_only or reply.status in (204, 304):
            return reply
        if reply.headers.get("transfer-encoding") == "chunked":
            while size := int(self._until(b"\r\n"), 16):
                reply.body += self._exactly(size)
                assert self._exactly(2) == b"\r\n"
            assert self._until(b"\r\n") == b""
        else:
            reply.body = self._exactly(int(reply.headers["content-length"]))
        return reply

    def ends(self, within_s: float = 5) -> bool:
        """Whether the server closes or cuts the connection in time; what comes before is lost."""
        end = time.monotonic() + within_s
        try:
            while (left := end - time.monotonic()) > 0:
                self.sock.settimeout(left)
                if not self.sock.recv(262144):
                    return True
        except TimeoutError:
            return False
        except OSError:
            return True
        return False

    def half_close(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Gone without a goodbye: the server sees a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        self.sock.close()


class Bystander:
    """Well behaved, on one connection, all the while: is it served, and how soon?

    Leaving the context fails if a request was not answered, or one took longer than `bound_s`.
    The bound is far above what a reply takes, as all tests share a few cores; what it finds is a
    server that waits for somebody.
    """

    def __init__(self, port: int, bound_s: float = 0.5) -> None:
        self.port, self.bound_s = port, bound_s
        self.took_s: list[float] = []
        self.failure: BaseException | None = None
        self._served, self._stop = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            with Peer(self.port) as peer:
                stop = False
                while not stop:
                    stop = self._stop.wait(0.005)
                    start = time.monotonic()
                    peer.send(REQUEST)
                    assert peer.reply().body == b"hello"
                    self.took_s.append(time.monotonic() - start)
                    self._served.set()
        except BaseException as failure:
            self.failure = failure
        self._served.set()

    def __enter__(self) -> "Bystander":
        self._thread.start()
        self._served.wait(15)
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._stop.set()
        self._thread.join(15)
        if kind:
            return
        assert self.failure is None, repr(self.failure)
        assert not self._thread.is_alive()
        assert self.took_s, "nothing was asked meanwhile"
        assert max(self.took_s) < self.bound_s
