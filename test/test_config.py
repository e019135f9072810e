"""Dataclasses out of YAML: what is written is read, and every mistake is one line that says where, what and how."""

import math
from dataclasses import dataclass, field
from typing import Literal

import pytest

from egohand_ros.config import from_mapping, to_mapping
from egohand_ros.errors import UserError


@dataclass(frozen=True)
class Part:
    size: float
    kind: Literal["round", "flat"] = "round"

    def __post_init__(self):
        if self.size < 0:
            raise ValueError(f"size is {self.size}; it cannot be negative")


@dataclass(frozen=True)
class Whole:
    count: int
    parts: dict[str, Part] = field(default_factory=dict)
    place: tuple[float, float, float] | None = None
    rows: tuple[str | tuple[str, ...], ...] = ()
    names: tuple[Part | str, ...] = ()


def test_what_is_written_is_read_and_written_again():
    values = {
        "count": 2,
        "parts": {"a": {"size": 1, "kind": "flat"}},
        "place": [0, 1.5, 2],
        "rows": ["x", ["y", "z"]],
        "names": ["b", {"size": 3.0}],
    }
    whole = from_mapping(Whole, values, "file.yaml: ")
    assert whole == Whole(2, {"a": Part(1.0, "flat")}, (0.0, 1.5, 2.0), ("x", ("y", "z")), ("b", Part(3.0)))
    assert from_mapping(Whole, to_mapping(whole), "again") == whole


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "file.yaml is []; expected a mapping with keys count, parts, place, rows, names"),
        ({}, "file.yaml lacks count; known keys: count, parts, place, rows, names"),
        ({"cuont": 1}, "file.yaml has unknown key 'cuont' (1); known keys: count, parts, place, rows, names"),
        ({"count": True}, "file.yaml: count is True; expected a whole number"),
        ({"count": 1.5}, "file.yaml: count is 1.5; expected a whole number"),
        (
            {"count": 1, "parts": {"a": {"sise": 1}}},
            "file.yaml: parts.a has unknown key 'sise' (1); known keys: size, kind",
        ),
        ({"count": 1, "parts": {"a": {"size": math.nan}}}, "file.yaml: parts.a.size is nan; expected a number"),
        ({"count": 1, "parts": {"a": {"size": "1"}}}, "file.yaml: parts.a.size is '1'; expected a number"),
        ({"count": 1, "parts": {"a": {"size": -1}}}, "file.yaml: parts.a: size is -1.0; it cannot be negative"),
        (
            {"count": 1, "parts": {"a": {"size": 1, "kind": "oval"}}},
            "file.yaml: parts.a.kind is 'oval'; choose one of round, flat",
        ),
        ({"count": 1, "place": [1, 2]}, "file.yaml: place is [1, 2]; expected 3 values"),
        ({"count": 1, "place": 3}, "file.yaml: place is 3; expected a list"),
        ({"count": 1, "rows": ["x", 1]}, "file.yaml: rows.1 is 1; expected text or a list"),
        ({"count": 1, "names": [2]}, "file.yaml: names.0 is 2; expected a mapping or text"),
    ],
)
def test_a_mistake_is_told_in_one_line(values, message):
    with pytest.raises(UserError) as error:
        from_mapping(Whole, values, "file.yaml: ")
    assert str(error.value) == message
