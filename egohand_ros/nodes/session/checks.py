"""What can be said of nodes' parameters before the nodes start: unknown names, wrong types, values out of range."""

import dataclasses
import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from ...errors import UserError
from ..base.parameters import BaseParameters, check_value
from .plan import NodePlan, shipped_parameters

_CLASSES = {
    "arm_follower": ("arm_follower.parameters", "ArmFollowerParameters"),
    "forecaster": ("forecaster.parameters", "ForecasterParameters"),
    "handover": ("handover.parameters", "HandoverParameters"),
    "hand_tracker": ("hand_tracker", "HandTrackerParameters"),
    "foxglove": ("foxglove.node", "FoxgloveParameters"),
    "player": ("player.node", "PlayerParameters"),
    "recorder": ("recorder", "RecorderParameters"),
    "retargeter": ("retargeter.parameters", "RetargeterParameters"),
    "sim_hand": ("sim_hand", "SimHandParameters"),
    "sim_handover": ("sim_handover", "SimHandoverParameters"),
    "viewer": ("viewer", "ViewerParameters"),
}
_NODES = __package__.rpartition(".")[0]
_OF_ROS = ("use_sim_time", "start_type_description_service")


def check_plans(plans: list[NodePlan], settings: Sequence[str] = ()) -> None:
    """Refuse `settings` (node.parameter=value) and parameter files of the user's that a node would refuse, or never
    look at.

    Raises `UserError`. Settings have been put into the plans (`set_parameters`).
    """
    by_name = {plan.name: plan.parameters for plan in plans}
    for setting in settings:
        node, _, name = setting.partition("=")[0].partition(".")
        _check(node, name, by_name[node][name], f"setting {setting!r}")
    shipped = {shipped_parameters(plan.name) for plan in plans}
    for path in dict.fromkeys(file for plan in plans for file in plan.parameter_files if file not in shipped):
        check_parameter_file(path)


def check_parameter_file(path: Path | str) -> None:
    """Refuse a ROS parameter file that names a node or a parameter that there is not, or a value that is not
    possible.
    """
    try:
        content = yaml.safe_load(Path(path).read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"params_file {path} cannot be read: {' '.join(str(error).split())}") from None
    for node, parameters in _sections(content, path):
        if node in ("*", "**"):
            for name in parameters:
                if not any(name in _fields(kind) or _is_of_ros(name) for kind in _CLASSES):
                    raise UserError(f"params_file {path}: no node has a parameter {name!r}")
            continue
        if node not in _CLASSES:
            raise UserError(f"params_file {path}: node {node!r} is unknown; nodes: {', '.join(_CLASSES)}, /**")
        for name, value in parameters.items():
            _check(node, name, value, f"params_file {path}: {node}.{name}={value}")


def _sections(content: Any, path: Path | str, name: str = "") -> list[tuple[str, dict]]:
    """(node name, parameters) of the file's sections; namespaces may be written as names or as sections of their
    own.
    """
    if not isinstance(content, dict):
        raise UserError(
            f"params_file {path}: {name or 'the file'} is no mapping; expected node: ros__parameters: name: value"
        )
    found = []
    for key, inner in content.items():
        if key == "ros__parameters":
            if not isinstance(inner, dict) and inner is not None:
                raise UserError(f"params_file {path}: ros__parameters of {name} is no mapping of names to values")
            found.append((name.rpartition("/")[2], _flat(inner or {})))
        else:
            found += _sections(inner, path, str(key))
    return found


def _flat(parameters: dict, prefix: str = "") -> dict[str, Any]:
    """Nested names as ROS joins them, with dots."""
    flat: dict[str, Any] = {}
    for key, value in parameters.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _check(node: str, name: str, value: Any, shown: str) -> None:
    if node not in _CLASSES or _is_of_ros(name):
        return
    fields = _fields(node)
    if name not in fields:
        raise UserError(f"{shown}: {node} has no parameter {name!r}; it has {', '.join(sorted(fields))}")
    check_value(fields[name], value, shown)


def _is_of_ros(name: str) -> bool:
    return name in _OF_ROS or name.startswith("qos_overrides.")


def _fields(node: str) -> dict[str, dataclasses.Field]:
    module, kind = _CLASSES[node]
    parameters: type[BaseParameters] = getattr(importlib.import_module(f"{_NODES}.{module}"), kind)
    return {field.name: field for field in dataclasses.fields(parameters)}
