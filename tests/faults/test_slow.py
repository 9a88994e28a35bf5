"""Peers that send or read a byte now and then: bounded in time, and in nobody else's way."""

import time
from collections.abc import Iterator

import pytest
from harness.peers import REQUEST, Bystander, Ended, Peer
from harness.served import Sut, until

HEAD_S = BODY_S = SEND_S = IDLE_S = 0.8
RATE = 10_000
COUNT = 30
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def server() -> Iterator[Sut]:
    with Sut(
        head_timeout_s=HEAD_S,
        body_timeout_s=BODY_S,
        min_body_bytes_per_s=RATE,
        send_timeout_s=SEND_S,
        idle_timeout_s=IDLE_S,
        linger_timeout_s=0.3,
    ) as sut:
        yield sut


def drip(peers: list[Peer], data: bytes, every_s: float) -> None:
    """A byte to each, round after round, until all have been answered."""
    for byte in data:
        peers = [peer for peer in peers if not peer.heard(0.0001)]
        if not peers:
            return
        for peer in peers:
            peer.send(bytes([byte]))
        time.sleep(every_s)
    raise AssertionError("the server listened to the end")


def connect(server: Sut, count: int = COUNT) -> list[Peer]:
    return [server.peer() for _ in range(count)]


def test_head_byte_by_byte_is_408(server: Sut) -> None:
    with server.unharmed(), Bystander(server.port):
        peers, start = connect(server), time.monotonic()
        drip(peers, b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: " + b"a" * 1000, 0.1)
        took_s = time.monotonic() - start
        assert HEAD_S <= took_s < HEAD_S + 2
        for peer in peers:
            reply = peer.reply()
            assert reply.status == 408
            assert reply.headers["connection"] == "close"
            assert peer.ends()
            peer.close()


def test_slow_second_head_of_a_connection_is_408(server: Sut) -> None:
    with server.unharmed(), server.peer() as peer:
        peer.get("/")
        assert peer.reply().status == 200
        peer.drip(b"GET / HTTP/1.1\r\n" + b"a" * 100, 0.1)
        assert peer.reply().status == 408


@pytest.mark.parametrize(
    ("head", "data"),
    [
        (b"Content-Length: 5000", b"a" * 1000),
        (b"Transfer-Encoding: chunked", b"1\r\na\r\n" * 200),
        (b"Transfer-Encoding: chunked", b"ffff;" + b"x" * 1000),
    ],
    ids=["length", "chunks", "chunk-extension"],
)
def test_body_byte_by_byte_is_408(server: Sut, head: bytes, data: bytes) -> None:
    with server.unharmed(), Bystander(server.port):
        peers, start = connect(server), time.monotonic()
        for peer in peers:
            peer.send(b"POST /upload HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n\r\n")
        drip(peers, data, 0.1)
        assert BODY_S <= time.monotonic() - start < BODY_S + 2
        for peer in peers:
            assert peer.reply().status == 408
            assert peer.ends()
            peer.close()


def test_body_that_stops_is_408(server: Sut) -> None:
    with server.unharmed(), server.peer() as peer:
        peer.send(b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\nhalf of it")
        assert peer.reply().status == 408


def test_body_above_the_least_rate_may_take_longer(server: Sut) -> None:
    pieces, piece = 40, bytes(RATE // 5)
    with server.unharmed(), Bystander(server.port), server.peer() as peer:
        start = time.monotonic()
        peer.send(b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
                  % (pieces * len(piece)))
        for _ in range(pieces):
            peer.send(piece)
            time.sleep(0.04)
        assert time.monotonic() - start > BODY_S
        reply = peer.reply()
        assert (reply.status, reply.text) == (200, str(pieces * len(piece)))


def test_idle_connections_are_closed_without_a_word(server: Sut) -> None:
    """So it goes for a peer that has vanished without a packet, too."""
    with server.unharmed(), Bystander(server.port):
        fresh, used = connect(server), connect(server)
        for peer in used:
            peer.send(REQUEST)
            assert peer.reply().status == 200
        start = time.monotonic()
        for peer in fresh + used:
            assert peer.heard(3)
            assert peer.sock.recv(1) == b""
            peer.close()
        assert time.monotonic() - start < IDLE_S + 2


def test_readers_that_never_read_are_cut(server: Sut) -> None:
    """Of a stream no more is made than fits the buffers, and the iterators are closed."""
    before = server.stats()
    count, size = 20, 64 * MIB
    with server.unharmed(grows_bytes=12 * MIB), Bystander(server.port):
        peers = [server.peer(receive_bytes=4096) for _ in range(count)]
        rss = server.rss_bytes()
        for peer in peers:
            peer.get(f"/stream/{size}")
        until(lambda: server.stats().get("started", 0) - before.get("started", 0) == count, 5,
              "all streams run")
        assert server.rss_bytes() - rss < count * MIB // 2
        until(lambda: server.stats()["connections"] == 1, SEND_S + 4, "all but one are cut")
        after = server.stats()
        assert after["closed"] - before.get("closed", 0) == count
        assert after.get("finished", 0) == before.get("finished", 0)
        # What the kernel took for each is some MiB; the rest was never made.
        assert (after["chunks"] - before.get("chunks", 0)) * 65536 < count * size / 4
        for peer in peers:
            with pytest.raises((Ended, OSError)):
                peer.reply()
            peer.close()


def test_large_body_nobody_reads_is_cut_and_freed(server: Sut) -> None:
    with server.unharmed(), Bystander(server.port):
        peers = [server.peer(receive_bytes=4096) for _ in range(4)]
        for peer in peers:
            peer.get(f"/big/{32 * MIB}")
        until(lambda: server.stats()["connections"] == 1, SEND_S + 4, "all but one are cut")
        for peer in peers:
            peer.close()


def test_reader_that_is_slow_but_reads_gets_all(server: Sut) -> None:
    size = 12 * MIB
    with server.unharmed(), Bystander(server.port), server.peer(receive_bytes=65536) as peer:
        peer.get(f"/big/{size}")
        start, got = time.monotonic(), 0
        while time.monotonic() - start < 2.5 * SEND_S:
            got += len(peer.sock.recv(65536))
            time.sleep(0.1)
        while got < size:
            data = peer.sock.recv(262144)
            assert data, f"cut after {got} bytes"
            got += len(data)
