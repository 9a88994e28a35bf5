"""Nothing grows: objects, descriptors and memory after many of everything."""

import asyncio
import gc
import os
import socket

import pytest


def resident_kb():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def assert_steady(work, rounds=4, slack_kb=2048):
    """Runs `work` repeatedly: after a warm-up nothing may grow."""
    work()
    work()
    gc.collect()
    objects, open_files, memory = len(gc.get_objects()), descriptors(), resident_kb()
    for _ in range(rounds):
        work()
    gc.collect()
    assert len(gc.get_objects()) - objects < 100
    assert descriptors() == open_files
    assert resident_kb() - memory < slack_kb


def test_timers_that_are_cancelled(loop):
    def work():
        for i in range(20_000):
            loop.call_later(60 + i * 0.01, print, i).cancel()

    assert_steady(work)


def test_many_timers_pending_at_once(loop):
    def work():
        handles = [loop.call_later(60 + i * 0.01, print, i) for i in range(20_000)]
        loop.run_until_complete(asyncio.sleep(0.001))
        for handle in handles:
            handle.cancel()

    assert_steady(work)


def test_timers_that_fire(loop):
    def work():
        for i in range(5_000):
            loop.call_later(i * 1e-6, int)
        loop.run_until_complete(asyncio.sleep(0.006))

    assert_steady(work)


def test_callbacks(loop):
    def work():
        for i in range(20_000):
            loop.call_soon(int, i)
        for _ in range(1_000):
            loop.call_soon(print).cancel()
        loop.run_until_complete(asyncio.sleep(0))

    assert_steady(work)


def test_callbacks_that_fail(loop, reports):
    def work():
        for _ in range(1_000):
            loop.call_soon(divmod, 1, 0)
        loop.run_until_complete(asyncio.sleep(0))
        assert len(reports) == 1_000
        reports.clear()

    assert_steady(work)


def test_tasks(loop):
    async def main():
        await asyncio.gather(*(asyncio.sleep(0.0001 * (i % 5), i) for i in range(2_000)))

    assert_steady(lambda: loop.run_until_complete(main()))


def test_connections(loop):
    async def handle(reader, writer):
        writer.write(await reader.readline())
        writer.close()

    async def main():
        async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
            for _ in range(100):
                reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
                writer.write(b"line\n")
                assert await reader.read() == b"line\n"
                writer.close()
                await writer.wait_closed()

    assert_steady(lambda: loop.run_until_complete(main()))


def test_watches(loop):
    left, right = socket.socketpair()

    def work():
        for _ in range(5_000):
            loop.add_reader(left, print)
            loop.add_writer(left, print)
            loop.add_reader(left, print)
            loop.remove_reader(left)
            loop.remove_writer(left)

    with left, right:
        assert_steady(work)


def test_threadsafe_calls(loop):
    def work():
        async def main():
            await asyncio.gather(*(loop.run_in_executor(None, int, "1") for _ in range(500)))

        loop.run_until_complete(main())

    assert_steady(work, slack_kb=4096)


@pytest.mark.parametrize("pending", [False, True])
def test_loops(pending):
    import flowcore

    def work():
        for _ in range(50):
            loop = flowcore.new_event_loop()
            loop.run_until_complete(asyncio.sleep(0))
            if pending:
                loop.call_soon(print)
                loop.call_later(100, print)
            loop.close()

    assert_steady(work)
