"""How far a figure must go, and whether it did."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Goal:
    """A limit that counts as reached by a figure equal to it.

    The unit tells whose figure is meant: "ns" and "M/s" that of the entrant with the goal; "x" the
    ratio of flowcore's to that of the rival with the goal.
    """

    sign: str
    limit: float
    unit: str = "x"

    def __post_init__(self) -> None:
        if self.sign not in ("<=", ">="):
            raise ValueError(f"{self.sign!r} is neither <= nor >=")
        if self.unit not in ("x", "ns", "M/s"):
            raise ValueError(f"{self.unit!r} is none of x, ns, M/s")

    def met(self, figure: float) -> bool:
        """Never by a figure that is not a number."""
        return figure <= self.limit if self.sign == "<=" else figure >= self.limit

    def verdict(self, figure: float) -> str:
        return "met" if self.met(figure) else "MISSED"

    def __str__(self) -> str:
        return f"{self.sign} {self.limit:g} {self.unit}"
