"""SharedQueue against the queues between processes that Python users have.

    python bench/bench_shared_queue.py [--seconds 0.5] [--runs 3] [--json FILE]

Producers are processes of their own; this process consumes. The clock runs from the signal to start
to the last message. Every message carries its producer and its number, and what arrived is checked
after the clock has stopped. Rates are medians of the runs, and the factors are SharedQueue's rate
by the rival's. A queue without batches stands in the batch rows with its single rate.
"""

import argparse
import itertools
import json
import multiprocessing
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
CYCLE = {16: 1 << 16, 256: 1 << 16, 16384: 1 << 11, 1 << 20: 64}  # messages that differ
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


def consume(q: Any, get: str | None, size: int, total: int) -> list[bytes]:
    keep = size if size <= 16 else HEAD.size
    got: list[bytes] = []
    if get is None:
        take = q.get
        if keep == size:
            for _ in range(total):
                got.append(take())
        else:
            for _ in range(total):
                got.append(check_size(take(), size)[:keep])
        return got
    get_many = getattr(q, get)
    while len(got) < total:
        got += [check_size(m, size)[:keep] for m in get_many()] if keep < size else get_many()
    return got


def check_size(message: bytes, size: int) -> bytes:
    assert len(message) == size
    return message


def check(got: list[bytes], size: int, producers: int, count: int) -> None:
    """Every message once, and those of a producer in their order."""
    assert len(got) == producers * count, f"{len(got)} messages"
    at = [0] * producers
    for each in got:
        producer, number = HEAD.unpack_from(each)
        assert number == at[producer] % CYCLE[size], f"{number} after {at[producer]}"
        assert size > 16 or len(each) == size
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
    got = consume(q, get, size, producers * count)
    seconds = time.perf_counter() - began
    for each in children:
        each.join(20)
        assert each.exitcode == 0, f"a producer of {rival.name} ended with {each.exitcode}"
    if hasattr(q, "close"):
        q.close()
    check(got, size, producers, count)
    return producers * count / seconds


def measure(rival: Rival, size: int, producers: int, batched: bool, options: Any) -> float:
    """The median rate, with as many messages as take about the time that was asked for."""
    first = min(20_000, max(100, (256 << 20) // size))
    guess = rate(rival, size, producers, batched, whole_batches(first / producers, size))
    most = (4 << 30) // size if size > 256 else 2_500_000
    count = whole_batches(min(guess * options.seconds, most) / producers, size)
    return statistics.median(
        rate(rival, size, producers, batched, count) for _ in range(options.runs)
    )


def whole_batches(count: float, size: int) -> int:
    return max(1, round(count / BATCH[size])) * BATCH[size]


def shown(value: float) -> str:
    return f"{value:,.0f}"


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
    single: dict[tuple[str, int, int], float] = {}
    for size, producers, batched in cases:
        rates = []
        for each in entrants:
            key = (each.name, size, producers)
            if batched and not each.batch and key in single:
                rates.append(single[key])
                continue
            rates.append(measure(each, size, producers, batched, options))
            if not batched:
                single[key] = rates[-1]
        label = f"{LABELS[size]} {'batches' if batched else 'singly'}, {producers} producer"
        label += "s" if producers > 1 else ""
        factors = [f"{rates[0] / r:.1f} x" for r in rates[1:]]
        rows.append([label, *map(shown, rates), *factors])
        results.append(dict(zip([e.name for e in entrants], rates, strict=True)) | {"case": label})
        print(f"  {label}: {', '.join(factors)}", flush=True)
    names = [each.name for each in entrants]
    head = ["messages/s", *names, *(f"by {name}" for name in names[1:])]
    print("\n" + render(head, rows))
    if options.json:
        with open(options.json, "w") as f:
            json.dump(results, f, indent=2)


if __name__ == "__main__":
    main()
