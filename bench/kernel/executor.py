"""Handing a call to another thread and waiting for its result."""

from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from time import perf_counter

from flowcore.kernel import WorkStealingPool
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


def handed_over(workers: int) -> WorkStealingPool:
    """A pool in which only its own threads run tasks, as in the standard one."""
    return WorkStealingPool(workers, caller_runs=False)


MAKERS: dict[str, Callable[[int], Executor]] = {
    "WorkStealingPool": WorkStealingPool,
    "WorkStealingPool, caller_runs=False": handed_over,
    "ThreadPoolExecutor": ThreadPoolExecutor,
}


def entrant(name: str, work: Callable[[Executor, int], list[int]], step: int) -> Entrant:
    def run(count: int) -> float:
        with MAKERS[name](WORKERS) as pool:
            work(pool, MANY)  # the workers start with the first tasks
            began = perf_counter()
            got = work(pool, count)
            took = perf_counter() - began
        if got != [2 * i for i in range(count)]:
            raise WrongResult(f"{name}: a result is not that of its call")
        return took

    goal = Goal("<=", 0.125) if name == "ThreadPoolExecutor" else None
    return Entrant(name, run, goal, name == "WorkStealingPool", step, most=200_000)


def contests() -> list[Contest]:
    def contest(title: str, work: Callable[[Executor, int], list[int]], step: int) -> Contest:
        who = [entrant(name, work, step) for name in MAKERS]
        return Contest(f"{WORKERS} workers, {title}", who, {}, by_rate=False)

    return [
        contest("submit and result one by one", one_by_one, 1),
        contest(f"{MANY} submitted, then their results", many, MANY),
    ]
