"""Handing a call to another thread and waiting for its result."""

from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from time import perf_counter
from typing import Any

import flowcore.kernel
from kernel.arrivals import WrongResult
from kernel.contest import Contest, Entrant
from kernel.goal import Goal

WORKERS = 2
MANY = 1000


def twice(number: int) -> int:
    return 2 * number


def one_by_one(pool: Executor, count: int) -> list[int]:
    submit = pool.submit
    return [submit(twice, i).result() for i in range(count)]


def many(pool: Executor, count: int) -> list[int]:
    submit = pool.submit
    got: list[int] = []
    for first in range(0, count, MANY):
        futures = [submit(twice, i) for i in range(first, first + MANY)]
        got += [each.result() for each in futures]
    return got


def entrant(make: Callable[[int], Any], work: Callable[[Executor, int], list[int]],
            goal: Goal | None, step: int) -> Entrant:
    def run(count: int) -> float:
        with make(WORKERS) as pool:
            work(pool, MANY)  # the workers start with the first tasks
            began = perf_counter()
            got = work(pool, count)
            took = perf_counter() - began
        if got != [2 * i for i in range(count)]:
            raise WrongResult(f"{make.__name__}: a result is not that of its call")
        return took

    is_ours = make is not ThreadPoolExecutor
    return Entrant(make.__name__, run, None if is_ours else goal, is_ours, step, most=200_000)


def contests() -> list[Contest]:
    makers: list[Callable[[int], Any]] = [ThreadPoolExecutor]
    absent = {}
    if pool := getattr(flowcore.kernel, "WorkStealingPool", None):
        makers.insert(0, pool)
    else:
        absent["WorkStealingPool"] = "which this flowcore does not have"

    def contest(title: str, work: Callable[[Executor, int], list[int]], goal: Goal | None,
                step: int) -> Contest:
        who = [entrant(make, work, goal, step) for make in makers]
        return Contest(f"{WORKERS} workers, {title}", who, absent, by_rate=False)

    return [
        contest("submit and result one by one", one_by_one, Goal("<=", 0.125), 1),
        contest(f"{MANY} submitted, then their results", many, None, MANY),
    ]
