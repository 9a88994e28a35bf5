"""SPSCQueue and MPMCQueue between threads; signals, forks, the interpreter's end."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from flowcore.kernel import MPMCQueue, QueueClosed, QueueEmpty, QueueFull, SPSCQueue

KINDS = [SPSCQueue, MPMCQueue]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def make(request: pytest.FixtureRequest) -> Any:
    return request.param


class Worker(threading.Thread):
    """A thread whose result or exception is taken by ``ended()``."""

    def __init__(self, work: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self.work = work
        self.result: Any = None
        self.start()

    def run(self) -> None:
        try:
            self.result = self.work()
        except BaseException as error:
            self.result = error

    def ended(self) -> Any:
        self.join(20)
        assert not self.is_alive(), "the thread hangs"
        return self.result


def asleep() -> None:
    """Long enough for a thread to be asleep by all likelihood; right in either case."""
    time.sleep(0.03)


def test_get_waits_for_put(make: Any) -> None:
    q = make(2)
    worker = Worker(q.get)
    asleep()
    q.put("late")
    assert worker.ended() == "late"


def test_put_waits_for_get(make: Any) -> None:
    q = make(1)
    q.put(1)
    worker = Worker(lambda: q.put(2))
    asleep()
    assert q.get() == 1
    assert worker.ended() is None
    assert q.get() == 2


def test_get_many_waits_for_one(make: Any) -> None:
    q = make(8)
    worker = Worker(q.get_many)
    asleep()
    q.put_many([1, 2, 3])
    assert worker.ended() == [1, 2, 3]


def test_put_many_goes_on_while_room_comes_free(make: Any) -> None:
    q = make(4)
    items = list(range(1000))
    worker = Worker(lambda: q.put_many(items))
    found: list[int] = []
    while len(found) < 1000:
        found += q.get_many(3)
    assert worker.ended() == 1000
    assert found == list(range(1000))


def test_a_list_that_changes_while_its_put_waits(make: Any) -> None:
    q = make(2)
    items = [1, 2, 3, 4]
    worker = Worker(lambda: q.put_many(items))
    while not q.full():
        time.sleep(0.001)
    asleep()
    items.clear()
    found: list[int] = []
    while len(found) < 4:
        found += q.get_many()
    assert found == [1, 2, 3, 4] and worker.ended() == 4


def test_a_wake_up_in_time_beats_the_time_out(make: Any) -> None:
    q = make(1)
    worker = Worker(lambda: q.get(timeout=20))
    asleep()
    q.put(5)
    assert worker.ended() == 5


@pytest.mark.parametrize("waiters", [1, 3])
def test_close_wakes_everybody(make: Any, waiters: int) -> None:
    empty, full = make(1), make(1)
    full.put(0)
    workers = [Worker(empty.get) for _ in range(waiters)]
    workers += [Worker(empty.get_many) for _ in range(waiters)]
    workers += [Worker(lambda: full.put(1)) for _ in range(waiters)]
    workers += [Worker(lambda: full.put_many([1, 2])) for _ in range(waiters)]
    asleep()
    empty.close()
    full.close()
    for worker in workers:
        assert isinstance(worker.ended(), QueueClosed)
    assert list(full) == [0]


def test_a_batch_cut_off_by_close_says_how_much_went_in(make: Any) -> None:
    q = make(2)
    worker = Worker(lambda: q.put_many([1, 2, 3]))
    while not q.full():
        time.sleep(0.001)
    asleep()
    q.close()
    assert worker.ended() == 2
    assert list(q) == [1, 2]


def test_each_of_several_sleepers_gets_one_of_a_batch(make: Any) -> None:
    q = make(8)
    workers = [Worker(q.get) for _ in range(4)]
    asleep()
    q.put_many([0, 1, 2, 3])
    assert sorted(worker.ended() for worker in workers) == [0, 1, 2, 3]


@pytest.mark.parametrize(("producers", "consumers"), [(1, 1), (2, 2), (4, 1), (1, 4), (4, 4)])
@pytest.mark.parametrize("capacity", [1, 2, 64])
@pytest.mark.parametrize("batched", [False, True], ids=["singly", "batches"])
def test_nothing_is_lost_doubled_or_out_of_order(
    make: Any, producers: int, consumers: int, capacity: int, batched: bool
) -> None:
    q = make(capacity)
    count = 600

    def produce(me: int) -> None:
        items = [(me, i) for i in range(count)]
        if batched:
            for i in range(0, count, 7):
                assert q.put_many(items[i : i + 7]) == len(items[i : i + 7])
        else:
            for each in items:
                q.put(each)

    def consume() -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = []
        if batched:
            try:
                while True:
                    found += q.get_many(5)
            except QueueClosed:
                return found
        return [*found, *q]

    makers = [Worker(partial(produce, me)) for me in range(producers)]
    takers = [Worker(consume) for _ in range(consumers)]
    for each in makers:
        assert each.ended() is None
    q.close()
    seen = [each.ended() for each in takers]
    for found in seen:
        for me in range(producers):
            mine = [number for who, number in found if who == me]
            assert mine == sorted(mine)
    everything = sorted(each for found in seen for each in found)
    assert everything == [(me, i) for me in range(producers) for i in range(count)]


def test_time_outs_and_wake_ups_at_the_same_moment_lose_nothing(make: Any) -> None:
    q = make(4)
    count = 2000

    def produce() -> None:
        for i in range(count):
            while True:
                try:
                    q.put(i, timeout=0.0002)
                    break
                except QueueFull:
                    pass

    maker = Worker(produce)
    found = []
    while len(found) < count:
        try:
            found.append(q.get(timeout=0.0002))
        except QueueEmpty:
            assert maker.is_alive() or not q.empty() or len(found) == count
    assert maker.ended() is None
    assert found == list(range(count))


def test_other_threads_run_while_one_waits(make: Any) -> None:
    q = make(1)
    worker = Worker(q.get)
    asleep()
    began = time.monotonic()
    total = sum(range(100_000))
    assert time.monotonic() - began < 5 and total
    q.put(1)
    assert worker.ended() == 1


# ---- signals ------------------------------------------------------------------------------------


class Interrupted(Exception):
    pass


def signalled_after(seconds: float, handler: Callable[..., Any]) -> Any:
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, seconds)


@pytest.fixture
def alarm() -> Any:
    before = signal.getsignal(signal.SIGALRM)
    yield signalled_after
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_a_handler_that_raises_ends_the_wait_and_loses_nothing(make: Any, alarm: Any) -> None:
    def handler(*_: Any) -> None:
        raise Interrupted

    q = make(1)
    alarm(0.05, handler)
    with pytest.raises(Interrupted):
        q.get()
    q.put(1)
    alarm(0.05, handler)
    with pytest.raises(Interrupted):
        q.put(2)
    assert q.get() == 1 and q.empty()


def test_a_handler_may_use_the_queue_that_it_interrupts(make: Any, alarm: Any) -> None:
    q = make(1)
    alarm(0.05, lambda *_: q.put("from the handler"))
    assert q.get() == "from the handler"
    q.put(1)
    found = []
    alarm(0.05, lambda *_: found.append(q.get()))
    q.put(2)
    assert found == [1] and q.get() == 2


def test_a_handler_that_returns_does_not_end_the_wait(make: Any, alarm: Any) -> None:
    q = make(1)
    calls: list[int] = []
    alarm(0.02, lambda *_: calls.append(1))
    began = time.monotonic()
    with pytest.raises(QueueEmpty):
        q.get(timeout=0.1)
    assert time.monotonic() - began >= 0.1 and calls == [1]


def test_handlers_in_the_midst_of_work(make: Any) -> None:
    """A timer's handler puts and gets between any two instructions of the program's own."""
    q = make(64)
    handled = 0

    def handler(*_: Any) -> None:
        nonlocal handled
        if q.try_put("h"):
            handled += 1

    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    mine = theirs = 0
    try:
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            mine += q.try_put_many(["m"] * 5)
            for each in q.try_get_many(7):
                if each == "m":
                    mine -= 1
                else:
                    theirs += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    rest = q.try_get_many()
    assert mine == rest.count("m") and theirs + rest.count("h") == handled > 10


# ---- forks --------------------------------------------------------------------------------------


def in_child(work: Callable[[], None]) -> None:
    """Runs `work` in a forked child and waits for it to end well."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            signal.alarm(20)
            work()
            code = 0
        except BaseException as error:
            print("in the child:", repr(error), file=sys.stderr)
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_has_a_copy_and_none_of_the_parents_sleepers(make: Any) -> None:
    q, full = make(4), make(1)
    full.put(0)
    getter, putter = Worker(q.get), Worker(lambda: full.put("parent's"))
    asleep()

    def child() -> None:
        q.put("child's")
        assert full.get() == 0
        assert q.get(timeout=5) == "child's"
        worker = Worker(q.get)
        asleep()
        q.put("again")
        assert worker.ended() == "again"
        q.close()

    in_child(child)
    assert getter.is_alive() and putter.is_alive() and len(full) == 1
    q.put("parent's")
    assert getter.ended() == "parent's"
    assert full.get() == 0
    assert putter.ended() is None and full.get() == "parent's"


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_forks_under_load(make: Any) -> None:
    q = make(8)

    def churn() -> None:
        while True:
            q.put_many([1, 2, 3])
            q.get()
            q.get_many(2)

    worker = Worker(churn)

    def child() -> None:
        q.try_get_many()
        q.put_many(range(8))
        assert q.get_many() == list(range(8))

    try:
        for _ in range(20):
            in_child(child)
    finally:
        q.close()
    assert isinstance(worker.ended(), QueueClosed)


