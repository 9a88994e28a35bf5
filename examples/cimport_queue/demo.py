"""Ticks from thread to thread, and objects from C to a coroutine. See tick_feed.pyx."""

import asyncio
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import tick_feed

from flowcore.kernel import SPSCQueue, SPSCRecordQueue


def rate(produce: Callable[[SPSCRecordQueue, int], None], count: int) -> None:
    queue = SPSCRecordQueue(4096, tick_feed.TICK)
    with ThreadPoolExecutor(2) as threads:
        start = time.perf_counter()
        producer = threads.submit(produce, queue, count)
        received, total = threads.submit(tick_feed.consume, queue).result()
        seconds = time.perf_counter() - start
        producer.result()
    print(f"{produce.__name__}: {received} ticks, sum {total:.1f}, {received / seconds:.3g}/s")


async def objects(count: int) -> None:
    queue = SPSCQueue[str](64)
    produced = asyncio.to_thread(tick_feed.put_repeatedly, queue, "tick", count)
    task = asyncio.create_task(produced)
    received = [item async for item in queue]
    await task
    print(f"put_repeatedly: {received.count('tick')} objects")


if __name__ == "__main__":
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000
    rate(tick_feed.produce, number)
    rate(tick_feed.produce_in_place, number)
    asyncio.run(objects(number // 100))
