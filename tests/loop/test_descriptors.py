"""add_reader() and add_writer(): what is watched, replaced, removed, closed and reused."""

import asyncio
import gc
import os
import socket
import tempfile
import weakref

import pytest


@pytest.fixture
def pair():
    left, right = socket.socketpair()
    left.setblocking(False)
    right.setblocking(False)
    with left, right:
        yield left, right


def run_for(loop, seconds=0.005):
    loop.run_until_complete(asyncio.sleep(seconds))


def test_reader_is_called_while_there_is_data(loop, pair):
    left, right = pair
    seen = []

    def ready(tag):
        seen.append((tag, left.recv(1)))
        if len(seen) == 3:
            loop.stop()

    loop.add_reader(left, ready, "tag")
    right.send(b"abc")
    loop.run_forever()
    assert seen == [("tag", b"a"), ("tag", b"b"), ("tag", b"c")]
    assert loop.remove_reader(left) is True
    right.send(b"d")
    run_for(loop)
    assert len(seen) == 3


def test_writer_is_called_while_there_is_room(loop, pair):
    left, right = pair
    sent = 0

    def ready():
        nonlocal sent
        try:
            sent += left.send(b"x" * 65536)
        except BlockingIOError:
            loop.stop()

    loop.add_writer(left, ready)
    loop.call_later(0.05, loop.stop)
    loop.run_forever()
    stuck = sent
    assert stuck > 0
    run_for(loop)
    assert sent == stuck
    right.recv(1 << 20)
    run_for(loop)
    assert sent > stuck
    assert loop.remove_writer(left) is True


def test_reading_and_writing_on_one_descriptor(loop, pair):
    left, right = pair
    seen = []
    loop.add_reader(left, lambda: (seen.append("r"), left.recv(10)))
    loop.add_writer(left, lambda: (seen.append("w"), loop.remove_writer(left)))
    right.send(b"x")
    run_for(loop)
    assert sorted(seen) == ["r", "w"]
    right.send(b"x")
    run_for(loop)
    assert sorted(seen) == ["r", "r", "w"]
    assert loop.remove_writer(left) is False
    assert loop.remove_reader(left) is True
    assert loop.remove_reader(left) is False


def test_removing_what_was_never_added(loop, pair):
    assert loop.remove_reader(pair[0]) is False
    assert loop.remove_writer(pair[0].fileno()) is False


def test_replacing_cancels_the_old_callback(loop, pair):
    left, right = pair
    seen = []
    first = loop._add_reader(left.fileno(), seen.append, "old")
    second = loop._add_reader(left.fileno(), lambda: (seen.append("new"), left.recv(10)))
    assert first.cancelled() and not second.cancelled()
    right.send(b"x")
    run_for(loop)
    assert seen == ["new"]
    loop.remove_reader(left)
    assert second.cancelled()


def test_a_callback_may_replace_itself(loop, pair):
    left, right = pair
    seen = []

    def first():
        seen.append(("first", left.recv(1)))
        loop.add_reader(left, second)

    def second():
        seen.append(("second", left.recv(1)))
        loop.stop()

    loop.add_reader(left, first)
    right.send(b"ab")
    loop.run_forever()
    loop.remove_reader(left)
    assert seen == [("first", b"a"), ("second", b"b")]


def test_a_callback_may_remove_others_that_are_ready_with_it(loop):
    pairs = [socket.socketpair() for _ in range(20)]
    seen = []

    def ready(left):
        seen.append(left.recv(1))
        for each, _ in pairs:
            loop.remove_reader(each)

    for left, right in pairs:
        loop.add_reader(left, ready, left)
        right.send(b"x")
    run_for(loop)
    assert seen == [b"x"]
    for sockets in pairs:
        for sock in sockets:
            sock.close()


def test_a_cancelled_handle_ends_the_watch(loop, pair):
    """As in asyncio: else a level-triggered loop would spin on it."""
    left, right = pair
    loop._add_reader(left, print).cancel()
    loop._add_writer(left, print).cancel()
    right.send(b"x")
    run_for(loop)
    assert loop.remove_reader(left) is False
    assert loop.remove_writer(left) is False


def test_end_of_stream_makes_readable(loop, pair):
    left, right = pair
    seen = []

    def ready():
        seen.append(left.recv(10))
        loop.remove_reader(left)

    loop.add_reader(left, ready)
    right.close()
    run_for(loop)
    assert seen == [b""]


def test_hang_up_wakes_both_directions(loop):
    read_end, write_end = os.pipe()
    seen = []
    loop.add_writer(write_end, lambda: (seen.append("hup"), loop.remove_writer(write_end)))
    run_for(loop)
    seen.clear()
    os.set_blocking(write_end, False)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(write_end, b"x" * 65536)
    loop.add_writer(write_end, lambda: (seen.append("hup"), loop.remove_writer(write_end)))
    run_for(loop)
    assert seen == []
    os.close(read_end)
    run_for(loop)
    assert seen == ["hup"]
    os.close(write_end)


def test_refused_connection_wakes_the_writer(loop):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = closed.getsockname()
    with socket.socket() as sock:
        sock.setblocking(False)
        with pytest.raises(ConnectionRefusedError):
            loop.run_until_complete(asyncio.wait_for(loop.sock_connect(sock, address), 5))


