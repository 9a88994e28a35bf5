"""WorkStealingPool: the executor's contract, wake-ups, stealing, priorities, loops, fork, exit."""

import asyncio
import concurrent.futures as cf
import contextvars
import gc
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures.thread import BrokenThreadPool

import pytest

import flowcore
from flowcore.errors import InvalidArgument, InvalidState, LimitExceeded
from flowcore.kernel import Priority, WorkFuture, WorkStealingPool

try:
    import uvloop
except ImportError:
    uvloop = None

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
    pytest.mark.timeout(60),
]


@pytest.fixture
def pool():
    with WorkStealingPool(3) as pool:
        yield pool


@pytest.fixture
def one():
    """A pool of one worker, whose order can be told."""
    with WorkStealingPool(1) as pool:
        yield pool


class Gate:
    """A task that runs until it is opened."""

    def __init__(self, pool):
        self.began, self.opened = threading.Event(), threading.Event()
        self.future = pool.submit(self.wait)
        assert self.began.wait(10)

    def wait(self):
        self.began.set()
        assert self.opened.wait(20)

    def open(self):
        self.opened.set()


@pytest.fixture
def gate(one):
    """Holds the worker of `one`."""
    gate = Gate(one)
    yield gate
    gate.open()


def until(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.001)


def fail(error):
    raise error


def script(code, *, timeout=30):
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=timeout
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


HEAD = "from flowcore.kernel import WorkStealingPool\n"


# ---- submitting --------------------------------------------------------------------------------


def test_types(pool):
    assert isinstance(pool, cf.Executor) and isinstance(pool, cf.ThreadPoolExecutor)
    future = pool.submit(int)
    assert isinstance(future, cf.Future) and type(future) is WorkFuture
    assert pool._max_workers == 3 and future.result() == 0
    assert pool.submit(weakref.ref, future).result()() is future
    future.note = "attributes are allowed, as on any future"


def test_arguments_reach_the_call_untouched(pool):
    def echo(*args, **kwargs):
        return args, kwargs

    names = {"fn": 1, "self": 2, "priority": 3, "timeout": 4}
    assert pool.submit(echo, 1, 2, **names).result() == ((1, 2), names)
    assert pool.submit_with(Priority.HIGH, echo, 1, **names).result() == ((1,), names)
    assert pool.schedule_local(echo, **names).result() == ((), names)
    assert pool.submit(echo).result() == ((), {})
    with pytest.raises(TypeError):
        pool.submit()


def test_errors_come_back(pool):
    error = ValueError("x")
    future = pool.submit(fail, error)
    assert future.exception() is error
    with pytest.raises(ValueError) as caught:
        future.result()
    assert caught.value is error
    assert any(entry.name == "fail" for entry in caught.traceback)
    for kind in (SystemExit, KeyboardInterrupt, StopIteration):
        assert isinstance(pool.submit(fail, kind()).exception(), kind)
    assert pool.stats()["failed"] == 4 and pool.submit(int).result() == 0


def test_tasks_run_side_by_side():
    with WorkStealingPool(4) as pool:
        barrier = threading.Barrier(4)
        for _ in range(20):
            futures = [pool.submit(barrier.wait, 10) for _ in range(4)]
            assert sorted(f.result(10) for f in futures) == [0, 1, 2, 3]


def test_slow_initializers_do_not_hold_each_other_up():
    barrier = threading.Barrier(3)
    with WorkStealingPool(3, initializer=barrier.wait, initargs=(10,)) as pool:
        assert [f.result(10) for f in [pool.submit(int) for _ in range(3)]] == [0] * 3
        assert pool.stats()["workers"] == 3


def test_threads_start_when_needed():
    with WorkStealingPool(3, caller_runs=False) as pool:
        assert pool.stats()["workers"] == 0
        for _ in range(10):
            pool.submit(int).result()
            until(lambda: pool.stats()["running"] == 0)
        assert len(pool._threads) == pool.stats()["workers"] <= 2


def test_names():
    with WorkStealingPool(1, thread_name_prefix="cook") as pool:
        assert pool.submit(lambda: threading.current_thread().name).result() == "cook_0"
    with WorkStealingPool(1) as pool:
        name = pool.submit(lambda: threading.current_thread().name).result()
        assert name.startswith("WorkStealingPool-") and name.endswith("_0")


def test_what_is_out_of_range_is_refused():
    for workers in (0, -1, 1025):
        with pytest.raises(InvalidArgument):
            WorkStealingPool(workers)
    for most in (0, -1, 1 << 33):
        with pytest.raises(InvalidArgument):
            WorkStealingPool(max_pending=most)
    with pytest.raises(TypeError):
        WorkStealingPool(initializer=1)
    with pytest.raises(ValueError):
        WorkStealingPool(0)


def test_submitting_order_is_kept_by_one_worker(one, gate):
    seen = []
    futures = [one.submit(seen.append, i) for i in range(100)]
    gate.open()
    cf.wait(futures)
    assert seen == list(range(100))


# ---- map ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunksize", [1, 2, 7, 100])
def test_map(pool, chunksize):
    assert list(pool.map(pow, range(20), range(20), chunksize=chunksize)) == [
        i**i for i in range(20)
    ]
    assert list(pool.map(pow, [], [])) == []


def test_map_raises_where_it_failed(pool):
    results = pool.map(divmod, [1, 1, 1, 1], [0, 1, 0, 1][::-1])
    assert next(results) == (1, 0)
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_map_in_time(pool):
    results = []
    with pytest.raises(cf.TimeoutError):
        for each in pool.map(time.sleep, [0, 0, 0.5], timeout=0.2):
            results.append(each)
    assert results == [None, None]


