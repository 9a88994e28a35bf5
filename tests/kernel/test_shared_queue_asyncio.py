"""SharedQueue awaited: by several coroutines and loops, cancelled, closed, forked, with peers that
die."""

import asyncio
import contextlib
import gc
import multiprocessing
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from harness.served import environment

from flowcore.errors import ConnectionClosed, InvalidArgument, InvalidState, LimitExceeded
from flowcore.kernel import PeerDied, SharedQueue

WAIT_S = 20


@pytest.fixture
def q() -> Iterator[SharedQueue]:
    with SharedQueue(1 << 16) as made:
        yield made


@contextlib.contextmanager
def child(target: Callable[..., None], *args: Any) -> Iterator[Any]:
    process = multiprocessing.get_context("fork").Process(target=target, args=args, daemon=True)
    process.start()
    try:
        yield process
        process.join(WAIT_S)
        assert process.exitcode is not None, "the child hangs"
    finally:
        process.kill()
        process.join()


def watchers() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "flowcore-watch"]


def no_watchers() -> bool:
    end = time.monotonic() + 5
    while watchers() and time.monotonic() < end:
        time.sleep(0.01)
    return not watchers()


# ---- messages that are there ---------------------------------------------------------------------


def test_a_message_that_is_there_needs_no_loop(q: SharedQueue) -> None:
    for obj in (b"bytes", "text", [1], None, (1, 2), ValueError("as a value")):
        with pytest.raises(StopIteration) as put:
            q.aput(obj).send(None)
        assert put.value.value is None
        with pytest.raises(StopIteration) as got:
            q.aget().send(None)
        assert repr(got.value.value) == repr(obj)
    assert not watchers()


def test_other_tasks_do_not_run_in_between(q: SharedQueue) -> None:
    async def main() -> None:
        ran: list[int] = []
        asyncio.get_running_loop().call_soon(ran.append, 1)
        for i in range(100):
            await q.aput(i)
        assert [await q.aget() for i in range(100)] == list(range(100))
        assert not ran

    asyncio.run(main())


def test_batches(q: SharedQueue) -> None:
    async def main() -> None:
        q.put_many([b"a", "b", 3, [4]])
        assert await q.aget_many(3) == [b"a", "b", 3]
        assert await q.aget_many() == [[4]]
        with pytest.raises(InvalidArgument):
            await q.aget_many(0)

    asyncio.run(main())


class Unloadable:
    def __reduce__(self) -> tuple[Any, ...]:
        return int, ("no number",)


def test_what_cannot_be_unpickled_takes_nothing_with_it(q: SharedQueue) -> None:
    async def main() -> None:
        q.put_many([1, Unloadable(), b"3", 4])
        assert await q.aget_many() == [1]
        with pytest.raises(ValueError, match="no number"):
            await q.aget_many()
        assert await q.aget() == b"3"
        assert await q.aget_many() == [4]

    asyncio.run(main())


def test_an_iteration_ends_when_the_queue_is_drained(q: SharedQueue) -> None:
    async def main() -> list[Any]:
        q.put_many(range(5))
        q.shutdown()
        got = [each async for each in q]
        with pytest.raises(ConnectionClosed, match="shut down"):
            await q.aget()
        with pytest.raises(ConnectionClosed, match="shut down"):
            await q.aput(1)
        return got

    assert asyncio.run(main()) == list(range(5))


def test_limits(q: SharedQueue) -> None:
    async def main() -> None:
        with pytest.raises(LimitExceeded):
            await q.aput(bytes(1 << 17))
        with pytest.raises((AttributeError, pickle.PicklingError)):
            await q.aput(lambda: None)
        again = q.aput(1)
        await again
        with pytest.raises(RuntimeError, match="reuse"):
            await again

    asyncio.run(main())


# ---- waiting -------------------------------------------------------------------------------------


def put_slowly(q: SharedQueue, n: int) -> None:
    for i in range(n):
        time.sleep(0.01)
        q.put(i)
    q.shutdown()
    q.close()


def test_messages_of_another_process(q: SharedQueue) -> None:
    async def main() -> list[Any]:
        return [each async for each in q]

    with child(put_slowly, q, 30):
        assert asyncio.run(main()) == list(range(30))


def take_slowly(q: SharedQueue, results: Any) -> None:
    with contextlib.suppress(ConnectionClosed):
        while True:
            time.sleep(0.001)
            results.put(len(q.get(timeout=WAIT_S)))


def test_room_that_another_process_makes(q: SharedQueue) -> None:
    async def main() -> None:
        async def send(size: int) -> None:
            for _ in range(40):
                await q.aput(bytes(size))

        await asyncio.wait_for(asyncio.gather(*map(send, (100, 3000, 40_000))), WAIT_S)

    with SharedQueue() as results, child(take_slowly, q, results):
        asyncio.run(main())
        q.shutdown()
        assert sorted(results.get(timeout=WAIT_S) for _ in range(120)) == (
            [100] * 40 + [3000] * 40 + [40_000] * 40
        )


