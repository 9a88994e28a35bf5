"""Peers that leave at the worst moment: half-closed, reset, in each phase of a request."""

from collections.abc import Iterator

import pytest
from harness.peers import REQUEST, Bystander
from harness.served import Sut, until

MIB = 1024 * 1024
COUNT = 50


@pytest.fixture(scope="module")
def server() -> Iterator[Sut]:
    with Sut(idle_timeout_s=5, head_timeout_s=5, body_timeout_s=5) as sut:
        yield sut


PHASES = {
    "at-once": b"",
    "in-head": b"GET / HTTP/1.1\r\nHost: x\r\nX-Half: ",
    "in-body": b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + b"a" * 500,
    "in-chunk": b"POST /upload HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nab",
    "in-handler": b"GET /slow/30.0 HTTP/1.1\r\nHost: x\r\n\r\n",
    "in-reply": b"GET /big/33554432 HTTP/1.1\r\nHost: x\r\n\r\n",
    "in-stream": b"GET /stream/268435456 HTTP/1.1\r\nHost: x\r\n\r\n",
    "in-pipeline": (REQUEST + b"GET /slow/30.0 HTTP/1.1\r\nHost: x\r\n\r\n") + REQUEST * 20,
}


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("way", ["reset", "close"])
def test_gone(server: Sut, phase: str, way: str) -> None:
    count = 10 if phase in ("in-reply", "in-stream") else COUNT
    with server.unharmed(grows_bytes=8 * MIB), Bystander(server.port):
        before = server.stats()
        peers = [server.peer() for _ in range(count)]
        for peer in peers:
            peer.send(PHASES[phase])
        if phase in ("in-handler", "in-stream", "in-pipeline"):
            until(lambda: server.stats().get("started", 0) == before.get("started", 0) + count, 5,
                  "all handlers run")
        elif phase == "in-reply":
            for peer in peers:
                assert peer.heard(5)
        for peer in peers:
            getattr(peer, way)()
        until(lambda: server.stats()["connections"] == 1, 4, "all but one are gone")
        after = server.stats()
        if phase in ("in-handler", "in-pipeline"):
            assert after["cancelled"] - before.get("cancelled", 0) == count
        if phase == "in-stream":
            assert after["closed"] - before.get("closed", 0) == count
            assert after.get("finished", 0) == before.get("finished", 0)


def test_half_close_after_requests_is_answered(server: Sut) -> None:
    with server.unharmed(), server.peer() as peer:
        peer.send(REQUEST * 3)
        peer.half_close()
        for _ in range(3):
            assert peer.reply().text == "hello"
        assert peer.ends()


def test_half_close_still_gets_a_long_reply(server: Sut) -> None:
    with server.unharmed(grows_bytes=16 * MIB), Bystander(server.port), server.peer() as peer:
        peer.get(f"/big/{8 * MIB}")
        peer.half_close()
        assert len(peer.reply().body) == 8 * MIB
        assert peer.ends()


def test_half_close_with_a_handler_under_way_cancels_it(server: Sut) -> None:
    """It looks the same as a plain close: nobody is taken to wait."""
    with server.unharmed():
        before = server.stats().get("cancelled", 0)
        with server.peer() as peer:
            peer.get("/slow/30.0")
            assert not peer.heard(0.2)
            peer.half_close()
            assert peer.ends()
        assert server.stats()["cancelled"] == before + 1


@pytest.mark.parametrize("phase", ["in-head", "in-body", "in-chunk"])
def test_half_close_in_a_request_ends_it(server: Sut, phase: str) -> None:
    with server.unharmed(), Bystander(server.port):
        peers = [server.peer() for _ in range(COUNT)]
        for peer in peers:
            peer.send(PHASES[phase])
            peer.half_close()
        for peer in peers:
            assert peer.ends(3)
            peer.close()
