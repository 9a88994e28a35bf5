"""SharedQueue between real processes, under fork and spawn: what arrives, who waits, who dies."""

import contextlib
import gc
import multiprocessing
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness.served import environment

from flowcore.errors import (
    ConnectionClosed,
    InvalidArgument,
    InvalidState,
    LimitExceeded,
    ProtocolError,
)
from flowcore.kernel import PeerDied, QueueEmpty, QueueFull, SharedQueue

KILLER = Path(__file__).with_name("shared_queue_kill.py")


@pytest.fixture
def q() -> Iterator[SharedQueue]:
    with SharedQueue(1 << 16) as made:
        yield made


@contextlib.contextmanager
def child(target: Callable[..., None], *args: Any, method: str = "fork") -> Iterator[Any]:
    process = multiprocessing.get_context(method).Process(target=target, args=args, daemon=True)
    process.start()
    try:
        yield process
        process.join(20)
        assert process.exitcode is not None, "the child hangs"
    finally:
        process.kill()
        process.join()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


# ---- what is sent arrives ------------------------------------------------------------------------

OBJECTS: list[Any] = [
    b"",
    b"bytes",
    "",
    "text",
    "ÄÖ \U0001f600",
    "lone \ud800",
    None,
    -1,
    2**70,
    1.5,
    (1, [2, {"three": {4}}]),
    bytearray(b"mutable"),
]


@pytest.mark.parametrize("obj", OBJECTS, ids=repr)
def test_objects_come_back_equal(q: SharedQueue, obj: Any) -> None:
    q.put(obj)
    got = q.get()
    assert got == obj
    assert type(got) is type(obj)
    assert q.empty()


def test_arrays_travel_beside_the_pickle(q: SharedQueue) -> None:
    arrays = [np.arange(1000.0), np.zeros(0), np.arange(7, dtype="u1"), np.eye(5).T]
    frozen = np.arange(3)
    frozen.flags.writeable = False
    q.put({"arrays": arrays, "frozen": frozen})
    got = q.get()
    for ours, theirs in zip(arrays, got["arrays"], strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)
        assert theirs.flags.aligned
    got["arrays"][0][0] = 7  # its own memory, and writable
    assert arrays[0][0] == 0
    assert not got["frozen"].flags.writeable
    np.testing.assert_array_equal(got["frozen"], [0, 1, 2])


def test_an_array_costs_its_bytes_and_little_more(q: SharedQueue) -> None:
    q.put(np.zeros(40000, "u1"))
    assert 40000 < q.stats()["used_bytes"] < 40500


def test_the_order_is_kept_and_the_memory_reused(q: SharedQueue) -> None:
    for i in range(5000):
        q.put((i, b"x" * (i % 300)))
        assert q.get() == (i, b"x" * (i % 300))
    assert len(q) == 0


def test_length_counts_messages(q: SharedQueue) -> None:
    assert q.put_many(range(70)) == 70
    assert len(q) == 70
    q.get()
    assert len(q) == 69
    assert q  # even an empty queue is true


def test_buffers_become_bytes(q: SharedQueue) -> None:
    for data in (b"a", bytearray(b"bc"), memoryview(b"def"), np.arange(3, dtype="u1")):
        q.put_bytes(data)
        assert q.get_bytes() == bytes(data)
    with pytest.raises(InvalidArgument, match="not contiguous"):
        q.put_bytes(np.arange(6)[::2])


def test_get_bytes_leaves_an_object(q: SharedQueue) -> None:
    q.put([1])
    with pytest.raises(InvalidState, match="is an object"):
        q.get_bytes()
    assert q.get() == [1]


def test_bytes_into_a_buffer(q: SharedQueue) -> None:
    into = bytearray(10)
    for data in (b"abc", b"", b"0123456789"):
        q.put_bytes(data)
        assert q.get_into(into) == len(data)
        assert into[: len(data)] == data
    q.push(np.arange(2, dtype="u4"))
    words = np.zeros(4, "u4")
    assert q.get_into(words) == 8
    assert words.tolist() == [0, 1, 0, 0]
    q.put_bytes(b"0123456789a")
    with pytest.raises(LimitExceeded, match="has 11 bytes, the buffer has room for 10"):
        q.get_into(into)
    assert q.get_bytes() == b"0123456789a"
    q.put([1])
    with pytest.raises(InvalidState, match="is an object"):
        q.get_into(into)
    assert q.get() == [1]
    for target, match in ((b"0123", "read-only"), (np.zeros(8)[::2], "not contiguous")):
        with pytest.raises(InvalidArgument, match=match):
            q.get_into(target)
    with pytest.raises(QueueEmpty):
        q.get_into(into, timeout=0)


