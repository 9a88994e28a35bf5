"""What measuring costs by itself."""

from collections.abc import Callable

TRIES = 3


class Floor:
    """The least that an empty loop was ever seen to take.

    Taking off what it took just now would turn a disturbance of the empty loop into a gain of what
    is measured.
    """

    def __init__(self, empty: Callable[[int], float]) -> None:
        self.empty = empty
        self.each_s = float("inf")

    def seconds(self, count: int) -> float:
        """Of so many turns."""
        for _ in range(TRIES):
            self.each_s = min(self.each_s, self.empty(count) / count)
        return self.each_s * count
