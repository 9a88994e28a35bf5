"""call_soon(): order, arguments, contexts, cancelling and errors."""

import asyncio
import contextvars
import weakref

import pytest

import flowcore

VAR = contextvars.ContextVar("VAR", default="unset")


def run_ready(loop):
    """Runs what is ready, and nothing that it schedules."""
    loop.stop()
    loop.run_forever()


def test_callbacks_run_in_the_order_they_were_scheduled(loop):
    seen = []
    for i in range(1000):
        loop.call_soon(seen.append, i)
    run_ready(loop)
    assert seen == list(range(1000))


def test_what_a_callback_schedules_waits_for_the_next_turn(loop):
    seen = []

    def first():
        seen.append("first")
        loop.call_soon(seen.append, "third")

    loop.call_soon(first)
    loop.call_soon(seen.append, "second")
    run_ready(loop)
    assert seen == ["first", "second"]
    run_ready(loop)
    assert seen == ["first", "second", "third"]


@pytest.mark.parametrize("args", [(), (1,), (1, 2), tuple(range(20))])
def test_arguments_arrive(loop, args):
    seen = []
    loop.call_soon(lambda *got: seen.append(got), *args)
    run_ready(loop)
    assert seen == [args]


def test_order_survives_the_growth_of_a_queue_that_has_wrapped(loop):
    seen = []

    def spawn(i):
        seen.append(i)
        if i < 200:
            loop.call_soon(spawn, 2 * i)
            loop.call_soon(spawn, 2 * i + 1)

    loop.call_soon(spawn, 1)
    for _ in range(12):
        run_ready(loop)
    assert seen == list(range(1, 400))


def test_stop_lets_the_batch_finish(loop):
    seen = []
    loop.call_soon(loop.stop)
    for i in range(500):
        loop.call_soon(seen.append, i)
    loop.call_soon(loop.call_soon, seen.append, "later")
    loop.run_forever()
    assert seen == list(range(500))


def test_callback_runs_in_a_copy_of_the_context_it_was_scheduled_in(loop):
    seen = []
    context = contextvars.copy_context()
    context.run(VAR.set, "inside")

    def look():
        seen.append(VAR.get())
        VAR.set("changed by the callback")

    context.run(loop.call_soon, look)
    loop.call_soon(look)
    run_ready(loop)
    assert seen == ["inside", "unset"]
    assert context[VAR] == "inside"
    assert VAR.get() == "unset"


@pytest.mark.parametrize("method", ["call_soon", "call_soon_threadsafe", "call_later", "call_at"])
def test_context_argument_is_used_itself(loop, method):
    context = contextvars.copy_context()
    when = {"call_later": (0,), "call_at": (loop.time(),)}.get(method, ())
    handle = getattr(loop, method)(*when, VAR.set, "set", context=context)
    assert handle.get_context() is context
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    assert context[VAR] == "set"


def test_cancelled_handle_does_not_run(loop):
    seen = []
    handle = loop.call_soon(seen.append, 1)
    assert not handle.cancelled()
    handle.cancel()
    handle.cancel()
    assert handle.cancelled()
    run_ready(loop)
    assert seen == []


def test_a_callback_may_cancel_one_that_is_queued_behind_it(loop):
    seen = []
    handles = []
    loop.call_soon(lambda: handles[0].cancel())
    handles.append(loop.call_soon(seen.append, 1))
    loop.call_soon(seen.append, 2)
    run_ready(loop)
    assert seen == [2]


def test_a_callback_may_cancel_itself(loop, reports):
    def fail(*_):
        handle.cancel()
        raise ZeroDivisionError

    handle = loop.call_soon(fail, object(), object())
    run_ready(loop)
    assert isinstance(reports[0]["exception"], ZeroDivisionError)


def test_cancel_lets_go_of_the_callback_and_its_arguments(loop):
    class Big:
        def method(self):
            pass

    big, argument = Big(), Big()
    gone = weakref.ref(big), weakref.ref(argument)
    handle = loop.call_soon(big.method, argument)
    del big, argument
    handle.cancel()
    assert gone[0]() is None and gone[1]() is None


def test_handle_is_let_go_of_after_its_run(loop):
    handle = loop.call_soon(lambda: None)
    gone = weakref.ref(handle)
    del handle
    assert gone() is not None
    run_ready(loop)
    assert gone() is None


