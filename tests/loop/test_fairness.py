"""Work that is always ready starves neither descriptors nor timers nor signals."""

import os
import signal
import socket
import time

import pytest


@pytest.fixture
def pair():
    left, right = socket.socketpair()
    left.setblocking(False)
    right.setblocking(False)
    with left, right:
        yield left, right


def busy_until(loop, done, cost=lambda: None, limit=1_000_000):
    """Keeps one callback ready at all times until `done`; returns how many were run."""
    count = 0

    def again():
        nonlocal count
        count += 1
        cost()
        if done() or count >= limit:
            loop.stop()
        else:
            loop.call_soon(again)

    loop.call_soon(again)
    loop.run_forever()
    return count


def test_a_chain_of_callbacks_polls_every_61(loop, pair):
    left, right = pair
    seen = []

    def ready():
        seen.append(left.recv(100))

    loop.add_reader(left, ready)
    gaps = []
    for _ in range(20):
        seen.clear()
        right.send(b"x")
        # The turn that run_forever() starts with polls; what is sent after it waits longest.
        gaps.append(busy_until(loop, lambda: seen))
    assert seen == [b"x"]
    assert max(gaps) <= 2 * 61
    loop.remove_reader(left)


def test_data_that_comes_amid_a_chain_is_seen_within_61_callbacks(loop, pair):
    left, right = pair
    at = {}
    count = 0

    def again():
        nonlocal count
        count += 1
        if count == 10_000:
            right.send(b"x")
            at["sent"] = count
        if "got" in at or count > 20_000:
            loop.stop()
        else:
            loop.call_soon(again)

    def ready():
        left.recv(10)
        at["got"] = count

    loop.add_reader(left, ready)
    loop.call_soon(again)
    loop.run_forever()
    loop.remove_reader(left)
    assert at["got"] - at["sent"] <= 62


def test_slow_callbacks_poll_by_time(loop, pair):
    left, right = pair
    seen = []
    loop.add_reader(left, lambda: seen.append(left.recv(10)))

    def cost():
        end = time.perf_counter() + 300e-6
        while time.perf_counter() < end:
            pass

    def start():
        right.send(b"x")

    loop.call_soon(start)
    assert busy_until(loop, lambda: seen, cost) <= 10
    loop.remove_reader(left)


def test_timers_fire_amid_a_chain(loop):
    fired = []
    loop.call_later(0.01, lambda: fired.append(loop.time()))
    due = loop.time() + 0.01
    busy_until(loop, lambda: fired)
    assert 0 <= fired[0] - due < 0.05


def test_a_long_queue_is_interrupted_to_poll(loop, pair):
    """The queue was filled in one go, so no turn ends within it. What its first callback makes
    ready is found before its last one schedules more, and is called once."""
    left, right = pair
    order = []
    loop.add_reader(left, lambda: order.append(("read", left.recv(10))))
    loop.call_soon(right.send, b"x")
    loop.call_soon(loop.call_later, 0, order.append, "timer")
    for _ in range(1000):
        loop.call_soon(int)
    loop.call_soon(order.append, "end of the queue")
    loop.call_soon(loop.call_soon, order.append, "scheduled at the end")
    loop.call_later(0.02, loop.stop)
    loop.run_forever()
    loop.remove_reader(left)
    found = [("read", b"x"), "timer"]
    assert order == ["end of the queue", *found, "scheduled at the end"]


def test_signals_are_seen_amid_a_chain_of_builtins(loop):
    """Callbacks that run no bytecode give the interpreter no occasion to look for signals."""
    seen = []
    old = signal.signal(signal.SIGUSR1, lambda *_: (seen.append(1), loop.stop()))
    handle = None
    try:
        loop.call_later(0.01, os.kill, os.getpid(), signal.SIGUSR1)
        handle = loop.call_later(10, loop.stop)
        loop.run_forever()
    finally:
        signal.signal(signal.SIGUSR1, old)
        handle.cancel()
    assert seen == [1]
