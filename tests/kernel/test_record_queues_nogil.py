"""Record queues in Cython without the GIL, through their .pxd alone."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness.compiled import compiled

from flowcore.kernel import MPMCRecordQueue, QueueClosed, SPSCRecordQueue

SOURCE = Path(__file__).with_name("record_queue_threads.pyx")


@pytest.fixture(scope="module")
def nogil(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return compiled(SOURCE, tmp_path_factory.mktemp(SOURCE.stem))


@pytest.mark.parametrize("kind", [SPSCRecordQueue, MPMCRecordQueue])
@pytest.mark.parametrize("batch", [1, 7])
def test_one_to_one(nogil: Any, kind: type[Any], batch: int) -> None:
    queue = kind(16, "i8")
    with ThreadPoolExecutor(2) as threads:
        popped = threads.submit(nogil.pop, queue, batch)
        assert threads.submit(nogil.push, queue, 0, 30000, batch).result(30) == 30000
        queue.close()
        assert popped.result(30) == list(range(30000))


def test_many_with_and_without_the_gil(nogil: Any) -> None:
    queue = MPMCRecordQueue(8, "i8")
    each = 5000

    def push_arrays(first: int) -> int:
        return queue.push(np.arange(first, first + each))

    def pop_arrays() -> list[int]:
        return [number for array in queue for number in array.tolist()]

    async def pop_in_loop() -> list[int]:
        return [number async for array in queue for number in array.tolist()]

    with ThreadPoolExecutor(8) as threads:
        takers = [
            threads.submit(nogil.pop, queue, 1),
            threads.submit(nogil.pop, queue, 5),
            threads.submit(pop_arrays),
            threads.submit(lambda: asyncio.run(pop_in_loop())),
        ]
        makers = [threads.submit(nogil.push, queue, i * each, each, 1 + 3 * i) for i in range(3)]
        makers.append(threads.submit(push_arrays, 3 * each))
        assert [maker.result(60) for maker in makers] == [each] * 4
        queue.close()
        parts = [taker.result(60) for taker in takers]
    assert sorted(sum(parts, [])) == list(range(4 * each))
    for part in parts:
        for maker in range(4):
            mine = [number for number in part if number // each == maker]
            assert mine == sorted(mine)


@pytest.mark.parametrize("capacity", [4, 64])
def test_from_ring_to_ring(nogil: Any, capacity: int) -> None:
    source, target = SPSCRecordQueue(capacity, "i8"), SPSCRecordQueue(8, "i8")
    with ThreadPoolExecutor(3) as threads:
        copying = threads.submit(nogil.copy_in_place, source, target, 5)
        popped = threads.submit(nogil.pop, target, 3)
        with source:
            source.push(np.arange(20000))
        assert popped.result(30) == list(range(20000))
        copying.result(30)


def test_several_records_wake_several_threads(nogil: Any) -> None:
    queue = MPMCRecordQueue(8, "i8")
    together = threading.Barrier(3, timeout=10)

    def pop_one() -> int:
        number = int(queue.pop(1)[0])
        together.wait()  # so that none of them takes what is meant for another
        return number

    with ThreadPoolExecutor(3) as threads:
        takers = [threads.submit(pop_one) for _ in range(3)]
        time.sleep(0.05)
        assert nogil.push(queue, 0, 3, 3) == 3
        assert sorted(taker.result(20) for taker in takers) == [0, 1, 2]


def test_several_records_wake_several_coroutines(nogil: Any) -> None:
    async def main() -> list[int]:
        queue = MPMCRecordQueue(8, "i8")
        takers = [asyncio.ensure_future(queue.apop(1)) for _ in range(3)]
        await asyncio.sleep(0)
        assert await asyncio.to_thread(nogil.push, queue, 0, 3, 3) == 3
        arrays = await asyncio.wait_for(asyncio.gather(*takers), 20)
        return sorted(array[0] for array in arrays)

    assert asyncio.run(main()) == [0, 1, 2]


def test_what_waiting_answers(nogil: Any) -> None:
    queue = MPMCRecordQueue(2, "i8")
    assert nogil.waits(queue) == ("timeout", "look")
    assert nogil.push(queue, 1, 2, 1) == 2
    assert nogil.waits(queue) == ("look", "timeout")
    queue.close()
    assert nogil.waits(queue) == ("look", "closed")
    assert nogil.push(queue, 1, 1, 1) == 0
    assert nogil.pop(queue, 2) == [1, 2]
    assert nogil.waits(queue) == ("closed", "closed")
    with pytest.raises(QueueClosed):
        queue.pop()
