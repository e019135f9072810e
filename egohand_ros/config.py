"""Reading config dataclasses from YAML and JSON, and the shipped presets."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from .errors import UserError
from .shipped import preset_folder

Config = TypeVar("Config")


def from_mapping(kind: type[Config], values: Mapping[str, Any], where: str) -> Config:
    """A dataclass from a mapping whose keys are its fields, nested ones too; `UserError` names an unknown or missing
    key."""
    if not isinstance(values, Mapping):
        raise UserError(f"{where} is {values!r}; expected a mapping with keys {', '.join(_fields(kind))}")
    known = _fields(kind)
    for key in values:
        if key not in known:
            raise UserError(f"{where} has unknown key {key!r}; known keys: {', '.join(known)}")
    missing = [name for name, item in known.items() if name not in values and _required(item)]
    if missing:
        raise UserError(f"{where} lacks {', '.join(missing)}")
    hints = typing.get_type_hints(kind)
    read = {key: _read(hints[key], value, f"{where}.{key}") for key, value in values.items()}
    try:
        return kind(**read)
    except (TypeError, ValueError) as error:
        raise UserError(f"{where}: {error}") from None


def to_mapping(config: Any) -> dict[str, Any]:
    """The mapping that `from_mapping` reads back, of plain JSON and YAML values."""
    return {field.name: _plain(getattr(config, field.name)) for field in dataclasses.fields(config)}


def read_preset(name_or_path: str | Path) -> dict[str, Any]:
    """The mapping of a shipped preset by name, or of a .yaml file; `UserError` lists the shipped ones."""
    path = Path(name_or_path).expanduser()
    if path.suffix not in (".yaml", ".yml"):
        path = preset_folder() / f"{name_or_path}.yaml"
    try:
        values = yaml.safe_load(path.read_text())
    except OSError:
        known = ", ".join(sorted(file.stem for file in preset_folder().glob("*.yaml")))
        raise UserError(f"no preset {str(name_or_path)!r}; shipped presets: {known}, or give a .yaml file") from None
    except yaml.YAMLError as error:
        raise UserError(f"preset {path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise UserError(f"preset {path} is not a mapping")
    return values


def _fields(kind: type) -> dict[str, dataclasses.Field]:
    return {field.name: field for field in dataclasses.fields(kind)}


def _required(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _read(hint: Any, value: Any, where: str) -> Any:
    if isinstance(hint, types.UnionType):  # only "X | None"
        if value is None:
            return None
        hint = next(option for option in typing.get_args(hint) if option is not types.NoneType)
    if dataclasses.is_dataclass(hint):
        return from_mapping(hint, value, where)
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, (list, tuple)):
            raise UserError(f"{where} is {value!r}; expected a list")
        return tuple(_read(typing.get_args(hint)[0], item, where) for item in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint in (int, float, str, bool) and type(value) is not hint:
        raise UserError(f"{where} is {value!r}; expected {hint.__name__}")
    return value


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_mapping(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value
