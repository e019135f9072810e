"""Node parameters declared once: a frozen dataclass is the declaration, the snapshot and the documentation.

@dataclass(frozen=True)
class MyParameters(BaseParameters):
    forecaster: str = parameter("kalman", "Preset name; `egohand forecasters` lists them.", read_only=True)
    timeout: float = parameter(0.2, "Age of a forecast that stops the hand.", unit="s", range=(0.01, 5.0))

    def __post_init__(self):  # optional: rules between parameters; raise ValueError with one line
        ...
"""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import (
    InvalidParameterTypeException,
    InvalidParameterValueException,
)
from rclpy.node import Node
from rclpy.parameter import Parameter

from ...errors import UserError
from ...geometry.rotations import matrix_from_quaternion
from ...geometry.transforms import make_transform
from .realtime import HIGHEST

P = TypeVar("P", bound="BaseParameters")


def parameter(
    default: Any,
    description: str,
    *,
    unit: str = "",
    range: tuple[float, float] | None = None,
    choices: tuple[str, ...] = (),
    read_only: bool = False,
) -> Any:
    """A dataclass field that is a ROS parameter. The default's type is the parameter's type (tuples are arrays).

    `range` is inclusive and holds for numbers and for every number of an array; `read_only` is for what shapes the
    node (model, topics): it is fixed once the node is made.
    """
    metadata = dict(description=description, unit=unit, range=range, choices=tuple(choices), read_only=read_only)
    return field(default=default, metadata=metadata)


def max_future_parameter(default: float, read_only: bool = False) -> Any:
    """By how much a stamp may be ahead, s."""
    described = "Stamps further ahead of this machine's clock are refused: by how much clocks of machines may differ."
    return parameter(default, described, unit="s", range=(0.0, 10.0), read_only=read_only)


def stand_in_priority_parameter() -> Any:
    """Of a node that stands for hardware."""
    return parameter(
        0,
        "Real-time priority (SCHED_FIFO) of the executor, below that of who commands, where the user may have one: it "
        "stands for hardware that does not share this computer; 0: none.",
        range=(0, HIGHEST),
        read_only=True,
    )


@dataclass(frozen=True)
class BaseParameters:
    """What every node has."""

    autostart: bool = parameter(
        True,
        "Configure and activate at start-up; set to false where a lifecycle manager drives the node.",
        read_only=True,
    )


def declare(node: Node, kind: type[P]) -> P:
    """Declare every field of `kind` on the node, apply overrides, and return the validated snapshot.

    Raises `UserError` for an override of the wrong type, out of range or not among the choices.
    """
    values = {f.name: _declare_one(node, f) for f in dataclasses.fields(kind)}
    return _build(kind, values)


def changed(snapshot: P, parameters: list[Parameter]) -> P:
    """A new snapshot with the given parameters set. Raises `UserError` when it would not be valid.

    Parameters that are not fields (use_sim_time, qos_overrides…) are left to rclpy.
    """
    names = {f.name for f in dataclasses.fields(snapshot)}
    values = {f: getattr(snapshot, f) for f in names}
    values.update({p.name: _frozen(p.value) for p in parameters if p.name in names})
    return _build(type(snapshot), values)


def with_floats(kind: type[BaseParameters], parameters: list[Parameter]) -> list[Parameter]:
    """The same parameters, where an integer given for a float becomes a float (`ros2 param set n rate 30`)."""
    defaults = {f.name: f.default for f in dataclasses.fields(kind)}
    return [
        Parameter(p.name, value=_as_float(p.value, defaults[p.name])) if p.name in defaults else p for p in parameters
    ]


def transform_of_values(name: str, values: tuple[float, ...]) -> np.ndarray:
    """T (4, 4) of a parameter's x, y, z [m], qx, qy, qz, qw. Raises `ValueError` for other numbers."""
    numbers = np.array(values)
    if len(numbers) != 7 or not abs(np.linalg.norm(numbers[3:]) - 1.0) < 1e-2:
        raise ValueError(f"{name} is {values}; expected x, y, z and a unit quaternion x, y, z, w")
    return make_transform(matrix_from_quaternion(numbers[3:]), numbers[:3])


def check_value(f: dataclasses.Field, value: Any, shown: str) -> None:
    """Refuse what `declare` would, and numbers that are not finite, without a node. Raises `UserError` that begins with
    `shown`, the setting as it was given."""
    value = _as_float(value, f.default)
    value = tuple(value) if isinstance(value, list) else value
    one_of = f.default[0] if isinstance(f.default, tuple) and f.default else None
    if isinstance(f.default, tuple):
        fits = isinstance(value, tuple) and all(one_of is None or type(v) is type(one_of) for v in value)
    else:
        fits = type(value) is type(f.default)
    if not fits or any(
        isinstance(v, float) and not math.isfinite(v) for v in (value if isinstance(value, tuple) else (value,))
    ):
        raise UserError(f"{shown}: {_expectation(f)}")
    try:
        _check(f, value)
    except UserError as error:
        raise UserError(f"{shown}: {error}") from None


