"""The end of a loop: what is refused, what is released, and what a fork leaves alone."""

import asyncio
import gc
import os
import socket
import weakref

import pytest

import flowcore


def test_closing_twice_does_nothing(loop):
    assert not loop.is_closed()
    loop.close()
    loop.close()
    assert loop.is_closed()
    assert "closed=True" in repr(loop)


def test_a_running_loop_is_not_closed(loop):
    failures = []

    def close():
        try:
            loop.close()
        except RuntimeError as error:
            failures.append(str(error))

    loop.call_soon(close)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert failures == ["Cannot close a running event loop"]
    assert not loop.is_closed()


def test_a_loop_in_a_turn_made_by_hand_is_not_closed(loop, reports):
    loop.call_soon(loop.close)
    loop._run_once()
    assert "Cannot close a running event loop" in str(reports[0]["exception"])


CALLS = {
    "call_soon": lambda loop, fd: loop.call_soon(print),
    "call_soon_threadsafe": lambda loop, fd: loop.call_soon_threadsafe(print),
    "call_later": lambda loop, fd: loop.call_later(1, print),
    "call_at": lambda loop, fd: loop.call_at(1, print),
    "add_reader": lambda loop, fd: loop.add_reader(fd, print),
    "add_writer": lambda loop, fd: loop.add_writer(fd, print),
    "add_signal_handler": lambda loop, fd: loop.add_signal_handler(10, print),
    "run_in_executor": lambda loop, fd: loop.run_in_executor(None, print),
    "run_forever": lambda loop, fd: loop.run_forever(),
    "run_until_complete": lambda loop, fd: loop.run_until_complete(loop.create_future()),
    "_run_once": lambda loop, fd: loop._run_once(),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("debug", [False, True])
def test_a_closed_loop_refuses_work(name, debug):
    loop = flowcore.new_event_loop()
    loop.set_debug(debug)
    loop.close()
    left, right = socket.socketpair()
    with left, right, pytest.raises(RuntimeError, match="Event loop is closed"):
        CALLS[name](loop, left.fileno())


def test_a_closed_loop_refuses_tasks():
    loop = flowcore.new_event_loop()
    loop.close()
    coroutine = asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        loop.create_task(coroutine)
    coroutine.close()


def test_what_is_harmless_on_a_closed_loop():
    loop = flowcore.new_event_loop()
    handle, timer = loop.call_soon(print), loop.call_later(1, print)
    loop.close()
    assert loop.time() > 0
    assert loop.remove_reader(0) is False
    assert loop.remove_writer(0) is False
    loop.stop()
    loop._write_to_self()
    loop._add_callback_signalsafe(handle)
    handle.cancel()
    timer.cancel()
    assert timer.cancelled() and not timer._scheduled
    assert repr(timer)


def test_closing_releases_handles_timers_and_watches():
    class Callback:
        def __call__(self):
            pass

    loop = flowcore.new_event_loop()
    left, right = socket.socketpair()
    callbacks = [Callback() for _ in range(5)]
    gone = [weakref.ref(callback) for callback in callbacks]
    handles = [weakref.ref(loop.call_soon(callbacks[0])), weakref.ref(loop.call_later(9, int))]
    loop.call_later(1000, callbacks[1])
    loop.call_at(0, callbacks[2])
    loop.add_reader(left, callbacks[3])
    loop.add_writer(left, callbacks[4])
    del callbacks
    assert all(ref() is not None for ref in gone + handles)
    loop.close()
    assert [ref() for ref in gone + handles] == [None] * 7
    left.close()
    right.close()


def test_finalizers_that_run_while_the_loop_closes_may_call_it():
    outcomes = []

    class Late:
        def __init__(self, loop, others):
            self.loop, self.others = loop, others

        def __call__(self):
            pass

        def __del__(self):
            for other in self.others:
                other.cancel()
            self.loop.close()
            for schedule in (self.loop.call_soon, self.loop.call_soon_threadsafe):
                try:
                    schedule(print)
                except RuntimeError as error:
                    outcomes.append(str(error))

    loop = flowcore.new_event_loop()
    timers = [loop.call_later(i, print) for i in range(20)]
    loop.call_soon(Late(loop, timers[::2]))
    loop.call_later(3, Late(loop, timers[1::2]))
    loop.close()
    assert outcomes == ["Event loop is closed"] * 4


def test_a_closed_loop_is_freed_without_the_collector():
    gc.collect()
    gc.disable()
    try:
        loop = flowcore.new_event_loop()
        loop.run_until_complete(asyncio.sleep(0.001))
        gone = weakref.ref(loop)
        loop.close()
        del loop
        assert gone() is None
    finally:
        gc.enable()


def test_an_unclosed_loop_is_reported_and_collected():
    loop = flowcore.new_event_loop()
    loop.run_until_complete(asyncio.sleep(0.001))
    gone = weakref.ref(loop)
    with pytest.warns(ResourceWarning, match="unclosed event loop"):
        del loop
        gc.collect()
    assert gone() is None


def test_closing_gives_every_descriptor_back():
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        flowcore.new_event_loop().close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_async_generators_are_finalised(loop):
    events = []

    async def generator():
        try:
            while True:
                yield 1
        finally:
            await asyncio.sleep(0)
            events.append("finalised")

    async def main():
        kept.append(generator())
        assert await anext(kept[0]) == 1
        async for _ in generator():
            break
        gc.collect()
        await asyncio.sleep(0.01)
        events.append("main is done")

    kept = []
    loop.run_until_complete(main())
    assert events == ["finalised", "main is done"]
    loop.run_until_complete(loop.shutdown_asyncgens())
    assert events == ["finalised", "main is done", "finalised"]


def in_child(work):
    """Runs ``work()`` in a forked child and returns its exit status."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_makes_its_own_loop(loop):
    loop.run_until_complete(asyncio.sleep(0.001))

    def child():
        own = flowcore.new_event_loop()
        assert own.run_until_complete(asyncio.sleep(0.01, "child")) == "child"
        own.close()

    assert in_child(child) == 0
    assert loop.run_until_complete(asyncio.sleep(0.001, "parent")) == "parent"


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_that_closes_the_loop_leaves_the_parents_watches_alone(loop):
    """The kernel's set of watches is one for both."""
    left, right = socket.socketpair()
    seen = []
    loop.add_reader(left, lambda: seen.append(left.recv(10)))
    assert in_child(loop.close) == 0
    right.send(b"x")
    loop.run_until_complete(asyncio.sleep(0.005))
    assert seen == [b"x"]
    loop.remove_reader(left)
    left.close()
    right.close()
