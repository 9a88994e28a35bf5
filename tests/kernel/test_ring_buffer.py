"""The ring of bytes: order across the wrap, views that hold their bytes, descriptors, fork."""

import gc
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy
import pytest

from flowcore.errors import InvalidArgument, InvalidState, LimitExceeded
from flowcore.kernel import RingBuffer

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


@pytest.fixture(params=[True, False], ids=["mapped", "plain"])
def mapped(request):
    return request.param


@pytest.fixture
def ring(mapped):
    """4096 bytes, of which the next five hundred pass the end."""
    ring = RingBuffer(4096, mapped=mapped)
    ring.write(bytes(4000))
    ring.consume(4000)
    return ring


def test_capacity_is_rounded_up(mapped):
    assert RingBuffer(1, mapped=False).capacity == 64
    assert RingBuffer(65, mapped=False).capacity == 128
    page = os.sysconf("SC_PAGESIZE")
    assert RingBuffer(page + 1).capacity == 2 * page
    ring = RingBuffer(4096, mapped=mapped)
    assert (ring.mapped, len(ring), ring.free) == (mapped, 0, ring.capacity)


@pytest.mark.parametrize("capacity", [0, -1, 2**46 + 1, 2**70])
def test_capacity_out_of_range(capacity):
    with pytest.raises(InvalidArgument):
        RingBuffer(capacity)


def test_write_takes_what_fits_and_read_keeps_the_order(ring):
    data = bytes(random.Random(1).randbytes(6000))
    assert ring.write(data) == 4096
    assert (len(ring), ring.free) == (4096, 0)
    assert ring.write(b"more") == 0
    assert ring.read(100) == data[:100]
    assert ring.write(data[4096:]) == 100
    assert ring.read() == data[100:4196]
    assert ring.read() == b""
    assert ring.read(0) == b""


def test_random_pieces_against_a_bytearray(ring):
    rng = random.Random(2)
    model = bytearray()
    for _ in range(3000):
        piece = rng.randbytes(rng.randrange(3000))
        model += piece[: ring.write(piece)]
        assert len(ring) == len(model)
        n = rng.randrange(3000)
        with ring.peek(n) as view:
            assert view == model[:n]
        if rng.random() < 0.5:
            n = min(n, len(model))
            ring.consume(n)
        else:
            assert ring.read(n) == model[:n]
        del model[:n]


def test_writes_any_contiguous_buffer(ring):
    assert ring.write(memoryview(b"abcdef")[1:3]) == 2
    assert ring.write(numpy.arange(3, dtype="<u2")) == 6
    assert ring.read() == b"bc\0\0\1\0\2\0"
    with pytest.raises(BufferError):
        ring.write(memoryview(b"abcdef")[::2])
    with pytest.raises(TypeError):
        ring.write("text")


# ---- views -------------------------------------------------------------------------------------


def test_peek_is_one_piece_across_the_end(ring):
    ring.write(b"x" * 90 + b"across")
    with ring.peek() as view:
        assert view.readonly and view.contiguous
        assert bytes(view[-6:]) == b"across"
    assert len(ring.peek(10_000)) == 96
    assert len(ring.peek(0)) == 0


def test_a_view_blocks_consuming_but_not_writing(ring):
    ring.write(b"first")
    with ring.peek(2) as view:
        for attempt in (lambda: ring.consume(1), ring.read, lambda: ring.write_to(1), ring.close):
            with pytest.raises(BufferError):
                attempt()
        assert ring.write(bytes(5000)) == 4091
        assert view == b"fi"
    assert ring.read(5) == b"first"


def test_a_slice_or_an_array_of_a_view_holds_the_bytes_too(ring):
    ring.write(b"0123456789abcdef")
    view = ring.peek()
    part = view[4:8]
    array = numpy.frombuffer(ring.peek(8), dtype="<u4")
    view.release()
    with pytest.raises(BufferError):
        ring.consume(16)
    assert part == b"4567"
    part.release()
    assert array.base is not None and array.tobytes() == b"01234567"
    with pytest.raises(BufferError):
        ring.consume(16)
    del array
    ring.consume(16)


