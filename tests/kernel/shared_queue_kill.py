"""Kills producers and consumers of a SharedQueue at random moments under load, and holds what
arrived against what was sent.

    python tests/kernel/shared_queue_kill.py --rounds 1000

In each round several processes send and receive; some are killed with SIGKILL, and others take
their place. Every message carries its producer, its number and a checksum. A producer writes down,
outside the queue, what put() has accepted; a consumer writes down what it got. Then:

- no message is torn, and none arrives twice;
- the messages of a producer arrive in order at each consumer;
- every message that put() has accepted arrives. A consumer that is killed may take with it what it
  had taken but not written down yet: one batch at most for each such death, else none;
- everybody who was not killed ends, within WAIT_S.

Exits with 0 if that holds, with 1 and the reason if not. ``--fault`` breaks it on purpose.
"""

import argparse
import contextlib
import os
import random
import signal
import struct
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

from flowcore.errors import ConnectionClosed
from flowcore.kernel import PeerDied, SharedQueue

MESSAGES = 2500  # of each producer
BATCH = 20
WAIT_S = 30
FILLING = random.Random(7).randbytes(6000)
HEAD = struct.Struct("<III")  # producer, number, checksum of the rest
ENTRY = struct.Struct("<II")  # producer, number


def message(producer: int, number: int) -> bytes:
    size = (number * 7919 + producer * 31) % 900
    if number % 97 == 0:
        size += 3000
    body = FILLING[number % 1000 :][:size]
    return HEAD.pack(producer, number, zlib.crc32(body, producer * 65536 + number)) + body


def entry_of(data: bytes) -> bytes:
    """What a consumer writes down; exits if the message is not what was sent."""
    producer, number, checksum = HEAD.unpack_from(data)
    if checksum != zlib.crc32(data[HEAD.size :], producer * 65536 + number):
        fail(f"torn: number {number} of producer {producer}")
    if len(data) != len(message(producer, number)):
        fail(f"cut: number {number} of producer {producer}")
    return ENTRY.pack(producer, number)


def fail(why: str) -> None:
    print(f"FAILED: {why}", file=sys.stderr, flush=True)
    os._exit(1)


def produce(q: SharedQueue, name: int, log: int, seed: int) -> None:
    rng = random.Random(seed)
    number = 0
    while number < MESSAGES:
        todo = [message(name, n) for n in range(number, min(number + BATCH, MESSAGES))]
        try:
            if rng.random() < 0.5:
                number += q.put_many(todo)
            else:
                for each in todo:
                    q.put(each)
                    number += 1
        except PeerDied:
            # A new consumer comes. How much of a batch was sent is in the queue alone, so batches
            # are not sent twice: this producer is done.
            return
        os.pwrite(log, ENTRY.pack(name, number), 0)
    q.close()


def consume(q: SharedQueue, log: int, seed: int, fault: str | None) -> None:
    rng = random.Random(seed)
    while True:
        try:
            got = q.get_many(BATCH) if rng.random() < 0.5 else [q.get()]
        except PeerDied:
            continue
        except ConnectionClosed:
            return
        if fault == "tear":
            got[0] = got[0][:12] + b"\0" + got[0][13:] + b"\0"
        entries = [entry_of(each) for each in got]
        if fault == "lose":
            entries.pop()
        elif fault == "repeat":
            entries.append(entries[0])
        fault = None
        os.write(log, b"".join(entries))


