"""SharedQueue against the queues between processes that Python users have.

    python bench/bench_shared_queue.py [--seconds 0.5] [--runs 3] [--json FILE]

Producers are processes of their own; this process consumes. The clock runs from the signal to start
to the last message. Every message carries its producer and its number, and what arrived is checked
after the clock has stopped. Rates are medians of the runs, and the factors are SharedQueue's rate
by the rival's. The entrants take turns. A queue without batches stands in the batch rows with its
single rate.

"bare memcpy" is the limit that two copies set: one process copies messages into a ring that two
processes share, the other copies them out into one buffer, and there is nothing else, no lock, no
allocation, no object.
"""

import argparse
import ctypes
import itertools
import json
import mmap
import multiprocessing
import os
import statistics
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from support.machine import describe
from support.table import render

from flowcore.kernel import SharedQueue

try:
    import faster_fifo
except ImportError:
    faster_fifo = None

HEAD = struct.Struct("<II")
LANE_BYTES = {16: 1 << 20, 256: 1 << 20, 16384: 1 << 22, 1 << 20: 1 << 23}
BATCH = {16: 256, 256: 256, 16384: 64, 1 << 20: 2}  # a quarter of the memory at most
# Messages that differ. The large ones fit into the cache, as if they had just been made.
CYCLE = {16: 1 << 16, 256: 1 << 16, 16384: 1 << 9, 1 << 20: 8}
BARE_BYTES = 1 << 20  # below, what Python adds to a bare copy counts
LABELS = {16: "16 B", 256: "256 B", 16384: "16 KiB", 1 << 20: "1 MiB"}


@dataclass
class Rival:
    """How a queue is made and used; `batch` is None where there is no such call."""

    name: str
    make: Callable[[int], Any]
    batch: tuple[str, str] | None = None


def make_faster_fifo(size: int) -> Any:
    return faster_fifo.Queue(max_size_bytes=LANE_BYTES[size])


def rivals() -> list[Rival]:
    found = [
        Rival(
            "SharedQueue",
            lambda size: SharedQueue(LANE_BYTES[size], max_producers=4),
            ("put_many", "get_many"),
        ),
        Rival("mp.Queue", lambda size: multiprocessing.Queue()),
        Rival("mp.SimpleQueue", lambda size: multiprocessing.SimpleQueue()),
    ]
    if faster_fifo:
        found.append(Rival("faster-fifo", make_faster_fifo, ("put_many", "get_many")))
    return found


def messages_of(producer: int, size: int) -> list[bytes]:
    filling = bytes(size - HEAD.size)
    return [HEAD.pack(producer, i) + filling for i in range(CYCLE[size])]


def produce(q: Any, put: str | None, producer: int, size: int, count: int, gates: Any) -> None:
    ready, start = gates
    # Making messages is not what is measured.
    items: list[Any] = messages_of(producer, size)
    send = q.put
    if put is not None:
        step = BATCH[size]
        items = [items[i : i + step] for i in range(0, len(items), step)]
        send = getattr(q, put)
        count //= step
    ready.release()
    start.wait()
    for each in itertools.islice(itertools.cycle(items), count):
        send(each)
    if isinstance(q, SharedQueue):
        q.close()  # one that merely ends has died, which the consumer would be told


def consume(q: Any, get: str | None, size: int, total: int) -> tuple[list[bytes], int]:
    """What arrived, as pieces and the distance of the messages in them: whole messages, or only
    their heads. Does little for each, since it is on the clock."""
    got: list[bytes] = []
    step = size if size <= 16 else HEAD.size
    if get is None:
        take = q.get
        if step == size:
            for _ in range(total):
                got.append(take())
        else:
            for _ in range(total):
                got.append(check_size(take(), size)[:step])
        return got, step
    get_many = getattr(q, get)
    count = 0
    while count < total:
        batch = get_many()
        count += len(batch)
        if step == size:
            got.append(b"".join(batch))
        elif size <= 256:
            got.append(heads_of(batch, size).tobytes())
        else:
            got += [check_size(m, size)[:step] for m in batch]
    return got, step