# ---- the interpreter's end ----------------------------------------------------------------------


def run_program(text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, timeout=30, check=False
    )


@pytest.mark.parametrize("kind", ["SPSCQueue", "MPMCQueue"])
def test_a_daemon_thread_that_waits_does_not_hold_the_program(kind: str) -> None:
    done = run_program(
        "import threading, time\n"
        f"from flowcore.kernel import {kind}\n"
        f"q = {kind}(2)\n"
        "threading.Thread(target=q.get, daemon=True).start()\n"
        f"full = {kind}(1); full.put(1)\n"
        "threading.Thread(target=full.put, args=(2,), daemon=True).start()\n"
        "time.sleep(0.1)\n"
        "print('end')\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")


@pytest.mark.parametrize("kind", ["SPSCQueue", "MPMCQueue"])
def test_finalisers_at_the_end_may_use_a_queue(kind: str) -> None:
    done = run_program(
        "import atexit, sys\n"
        f"from flowcore.kernel import {kind}\n"
        f"q = {kind}(4)\n"
        "class Loud:\n"
        "    def __del__(self):\n"
        "        q2.put(1); q2.get()\n"
        "        sys.stdout.write('dropped ')\n"
        f"q2 = {kind}(4)\n"
        "q.put(Loud())\n"
        "sys.modules[__name__].keep = [q, q2]\n"
        "atexit.register(lambda: (q.put(2), q.close()))\n"
    )
    assert (done.returncode, done.stderr) == (0, "")
