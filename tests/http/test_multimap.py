"""Names that may stand several times."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from flowcore.http import MultiMapping

PAIRS = [("a", "1"), ("b", "2"), ("a", "3"), ("A", "4")]


def test_the_first_value_counts() -> None:
    m = MultiMapping(PAIRS)
    assert m["a"] == "1"
    assert m["A"] == "4"
    assert m.get("a") == "1"
    assert m.get("c", "none") == "none"
    with pytest.raises(KeyError):
        m["c"]


def test_all_values_in_order() -> None:
    m = MultiMapping(PAIRS)
    assert m.getlist("a") == ["1", "3"]
    assert m.getlist("c") == []
    assert m.pairs() == PAIRS


def test_it_is_a_mapping() -> None:
    m = MultiMapping(PAIRS)
    assert isinstance(m, Mapping)
    assert list(m) == list(m.keys()) == ["a", "b", "A"]
    assert len(m) == 3
    assert dict(m) == {"a": "1", "b": "2", "A": "4"}
    assert m == {"a": "1", "b": "2", "A": "4"}
    assert "a" in m and "c" not in m
    assert repr(m) == f"MultiMapping({PAIRS!r})"


def test_nothing_in_it() -> None:
    m = MultiMapping()
    assert not m and len(m) == 0 and list(m) == [] and m.pairs() == []


def test_it_cannot_be_changed() -> None:
    m = MultiMapping(PAIRS)
    with pytest.raises(TypeError):
        m["a"] = "5"
    m.pairs().clear()
    m.getlist("a").clear()
    assert m.pairs() == PAIRS


def test_the_pairs_may_be_any_iterable_and_are_copied() -> None:
    source = list(PAIRS)
    m = MultiMapping(pair for pair in source)
    source.clear()
    assert m.pairs() == PAIRS
