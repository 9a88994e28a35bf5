"""Ways in: run(), asyncio.Runner, the policy, and what programs expect of a loop."""

import asyncio
import contextvars

import pytest

import flowcore


async def running():
    return asyncio.get_running_loop()


def test_run_returns_the_result_on_a_flowcore_loop():
    loop = flowcore.run(running())
    assert type(loop) is flowcore.EventLoop
    assert loop.is_closed()


def test_run_raises_what_main_raises():
    async def main():
        raise LookupError("from main")

    with pytest.raises(LookupError, match="from main"):
        flowcore.run(main())


def test_run_inside_a_running_loop_is_refused():
    async def main():
        coroutine = running()
        try:
            flowcore.run(coroutine)
        finally:
            coroutine.close()

    with pytest.raises(RuntimeError, match="running event loop"):
        flowcore.run(main())


@pytest.mark.parametrize("bad", [None, 1, lambda: None, running])
def test_run_wants_a_coroutine(bad):
    with pytest.raises((ValueError, TypeError), match="coroutine"):
        flowcore.run(bad)


def test_run_cancels_what_is_left_over():
    events = []

    async def straggler():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0.001)
            events.append("cancelled")
            raise

    async def main():
        task = asyncio.create_task(straggler())
        await asyncio.sleep(0.001)
        return task

    task = flowcore.run(main())
    assert events == ["cancelled"]
    assert task.cancelled()


def test_run_passes_debug_on():
    async def main():
        return asyncio.get_running_loop().get_debug()

    assert flowcore.run(main(), debug=True) is True
    assert flowcore.run(main(), debug=False) is False


def test_runner_with_a_loop_factory():
    var = contextvars.ContextVar("var")

    async def set_var():
        var.set("kept")

    async def get_var():
        return var.get()

    with asyncio.Runner(loop_factory=flowcore.new_event_loop) as runner:
        assert isinstance(runner.get_loop(), flowcore.EventLoop)
        runner.run(set_var())
        assert runner.run(get_var()) == "kept"


def test_current_loop_is_known_only_while_running(loop):
    assert loop.run_until_complete(running()) is loop
    with pytest.raises(RuntimeError):
        asyncio.get_running_loop()


@pytest.fixture
def policy():
    yield
    asyncio.set_event_loop_policy(None)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_install_switches_asyncio_as_a_whole(policy):
    flowcore.install()
    assert isinstance(asyncio.get_event_loop_policy(), flowcore.EventLoopPolicy)
    assert isinstance(asyncio.run(running()), flowcore.EventLoop)
    loop = asyncio.new_event_loop()
    assert isinstance(loop, flowcore.EventLoop)
    loop.close()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_policy_set_by_hand(policy):
    asyncio.set_event_loop_policy(flowcore.EventLoopPolicy())
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    assert asyncio.get_event_loop() is loop
    assert loop.run_until_complete(running()) is loop
    loop.close()


def test_it_is_an_asyncio_loop(loop):
    assert isinstance(loop, asyncio.AbstractEventLoop)
    assert isinstance(loop, asyncio.BaseEventLoop)


def test_subclasses_work():
    class Counting(flowcore.EventLoop):
        calls = 0

        def call_soon(self, callback, *args, context=None):
            self.calls += 1
            return super().call_soon(callback, *args, context=context)

    loop = Counting()
    loop.run_until_complete(asyncio.sleep(0))
    assert loop.calls >= 2
    loop.close()


def test_task_factory_is_used(loop):
    made = []

    def factory(loop, coro, **kwargs):
        made.append(coro)
        return asyncio.Task(coro, loop=loop, **kwargs)

    loop.set_task_factory(factory)
    loop.run_until_complete(asyncio.sleep(0.001))
    assert len(made) == 1


def test_structured_concurrency(loop):
    async def main():
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            tasks = [group.create_task(asyncio.sleep(0.001 * i, i)) for i in range(10)]
        assert [task.result() for task in tasks] == list(range(10))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.005):
                await asyncio.sleep(5)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.sleep(5), 0.005)

    loop.run_until_complete(main())
