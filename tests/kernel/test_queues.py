"""SPSCQueue and MPMCQueue: each operation by itself, in one thread."""

import copy
import gc
import pickle
import queue
import sys
import time
import weakref
from typing import Any

import pytest

from flowcore.errors import InvalidArgument
from flowcore.kernel import MPMCQueue, QueueClosed, QueueEmpty, QueueFull, SPSCQueue

KINDS = [SPSCQueue, MPMCQueue]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def make(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_items_come_out_in_their_order(make: Any) -> None:
    q = make(8)
    for i in range(5):
        q.put(i)
    assert len(q) == 5
    assert [q.get() for _ in range(5)] == list(range(5))
    assert len(q) == 0


def test_capacity_is_rounded_up_to_a_power_of_two(make: Any) -> None:
    assert [make(n).capacity for n in (1, 2, 3, 1000)] == [1, 2, 4, 1024]


@pytest.mark.parametrize("capacity", [0, -1, 1 << 41])
def test_a_capacity_out_of_range_is_refused(make: Any, capacity: int) -> None:
    with pytest.raises(InvalidArgument, match="capacity must be 1 to"):
        make(capacity)


def test_a_capacity_that_no_memory_holds_is_an_error(make: Any) -> None:
    with pytest.raises(MemoryError):
        make(1 << 40)


def test_a_capacity_that_is_no_number_is_a_type_error(make: Any) -> None:
    with pytest.raises(TypeError):
        make("many")


def test_there_is_no_queue_without_a_ring(make: Any) -> None:
    with pytest.raises(TypeError):
        make.__new__(make)
    q = make(2)
    q.put(1)
    q.__init__(4)
    assert q.capacity == 2 and q.get() == 1


def test_full_and_empty(make: Any) -> None:
    q = make(2)
    assert q.empty() and not q.full() and bool(q)
    q.put(1)
    assert not q.empty() and not q.full()
    q.put(2)
    assert q.full()
    with pytest.raises(QueueFull):
        q.put_nowait(3)
    with pytest.raises(queue.Full):  # so that code for the standard library's queues goes on
        q.put(3, block=False)
    assert q.try_put(3) is False
    assert q.get_many() == [1, 2]
    with pytest.raises(QueueEmpty):
        q.get_nowait()
    with pytest.raises(queue.Empty):
        q.get(block=False)
    assert q.try_get() is None and q.try_get("nothing") == "nothing"
    assert q.try_put(4) is True and q.try_get() == 4


def test_positions_wrap_around_the_ring(make: Any) -> None:
    q = make(4)
    for i in range(1000):
        q.put(i)
        q.put(-i)
        assert (q.get(), q.get()) == (i, -i)
        q.put_many([i] * (i % 4))
        assert q.try_get_many() == [i] * (i % 4)


@pytest.mark.parametrize("call", ["put", "get"])
def test_time_outs(make: Any, call: str) -> None:
    q = make(1)
    if call == "put":
        q.put(0)
    error = QueueFull if call == "put" else QueueEmpty
    arguments = (1,) if call == "put" else ()
    began = time.monotonic()
    with pytest.raises(error):
        getattr(q, call)(*arguments, timeout=0.05)
    assert 0.05 <= time.monotonic() - began < 5
    with pytest.raises(error):
        getattr(q, call)(*arguments, True, 0)


@pytest.mark.parametrize("timeout", [-1, -0.001, float("nan")])
def test_a_time_out_that_is_none_is_refused_and_nothing_is_lost(make: Any, timeout: float) -> None:
    q = make(4)
    q.put(1)
    for call in (
        lambda: q.put(2, timeout=timeout),
        lambda: q.get(timeout=timeout),
        lambda: q.put_many([2], timeout=timeout),
        lambda: q.get_many(timeout=timeout),
    ):
        with pytest.raises(InvalidArgument, match="timeout must be"):
            call()
    assert q.try_get_many() == [1]


def test_a_time_out_of_another_type_is_a_type_error(make: Any) -> None:
    q = make(1)
    with pytest.raises(TypeError):
        q.get(timeout="soon")


def test_a_time_out_of_years_does_not_overflow(make: Any) -> None:
    q = make(1)
    q.put(1)
    assert q.get(timeout=1e300) == 1
    q.put(1)
    assert q.get(timeout=float("inf")) == 1


def test_batches(make: Any) -> None:
    q = make(8)
    assert q.put_many([]) == 0
    assert q.put_many(i for i in range(3)) == 3
    assert q.put_many((3, 4)) == 2
    assert q.put_many({5: None, 6: None}) == 2
    assert q.try_put_many([7, 8, 9]) == 1
    assert q.get_many(3) == [0, 1, 2]
    assert q.try_get_many(2) == [3, 4]
    assert q.get_many() == [5, 6, 7]
    assert q.try_get_many() == []
    with pytest.raises(QueueEmpty):
        q.get_many(block=False)


def test_a_batch_that_fits_in_part_says_how_much_of_it(make: Any) -> None:
    q = make(4)
    assert q.put_many(range(6), timeout=0.01) == 4
    with pytest.raises(QueueFull):
        q.put_many([9], block=False)
    assert q.try_put_many([9]) == 0
    assert q.get_many() == [0, 1, 2, 3]


@pytest.mark.parametrize("max_items", [0, -1])
def test_a_batch_of_nothing_is_refused(make: Any, max_items: int) -> None:
    q = make(1)
    for call in (q.get_many, q.try_get_many, q.aget_many):
        with pytest.raises(InvalidArgument, match="max_items must be at least 1"):
            call(max_items)


def test_an_iterable_that_fails_leaves_nothing_behind(make: Any) -> None:
    def items() -> Any:
        yield 1
        raise LookupError

    q = make(8)
    with pytest.raises(LookupError):
        q.put_many(items())
    assert len(q) == 0


def test_closed(make: Any) -> None:
    q = make(4)
    q.put_many([1, 2, 3])
    assert not q.closed
    q.close()
    q.close()
    assert q.closed
    for call in (
        lambda: q.put(4),
        lambda: q.put_nowait(4),
        lambda: q.try_put(4),
        lambda: q.put_many([4]),
        lambda: q.put_many([]),
        lambda: q.try_put_many([4]),
    ):
        with pytest.raises(QueueClosed, match="the queue is closed"):
            call()
    assert q.get() == 1 and q.try_get() == 2 and q.get_many() == [3]
    for call in (q.get, q.get_nowait, q.try_get, q.get_many, q.try_get_many):
        with pytest.raises(QueueClosed):
            call()


def test_a_block_closes(make: Any) -> None:
    with make(2) as q:
        q.put(1)
    assert q.closed and list(q) == [1]


@pytest.mark.skipif(sys.version_info < (3, 13), reason="queue.ShutDown is Python 3.13's")
def test_closed_is_the_standard_librarys_shut_down(make: Any) -> None:
    q = make(1)
    q.close()
    with pytest.raises(queue.ShutDown):  # type: ignore[attr-defined]
        q.get()


def test_iteration_ends_with_the_closed_queue(make: Any) -> None:
    q = make(4)
    q.put_many("abc")
    q.close()
    assert list(q) == ["a", "b", "c"]
    assert list(q) == []


def test_repr_names_kind_and_filling(make: Any) -> None:
    q = make(4)
    q.put(1)
    assert repr(q) == f"<{make.__name__} 1/4>"
    q.close()
    assert repr(q) == f"<{make.__name__} 1/4 closed>"


@pytest.mark.parametrize("how", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_queue_is_not_copied(make: Any, how: Any) -> None:
    with pytest.raises(TypeError, match="between processes use SharedQueue"):
        how(make(1))


def test_generic_alias(make: Any) -> None:
    assert make[int].__origin__ is make


# ---- ownership ----------------------------------------------------------------------------------


class Thing:
    pass


def test_references_are_neither_lost_nor_gained(make: Any) -> None:
    things = [Thing() for _ in range(10)]
    before = [sys.getrefcount(thing) for thing in things]
    q = make(8)
    for _ in range(3):
        q.try_put_many(things)
        q.try_put(things[0])
        assert sys.getrefcount(things[3]) == before[3] + 1
        found = [q.get(), q.try_get(), q.get_nowait(), *q.get_many(2), *q.try_get_many()]
        assert found == things[:8]
        del found
    assert [sys.getrefcount(thing) for thing in things] == before
    q.put_many(things[:4])
    del q
    assert [sys.getrefcount(thing) for thing in things] == before


def test_what_is_left_in_a_queue_goes_with_it(make: Any) -> None:
    q = make(4)
    q.put(thing := Thing())
    gone = weakref.ref(thing)
    del thing
    assert gone() is not None
    del q
    assert gone() is None


def test_a_cycle_through_a_queue_is_collected(make: Any) -> None:
    holder = Thing()
    holder.queue = make(4)  # type: ignore[attr-defined]
    holder.queue.put_many([0, holder, [holder]])  # type: ignore[attr-defined]
    gone = weakref.ref(holder)
    del holder
    gc.collect()
    assert gone() is None


def test_the_collector_sees_what_is_in_a_queue(make: Any) -> None:
    q = make(4)
    things = [Thing(), Thing()]
    q.put_many(things)
    q.get()
    q.put_many(things)
    assert [each for each in gc.get_referents(q) if isinstance(each, Thing)] == [
        things[1], *things
    ]


def test_a_finaliser_may_use_the_queue_that_drops_it(make: Any) -> None:
    q = make(4)

    class Loud:
        def __del__(self) -> None:
            q.put("dropped")
            q.try_get_many()
            q.put("again")

    q.put(Loud())
    q.get()
    assert q.try_get_many() == ["again"]
    q.put_many([Loud(), Loud()])
    found = q.get_many(1)
    del found
    assert q.try_get_many()[-1] == "again"


def test_a_finaliser_in_the_making_of_a_batch(make: Any) -> None:
    """get_many() makes a list, which may start the collector, whose finalisers may take items."""
    q = make(1024)

    class Thief:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            if not q.closed:
                q.try_get_many(300)

    enabled, threshold = gc.isenabled(), gc.get_threshold()
    gc.set_threshold(1)
    try:
        for _ in range(50):
            q.try_put_many(range(1024 - len(q)))
            Thief()
            found = q.try_get_many()
            assert all(isinstance(each, int) for each in found)
            assert len(found) == len(list(found))
    finally:
        gc.set_threshold(*threshold)
        assert gc.isenabled() == enabled
    q.close()


def test_the_collector_comes_while_a_queue_is_made(make: Any) -> None:
    """The collector sees the object before it is set up."""
    threshold = gc.get_threshold()
    gc.set_threshold(1)
    try:
        queues = [make(4) for _ in range(100)]
    finally:
        gc.set_threshold(*threshold)
    assert all(q.try_put(1) and q.get() == 1 for q in queues)


def test_a_finaliser_of_the_queues_last_moment(make: Any) -> None:
    """Items dropped by the queue's own deallocation cannot reach it, but may do anything else."""
    log = []

    class Loud:
        def __del__(self) -> None:
            log.append(len(gc.get_objects()) > 0)

    q = make(8)
    q.put_many([Loud(), Loud(), Loud()])
    del q
    assert log == [True] * 3


def test_a_million_items_leave_no_memory_behind(make: Any) -> None:
    import tracemalloc

    q = make(256)
    tracemalloc.start()
    try:
        for i in range(2):
            if i == 1:
                before = tracemalloc.get_traced_memory()[0]
            for _ in range(2000):
                q.put_many([object() for _ in range(256)])
                q.get_many()
                q.put(object())
                q.get()
        assert tracemalloc.get_traced_memory()[0] - before < 10_000
    finally:
        tracemalloc.stop()
