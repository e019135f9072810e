"""JSON of figures that were not measured."""

import json

import pytest

from egohand_ros.json_text import json_text


def test_what_is_not_a_number_is_null_and_the_rest_as_it_was():
    content = {"a": [1.5, float("nan"), (float("inf"), None)], "b": {"c": -float("inf")}, "d": "NaN", "e": True}
    known = json.loads(json_text(content), parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert known == {"a": [1.5, None, [None, None]], "b": {"c": None}, "d": "NaN", "e": True}
