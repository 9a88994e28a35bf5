"""http.client, urllib, httpx and aiohttp."""

import asyncio
import http.client
import random
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator

import pytest
from harness.served import Process

PAYLOAD = random.Random(2).randbytes(500_000)


def pieces() -> Iterator[bytes]:
    for at in range(0, len(PAYLOAD), 70_000):
        yield PAYLOAD[at : at + 70_000]


async def pieces_later() -> AsyncIterator[bytes]:
    for piece in pieces():
        await asyncio.sleep(0)
        yield piece


def test_http_client_keeps_its_connection(server: Process) -> None:
    conn = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    conn.request("GET", "/")
    assert conn.getresponse().read() == b"hello"
    local = conn.sock.getsockname()
    conn.request("POST", "/echo", body=PAYLOAD)
    assert conn.getresponse().read() == PAYLOAD
    conn.request("PUT", "/echo", body=pieces(), encode_chunked=True,
                 headers={"Transfer-Encoding": "chunked"})
    assert conn.getresponse().read() == PAYLOAD
    conn.request("HEAD", "/")
    reply = conn.getresponse()
    assert (reply.status, reply.getheader("content-length"), reply.read()) == (200, "5", b"")
    conn.request("GET", "/nowhere")
    reply = conn.getresponse()
    assert (reply.status, bool(reply.read())) == (404, True)
    conn.request("GET", "/stream/200000")
    assert conn.getresponse().read() == b"s" * 200_000
    assert conn.sock.getsockname() == local
    conn.close()


def test_urllib(url: str) -> None:
    with urllib.request.urlopen(url, timeout=10) as reply:
        assert (reply.status, reply.read()) == (200, b"hello")
    with urllib.request.urlopen(f"{url}/echo", data=PAYLOAD, timeout=10) as reply:
        assert reply.read() == PAYLOAD
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{url}/echo", timeout=10)
    assert refused.value.code == 405
    assert "POST" in refused.value.headers["Allow"]
    refused.value.close()


def test_httpx(url: str) -> None:
    httpx = pytest.importorskip("httpx")
    with httpx.Client(base_url=url, timeout=10) as client:
        reply = client.get("/")
        assert (reply.status_code, reply.text, reply.http_version) == (200, "hello", "HTTP/1.1")
        assert client.post("/echo", content=PAYLOAD).content == PAYLOAD
        assert client.post("/echo", content=pieces()).content == PAYLOAD
        assert client.post("/echo", json={"a": 1}).json() == {"a": 1}
        assert int(client.post("/upload", files={"file": PAYLOAD}).text) > len(PAYLOAD)
        with client.stream("GET", "/stream/1000000") as streamed:
            assert sum(map(len, streamed.iter_raw())) == 1_000_000
        with client.stream("GET", "/stream/100000000") as left:
            next(left.iter_raw())
        assert client.get("/", headers={"Connection": "close"}).text == "hello"


def test_aiohttp_many_at_once(url: str) -> None:
    aiohttp = pytest.importorskip("aiohttp")

    async def main() -> None:
        async with aiohttp.ClientSession(url) as session:

            async def each(n: int) -> str:
                async with session.post("/echo", data=str(n)) as reply:
                    assert reply.status == 200
                    return str(await reply.text())

            assert await asyncio.gather(*map(each, range(300))) == [str(n) for n in range(300)]
            async with session.post("/echo", data=pieces_later()) as reply:
                assert await reply.read() == PAYLOAD
            async with session.get("/stream/1000000") as reply:
                assert len(await reply.read()) == 1_000_000
            async with session.get("/headers", cookies={"a": "b"}) as reply:
                assert (await reply.json())["cookie"] == "a=b"

    asyncio.run(main())
