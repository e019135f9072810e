"""Parameters as dataclasses: the documentation table and the rules; how nodes use them is in test/ros/test_base.py."""

from dataclasses import dataclass, fields

import pytest

pytest.importorskip("rclpy")

from rclpy.parameter import Parameter

from egohand_ros.errors import UserError
from egohand_ros.nodes.base.documentation import NODES, node_module, parameters_of
from egohand_ros.nodes.base.parameters import BaseParameters, changed, parameter, parameter_table, with_floats


@dataclass(frozen=True)
class Example(BaseParameters):
    rate: float = parameter(30.0, "How often.", unit="Hz", range=(1.0, 100.0))
    mode: str = parameter("", "Which way.", choices=("", "a"), read_only=True)
    gains: tuple[float, ...] = parameter((1.0, 2.0), "Of each axis.", range=(0.0, 5.0))


def test_the_table_says_everything():
    rows = parameter_table(Example)
    assert rows[0].startswith("| Parameter") and len(rows) == 2 + 4
    assert rows[3] == "| `rate` | float | `30.0` | Hz | [1, 100] | How often. |"
    assert rows[4] == '| `mode` | string | `""` |  | ``, `a` | Which way. Read-only. |'
    assert rows[5] == "| `gains` | float array | `[1.0, 2.0]` |  | [0, 5] | Of each axis. |"


def test_a_change_gives_a_new_snapshot_and_leaves_foreign_parameters_alone():
    before = Example()
    after = changed(before, [Parameter("rate", value=50.0), Parameter("use_sim_time", value=True)])
    assert after.rate == 50.0 and before.rate == 30.0 and after.gains == (1.0, 2.0)


@pytest.mark.parametrize("name, value", [("rate", 0.5), ("rate", float("nan")), ("mode", "b"), ("gains", [1.0, 9.0])])
def test_what_is_not_allowed_is_refused_in_one_line(name, value):
    with pytest.raises(UserError, match=f"parameter {name} is .*expected") as caught:
        changed(Example(), [Parameter(name, value=value)])
    assert "\n" not in str(caught.value)


def test_integers_become_floats_only_where_floats_are_wanted():
    given = [Parameter("rate", value=5), Parameter("gains", value=[1, 2]), Parameter("other", value=7)]
    rate, gains, other = (p.value for p in with_floats(Example, given))
    assert (rate, list(gains), other) == (5.0, [1.0, 2.0], 7) and isinstance(rate, float)


def all_parameters():
    return [parameters_of(node_module(name)) for name in NODES]


@pytest.mark.parametrize("kind", list(all_parameters()), ids=lambda kind: kind.__name__)
def test_every_parameter_of_every_node_is_documented_and_its_default_is_allowed(kind):
    kind()  # __post_init__ accepts the defaults
    changed(kind(), [])
    for field in fields(kind):
        description = field.metadata["description"]
        assert description[0].isupper() and description[-1] in ".;)" and len(description) > 10, field.name
