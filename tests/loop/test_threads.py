"""Loops and threads: waking a loop from outside, and several loops at once."""

import asyncio
import os
import threading
import time

import pytest

import flowcore


def test_a_sleeping_loop_is_woken(loop):
    seen = []

    def wake():
        time.sleep(0.05)
        loop.call_soon_threadsafe(seen.append, "woken")
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=wake)
    start = time.monotonic()
    thread.start()
    loop.run_forever()
    thread.join()
    assert seen == ["woken"]
    assert time.monotonic() - start < 5


def test_calls_from_many_threads_all_arrive_each_threads_in_order(loop):
    threads, calls = 8, 2000
    seen = {i: [] for i in range(threads)}
    left = threads * calls

    def arrive(thread, number):
        nonlocal left
        seen[thread].append(number)
        left -= 1
        if not left:
            loop.stop()

    def work(thread):
        for number in range(calls):
            loop.call_soon_threadsafe(arrive, thread, number)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(threads)]
    loop.call_soon(lambda: [worker.start() for worker in workers])
    guard = loop.call_later(60, loop.stop)
    loop.run_forever()
    guard.cancel()
    for worker in workers:
        worker.join()
    assert seen == {i: list(range(calls)) for i in range(threads)}


def test_no_wake_up_is_lost(loop):
    """A ping-pong: each side waits for the other, so a lost wake-up hangs it."""
    rounds, ping = 2000, threading.Event()
    done = []

    def pong():
        for _ in range(rounds):
            if not ping.wait(20):
                return
            ping.clear()
            loop.call_soon_threadsafe(turn)

    def turn():
        done.append(1)
        if len(done) < rounds:
            ping.set()
        else:
            loop.stop()

    thread = threading.Thread(target=pong)
    thread.start()
    ping.set()
    guard = loop.call_later(60, loop.stop)
    loop.run_forever()
    guard.cancel()
    ping.set()
    thread.join()
    assert len(done) == rounds


def eventfd_of(loop):
    """The descriptor the loop is woken by, found by its count in /proc."""
    counts = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            if "eventfd" in os.readlink(f"/proc/self/fd/{name}"):
                with open(f"/proc/self/fdinfo/{name}") as info:
                    counts[int(name)] = info.read()
        except OSError:
            pass
    return counts


def test_an_awake_loop_is_not_written_to(loop):
    before = eventfd_of(loop)
    assert before
    changed = []

    def look():
        thread = threading.Thread(
            target=lambda: [loop.call_soon_threadsafe(int) for _ in range(10)]
        )
        thread.start()
        thread.join()
        changed.append(eventfd_of(loop) != before)
        loop._write_to_self()
        changed.append(eventfd_of(loop) != before)
        loop.stop()

    loop.call_soon(look)
    loop.run_forever()
    assert changed == [False, True]


def test_scheduling_for_a_loop_that_does_not_run_yet(loop):
    seen = []
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(seen.append, 1))
    thread.start()
    thread.join()
    assert seen == []
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert seen == [1]


def test_loops_in_several_threads(loop):
    async def work(n):
        total = 0
        for i in range(200):
            await asyncio.sleep(0 if i % 10 else 0.0002)
            total += i
        return n, total

    results = []
    threads = [
        threading.Thread(target=lambda n=n: results.append(flowcore.run(work(n))))
        for n in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [(n, 19900) for n in range(6)]


def test_loops_talk_across_threads(loop):
    other = flowcore.new_event_loop()
    thread = threading.Thread(target=other.run_forever)
    thread.start()

    async def double(x):
        await asyncio.sleep(0.001)
        return 2 * x

    async def main():
        futures = [asyncio.run_coroutine_threadsafe(double(i), other) for i in range(50)]
        return await asyncio.gather(*map(asyncio.wrap_future, futures))

    try:
        assert loop.run_until_complete(main()) == [2 * i for i in range(50)]
    finally:
        other.call_soon_threadsafe(other.stop)
        thread.join()
        other.close()


def test_other_threads_run_while_the_loop_sleeps(loop):
    ticks = []

    def tick():
        for _ in range(20):
            time.sleep(0.005)
            ticks.append(time.monotonic())

    thread = threading.Thread(target=tick)
    thread.start()
    loop.run_until_complete(asyncio.sleep(0.3))
    woke = time.monotonic()
    thread.join()
    assert len(ticks) == 20 and ticks[9] < woke


def test_executor(loop):
    async def main():
        here = threading.get_ident()
        there = await loop.run_in_executor(None, threading.get_ident)
        assert there != here
        with pytest.raises(ZeroDivisionError):
            await loop.run_in_executor(None, lambda: 1 / 0)
        assert await asyncio.to_thread(sum, range(10)) == 45
        await loop.shutdown_default_executor()

    loop.run_until_complete(main())


def test_threads_cannot_close_a_loop_that_runs_in_another(loop):
    failures = []

    def close():
        try:
            loop.close()
        except RuntimeError as error:
            failures.append(str(error))
        loop.call_soon_threadsafe(loop.stop)

    thread = threading.Thread(target=close)
    loop.call_soon(thread.start)
    loop.run_forever()
    thread.join()
    assert failures == ["Cannot close a running event loop"]