def test_regular_file_is_refused_as_by_asyncio(loop):
    with tempfile.TemporaryFile() as file:
        for add, remove in (
            (loop.add_reader, loop.remove_reader),
            (loop.add_writer, loop.remove_writer),
        ):
            with pytest.raises(PermissionError):
                add(file, print)
            assert remove(file) is False


@pytest.mark.parametrize("bad", [-1, "x", None, object()])
def test_what_is_no_descriptor_is_refused(loop, bad):
    with pytest.raises(ValueError):
        loop.add_reader(bad, print)
    with pytest.raises(ValueError):
        loop.add_writer(bad, print)


def test_closed_descriptor_is_refused(loop, pair):
    number = pair[0].fileno()
    pair[0].close()
    with pytest.raises(OSError):
        loop.add_reader(number, print)
    with pytest.raises(ValueError):
        loop.add_reader(pair[0], print)
    assert loop.remove_reader(number) is False


def test_number_is_reused_after_removal(loop):
    for _ in range(5):
        left, right = socket.socketpair()
        seen = []
        loop.add_reader(left, lambda left=left, seen=seen: seen.append(left.recv(10)))
        right.send(b"x")
        run_for(loop)
        assert seen == [b"x"]
        assert loop.remove_reader(left) is True
        left.close()
        right.close()


def test_number_is_reused_although_the_watch_was_never_removed(loop):
    """The kernel forgot the old file when it was closed; the loop must not think it watches."""
    for _ in range(5):
        left, right = socket.socketpair()
        seen = []
        loop.add_reader(left, lambda left=left, seen=seen: seen.append(left.recv(10)))
        right.send(b"x")
        run_for(loop)
        assert seen == [b"x"]
        left.close()
        right.close()


def test_removing_after_closing(loop, pair):
    left, _ = pair
    number = left.fileno()
    loop.add_reader(left, print)
    loop.add_writer(left, print)
    left.close()
    assert loop.remove_reader(number) is True
    assert loop.remove_writer(number) is True
    assert loop._watched().keys() & {number} == set()


def test_removing_a_closed_socket_by_the_object(loop, pair):
    left, _ = pair
    loop.add_reader(left, print)
    left.close()
    assert loop.remove_reader(left) is True
    assert loop.remove_reader(left) is False


def test_events_of_a_closed_descriptor_whose_duplicate_is_open_do_no_harm(loop):
    """epoll goes on reporting it, by an address that must stay valid."""
    left, right = socket.socketpair()
    duplicate = os.dup(left.fileno())
    number = left.fileno()
    seen = []
    loop.add_reader(left, seen.append, 1)
    left.close()
    assert loop.remove_reader(number) is True
    gc.collect()
    churn = [bytearray(200) for _ in range(1000)]
    right.send(b"x")
    run_for(loop)
    assert seen == [] and len(churn) == 1000
    os.close(duplicate)
    right.close()


def test_no_callback_after_removal_even_when_it_was_queued(loop, pair):
    left, right = pair
    seen = []
    loop.add_reader(left, seen.append, 1)
    right.send(b"x")
    loop.call_soon(loop.remove_reader, left)
    run_for(loop)
    assert seen == []


def test_a_reader_is_queued_once_however_often_the_loop_polls(loop, pair):
    """A second call would find nothing: on a blocking descriptor it would hang."""
    left, right = pair
    left.setblocking(True)
    left.settimeout(1)
    seen = []
    loop.add_reader(left, lambda: seen.append(left.recv(10)))
    right.send(b"x")
    for _ in range(2000):
        loop.call_soon(int)
    run_for(loop, 0.02)
    loop.remove_reader(left)
    assert seen == [b"x"]


def test_removing_releases_the_callback(loop, pair):
    class Callback:
        def __call__(self):
            pass

    callback = Callback()
    gone = weakref.ref(callback)
    loop.add_reader(pair[0], callback)
    del callback
    assert gone() is not None
    loop.remove_reader(pair[0])
    assert gone() is None


def test_error_in_a_reader_is_reported_and_the_watch_goes_on(loop, reports, pair):
    left, right = pair

    def ready():
        left.recv(1)
        raise ValueError

    loop.add_reader(left, ready)
    right.send(b"ab")
    run_for(loop)
    loop.remove_reader(left)
    assert len(reports) == 2


def test_descriptors_owned_by_a_transport_are_refused(loop):
    async def main():
        server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        with pytest.raises(RuntimeError, match="is used by transport"):
            loop.add_reader(writer.get_extra_info("socket").fileno(), print)
        writer.close()
        server.close()
        await server.wait_closed()

    loop.run_until_complete(main())


def test_many_descriptors_at_once(loop):
    """More than the reactor takes from the kernel in one go."""
    pairs = [socket.socketpair() for _ in range(400)]
    seen = set()

    def ready(i, left):
        left.recv(1)
        seen.add(i)

    for i, (left, right) in enumerate(pairs):
        loop.add_reader(left, ready, i, left)
        right.send(b"x")
    run_for(loop, 0.05)
    assert seen == set(range(400))
    for left, right in pairs:
        loop.remove_reader(left)
        left.close()
        right.close()


def test_the_selector_tells_what_is_watched(loop, pair):
    left, _ = pair
    loop.add_reader(left, print)
    key = loop._selector.get_key(left)
    assert key.fd == left.fileno() and key.events == 1
    loop.remove_reader(left)
    with pytest.raises(KeyError):
        loop._selector.get_key(left)
    with pytest.raises(NotImplementedError):
        loop._selector.select(0)
