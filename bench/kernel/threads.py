"""Object queues between threads, each with a capacity of 1024 where it has one."""

import threading
from collections.abc import Callable, Iterable
from time import perf_counter
from typing import Any

from kernel import arrivals
from kernel.arrivals import WrongResult
from kernel.contest import Contest, Entrant
from kernel.goal import Goal
from kernel.kinds import ENDLESS, MPMC, QUEUE, SIMPLE, SPSC, SPSC_ENDLESS, Kind

BATCH = 256
PATIENCE_S = 60.0  # no slice lasts as long: an item was lost, or somebody was not woken

ENDLESS_NOTE = (
    "SimpleQueue has no capacity: nobody waits for room, the threads change every 5 ms, and\n"
    "what was not taken piles up. So it is with SPSCQueue if there is room for all."
)

Send = Callable[[Any, list[int]], None]  # puts all of them
Take = Callable[[Any, int], list[int]]  # gets so many


def singly(kind: Kind) -> tuple[Send, Take]:
    def send(q: Any, items: list[int]) -> None:
        put = getattr(q, kind.put)
        for item in items:
            put(item)

    def take(q: Any, count: int) -> list[int]:
        get = getattr(q, kind.get)
        return [get() for _ in range(count)]

    return send, take


def chunks(items: list[int]) -> Iterable[list[int]]:
    return (items[at : at + BATCH] for at in range(0, len(items), BATCH))


def in_batches(q: Any, items: list[int]) -> None:
    put_many = q.put_many
    for chunk in chunks(items):
        put_many(chunk)


def take_batches(q: Any, count: int) -> list[int]:
    get_many = q.get_many
    got: list[int] = []
    while len(got) < count:
        got += get_many(min(BATCH, count - len(got)))
    return got


def in_lists(q: Any, items: list[int]) -> None:
    for chunk in chunks(items):
        q.put(chunk)


def take_lists(q: Any, count: int) -> list[int]:
    got: list[int] = []
    while len(got) < count:
        got += q.get()
    return got


class Crowd:
    """Threads that begin together. What they did is told when all have ended."""

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []
        self.gate = threading.Event()
        self.spans: list[tuple[float, float]] = []
        self.errors: list[BaseException] = []

    def add(self, work: Callable[[], object]) -> None:
        def body() -> None:
            self.gate.wait()
            began = perf_counter()
            try:
                work()
            except BaseException as error:
                self.errors.append(error)
            self.spans.append((began, perf_counter()))

        self.threads.append(threading.Thread(target=body, daemon=True))
        self.threads[-1].start()

    def run(self, patience_s: float) -> float:
        """Seconds from the first's beginning to the last's end."""
        self.gate.set()
        end = perf_counter() + patience_s
        for each in self.threads:
            each.join(max(0.0, end - perf_counter()))
        if self.errors:
            raise self.errors[0]
        if len(self.spans) < len(self.threads):
            raise WrongResult(f"still waiting for items after {patience_s:g} s")
        return max(ended for _, ended in self.spans) - min(began for began, _ in self.spans)


def pass_on(make: Callable[[], Any], how: tuple[Send, Take], producers: int, consumers: int,
            count: int, patience_s: float = PATIENCE_S) -> float:
    """Seconds in which `count` items went through; every consumer takes the same share."""
    send, take = how
    q = make()
    sent = arrivals.numbered(producers, count)
    got: list[list[int]] = [[] for _ in range(consumers)]
    crowd = Crowd()

    def consume(number: int) -> None:
        got[number] = take(q, count // consumers)

    for number in range(consumers):
        crowd.add(lambda number=number: consume(number))
    for items in sent:
        crowd.add(lambda items=items: send(q, items))
    took = crowd.run(patience_s)
    arrivals.check(sent, got)
    return took


def entrant(kind: Kind, how: tuple[Send, Take], producers: int = 1, consumers: int = 1,
            name: str | None = None, goal: Goal | None = None, step: int = 1) -> Entrant:
    def run(count: int) -> float:
        return pass_on(kind.make, how, producers, consumers, count)

    step *= producers * consumers
    return Entrant(name or kind.name, run, goal, kind.ours, step=step, most=ENDLESS)


def contests() -> list[Contest]:
    batches, lists = (in_batches, take_batches), (in_lists, take_lists)
    fast = Goal(">=", 20, "M/s")
    found = [
        Contest("thread to thread, singly",
                [entrant(k, singly(k)) for k in (SPSC, MPMC, SPSC_ENDLESS, SIMPLE, QUEUE)],
                note=ENDLESS_NOTE),
        Contest(f"thread to thread, {BATCH} at once", [
            entrant(SPSC, batches, goal=fast, step=BATCH),
            entrant(MPMC, batches, goal=fast, step=BATCH),
            entrant(SIMPLE, lists, name="queue.SimpleQueue of lists", step=BATCH),
            entrant(QUEUE, lists, name="queue.Queue of lists", step=BATCH),
        ]),
    ]
    for side in (2, 4):
        found.append(Contest(
            f"{side} threads to {side}, singly",
            [entrant(k, singly(k), side, side) for k in (MPMC, SIMPLE, QUEUE)]))
        found.append(Contest(
            f"{side} threads to {side}, {BATCH} at once",
            [entrant(MPMC, batches, side, side, step=BATCH),
             entrant(SIMPLE, lists, side, side, "queue.SimpleQueue of lists", step=BATCH)]))
    return found
