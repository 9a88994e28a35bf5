"""A read-only mapping in which a name may stand several times."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

__all__ = ["MultiMapping"]


class MultiMapping(Mapping[str, str]):
    """Names to values, in order. ``m[name]`` is the first value, ``m.getlist(name)`` all."""

    __slots__ = ("_first", "_pairs")

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self._pairs = list(pairs)
        self._first: dict[str, str] = {}
        for name, value in self._pairs:
            self._first.setdefault(name, value)

    def __getitem__(self, name: str) -> str:
        return self._first[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._first)

    def __len__(self) -> int:
        return len(self._first)

    def getlist(self, name: str) -> list[str]:
        """All values of that name, in order; none: an empty list."""
        return [value for key, value in self._pairs if key == name]

    def pairs(self) -> list[tuple[str, str]]:
        """Every name and value, in order."""
        return list(self._pairs)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._pairs!r})"
