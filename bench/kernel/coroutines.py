"""Queues that a coroutine waits at, on asyncio's own event loop and on flowcore's.

A rival is compared on the same loop. All hold 1024 items, but for asyncio.Queue where a thread puts
into it: there nothing can make the thread wait.
"""

import asyncio
import importlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from flowcore.kernel import SPSCQueue
from flowcore.loop import new_event_loop
from kernel import arrivals
from kernel.arrivals import WrongResult
from kernel.contest import Contest, Entrant
from kernel.goal import Goal
from kernel.kinds import CAPACITY
from kernel.threads import BATCH, PATIENCE_S, Crowd

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "flowcore": new_event_loop,
}
FIVE_TIMES = Goal(">=", 5)


@dataclass
class Ends:
    """A queue's four ends, as an entrant has them."""

    put: Callable[[int], object]
    get: Callable[[], int]
    aput: Callable[[int], Awaitable[object]]
    aget: Callable[[], Awaitable[int]]
    queue: Any
    close: Callable[[], Awaitable[object]] | None = None


def ours() -> Ends:
    q: SPSCQueue[int] = SPSCQueue(CAPACITY)
    return Ends(q.put, q.get, q.aput, q.aget, q)


def plain(capacity: int = 0) -> Ends:
    """asyncio.Queue, reached from a thread as its documentation has it."""
    q: asyncio.Queue[int] = asyncio.Queue(capacity)
    loop = asyncio.get_running_loop()
    return Ends(
        lambda item: loop.call_soon_threadsafe(q.put_nowait, item),
        lambda: asyncio.run_coroutine_threadsafe(q.get(), loop).result(),
        q.put, q.get, q,
    )


def two_sided(module: Any) -> Callable[[], Ends]:
    """janus and culsans are used alike."""

    def make() -> Ends:
        q = module.Queue(CAPACITY)
        a, s = q.async_q, q.sync_q
        return Ends(s.put, s.get, a.put, a.get, q, q.aclose)

    return make


# ---- the ways of a coroutine -------------------------------------------------------------------


async def take(ends: Ends, count: int) -> list[int]:
    aget = ends.aget
    return [await aget() for _ in range(count)]


async def take_by_for(ends: Ends, count: int) -> list[int]:
    return [item async for item in ends.queue]


async def take_batches(ends: Ends, count: int) -> list[int]:
    aget_many = ends.queue.aget_many
    got: list[int] = []
    while len(got) < count:
        got += await aget_many(BATCH)
    return got


async def send(ends: Ends, items: list[int]) -> None:
    aput = ends.aput
    for item in items:
        await aput(item)


Take = Callable[[Ends, int], Awaitable[list[int]]]


async def timed(work: Awaitable[Any], spans: list[tuple[float, float]]) -> Any:
    began = perf_counter()
    done = await work
    spans.append((began, perf_counter()))
    return done


# ---- the three directions ----------------------------------------------------------------------


async def from_thread(ends: Ends, taking: Take, items: list[int]) -> tuple[float, list[int]]:
    crowd = Crowd()

    def feed() -> None:
        put = ends.put
        for item in items:
            put(item)
        if taking is take_by_for:
            ends.queue.close()

    crowd.add(feed)
    crowd.gate.set()
    got = await timed(taking(ends, len(items)), crowd.spans)
    return await ended(crowd), got


async def to_thread(ends: Ends, taking: Take, items: list[int]) -> tuple[float, list[int]]:
    crowd = Crowd()
    got: list[int] = []

    def collect() -> None:
        get = ends.get
        got.extend([get() for _ in items])

    crowd.add(collect)
    crowd.gate.set()
    await timed(send(ends, items), crowd.spans)
    return await ended(crowd), got


async def ended(crowd: Crowd) -> float:
    """The loop must turn until the threads have ended: a rival's may need it to."""
    while any(each.is_alive() for each in crowd.threads):
        await asyncio.sleep(0.001)
    crowd.threads.clear()
    return crowd.run(0)


async def between(ends: Ends, taking: Take, items: list[int]) -> tuple[float, list[int]]:
    async def feed() -> None:
        await send(ends, items)
        if taking is take_by_for:
            ends.queue.close()

    began = perf_counter()
    got, _ = await asyncio.gather(taking(ends, len(items)), feed())
    return perf_counter() - began, got


Direction = Callable[[Ends, Take, list[int]], Awaitable[tuple[float, list[int]]]]


def pass_on(loop: str, make: Callable[[], Ends], direction: Direction, taking: Take, count: int,
            patience_s: float = PATIENCE_S) -> float:
    sent = arrivals.numbered(1, count)

    async def go() -> tuple[float, list[int]]:
        ends = make()
        try:
            async with asyncio.timeout(patience_s):
                return await direction(ends, taking, sent[0])
        except TimeoutError:
            raise WrongResult(f"still waiting for items after {patience_s:g} s") from None
        finally:
            if ends.close:
                await ends.close()

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        took, got = runner.run(go())
    arrivals.check(sent, [got])
    return took


# ---- who takes part ----------------------------------------------------------------------------


def entrants(loop: str, direction: Direction, absent: dict[str, str]) -> list[Entrant]:
    def entrant(name: str, make: Callable[[], Ends], taking: Take = take,
                goal: Goal | None = None, ours: bool = False) -> Entrant:
        def run(count: int) -> float:
            return pass_on(loop, make, direction, taking, count)

        return Entrant(name, run, goal, ours, most=300_000)

    found = [entrant("SPSCQueue", ours, ours=True)]
    if direction is not to_thread:
        found += [
            entrant("SPSCQueue, async for", ours, take_by_for),
            entrant(f"SPSCQueue, aget_many({BATCH})", ours, take_batches),
        ]
    for name in ("janus", "culsans"):
        try:
            module = importlib.import_module(name)
        except ImportError as error:
            absent[name] = str(error)
        else:
            found.append(entrant(name, two_sided(module), goal=FIVE_TIMES))
    bounded = CAPACITY if direction is between else 0
    found.append(entrant("asyncio.Queue", lambda: plain(bounded)))
    return found


def contests() -> list[Contest]:
    found = []
    titles = {"thread to coroutine": from_thread, "coroutine to thread": to_thread,
              "coroutine to coroutine": between}
    for title, direction in titles.items():
        for loop in LOOPS:
            absent: dict[str, str] = {}
            who = entrants(loop, direction, absent)
            found.append(Contest(f"{title}, {loop} loop", who, absent))
    return found