def put_bursts(q: SharedQueue, go: Any, n: int, size: int) -> None:
    for i in range(n):
        go.get(timeout=WAIT_S)
        q.put_many(range(i * size, (i + 1) * size))
    q.close()


def test_a_burst_wakes_the_loop_once(q: SharedQueue) -> None:
    bursts, size, calls = 5, 200, 0

    async def main() -> list[Any]:
        nonlocal calls
        loop: Any = asyncio.get_running_loop()
        real = loop.call_soon_threadsafe

        def counted(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            return real(*args, **kwargs)

        loop.call_soon_threadsafe = counted
        got: list[Any] = []
        while len(got) < bursts * size:
            if len(got) % size == 0:
                asyncio.get_running_loop().call_later(0.02, go.put, None)
            got.append(await q.aget())
        return got

    with SharedQueue() as go, child(put_bursts, q, go, bursts, size):
        assert asyncio.run(main()) == list(range(bursts * size))
    assert 1 <= calls <= 4 * bursts


def test_waiting_does_not_spin(q: SharedQueue) -> None:
    async def wait(each: Any) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await each

    q.put_many([bytes(60_000)] * 2, block=False)
    with SharedQueue() as empty:
        began = time.process_time()
        asyncio.run(wait(empty.aget()))
        asyncio.run(wait(q.aput(bytes(60_000))))
        assert time.process_time() - began < 0.4


def test_the_thread_ends_when_nobody_waits(q: SharedQueue) -> None:
    async def main() -> None:
        for _ in range(2):
            waiting = asyncio.create_task(q.aget())
            await asyncio.sleep(0.05)
            assert len(watchers()) == 1
            waiting.cancel()
            assert await asyncio.to_thread(no_watchers)

    assert no_watchers()
    asyncio.run(main())


def test_a_queue_that_was_awaited_is_freed_at_once(q: SharedQueue) -> None:
    async def main() -> None:
        made = SharedQueue()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(made.aget(), 0.05)

    before = len(os.listdir("/proc/self/fd"))
    asyncio.run(main())
    gc.collect()
    assert no_watchers()
    assert len(os.listdir("/proc/self/fd")) == before


# ---- several at once -----------------------------------------------------------------------------


def test_several_coroutines_share_the_messages(q: SharedQueue) -> None:
    async def main() -> list[list[int]]:
        async def take() -> list[int]:
            got = []
            async for each in q:
                got.append(each)
                await asyncio.sleep(0)
            return got

        takers = [asyncio.create_task(take()) for _ in range(5)]
        await asyncio.sleep(0.05)
        for i in range(500):
            q.put(i)
            if i % 50 == 0:
                await asyncio.sleep(0.005)
        q.shutdown()
        return await asyncio.wait_for(asyncio.gather(*takers), WAIT_S)

    found = asyncio.run(main())
    assert sorted(sum(found, [])) == list(range(500))
    assert all(found)


def test_several_loops_share_the_messages(q: SharedQueue) -> None:
    found: list[list[int]] = [[], [], []]

    async def take(got: list[int]) -> None:
        async for each in q:
            got.append(each)
            await asyncio.sleep(0.0005)

    threads = [threading.Thread(target=lambda g=got: asyncio.run(take(g))) for got in found]
    for each in threads:
        each.start()
    for i in range(600):
        q.put(i)
        if i % 60 == 0:
            time.sleep(0.01)
    q.shutdown()
    for each in threads:
        each.join(WAIT_S)
        assert not each.is_alive()
    assert sorted(sum(found, [])) == list(range(600))
    assert all(found)


def test_a_loop_that_is_busy_keeps_no_message_from_another(q: SharedQueue) -> None:
    busy = threading.Event()
    got: list[Any] = []

    async def stuck() -> None:
        waiting = asyncio.create_task(q.aget())
        await asyncio.sleep(0.05)
        busy.wait(WAIT_S)
        waiting.cancel()

    async def free() -> None:
        await asyncio.sleep(0.1)
        got.append(await asyncio.wait_for(q.aget(), WAIT_S))

    threads = [threading.Thread(target=lambda f=f: asyncio.run(f())) for f in (stuck, free)]
    for each in threads:
        each.start()
    time.sleep(0.3)
    q.put("message")
    threads[1].join(5)
    busy.set()
    for each in threads:
        each.join(WAIT_S)
    assert got == ["message"]


# ---- giving up -----------------------------------------------------------------------------------


def test_to_be_cancelled_takes_no_message_away(q: SharedQueue) -> None:
    n, rng = 3000, random.Random(5)

    def send() -> None:
        for i in range(n):
            q.put(i)
            if rng.random() < 0.2:
                time.sleep(rng.uniform(0, 0.0005))

    async def main() -> list[Any]:
        got: list[Any] = []
        cancelled = 0
        while len(got) < n:
            task = asyncio.create_task(q.aget())
            for _ in range(rng.randrange(3)):
                await asyncio.sleep(rng.uniform(0, 0.0004))
            if not task.done() and rng.random() < 0.5:
                task.cancel()
            try:
                got.append(await asyncio.wait_for(task, WAIT_S))
            except asyncio.CancelledError:
                cancelled += 1
        assert cancelled > 10
        return got

    thread = threading.Thread(target=send)
    thread.start()
    assert asyncio.run(main()) == list(range(n))
    thread.join()


def test_one_that_is_cancelled_passes_its_turn_on(q: SharedQueue) -> None:
    async def main() -> None:
        first, second = (asyncio.create_task(q.aget()) for _ in range(2))
        await asyncio.sleep(0.05)
        q.put("message")
        while not first.done() and len(q):
            await asyncio.sleep(0)  # until the wake-up is on its way to the first
            first.cancel()
        done = await asyncio.wait_for(asyncio.gather(first, second, return_exceptions=True), 5)
        assert done.count("message") == 1

    asyncio.run(main())


def test_closing_ends_the_waits_at_once(q: SharedQueue) -> None:
    async def main() -> float:
        full = SharedQueue(4096)
        full.put(bytes(4000))
        waiting = [asyncio.create_task(each) for each in (q.aget(), q.aget(), full.aput(bytes(99)))]
        await asyncio.sleep(0.15)
        q.close()
        full.close()
        began = time.monotonic()
        done = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(each) for each in done] == [InvalidState] * 3
        return time.monotonic() - began

    assert asyncio.run(main()) < 0.09
    assert no_watchers()


