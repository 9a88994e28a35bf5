"""Queues of records: what arrives, which arrays are taken, and views that hold their slots."""

import asyncio
import copy
import gc
import pickle
import queue
import random
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from harness.served import environment

from flowcore.errors import InvalidArgument, InvalidState
from flowcore.kernel import (
    MPMCRecordQueue,
    QueueClosed,
    QueueEmpty,
    QueueFull,
    SPSCRecordQueue,
)

TICK = np.dtype([("at", "i8"), ("price", "f8"), ("lots", "u4")], align=True)
BOTH = [SPSCRecordQueue, MPMCRecordQueue]
Made = Callable[..., Any]


@pytest.fixture(params=BOTH, ids=lambda kind: kind.__name__)
def made(request: pytest.FixtureRequest) -> Made:
    return request.param


def numbers(*values: int) -> np.ndarray:
    return np.array(values, "i8")


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "in vain"
        time.sleep(0.001)


class Worker(threading.Thread):
    """Runs a call in a thread; ``result()`` is what it returned or raised."""

    def __init__(self, call: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self.call = call
        self.start()

    def run(self) -> None:
        try:
            self.value, self.error = self.call(), None
        except BaseException as error:
            self.error = error

    def result(self) -> Any:
        self.join(10)
        assert not self.is_alive(), "the thread hangs"
        if self.error:
            raise self.error
        return self.value


# ---- the queue as a whole ------------------------------------------------------------------------


def test_capacity_is_rounded_up(made: Made) -> None:
    assert [made(n, "u1").capacity for n in (2, 3, 1000)] == [2, 4, 1024]
    assert SPSCRecordQueue(1, "u1").capacity == 1
    assert made(capacity=4, dtype="u1").capacity == 4


@pytest.mark.parametrize("capacity", [0, -1, 2**40 + 1, 2**70])
def test_capacity_out_of_range(made: Made, capacity: int) -> None:
    with pytest.raises(InvalidArgument, match="capacity"):
        made(capacity, "u1")


def test_too_large_for_memory(made: Made) -> None:
    with pytest.raises((MemoryError, InvalidArgument)):
        made(2**40, "V1000000000")


@pytest.mark.parametrize(
    "dtype",
    ["O", [("a", "i4"), ("b", "O")], np.dtype(("O", 3)), [("a", [("b", "O")])], "T"],
    ids=str,
)
def test_references_are_refused(made: Made, dtype: Any) -> None:
    if dtype == "T" and not hasattr(np.dtypes, "StringDType"):
        pytest.skip("needs numpy 2")
    with pytest.raises(InvalidArgument, match="references"):
        made(4, dtype)


@pytest.mark.parametrize("dtype", ["V0", "S0", "U0", [], [("a", "S0")]], ids=str)
def test_records_without_bytes_are_refused(made: Made, dtype: Any) -> None:
    with pytest.raises(InvalidArgument, match="no bytes"):
        made(4, dtype)


def test_other_dtypes_that_are_none(made: Made) -> None:
    with pytest.raises(InvalidArgument, match="field"):
        made(4, "(3,)f4")
    with pytest.raises(TypeError):
        made(4, "nonsense")
    with pytest.raises(TypeError):
        made(4, None)
    with pytest.raises(TypeError):
        made(4)


def test_state(made: Made) -> None:
    q = made(4, "i8")
    assert q.dtype == np.dtype("i8")
    assert (len(q), q.empty(), q.full(), bool(q)) == (0, True, False, True)
    assert q.push(numbers(1, 2, 3, 4)) == 4
    assert (len(q), q.empty(), q.full()) == (4, False, True)
    assert repr(q) == f"<{made.__name__} 4/4 of int64>"
    q.close()
    assert repr(q) == f"<{made.__name__} 4/4 of int64 closed>"
    for copied in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="SharedQueue"):
            copied(q)


