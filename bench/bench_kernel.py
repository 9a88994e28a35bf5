"""The kernel's queues, pools and executor beside what Python users have without them.

Entrants of a contest do the same work in short slices, in turns, round after round, so that a drift
of the machine meets them all. What arrives is checked after the clock has stopped: every item once,
and those of a producer in their order; when that fails, the program stops. The number of items is
found first, so that a slice takes about as long for all.

A figure is the median of the rounds, and a ratio the median of the rounds' ratios; of what one
thread does alone the least counts, as there the others' work only ever adds. A rival's row says how
flowcore's rate (or time) stands to it, and whether that meets the goal.
"""

import argparse
import json
import multiprocessing
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from kernel import coroutines, executor, pools, processes, queues, records, report, rings, threads
from kernel.arrivals import WrongResult
from kernel.contest import Contest, Result, measure
from support import machine
from support.progress import Progress

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ["flowcore", "janus", "culsans", "faster-fifo", "numpy"]
RINGS = "rings"
SECTIONS: dict[str, tuple[str, Callable[[], list[Contest]]]] = {
    "queues": ("object queues in one thread", queues.contests),
    "threads": ("object queues between threads, singly and in batches", threads.contests),
    "coroutines": ("threads and coroutines, on both event loops", coroutines.contests),
    "processes": ("SharedQueue between processes", processes.contests),
    "pools": ("buffers, objects, the byte ring", pools.contests),
    "executor": ("a call handed to another thread", executor.contests),
    "records": ("arrays of records between two threads", records.contests),
    RINGS: ("the C rings without Python, beside queues and threads", list),
}
EXAMPLES = """\
sections:
{sections}

examples:
  bench_kernel.py --quick                      everything, roughly
  bench_kernel.py --save                       everything, kept in bench/results/
  bench_kernel.py --only queues,threads,rings  what of a queue's cost is Python's
  bench_kernel.py --only coroutines --rounds 9 --seconds 0.3
  make bench-kernel ONLY=pools                 with what it needs installed
"""


def run_contests(contests: list[Contest], options: argparse.Namespace,
                 out: Callable[[str], None]) -> list[Result]:
    # One more for each: how many items make a slice.
    progress = Progress(sum((options.rounds * c.pieces + 1) * len(c.entrants) for c in contests))
    results = []
    for contest in contests:
        result = measure(contest, options.rounds, options.seconds, progress.show)
        progress.clear()
        out(report.render(result))
        if contest.entrants:
            results.append(result)
    return results


def run(options: argparse.Namespace, out: Callable[[str], None]) -> dict[str, Any]:
    """All sections asked for. Returns what --json writes."""
    contests = [c for name in options.only for c in SECTIONS[name][1]()]
    results = run_contests(contests, options, out)
    record: dict[str, Any] = {"contests": [report.record(r) for r in results]}
    if RINGS in options.only:
        text, record[RINGS] = rings.section(results, 0.2 if options.quick else 1)
        out(text)
    if verdicts := [v for r in results for v in r.verdicts()]:
        out(report.goals(verdicts))
    return record


def sections_of(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in SECTIONS:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(SECTIONS)}")
    return [name for name in SECTIONS if name in names]


def positive(kind: type) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = 0
        if not value > 0:
            raise argparse.ArgumentTypeError("wants a number above 0")
        return value

    return parse


def options_of(argv: list[str] | None) -> argparse.Namespace:
    sections = "\n".join(f"  {name:<13} {about}" for name, (about, _) in SECTIONS.items())
    p = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES.format(sections=sections),
        formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--only", type=sections_of, default=list(SECTIONS), metavar="NAME,NAME",
                   help="sections to measure, see below (all)")
    p.add_argument("--rounds", type=positive(int), default=5, metavar="N",
                   help="rounds over all entrants of a contest (5)")
    p.add_argument("--seconds", type=positive(float), default=0.08, metavar="S",
                   help="that a slice lasts, about (0.08)")
    p.add_argument("--quick", action="store_true", help="the same as --rounds 3 --seconds 0.02")
    p.add_argument("--json", metavar="FILE", help="write every slice's figures to FILE")
    p.add_argument("--save", action="store_true",
                   help="write what is printed to bench/results/kernel-<date>.md too")
    options = p.parse_args(argv)
    if options.quick:
        options.rounds, options.seconds = 3, 0.02
    return options


def main(argv: list[str] | None = None) -> int:
    options = options_of(argv)
    if "processes" in options.only:
        multiprocessing.set_start_method("fork", force=True)  # what bench_shared_queue counts on
    printed: list[str] = []

    def out(text: str) -> None:
        printed.append(text)
        print(text, flush=True)

    about = machine.describe(PACKAGES)
    about.append(f"rounds   {options.rounds} of slices of about {options.seconds:g} s")
    out("".join(f"    {line}\n" for line in about))
    record = run(options, out)
    if options.json:
        Path(options.json).write_text(json.dumps({"machine": about} | record, indent=1) + "\n")
    if options.save:
        path = ROOT / "bench" / "results" / f"kernel-{date.today().isoformat()}.md"
        path.parent.mkdir(exist_ok=True)
        path.write_text("# The kernel beside its rivals\n\n" + "\n".join(printed) + "\n")
        print(f"saved to {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except WrongResult as error:
        sys.exit(f"stopped, a result is wrong: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
