"""The kernel under pytest-benchmark, with its statistics and its comparisons of runs.

    python -m pytest --benchmark-enable bench/test_kernel_benchmarks.py
    python -m pytest --benchmark-enable bench/test_kernel_benchmarks.py --benchmark-autosave
    python -m pytest --benchmark-enable bench/test_kernel_benchmarks.py --benchmark-compare

Here one is measured after the other. Ratios and goals are those of bench_kernel.py, whose entrants
take turns. Between threads a call moves many items and checks them, so it is dearer than that.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from kernel import coroutines, executor, pools, queues, records, threads
from kernel.contest import Entrant
from kernel.kinds import Kind

ITEMS = 20_480  # of a call between threads, a multiple of every step
ROUNDS = 5


def contests(*sections: Any) -> list[Any]:
    """All entrants, each with its contest's title."""
    return [
        pytest.param(contest.title, each, id=f"{contest.title}: {each.name}")
        for section in sections
        for contest in section.contests()
        for each in contest.entrants
    ]


def calls() -> list[Any]:
    groups: dict[str, dict[str, Callable[[], object]]] = {
        f"buffer of {n} B": pools.buffer_calls(n) for n in (256, 65536)
    }
    groups["object"] = pools.object_calls()
    groups["4096 B through a byte ring"] = pools.ring_calls(4096)
    return [
        pytest.param(group, call, id=f"{group}: {name}")
        for group, named in groups.items()
        for name, call in named.items()
    ]


@pytest.mark.parametrize("kind", queues.KINDS, ids=lambda kind: kind.name)
def test_put_and_get(benchmark: Any, kind: Kind) -> None:
    benchmark.group = "one thread, put and get"
    q = kind.make()
    # Text once more, so that each kind's calls are code of their own.
    names: dict[str, Any] = {"q": q}
    exec(f"def turn():\n    q.{kind.put}(1)\n    return q.{kind.get}()", names)
    assert benchmark(names["turn"]) == 1


@pytest.mark.parametrize(("group", "call"), calls())
def test_pools(benchmark: Any, group: str, call: Callable[[], object]) -> None:
    benchmark.group = group
    benchmark(call)


@pytest.mark.parametrize(("group", "entrant"), contests(threads, coroutines, records))
def test_items_between_threads(benchmark: Any, group: str, entrant: Entrant) -> None:
    benchmark.group = f"{group}, {ITEMS} items"
    took = benchmark.pedantic(entrant.run, (ITEMS,), rounds=ROUNDS, warmup_rounds=1)
    assert took > 0


@pytest.mark.parametrize(("group", "entrant"), contests(executor))
def test_executor(benchmark: Any, group: str, entrant: Entrant) -> None:
    benchmark.group = f"{group}, 2000 calls"
    took = benchmark.pedantic(entrant.run, (2000,), rounds=ROUNDS, warmup_rounds=1)
    assert took > 0
