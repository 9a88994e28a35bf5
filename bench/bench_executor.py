"""WorkStealingPool against ThreadPoolExecutor with as many workers: what a task costs.

    python bench/bench_executor.py [--workers 1,2,4] [--runs 15] [--tasks 1000] [--json FILE]

Each pattern runs on both pools in turns, round after round, so that a drift of the machine meets
both; a figure is the median of the rounds, per task, the least in brackets. Every result is checked
after the clock has stopped. `by` is how many times the standard pool's time is the flowcore one's.

    A  submit N tasks, then collect their results
    B  submit one, wait for its result, N times
    C  one at a time from an event loop: `await loop.run_in_executor(...)`, `await pool.run(...)`
    C' all at once from an event loop, gathered
    D  a task that splits into N more and collects them (submit there, schedule_local here)
    B' as B, with the submitter on one processor and the worker on another. The kernel may keep both
       threads on one, above all under load, and then each waits for the other to sleep.
"""

import argparse
import asyncio
import json
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from support.machine import describe
from support.table import render

from flowcore.kernel import WorkStealingPool

Pattern = Callable[[Any, int], float]


def echo(i: int) -> int:
    return i


def timed(collect: Callable[[], list[int]], n: int) -> float:
    """Seconds that `collect` takes; it must give 0 to n - 1."""
    start = time.perf_counter()
    results = collect()
    seconds = time.perf_counter() - start
    assert results == list(range(n)), "wrong results"
    return seconds


def many(pool: Any, n: int) -> float:
    def run() -> list[int]:
        futures = [pool.submit(echo, i) for i in range(n)]
        return [future.result() for future in futures]

    return timed(run, n)


def single(pool: Any, n: int) -> float:
    return timed(lambda: [pool.submit(echo, i).result() for i in range(n)], n)


async def timed_async(pool: Any, n: int, gathered: bool) -> float:
    loop = asyncio.get_running_loop()
    ours = isinstance(pool, WorkStealingPool)
    start = time.perf_counter()
    if gathered:
        calls = [pool.run(echo, i) if ours else loop.run_in_executor(pool, echo, i)
                 for i in range(n)]
        results = list(await asyncio.gather(*calls))
    elif ours:
        results = [await pool.run(echo, i) for i in range(n)]
    else:
        results = [await loop.run_in_executor(pool, echo, i) for i in range(n)]
    seconds = time.perf_counter() - start
    assert results == list(range(n)), "wrong results"
    return seconds


def awaited(pool: Any, n: int) -> float:
    return asyncio.run(timed_async(pool, n, gathered=False))


def gathered(pool: Any, n: int) -> float:
    return asyncio.run(timed_async(pool, n, gathered=True))


def nested(pool: Any, n: int) -> float:
    """The parts are collected outside, or one worker of the standard pool would wait for itself."""
    spawn = getattr(pool, "schedule_local", pool.submit)

    def parent() -> list[Any]:
        return [spawn(echo, i) for i in range(n)]

    return timed(lambda: [part.result() for part in pool.submit(parent).result()], n)


PATTERNS: dict[str, Pattern] = {
    "A submit N, collect": many,
    "B submit, wait": single,
    "C await one": awaited,
    "C' await gathered": gathered,
    "D nested": nested,
}


APART = "B' submit, wait, apart"


def pin_away(cpus: list[int]) -> None:
    """A worker's initializer: on any processor but the first."""
    os.sched_setaffinity(0, cpus[1:])


def measure(
    pattern: Pattern, workers: int, runs: int, n: int, cpus: list[int]
) -> tuple[list[float], list[float]]:
    """Seconds of each round: of the standard pool, and of flowcore's. With `cpus` this thread is
    kept on the first of them, and the workers on the others."""
    seconds: tuple[list[float], list[float]] = ([], [])
    pinned = {"initializer": pin_away, "initargs": (cpus,)} if cpus else {}
    with (
        ThreadPoolExecutor(workers, **pinned) as standard,
        WorkStealingPool(workers, **pinned) as ours,
    ):
        if cpus:
            os.sched_setaffinity(0, cpus[:1])
        for i in range(runs + 2):
            for pool, into in zip((standard, ours), seconds, strict=True):
                took = pattern(pool, n)
                if i >= 2:  # the threads have started
                    into.append(took)
    if cpus:
        os.sched_setaffinity(0, cpus)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", default="1,2,4")
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--json", help="file for the results")
    options = parser.parse_args()
    print("\n".join(describe(["flowcore"])) + "\n")
    rows, results = [], []
    cases = [
        (name, pattern, int(workers), [])
        for workers in options.workers.split(",")
        for name, pattern in PATTERNS.items()
    ]
    cpus = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(cpus) > 1:
        cases.append((APART, single, 1, cpus))
    for name, pattern, workers, apart in cases:
        standard, ours = measure(pattern, workers, options.runs, options.tasks, apart)
        micros = [[s / options.tasks * 1e6 for s in each] for each in (standard, ours)]
        medians = [statistics.median(each) for each in micros]
        cells = [f"{m:.2f} ({min(each):.2f})"
                 for m, each in zip(medians, micros, strict=True)]
        rows.append([name, str(workers), *cells, f"{medians[0] / medians[1]:.1f} x"])
        results.append({"pattern": name, "workers": workers, "standard_us": medians[0],
                        "flowcore_us": medians[1]})
    head = ["us per task", "workers", "ThreadPoolExecutor", "WorkStealingPool", "by"]
    print(render(head, rows))
    if options.json:
        with open(options.json, "w") as f:
            json.dump(results, f, indent=2)


if __name__ == "__main__":
    main()
