"""Object queues in one thread, where nothing waits: what a put and a get cost in themselves."""

from collections.abc import Callable
from time import perf_counter
from typing import Any

from kernel import arrivals
from kernel.contest import Contest, Entrant
from kernel.floor import Floor
from kernel.goal import Goal
from kernel.kinds import ASYNCIO, DEQUE, MPMC, QUEUE, SIMPLE, SPSC, Kind

KINDS = [SPSC, MPMC, SIMPLE, QUEUE, DEQUE, ASYNCIO]
GOALS = {SIMPLE.name: Goal("<=", 0.8), QUEUE.name: Goal("<=", 0.05)}
BURST = 1000

# Text, as in timeit: the interpreter adapts code to the types it meets, so each kind of queue needs
# code of its own, with the calls as one writes them.
CODE = """
def in_turn(q, items):
    began = clock()
    for item in items:
        q.{put}(item)
        q.{get}()
    return clock() - began

def in_turn_kept(q, items):
    got = []
    for item in items:
        q.{put}(item)
        got.append(q.{get}())
    return got

def in_bursts(q, bursts):
    took = 0
    got = []
    for items in bursts:
        began = clock()
        for item in items:
            q.{put}(item)
        came = [q.{get}() for item in items]
        took += clock() - began
        got += came
    return took, got
"""


def empty_loop(count: int) -> float:
    began = perf_counter()
    for _ in range(count):
        pass
    return perf_counter() - began


EMPTY = Floor(empty_loop)


def code_of(kind: Kind) -> dict[str, Callable[..., Any]]:
    names: dict[str, Any] = {"clock": perf_counter}
    exec(CODE.format(put=kind.put, get=kind.get), names)
    return names


def in_turn(kind: Kind) -> Callable[[int], float]:
    """Keeping what came would cost half as much again: other items are kept and looked at first."""
    code = code_of(kind)

    def run(count: int) -> float:
        q = kind.make()
        tried = arrivals.numbered(1, BURST)
        arrivals.check(tried, [code["in_turn_kept"](q, tried[0])])
        took = code["in_turn"](q, range(count))
        return max(0.0, took - EMPTY.seconds(count))

    return run


def in_bursts(kind: Kind) -> Callable[[int], float]:
    code = code_of(kind)

    def run(count: int) -> float:
        sent = arrivals.numbered(1, count)
        bursts = [sent[0][at : at + BURST] for at in range(0, count, BURST)]
        took, got = code["in_bursts"](kind.make(), bursts)
        arrivals.check(sent, [got])
        return took

    return run


def contests() -> list[Contest]:
    return [
        Contest(
            "one thread, put and get in turn (less an empty loop)",
            [Entrant(k.name, in_turn(k), GOALS.get(k.name), k.ours) for k in KINDS],
            of=min, by_rate=False,
        ),
        Contest(
            f"one thread, {BURST} put, then {BURST} got",
            [Entrant(k.name, in_bursts(k), None, k.ours, step=BURST, most=500_000) for k in KINDS],
            of=min, by_rate=False,
        ),
    ]