def parameter_table(kind: type[BaseParameters]) -> list[str]:
    """Markdown table rows (header first) that document the parameters of a node, for the README and docs."""
    rows = ["| Parameter | Type | Default | Unit | Allowed | Description |", "|---|---|---|---|---|---|"]
    for f in dataclasses.fields(kind):
        meta = f.metadata
        allowed = ", ".join(f"`{c}`" for c in meta["choices"]) if meta["choices"] else _range_text(meta["range"])
        description = meta["description"] + (" Read-only." if meta["read_only"] else "")
        default = f"`{_yaml(f.default)}`"
        rows.append(
            f"| `{f.name}` | {_type_name(f.default)} | {default} | {meta['unit']} | {allowed} | {description} |"
        )
    return rows


def _declare_one(node: Node, f: dataclasses.Field) -> Any:
    descriptor = _descriptor(f)
    default = list(f.default) if isinstance(f.default, tuple) else f.default
    try:
        value = node.declare_parameter(f.name, default, descriptor).value
    except InvalidParameterTypeException:
        value = _redeclare_as_float(node, f)
    except InvalidParameterValueException:
        raise UserError(f"parameter {f.name} is {_given(node, f)!r}; {_expectation(f)}") from None
    return _frozen(value)


def _given(node: Node, f: dataclasses.Field) -> Any:
    """The override of a parameter that could not be declared, whatever its type."""
    value = node.declare_parameter(f.name, None, ParameterDescriptor(dynamic_typing=True)).value
    node.undeclare_parameter(f.name)
    return value


def _redeclare_as_float(node: Node, f: dataclasses.Field) -> Any:
    """rclpy refuses 30 for a float parameter; take it as 30.0."""
    given = _given(node, f)
    value = _as_float(given, f.default)
    if _type_name(_frozen(value)) != _type_name(f.default):
        raise UserError(f"parameter {f.name} is {given!r}; {_expectation(f)}")
    try:
        return node.declare_parameter(f.name, value, _descriptor(f), ignore_override=True).value
    except InvalidParameterValueException:
        raise UserError(f"parameter {f.name} is {given!r}; {_expectation(f)}") from None


def _descriptor(f: dataclasses.Field) -> ParameterDescriptor:
    meta = f.metadata
    unit = f" [{meta['unit']}]" if meta["unit"] else ""
    descriptor = ParameterDescriptor(description=meta["description"] + unit, read_only=meta["read_only"])
    if meta["choices"]:
        descriptor.additional_constraints = "one of: " + ", ".join(meta["choices"])
    if meta["range"] and isinstance(f.default, float):
        low, high = map(float, meta["range"])
        descriptor.floating_point_range = [FloatingPointRange(from_value=low, to_value=high, step=0.0)]
    elif meta["range"] and isinstance(f.default, int):
        low, high = map(int, meta["range"])
        descriptor.integer_range = [IntegerRange(from_value=low, to_value=high, step=1)]
    return descriptor


def _build(kind: type[P], values: dict[str, Any]) -> P:
    for f in dataclasses.fields(kind):
        _check(f, values[f.name])
    try:
        return kind(**values)
    except ValueError as error:
        raise UserError(str(error)) from None


def _check(f: dataclasses.Field, value: Any) -> None:
    meta = f.metadata
    if meta["choices"] and any(v not in meta["choices"] for v in (value if isinstance(value, tuple) else (value,))):
        raise UserError(f"parameter {f.name} is {value!r}; {_expectation(f)}")
    if meta["range"]:
        low, high = meta["range"]
        # Written so that NaN fails.
        if not all(low <= v <= high for v in (value if isinstance(value, tuple) else (value,))):
            raise UserError(f"parameter {f.name} is {value!r}; {_expectation(f)}")


def _expectation(f: dataclasses.Field) -> str:
    meta = f.metadata
    text = f"expected {_type_name(f.default)}"
    if meta["choices"]:
        return f"{text}, one of: {', '.join(meta['choices'])}"
    if meta["range"]:
        return f"{text} in {_range_text(meta['range'])}" + (f" {meta['unit']}" if meta["unit"] else "")
    return text


def _as_float(value: Any, default: Any) -> Any:
    if isinstance(default, float) and type(value) is int:
        return float(value)
    if isinstance(default, tuple) and default and isinstance(default[0], float) and not isinstance(value, str):
        return [float(v) if type(v) is int else v for v in value] if hasattr(value, "__iter__") else value
    return value


def _frozen(value: Any) -> Any:
    if value is None:  # how rclpy gives an empty array from the command line
        return ()
    return value if isinstance(value, (bool, int, float, str)) else tuple(value)


def _type_name(value: Any) -> str:
    if isinstance(value, tuple):
        return f"{_type_name(value[0])} array" if value else "array"
    return {bool: "bool", int: "int", float: "float", str: "string"}[type(value)]


def _range_text(limits: tuple[float, float] | None) -> str:
    return f"[{', '.join(str(v) if isinstance(v, int) else f'{v:g}' for v in limits)}]" if limits else ""


def _yaml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(_yaml(v) for v in value)}]"
    return f'"{value}"' if isinstance(value, str) and not value else str(value)