def test_the_ring_itself_is_a_buffer(ring):
    ring.write(numpy.arange(100, dtype="<u4"))
    array = numpy.frombuffer(ring, dtype="<u4")
    assert array.tolist() == list(range(100)) and not array.flags.writeable
    with pytest.raises(BufferError):
        ring.consume(4)
    del array
    ring.consume(4)
    assert bytes(ring)[:8] == b"\1\0\0\0\2\0\0\0"


def test_views_keep_the_ring(ring):
    ring.write(b"kept")
    view = ring.peek()
    del ring
    gc.collect()
    assert view == b"kept"


def test_claim_and_commit(ring):
    with ring.claim(500) as room:
        assert len(room) == 500 and not room.readonly
        room[:5] = b"hello"
        numpy.frombuffer(room, dtype="u1")[5:200] = 7
    assert len(ring) == 0
    ring.commit(200)
    assert ring.read() == b"hello" + b"\7" * 195


def test_claim_of_everything_and_more(ring):
    with ring.claim() as room:
        assert len(room) == 4096
    with pytest.raises(LimitExceeded):
        ring.claim(4097)
    ring.write(b"x")
    with pytest.raises(LimitExceeded):
        ring.claim(4096)


def test_a_claim_that_is_alive_blocks_the_writer(ring):
    ring.write(b"before")
    with ring.claim(10):
        attempts = (
            ring.claim, lambda: ring.commit(1), lambda: ring.write(b"x"),
            lambda: ring.read_from(0), ring.close,
        )
        for attempt in attempts:
            with pytest.raises(BufferError):
                attempt()
        assert ring.read() == b"before"
    ring.commit(10)
    assert len(ring) == 10


@pytest.mark.parametrize("forget", ["commit", "write", "claim"])
def test_a_claim_is_committed_once_or_forgotten(ring, forget):
    ring.claim(10).release()
    {"commit": lambda: ring.commit(4), "write": lambda: ring.write(b"four"),
     "claim": lambda: ring.claim(0).release()}[forget]()
    with pytest.raises(InvalidArgument):
        ring.commit(1)


@pytest.mark.parametrize("n", [-1, 4, 2**62])
def test_consume_and_commit_out_of_range(ring, n):
    ring.write(b"abc")
    ring.claim(3).release()
    for call in (ring.consume, ring.commit):
        with pytest.raises(InvalidArgument):
            call(n)
    assert ring.read() == b"abc"


def test_numbers_that_are_none(ring):
    for call in (ring.consume, ring.commit, ring.peek, ring.read, ring.claim):
        with pytest.raises(TypeError):
            call("3")


# ---- descriptors -------------------------------------------------------------------------------


def test_sockets_and_descriptors(ring):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"abcdef" * 50)
        assert ring.read_from(ours, 100) == 100
        assert ring.read_from(ours.fileno()) == 200
        assert ring.write_to(ours, 1) == 1
        assert ring.write_to(ours) == 299
        assert ring.write_to(ours) == 0
        assert theirs.recv(1000) == b"abcdef" * 50
        theirs.shutdown(socket.SHUT_WR)
        assert ring.read_from(ours) == 0


def test_errors_of_the_system_change_nothing(ring):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        with pytest.raises(BlockingIOError):
            ring.read_from(ours)
        ring.write(b"kept")
        closed = os.dup(0)
        os.close(closed)
        for call in (ring.read_from, ring.write_to):
            with pytest.raises(OSError):
                call(closed)
            with pytest.raises(InvalidArgument):
                call(-1)
            with pytest.raises(AttributeError):
                call("socket")
        assert ring.read() == b"kept"


def test_reading_into_a_full_ring(ring):
    ring.write(bytes(5000))
    with open(os.devnull) as file, pytest.raises(LimitExceeded):
        ring.read_from(file)


def test_a_stream_goes_through_two_threads(ring):
    data = random.Random(3).randbytes(1 << 20)
    source, far = socket.socketpair()
    arrived = []

    def feed():
        far.sendall(data)
        far.close()

    def fill():
        while True:
            try:
                if ring.read_from(source) == 0:
                    break
            except LimitExceeded:
                time.sleep(0)

    threads = [threading.Thread(target=feed), threading.Thread(target=fill)]
    for thread in threads:
        thread.start()
    while threads[1].is_alive() or len(ring):
        arrived.append(ring.read(3000))
    for thread in threads:
        thread.join()
    source.close()
    assert b"".join(arrived) == data


