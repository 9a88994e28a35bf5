"""Peers that send as fast as they can, and too much: what a connection may hold is bounded."""

import contextlib
from collections.abc import Iterator

import pytest
from harness.peers import REQUEST, Bystander, Peer
from harness.served import Sut, until

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def server() -> Iterator[Sut]:
    with Sut(send_timeout_s=1) as sut:
        yield sut


def pour(peer: Peer, data: bytes, at_most: int) -> int:
    """Sends without reading, until the server takes no more or cuts. Returns the bytes sent."""
    total, rest = 0, memoryview(data)
    peer.sock.settimeout(0.3)
    with contextlib.suppress(OSError):
        while total < at_most:
            count = peer.sock.send(rest)
            total += count
            rest = rest[count:] if count < len(rest) else memoryview(data)
    peer.sock.settimeout(10)
    return total


@pytest.mark.parametrize("target", ["/", "/big/20000", "/slow/30.0", "/nowhere"])
def test_pipelining_without_reading_is_bounded(server: Sut, target: str) -> None:
    request = f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    count, most = 8, 24 * MIB
    with server.unharmed(grows_bytes=6 * MIB), Bystander(server.port):
        rss = server.rss_bytes()
        peers = [server.peer(receive_bytes=4096) for _ in range(count)]
        for peer in peers:
            assert pour(peer, request * 500, most) < most
        # In and out: 128 KiB each by the limits, and the block each is grown into.
        assert server.rss_bytes() - rss < count * MIB
        if target == "/slow/30.0":
            for peer in peers:
                peer.reset()
        until(lambda: server.stats()["connections"] == 1, 8, "all but one are cut")
        for peer in peers:
            peer.close()


def test_pipelining_with_reading_is_answered_in_order(server: Sut) -> None:
    with server.unharmed(), Bystander(server.port), server.peer() as peer:
        for _ in range(20):
            for n in range(100):
                body = b"%d" % n
                peer.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s"
                          % (len(body), body))
            assert [peer.reply().text for _ in range(100)] == [str(n) for n in range(100)]


def lines(count: int, size: int = 10) -> bytes:
    return b"".join(b"X-%d: %s\r\n" % (n, b"v" * size) for n in range(count))


POST = b"POST /upload HTTP/1.1\r\nHost: x\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
TOO_MUCH = {
    "fields": (431, b"GET / HTTP/1.1\r\nHost: x\r\n" + lines(200)),
    "field": (431, b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"v" * 40_000),
    "endless-field": (431, b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"v" * 5 * MIB),
    "endless-fields": (431, b"GET / HTTP/1.1\r\nHost: x\r\n" + lines(50, 1000) * 100),
    "target": (414, b"GET /" + b"a" * 10_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"),
    "endless-target": (414, b"GET /" + b"a" * 5 * MIB),
    "length": (413, POST + b"Content-Length: 17000000\r\n\r\n" + bytes(MIB)),
    "length-digits": (400, POST + b"Content-Length: " + b"9" * 40 + b"\r\n\r\n"),
    "chunks": (413, CHUNKED + (b"100000\r\n" + bytes(MIB) + b"\r\n") * 17),
    "chunk": (413, CHUNKED + b"fffffff\r\n"),
    "chunk-extension": (400, CHUNKED + b"1;" + b"x" * 10_000),
    "chunk-extensions": (400, CHUNKED + b"1;abcdef\r\na\r\n" * 2000),
    "endless-chunk-extension": (400, CHUNKED + b"1;" + b"x" * 5 * MIB),
    "trailer-fields": (431, CHUNKED + b"0\r\n" + lines(200)),
}


@pytest.mark.parametrize("what", TOO_MUCH)
def test_too_much_of_one_thing_is_refused(server: Sut, what: str) -> None:
    """The peer gets to read why, although it sends all it has before it reads."""
    status, request = TOO_MUCH[what]
    with server.unharmed(grows_bytes=24 * MIB), Bystander(server.port), server.peer() as peer:
        peer.send(request)
        reply = peer.reply()
        assert reply.status == status, reply.text
        assert peer.ends()


def test_whoever_goes_on_sending_is_cut(server: Sut) -> None:
    most = 512 * MIB
    with server.unharmed(), Bystander(server.port), server.peer() as peer:
        peer.send(b"nonsense\r\n\r\n")
        assert pour(peer, bytes(MIB), most) < most


def test_announced_bodies_take_no_memory(server: Sut) -> None:
    with server.unharmed(), Bystander(server.port):
        rss = server.rss_bytes()
        peers = [server.peer() for _ in range(100)]
        for peer in peers:
            peer.send(POST + b"Content-Length: 16000000\r\n\r\n")
        assert server.get("/") == "hello"
        assert server.rss_bytes() - rss < 100 * 40_000
        for peer in peers:
            peer.reset()


def test_most_headers_that_are_allowed_are_served(server: Sut) -> None:
    with server.unharmed(), server.peer() as peer:
        peer.send(REQUEST[:-2] + lines(99, 300) + b"\r\n")
        assert peer.reply().text == "hello"