def test_map_submits_at_once_and_cancels_the_rest(one, gate):
    results = one.map(str, range(5))
    assert one.stats()["pending"] == 5
    with pytest.raises(cf.TimeoutError):
        next(one.map(str, range(5), timeout=0.01))
    assert one.stats()["pending"] == 5
    gate.open()
    assert next(results) == "0"
    results.close()
    with pytest.raises(InvalidArgument):
        one.map(str, [], chunksize=0)


def test_map_past_the_bound_cancels_what_it_submitted():
    with WorkStealingPool(1, max_pending=5) as pool:
        gate = Gate(pool)
        with pytest.raises(LimitExceeded, match="max_pending"):
            pool.map(str, range(10))
        assert pool.stats()["pending"] == 0
        gate.open()


def test_map_keeps_no_results(pool):
    class Thing:
        pass

    for each in pool.map(lambda _: Thing(), range(5)):
        ref = weakref.ref(each)
        del each
        until(lambda ref=ref: gc.collect() is not None and ref() is None)


# ---- the future --------------------------------------------------------------------------------


def test_states(one, gate):
    future = one.submit(str, 5)
    assert (future.done(), future.running(), future.cancelled()) == (False, False, False)
    assert gate.future.running() and not gate.future.cancel()
    assert repr(future).endswith("state=pending>") and "running" in repr(gate.future)
    assert "WorkFuture" in repr(future)
    gate.open()
    assert future.result() == "5"
    assert (future.done(), future.running(), future.cancel()) == (True, False, False)
    assert repr(future).endswith("state=finished returned str>")
    failed = one.submit(fail, KeyError())
    assert failed.exception() and repr(failed).endswith("state=finished raised KeyError>")


def test_cancel_drops_the_call_at_once(one, gate):
    class Payload:
        pass

    payload, other = Payload(), Payload()
    refs = [weakref.ref(payload), weakref.ref(other)]
    ran = []
    future = one.submit(ran.append, payload)
    keyed = one.submit(lambda *, key: ran.append(key), key=other)
    del payload, other
    assert refs[0]() and refs[1]()
    assert future.cancel() and future.cancel() and keyed.cancel()
    gc.collect()
    assert refs[0]() is None and refs[1]() is None
    assert future.cancelled() and future.done() and not future.running()
    assert repr(future).endswith("state=cancelled>")
    for ask in (future.result, future.exception):
        with pytest.raises(cf.CancelledError):
            ask()
    stats = one.stats()
    assert (stats["pending"], stats["cancelled"]) == (0, 2)
    gate.open()
    assert one.submit(int).result() == 0 and ran == []


def test_time_outs(one, gate):
    future = one.submit(int)
    for seconds in (0, -1, 0.02):
        with pytest.raises(TimeoutError):
            future.result(seconds)
        with pytest.raises(cf.TimeoutError):
            future.exception(timeout=seconds)
    start = time.monotonic()
    with pytest.raises(TimeoutError):
        future.result(0.1)
    assert 0.09 < time.monotonic() - start < 5
    gate.open()
    assert future.result(1e300) == 0


def test_many_wait_for_one(one, gate):
    future = one.submit(lambda: "x")
    got = []
    threads = [
        threading.Thread(target=lambda: got.append(future.result())) for _ in range(20)
    ] + [threading.Thread(target=lambda: got.append(future.result(10))) for _ in range(20)]
    for each in threads:
        each.start()
    time.sleep(0.02)
    gate.open()
    for each in threads:
        each.join(10)
    assert got == ["x"] * 40


def test_cancel_wakes_who_waits(one, gate):
    future = one.submit(int)
    seen = []

    def wait():
        try:
            future.result()
        except cf.CancelledError:
            seen.append("cancelled")

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.02)
    assert future.cancel()
    thread.join(5)
    assert seen == ["cancelled"]


def test_callbacks(one, gate, caplog):
    seen = []
    future = one.submit(int)
    future.add_done_callback(lambda f: seen.append(("first", f.result())))
    future.add_done_callback(lambda f: fail(ValueError("ignored")))
    future.add_done_callback(lambda f: seen.append(("third", f is future)))
    assert seen == []
    gate.open()
    future.result()
    until(lambda: len(seen) == 2)
    assert seen == [("first", 0), ("third", True)]
    assert "exception calling callback" in caplog.text
    future.add_done_callback(lambda f: seen.append(threading.current_thread()))
    assert seen[-1] is threading.current_thread()
    future.add_done_callback(lambda f: fail(ValueError("ignored too")))
    assert caplog.text.count("Traceback") == 2


def test_callbacks_of_a_cancelled_future(one, gate):
    seen = []
    future = one.submit(int)
    future.add_done_callback(seen.append)
    future.cancel()
    assert seen == [future]
    future.add_done_callback(seen.append)
    assert seen == [future] * 2


def test_a_callback_that_ends_the_world_does_not_end_the_worker(one, gate, caplog):
    future = one.submit(int)
    future.add_done_callback(lambda f: fail(SystemExit()))
    gate.open()
    assert one.submit(lambda: "alive").result(5) == "alive"
    assert "Exception in worker" in caplog.text


def test_executors_methods():
    future = WorkFuture()
    assert future.set_running_or_notify_cancel() and future.running()
    with pytest.raises(RuntimeError):
        future.set_running_or_notify_cancel()
    future.set_result(5)
    assert future.result() == 5
    for again in (lambda: future.set_result(6), lambda: future.set_exception(ValueError())):
        with pytest.raises(cf.InvalidStateError):
            again()
    failed = WorkFuture()
    failed.set_exception(ValueError("x"))
    with pytest.raises(ValueError):
        failed.result(0)
    cancelled = WorkFuture()
    assert cancelled.cancel() and cancelled._state == "CANCELLED"
    assert not cancelled.set_running_or_notify_cancel()
    assert cancelled._state == "CANCELLED_AND_NOTIFIED"
    with pytest.raises(cf.InvalidStateError):
        cancelled.set_result(1)


