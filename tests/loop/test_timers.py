"""call_later() and call_at(): never early, in order, cancelled in constant time."""

import asyncio
import gc
import random
import time
import weakref
from fractions import Fraction

import pytest

DELAYS = [0, 1e-9, 1e-7, 1e-6, 5e-6, 1e-5, 1e-4, 2.5e-4, 9.99e-4, 1e-3, 1.5e-3, 5e-3]


@pytest.mark.parametrize("delay", DELAYS)
def test_never_early(loop, delay):
    late = []
    for _ in range(50):
        due = loop.time() + delay
        loop.call_at(due, lambda due=due: late.append(loop.time() - due))
        loop.run_until_complete(asyncio.sleep(delay))
    loop.run_until_complete(asyncio.sleep(0.002))
    assert len(late) == 50
    assert min(late) >= 0


def test_call_later_is_never_early_by_the_system_clock(loop):
    late = []
    for i in range(200):
        delay = i * 1e-5
        start = time.monotonic()
        loop.call_later(delay, lambda s=start, d=delay: late.append(time.monotonic() - s - d))
    loop.run_until_complete(asyncio.sleep(0.01))
    assert len(late) == 200
    assert min(late) >= 0


def test_a_short_timer_does_not_wait_for_a_whole_millisecond(loop):
    took = []
    for _ in range(30):
        start = time.perf_counter()
        loop.run_until_complete(asyncio.sleep(100e-6))
        took.append(time.perf_counter() - start)
    assert 100e-6 <= min(took) < 900e-6


def test_a_thousand_random_timers_fire_in_order(loop):
    pick = random.Random(7)
    start = loop.time() + 0.001
    whens = [start + pick.random() ** 3 * 0.3 for _ in range(1000)]
    fired = []
    for when in whens:
        loop.call_at(when, lambda when=when: fired.append((when, loop.time())))
    loop.run_until_complete(asyncio.sleep(0.33))
    # The clock counts nanoseconds.
    ns = [int(when * 1e9) for when, _ in fired]
    assert ns == sorted(int(when * 1e9) for when in whens)
    assert all(now >= when for when, now in fired)


def test_equal_deadlines_fire_in_the_order_of_arming(loop):
    when = loop.time() + 0.005
    seen = []
    for i in range(500):
        loop.call_at(when, seen.append, i)
    loop.run_until_complete(asyncio.sleep(0.01))
    assert seen == list(range(500))


def test_deadlines_in_the_past_are_due_at_once_and_in_order(loop):
    seen = []
    for i in (5, 1, 3, 1000):
        loop.call_at(loop.time() - i, seen.append, i)
    loop.call_at(-1e30, seen.append, "very old")
    loop.run_until_complete(asyncio.sleep(0.001))
    assert seen == ["very old", 1000, 5, 3, 1]


@pytest.mark.parametrize("delay", [1e6, 1e12, 1e300, float("inf")])
def test_far_deadlines_can_be_set_and_cancelled(loop, delay):
    handle = loop.call_later(delay, lambda: None)
    loop.run_until_complete(asyncio.sleep(0.001))
    assert not handle.cancelled()
    handle.cancel()


@pytest.mark.parametrize("delay", [1, 0.001, Fraction(1, 1000), True])
def test_any_real_number_is_a_delay(loop, delay):
    handle = loop.call_later(delay, lambda: None)
    assert handle.when() >= loop.time() - 1 + float(delay)
    handle.cancel()


@pytest.mark.parametrize("bad", [None, "1", float("nan")])
def test_what_is_no_number_is_refused(loop, bad):
    with pytest.raises((TypeError, ValueError)):
        loop.call_later(bad, print)
    with pytest.raises((TypeError, ValueError)):
        loop.call_at(bad, print)


def test_when_tells_the_deadline(loop):
    when = loop.time() + 12.5
    handle = loop.call_at(when, lambda: None)
    assert handle.when() == when
    assert f"when={when}" in repr(handle)
    handle.cancel()
    assert "cancelled" in repr(handle)


def test_cancelled_timers_do_not_fire(loop):
    seen = []
    handles = [loop.call_later(i * 1e-4, seen.append, i) for i in range(100)]
    for handle in handles[::2]:
        handle.cancel()
        handle.cancel()
    loop.run_until_complete(asyncio.sleep(0.015))
    assert seen == list(range(1, 100, 2))


def test_a_timer_may_cancel_others_that_are_due_with_it(loop):
    seen = []
    when = loop.time() + 0.002
    handles = []

    def first():
        seen.append("first")
        for handle in handles:
            handle.cancel()

    loop.call_at(when, first)
    handles.extend(loop.call_at(when + i * 1e-9, seen.append, i) for i in range(5))
    loop.run_until_complete(asyncio.sleep(0.005))
    assert seen == ["first"]


def test_cancelling_a_timer_that_has_fired_does_nothing(loop):
    seen = []
    handle = loop.call_later(0, seen.append, 1)
    loop.run_until_complete(asyncio.sleep(0.001))
    handle.cancel()
    assert seen == [1]


def test_a_timer_may_arm_timers(loop):
    seen = []

    def chain(left):
        seen.append(left)
        if left:
            loop.call_later(0, chain, left - 1)

    loop.call_soon(chain, 50)
    loop.run_until_complete(asyncio.sleep(0.02))
    assert seen == list(range(50, -1, -1))


def test_a_handle_that_nobody_keeps_fires(loop):
    seen = []
    gone = weakref.ref(loop.call_later(0.001, seen.append, 1))
    gc.collect()
    assert gone() is not None
    loop.run_until_complete(asyncio.sleep(0.003))
    assert seen == [1]
    assert gone() is None


def test_cancelling_releases_the_handle_at_once(loop):
    handle = loop.call_later(3600, print)
    gone = weakref.ref(handle)
    handle.cancel()
    del handle
    assert gone() is None


def test_handles_compare_by_deadline(loop):
    early, late = (loop.call_later(delay, print) for delay in (1, 2))
    assert early < late and early <= late and late > early and late >= early
    assert early != late and early == early
    assert len({early, late}) == 2
    assert sorted([late, early]) == [early, late]
    early.cancel()
    late.cancel()


def test_time_is_the_monotonic_clock(loop):
    before = time.monotonic()
    now = loop.time()
    after = time.monotonic()
    assert before - 1e-6 <= now <= after + 1e-6


def test_sleepers_wake_in_order(loop):
    async def main():
        seen = []

        async def sleeper(delay):
            await asyncio.sleep(delay)
            seen.append(delay)

        delays = [i * 0.001 for i in range(30)]
        mixed = random.Random(3).sample(delays, len(delays))
        await asyncio.gather(*map(sleeper, mixed))
        return seen == delays

    assert loop.run_until_complete(main())


def test_idle_waiting_costs_no_processor_time(loop):
    busy = time.process_time()
    loop.run_until_complete(asyncio.sleep(0.3))
    assert time.process_time() - busy < 0.1
