"""Results as tables, as a list of goals, and as JSON."""

from typing import Any

from support import table

from kernel.contest import Entrant, Result, Verdict


def number(value: float) -> str:
    size = abs(value)
    return f"{value:,.0f}" if size >= 100 else f"{value:.1f}" if size >= 1 else f"{value:.3f}"


def times(value: float) -> str:
    return f"{value:.{1 if value >= 10 else 2 if value >= 1 else 3}f} x"


def goal_cell(result: Result, entrant: Entrant) -> str:
    """The verdict is the worst, where several of ours are held to one goal."""
    verdicts = result.verdicts_on(entrant)
    if not verdicts:
        return ""
    return f"{entrant.goal}, {'met' if all(v.met for v in verdicts) else 'MISSED'}"


def render(result: Result) -> str:
    """A section of Markdown. A rival's row tells how ours stand to it."""
    contest = result.contest
    kind = "rate" if contest.by_rate else "time"
    head = ["", "ns an item", "M/s", *(f"{kind} of {ours}" for ours in result.ours), "goal"]
    rows = []
    for each in contest.entrants:
        ns = result.figure(each.name)
        ratios = [
            "" if each.name == ours else times(result.ratio(ours, each.name))
            for ours in result.ours
        ]
        # Ours are not told as ratios of each other.
        if each.ours:
            ratios = [""] * len(ratios)
        rate = number(1e3 / ns) if ns else ""
        rows.append([each.name, number(ns), rate, *ratios, goal_cell(result, each)])
    lines = [f"### {contest.title}", ""]
    if rows:
        lines += [table.render(head, rows), ""]
    below = [contest.note] * bool(contest.note)
    below += [f"Not measured: {name}, {why}." for name, why in contest.absent.items()]
    return "\n".join(lines + below + [""] * bool(below))


def told(verdict: Verdict) -> str:
    unit = verdict.goal.unit
    return times(verdict.figure) if unit == "x" else f"{number(verdict.figure)} {unit}"


def goals(verdicts: list[Verdict]) -> str:
    """Every goal on a line, and how many were met."""
    lines = [
        f"    {v.goal.verdict(v.figure):<6} {v.contest}: {v.what} "
        f"{told(v)}, goal {v.goal}"
        for v in verdicts
    ]
    met = sum(v.met for v in verdicts)
    return "\n".join(["### Goals", "", *lines, "", f"{met} of {len(verdicts)} goals met"])


def record(result: Result) -> dict[str, Any]:
    """What --json writes of a contest."""
    contest = result.contest
    return {
        "contest": contest.title,
        "figure": contest.of.__name__,
        "absent": contest.absent,
        "ns": result.ns,
        "goals": [
            {"what": v.what, "goal": str(v.goal), "figure": v.figure, "met": v.met}
            for v in result.verdicts()
        ],
    }