def test_batches(q: SharedQueue) -> None:
    items = [b"a", "b", 3, [4], np.arange(5)] * 20
    assert q.put_many(iter(items)) == 100
    first = q.get_many(7)
    assert first[:4] == items[:4]
    assert len(first) == 7
    assert len(q.get_many()) == 93
    assert q.put_many([]) == 0


def test_a_batch_of_large_messages_is_cut() -> None:
    with SharedQueue(1 << 20) as q:
        q.put_many([bytes(50_000)] * 5)
        assert [len(q.get_many()), len(q.get_many())] == [3, 2]


class Unloadable:
    def __reduce__(self) -> tuple[Any, ...]:
        return int, ("no number",)


def test_what_cannot_be_unpickled_takes_nothing_with_it(q: SharedQueue) -> None:
    q.put_many([1, Unloadable(), b"3", [4], Unloadable(), 6])
    assert q.get_many() == [1]
    assert len(q) == 5
    with pytest.raises(ValueError, match="no number"):
        q.get_many()
    assert q.get_bytes() == b"3"
    assert q.get() == [4]
    with pytest.raises(ValueError, match="no number"):
        q.get()
    assert q.get_many() == [6]
    assert q.empty()


POINT = np.dtype([("x", "f8"), ("name", "S5")])


def test_records(q: SharedQueue) -> None:
    sent = np.array([(i, b"p") for i in range(10)], POINT)
    q.push(sent[:4])
    q.push(sent[4:])
    q.push(sent)
    into = np.zeros(15, POINT)
    assert q.pop_into(into) == 10  # two messages; the third does not fit behind them
    np.testing.assert_array_equal(into[:10], sent)
    assert into[10:]["x"].sum() == 0
    with pytest.raises(LimitExceeded, match="has 10 records, the array has room for 9"):
        q.pop_into(into[:9])
    assert q.pop_into(into) == 10
    q.push(sent)
    with pytest.raises(InvalidState, match="item size"):
        q.pop_into(np.zeros(100))
    assert q.get() == sent.tobytes()
    with pytest.raises(InvalidArgument, match="read-only"):
        q.pop_into(b"12345678")
    with pytest.raises(QueueEmpty):
        q.pop_into(into, timeout=0)


# ---- limits and waiting --------------------------------------------------------------------------


def test_empty_and_full_are_those_of_the_standard_library(q: SharedQueue) -> None:
    for call in (q.get_nowait, lambda: q.get(timeout=0), lambda: q.get_many(block=False)):
        with pytest.raises(queue.Empty) as caught:
            call()
        assert caught.type is QueueEmpty
    with pytest.raises(QueueFull):
        while True:
            q.put_nowait(b"x" * 1000)
    with pytest.raises(queue.Full):
        q.put_many([b"x" * 1000], block=False)
    with pytest.raises(InvalidArgument, match="timeout"):
        q.get(timeout=-1)


def test_a_batch_sends_what_there_is_room_for(q: SharedQueue) -> None:
    sent = q.put_many([b"x" * 992] * 100, timeout=0.01)
    assert sent == (1 << 16) // 1000
    assert len(q) == sent


def test_timeouts_are_kept(q: SharedQueue) -> None:
    began = time.monotonic()
    with pytest.raises(QueueEmpty):
        q.get(timeout=0.25)
    assert 0.25 <= time.monotonic() - began < 2
    q.put_many([b"x" * 1000] * 100, block=False)
    began = time.monotonic()
    with pytest.raises(QueueFull):
        q.put(b"x" * 60000, timeout=0.25)
    assert 0.25 <= time.monotonic() - began < 2


def test_messages_that_never_fit() -> None:
    with SharedQueue(4096, max_message_bytes=100) as q:
        q.put(b"x" * 100)
        with pytest.raises(LimitExceeded, match="max_message_bytes"):
            q.put(b"x" * 101)
        with pytest.raises(LimitExceeded, match="max_message_bytes"):
            q.put_many([b"small", b"x" * 101])
        assert len(q) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        {"capacity_bytes": 0},
        {"capacity_bytes": 1 << 32},
        {"max_producers": 0},
        {"max_producers": 257},
        {"max_message_bytes": 0},
        {"capacity_bytes": 4096, "max_message_bytes": 4096},
    ],
    ids=str,
)
def test_sizes_out_of_range(arguments: dict[str, int]) -> None:
    with pytest.raises(InvalidArgument):
        SharedQueue(**arguments)


def test_lanes_run_out_and_come_back() -> None:
    with SharedQueue(4096, max_producers=1) as q, SharedQueue.from_fd(q.fileno()) as other:
        q.put(1)
        with pytest.raises(LimitExceeded, match="max_producers"):
            other.put(2)
        third = SharedQueue.from_fd(q.fileno())
        q.close()
        third.put(3)
        assert [other.get(), other.get()] == [1, 3]
        third.close()