def test_a_future_settled_from_outside_is_not_run(one, gate):
    ran = []
    future = one.submit(ran.append, 1)
    future.set_result("early")
    assert one.stats()["pending"] == 0
    gate.open()
    one.submit(int).result()
    assert future.result() == "early" and ran == []


def test_wait_returns_for_cancelled_at_once(one, gate):
    future = one.submit(int)
    future.cancel()
    assert cf.wait([future], timeout=5).done == {future}
    assert list(cf.as_completed([future], timeout=5)) == [future]


@pytest.mark.parametrize("when", [cf.ALL_COMPLETED, cf.FIRST_COMPLETED, cf.FIRST_EXCEPTION])
def test_wait(pool, when):
    quick = pool.submit(fail if when == cf.FIRST_EXCEPTION else int, *[
        ValueError()] * (when == cf.FIRST_EXCEPTION))
    stop = threading.Event()
    slow = pool.submit(stop.wait, 20)
    if when == cf.ALL_COMPLETED:
        assert cf.wait([quick, slow], timeout=0.05).not_done == {slow}
        stop.set()
        assert cf.wait([quick, slow], return_when=when).done == {quick, slow}
    else:
        assert cf.wait([quick, slow], return_when=when, timeout=10) == ({quick}, {slow})
    stop.set()


def test_wait_and_as_completed_miss_nothing(pool):
    for _ in range(50):
        futures = [pool.submit(time.sleep, 0.0001 * (i % 3)) for i in range(20)]
        futures.append(cf.Future())
        futures[-1].set_result(1)
        assert cf.wait(futures, timeout=20).not_done == set()
        futures = [pool.submit(int) for _ in range(20)] + [pool.submit(fail, KeyError())]
        assert set(cf.as_completed(futures, timeout=20)) == set(futures)


def test_waiters_hear_of_errors_and_cancellation(one, gate):
    a, b, c = one.submit(int), one.submit(fail, KeyError()), one.submit(int)
    threading.Timer(0.05, lambda: (c.cancel(), gate.open())).start()
    order = list(cf.as_completed([a, b, c], timeout=10))
    assert order[0] is c and set(order) == {a, b, c}


def test_results_are_not_kept_by_the_workers(pool):
    class Thing:
        def method(self):
            return Thing()

    thing = Thing()
    future = pool.submit(thing.method)
    ref, result = weakref.ref(thing), weakref.ref(future.result())
    del thing, future
    until(lambda: gc.collect() is not None and ref() is None and result() is None)


def test_result_raises_without_a_cycle(one):
    future = one.submit(fail, ValueError())
    ref = weakref.ref(future)
    with pytest.raises(ValueError):
        future.result()
    until(lambda: one.stats()["running"] == 0)
    gc.collect()
    gc.disable()
    try:
        del future
        until(lambda: ref() is None)
    finally:
        gc.enable()


# ---- the queue's bound, counts, wake-ups --------------------------------------------------------


def test_the_bound_has_a_name():
    with WorkStealingPool(1, max_pending=3) as pool:
        gate = Gate(pool)
        futures = [pool.submit(int) for _ in range(3)]
        with pytest.raises(LimitExceeded, match="max_pending: 3 tasks wait"):
            pool.submit(int)
        with pytest.raises(LimitExceeded):
            pool.schedule_local(int)
        futures[1].cancel()
        assert futures[1].cancelled()
        last = pool.submit(lambda: "fits")
        gate.open()
        assert last.result() == "fits"


def test_what_was_cancelled_takes_no_room(one, gate):
    kept = [one.submit(str, i) for i in range(10)]
    refs = []
    for i in range(20_000):
        future = one.submit(int)
        if i % 1000 == 0:
            refs.append(weakref.ref(future))
        future.cancel()
        del future
        if i % 2000 == 0:
            kept.append(one.submit(str, len(kept)))
    assert sum(ref() is not None for ref in refs) <= 3, "swept out of the queue"
    assert one.stats()["pending"] == len(kept)
    gate.open()
    assert [f.result() for f in kept] == [str(i) for i in range(len(kept))]
    until(lambda: one.stats()["running"] == 0)
    assert one.stats()["cancelled"] == 20_000


def test_counts(one, gate):
    futures = [one.submit(int), one.submit(fail, KeyError()), one.submit(int)]
    futures[2].cancel()
    stats = one.stats()
    assert {k: stats[k] for k in ("workers", "parked", "pending", "running", "submitted")} == {
        "workers": 1, "parked": 0, "pending": 2, "running": 1, "submitted": 4,
    }
    gate.open()
    cf.wait(futures)
    until(lambda: one.stats()["parked"] == 1)
    stats = one.stats()
    assert stats["completed"] == 2 and stats["failed"] == 1 and stats["cancelled"] == 1
    assert stats["submitted"] == 4 and stats["pending"] == stats["running"] == 0


def test_many_submissions_wake_one_worker():
    """The others are woken when that one finds more than it takes, not by each submission."""
    with WorkStealingPool(4) as pool:
        barrier = threading.Barrier(4)
        cf.wait([pool.submit(barrier.wait, 10) for _ in range(4)])
        woken = []
        for _ in range(5):
            until(lambda: pool.stats()["parked"] == 4)
            time.sleep(0.02)  # one that was just woken counts as parked until it runs
            before = pool.stats()["woken"]
            futures = [pool.submit(int) for _ in range(500)]
            woken.append(pool.stats()["woken"] - before)
            cf.wait(futures)
        assert min(woken) == 1


