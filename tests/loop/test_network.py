"""What is inherited from asyncio, on this reactor: streams, TLS, datagrams, processes, names."""

import asyncio
import hashlib
import shutil
import socket
import ssl
import subprocess
import sys

import pytest


async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def round_trip(reader, writer, size=1_000_000):
    sent = bytes(range(256)) * (size // 256)
    writer.write(sent)
    got = await reader.readexactly(len(sent))
    writer.close()
    await writer.wait_closed()
    return hashlib.sha256(got).digest() == hashlib.sha256(sent).digest()


def test_tcp_streams(loop):
    async def main():
        async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
            address = server.sockets[0].getsockname()

            async def client():
                return await round_trip(*await asyncio.open_connection(*address))

            assert all(await asyncio.gather(*(client() for _ in range(10))))

    loop.run_until_complete(main())


def test_unix_streams(loop, tmp_path):
    async def main():
        path = str(tmp_path / "s")
        async with await asyncio.start_unix_server(echo, path):
            assert await round_trip(*await asyncio.open_unix_connection(path))

    loop.run_until_complete(main())


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    if not shutil.which("openssl"):
        pytest.skip("needs the openssl command")
    where = tmp_path_factory.mktemp("tls")
    cert, key = where / "cert.pem", where / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        + ["-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout", key, "-out", cert]
        + ["-addext", "subjectAltName=DNS:localhost"],
        check=True,
        capture_output=True,
    )
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(cert, key)
    return server, ssl.create_default_context(cafile=cert)


def test_tls_streams(loop, certificate):
    async def main():
        server_side, client_side = certificate
        async with await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_side) as server:
            host, port = server.sockets[0].getsockname()
            streams = await asyncio.open_connection(
                host, port, ssl=client_side, server_hostname="localhost"
            )
            assert await round_trip(*streams)

    loop.run_until_complete(main())


def test_start_tls(loop, certificate):
    server_side, client_side = certificate

    async def handle(reader, writer):
        assert await reader.readline() == b"STARTTLS\n"
        writer.write(b"OK\n")
        await writer.drain()
        await writer.start_tls(server_side)
        await echo(reader, writer)

    async def main():
        async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"STARTTLS\n")
            assert await reader.readline() == b"OK\n"
            await writer.start_tls(client_side, server_hostname="localhost")
            assert await round_trip(reader, writer, 100_000)

    loop.run_until_complete(main())


def test_protocols_see_their_callbacks_in_order(loop):
    calls = []

    class Server(asyncio.Protocol):
        def connection_made(self, transport):
            calls.append("made")
            self.transport = transport

        def data_received(self, data):
            calls.append(data)
            self.transport.write(data.upper())

        def eof_received(self):
            calls.append("eof")

        def connection_lost(self, error):
            calls.append(("lost", error))
            lost.set_result(None)

    lost = loop.create_future()

    async def main():
        server = await loop.create_server(Server, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"abc")
        assert await reader.readexactly(3) == b"ABC"
        writer.write_eof()
        await lost
        assert await reader.read() == b""
        writer.close()
        server.close()
        await server.wait_closed()

    loop.run_until_complete(main())
    assert calls == ["made", b"abc", "eof", ("lost", None)]


def test_datagrams(loop):
    class Echo(asyncio.DatagramProtocol):
        def connection_made(self, transport):
            self.transport = transport

        def datagram_received(self, data, address):
            self.transport.sendto(data[::-1], address)

    class Client(asyncio.DatagramProtocol):
        def datagram_received(self, data, _):
            got.set_result(data)

    got = loop.create_future()

    async def main():
        server, _ = await loop.create_datagram_endpoint(Echo, ("127.0.0.1", 0))
        client, _ = await loop.create_datagram_endpoint(
            Client, remote_addr=server.get_extra_info("sockname")
        )
        client.sendto(b"abc")
        assert await asyncio.wait_for(got, 5) == b"cba"
        client.close()
        server.close()
        await asyncio.sleep(0)

    loop.run_until_complete(main())


def test_sock_calls(loop):
    async def main():
        with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as client:
            server.setblocking(False)
            client.setblocking(False)
            accepting = asyncio.ensure_future(loop.sock_accept(server))
            await loop.sock_connect(client, server.getsockname())
            peer, _ = await accepting
            with peer:
                receiving = asyncio.ensure_future(loop.sock_recv(peer, 100))
                await asyncio.sleep(0.01)
                await loop.sock_sendall(client, b"abc")
                assert await receiving == b"abc"
                abandoned = asyncio.ensure_future(loop.sock_recv(peer, 100))
                await asyncio.sleep(0.01)
                abandoned.cancel()
                await asyncio.sleep(0)
                assert loop.remove_reader(peer) is False

    loop.run_until_complete(main())


def test_sendfile(loop, tmp_path):
    content = b"0123456789" * 50_000
    path = tmp_path / "file"
    path.write_bytes(content)

    async def handle(reader, writer):
        with path.open("rb") as file:
            await loop.sendfile(writer.transport, file)
        writer.close()

    async def main():
        async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            assert await reader.read() == content
            writer.close()

    loop.run_until_complete(main())


def test_backpressure_reaches_the_writer(loop):
    async def main():
        stalled, served = asyncio.Event(), asyncio.Event()

        async def handle(reader, writer):
            await stalled.wait()
            while await reader.read(1 << 20):
                pass
            writer.close()
            served.set()

        async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
            _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"x" * (32 << 20))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(writer.drain(), 0.05)
            stalled.set()
            await asyncio.wait_for(writer.drain(), 20)
            writer.close()
            await writer.wait_closed()
            await served.wait()

    loop.run_until_complete(main())


def test_names(loop):
    async def main():
        found = await loop.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM)
        assert {entry[4][1] for entry in found} == {80}
        assert await loop.getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICHOST) == (
            "127.0.0.1",
            socket.getnameinfo(("127.0.0.1", 80), 0)[1],
        )

    loop.run_until_complete(main())


def test_processes(loop):
    code = "import sys; sys.stdout.write(sys.stdin.read().upper()); sys.exit(3)"

    async def main():
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        out, _ = await asyncio.wait_for(process.communicate(b"text" * 10_000), 30)
        assert out == b"TEXT" * 10_000
        assert process.returncode == 3
        sleeper = await asyncio.create_subprocess_shell("sleep 100")
        sleeper.kill()
        assert await asyncio.wait_for(sleeper.wait(), 30) == -9

    loop.run_until_complete(main())


def test_pipes(loop):
    import os

    async def main():
        read_end, write_end = os.pipe()
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read_end, "rb", 0)
        )
        transport, _ = await loop.connect_write_pipe(
            asyncio.BaseProtocol, os.fdopen(write_end, "wb", 0)
        )
        transport.write(b"through")
        assert await reader.readexactly(7) == b"through"
        transport.close()
        assert await reader.read() == b""

    loop.run_until_complete(main())
