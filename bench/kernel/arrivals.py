"""Whether what came out of a queue is what went in."""

from collections import Counter
from collections.abc import Sequence
from itertools import chain

SHIFT = 32  # the producer's number stands above, the item's below


class WrongResult(Exception):
    """Something was lost, doubled, made up or overtaken: the figure is worth nothing."""


def numbered(producers: int, count: int) -> list[list[int]]:
    """`count` items in all, told apart by producer and place."""
    if count % producers:
        raise ValueError(f"{count} items cannot be shared by {producers} producers")
    each = count // producers
    return [list(range(p << SHIFT, (p << SHIFT) + each)) for p in range(producers)]


def check(sent: Sequence[list[int]], got: Sequence[list[int]]) -> None:
    """Every item arrived once, and each consumer got those of a producer in their order.

    Raises:
        WrongResult: it is not so.
    """
    if len(sent) == len(got) == 1 and sent[0] == got[0]:
        return
    arrived = sorted(chain.from_iterable(got))
    if arrived != sorted(chain.from_iterable(sent)):
        raise WrongResult(difference(Counter(chain.from_iterable(sent)), Counter(arrived)))
    for part in got:
        # The sort is stable: those of one producer stay as they came.
        if sorted(part, key=lambda item: item >> SHIFT) != sorted(part):
            raise WrongResult("an item has overtaken another of its producer")


def difference(sent: Counter[int], arrived: Counter[int]) -> str:
    lost, extra = sent - arrived, arrived - sent
    doubled = sum(n for item, n in extra.items() if item in sent)
    made_up = extra.total() - doubled
    kinds = {"lost": lost.total(), "doubled": doubled, "never sent": made_up}
    said = ", ".join(f"{n} {kind}" for kind, n in kinds.items() if n)
    return f"of {sent.total()} items: {said}"
