"""What a buffer, a borrowed object and a pass through the byte ring cost, beside what one would use
without them: bytearray, a queue of spares, a bytearray that is cut from the front."""

import queue
import timeit
from collections import deque
from collections.abc import Callable

from flowcore.kernel import BufferPool, ObjectPool, RingBuffer
from kernel.contest import Contest, Entrant
from kernel.floor import Floor
from kernel.goal import Goal

Calls = dict[str, Callable[[], object]]
EMPTY = Floor(timeit.Timer(lambda: None).timeit)


def buffer_calls(nbytes: int) -> Calls:
    pool = BufferPool()
    acquire = pool.acquire

    def in_with() -> None:
        with acquire(nbytes):
            pass

    return {
        "BufferPool acquire, release": lambda: acquire(nbytes).release(),
        "BufferPool acquire, dropped": lambda: acquire(nbytes),
        "BufferPool in a with block": in_with,
        "the same, with a memoryview": lambda: memoryview(acquire(nbytes)),
        "bytearray(n)": lambda: bytearray(nbytes),
        "bytearray, with a memoryview": lambda: memoryview(bytearray(nbytes)),
    }


class Thing:
    """Ten attributes: dear enough to be kept."""

    def __init__(self) -> None:
        (self.a, self.b, self.c, self.d, self.e) = (self.f, self.g, self.h, self.i, self.j) = (
            [], {}, set(), [], {},
        )


def object_calls() -> Calls:
    pool = ObjectPool(Thing)
    spares: queue.SimpleQueue[Thing] = queue.SimpleQueue()
    spares.put(Thing())
    stack = deque([Thing()])
    return {
        "ObjectPool acquire, release": lambda: pool.release(pool.acquire()),
        "Thing()": Thing,
        "SimpleQueue get, put": lambda: spares.put(spares.get()),
        "deque pop, append": lambda: stack.append(stack.pop()),
    }


def ring_calls(nbytes: int) -> Calls:
    """With 64 KiB waiting, a message goes in at one end and one is taken out at the other."""
    message = bytes(nbytes)
    mapped, plain = RingBuffer(1 << 17), RingBuffer(1 << 17, mapped=False)
    for ring in (mapped, plain):
        ring.write(bytes(1 << 16))
    array = bytearray(1 << 16)

    def through(ring: RingBuffer) -> Callable[[], object]:
        def run() -> None:
            ring.write(message)
            ring.read(nbytes)

        return run

    def through_array() -> None:
        array.extend(message)
        bytes(memoryview(array)[:nbytes])
        del array[:nbytes]

    return {
        "RingBuffer write, read": through(mapped),
        "RingBuffer(mapped=False)": through(plain),
        "bytearray extend, slice, del": through_array,
    }


def contest(title: str, calls: Calls, goal: Goal | None = None) -> Contest:
    """The first call is the one that the others are compared with."""
    def entrant(name: str, call: Callable[[], object], ours: bool) -> Entrant:
        timer = timeit.Timer(call)

        def run(count: int) -> float:
            return max(0.0, timer.timeit(count) - EMPTY.seconds(count))

        return Entrant(name, run, goal if ours else None, ours, most=200_000)

    first = next(iter(calls))
    entrants = [entrant(name, call, name == first) for name, call in calls.items()]
    return Contest(f"{title} (less an empty call)", entrants, of=min, by_rate=False)


def contests() -> list[Contest]:
    goal = Goal("<=", 60, "ns")
    return [
        *(contest(f"buffer of {n} B", buffer_calls(n), goal) for n in (256, 4096, 65536, 1 << 20)),
        contest("object", object_calls()),
        *(contest(f"{n} B through a byte ring", ring_calls(n)) for n in (64, 4096)),
    ]