def test_idle_workers_use_no_time():
    with WorkStealingPool(4) as pool:
        barrier = threading.Barrier(4)
        cf.wait([pool.submit(barrier.wait) for _ in range(4)])
        until(lambda: pool.stats()["parked"] == 4)
        time.sleep(0.02)
        before, parks = time.process_time(), pool.stats()["parks"]
        time.sleep(0.5)
        assert time.process_time() - before < 0.05 and pool.stats()["parks"] == parks


def test_parked_workers_all_come_for_tasks_that_block():
    with WorkStealingPool(8) as pool:
        for _ in range(30):
            barrier = threading.Barrier(8)
            futures = [pool.submit(barrier.wait, 20) for _ in range(8)]
            cf.wait(futures)
            assert all(f.exception() is None for f in futures)
            until(lambda: pool.stats()["parked"] == 8)


# ---- local tasks -------------------------------------------------------------------------------


def test_local_tasks_run_youngest_first(one):
    seen = []

    def parent():
        for i in range(5):
            one.schedule_local(seen.append, i)
        one.submit(seen.append, "shared")

    one.submit(parent).result()
    until(lambda: len(seen) == 6)
    assert seen == [4, 3, 2, 1, 0, "shared"]
    assert one.stats()["local"] == 5


def test_local_tasks_are_stolen_oldest_first():
    with WorkStealingPool(2) as pool:
        seen = []
        done = threading.Event()

        def parent():
            for i in range(10):
                pool.schedule_local(lambda i=i: seen.append((i, threading.get_ident())))
            assert done.wait(20)
            return threading.get_ident()

        future = pool.submit(parent)
        until(lambda: len(seen) == 10)
        done.set()
        me = future.result()
        assert [i for i, _ in seen] == list(range(10))
        assert all(thread != me for _, thread in seen)
        assert pool.stats()["stolen"] == 10


def test_local_from_outside_and_from_another_pool(pool, one):
    assert pool.schedule_local(str, 1).result() == "1"
    assert one.submit(lambda: pool.schedule_local(str, 2).result()).result() == "2"
    assert one.stats()["local"] == 0


def test_a_worker_runs_what_it_waits_for(one):
    def tree(depth):
        if depth == 0:
            return 1
        parts = [one.schedule_local(tree, depth - 1), one.submit(tree, depth - 1)]
        return sum(f.result() for f in parts)

    assert one.submit(tree, 6).result(20) == 64
    until(lambda: one.stats()["running"] == 0)
    stats = one.stats()
    assert stats["completed"] == stats["submitted"] == 127 and stats["pending"] == 0


def test_trees_with_steals():
    with WorkStealingPool(4) as pool:
        def fib(n):
            if n < 2:
                return n
            later = pool.schedule_local(fib, n - 1)
            now = fib(n - 2)
            if n == 9:
                time.sleep(0.0002)
            return now + later.result()

        assert [pool.submit(fib, 16).result(60) for _ in range(3)] == [987] * 3
        until(lambda: pool.stats()["running"] == 0)
        assert pool.stats()["stolen"] > 0


def test_who_waits_for_a_part_is_told_when_that_ends(one):
    parts, stop = [], threading.Event()

    def parent():
        parts.append(one.schedule_local(time.sleep, 0.1))
        parts[0].result()
        assert stop.wait(20)

    future = one.submit(parent)
    until(lambda: parts)
    assert parts[0].result(5) is None and future.running()
    stop.set()
    future.result()


def test_errors_of_what_ran_in_place(one):
    def parent():
        with pytest.raises(KeyError):
            one.schedule_local(fail, KeyError()).result()
        return one.submit(fail, ValueError()).exception()

    assert isinstance(one.submit(parent).result(), ValueError)


# ---- priorities --------------------------------------------------------------------------------


def test_the_more_urgent_goes_first(one, gate):
    seen = []
    for name in ("LOW", "NORMAL", "CRITICAL", "HIGH", "LOW", "CRITICAL"):
        one.submit_with(Priority[name], seen.append, name)
    one.submit(seen.append, "plain")
    gate.open()
    until(lambda: len(seen) == 7)
    assert seen == ["CRITICAL", "CRITICAL", "HIGH", "NORMAL", "plain", "LOW", "LOW"]


def test_a_priority_is_one_of_four(one):
    assert one.submit_with(3, int).result() == 0
    for wrong in (-1, 4):
        with pytest.raises(InvalidArgument):
            one.submit_with(wrong, int)


@pytest.mark.parametrize(("name", "limit"), [("LOW", 64), ("NORMAL", 32), ("HIGH", 16)])
def test_none_starves(one, gate, name, limit):
    """An endless stream of CRITICAL tasks: the bound that docs/work-stealing.md states."""
    count, seen = 0, []

    def endless():
        nonlocal count
        count += 1
        if len(seen) < 5:
            one.submit_with(Priority.CRITICAL, endless)

    for _ in range(5):
        one.submit_with(Priority[name], lambda: seen.append(count))
    for _ in range(3):
        one.submit_with(Priority.CRITICAL, endless)
    gate.open()
    until(lambda: len(seen) == 5)
    gaps = [after - before for before, after in zip([0, *seen], seen, strict=False)]
    assert max(gaps) <= limit and min(gaps) >= limit - 3


def test_local_and_shared_do_not_starve_each_other(one):
    seen, count, stop = [], 0, False

    def again():
        nonlocal count
        count += 1
        if not stop:
            one.schedule_local(again)

    one.submit(again)
    for name in Priority:
        one.submit_with(name, seen.append, name)
    until(lambda: len(seen) == 4)
    stop = True

    local, urgent = [], 0

    def endless():
        nonlocal urgent
        urgent += 1
        if not local:
            one.submit_with(Priority.CRITICAL, endless)

    def parent():
        one.submit_with(Priority.CRITICAL, endless)
        one.schedule_local(lambda: local.append(urgent))

    one.submit(parent)
    until(lambda: local)
    assert local[0] <= 16


