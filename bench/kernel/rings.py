"""The C rings without Python, by csrc/bench/bench_rings: what is left is the language's border."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from support import table

from kernel.contest import Result
from kernel.report import number

ROOT = Path(__file__).resolve().parents[2]

# Which ring's figure stands beside which of ours. Under the GIL MPMCQueue uses the simpler one too.
BESIDE = {
    ("one thread, put and get in turn", "SPSCQueue"): ("spsc", "push_pop_ns"),
    ("one thread, put and get in turn", "MPMCQueue"): ("spsc", "push_pop_ns"),
    ("thread to thread, singly", "SPSCQueue"): ("spsc", "ops_per_s_1x1"),
    ("thread to thread, singly", "MPMCQueue"): ("spsc", "ops_per_s_1x1"),
    ("thread to thread, 256 at once", "SPSCQueue"): ("spsc", "ops_per_s_1x1_64"),
    ("thread to thread, 256 at once", "MPMCQueue"): ("spsc", "ops_per_s_1x1_64"),
    ("2 threads to 2, singly", "MPMCQueue"): ("mpmc", "ops_per_s_2x2"),
    ("4 threads to 4, singly", "MPMCQueue"): ("mpmc", "ops_per_s_4x4"),
}

BORDER_NOTE = (
    "Threads of C run at the same time and pass cache lines to and fro; those of Python take\n"
    "turns of many items. So between threads the border can be less than nothing."
)


class NotBuilt(Exception):
    """Why there is no bench_rings to run."""


def build() -> Path:
    if not shutil.which("cmake"):
        raise NotBuilt("cmake is not installed")
    where = ROOT / "build" / "c"
    for command in (
        ["cmake", "-S", str(ROOT), "-B", str(where)],
        ["cmake", "--build", str(where), "--target", "bench_rings"],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise NotBuilt((done.stderr or done.stdout).strip().splitlines()[-1])
    return where / "bench_rings"


def run(program: Path, millions: float) -> dict[str, Any] | str:
    """What it measured; its text, if it has no --json."""
    done = subprocess.run([program, "--json", str(millions)], capture_output=True, text=True)
    if done.returncode == 0:
        return json.loads(done.stdout)
    done = subprocess.run([program, str(millions)], capture_output=True, text=True)
    if done.returncode:
        raise NotBuilt(done.stderr.strip() or f"it ended with {done.returncode}")
    return done.stdout


def ns_of(rings: dict[str, dict[str, float]], ring: str, column: str) -> float | None:
    value = rings.get(ring, {}).get(column)
    return value if value is None or column.endswith("_ns") else 1e9 / value


def render_rings(rings: dict[str, dict[str, float]]) -> str:
    columns = list(dict.fromkeys(c for cells in rings.values() for c in cells))
    rows = []
    for name, cells in rings.items():
        shown = [
            "" if c not in cells else number(cells[c] / (1 if c.endswith("_ns") else 1e6))
            for c in columns
        ]
        rows.append([name, *shown])
    heads = [c.replace("ops_per_s_", "M/s ").replace("_", " ") for c in columns]
    return table.render(["ring", *heads], rows)


def render_border(rings: dict[str, dict[str, float]], results: list[Result]) -> str:
    """Ours from the other sections beside the ring alone; empty without those sections."""
    rows = []
    for result in results:
        for (title, name), (ring, column) in BESIDE.items():
            c_ns = ns_of(rings, ring, column)
            if result.contest.title.startswith(title) and c_ns:
                ns = result.figure(name)
                rows.append([f"{title}: {name}", number(ns), f"{number(c_ns)} ({ring})",
                             number(ns - c_ns)])
    if not rows:
        return ""
    head = ["", "Python, ns an item", "C, ns an item", "border, ns"]
    return f"{table.render(head, rows)}\n\n{BORDER_NOTE}\n"


def section(results: list[Result], millions: float) -> tuple[str, Any]:
    """The text, and what --json writes."""
    title = "### the C rings alone\n\n"
    try:
        found = run(build(), millions)
    except NotBuilt as error:
        return f"{title}Not measured: bench_rings, {error}.\n", {"absent": str(error)}
    if isinstance(found, str):
        return title + "".join(f"    {line}\n" for line in found.splitlines()), {"text": found}
    rings = found["rings"]
    text = f"{title}{render_rings(rings)}\n\n{render_border(rings, results)}"
    return text, found