def heads_of(messages: list[bytes], size: int) -> memoryview:
    joined = b"".join(messages)
    assert len(joined) == size * len(messages)
    return memoryview(joined).cast("Q")[:: size // HEAD.size]


def check_size(message: bytes, size: int) -> bytes:
    assert len(message) == size
    return message


def check(pieces: list[bytes], step: int, size: int, producers: int, count: int) -> None:
    """Every message once, and those of a producer in their order."""
    joined = b"".join(pieces)
    assert len(joined) == producers * count * step, f"{len(joined)} bytes"
    at = [0] * producers
    for i in range(0, len(joined), step):
        producer, number = HEAD.unpack_from(joined, i)
        assert number == at[producer] % CYCLE[size], f"{number} after {at[producer]}"
        at[producer] += 1


def rate(rival: Rival, size: int, producers: int, batched: bool, count: int) -> float:
    """Messages in a second, of `count` from each producer."""
    put, get = rival.batch if batched and rival.batch else (None, None)
    q = rival.make(size)
    gates = (multiprocessing.Semaphore(0), multiprocessing.Event())
    children = [
        multiprocessing.Process(target=produce, args=(q, put, i, size, count, gates), daemon=True)
        for i in range(producers)
    ]
    for each in children:
        each.start()
    for _ in children:
        gates[0].acquire()
    began = time.perf_counter()
    gates[1].set()
    got, step = consume(q, get, size, producers * count)
    seconds = time.perf_counter() - began
    for each in children:
        each.join(20)
        assert each.exitcode == 0, f"a producer of {rival.name} ended with {each.exitcode}"
    if hasattr(q, "close"):
        q.close()
    check(got, step, size, producers, count)
    return producers * count / seconds


def enough(rival: Rival, size: int, producers: int, batched: bool, options: Any) -> int:
    """As many messages of a producer as take about the time that was asked for."""
    first = min(20_000, max(100, (256 << 20) // size))
    guess = rate(rival, size, producers, batched, whole_batches(first / producers, size))
    most = (4 << 30) // size if size > 256 else 2_500_000
    return whole_batches(min(guess * options.seconds, most) / producers, size)


def measure(
    entrants: list[Rival], size: int, producers: int, batched: bool, options: Any
) -> tuple[dict[str, float], float | None]:
    """Median rates, and the bare one where it is measured. All take turns in each run, so that what
    else the machine does meets all of them."""
    counts = [enough(each, size, producers, batched, options) for each in entrants]
    runs: dict[str, list[float]] = {each.name: [] for each in entrants}
    bare = []
    for _ in range(options.runs):
        for each, count in zip(entrants, counts, strict=True):
            runs[each.name].append(rate(each, size, producers, batched, count))
        if size >= BARE_BYTES:
            bare.append(bare_rate(size, counts[0]))
    medians = {name: statistics.median(found) for name, found in runs.items()}
    return medians, statistics.median(bare) if bare else None


class BareRing:
    """Shared memory with two counters and room for messages."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.slots = LANE_BYTES[size] // size
        self.memory = mmap.mmap(-1, mmap.PAGESIZE + LANE_BYTES[size])
        self.counters = memoryview(self.memory).cast("Q")
        self.place = ctypes.addressof(ctypes.c_char.from_buffer(self.memory)) + mmap.PAGESIZE

    def copy_in(self, count: int) -> None:
        items = messages_of(0, self.size)
        places = [ctypes.c_char_p(m) for m in items]
        for i in range(count):
            while i - self.counters[8] >= self.slots:
                os.sched_yield()
            at = self.place + i % self.slots * self.size
            ctypes.memmove(at, places[i % len(places)], self.size)
            self.counters[0] = i + 1

    def copy_out(self, numbers: range) -> None:
        buffer = ctypes.create_string_buffer(self.size)
        for i in numbers:
            while self.counters[0] <= i:
                os.sched_yield()
            ctypes.memmove(buffer, self.place + i % self.slots * self.size, self.size)
            self.counters[8] = i + 1


def bare_rate(size: int, count: int) -> float:
    ring = BareRing(size)
    child = multiprocessing.Process(target=ring.copy_in, args=(ring.slots + count,), daemon=True)
    child.start()
    ring.copy_out(range(ring.slots))  # then the child runs, and the memory is there
    began = time.perf_counter()
    ring.copy_out(range(ring.slots, ring.slots + count))
    seconds = time.perf_counter() - began
    child.join()
    return count / seconds


def whole_batches(count: float, size: int) -> int:
    return max(1, round(count / BATCH[size])) * BATCH[size]


def shown(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=0.5, help="of each run, about")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", help="file for the results")
    options = parser.parse_args()
    multiprocessing.set_start_method("fork")
    entrants = rivals()
    print("\n".join(describe(["flowcore", "faster-fifo"])) + "\n")
    rows, results = [], []
    cases = [(size, 1, batched) for batched in (False, True) for size in LANE_BYTES]
    cases += [(16, 3, False), (16, 3, True), (16384, 3, False)]
    single: dict[tuple[int, int], dict[str, float]] = {}
    for size, producers, batched in cases:
        known = single[size, producers] if batched else {}
        unknown = [each for each in entrants if each.batch or not known]
        found, bare = measure(unknown, size, producers, batched, options)
        rates = {each.name: found.get(each.name) or known[each.name] for each in entrants}
        if not batched:
            single[size, producers] = rates
        ours, *others = rates.values()
        label = f"{LABELS[size]} {'batches' if batched else 'singly'}, {producers} producer"
        label += "s" if producers > 1 else ""
        factors = [f"{ours / r:.1f} x" for r in others]
        rows.append([label, *map(shown, [*rates.values(), bare]), *factors])
        results.append({"case": label, **rates, "bare memcpy": bare})
        print(f"  {label}: {', '.join(factors)}", flush=True)
    names = [each.name for each in entrants]
    head = ["messages/s", *names, "bare memcpy", *(f"by {name}" for name in names[1:])]
    print("\n" + render(head, rows))
    if options.json:
        with open(options.json, "w") as f:
            json.dump(results, f, indent=2)


if __name__ == "__main__":
    main()