# ---- ending ------------------------------------------------------------------------------------


def test_shutdown_runs_what_is_queued():
    pool = WorkStealingPool(2)
    futures = [pool.submit(time.sleep, 0.001) for _ in range(50)]
    pool.shutdown()
    assert all(f.done() and not f.cancelled() for f in futures)
    assert pool.stats()["workers"] == 0 and "shut down" in repr(pool)
    for late in (pool.submit, pool.schedule_local):
        with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
            late(int)
    with pytest.raises(InvalidState):
        pool.submit(int)
    pool.shutdown()
    assert pool._shutdown


def test_shutdown_without_waiting():
    pool = WorkStealingPool(1)
    gate = Gate(pool)
    later = pool.submit(lambda: "done")
    pool.shutdown(wait=False)
    assert not later.done()
    gate.open()
    assert later.result(10) == "done"
    until(lambda: pool.stats()["workers"] == 0)


def test_shutdown_cancels():
    pool = WorkStealingPool(1)
    gate = Gate(pool)
    futures = [pool.submit(int) for _ in range(100)]
    pool.shutdown(wait=False, cancel_futures=True)
    assert all(f.cancelled() for f in futures) and not gate.future.done()
    assert pool.stats()["pending"] == 0
    gate.open()
    pool.shutdown()
    assert gate.future.result() is None and pool.stats()["cancelled"] == 100