def test_threads_of_one_process_share_a_lane() -> None:
    with SharedQueue(4096, max_producers=1) as q:
        def send(name: int) -> None:
            for i in range(3000):
                q.put((name, i))

        threads = [threading.Thread(target=send, args=(n,)) for n in range(3)]
        for each in threads:
            each.start()
        got = [q.get(timeout=20) for _ in range(9000)]
        for each in threads:
            each.join()
        for n in range(3):
            assert [i for name, i in got if name == n] == list(range(3000))


def test_large_messages_with_several_threads() -> None:
    """Copies that are made without the GIL keep to their place."""
    with SharedQueue(1 << 20) as q:
        def send(name: int) -> None:
            for _ in range(30):
                q.put(bytes([name]) * 200_000)

        threads = [threading.Thread(target=send, args=(n,)) for n in range(3)]
        for each in threads:
            each.start()
        got = [q.get(timeout=20) for _ in range(90)]
        for each in threads:
            each.join()
        assert sorted(got) == [bytes([n]) * 200_000 for n in range(3) for _ in range(30)]


# ---- between processes ---------------------------------------------------------------------------


def echo(requests: SharedQueue, replies: SharedQueue) -> None:
    while (obj := requests.get(timeout=20)) is not None:
        replies.put(obj)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_there_and_back(method: str) -> None:
    with SharedQueue() as requests, SharedQueue() as replies:
        with child(echo, requests, replies, method=method):
            for obj in (b"bytes", "text", [1, 2], np.arange(10_000)):
                requests.put(obj)
                got = replies.get(timeout=20)
                np.testing.assert_array_equal(got, obj)
            requests.put(None)
        assert replies.stats()["producers_joined"] == 1


def count_up(q: SharedQueue, name: int, n: int) -> None:
    for i in range(n):
        q.put((name, i))
    q.close()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_several_producers(method: str) -> None:
    with SharedQueue(1 << 14) as q, contextlib.ExitStack() as stack:
        for name in range(3):
            stack.enter_context(child(count_up, q, name, 5000, method=method))
        got = [q.get(timeout=20) for _ in range(15000)]
        for name in range(3):
            assert [i for who, i in got if who == name] == list(range(5000))


def pass_on(q: SharedQueue, results: SharedQueue) -> None:
    with contextlib.suppress(ConnectionClosed):
        while True:
            results.put(q.get(timeout=20))


def test_several_consumers() -> None:
    with SharedQueue(1 << 14) as q, SharedQueue(1 << 14) as results, contextlib.ExitStack() as st:
        for _ in range(2):
            st.enter_context(child(pass_on, q, results))
        thread = threading.Thread(target=lambda: [q.put(i) for i in range(10_000)])
        thread.start()
        got = [results.get(timeout=20) for _ in range(10_000)]
        thread.join()
        q.shutdown()
        assert sorted(got) == list(range(10_000))


def test_a_queue_travels_through_a_pipe_and_by_its_descriptor(q: SharedQueue) -> None:
    here, there = multiprocessing.Pipe()
    here.send(q)
    with there.recv() as same, SharedQueue.from_fd(q.fileno()) as third:
        same.put("one")
        third.put("two")
        assert sorted([q.get(), q.get()]) == ["one", "two"]
    with pytest.raises(Exception, match="descriptor"):
        SharedQueue.from_fd(-1)


def test_a_forked_child_gets_a_lane_of_its_own(q: SharedQueue) -> None:
    q.put("parent")
    pid = os.fork()
    if not pid:
        q.put("child")
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert q.stats()["producers_joined"] == 2
    assert sorted([q.get(), q.get()]) == ["child", "parent"]


# ---- the end -------------------------------------------------------------------------------------


def test_shutdown_wakes_those_who_wait_and_keeps_what_is_there(q: SharedQueue) -> None:
    with SharedQueue.from_fd(q.fileno()) as other:
        threading.Timer(0.2, other.shutdown).start()
        with pytest.raises(ConnectionClosed, match="shut down"):
            q.get(timeout=20)
        with pytest.raises(ConnectionClosed, match="shut down"):
            q.put(1)
    with SharedQueue() as q2:
        q2.put("last")
        q2.shutdown()
        assert q2.get() == "last"
        for call in (q2.get, q2.get_nowait):
            with pytest.raises(ConnectionClosed):
                call()


def test_shutdown_wakes_a_full_producer(q: SharedQueue) -> None:
    q.put_many([b"x" * 1000] * 100, block=False)
    threading.Timer(0.2, q.shutdown).start()
    with pytest.raises(ConnectionClosed, match="shut down"):
        q.put(b"x" * 60000, timeout=20)