def test_error_goes_to_the_exception_handler_and_the_loop_goes_on(loop, reports):
    seen = []
    handle = loop.call_soon(lambda: 1 / 0)
    loop.call_soon(seen.append, "went on")
    run_ready(loop)
    assert seen == ["went on"]
    assert set(reports[0]) == {"message", "exception", "handle"}
    assert reports[0]["handle"] is handle
    assert isinstance(reports[0]["exception"], ZeroDivisionError)
    assert reports[0]["message"].startswith("Exception in callback")
    assert "test_callbacks" in reports[0]["message"]


def test_a_base_exception_that_does_not_end_programs_is_reported_too(loop, reports):
    class Odd(BaseException):
        pass

    def fail():
        raise Odd

    loop.call_soon(fail)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert isinstance(reports[0]["exception"], Odd)


def test_exception_handler_sees_the_failed_callbacks_context(loop):
    """So does asyncio's from 3.12 on. Before, the handler runs outside any."""
    seen = []
    loop.set_exception_handler(lambda *_: seen.append(VAR.get()))

    def fail():
        VAR.set("of the callback")
        raise ValueError

    reference = asyncio.SelectorEventLoop()
    reference.set_exception_handler(lambda *_: seen.append(VAR.get()))
    for each in (loop, reference):
        each.call_soon(fail)
        run_ready(each)
    reference.close()
    assert len(seen) == 2
    assert seen[0] == seen[1]


def test_an_exception_handler_that_fails_does_not_stop_the_loop(loop, caplog):
    def handler(*_):
        raise KeyError("in the handler")

    loop.set_exception_handler(handler)
    seen = []
    loop.call_soon(lambda: 1 / 0)
    loop.call_soon(seen.append, 1)
    run_ready(loop)
    assert seen == [1]
    assert "Unhandled error in exception handler" in caplog.text


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("debug", [False, True])
def test_exits_come_out_of_run_forever_and_the_loop_is_usable_afterwards(loop, error, debug):
    loop.set_debug(debug)
    seen = []

    def leave():
        raise error

    loop.call_soon(leave)
    loop.call_soon(seen.append, "next")
    with pytest.raises(error):
        loop.run_forever()
    assert not loop.is_running()
    assert seen == []
    run_ready(loop)
    assert seen == ["next"]
    assert loop.run_until_complete(asyncio.sleep(0.001, "result")) == "result"


def test_an_exit_from_a_timer_comes_out_too(loop):
    def leave():
        raise SystemExit(3)

    loop.call_later(0.001, leave)
    with pytest.raises(SystemExit) as caught:
        loop.run_forever()
    assert caught.value.code == 3


def test_run_until_complete_reports_a_loop_stopped_too_early(loop):
    loop.call_soon(loop.stop)
    with pytest.raises(RuntimeError, match="stopped before Future completed"):
        loop.run_until_complete(loop.create_future())


def test_a_running_loop_cannot_be_run(loop):
    failures = []

    def again():
        for run in (loop.run_forever, lambda: loop.run_until_complete(loop.create_future())):
            try:
                run()
            except RuntimeError as error:
                failures.append(str(error))

    loop.call_soon(again)
    run_ready(loop)
    assert failures == ["This event loop is already running"] * 2


def test_another_loop_cannot_be_run_inside(loop):
    other = flowcore.new_event_loop()
    failures = []

    def nested():
        try:
            other.run_forever()
        except RuntimeError as error:
            failures.append(str(error))

    loop.call_soon(nested)
    run_ready(loop)
    other.close()
    assert failures == ["Cannot run the event loop while another loop is running"]


def test_single_turns_can_be_made_by_hand(loop):
    """For programs that drive the loop from another one, a window system's for instance."""
    seen = []
    loop.call_soon(seen.append, 1)
    loop.call_soon(loop.call_soon, seen.append, 2)
    loop._run_once()
    assert seen == [1]
    loop._run_once()
    assert seen == [1, 2]


def test_a_callback_may_make_a_turn(loop):
    seen = []

    def nested():
        seen.append("in")
        loop._run_once()
        seen.append("out")

    loop.call_soon(nested)
    for i in range(100):
        loop.call_soon(seen.append, i)
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert seen == ["in", *range(100), "out"]


def test_repr_tells_callback_and_state(loop):
    def named():
        pass

    handle = loop.call_soon(named)
    assert "named" in repr(handle) and "test_callbacks.py" in repr(handle)
    handle.cancel()
    assert repr(handle) == "<Handle cancelled>"
