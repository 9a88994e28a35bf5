"""SPSCQueue and MPMCQueue between coroutines, and between threads and coroutines."""

import asyncio
import gc
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import pytest

import flowcore
from flowcore.errors import InvalidArgument
from flowcore.kernel import MPMCQueue, QueueClosed, SPSCQueue

KINDS = [SPSCQueue, MPMCQueue]
LOOPS = {"asyncio": asyncio.new_event_loop, "flowcore": flowcore.new_event_loop}


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def make(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Any:
    """Runs a coroutine on a loop of each kind, with a bound on its time."""

    def run_bounded(main: Coroutine[Any, Any, Any]) -> Any:
        async def bounded() -> Any:
            async with asyncio.timeout(20):
                return await main

        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            return runner.run(bounded())

    return run_bounded


def in_thread(work: Callable[[], Any]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def steps_of(awaitable: Any) -> int:
    """How often it suspends before it ends."""
    iterator, count = awaitable.__await__(), 0
    while True:
        try:
            next(iterator)
        except StopIteration:
            return count
        count += 1


def test_what_is_there_is_answered_without_suspending(make: Any) -> None:
    q = make(4)
    q.put_many([1, 2, 3])
    assert steps_of(q.aget()) == steps_of(q.aget_many()) == steps_of(q.aput(4)) == 0
    assert q.get() == 4


@pytest.mark.parametrize(
    "value", [None, 0, (), (1, 2), ValueError("a value"), StopIteration(3), ValueError, [1], "x"]
)
def test_any_value_comes_through_as_it_is(make: Any, run: Any, value: Any) -> None:
    async def main() -> None:
        q = make(4)
        q.put(value)
        assert await q.aget() is value
        q.put(value)
        assert (await q.aget_many())[0] is value
        task = asyncio.create_task(q.aget())
        await asyncio.sleep(0)
        q.put(value)
        assert await task is value

    run(main())


def test_aget_waits_for_put(make: Any, run: Any) -> None:
    async def main() -> None:
        q = make(2)
        task = asyncio.create_task(q.aget())
        await asyncio.sleep(0.01)
        assert not task.done()
        q.put("late")
        assert await task == "late"

    run(main())


def test_aput_waits_for_room(make: Any, run: Any) -> None:
    async def main() -> None:
        q = make(1)
        await q.aput(1)
        task = asyncio.create_task(q.aput(2))
        await asyncio.sleep(0.01)
        assert not task.done()
        assert await q.aget() == 1
        await task
        assert await q.aget() == 2

    run(main())


def test_a_thread_wakes_a_coroutine(make: Any, run: Any) -> None:
    async def main() -> None:
        q = make(2)
        in_thread(lambda: (time.sleep(0.03), q.put("from a thread")))
        assert await q.aget() == "from a thread"
        await q.aput(1)
        await q.aput(2)
        in_thread(lambda: (time.sleep(0.03), q.get()))
        await q.aput(3)
        assert q.try_get_many() == [2, 3]

    run(main())


def test_a_coroutine_wakes_a_thread(make: Any, run: Any) -> None:
    async def main() -> None:
        q, answers = make(1), make(8)
        in_thread(lambda: answers.put_many([q.get(), q.get(), q.get()]))
        for i in range(3):
            await asyncio.sleep(0.01)
            await q.aput(i)
        assert await answers.aget_many() == [0, 1, 2]

    run(main())


def test_async_for_ends_with_the_closed_queue(make: Any, run: Any) -> None:
    async def main() -> None:
        q = make(4)
        in_thread(lambda: (q.put_many(range(100)), time.sleep(0.02), q.close()))
        assert [each async for each in q] == list(range(100))
        assert [each async for each in q] == []

    run(main())


def test_close_wakes_everybody(make: Any, run: Any) -> None:
    async def main() -> None:
        empty, full = make(1), make(1)
        full.put(0)
        waiting = [empty.aget(), empty.aget(), empty.aget_many(), full.aput(1), full.aput(2)]
        tasks = [asyncio.create_task(each) for each in waiting]
        await asyncio.sleep(0.01)
        in_thread(lambda: (empty.close(), full.close()))
        for each in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(each, QueueClosed)
        with pytest.raises(QueueClosed):
            await empty.aget()
        with pytest.raises(QueueClosed):
            await full.aput(3)
        assert await full.aget() == 0

    run(main())


def test_bad_arguments_raise_at_the_call(make: Any) -> None:
    with pytest.raises(InvalidArgument):
        make(1).aget_many(0)
    with pytest.raises(TypeError):
        make(1).aget_many("all")


@pytest.mark.parametrize("count", [1, 3])
def test_nothing_is_lost_doubled_or_out_of_order(make: Any, run: Any, count: int) -> None:
    """Threads and coroutines on both sides of one queue, some of them cancelled all the time."""
    items = 400

    async def main() -> None:
        q = make(4)
        found: list[tuple[str, int]] = []

        def thread_puts(me: str) -> None:
            for i in range(items):
                q.put((me, i))

        def thread_gets() -> None:
            found.extend(q)

        async def task_puts(me: str) -> None:
            for i in range(items):
                await q.aput((me, i))

        async def task_gets() -> None:
            async for each in q:
                found.append(each)

        async def hesitant() -> None:
            while True:
                try:
                    found.append(await asyncio.wait_for(q.aget(), 0.0005))
                except TimeoutError:
                    pass
                except QueueClosed:
                    return

        takers = [asyncio.create_task(task_gets()) for _ in range(count)]
        takers += [asyncio.create_task(hesitant()) for _ in range(count)]
        threads = [in_thread(thread_gets) for _ in range(count)]
        makers = [in_thread(partial(thread_puts, f"thread {i}")) for i in range(count)]
        await asyncio.gather(*(task_puts(f"task {i}") for i in range(count)))
        await until(lambda: not any(each.is_alive() for each in makers))
        q.close()
        await asyncio.gather(*takers)
        await until(lambda: not any(each.is_alive() for each in threads))
        names = [f"{kind} {i}" for kind in ("thread", "task") for i in range(count)]
        assert sorted(found) == sorted((name, i) for name in names for i in range(items))

    run(main())


def test_one_taker_sees_the_order_of_each_producer(make: Any, run: Any) -> None:
    async def main() -> None:
        q = make(8)

        def produce(me: int) -> None:
            for i in range(500):
                q.put((me, i))

        threads = [in_thread(partial(produce, i)) for i in range(3)]
        seen = [await q.aget() for _ in range(1500)]
        for me in range(3):
            assert [i for who, i in seen if who == me] == list(range(500))
        assert not any(each.is_alive() for each in threads) or q.empty()

    run(main())


# ---- wake-ups -----------------------------------------------------------------------------------


class CountingLoop(asyncio.SelectorEventLoop):
    threadsafe_calls = 0
    futures = 0

    def call_soon_threadsafe(self, *args: Any, **kwargs: Any) -> asyncio.Handle:
        self.threadsafe_calls += 1
        return super().call_soon_threadsafe(*args, **kwargs)

    def create_future(self) -> asyncio.Future[Any]:
        self.futures += 1
        return super().create_future()


def test_many_items_are_one_wake_up_and_no_future_each(make: Any) -> None:
    loop = CountingLoop()

    async def main() -> None:
        q = make(1024)
        waiter = asyncio.create_task(q.aget())
        await asyncio.sleep(0)
        assert loop.futures == 1
        calls = loop.threadsafe_calls

        def produce() -> None:
            for i in range(500):
                q.put(i)

        thread = threading.Thread(target=produce)
        thread.start()
        thread.join()  # the loop stands still, so it cannot have been woken in between
        assert loop.threadsafe_calls == calls + 1
        futures = loop.futures
        assert await waiter == 0
        for i in range(1, 500):
            assert await q.aget() == i
        assert loop.futures == futures

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(main())


def test_several_sleepers_share_a_wake_up(make: Any) -> None:
    loop = CountingLoop()

    async def main() -> None:
        q = make(16)
        tasks = [asyncio.create_task(q.aget()) for _ in range(8)]
        await asyncio.sleep(0)
        calls = loop.threadsafe_calls
        thread = threading.Thread(target=lambda: [q.put(i) for i in range(8)])
        thread.start()
        thread.join()
        assert loop.threadsafe_calls == calls + 1
        assert await asyncio.gather(*tasks) == list(range(8))

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(main())


def test_a_task_wakes_another_without_waking_the_loop(make: Any) -> None:
    loop = CountingLoop()

    async def main() -> None:
        q = make(1)
        tasks = [asyncio.create_task(q.aget()) for _ in range(5)]
        await asyncio.sleep(0)
        calls = loop.threadsafe_calls
        for i in range(5):
            await q.aput(i)
        await asyncio.gather(*tasks)
        assert loop.threadsafe_calls == calls

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(main())


def test_who_waits_longest_is_first(make: Any, run: Any) -> None:
    async def main() -> None:
        q = make(8)
        order: list[int] = []

        async def take(me: int) -> None:
            await q.aget()
            order.append(me)

        tasks = [asyncio.create_task(take(i)) for i in range(5)]
        await asyncio.sleep(0)
        for _ in range(5):
            q.put(None)
            await asyncio.sleep(0.002)
        await asyncio.gather(*tasks)
        assert order == list(range(5))

    run(main())


def test_who_was_woken_in_vain_keeps_its_place(make: Any, run: Any) -> None:
    async def main() -> None:
        q = make(8)
        order: list[int] = []

        async def take(me: int) -> None:
            order.append((me, await q.aget()))  # type: ignore[arg-type]

        tasks = [asyncio.create_task(take(i)) for i in range(3)]
        await asyncio.sleep(0)
        q.put("stolen")
        assert q.get() == "stolen"  # before the one that was woken has run
        await asyncio.sleep(0.01)
        q.put_many("abc")
        await asyncio.gather(*tasks)
        assert order == [(0, "a"), (1, "b"), (2, "c")]

    run(main())


# ---- giving up ----------------------------------------------------------------------------------


def test_cancelling_who_was_woken_passes_the_wake_up_on(make: Any, run: Any) -> None:
    async def main() -> None:
        q = make(4)
        first = asyncio.create_task(q.aget())
        second = asyncio.create_task(q.aget())
        await asyncio.sleep(0)
        q.put("x")
        await asyncio.sleep(0)  # the wake-up is handed out; the first has not run yet
        first.cancel()
        assert await second == "x"
        with pytest.raises(asyncio.CancelledError):
            await first

    run(main())


def test_cancelling_before_the_wake_up_is_handed_out(make: Any, run: Any) -> None:
    async def main() -> None:
        q = make(4)
        tasks = [asyncio.create_task(q.aget()) for _ in range(3)]
        await asyncio.sleep(0)
        thread = threading.Thread(target=q.put, args=("x",))
        thread.start()
        thread.join()
        tasks[0].cancel()
        tasks[1].cancel()
        assert await tasks[2] == "x"

    run(main())


def test_a_cancelled_coroutine_hands_its_wake_up_to_a_thread(make: Any, run: Any) -> None:
    async def main() -> None:
        q, answers = make(4), make(4)
        task = asyncio.create_task(q.aget())
        await asyncio.sleep(0)
        # The wake-up is owed to the coroutine when a thread comes to wait as well.
        threading.Thread(target=q.put, args=(1,)).start()
        await asyncio.sleep(0.01)
        assert await task == 1
        task = asyncio.create_task(q.aget())
        await asyncio.sleep(0)
        in_thread(lambda: answers.put(q.get()))
        await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.sleep(0)
        q.put(2)
        assert await answers.aget() == 2

    run(main())


def test_time_outs_lose_no_item(make: Any, run: Any) -> None:
    async def main() -> None:
        q = make(4)
        found: list[int] = []
        thread = in_thread(lambda: [(q.put(i), time.sleep(0.0003)) for i in range(300)])
        while len(found) < 300:
            try:
                async with asyncio.timeout(0.0004):
                    found.append(await q.aget())
            except TimeoutError:
                pass
        assert found == list(range(300))
        await until(lambda: not thread.is_alive())

    run(main())


def test_a_cancelled_put_puts_nothing(make: Any, run: Any) -> None:
    async def main() -> None:
        q = make(1)
        q.put(1)
        task = asyncio.create_task(q.aput(2))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert q.get() == 1
        await asyncio.sleep(0.01)
        assert q.empty()

    run(main())


def test_an_operation_that_is_not_awaited_does_nothing(make: Any) -> None:
    q = make(1)
    q.put(1)
    q.aget()
    q.aput(2)
    assert q.get() == 1 and q.empty()


def test_an_operation_is_awaited_once(make: Any, run: Any) -> None:
    async def main() -> None:
        q = make(2)
        q.put_many([1, 2])
        operation = q.aget()
        assert await operation == 1
        with pytest.raises(RuntimeError, match="cannot reuse"):
            await operation
        assert q.get() == 2

    run(main())


def test_an_operation_outside_of_a_loop(make: Any) -> None:
    q = make(1)
    with pytest.raises(RuntimeError, match="no running event loop"):
        next(q.aget().__await__())
    q.put(1)
    assert q.get() == 1


def test_steps_out_of_turn(make: Any) -> None:
    """What a scheduler must not do, and what close() and throw() do."""

    async def main() -> None:
        q = make(1)
        waiting = q.aget()
        iterator = waiting.__await__()
        future = next(iterator)
        with pytest.raises(RuntimeError, match="before it was woken"):
            next(iterator)
        future.cancel()
        with pytest.raises(asyncio.CancelledError):
            next(iterator)
        thrown = q.aget()
        thrown.send(None)
        with pytest.raises(LookupError):
            thrown.throw(LookupError("thrown"))
        closed = q.aget()
        closed.send(None)
        closed.close()
        never_begun = q.aget()
        with pytest.raises(LookupError):
            never_begun.throw(LookupError)
        never_begun.close()
        # None of them is left to take a wake-up away from this one.
        task = asyncio.create_task(q.aget())
        await asyncio.sleep(0)
        q.put("x")
        assert await task == "x"

    asyncio.run(main())


def test_a_dropped_operation_leaves_its_wake_up_to_others(make: Any) -> None:
    async def main() -> None:
        q = make(1)
        dropped = q.aget()
        dropped.send(None)
        task = asyncio.create_task(q.aget())
        await asyncio.sleep(0)
        q.put("x")
        del dropped
        gc.collect()
        async with asyncio.timeout(5):
            assert await task == "x"

    asyncio.run(main())


# ---- loops that come and go ---------------------------------------------------------------------


def test_a_closed_loops_coroutines_take_no_wake_ups(make: Any) -> None:
    q = make(4)
    for factory in LOOPS.values():
        loop = factory()
        task = loop.create_task(q.aget())
        loop.run_until_complete(asyncio.sleep(0.01))
        loop.close()
        # Nobody is woken, nothing raises, nothing is lost.
        q.put("x")
        assert q.get() == "x"
        task.get_coro().close()
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        del task

    async def again() -> Any:
        task = asyncio.create_task(q.aget())
        await asyncio.sleep(0)
        q.put("y")
        return await task

    assert asyncio.run(again()) == "y"


def test_a_closed_loop_is_let_go(make: Any) -> None:
    q = make(4)

    async def wait() -> None:
        task = asyncio.create_task(q.aget())
        await asyncio.sleep(0)
        task.cancel()

    loop = asyncio.new_event_loop()
    loop.run_until_complete(wait())
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    gone = weakref.ref(loop)
    del loop
    asyncio.run(wait())  # the next loop to wait finds that the last one is closed
    gc.collect()
    assert gone() is None


def test_several_loops_wait_at_one_queue(make: Any) -> None:
    q, answers = make(64), make(1024)
    ready = threading.Barrier(4)

    async def take() -> None:
        async for each in q:
            await answers.aput(each)

    def loop_in_thread(factory: Callable[[], asyncio.AbstractEventLoop]) -> None:
        ready.wait()
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(take())

    factories = [asyncio.new_event_loop, flowcore.new_event_loop, flowcore.new_event_loop]
    threads = [in_thread(partial(loop_in_thread, each)) for each in factories]
    ready.wait()
    for i in range(600):
        q.put(i)
    q.close()
    for each in threads:
        each.join(20)
        assert not each.is_alive()
    assert sorted(answers.try_get_many()) == list(range(600))


def test_a_signals_handler_wakes_a_sleeping_loop(make: Any, run: Any) -> None:
    """The handler runs on the loop's own thread while the loop sleeps: that is no call_soon()."""

    async def main() -> None:
        q = make(1)
        before = signal.signal(signal.SIGALRM, lambda *_: q.put("signal"))
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            async with asyncio.timeout(5):
                assert await q.aget() == "signal"
        finally:
            signal.signal(signal.SIGALRM, before)

    run(main())


def test_a_callback_without_a_task_may_put(make: Any, run: Any) -> None:
    async def main() -> None:
        q = make(1)
        asyncio.get_running_loop().call_later(0.01, q.put, "callback")
        assert await q.aget() == "callback"

    run(main())


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_does_not_wake_the_parents_coroutines(make: Any, run: Any) -> None:
    async def main() -> None:
        q = make(4)
        task = asyncio.create_task(q.aget())
        await asyncio.sleep(0)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                signal.alarm(20)
                q.put("child's")
                code = int(q.get() != "child's")
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        await asyncio.sleep(0.02)
        assert not task.done()
        q.put("parent's")
        assert await task == "parent's"

    run(main())


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_what_waited_before_a_fork_is_not_counted_in_the_child(make: Any) -> None:
    """Who leaves there was never among the child's guests, so the next one must not be missed."""

    async def take(q: Any) -> Any:
        task = asyncio.ensure_future(q.aget())
        await asyncio.sleep(0.02)
        in_thread(partial(q.put, "child's"))
        return await asyncio.wait_for(task, 5)

    async def main() -> None:
        q = make(4)
        waits = q.aget()
        waits.send(None)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                signal.alarm(20)
                q.put(None)
                waits.close()
                q.get()
                asyncio._set_running_loop(None)
                code = int(asyncio.run(take(q)) != "child's")
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        waits.close()

    asyncio.run(main())


class InterruptedLoop(asyncio.SelectorEventLoop):
    """Its first wake-up from another thread is interrupted by a signal's handler."""

    interrupted = False

    def call_soon_threadsafe(self, *args: Any, **kwargs: Any) -> Any:
        if not self.interrupted:
            self.interrupted = True
            raise KeyboardInterrupt
        return super().call_soon_threadsafe(*args, **kwargs)


def test_an_interrupted_wake_up_is_not_lost(make: Any) -> None:
    q = make(4)
    answers: list[Any] = []

    def loop_in_thread() -> None:
        async def take() -> None:
            async with asyncio.timeout(10):
                answers.extend([await q.aget(), await q.aget()])

        with asyncio.Runner(loop_factory=InterruptedLoop) as runner:
            runner.run(take())

    thread = in_thread(loop_in_thread)
    time.sleep(0.1)
    with pytest.raises(KeyboardInterrupt):
        q.put(1)
    q.put(2)
    thread.join(20)
    assert answers == [1, 2]


def test_a_list_that_changes_while_it_is_put(make: Any) -> None:
    """Waking a coroutine runs the loop's code, which may do anything to the list."""
    q = make(2)
    items = [object() for _ in range(8)]
    expected = items[:4]
    taken = []

    class MeddlingLoop(asyncio.SelectorEventLoop):
        def call_soon_threadsafe(self, *args: Any, **kwargs: Any) -> Any:
            items.clear()
            taken.extend(q.try_get_many())
            return super().call_soon_threadsafe(*args, **kwargs)

    async def wait() -> Any:
        waits = q.aget()
        waits.send(None)
        return waits

    with asyncio.Runner(loop_factory=MeddlingLoop) as runner:
        waits = runner.run(wait())
        assert q.put_many(items, timeout=0.05) == 4
        waits.close()
    taken.extend(q.try_get_many())
    assert taken == expected


def test_a_cycle_through_a_waiting_task_is_collected(make: Any) -> None:
    class Holder:
        pass

    async def main() -> Any:
        holder = Holder()
        holder.queue = make(1)  # type: ignore[attr-defined]

        async def wait(holder: Any) -> None:
            await holder.queue.aget()

        task = asyncio.create_task(wait(holder))
        await asyncio.sleep(0)
        gone = weakref.ref(holder)
        task.cancel()
        await asyncio.sleep(0)
        del holder, task
        gc.collect()
        return gone()

    assert asyncio.run(main()) is None
