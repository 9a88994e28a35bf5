"""Entrants that do the same work, measured in turns."""

import gc
import math
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from kernel.goal import Goal

FIRST = 2048  # items of the first try, from which the number for a slice is found
PIECES = 16


@dataclass
class Entrant:
    """One way to do the work.

    `run` handles as many items as it is told, checks them, and returns the seconds it took; the
    number is a multiple of `step` and not above `most`.
    """

    name: str
    run: Callable[[int], float]
    goal: Goal | None = None
    ours: bool = False  # rivals are compared with it
    step: int = 1
    first: int = FIRST
    most: int = 4_000_000

    def whole(self, count: float) -> int:
        return max(1, round(min(count, self.most) / self.step)) * self.step


@dataclass
class Contest:
    """What the entrants have in common; `absent` says of the others why they are not there.

    What one thread does alone is only ever disturbed to its disadvantage, so its least counts;
    between threads, chance works both ways, and the median counts.
    """

    title: str
    entrants: list[Entrant]
    absent: dict[str, str] = field(default_factory=dict)
    of: Callable[[Iterable[float]], float] = statistics.median
    by_rate: bool = True  # how ratios are told: of rates, or of times
    note: str = ""

    @property
    def pieces(self) -> int:
        """Into how many a slice is cut. On a busy machine only a short one has the processor to
        itself from end to end, and where the least counts, one that had is enough."""
        return PIECES if self.of is min else 1

    def __post_init__(self) -> None:
        for each in self.entrants:
            if each.goal and each.ours != (each.goal.unit != "x"):
                raise ValueError(f"{each.name} cannot have the goal {each.goal}")


@dataclass
class Verdict:
    """What became of a goal."""

    contest: str
    what: str
    goal: Goal
    figure: float

    @property
    def met(self) -> bool:
        return self.goal.met(self.figure)


@dataclass
class Result:
    """Nanoseconds for an item, a round each; the n-th of all were taken next to each other."""

    contest: Contest
    ns: dict[str, list[float]]

    @property
    def ours(self) -> list[str]:
        return [e.name for e in self.contest.entrants if e.ours]

    def figure(self, name: str) -> float:
        return self.contest.of(self.ns[name])

    def ratio(self, ours: str, rival: str) -> float:
        """Ours to the rival's: of rates or times, as the contest has it."""
        if self.contest.of is min:
            pairs = [(self.figure(ours), self.figure(rival))]
        else:
            pairs = list(zip(self.ns[ours], self.ns[rival], strict=True))
        if self.contest.by_rate:
            pairs = [(b, a) for a, b in pairs]
        return statistics.median(a / b if b else math.nan for a, b in pairs)

    def verdicts_on(self, entrant: Entrant) -> list[Verdict]:
        """One for each of ours where the goal is a rival's, else one."""
        goal, name, title = entrant.goal, entrant.name, self.contest.title
        if goal is None:
            return []
        if goal.unit == "x":
            return [
                Verdict(title, f"{ours} to {name}", goal, self.ratio(ours, name))
                for ours in self.ours
            ]
        figure = self.figure(name)
        return [Verdict(title, name, goal, figure if goal.unit == "ns" else 1e3 / figure)]

    def verdicts(self) -> list[Verdict]:
        return [v for each in self.contest.entrants for v in self.verdicts_on(each)]


def slice_of(entrant: Entrant, seconds: float) -> int:
    """How many items take about as long."""
    count = entrant.whole(entrant.first)
    while True:
        took = entrant.run(count)
        if took >= seconds / 4 or count >= entrant.whole(entrant.most):
            return entrant.whole(count * seconds / max(took, 1e-9))
        count = entrant.whole(count * min(16, max(2, seconds / 2 / max(took, 1e-9))))


def measure(contest: Contest, rounds: int, seconds: float,
            show: Callable[[str], object] = lambda what: None) -> Result:
    """`rounds` slices of each, in pieces; every round begins with another entrant."""
    rounds, seconds = rounds * contest.pieces, seconds / contest.pieces
    counts = {}
    for each in contest.entrants:
        show(f"{contest.title}: {each.name}, how many")
        counts[each.name] = slice_of(each, seconds)
    result = Result(contest, {each.name: [] for each in contest.entrants})
    for n in range(rounds):
        at = n % max(1, len(contest.entrants))
        for each in contest.entrants[at:] + contest.entrants[:at]:
            show(f"{contest.title}: {each.name}")
            if n % contest.pieces == 0:
                gc.collect()  # what the last one left is not this one's to clear away
            count = counts[each.name]
            result.ns[each.name].append(each.run(count) / count * 1e9)
    return result
