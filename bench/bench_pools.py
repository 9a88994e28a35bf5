"""What a buffer, a borrowed object and a pass through the byte ring cost, beside what one would use
without them: bytearray, a queue of spares, a bytearray that is cut from the front.

All rows are measured in turns, round after round, so that a drift of the machine meets them all;
the figure is the least of the rounds. A ratio is to the first row of its group.
"""

import argparse
import queue
import timeit
from collections import deque
from collections.abc import Callable

from support import machine, table

from flowcore.kernel import BufferPool, ObjectPool, RingBuffer

Row = tuple[str, str, Callable[[], object]]


def buffer_rows(nbytes: int) -> list[Row]:
    pool = BufferPool()
    acquire = pool.acquire

    def in_with() -> None:
        with acquire(nbytes):
            pass

    group = f"buffer of {nbytes} B"
    return [
        (group, "bytearray(n)", lambda: bytearray(nbytes)),
        (group, "BufferPool acquire, release", lambda: acquire(nbytes).release()),
        (group, "BufferPool acquire, dropped", lambda: acquire(nbytes)),
        (group, "BufferPool in a with block", in_with),
        (group, "the same, with a memoryview", lambda: memoryview(acquire(nbytes))),
        (group, "bytearray, with a memoryview", lambda: memoryview(bytearray(nbytes))),
    ]


class Thing:
    """Ten attributes: dear enough to be kept."""

    def __init__(self) -> None:
        (self.a, self.b, self.c, self.d, self.e) = (self.f, self.g, self.h, self.i, self.j) = (
            [], {}, set(), [], {},
        )


def object_rows() -> list[Row]:
    pool = ObjectPool(Thing)
    spares: queue.SimpleQueue[Thing] = queue.SimpleQueue()
    spares.put(Thing())
    stack = deque([Thing()])
    return [
        ("object", "Thing()", Thing),
        ("object", "ObjectPool acquire, release", lambda: pool.release(pool.acquire())),
        ("object", "SimpleQueue get, put", lambda: spares.put(spares.get())),
        ("object", "deque pop, append", lambda: stack.append(stack.pop())),
    ]


def ring_rows(nbytes: int) -> list[Row]:
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

    group = f"{nbytes} B through a ring"
    return [
        (group, "bytearray extend, slice, del", through_array),
        (group, "RingBuffer write, read", through(mapped)),
        (group, "RingBuffer(mapped=False)", through(plain)),
    ]


def measure(rows: list[Row], rounds: int, number: int) -> list[float]:
    """The least nanoseconds of a call of each, less those of an empty call."""
    timers = [timeit.Timer(run) for *_, run in rows]
    empty = timeit.Timer(lambda: None)
    best = [float("inf")] * len(rows)
    base = float("inf")
    for _ in range(rounds):
        base = min(base, empty.timeit(number))
        for i, timer in enumerate(timers):
            best[i] = min(best[i], timer.timeit(number))
    return [(each - base) / number * 1e9 for each in best]


def render(rows: list[Row], ns: list[float]) -> str:
    first: dict[str, float] = {}
    cells = []
    for (group, name, _), each in zip(rows, ns, strict=True):
        reference = first.setdefault(group, each)
        cells.append([group, name, f"{each:.0f}", f"{each / reference:.2f}"])
    return table.render(["", "what", "ns", "ratio"], cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--number", type=int, default=20_000, help="calls in a round")
    arguments = parser.parse_args()
    rows = [
        *(row for nbytes in (256, 4096, 65536, 1 << 20) for row in buffer_rows(nbytes)),
        *object_rows(),
        *ring_rows(64),
        *ring_rows(4096),
    ]
    print("\n".join(machine.describe(["flowcore"])))
    print(render(rows, measure(rows, arguments.rounds, arguments.number)))


if __name__ == "__main__":
    main()