class Round:
    """One queue, its processes and their logs."""

    def __init__(self, rng: random.Random, directory: Path, fault: str | None) -> None:
        self.rng = rng
        self.directory = directory
        self.fault = fault
        self.q = SharedQueue(rng.choice([4096, 16384, 65536]), max_producers=16)
        self.producers: dict[int, int] = {}  # pid: name
        self.consumers: set[int] = set()
        self.names = 0
        self.dead_producers: set[int] = set()
        self.dead_consumers = 0

    def start(self, kind: str, run: Callable[[int, int], None]) -> int:
        seed = self.rng.getrandbits(32)
        pid = os.fork()
        if pid:
            return pid
        status = 1
        with contextlib.suppress(KeyboardInterrupt):
            try:
                path = self.directory / f"{kind}-{os.getpid()}"
                run(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), seed)
                status = 0
            except BaseException:
                import traceback

                traceback.print_exc()
        os._exit(status)

    def start_producer(self) -> None:
        name, self.names = self.names, self.names + 1
        pid = self.start("producer", lambda log, seed: produce(self.q, name, log, seed))
        self.producers[pid] = name

    def start_consumer(self) -> None:
        fault = self.fault
        pid = self.start("consumer", lambda log, seed: consume(self.q, log, seed, fault))
        self.consumers.add(pid)

    def kill_one(self) -> None:
        victim = self.rng.choice([*self.producers, *self.consumers])
        os.kill(victim, signal.SIGKILL)
        _, status = os.waitpid(victim, 0)
        name = self.producers.pop(victim, None)
        self.consumers.discard(victim)
        was_killed = os.WIFSIGNALED(status)  # else it had ended before
        assert was_killed or status == 0, f"process {victim} ended with {status}"
        if name is None:
            self.dead_consumers += was_killed
            self.start_consumer()
            return
        if was_killed:
            self.dead_producers.add(name)
        if self.rng.random() < 0.5:
            self.start_producer()

    def wait_for(self, pids: list[int]) -> None:
        end = time.monotonic() + WAIT_S
        for pid in pids:
            while (done := os.waitpid(pid, os.WNOHANG))[0] == 0:
                assert time.monotonic() < end, f"process {pid} hangs; {self.q.stats()}"
                time.sleep(0.0005)
            self.producers.pop(pid, None)
            self.consumers.discard(pid)
            assert done[1] == 0, f"process {pid} ended with {done[1]}"

    def run(self) -> None:
        for _ in range(self.rng.randint(1, 2)):
            self.start_consumer()
        for _ in range(self.rng.randint(1, 3)):
            self.start_producer()
        for _ in range(0 if self.fault else self.rng.randint(1, 4)):
            time.sleep(self.rng.uniform(0, 0.02))
            if self.producers or self.consumers:
                self.kill_one()
        self.wait_for(list(self.producers))
        self.q.shutdown()
        self.wait_for(list(self.consumers))
        self.check()

    def check(self) -> None:
        accepted = {}
        for path in self.directory.glob("producer-*"):
            if entry := path.read_bytes():
                name, number = ENTRY.unpack(entry)
                accepted[name] = number
        seen: dict[int, set[int]] = {}
        for path in self.directory.glob("consumer-*"):
            self.read_log(path.read_bytes(), seen)
        assert self.q.empty(), "the consumers left messages behind"
        lost = 0
        for name in range(self.names):
            got = seen.get(name, set())
            top = max(accepted.get(name, 0), max(got, default=-1) + 1)
            lost += top - len(got)
        assert lost <= BATCH * self.dead_consumers, (
            f"{lost} messages lost, with {self.dead_consumers} consumers killed"
        )

    def read_log(self, log: bytes, seen: dict[int, set[int]]) -> None:
        last: dict[int, int] = {}
        whole = len(log) - len(log) % ENTRY.size
        for name, number in ENTRY.iter_unpack(log[:whole]):
            numbers = seen.setdefault(name, set())
            assert number not in numbers, f"number {number} of producer {name} came twice"
            assert number > last.get(name, -1), f"number {number} of producer {name} came late"
            numbers.add(number)
            last[name] = number

    def end(self) -> None:
        for pid in [*self.producers, *self.consumers]:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        self.q.close()


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--fault", choices=["lose", "repeat", "tear"], default=None)
    options = parser.parse_args()
    seed = random.SystemRandom().getrandbits(32) if options.seed is None else options.seed
    rng = random.Random(seed)
    print(f"seed {seed}", flush=True)
    killed = [0, 0]
    files = open_files()
    for number in range(1, options.rounds + 1):
        with tempfile.TemporaryDirectory() as directory:
            each = Round(rng, Path(directory), options.fault)
            try:
                each.run()
            except AssertionError as error:
                print(f"FAILED in round {number}: {error}", file=sys.stderr)
                return 1
            finally:
                each.end()
        killed[0] += len(each.dead_producers)
        killed[1] += each.dead_consumers
        if number % 100 == 0:
            print(f"{number} rounds so far", flush=True)
    if open_files() != files:
        print("FAILED: descriptors leaked", file=sys.stderr)
        return 1
    print(f"{options.rounds} rounds, {killed[0]} producers and {killed[1]} consumers killed: ok")
    return 0


if __name__ == "__main__":
    sys.exit(main())
