"""Thousands of broken requests from a seeded generator, at the socket."""

import random
import re

import pytest
from harness.peers import REQUEST, Bystander, Peer
from harness.served import Sut

GOOD = [
    REQUEST,
    b"GET /headers?a=1&b=%20 HTTP/1.1\r\nHost: x\r\nCookie: a=b\r\nAccept: */*\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\nhello world",
    b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5\r\nhello\r\n6;a=b\r\n world\r\n0\r\nX-T: 1\r\n\r\n",
    b"HEAD / HTTP/1.0\r\n\r\n",
    b"GET /stream/70000 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /upload HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
    b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
]
TOKENS = [
    b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\0", b"\xff", b" ", b"\t", b":", b"0", b"-1", b";", b"%",
    b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: y\r\n", b"HTTP/1.1",
    b"ffffffffffffffff", b"GET ", b"\x16\x03\x01\x02\x00", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
]  # fmt: skip
STATUS = re.compile(rb"HTTP/1\.1 ([1-5]\d\d) ")


def mutated(dice: random.Random) -> bytes:
    """A good request, or several, with some damage; or nothing but noise."""
    if dice.random() < 0.1:
        return dice.randbytes(dice.randrange(1, 2000))
    data = bytearray(b"".join(dice.choices(GOOD, k=dice.randrange(1, 4))))
    for _ in range(dice.randrange(1, 6)):
        at, kind = dice.randrange(len(data) + 1), dice.randrange(6)
        if kind == 0:
            data[at : at + 1] = dice.randbytes(1)
        elif kind == 1:
            del data[at : at + dice.randrange(1, 20)]
        elif kind == 2:
            data[at:at] = dice.choice(TOKENS)
        elif kind == 3:
            data[at:at] = data[at : at + dice.randrange(1, 60)]
        elif kind == 4:
            del data[at:]
        else:
            data[at:at] = dice.choice(TOKENS) * dice.randrange(1, 300)
    return bytes(data)


def exchange(peer: Peer, data: bytes, dice: random.Random) -> bytes:
    """Sends it in one to three pieces and returns all that comes back."""
    cut = sorted(dice.randrange(len(data) + 1) for _ in range(dice.randrange(3)))
    got = b""
    try:
        for start, end in zip([0, *cut], [*cut, len(data)], strict=True):
            peer.send(data[start:end])
        peer.half_close()
        while piece := peer.sock.recv(65536):
            got += piece
    except ConnectionError:
        pass
    return got


@pytest.mark.parametrize("seed", range(4))
def test_noise_never_stops_the_server(seed: int) -> None:
    dice = random.Random(seed)
    statuses: dict[int, int] = {}
    with Sut(linger_timeout_s=0.5) as server, server.unharmed(), Bystander(server.port):
        for n in range(1000):
            data = mutated(dice)
            with server.peer() as peer:
                got = exchange(peer, data, dice)
            if got:
                found = STATUS.match(got)
                assert found, (data, got[:200])
                status = int(found[1])
                statuses[status] = statuses.get(status, 0) + 1
                # A 500 is a failure in the server's own code.
                assert b"HTTP/1.1 500" not in got, data
            if n % 50 == 0:
                assert server.get("/") == "hello"
        stats = server.stats()
        assert stats["refused"] > 100
    # Damage of each kind was met, and some of it harmless.
    assert {200, 400, 404} <= set(statuses), statuses