def test_while_a_thread_reads_in_the_reader_goes_on(ring):
    ours, theirs = socket.socketpair()
    ring.write(b"there")
    with ours, theirs:
        thread = threading.Thread(target=ring.read_from, args=(ours,))
        thread.start()
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                ring.commit(0)
            except InvalidState:
                break
        for attempt in (lambda: ring.write(b"x"), ring.claim, lambda: ring.read_from(ours)):
            with pytest.raises(InvalidState):
                attempt()
        with pytest.raises(InvalidState):
            ring.close()
        assert ring.read() == b"there"
        theirs.sendall(b"!")
        thread.join()
    assert ring.read() == b"!"


def test_a_signal_handler_runs_and_may_raise(ring):
    class Alarm(Exception):
        pass

    def handler(number, frame):
        ring.read(1)
        raise Alarm

    ring.write(b"xy")
    ours, theirs = socket.socketpair()
    before = signal.signal(signal.SIGALRM, handler)
    try:
        with ours, theirs:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(Alarm):
                ring.read_from(ours)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert ring.read() == b"y"
    assert ring.write(b"goes on") == 7


# ---- the end -----------------------------------------------------------------------------------


def test_use_after_close(mapped):
    with RingBuffer(100, mapped=mapped) as ring:
        ring.write(b"x")
    ring.close()
    assert ring.closed and "closed" in repr(ring)
    calls = (
        lambda: len(ring), lambda: ring.free, ring.peek, ring.read, ring.claim, ring.__enter__,
        lambda: ring.consume(0), lambda: ring.commit(0), lambda: ring.write(b""),
        lambda: ring.read_from(0), lambda: ring.write_to(1), lambda: memoryview(ring),
    )
    for call in calls:
        with pytest.raises(InvalidState):
            call()


def in_child(check):
    """Runs check() in a forked child; its exit status."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = 0 if check() else 2
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_mapped_ring_is_refused_in_a_forked_child():
    ring = RingBuffer(4096)
    assert ring.mapped
    ring.write(b"parent")

    def refused():
        try:
            ring.write(b"child")
        except InvalidState:
            ring.close()
            return RingBuffer(4096).write(b"own") == 3
        return False

    assert in_child(refused) == 0
    assert ring.read() == b"parent"


def test_a_plain_ring_is_a_copy_in_a_forked_child():
    ring = RingBuffer(4096, mapped=False)
    ring.write(b"both")
    assert in_child(lambda: ring.read() == b"both" and ring.write(b"child") == 5) == 0
    assert ring.read() == b"both"


def test_memory_and_descriptors_are_given_back(mapped):
    def maps():
        with open("/proc/self/maps") as file:
            return sum("fc-ring" in line for line in file)

    gc.collect()
    before, files = maps(), len(os.listdir("/proc/self/fd"))
    rings = [RingBuffer(65536, mapped=mapped) for _ in range(50)]
    assert maps() == before + (100 if mapped else 0)
    rings[0].write(b"x")
    view = rings[0].peek()
    del rings
    assert maps() == before + (2 if mapped else 0)
    del view
    assert maps() == before
    assert len(os.listdir("/proc/self/fd")) == files


def test_views_do_not_leak_references(ring):
    ring.write(b"x" * 64)
    before = sys.getrefcount(ring)
    for _ in range(1000):
        ring.peek().release()
        ring.claim(10)
        memoryview(ring)
        numpy.frombuffer(ring.peek(), dtype="u1")
    assert sys.getrefcount(ring) == before
    ring.consume(64)


SHUTDOWN = """
from flowcore.kernel import RingBuffer

class Late:
    def __init__(self, ring):
        self.ring = ring
        self.view = ring.peek()

    def __del__(self):
        print(bytes(self.view), flush=True)
        self.view.release()
        self.ring.consume(4)

ring = RingBuffer(100)
ring.write(b"late")
late = Late(ring)
"""


def test_interpreter_shutdown():
    done = subprocess.run([sys.executable, "-c", SHUTDOWN], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "b'late'\n", "")