def test_a_callback_that_ends_the_world_leaves_none_uncancelled(one, gate):
    futures = [one.submit(int) for _ in range(3)]
    futures[0].add_done_callback(lambda _: fail(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        one.shutdown(wait=False, cancel_futures=True)
    assert all(future.cancelled() for future in futures)


def test_a_callback_that_ends_the_world_leaves_none_waiting_for_a_broken_pool(caplog):
    broken = threading.Event()

    def initializer():
        assert broken.wait(10)
        raise OSError

    pool = WorkStealingPool(1, initializer=initializer)
    futures = [pool.submit(int) for _ in range(3)]
    futures[0].add_done_callback(lambda _: fail(SystemExit()))
    broken.set()
    for future in futures:
        assert isinstance(future.exception(10), BrokenThreadPool)
    pool.shutdown()


def test_shutdown_of_a_pool_that_never_ran():
    pool = WorkStealingPool()
    pool.shutdown()
    with pytest.raises(RuntimeError):
        pool.submit(int)


def test_shutdown_from_a_task():
    pool = WorkStealingPool(2)
    pool.submit(pool.shutdown).result(10)
    until(lambda: pool.stats()["workers"] == 0)


def test_local_tasks_of_a_closing_pool_are_refused(one):
    def parent():
        one.schedule_local(int)
        one.shutdown(wait=False)
        with pytest.raises(InvalidState):
            one.schedule_local(int)

    one.submit(parent).result(10)


def test_a_failing_initializer_breaks_the_pool(caplog):
    go = threading.Event()

    def initializer(*args):
        go.wait(10)
        raise ValueError(args)

    pool = WorkStealingPool(2, initializer=initializer, initargs=(1, 2))
    futures = [pool.submit(int) for _ in range(5)]
    go.set()
    for each in futures:
        with pytest.raises(BrokenThreadPool):
            each.result(10)
    with pytest.raises(cf.BrokenExecutor):
        pool.submit(int)
    assert pool._broken
    pool.shutdown()
    assert "ValueError: (1, 2)" in caplog.text and pool.stats()["pending"] == 0


def test_initializer_runs_once_in_each_thread():
    seen = []
    with WorkStealingPool(2, initializer=seen.append, initargs=("x",)) as pool:
        barrier = threading.Barrier(2)
        for _ in range(3):
            cf.wait([pool.submit(barrier.wait) for _ in range(2)])
    assert seen == ["x", "x"]


def test_a_pool_that_is_dropped_lets_its_threads_end():
    pool = WorkStealingPool(3)
    barrier = threading.Barrier(3)
    cf.wait([pool.submit(barrier.wait) for _ in range(3)])
    threads, ref = list(pool._threads), weakref.ref(pool)
    del pool
    gc.collect()
    assert ref() is None
    for each in threads:
        each.join(10)
        assert not each.is_alive()


def test_a_dropped_pool_finishes_what_is_queued():
    pool = WorkStealingPool(1)
    gate = Gate(pool)
    futures = [pool.submit(str, i) for i in range(10)]
    del pool
    gc.collect()
    gate.open()
    assert [f.result(10) for f in futures] == [str(i) for i in range(10)]


def test_a_pool_in_a_cycle():
    pool = WorkStealingPool(1)
    pool.me = pool
    pool.submit(int).add_done_callback(lambda f, p=pool: p)
    pool.submit(int).result()
    thread, ref = next(iter(pool._threads)), weakref.ref(pool)
    del pool
    until(lambda: gc.collect() is not None and ref() is None)
    thread.join(10)
    assert not thread.is_alive()


def test_a_subclass_that_forgets_init():
    class Careless(WorkStealingPool):
        def __init__(self):
            pass

    for use in (lambda p: p.submit(int), lambda p: p.stats(), lambda p: p.shutdown()):
        with pytest.raises(InvalidState):
            use(Careless())
    for name in ("_max_workers", "_threads", "_shutdown", "_broken"):
        with pytest.raises(InvalidState):
            getattr(Careless(), name)


def test_exit_with_work_pending():
    out = script(HEAD + """
import sys, time
pool = WorkStealingPool(2)
def work(i):
    time.sleep(0.01)
    sys.stdout.write(f"{i}\\n")
for i in range(10):
    pool.submit(work, i)
""")
    assert sorted(out.split()) == list("0123456789")


def test_submitting_after_exit_began():
    out = script(HEAD + """
import atexit, threading
pool = WorkStealingPool(2)
other = WorkStealingPool(2)
pool.submit(int).result()
def late():
    for each in (pool, other):
        try:
            each.submit(int)
        except RuntimeError as error:
            print(error)
atexit.register(late)
""")
    assert out.count("cannot schedule new futures after") == 2


def test_exit_with_threads_that_wait():
    script(HEAD + """
import threading
pool = WorkStealingPool(2)
gate = threading.Event()
futures = [pool.submit(gate.wait) for _ in range(5)]
threading.Thread(target=lambda: print(futures[4].result())).start()
threading.Timer(0.1, gate.set).start()
""")


def test_no_thread_can_be_started(monkeypatch):
    pool = WorkStealingPool(2)

    def refuse(self):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start"):
            pool.submit(int)
        assert pool.stats()["pending"] == 0
    assert pool.submit(lambda: 7).result(5) == 7
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        assert [f.result(5) for f in [pool.submit(int) for _ in range(5)]] == [0] * 5
    pool.shutdown()


# ---- re-entrance -------------------------------------------------------------------------------


def test_submitting_from_del_and_from_callbacks(pool):
    seen = []

    class Leaver:
        def __del__(self):
            pool.submit(seen.append, "del")

    for _ in range(50):
        leaver = Leaver()
        leaver.me = leaver
        pool.submit(int, 0).add_done_callback(lambda f: pool.submit(seen.append, "callback"))
        del leaver
    gc.collect()
    until(lambda: seen.count("del") == 50 and seen.count("callback") == 50)


def test_submitting_from_a_signal_handler():
    pool = WorkStealingPool(2)
    futures = []

    def handler(*_):
        futures.append(pool.submit(len, futures))

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        end = time.monotonic() + 0.5
        while time.monotonic() < end:
            assert pool.submit(str, 1).result(10) == "1"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(futures) > 50 and all(f.result(10) is not None for f in futures)
    pool.shutdown()


def test_keyboard_interrupt_ends_result():
    pool = WorkStealingPool(1)
    stop = threading.Event()
    future = pool.submit(stop.wait, 20)
    for timeout in (None, 15):
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
        start = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            future.result(timeout)
        assert time.monotonic() - start < 5
    stop.set()
    assert future.result(10)
    pool.shutdown()


def test_keyboard_interrupt_is_no_error_of_what_the_caller_runs():
    with WorkStealingPool(1, caller_runs=True) as pool:
        gate = Gate(pool)
        future = pool.submit(time.sleep, 5)
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            future.exception()
        assert future.done()
        gate.open()


def test_a_long_row_of_tasks_that_wait_for_each_other():
    with WorkStealingPool(2) as pool:
        futures = [pool.submit(int)]

        def one_more(i):
            return futures[i].result() + 1

        for i in range(2000):
            futures.append(pool.submit(one_more, i))
        assert futures[-1].result() == 2000


def test_caller_runs():
    with WorkStealingPool(1, caller_runs=True) as pool:
        gate = Gate(pool)
        future = pool.submit(threading.get_ident)
        assert future.result() == threading.get_ident()
        error = pool.submit(fail, KeyError())
        assert isinstance(error.exception(), KeyError)

        async def in_a_loop():
            future = pool.submit(threading.get_ident)
            threading.Timer(0.05, gate.open).start()
            return future.result()

        assert asyncio.run(in_a_loop()) != threading.get_ident()
        until(lambda: pool.stats()["running"] == 0)
        stats = pool.stats()
        assert (stats["completed"], stats["failed"], stats["pending"]) == (3, 1, 0)


@pytest.mark.parametrize(
    ("options", "runs"),
    [
        ({"workers": 2}, True),
        ({"workers": 1}, False),
        ({"workers": 2, "initializer": int}, False),
        ({"workers": 2, "caller_runs": False}, False),
        ({"workers": 1, "initializer": int, "caller_runs": True}, True),
    ],
)
def test_callers_run_what_the_pools_threads_do_not_matter_to(options, runs):
    with WorkStealingPool(**options) as pool:
        gates = [Gate(pool) for _ in range(options["workers"])]
        future = pool.submit(threading.get_ident)
        timer = threading.Timer(0.05, lambda: [gate.open() for gate in gates])
        timer.start()
        assert (future.result() == threading.get_ident()) is runs
        timer.join()


@pytest.mark.parametrize("caller_runs", [False, True])
def test_context_variables_stay_on_their_side(caller_runs):
    variable = contextvars.ContextVar("variable", default="unset")
    variable.set("the caller's")

    def change():
        found = variable.get()
        variable.set("the task's")
        return found

    with WorkStealingPool(1, caller_runs=caller_runs) as pool:
        assert pool.submit(change).result() == "unset"
    assert variable.get() == "the caller's"


def test_callers_run_nothing_unless_told(one, gate):
    future = one.submit(threading.get_ident)
    threading.Timer(0.05, gate.open).start()
    assert future.result() != threading.get_ident()


# ---- event loops -------------------------------------------------------------------------------

LOOPS = {"asyncio": asyncio.new_event_loop, "flowcore": flowcore.new_event_loop}
if uvloop:
    LOOPS["uvloop"] = uvloop.new_event_loop


@pytest.fixture(params=LOOPS)
def runner(request):
    with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
        yield runner


def test_run(runner, pool):
    async def main():
        assert await pool.run(pow, 2, 5) == 32
        assert await pool.run(dict, fn=1, self=2) == {"fn": 1, "self": 2}
        assert await pool.run_with(Priority.HIGH, str, 1) == "1"
        with pytest.raises(KeyError):
            await pool.run(fail, KeyError())
        with pytest.raises(RuntimeError):
            await pool.run(fail, StopIteration())
        results = await asyncio.gather(*(pool.run(str, i) for i in range(500)))
        assert results == [str(i) for i in range(500)]
        assert await pool.run(threading.get_ident) != threading.get_ident()
        async with asyncio.timeout(5):
            await pool.run(time.sleep, 0.01)

    runner.run(main())
    with pytest.raises(RuntimeError):
        pool.run(int)


def test_run_copies_the_context(runner, pool):
    variable = contextvars.ContextVar("variable", default="unset")

    def work():
        before = variable.get()
        variable.set("worker")
        return before

    async def main():
        variable.set("loop")
        assert await asyncio.gather(*(pool.run(work) for _ in range(20))) == ["loop"] * 20
        assert variable.get() == "loop"
        assert await asyncio.wrap_future(pool.submit(variable.get)) == "unset"

    runner.run(main())


def test_cancelling_the_await_cancels_the_call(runner, one):
    gate, ran = Gate(one), []

    async def main():
        task = asyncio.ensure_future(wait_for(one.run(ran.append, 1)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert one.stats()["pending"] == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert one.stats()["pending"] == 0 and one.stats()["cancelled"] == 1
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(one.run(ran.append, 2), 0.01)
        begun = threading.Event()
        running = one.run(lambda: (begun.set(), time.sleep(0.05), ran.append(3)))
        gate.open()
        await asyncio.to_thread(begun.wait, 10)
        running.cancel("why")
        with pytest.raises(asyncio.CancelledError):
            await running
        await one.run(int)

    async def wait_for(future):
        return await future

    runner.run(main())
    assert ran == [3], "what has begun goes on"


def test_shutdown_cancels_what_a_loop_awaits(runner):
    pool = WorkStealingPool(1)
    gate = Gate(pool)

    async def main():
        futures = [pool.run(int) for _ in range(5)]
        pool.shutdown(wait=False, cancel_futures=True)
        done = await asyncio.gather(*futures, return_exceptions=True)
        assert [type(each) for each in done] == [asyncio.CancelledError] * 5
        with pytest.raises(InvalidState):
            pool.run(int)

    runner.run(main())
    gate.open()


def test_many_outcomes_wake_the_loop_once(one):
    async def main():
        loop = asyncio.get_running_loop()
        calls = []
        wake = loop.call_soon_threadsafe
        loop.call_soon_threadsafe = lambda *args: (calls.append(1), wake(*args))
        gate = Gate(one)
        futures = [one.run(str, i) for i in range(200)]
        last = one.submit(int)
        gate.open()
        last.result()  # the loop does not turn meanwhile
        assert calls == [1] and not any(f.done() for f in futures)
        assert await asyncio.gather(*futures) == [str(i) for i in range(200)]
        await one.run(int)
        assert len(calls) == 2

    asyncio.run(main())


def test_a_loop_that_closed_before_the_outcome(one):
    gate = Gate(one)

    async def leave():
        one.run(int)

    for _ in range(3):
        asyncio.run(leave())
    gate.open()

    async def main():
        return await one.run(str, 1)

    assert asyncio.run(main()) == "1"


def test_loops_are_not_kept(one):
    async def main():
        await one.run(int)
        return weakref.ref(asyncio.get_running_loop())

    ref = asyncio.run(main())
    until(lambda: gc.collect() is not None and ref() is None)


def test_two_loops_at_once(pool):
    results = []

    async def main():
        results.append(await asyncio.gather(*(pool.run(str, i) for i in range(300))))

    threads = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(30)
    assert results == [[str(i) for i in range(300)]] * 3


def test_default_executor(runner):
    pool = WorkStealingPool(2, thread_name_prefix="default")
    names = []

    async def main():
        loop = asyncio.get_running_loop()
        loop.set_default_executor(pool)
        names.append(await loop.run_in_executor(None, lambda: threading.current_thread().name))
        names.append(await asyncio.to_thread(lambda: threading.current_thread().name))
        assert await loop.getaddrinfo("127.0.0.1", 80)
        assert await loop.run_in_executor(pool, pow, 2, 3) == 8
        with pytest.raises(KeyError):
            await loop.run_in_executor(None, fail, KeyError())
        await loop.shutdown_default_executor()
        with pytest.raises(RuntimeError):
            await loop.run_in_executor(None, int)

    runner.run(main())
    assert all(name.startswith("default_") for name in names)
    assert pool.stats()["workers"] == 0


def test_the_runner_shuts_the_default_executor_down():
    pool = WorkStealingPool(2)

    async def main():
        asyncio.get_running_loop().set_default_executor(pool)
        await asyncio.to_thread(int)

    asyncio.run(main())
    with pytest.raises(InvalidState):
        pool.submit(int)


def test_wrap_future_and_cancel(runner, one):
    gate = Gate(one)

    async def main():
        future = one.submit(int)
        wrapped = asyncio.wrap_future(future)
        wrapped.cancel()
        with pytest.raises(asyncio.CancelledError):
            await wrapped
        await asyncio.sleep(0)
        assert future.cancelled()
        other = one.submit(str, 2)
        gate.open()
        assert await asyncio.wrap_future(other) == "2"

    runner.run(main())


# ---- fork --------------------------------------------------------------------------------------


def in_child(check):
    """Runs `check` in a forked child; it must not fail."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            signal.alarm(20)
            check()
            status = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_fork_starts_anew():
    pool = WorkStealingPool(2)
    barrier, called = threading.Barrier(2), []
    cf.wait([pool.submit(barrier.wait) for _ in range(2)])
    stop = threading.Event()
    running = [pool.submit(stop.wait, 30) for _ in range(2)]
    until(lambda: all(f.running() for f in running))
    queued = [pool.submit(called.append, i) for i in range(5)]
    queued[0].add_done_callback(called.append)
    local = pool.submit(int)

    def child():
        assert pool.stats()["workers"] == 0 and pool.stats()["pending"] == 0
        for each in [*queued, local]:
            assert each.cancelled()
            with pytest.raises(cf.CancelledError):
                each.result(1)
        for each in running:
            with pytest.raises(InvalidState, match="parent"):
                each.result(1)
        assert [pool.submit(str, i).result(10) for i in range(5)] == list("01234")
        assert list(pool.map(str, range(20))) == [str(i) for i in range(20)]
        assert called == []
        pool.shutdown()

    in_child(child)
    assert not queued[0].cancelled()
    stop.set()
    assert local.result(10) == 0 and [f.result(10) for f in running] == [True, True]
    pool.shutdown()


def test_a_fork_while_parked_and_a_fork_in_a_worker():
    with WorkStealingPool(2) as pool:
        pool.submit(int).result()
        until(lambda: pool.stats()["parked"] == 1)
        in_child(lambda: pool.submit(str, 3).result(10) == "3" or fail(AssertionError()))

        def forks():
            pool.schedule_local(int)

            def child():
                assert pool.schedule_local(str, 1).result(10) == "1"

            in_child(child)
            return "forked"

        assert pool.submit(forks).result(20) == "forked"


def test_a_fork_of_a_loop(one):
    async def main():
        await one.run(int)
        gate = Gate(one)
        waiting = one.run(int)

        def child():
            async def again():
                return await one.run(str, 4)

            asyncio.events._set_running_loop(None)
            assert asyncio.new_event_loop().run_until_complete(again()) == "4"

        in_child(child)
        gate.open()
        assert await waiting == 0

    asyncio.run(main())


# ---- under load --------------------------------------------------------------------------------


def test_hammering_with_steals():
    with WorkStealingPool(4) as pool:
        counts = [0] * 6
        errors = []

        def task(who, depth):
            if depth:
                children = [pool.schedule_local(task, who, depth - 1) for _ in range(3)]
                return 1 + sum(child.result() for child in children)
            return 1

        def submitter(who):
            try:
                for i in range(40):
                    futures = [
                        pool.submit_with(Priority((who + k) % 4), task, who, k % 4)
                        for k in range(10)
                    ]
                    if i % 3 == 0:
                        for each in futures[::2]:
                            each.cancel()
                    for k, each in enumerate(futures):
                        if each.cancelled():
                            continue
                        assert each.result(30) == (1, 4, 13, 40)[k % 4]
                        counts[who] += 1
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=submitter, args=(i,)) for i in range(6)]
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)
        try:
            for each in threads:
                each.start()
            for each in threads:
                each.join(50)
        finally:
            sys.setswitchinterval(interval)
        assert errors == [] and all(counts)
        until(lambda: pool.stats()["running"] == 0 and pool.stats()["pending"] == 0)
        stats = pool.stats()
        assert stats["submitted"] == stats["completed"] + stats["cancelled"]
        assert stats["failed"] == 0


def test_nothing_is_lost_between_sleeping_and_waking():
    with WorkStealingPool(2) as pool:
        for i in range(3000):
            assert pool.submit(str, i).result(10) == str(i)
            if i % 100 == 0:
                until(lambda: pool.stats()["parked"] == pool.stats()["workers"])


def test_pools_come_and_go():
    before = threading.active_count()
    for i in range(100):
        pool = WorkStealingPool(3)
        futures = [pool.submit(str, i) for _ in range(10)]
        if i % 2:
            pool.shutdown(wait=bool(i % 4 == 1))
        del pool
        assert {f.result(10) for f in futures} == {str(i)}
    until(lambda: gc.collect() is not None and threading.active_count() == before)


def test_no_leaks():
    marker = object()
    pool = WorkStealingPool(2)

    def work(argument, *, fault=False):
        if fault:
            raise ValueError(argument)
        return argument

    def batch():
        futures = [pool.submit(work, marker, fault=i % 10 == 0) for i in range(1000)]
        for each in futures[5::10]:
            each.cancel()
        for each in futures[:300]:
            each.cancelled() or each.exception(10)
        futures[-1].add_done_callback(lambda f: f)
        cf.wait(futures)
        pool.submit(lambda: [pool.schedule_local(work, marker).result() for _ in range(20)]
                    ).result()

    def settled():
        until(lambda: pool.stats()["running"] == pool.stats()["pending"] == 0
              and pool.stats()["parked"] == pool.stats()["workers"])
        gc.collect()

    for _ in range(20):
        batch()
    settled()
    references, objects = sys.getrefcount(marker), len(gc.get_objects())
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(100):
        batch()
    settled()
    assert sys.getrefcount(marker) == references
    assert len(gc.get_objects()) - objects < 50
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 8 << 10, "KiB"
    pool.shutdown()


def test_run_leaks_nothing():
    pool, marker = WorkStealingPool(2), object()

    async def batch():
        futures = [pool.run(lambda x: x, marker) for _ in range(500)]
        for each in futures[::5]:
            each.cancel()
        await asyncio.gather(*futures, return_exceptions=True)

    async def main():
        counts = []
        for i in range(30):
            await batch()
            if i in (9, 29):
                await pool.run(int)
                gc.collect()
                counts.append((sys.getrefcount(marker), len(gc.get_objects())))
        return counts

    (before, objects), (after, more) = asyncio.run(main())
    assert before == after and more - objects < 50
    pool.shutdown()
