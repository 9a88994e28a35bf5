"""Debug mode: slow callbacks, calls from wrong threads, where things were made."""

import asyncio
import gc
import logging
import threading
import time

import pytest

import flowcore


@pytest.fixture
def debugged(loop):
    loop.set_debug(True)
    return loop


def once(loop):
    loop.stop()
    loop.run_forever()


def test_slow_callback_is_logged(debugged, caplog):
    debugged.slow_callback_duration = 0.01
    debugged.call_soon(time.sleep, 0.02)
    debugged.call_soon(time.sleep, 0)
    with caplog.at_level(logging.WARNING, "asyncio"):
        once(debugged)
    assert len(caplog.records) == 1
    assert "Executing <Handle sleep" in caplog.text
    assert "took 0.02" in caplog.text


def test_slow_task_is_logged_by_its_name(debugged, caplog):
    debugged.slow_callback_duration = 0.01

    async def sluggish():
        time.sleep(0.02)

    with caplog.at_level(logging.WARNING, "asyncio"):
        debugged.run_until_complete(sluggish())
    assert "sluggish" in caplog.text


@pytest.mark.parametrize("method", ["call_soon", "call_later", "call_at"])
def test_wrong_thread_is_refused(debugged, method):
    failures = []

    def wrong():
        when = () if method == "call_soon" else (1,)
        try:
            getattr(debugged, method)(*when, print)
        except RuntimeError as error:
            failures.append(str(error))
        debugged.call_soon_threadsafe(debugged.stop)

    thread = threading.Thread(target=wrong)
    debugged.call_soon(thread.start)
    debugged.run_forever()
    thread.join()
    assert failures and "Non-thread-safe operation" in failures[0]


@pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe", "call_later"])
def test_callbacks_are_checked(debugged, method):
    async def coroutine():
        pass

    when = (1,) if method == "call_later" else ()
    with pytest.raises(TypeError, match="coroutines cannot be used"):
        getattr(debugged, method)(*when, coroutine)
    with pytest.raises(TypeError, match="callable"):
        getattr(debugged, method)(*when, 1)


def test_handles_know_where_they_were_made(debugged):
    timer = debugged.call_later(1, print)
    for handle in (debugged.call_soon(print), timer):
        assert handle._source_traceback[-1].name == "test_handles_know_where_they_were_made"
        assert f"created at {__file__}" in repr(handle)
    timer.cancel()


def test_error_reports_carry_the_origin(debugged, reports):
    debugged.call_soon(lambda: 1 / 0)
    once(debugged)
    assert set(reports[0]) == {"message", "exception", "handle", "source_traceback"}
    assert reports[0]["source_traceback"][-1].filename == __file__


def test_coroutine_that_was_never_awaited_is_reported_with_its_origin():
    async def forgotten():
        pass

    async def main():
        forgotten()

    with pytest.warns(RuntimeWarning, match="never awaited") as caught:
        flowcore.run(main(), debug=True)
        gc.collect()
    assert "Coroutine created at" in str(caught[0].message)


def test_task_destroyed_while_pending_is_reported(loop, reports):
    async def pending():
        await asyncio.get_running_loop().create_future()

    task = loop.create_task(pending())
    once(loop)
    del task
    gc.collect()
    assert [report["message"] for report in reports] == ["Task was destroyed but it is pending!"]


def test_exception_that_nobody_retrieved_is_reported(loop, reports):
    async def fail():
        raise ValueError("unseen")

    task = loop.create_task(fail())
    loop.run_until_complete(asyncio.sleep(0.001))
    del task
    gc.collect()
    assert [str(report["exception"]) for report in reports] == ["unseen"]


def test_failed_task_is_reported_at_once(debugged, reports):
    """Not only when circles of references are collected."""

    async def fail():
        raise ValueError("unseen")

    async def main():
        asyncio.Task(fail())
        await asyncio.sleep(0)
        return [str(report["exception"]) for report in reports]

    gc.disable()
    try:
        assert debugged.run_until_complete(main()) == ["unseen"]
    finally:
        gc.enable()


def test_debug_may_be_switched_while_running(loop):
    seen = []
    loop.call_soon(loop.set_debug, True)
    loop.call_soon(seen.append, 1)
    loop.call_soon(loop.call_soon, seen.append, 2)
    loop.call_later(0.005, loop.stop)
    loop.run_forever()
    assert seen == [1, 2] and loop.get_debug()