def test_shutdown_ends_all_waits(q: SharedQueue) -> None:
    async def main() -> None:
        with SharedQueue.from_fd(q.fileno()) as other:
            other.put(bytes(60_000))
            waiting = [asyncio.create_task(other.aput(bytes(60_000))) for _ in range(3)]
            await asyncio.sleep(0.05)
            q.shutdown()
            done = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 5)
            assert [type(each) for each in done] == [ConnectionClosed] * 3
        with SharedQueue() as other:
            waiting = [asyncio.create_task(other.aget()) for _ in range(3)]
            await asyncio.sleep(0.05)
            other.shutdown()
            done = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 5)
            assert [type(each) for each in done] == [ConnectionClosed] * 3

    asyncio.run(main())


def test_a_loop_that_was_closed_is_forgotten(q: SharedQueue) -> None:
    loop = asyncio.new_event_loop()
    task = loop.create_task(q.aget())
    loop.run_until_complete(asyncio.sleep(0.05))
    loop.close()
    assert no_watchers()
    q.put("message")
    assert asyncio.run(q.aget()) == "message"
    task._log_destroy_pending = False  # type: ignore[attr-defined]


def test_the_interpreter_ends_while_the_thread_waits() -> None:
    program = """
import asyncio
from flowcore.kernel import SharedQueue
q = SharedQueue()
loop = asyncio.new_event_loop()
task = loop.create_task(q.aget())
loop.run_until_complete(asyncio.sleep(0.05))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, timeout=WAIT_S
    )
    assert done.returncode == 0, done.stderr


# ---- forks and deaths ----------------------------------------------------------------------------


def test_a_forked_child_waits_for_itself(q: SharedQueue) -> None:
    """Neither the thread nor the coroutines of the parent are the child's."""

    def in_child() -> int:
        if watchers():
            return 1
        threading.Timer(0.2, q.put, ("child's",)).start()
        return 0 if asyncio.run(asyncio.wait_for(q.aget(), 5)) == "child's" else 2

    async def main() -> None:
        waiting = asyncio.create_task(q.aget())
        await asyncio.sleep(0.05)
        pid = os.fork()
        if not pid:
            status = 3
            with contextlib.suppress(BaseException):
                asyncio.events._set_running_loop(None)
                status = in_child()
            os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        q.put("parent's")
        assert await asyncio.wait_for(waiting, 5) == "parent's"

    asyncio.run(main())


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def put_and_die(q: SharedQueue) -> None:
    q.put("last words")
    die()


def test_the_last_producer_dies(q: SharedQueue) -> None:
    async def main() -> None:
        assert await asyncio.wait_for(q.aget(), WAIT_S) == "last words"
        waiting = [asyncio.create_task(q.aget()) for _ in range(2)]
        done, rest = await asyncio.wait(waiting, return_when="FIRST_COMPLETED", timeout=WAIT_S)
        assert [type(each.exception()) for each in done] == [PeerDied]  # told once
        await q.aput("on")
        assert await asyncio.wait_for(rest.pop(), WAIT_S) == "on"

    with child(put_and_die, q):
        asyncio.run(main())


def get_and_die(q: SharedQueue) -> None:
    q.get(timeout=WAIT_S)
    die()


def test_the_last_consumer_dies(q: SharedQueue) -> None:
    async def main() -> None:
        while True:
            await asyncio.wait_for(q.aput(bytes(1000)), WAIT_S)

    with child(get_and_die, q), pytest.raises(PeerDied, match="consumer died"):
        asyncio.run(main())
