"""Twelve tasks add items; a call or two receive them all. See turn_batch.pyx."""

import asyncio

from turn_batch import TurnBatch

import flowcore


async def main() -> None:
    batches: list[list[int]] = []
    batch = TurnBatch(asyncio.get_running_loop(), batches.append)

    async def produce(number: int) -> None:
        batch.add(number)
        await asyncio.sleep(0)
        batch.add(-number)

    async with asyncio.TaskGroup() as group:
        for number in range(12):
            group.create_task(produce(number))
    await asyncio.sleep(0.01)
    print(f"{sum(map(len, batches))} items in {len(batches)} calls")


if __name__ == "__main__":
    flowcore.run(main())