def test_numpy_is_imported_with_the_first_queue_only() -> None:
    program = (
        "import sys, flowcore.kernel as k; assert 'numpy' not in sys.modules\n"
        "k.SPSCRecordQueue(1, 'i4'); assert 'numpy' in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr


# ---- what is pushed is popped --------------------------------------------------------------------

DTYPES: list[Any] = [
    "?",
    "i1",
    "<u2",
    ">i4",
    "f8",
    "c16",
    "S5",
    "U3",
    "V7",
    "M8[us]",
    "m8[ns]",
    TICK,
    [("a", "u1"), ("b", "i8")],
    [("a", "u1"), ("b", ">f4", (2, 2)), ("c", [("d", "S3")])],
    {"names": ["a", "b"], "formats": ["i4", "i4"], "offsets": [0, 0], "itemsize": 13},
]


def random_records(dtype: Any, count: int) -> np.ndarray:
    made = np.dtype(dtype)
    if made.kind in "bU":  # not every byte is a value of these
        return (np.arange(count) % 2).astype(made)
    return np.frombuffer(random.Random(count).randbytes(count * made.itemsize), made)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_records_of_any_dtype_come_back(made: Made, dtype: Any) -> None:
    q = made(16, dtype)
    records = random_records(dtype, 11)
    for _ in range(4):
        assert q.push(records) == 11
        got = q.pop()
        assert got.dtype == np.dtype(dtype)
        assert got.tobytes() == records.tobytes()
        assert got.flags.owndata and got.flags.writeable


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_views_are_aligned_or_say_that_they_are_not(dtype: Any) -> None:
    q = SPSCRecordQueue(16, dtype)
    for _ in range(16):
        with q.claim(3) as slots:
            at = slots.array.__array_interface__["data"][0]
            want = np.dtype(dtype)
            really = all((at + i * want.itemsize) % want.alignment == 0 for i in range(len(slots)))
            assert slots.array.flags.aligned == really
            slots.publish(1)
        q.pop()


def test_packed_records_of_odd_size_are_unaligned_and_work() -> None:
    q = SPSCRecordQueue(8, [("a", "u1"), ("b", "i8")])
    with q.claim(8) as slots:
        assert not slots["b"].flags.aligned
        slots["a"], slots["b"] = 1, np.arange(8) * 10**15
    assert q.pop()["b"].sum() == 28 * 10**15


def test_order_and_wrap(made: Made) -> None:
    q = made(8, "i8")
    rng = random.Random(4)
    pushed: list[int] = []
    popped: list[int] = []
    target = np.zeros(5, "i8")
    while len(popped) < 2000:
        some = np.arange(len(pushed), len(pushed) + rng.randrange(1, 7))
        pushed += some[: q.try_push(some)].tolist()
        if rng.random() < 0.5:
            popped += target[: q.try_pop_into(target)].tolist()
        elif not q.empty():
            popped += q.pop(rng.randrange(1, 9)).tolist()
    assert popped == pushed[: len(popped)] == list(range(len(popped)))


def test_one_record_by_itself(made: Made) -> None:
    q = made(8, TICK)
    table = np.zeros(2, TICK)
    table["at"] = [5, 6]
    assert q.push(table[1]) == 1  # a scalar
    assert q.push(np.array((7, 1.5, 2), TICK)) == 1  # an array without a dimension
    target = np.zeros((), TICK)
    assert q.pop_into(target) == 1
    assert target["at"] == 6
    assert q.pop().tolist() == [(7, 1.5, 2)]
    plain = made(2, "f8")
    plain.push(np.float64(2.5))
    assert plain.pop().tolist() == [2.5]


def test_try_push_takes_what_fits(made: Made) -> None:
    q = made(4, "i8")
    assert q.try_push(numbers(1, 2, 3)) == 3
    assert q.try_push(numbers(4, 5, 6)) == 1
    assert q.try_push(numbers(4)) == 0
    assert q.pop().tolist() == [1, 2, 3, 4]


def test_pop_takes_at_most(made: Made) -> None:
    q = made(8, "i8")
    q.push(np.arange(8))
    assert q.pop(3).tolist() == [0, 1, 2]
    assert q.pop(max_records=100).tolist() == [3, 4, 5, 6, 7]
    for bad in (0, -1):
        with pytest.raises(InvalidArgument, match="max_records"):
            q.pop(bad)
        with pytest.raises(InvalidArgument, match="max_records"):
            q.apop(bad)


def test_pop_into_fills_from_the_beginning(made: Made) -> None:
    q = made(8, "i8")
    q.push(numbers(1, 2, 3))
    target = np.full(5, -1)
    assert q.pop_into(target) == 3
    assert target.tolist() == [1, 2, 3, -1, -1]
    q.push(numbers(4, 5, 6))
    assert q.pop_into(target[3:]) == 2
    assert target.tolist() == [1, 2, 3, 4, 5]
    assert q.try_pop_into(target) == 1
    assert q.try_pop_into(target) == 0


def test_what_is_popped_is_the_callers_own(made: Made) -> None:
    q = made(2, "i8")
    q.push(numbers(1, 2))
    got = q.pop()
    q.push(numbers(3, 4))
    assert got.tolist() == [1, 2]


# ---- which arrays --------------------------------------------------------------------------------


@pytest.mark.parametrize("other", ["i4", ">i8", "u8", "f8", "M8[s]", [("a", "i8")]], ids=str)
def test_another_dtype_is_named(made: Made, other: Any) -> None:
    q = made(4, "<i8")
    array = np.zeros(2, other)
    for call in (q.push, q.try_push, q.apush, q.pop_into, q.try_pop_into, q.apop_into):
        with pytest.raises(InvalidArgument) as caught:
            call(array)
        assert str(array.dtype) in str(caught.value)
        assert "int64" in str(caught.value)
    assert q.empty()


def test_fields_elsewhere_are_another_dtype(made: Made) -> None:
    q = made(4, {"names": ["a", "b"], "formats": ["i4", "i4"], "offsets": [0, 4]})
    swapped = {"names": ["a", "b"], "formats": ["i4", "i4"], "offsets": [4, 0]}
    with pytest.raises(InvalidArgument):
        q.push(np.zeros(1, swapped))
    with pytest.raises(InvalidArgument):
        q.push(np.zeros(1, [("a", "i4"), ("c", "i4")]))


def test_equal_dtypes_by_other_names_are_taken(made: Made) -> None:
    q = made(4, [("a", "i8")])
    records = np.rec.fromarrays([[1, 2]], dtype=[("a", "i8")])
    assert q.push(records) == 2
    assert q.pop()["a"].tolist() == [1, 2]
    assert made(4, "q").push(np.zeros(1, "l")) == 1


def test_arrays_in_pieces_are_refused(made: Made) -> None:
    q = made(8, "i8")
    array = np.arange(8)
    for bad in (array[::2], array[::-1], np.broadcast_to(array[:1], 3)):
        with pytest.raises(InvalidArgument, match="ascontiguousarray"):
            q.push(bad)
    with pytest.raises(InvalidArgument, match="ascontiguousarray"):
        q.pop_into(array[::2])
    with pytest.raises(InvalidArgument, match="2 dimensions"):
        q.push(array.reshape(2, 4))
    assert q.push(np.ascontiguousarray(array[::2])) == 4


def test_what_is_no_array(made: Made) -> None:
    q = made(8, "i8")
    for bad in ([1, 2], 1, b"12345678", memoryview(np.arange(2)), None):
        for call in (q.push, q.try_push, q.apush, q.pop_into):
            with pytest.raises(TypeError, match="numpy array"):
                call(bad)
    with pytest.raises(TypeError):
        q.pop_into(np.int64(1))


def test_read_only_arrays_can_be_pushed_only(made: Made) -> None:
    q = made(8, "i8")
    array = np.arange(3)
    array.flags.writeable = False
    assert q.push(array) == 3
    with pytest.raises(InvalidArgument, match="read-only"):
        q.pop_into(array)
    assert len(q) == 3


def test_empty_arrays(made: Made) -> None:
    q = made(2, "i8")
    empty = np.zeros(0, "i8")
    assert q.push(empty) == q.try_push(empty) == 0
    q.push(numbers(1, 2))
    assert q.push(empty, timeout=0) == 0
    for call in (q.pop_into, q.try_pop_into, q.apop_into):
        with pytest.raises(InvalidArgument, match="no room"):
            call(empty)


def test_a_class_that_hides_its_dtype_deceives_nobody(made: Made) -> None:
    class Liar(np.ndarray):
        dtype = property(lambda self: np.dtype("i8"))  # type: ignore[assignment]

    q = made(4, "i8")
    q.push(numbers(1, 2))
    target = np.array([object(), object()]).view(Liar)
    with pytest.raises(InvalidArgument, match="object"):
        q.pop_into(target)


# ---- waiting -------------------------------------------------------------------------------------


def test_full_and_empty(made: Made) -> None:
    q = made(2, "i8")
    target = np.zeros(1, "i8")
    for call in (q.pop, lambda **k: q.pop_into(target, **k)):
        with pytest.raises(QueueEmpty):
            call(block=False)
        with pytest.raises(queue.Empty):
            call(timeout=0.01)
    q.push(numbers(1, 2))
    with pytest.raises(QueueFull):
        q.push(numbers(3), block=False)
    start = time.monotonic()
    with pytest.raises(queue.Full):
        q.push(numbers(3), timeout=0.05)
    assert time.monotonic() - start >= 0.05
    for bad in (-1, float("nan")):
        with pytest.raises(InvalidArgument, match="timeout"):
            q.push(numbers(3), timeout=bad)
        with pytest.raises(InvalidArgument, match="timeout"):
            q.pop(timeout=bad)
    assert len(q) == 2


def test_a_push_that_ends_early_tells_how_many(made: Made) -> None:
    q = made(4, "i8")
    assert q.push(np.arange(10), block=False) == 4
    assert q.pop(3).tolist() == [0, 1, 2]
    assert q.push(np.arange(10, 20), timeout=0.01) == 3
    assert q.pop().tolist() == [3, 10, 11, 12]


def test_push_waits_until_all_are_in(made: Made) -> None:
    q = made(4, "i8")
    worker = Worker(lambda: q.push(np.arange(1000)))
    got: list[int] = []
    while len(got) < 1000:
        got += q.pop(3, timeout=10).tolist()
    assert worker.result() == 1000
    assert got == list(range(1000))


def test_pop_waits(made: Made) -> None:
    q = made(4, "i8")
    target = np.zeros(4, "i8")
    for call in (lambda: q.pop().tolist(), lambda: target[: q.pop_into(target)].tolist()):
        worker = Worker(call)
        time.sleep(0.02)
        q.push(numbers(1, 2))
        assert worker.result() == [1, 2]


def test_close(made: Made) -> None:
    q = made(4, "i8")
    with q:
        q.push(numbers(1, 2, 3))
    assert q.closed
    for call in (q.push, q.try_push):
        with pytest.raises(QueueClosed):
            call(numbers(4))
    target = np.zeros(1, "i8")
    assert q.try_pop_into(target) == 1
    assert [batch.tolist() for batch in q] == [[2, 3]]
    for call in (q.pop, lambda: q.pop_into(target), lambda: q.try_pop_into(target)):
        with pytest.raises(QueueClosed):
            call()


def test_close_wakes(made: Made) -> None:
    q = made(4, "i8")
    worker = Worker(q.pop)
    time.sleep(0.02)
    q.close()
    with pytest.raises(QueueClosed):
        worker.result()
    q = made(4, "i8")
    worker = Worker(lambda: q.push(np.arange(10)))
    until(q.full)
    q.close()
    assert worker.result() == 4  # as many as are in
    assert q.pop().tolist() == [0, 1, 2, 3]


def test_iteration_ends_with_the_queue(made: Made) -> None:
    q = made(8, "i8")
    worker = Worker(lambda: np.concatenate(list(q)).tolist())
    for start in range(0, 300, 3):
        q.push(np.arange(start, start + 3))
    q.close()
    assert worker.result() == list(range(300))


def test_many_threads_lose_and_double_nothing(made: Made) -> None:
    q = made(16, TICK)
    each, sides = 4000, 3

    def produce(number: int) -> int:
        records = np.zeros(each, TICK)
        records["at"] = number
        records["lots"] = np.arange(each)
        done = 0
        while done < each:
            done += q.push(records[done : done + 1 + done % 7])
        return done

    workers = [Worker(lambda number=number: produce(number)) for number in range(sides)]
    takers = [Worker(lambda: np.concatenate([np.zeros(0, TICK), *q])) for _ in range(sides)]
    assert [worker.result() for worker in workers] == [each] * sides
    q.close()
    parts = [taker.result() for taker in takers]
    for part in parts:
        for number in range(sides):
            lots = part["lots"][part["at"] == number].astype("i8")
            assert (np.diff(lots) > 0).all()
    everything = np.concatenate(parts)
    for number in range(sides):
        lots = np.sort(everything["lots"][everything["at"] == number])
        assert lots.tolist() == list(range(each))


# ---- coroutines ----------------------------------------------------------------------------------


def test_coroutines_meet(made: Made) -> None:
    async def main() -> list[int]:
        q = made(4, "i8")
        got: list[int] = []

        async def consume() -> None:
            got.extend((await q.apop(2)).tolist())
            target = np.zeros(3, "i8")
            got.extend(target[: await q.apop_into(target)].tolist())
            async for batch in q:
                got.extend(batch.tolist())

        async with asyncio.TaskGroup() as group:
            task = group.create_task(consume())
            await asyncio.sleep(0)
            assert await q.apush(np.arange(500)) == 500
            q.close()
            await task
        return got

    assert asyncio.run(main()) == list(range(500))


def test_coroutines_and_threads(made: Made) -> None:
    q = made(4, "i8")
    worker = Worker(lambda: [q.push(np.arange(i, i + 10)) for i in range(0, 1000, 10)])

    async def consume() -> list[int]:
        got: list[int] = []
        while len(got) < 1000:
            got += (await q.apop()).tolist()
        return got

    assert asyncio.run(consume()) == list(range(1000))
    assert worker.result() == [10] * 100


def test_apush_that_is_closed_or_cancelled(made: Made) -> None:
    async def main() -> None:
        q = made(4, "i8")
        task = asyncio.ensure_future(q.apush(np.arange(10)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert q.pop().tolist() == [0, 1, 2, 3]
        await asyncio.sleep(0)
        assert q.empty()
        task = asyncio.ensure_future(q.apush(np.arange(10)))
        await asyncio.sleep(0)
        q.close()
        assert await task == 4
        with pytest.raises(QueueClosed):
            await q.apush(numbers(1))
        await q.apop()
        with pytest.raises(QueueClosed):
            await q.apop()
        with pytest.raises(QueueClosed):
            await q.apop_into(np.zeros(1, "i8"))

    asyncio.run(main())


# ---- claim ---------------------------------------------------------------------------------------


@pytest.fixture
def q() -> SPSCRecordQueue:
    """Eight slots, of which the next six lie in one piece."""
    made = SPSCRecordQueue(8, "i8")
    made.push(numbers(0, 0))
    made.pop()
    return made


def test_slots_are_published_at_the_end_of_the_block(q: SPSCRecordQueue) -> None:
    with q.claim(3) as slots:
        assert len(slots) == 3
        slots[:] = [1, 2, 3]
        assert len(q) == 0
    assert q.pop().tolist() == [1, 2, 3]


def test_some_or_none_are_published(q: SPSCRecordQueue) -> None:
    with q.claim(4) as slots:
        slots[:] = [1, 2, 3, 4]
        slots.publish(4)
        slots.publish(2)
    assert q.pop().tolist() == [1, 2]
    with q.claim(2) as slots:
        slots.publish(0)
        for bad in (-1, 3):
            with pytest.raises(InvalidArgument):
                slots.publish(bad)
    assert q.empty()


def test_a_claim_ends_at_the_end_of_the_ring(q: SPSCRecordQueue) -> None:
    with q.claim() as slots:
        assert len(slots) == 6
        slots[:] = range(6)
    with q.claim() as slots:
        assert len(slots) == 2
        slots[:] = [6, 7]
    assert q.full()
    with pytest.raises(QueueFull), q.claim(block=False):
        pytest.fail("there is no room")
    assert q.pop().tolist() == list(range(8))


def test_a_block_that_raises_gives_up(q: SPSCRecordQueue) -> None:
    with pytest.raises(KeyError), q.claim(3) as slots:
        slots[:] = 9
        raise KeyError
    assert q.empty()
    with q.claim(3) as slots:
        slots[:] = [1, 2, 3]
    assert q.pop().tolist() == [1, 2, 3]


def test_slots_behave_as_their_array() -> None:
    q = SPSCRecordQueue(8, TICK)
    with q.claim(4) as slots:
        slots["price"] = [1, 2, 3, 4]
        slots["lots"] = np.asarray(slots)["price"] * 2
        slots.array["at"] = 7
        assert slots[1].tolist() == (7, 2.0, 4)
        assert slots["price"].sum() == 10
        assert [record["at"] for record in slots] == [7] * 4
        assert np.array(slots["price"]).base is None
        assert slots.array.flags.writeable
    with q.peek(2) as records:
        assert records["lots"].tolist() == [2, 4]
        assert np.array(records, copy=True)["at"].tolist() == [7, 7]
        assert np.array(records).tolist() == records.array.tolist()
    numbers = SPSCRecordQueue(4, "i4")
    with numbers.claim(2) as slots:
        slots[:] = 3
        assert np.add(slots, 1).tolist() == [4, 4]
        assert np.asarray(slots, dtype="f8").tolist() == [3.0, 3.0]
        assert slots.__array__(copy=True) is not slots.array
        with pytest.raises(ValueError, match="cop"):
            slots.__array__(np.dtype("f8"), copy=False)


def test_what_is_copied_may_stay(q: SPSCRecordQueue) -> None:
    q.push(numbers(1, 2, 3))
    with q.peek() as records:
        kept = [records.array.copy(), records[1:] * 2, records[0], list(records)]
    assert kept[0].tolist() == [1, 2, 3]
    assert kept[1].tolist() == [4, 6]
    assert kept[2:] == [1, [1, 2, 3]]
    assert q.empty()


def test_a_claim_waits_for_room() -> None:
    q = SPSCRecordQueue(4, "i8")
    q.push(np.arange(4))

    def claim() -> int:
        with q.claim(4, timeout=10) as slots:
            slots[:] = 9
            return len(slots)

    worker = Worker(claim)
    time.sleep(0.02)
    assert worker.is_alive()
    assert q.pop(2).tolist() == [0, 1]
    assert worker.result() == 2
    assert q.pop().tolist() == [2, 3, 9, 9]
    q.push(np.arange(4))
    start = time.monotonic()
    with pytest.raises(QueueFull), q.claim(timeout=0.03):
        pytest.fail("there is no room")
    assert time.monotonic() - start >= 0.03


def test_what_is_published_wakes(q: SPSCRecordQueue) -> None:
    worker = Worker(lambda: q.pop().tolist())
    time.sleep(0.02)
    with q.claim(2) as slots:
        slots[:] = [1, 2]
    assert worker.result() == [1, 2]

    async def main() -> list[int]:
        task = asyncio.ensure_future(q.apop())
        await asyncio.sleep(0)
        with q.claim(1) as slots:
            slots[:] = 3
        return (await asyncio.wait_for(task, 10)).tolist()

    assert asyncio.run(main()) == [3]


def test_arguments_of_claim_and_peek(q: SPSCRecordQueue) -> None:
    for call in (q.claim, q.peek):
        for bad in (0, -1):
            with pytest.raises(InvalidArgument, match="max_records"):
                call(bad)
        with pytest.raises(InvalidArgument, match="timeout"):
            call(1, timeout=-1)


def test_only_a_queue_of_one_producer_has_views() -> None:
    q = MPMCRecordQueue(4, "i8")
    assert not hasattr(q, "claim") and not hasattr(q, "peek")


def test_one_claim_at_a_time(q: SPSCRecordQueue) -> None:
    with q.claim(2) as slots:
        slots[:] = [1, 2]
        with pytest.raises(InvalidState, match="claimed"), q.claim(1):
            pytest.fail("claimed twice")
        for call in (q.push, q.try_push):
            with pytest.raises(InvalidState, match="claimed"):
                call(numbers(9))
        with pytest.raises(InvalidState, match="claimed"):
            asyncio.run(wait_for(q.apush(numbers(9))))
        with pytest.raises(InvalidState, match="claimed"):
            Worker(lambda: q.push(numbers(9))).result()
    q.push(numbers(3))
    assert q.pop().tolist() == [1, 2, 3]


def test_one_peek_at_a_time(q: SPSCRecordQueue) -> None:
    q.push(numbers(1, 2))
    target = np.zeros(1, "i8")
    with q.peek(2) as records:
        with pytest.raises(InvalidState, match="peeked"), q.peek(1):
            pytest.fail("peeked twice")
        for call in (q.pop, lambda: q.pop_into(target), lambda: q.try_pop_into(target)):
            with pytest.raises(InvalidState, match="peeked"):
                call()
        with pytest.raises(InvalidState, match="peeked"):
            asyncio.run(wait_for(q.apop()))
        with pytest.raises(InvalidState, match="peeked"):
            next(q)
        records.consume(1)
    assert q.pop().tolist() == [2]


async def wait_for(awaitable: Any) -> Any:
    return await awaitable


def test_both_sides_may_have_views_at_once(q: SPSCRecordQueue) -> None:
    q.push(numbers(1, 2))
    with q.claim(2) as slots, q.peek(2) as records:
        slots[:] = records[:] * 10
    assert q.pop().tolist() == [10, 20]
    q.push(numbers(1, 2))
    other = SPSCRecordQueue(4, "i8")
    with q.peek() as records, other.claim(4) as slots:
        assert other.capacity == len(slots)
        slots.publish(len(records))
        slots[: len(records)] = records
    assert other.pop().tolist() == [1, 2]
    with other.claim() as slots:  # straight from one ring to the other
        q.push(numbers(5, 6))
        slots.publish(q.pop_into(slots.array))
    assert other.pop().tolist() == [5, 6]


def test_a_claim_is_for_one_block(q: SPSCRecordQueue) -> None:
    claim = q.claim(2)
    with pytest.raises(InvalidState):
        claim.publish(1)
    assert q.try_push(numbers(1)) == 1  # nothing is held before the block
    with claim:
        pass
    for use in (lambda: claim.array, lambda: len(claim), lambda: claim[0], lambda: claim.publish(1),
                claim.__enter__, lambda: claim.__exit__(None, None, None), lambda: iter(claim)):
        with pytest.raises(InvalidState):
            use()
    with pytest.raises(InvalidState):
        type(claim)().__enter__()


# ---- peek ----------------------------------------------------------------------------------------


def test_records_are_consumed_at_the_end_of_the_block(q: SPSCRecordQueue) -> None:
    q.push(np.arange(8))
    with q.peek(3) as records:
        assert records[:].tolist() == [0, 1, 2]
        assert len(q) == 8
        assert q.try_push(numbers(9)) == 0
    assert q.try_push(numbers(8)) == 1
    with q.peek() as records:
        assert records.array.tolist() == [3, 4, 5]  # to the end of the ring
        records.consume(0)
    with pytest.raises(KeyError), q.peek():
        raise KeyError
    with q.peek() as records:
        assert records.array.tolist() == [3, 4, 5]
    assert q.pop().tolist() == [6, 7, 8]
    with pytest.raises(QueueEmpty), q.peek(block=False):
        pytest.fail("there is nothing")


def test_records_cannot_be_changed(q: SPSCRecordQueue) -> None:
    q.push(numbers(1))
    with q.peek() as records:
        with pytest.raises(TypeError):
            records[0] = 2  # type: ignore[index]
        with pytest.raises(ValueError, match="read-only"):
            records.array[0] = 2
        with pytest.raises(ValueError, match="WRITEABLE"):
            records.array.flags.writeable = True
    with pytest.raises(QueueEmpty):
        q.pop(block=False)


def test_a_peek_waits_and_consuming_wakes(q: SPSCRecordQueue) -> None:
    def peek() -> list[int]:
        with q.peek(timeout=10) as records:
            return records[:].tolist()

    worker = Worker(peek)
    time.sleep(0.02)
    q.push(numbers(1))
    assert worker.result() == [1]
    q.push(np.arange(8))
    worker = Worker(lambda: q.push(numbers(8)))
    time.sleep(0.02)
    assert worker.is_alive()
    with q.peek(1):
        pass
    assert worker.result() == 1


# ---- views that stay -----------------------------------------------------------------------------

DERIVED: list[Callable[[np.ndarray], Any]] = [
    lambda array: array,
    lambda array: array[1:],
    lambda array: array[::2],
    lambda array: array.view("u1")[3:],
    lambda array: array.reshape(1, -1).T,
    lambda array: np.lib.stride_tricks.sliding_window_view(array, 2),
    lambda array: np.frombuffer(array, "u1"),
    lambda array: np.asarray(memoryview(array)),
    memoryview,
    lambda array: memoryview(array)[1:],
    lambda array: memoryview(array).cast("B")[5:7],
    lambda array: memoryview(array).toreadonly(),
    lambda array: array.ctypes,
    lambda array: np.nditer(array),
    iter,
    lambda array: [{"deep": array[:1]}],
    np.ma.masked_array,
    lambda array: array.view(np.recarray),
]


@pytest.mark.parametrize("derive", DERIVED)
def test_a_view_of_claimed_slots_holds_them(
    q: SPSCRecordQueue, derive: Callable[[np.ndarray], Any]
) -> None:
    with pytest.raises(BufferError, match="del"), q.claim(4) as slots:
        slots[:] = 7
        kept = derive(slots.array)
    assert q.empty(), "published although they may still be written"
    for call in (lambda: q.push(numbers(1)), lambda: q.try_push(numbers(1)),
                 q.claim(1).__enter__, lambda: asyncio.run(wait_for(q.apush(numbers(1))))):
        with pytest.raises(BufferError, match="alive"):
            call()
    assert q.empty()
    with pytest.raises(QueueEmpty):
        q.pop(block=False)
    del kept
    assert q.push(numbers(1)) == 1
    assert q.pop().tolist() == [1]


@pytest.mark.parametrize("derive", DERIVED)
def test_a_view_of_records_holds_them(
    q: SPSCRecordQueue, derive: Callable[[np.ndarray], Any]
) -> None:
    q.push(np.arange(8))
    with pytest.raises(BufferError, match="del"), q.peek(4) as records:
        kept = derive(records.array)
        twin = records.array
    del twin
    assert len(q) == 8
    assert q.try_push(numbers(9)) == 0, "the slots are used again although they are looked at"
    for call in (q.pop, lambda: q.pop_into(np.zeros(1, "i8")), q.peek(1).__enter__):
        with pytest.raises(BufferError, match="alive"):
            call()
    del kept
    assert q.pop().tolist() == list(range(8))  # once, and all of them


def test_views_see_the_slots_until_the_last_is_gone(q: SPSCRecordQueue) -> None:
    q.push(np.arange(8))
    with pytest.raises(BufferError), q.peek(4) as records:
        first, second = records.array[:2], memoryview(records.array)[2:]
    del first
    with pytest.raises(BufferError):
        q.pop()
    assert second.tolist() == [2, 3]
    second.release()
    assert q.pop().tolist() == list(range(8))


def test_structured_scalars_are_views() -> None:
    q = SPSCRecordQueue(4, TICK)
    q.push(np.ones(2, TICK))
    with pytest.raises(BufferError), q.peek() as records:
        record = records[0]
    assert record["at"] == 1
    del record
    assert len(q.pop()) == 2


def test_views_live_on_with_a_queue_that_is_dropped() -> None:
    q = SPSCRecordQueue(1024, "i8")
    q.push(np.arange(1024))
    with pytest.raises(BufferError), q.peek() as records:
        kept = records.array[:]
    q.close()
    del q, records
    gc.collect()
    assert kept.tolist() == list(range(1024))


def test_an_exception_passes_while_views_stay(q: SPSCRecordQueue) -> None:
    def fail() -> None:
        with q.claim(2) as slots:
            mine = slots.array
            mine[:] = 5
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine") as caught:
        fail()
    with pytest.raises(BufferError):  # the traceback has the frame, which has `mine`
        q.push(numbers(1))
    caught.value.__traceback__ = None
    del caught
    gc.collect()
    assert q.push(numbers(1)) == 1
    assert q.pop().tolist() == [1]


def test_the_exporter_gives_no_more_views_afterwards(q: SPSCRecordQueue) -> None:
    with q.claim(2) as slots:
        exporter = slots.array.base.obj
    with pytest.raises(BufferError, match="given back"):
        memoryview(exporter)
    q.pop()
    with pytest.raises(BufferError), q.claim(2) as slots:
        kept = slots.array
        exporter = kept.base.obj
    with pytest.raises(BufferError, match="given back"):
        memoryview(exporter)
    del kept  # the exporter alone does not hold the slots
    q.push(numbers(1))
    q.pop()
    with pytest.raises(BufferError), q.claim(2) as slots:
        kept = slots.array
        first, second = memoryview(kept.base.obj), memoryview(kept.base.obj)
    for view in (first, second):
        view.release()
        with pytest.raises(BufferError, match="alive"):
            q.push(numbers(1))
    del kept
    q.push(numbers(1))
    memoryview(type(exporter)())  # of nothing


def test_claims_that_are_collected_give_up(q: SPSCRecordQueue) -> None:
    for _ in range(3):
        q.claim(2).__enter__()
        assert q.push(numbers(1)) == 1
    slots = q.claim(2).__enter__()
    kept = slots.array
    del slots
    with pytest.raises(InvalidState):
        q.push(numbers(1))
    del kept
    q.push(numbers(1))
    assert q.pop().tolist() == [1, 1, 1, 1]
    q.push(numbers(1, 2))
    q.peek(2).__enter__()
    assert q.pop().tolist() == [1, 2]


def test_a_claim_in_a_cycle_is_collected(q: SPSCRecordQueue) -> None:
    slots = q.claim(2).__enter__()
    cycle: list[Any] = [slots]
    cycle.append(cycle)
    del slots, cycle
    with pytest.raises(InvalidState):
        q.push(numbers(1))
    gc.collect()
    assert q.push(numbers(1)) == 1


def test_a_generator_that_is_dropped_in_its_block(q: SPSCRecordQueue) -> None:
    def steps() -> Any:
        with q.claim(2) as slots:
            slots[:] = 1
            yield

    step = steps()
    next(step)
    step.close()
    assert q.empty()
    assert q.push(numbers(1)) == 1


def test_a_finaliser_may_use_the_queue(q: SPSCRecordQueue) -> None:
    seen: list[Any] = []

    def at_the_end(_: object) -> None:
        try:
            q.push(numbers(9))
        except InvalidState as error:
            seen.append(error)

    with q.claim(2) as slots:
        slots[:] = [1, 2]
        watch = weakref.ref(slots.array, at_the_end)
    assert watch() is None
    assert len(seen) == 1
    assert q.pop().tolist() == [1, 2]


def test_close_during_a_claim(q: SPSCRecordQueue) -> None:
    with pytest.raises(QueueClosed), q.claim(2) as slots:
        slots[:] = 1
        q.close()
    assert q.empty()
    with pytest.raises(QueueClosed), q.claim(1):
        pytest.fail("claimed of a closed queue")


def test_close_during_a_claim_of_which_nothing_is_published(q: SPSCRecordQueue) -> None:
    with q.claim(2) as slots:
        q.close()
        slots.publish(0)


def test_close_during_a_peek(q: SPSCRecordQueue) -> None:
    q.push(numbers(1, 2, 3))
    with q.peek(2):
        q.close()
    with q.peek(2) as records:
        assert records.array.tolist() == [3]
    with pytest.raises(QueueClosed), q.peek():
        pytest.fail("peeked at a closed and empty queue")


def test_close_wakes_a_claim_and_a_peek(q: SPSCRecordQueue) -> None:
    worker = Worker(q.peek().__enter__)
    time.sleep(0.02)
    q.close()
    with pytest.raises(QueueClosed):
        worker.result()
    q = SPSCRecordQueue(1, "i8")
    q.push(numbers(1))
    worker = Worker(q.claim().__enter__)
    time.sleep(0.02)
    q.close()
    with pytest.raises(QueueClosed):
        worker.result()


def test_a_claim_that_is_given_up_passes_its_wake_up_on() -> None:
    q = SPSCRecordQueue(1, "i8")
    q.push(numbers(1))
    entered, leave = threading.Event(), threading.Event()

    def claim() -> None:
        with q.claim() as slots:
            entered.set()
            leave.wait(10)
            slots.publish(0)

    claimer = Worker(claim)
    time.sleep(0.02)  # it sleeps first, and is woken first
    pusher = Worker(lambda: q.push(numbers(2)))
    time.sleep(0.02)
    q.pop()
    assert entered.wait(10)
    leave.set()
    claimer.result()
    assert pusher.result() == 1


def test_the_last_view_that_goes_wakes_who_slept() -> None:
    q = SPSCRecordQueue(1, "i8")
    q.push(numbers(1))
    kept: list[np.ndarray] = []
    entered, leave = threading.Event(), threading.Event()

    def claim() -> None:
        with q.claim() as slots:
            kept.append(slots.array)
            entered.set()
            leave.wait(10)

    claimer = Worker(claim)
    time.sleep(0.02)
    pusher = Worker(lambda: q.push(numbers(2)))
    time.sleep(0.02)
    q.pop()
    assert entered.wait(10)
    leave.set()
    with pytest.raises(BufferError):
        claimer.result()
    assert pusher.is_alive()
    with pytest.raises(KeyError, match="mine"):
        [kept.pop(), {}["mine"]]  # it goes while the exception is on its way
    assert pusher.result() == 1


def test_no_two_slots_are_one() -> None:
    """Threads that claim, push and pop at random: each record arrives once, or its claim failed."""
    q = SPSCRecordQueue(32, "i8")
    each, sides = 1500, 3
    taken: list[list[int]] = [[] for _ in range(sides)]

    def produce(number: int) -> None:
        rng = random.Random(number)
        next_one = number * each
        while next_one < (number + 1) * each:
            count = min(rng.randrange(1, 5), (number + 1) * each - next_one)
            values = np.arange(next_one, next_one + count)
            try:
                if rng.random() < 0.5:
                    next_one += q.try_push(values)
                else:
                    with q.claim(count, block=False) as slots:
                        count = min(count, len(slots))
                        slots[:count] = values[:count]
                        if rng.random() < 0.3:
                            time.sleep(0)
                        slots.publish(count)
                    next_one += count
            except (QueueFull, InvalidState):
                time.sleep(0)

    def consume(number: int) -> None:
        rng = random.Random(-number)
        while True:
            try:
                if rng.random() < 0.5:
                    taken[number] += q.pop(3, timeout=0.001).tolist()
                else:
                    with q.peek(3, timeout=0.001) as records:
                        mine = records[:].tolist()
                        if rng.random() < 0.3:
                            time.sleep(0)
                    taken[number] += mine
            except (QueueEmpty, InvalidState):
                time.sleep(0)
            except QueueClosed:
                return

    producers = [Worker(lambda number=number: produce(number)) for number in range(sides)]
    consumers = [Worker(lambda number=number: consume(number)) for number in range(sides)]
    for worker in producers:
        worker.result()
    q.close()
    for worker in consumers:
        worker.result()
    assert sorted(sum(taken, [])) == list(range(sides * each))
