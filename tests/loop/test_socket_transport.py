"""The transport of stream sockets: what a protocol is told, in which order, and what is sent."""

import asyncio
import contextvars
import gc
import os
import socket
import struct
import weakref
from collections.abc import Coroutine
from typing import Any

import pytest

import flowcore
from flowcore.loop.socket_transport import SocketTransport


class Recorder(asyncio.Protocol):
    """Notes what it is told; `reply` is called with the transport and the data."""

    def __init__(self, reply: Any = None) -> None:
        self.events: list[str] = []
        self.data = bytearray()
        self.reply = reply
        self.lost: asyncio.Future[Exception | None] = (
            asyncio.get_running_loop().create_future()
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.events.append("made")

    def data_received(self, data: bytes) -> None:
        assert type(data) is bytes
        if not self.data:
            self.events.append("data")
        self.data += data
        if self.reply is not None:
            self.reply(self.transport, data)

    def eof_received(self) -> bool | None:
        self.events.append("eof")
        return None

    def pause_writing(self) -> None:
        self.events.append("pause")

    def resume_writing(self) -> None:
        self.events.append("resume")

    def connection_lost(self, error: Exception | None) -> None:
        self.events.append("lost")
        self.lost.set_result(error)


def run(main: Coroutine[Any, Any, Any]) -> Any:
    async def bounded() -> Any:
        async with asyncio.timeout(20):
            return await main

    with asyncio.Runner(loop_factory=flowcore.new_event_loop) as runner:
        return runner.run(bounded())


async def pair(protocol: Any) -> tuple[Any, socket.socket]:
    """A transport for `protocol`, and the socket at its other end."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    transport, _ = await asyncio.get_running_loop().create_connection(lambda: protocol, sock=ours)
    return transport, theirs


async def receive(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = await asyncio.get_running_loop().sock_recv(sock, count - len(data))
        if not piece:
            break
        data += piece
    return data


async def until(condition: Any) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def test_it_is_one_of_asyncios_transports() -> None:
    async def main() -> None:
        transport, peer = await pair(Recorder())
        assert isinstance(transport, asyncio.Transport | asyncio.WriteTransport)
        assert issubclass(transport.__class__, asyncio.Transport)
        assert repr(transport).startswith("<SocketTransport fd=")
        assert "read=polling write=<idle, bufsize=0>" in repr(transport)
        transport.close()
        assert "closing" in repr(transport)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert "closed" in repr(transport)
        peer.close()

    run(main())


def test_the_order_of_events() -> None:
    async def main() -> None:
        protocol = Recorder()
        transport, peer = await pair(protocol)
        await asyncio.get_running_loop().sock_sendall(peer, b"hello")
        await until(lambda: protocol.data == b"hello")
        peer.close()
        assert await protocol.lost is None
        assert protocol.events == ["made", "data", "eof", "lost"]
        assert transport.is_closing()

    run(main())


def test_what_came_before_the_protocol_was_ready_is_not_lost() -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        theirs.sendall(b"early")
        theirs.close()
        ours.setblocking(False)
        protocol = Recorder()
        await asyncio.get_running_loop().create_connection(lambda: protocol, sock=ours)
        await protocol.lost
        assert protocol.data == b"early"
        assert protocol.events == ["made", "data", "eof", "lost"]

    run(main())


def test_the_writes_of_a_turn_leave_together() -> None:
    async def main() -> None:
        transport, peer = await pair(Recorder())
        transport.write(b"a")
        transport.write(bytearray(b"b"))
        transport.write(memoryview(b"xcx")[1:2])
        transport.writelines([b"d", b"", bytearray(b"e")])
        transport.write(b"")
        assert transport.get_write_buffer_size() == 5
        with pytest.raises(BlockingIOError):
            peer.recv(1)
        assert await asyncio.get_running_loop().sock_recv(peer, 100) == b"abcde"
        assert transport.get_write_buffer_size() == 0
        transport.close()
        peer.close()

    run(main())


def test_what_is_changed_after_the_write_was_copied() -> None:
    async def main() -> None:
        transport, peer = await pair(Recorder())
        data = bytearray(b"x" * 50_000)
        transport.write(data)
        data[:] = b"y" * 50_000
        assert await receive(peer, 50_000) == b"x" * 50_000
        transport.close()
        peer.close()

    run(main())


@pytest.mark.parametrize("size", [1, 4095, 4096, 65_535, 65_536, 1_000_000, 5_000_000])
def test_any_size_arrives_whole(size: int) -> None:
    async def main() -> None:
        protocol = Recorder(lambda transport, data: transport.write(data))
        transport, peer = await pair(protocol)
        data = os.urandom(size)
        sending = asyncio.ensure_future(asyncio.get_running_loop().sock_sendall(peer, data))
        assert await receive(peer, size) == data
        await sending
        assert bytes(protocol.data) == data
        transport.close()
        peer.close()

    run(main())


def test_a_buffered_protocol_reads_into_its_own_memory() -> None:
    class Buffered(asyncio.BufferedProtocol):
        def __init__(self) -> None:
            self.memory = bytearray(1000)
            self.data = bytearray()
            self.hints: list[int] = []

        def get_buffer(self, sizehint: int) -> memoryview:
            self.hints.append(sizehint)
            return memoryview(self.memory)[10:]

        def buffer_updated(self, nbytes: int) -> None:
            self.data += self.memory[10 : 10 + nbytes]
            self.memory = bytearray(1000)  # nothing of the transport's holds the old one

    async def main() -> None:
        protocol = Buffered()
        transport, peer = await pair(protocol)
        data = os.urandom(100_000)
        await asyncio.get_running_loop().sock_sendall(peer, data)
        await until(lambda: len(protocol.data) == len(data))
        assert bytes(protocol.data) == data and set(protocol.hints) == {-1}
        transport.close()
        peer.close()

    run(main())


@pytest.mark.parametrize(
    "fault", ["get_buffer raises", "empty", "read-only", "no buffer", "buffer_updated raises"]
)
def test_a_buffered_protocol_that_fails_is_cut_off(fault: str) -> None:
    class Faulty(asyncio.BufferedProtocol):
        lost: Any = None

        def get_buffer(self, sizehint: int) -> Any:
            if fault == "get_buffer raises":
                raise LookupError
            return {"empty": bytearray(), "read-only": b"abc", "no buffer": 5}.get(
                fault, bytearray(10)
            )

        def buffer_updated(self, nbytes: int) -> None:
            raise LookupError

        def connection_lost(self, error: Any) -> None:
            self.lost = error

    async def main() -> None:
        reports: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, each: reports.append(each))
        protocol = Faulty()
        transport, peer = await pair(protocol)
        peer.send(b"x")
        await until(lambda: protocol.lost is not None)
        (report,) = reports
        call = "buffer_updated" if fault == "buffer_updated raises" else "get_buffer"
        assert report["message"] == f"Fatal error: protocol.{call}() call failed."
        assert report["exception"] is protocol.lost and report["transport"] is transport
        peer.close()

    run(main())


def test_a_buffer_is_released_also_by_a_protocol_that_aborts_when_asked_for_it() -> None:
    class Aborts(asyncio.BufferedProtocol):
        lost = False

        def __init__(self) -> None:
            self.memory = bytearray(10)

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def get_buffer(self, sizehint: int) -> bytearray:
            self.transport.abort()  # type: ignore[attr-defined]
            return self.memory

        def connection_lost(self, error: Any) -> None:
            self.lost = True

    async def main() -> None:
        protocol = Aborts()
        _, peer = await pair(protocol)
        peer.send(b"x")
        await until(lambda: protocol.lost)
        protocol.memory.clear()  # BufferError if anybody still holds it
        peer.close()

    run(main())


def test_there_is_no_transport_without_a_socket() -> None:
    with pytest.raises(TypeError):
        SocketTransport.__new__(SocketTransport)


@pytest.mark.parametrize("call", ["data_received", "eof_received"])
def test_a_protocol_that_raises_is_cut_off_and_reported(call: str) -> None:
    async def main() -> None:
        reports: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, each: reports.append(each))

        def fault(*_: Any) -> None:
            raise LookupError

        protocol = Recorder()
        setattr(protocol, call, fault)
        _, peer = await pair(protocol)
        peer.send(b"x")
        if call == "eof_received":
            peer.shutdown(socket.SHUT_WR)
        assert isinstance(await protocol.lost, LookupError)
        (report,) = reports
        assert report["message"] == f"Fatal error: protocol.{call}() call failed."
        peer.close()

    run(main())


def test_keyboard_interrupt_in_a_protocol_comes_out_of_the_loop() -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    async def main() -> Recorder:
        protocol = Recorder()
        protocol.data_received = interrupt  # type: ignore[method-assign]
        _, protocol.peer = await pair(protocol)  # type: ignore[attr-defined]
        protocol.peer.send(b"x")  # type: ignore[attr-defined]
        return protocol

    loop = flowcore.new_event_loop()
    protocol = loop.run_until_complete(main())
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    protocol.transport.close()
    assert loop.run_until_complete(protocol.lost) is None
    protocol.peer.close()  # type: ignore[attr-defined]
    loop.close()


def test_backpressure() -> None:
    async def main() -> None:
        protocol = Recorder()
        transport, peer = await pair(protocol)
        transport.set_write_buffer_limits(high=100_000, low=10_000)
        assert transport.get_write_buffer_limits() == (10_000, 100_000)
        data = os.urandom(3_000_000)
        transport.write(data)
        # The kernel took what it could at once; the rest is over the mark.
        assert protocol.events == ["made", "pause"]
        assert 100_000 < transport.get_write_buffer_size() < len(data)
        assert await receive(peer, len(data)) == data
        await until(lambda: protocol.events == ["made", "pause", "resume"])
        transport.close()
        peer.close()

    run(main())


@pytest.mark.parametrize(
    ("given", "limits"),
    [({}, (16_384, 65_536)), ({"high": 100}, (25, 100)), ({"low": 100}, (100, 400)),
     ({"high": 0}, (0, 0)), ({"high": 1 << 40}, (1 << 32) - 1)],
)
def test_write_buffer_limits(given: dict[str, int], limits: Any) -> None:
    async def main() -> None:
        transport, peer = await pair(Recorder())
        transport.set_write_buffer_limits(**given)
        found = transport.get_write_buffer_limits()
        assert (found if isinstance(limits, tuple) else found[1]) == limits
        with pytest.raises(ValueError, match="must be >= low"):
            transport.set_write_buffer_limits(high=1, low=2)
        with pytest.raises(ValueError, match="must be >= low"):
            transport.set_write_buffer_limits(high=1, low=-1)
        transport.close()
        peer.close()

    run(main())


def test_paused_reading() -> None:
    async def main() -> None:
        protocol = Recorder(lambda transport, _: transport.pause_reading())
        transport, peer = await pair(protocol)
        assert transport.is_reading()
        peer.send(b"a")
        await until(lambda: protocol.data == b"a")
        assert not transport.is_reading()
        transport.pause_reading()
        peer.send(b"b")
        await asyncio.sleep(0.01)
        assert protocol.data == b"a"
        transport.resume_reading()
        transport.resume_reading()
        await until(lambda: protocol.data == b"ab")
        transport.close()
        transport.pause_reading()
        transport.resume_reading()
        assert not transport.is_reading()
        peer.close()

    run(main())


def test_half_closed_by_us() -> None:
    async def main() -> None:
        protocol = Recorder()
        transport, peer = await pair(protocol)
        assert transport.can_write_eof()
        data = os.urandom(2_000_000)
        transport.write(data)
        transport.write_eof()
        transport.write_eof()
        with pytest.raises(RuntimeError, match="after write_eof"):
            transport.write(b"x")
        with pytest.raises(RuntimeError, match="after write_eof"):
            transport.writelines([b"x"])
        assert await receive(peer, len(data) + 1) == data
        peer.send(b"still heard")
        await until(lambda: protocol.data == b"still heard")
        transport.close()
        await protocol.lost
        peer.close()

    run(main())


def test_half_closed_by_the_peer() -> None:
    async def main() -> None:
        protocol = Recorder()
        protocol.eof_received = lambda: True  # type: ignore[method-assign]
        transport, peer = await pair(protocol)
        peer.shutdown(socket.SHUT_WR)
        await asyncio.sleep(0.01)
        assert not transport.is_closing()
        transport.write(b"late")
        transport.close()
        await protocol.lost
        assert peer.recv(10) == b"late"
        peer.close()

    run(main())


def test_close_sends_what_is_queued_and_abort_does_not() -> None:
    async def main() -> None:
        data = os.urandom(3_000_000)
        protocol = Recorder()
        transport, peer = await pair(protocol)
        transport.write(data)
        transport.close()
        transport.close()
        assert transport.is_closing() and not protocol.lost.done()
        assert await receive(peer, len(data) + 1) == data
        assert await protocol.lost is None
        peer.close()

        protocol = Recorder()
        transport, peer = await pair(protocol)
        transport.write(data)
        transport.abort()
        transport.abort()
        assert await protocol.lost is None
        assert len(await receive(peer, len(data))) < len(data)
        peer.close()

    run(main())


def test_until_the_last_byte_has_gone_a_closing_transport_takes_more() -> None:
    """As TLS needs it, which is asked to close while it holds what it could not write yet."""

    async def main() -> None:
        first, second = os.urandom(3_000_000), os.urandom(1_000_000)
        protocol = Recorder()
        transport, peer = await pair(protocol)
        resumed = protocol.resume_writing

        def resume_writing() -> None:
            resumed()
            if protocol.events.count("resume") == 1:
                transport.write(second)

        protocol.resume_writing = resume_writing  # type: ignore[method-assign]
        transport.write(first)
        transport.close()
        assert await receive(peer, len(first) + len(second) + 1) == first + second
        assert await protocol.lost is None
        assert protocol.events[:3] == ["made", "pause", "resume"]
        transport.write(b"too late")
        peer.close()

    run(main())


@pytest.mark.parametrize("last", [b"", b"bye"])
def test_close_is_over_in_the_next_turn(last: bytes) -> None:
    """As in asyncio: programs that end with `close()` and `sleep(0)` leave nothing open."""

    async def main() -> None:
        protocol = Recorder()
        transport, peer = await pair(protocol)
        transport.write(last)
        transport.close()
        assert protocol.events == ["made"]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert protocol.events == ["made", "lost"]
        assert peer.recv(10) == last
        peer.close()

    run(main())


@pytest.mark.parametrize("size", [1 << 12, 1 << 20])
def test_close_with_less_than_the_limit_waiting(size: int) -> None:
    """The protocol was never asked to pause, and the rest is sent all the same."""

    async def main() -> None:
        protocol = Recorder()
        transport, peer = await pair(protocol)
        transport.set_write_buffer_limits(high=1 << 24)
        transport.write(bytes(size))
        transport.close()
        assert len(await receive(peer, size + 1)) == size
        assert await protocol.lost is None
        assert protocol.events == ["made", "lost"]
        peer.close()

    run(main())


def test_a_reset_is_connection_losts_error() -> None:
    async def main() -> None:
        made: asyncio.Future[Recorder] = asyncio.get_running_loop().create_future()

        def factory() -> Recorder:
            made.set_result(Recorder())
            return made.result()

        server = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0)
        peer = socket.create_connection(server.sockets[0].getsockname())
        protocol = await made
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        assert isinstance(await protocol.lost, ConnectionResetError)
        assert protocol.events == ["made", "lost"]
        server.close()
        await server.wait_closed()

    run(main())


def test_writes_to_the_lost_are_dropped_and_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        protocol = Recorder()
        transport, peer = await pair(protocol)
        peer.close()
        await protocol.lost
        for _ in range(10):
            transport.write(b"x")
        assert transport.get_write_buffer_size() == 0

    run(main())
    assert "socket.send() raised exception." in caplog.text


@pytest.mark.parametrize("data", ["text", None, 5, [b"x"]])
def test_only_bytes_are_written(data: Any) -> None:
    async def main() -> None:
        transport, peer = await pair(Recorder())
        with pytest.raises(TypeError, match="bytes-like"):
            transport.write(data)
        transport.close()
        peer.close()

    run(main())


def test_another_protocol_takes_over() -> None:
    async def main() -> None:
        first, second = Recorder(), Recorder()
        transport, peer = await pair(first)
        assert transport.get_protocol() is first
        transport.set_protocol(second)
        assert transport.get_protocol() is second
        peer.send(b"x")
        await until(lambda: second.data == b"x")
        peer.close()
        assert await second.lost is None and not first.lost.done()

    run(main())


def test_a_protocol_runs_in_the_context_of_its_connection() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
    seen: list[str] = []

    async def main() -> None:
        variable.set("the maker's")
        protocol = Recorder(lambda *_: seen.append(variable.get()))
        _, peer = await pair(protocol)
        variable.set("changed later")
        peer.send(b"x")
        await until(lambda: seen)
        peer.close()
        await protocol.lost

    run(main())
    assert seen == ["the maker's"]


def test_addresses() -> None:
    async def main() -> None:
        made: asyncio.Future[Recorder] = asyncio.get_running_loop().create_future()

        def factory() -> Recorder:
            made.set_result(Recorder())
            return made.result()

        loop = asyncio.get_running_loop()
        server = await loop.create_server(factory, "127.0.0.1", 0)
        here, client = await loop.create_connection(
            Recorder, *server.sockets[0].getsockname()[:2]
        )
        there = (await made).transport
        assert here.get_extra_info("peername") == server.sockets[0].getsockname()
        assert there.get_extra_info("sockname") == server.sockets[0].getsockname()
        assert there.get_extra_info("peername") == here.get_extra_info("sockname")
        assert here.get_extra_info("socket").fileno() > 0
        assert here.get_extra_info("nothing", "default") == "default"
        here.close()
        await client.lost
        assert here.get_extra_info("peername") == server.sockets[0].getsockname()
        server.close()
        await server.wait_closed()

    run(main())


def test_a_servers_count_of_connections() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Recorder, "127.0.0.1", 0)
        client, protocol = await loop.create_connection(
            Recorder, *server.sockets[0].getsockname()[:2]
        )
        await asyncio.sleep(0.01)
        server.close()
        waiting = asyncio.ensure_future(server.wait_closed())
        client.close()
        await protocol.lost
        await waiting

    run(main())


def test_a_descriptor_in_use_by_a_transport_is_not_watched_by_others() -> None:
    async def main() -> None:
        transport, peer = await pair(Recorder())
        fd = transport.get_extra_info("socket").fileno()
        with pytest.raises(RuntimeError, match="is used by transport"):
            asyncio.get_running_loop().add_reader(fd, print)
        transport.close()
        peer.close()

    run(main())


def test_a_transport_left_open_is_warned_of_and_its_socket_closed() -> None:
    async def main() -> tuple[int, socket.socket]:
        transport, peer = await pair(Recorder())
        return transport.get_extra_info("socket").fileno(), peer

    loop = flowcore.new_event_loop()
    fd, peer = loop.run_until_complete(main())
    loop.close()
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        del loop
        gc.collect()
    with pytest.raises(OSError):
        os.fstat(fd)
    peer.close()


def test_connections_leave_nothing_behind() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()

        async def once() -> list[weakref.ref[Any]]:
            protocol = Recorder()
            transport, peer = await pair(protocol)
            transport.write(b"x" * 10_000)
            peer.send(b"y")
            await until(lambda: protocol.data)
            transport.close()
            await protocol.lost
            peer.close()
            return [weakref.ref(transport), weakref.ref(protocol)]

        await once()
        before = len(os.listdir("/proc/self/fd"))
        gone = [each for _ in range(200) for each in await once()]
        await asyncio.sleep(0.01)
        gc.collect()
        assert [each() for each in gone if each() is not None] == []
        assert len(os.listdir("/proc/self/fd")) == before
        assert not loop._guests and not list(loop._transports)  # type: ignore[attr-defined]

    run(main())