def test_a_closed_handle_refuses_and_lets_its_waiting_thread_go() -> None:
    q = SharedQueue(4096)
    threading.Timer(0.2, q.close).start()
    with pytest.raises(InvalidState, match="closed"):
        q.get(timeout=20)
    q.close()
    assert q.closed
    assert repr(q) == "<SharedQueue closed>"
    refused = [q.get, q.stats, q.fileno, q.shutdown, q.empty]
    for call in [*refused, lambda: q.put(1), lambda: len(q), lambda: pickle.dumps(q)]:
        with pytest.raises(InvalidState, match="closed"):
            call()


@pytest.mark.parametrize("side", ["get", "put"])
def test_ctrl_c_ends_a_wait(side: str, q: SharedQueue) -> None:
    q.put(b"x" * 60000)
    if side == "get":
        q.get()
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        q.get(timeout=20) if side == "get" else q.put(b"x" * 60000, timeout=20)
    assert time.monotonic() - began < 10
    timer.join()


def test_nothing_is_left_open() -> None:
    def held() -> tuple[int, int]:
        maps = Path("/proc/self/maps").read_text()
        return len(os.listdir("/proc/self/fd")), maps.count("fc_shmq")

    before = held()
    queues = [SharedQueue() for _ in range(10)]
    assert held() != before
    for each in queues[:5]:
        each.put(1)
        each.close()
    del queues, each
    gc.collect()
    assert held() == before


@pytest.mark.parametrize(
    ("place", "match"), [(0, "no shared queue"), (8, "another version"), (12, "another C library")]
)
def test_other_segments_are_refused(place: int, match: str, q: SharedQueue) -> None:
    image = bytearray(os.pread(q.fileno(), q.stats()["segment_bytes"], 0))
    image[place] ^= 0x55
    fd = os.memfd_create("image")
    try:
        os.write(fd, image)
        with pytest.raises(ProtocolError, match=match):
            SharedQueue.from_fd(fd)
    finally:
        os.close(fd)


def test_damage_costs_only_what_is_damaged() -> None:
    """What came before a damaged message is delivered, and the damage is told, every time."""
    with SharedQueue(4096, max_producers=1) as q:
        q.put_many([b"12345678", b"abcdefgh", b"after"])
        lane = q.stats()["segment_bytes"] - 4096
        os.pwrite(q.fileno(), (1 << 20).to_bytes(4, sys.byteorder), lane + 16)  # its length
        assert q.get_many() == [b"12345678"]
        for _ in range(2):
            with pytest.raises(ProtocolError, match="damaged"):
                q.get_many()



# ---- deaths --------------------------------------------------------------------------------------


def put_and_die(q: SharedQueue) -> None:
    q.put("last words")
    die()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_the_last_producer_dies(method: str, q: SharedQueue) -> None:
    with child(put_and_die, q, method=method):
        assert q.get(timeout=20) == "last words"
        with pytest.raises(PeerDied, match="producer died"):
            q.get(timeout=20)
    with pytest.raises(QueueEmpty):  # told once
        q.get(timeout=0.2)
    q.put("on")
    assert q.get() == "on"


def get_and_die(q: SharedQueue) -> None:
    q.get(timeout=20)
    die()


def test_the_last_consumer_dies(q: SharedQueue) -> None:
    with child(get_and_die, q), pytest.raises(PeerDied, match="consumer died"):
        while True:
            q.put(b"x" * 1000, timeout=20)


def test_a_stopped_producer_is_not_dead(q: SharedQueue) -> None:
    with child(count_up, q, 0, 100_000) as process:
        q.get(timeout=20)
        os.kill(process.pid, signal.SIGSTOP)
        with pytest.raises(QueueEmpty):
            while True:
                q.get(timeout=0.5)
        os.kill(process.pid, signal.SIGCONT)
        while q.get(timeout=20) != (0, 99_999):
            pass


def hold(q: SharedQueue, pipe: Any) -> None:
    """Lets a child live on that was forked while this process was a producer."""
    q.put("mine")
    pid = os.fork()
    if pid:
        pipe.send(pid)
        time.sleep(60)
    else:
        time.sleep(60)
        os._exit(0)


def test_a_forked_child_does_not_keep_its_dead_parent_alive(q: SharedQueue) -> None:
    here, there = multiprocessing.Pipe()
    with child(hold, q, there) as process:
        orphan = here.recv()
        try:
            assert q.get(timeout=20) == "mine"
            os.kill(process.pid, signal.SIGKILL)
            with pytest.raises(PeerDied):
                q.get(timeout=20)
        finally:
            os.kill(orphan, signal.SIGKILL)


def test_kill_at_random_moments() -> None:
    done = subprocess.run(
        [sys.executable, str(KILLER), "--rounds", "5", "--seed", "1"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 rounds" in done.stdout


def test_the_harness_sees_faults() -> None:
    for fault in ("lose", "repeat", "tear"):
        done = subprocess.run(
            [sys.executable, str(KILLER), "--rounds", "1", "--fault", fault],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert done.returncode == 1, f"{fault}: {done.stdout}{done.stderr}"
