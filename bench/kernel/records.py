"""Records of a fixed size between two threads: arrays copied through a ring, or handed over."""

import queue
from collections.abc import Callable
from typing import Any

import numpy

from flowcore.kernel import SPSCRecordQueue
from kernel.arrivals import WrongResult
from kernel.contest import Contest, Entrant
from kernel.threads import PATIENCE_S, Crowd

BATCH = 256
CAPACITY = 1 << 14  # records; the rivals hold as many arrays as make that

Send = Callable[[Any, Any], object]
Take = Callable[[Any, Any], int]  # fills an array from its beginning; how many records


def push(q: Any, records: Any) -> None:
    q.push(records)


def put_copy(q: Any, records: Any) -> None:
    """The sender fills its array anew, so what is on its way must be a copy."""
    q.put(records.copy())


def pop_into(q: Any, room: Any) -> int:
    return q.pop_into(room)


def get_copy(q: Any, room: Any) -> int:
    room[:] = q.get()
    return BATCH


def pass_on(make: Callable[[], Any], send: Send, take: Take, count: int,
            patience_s: float = PATIENCE_S) -> float:
    q = make()
    sent = numpy.arange(count, dtype=numpy.float64)
    got = numpy.full(count, -1.0)
    crowd = Crowd()

    def feed() -> None:
        for at in range(0, count, BATCH):
            send(q, sent[at : at + BATCH])

    def collect() -> None:
        at = 0
        while at < count:
            at += take(q, got[at : at + BATCH])

    crowd.add(collect)
    crowd.add(feed)
    took = crowd.run(patience_s)
    if not numpy.array_equal(sent, got):
        raise WrongResult(f"{int((sent != got).sum())} of {count} records differ")
    return took


def contests() -> list[Contest]:
    def entrant(name: str, make: Callable[[], Any], send: Send, take: Take,
                ours: bool = False) -> Entrant:
        return Entrant(name, lambda count: pass_on(make, send, take, count), ours=ours,
                       step=BATCH, first=256 * BATCH)

    def ring() -> SPSCRecordQueue:
        return SPSCRecordQueue(CAPACITY, numpy.float64)

    found = [
        entrant("SPSCRecordQueue", ring, push, pop_into, True),
        entrant("queue.SimpleQueue of arrays", queue.SimpleQueue, put_copy, get_copy),
        entrant("queue.Queue of arrays", lambda: queue.Queue(CAPACITY // BATCH), put_copy,
                get_copy),
    ]
    return [Contest(f"float64 records between two threads, {BATCH} at once", found, {})]
