"""Queues of objects in Cython without the GIL, beside Python threads and coroutines."""

import asyncio
import gc
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from harness.compiled import compiled

from flowcore.kernel import MPMCQueue, SPSCQueue

SOURCE = Path(__file__).with_name("queue_threads.pyx")
EVERYTHING = 1 << 20


class Item:
    def __init__(self, producer: int, number: int) -> None:
        self.who, self.number = producer, number


def items_of(producer: int, count: int) -> list[Item]:
    return [Item(producer, i) for i in range(count)]


@pytest.fixture(scope="module")
def nogil(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return compiled(SOURCE, tmp_path_factory.mktemp(SOURCE.stem))


@pytest.mark.parametrize("kind", [SPSCQueue, MPMCQueue])
@pytest.mark.parametrize("capacity", [2, 256])
def test_one_to_one(nogil: Any, kind: Any, capacity: int) -> None:
    queue, items = kind(capacity), items_of(0, 20_000)
    with ThreadPoolExecutor(2) as threads:
        popped = threads.submit(nogil.pop, queue, EVERYTHING)
        assert threads.submit(nogil.push, queue, items).result(60) == len(items)
        queue.close()
        assert popped.result(60) == items


@pytest.mark.parametrize("python", [False, True], ids=["cython", "with Python threads"])
def test_many_to_many(nogil: Any, python: bool) -> None:
    queue: MPMCQueue[Item] = MPMCQueue(64)
    everything = [items_of(me, 5_000) for me in range(4)]
    with ThreadPoolExecutor(8) as threads:
        takers = [threads.submit(nogil.pop, queue, EVERYTHING) for _ in range(2)]
        takers.append(threads.submit(list, queue) if python else takers[0])
        makers = [threads.submit(nogil.push, queue, items) for items in everything[:3]]
        makers.append(threads.submit(queue.put_many if python else nogil.push,
                                     *(() if python else (queue,)), everything[3]))
        assert [each.result(60) for each in makers] == [5_000] * 4
        queue.close()
        seen = [each.result(60) for each in dict.fromkeys(takers)]
    for found in seen:
        for me in range(4):
            numbers = [item.number for item in found if item.who == me]
            assert numbers == sorted(numbers)
    found = [item for part in seen for item in part]
    sent = [item for items in everything for item in items]
    assert len(found) == len(sent) and {*map(id, found)} == {*map(id, sent)}


@pytest.mark.parametrize("kind", [SPSCQueue, MPMCQueue])
def test_a_thread_without_the_gil_wakes_coroutines(nogil: Any, kind: Any) -> None:
    async def main() -> None:
        up, down, items = kind(4), kind(4), items_of(0, 2_000)
        with ThreadPoolExecutor(2) as threads:
            pushed = threads.submit(nogil.push, up, items)
            popped = threads.submit(nogil.pop, down, EVERYTHING)
            async with asyncio.timeout(60):
                for _ in items:
                    await down.aput(await up.aget())
            down.close()
            assert pushed.result(60) == len(items) and popped.result(60) == items

    asyncio.run(main())


@pytest.mark.parametrize("kind", [SPSCQueue, MPMCQueue])
def test_close_wakes_who_sleeps_without_the_gil(nogil: Any, kind: Any) -> None:
    empty, full = kind(2), kind(2)
    full.put_many([1, 2])
    with ThreadPoolExecutor(2) as threads:
        popped = threads.submit(nogil.pop, empty, EVERYTHING)
        pushed = threads.submit(nogil.push, full, [3])
        with pytest.raises(TimeoutError):
            pushed.result(0.05)
        empty.close()
        full.close()
        assert popped.result(20) == [] and pushed.result(20) == 0


@pytest.mark.parametrize("kind", [SPSCQueue, MPMCQueue])
def test_what_was_in_the_queue_before_it_was_shared(nogil: Any, kind: Any) -> None:
    queue, items = kind(8), items_of(0, 6)
    before = sys.getrefcount(items[0])
    queue.put_many(items[:2])
    queue.get()
    queue.put_many(items[2:])
    assert nogil.pop(queue, 5) == items[1:]
    assert nogil.push(queue, items[:2]) == 2
    assert queue.capacity == 8 and len(queue) == 2
    found = queue.get_many()
    assert found == items[:2]
    del found
    queue.put(items[0])
    # The collector does not look into a shared queue, whose items may be anywhere by then.
    assert not any(isinstance(each, Item) for each in gc.get_referents(queue))
    del queue
    after = sys.getrefcount(items[0])
    assert after == before
