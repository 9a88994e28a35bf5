"""The table of what passes: python -m conformance.report [--write FILE]

Runs CPython's tests of asyncio on each loop, class by class. With --write the page goes to a file,
without it to standard output. Run it from the directory tests/.
"""

import argparse
import importlib
import platform
import re
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from conformance.exceptions import INTERNAL, SKIPPED, reason
from conformance.pool import Pool

LOOPS = {
    "flowcore": "flowcore:EventLoop",
    "uvloop": "uvloop:Loop",
    "asyncio": "asyncio:SelectorEventLoop",
}
REASON_LENGTH = 120


@dataclass
class Column:
    """What became of the tests on one loop."""

    loop: str
    groups: dict[str, Counter[str]] = field(default_factory=dict)
    internal: Counter[str] = field(default_factory=Counter)
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        version = getattr(importlib.import_module(self.loop), "__version__", "")
        return f"{self.loop} {version}".strip()

    @property
    def total(self) -> Counter[str]:
        return sum(self.groups.values(), Counter())


def measure(loop: str) -> Column | None:
    """Runs everything on a loop; None if the loop or the tests are not installed."""
    pool = Pool(LOOPS[loop])
    column = Column(loop)
    try:
        if pool.missing is not None:
            print(f"left out {loop}: {pool.missing}", file=sys.stderr)
            return None
        pending = [(test, pool.submit(number)) for number, test in enumerate(pool.tests)]
        for test, future in pending:
            verdict = future.result()
            outcome = verdict["outcome"]
            if reason(INTERNAL, test["name"]):
                column.internal[outcome] += 1
                continue
            column.groups.setdefault(f"{test['module']}.{test['group']}", Counter())[outcome] += 1
            if outcome == "failed":
                column.failures.setdefault(test["name"], last_line(verdict["reason"]))
    finally:
        pool.close()
    return column


def last_line(text: str) -> str:
    """Of a traceback, without what differs from run to run."""
    line = text.strip().splitlines()[-1].replace("|", "/")
    return re.sub(r"0x[0-9a-f]+", "0x..", line)[:REASON_LENGTH]


def cell(counts: Counter[str]) -> str:
    return f"{counts['passed']} / {counts['failed']} / {counts['skipped']}"


def table(columns: list[Column]) -> list[str]:
    lines = ["| class | " + " | ".join(c.title for c in columns) + " |"]
    lines.append("|---|" + "---:|" * len(columns))
    for group in sorted(columns[0].groups):
        cells = " | ".join(cell(c.groups.get(group, Counter())) for c in columns)
        lines.append(f"| {group} | {cells} |")
    lines.append("| **all** | " + " | ".join(f"**{cell(c.total)}**" for c in columns) + " |")
    return lines


def rows(first: str, second: str, cells: dict[str, str]) -> str:
    lines = [f"| {first} | {second} |", "|---|---|"]
    return "\n".join(lines + [f"| `{name}` | {text} |" for name, text in cells.items()])


def failures(column: Column) -> str:
    if not column.failures:
        return ""
    cells = {name: f"`{text}`" for name, text in sorted(column.failures.items())}
    return f"\n## What fails on {column.title}\n\n{rows('test', 'reason', cells)}\n"


PAGE = """\
# Conformance

CPython's own tests of asyncio, run on other loops: each test in a process of its own. `make test`
runs flowcore's column; `make conformance` writes this page. The figures are passed / failed /
skipped by the test itself, under Python {python}.

{table}

uvloop starts processes without the policy's child watchers, so the four classes of
`test_subprocess` that are named after one are the same to it.
{failures}
## Not compared

These replace functions or look at fields that only the standard loop has. flowcore inherits them
and runs the tests: {internal}.

{not_compared}

## Not run

Tests on a mock of a loop are left out without being named. So are these:

{not_run}
"""


def page(columns: list[Column]) -> str:
    return PAGE.format(
        python=platform.python_version(),
        table="\n".join(table(columns)),
        failures="".join(map(failures, columns)),
        internal=cell(columns[0].internal),
        not_compared=rows("tests", "reason", INTERNAL),
        not_run=rows("tests", "reason", SKIPPED),
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, metavar="FILE")
    parser.add_argument("--loops", default="uvloop", help="to compare with: uvloop, asyncio")
    options = parser.parse_args()
    ours = measure("flowcore")
    if ours is None:
        return 1
    others = [measure(loop) for loop in options.loops.split(",")]
    columns = [ours, *(other for other in others if other)]
    text = page(columns)
    if options.write:
        options.write.write_text(text)
    else:
        print(text)
    return 1 if ours.failures or ours.internal["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
