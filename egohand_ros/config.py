"""Reading config dataclasses from YAML and JSON, and the shipped presets."""

import dataclasses
import math
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
    """A dataclass from a mapping whose keys are its fields, nested ones too.

    Read are numbers (finite ones), words, `Literal` choices, tuples, dicts, unions of these, and dataclasses of them.
    `UserError` names in one line the place (`where`, a dot, the key; no dot after a blank), the value and what is
    expected; for a key that is unknown or missing, the known ones. What `__post_init__` refuses with a `ValueError` is
    told likewise.
    """
    known = _fields(kind)
    name = where.rstrip(": ")
    if not isinstance(values, Mapping):
        raise UserError(f"{name} is {_shown(values)}; expected a mapping with keys {', '.join(known)}")
    for key, value in values.items():
        if key not in known:
            raise UserError(f"{name} has unknown key {key!r} ({_shown(value)}); known keys: {', '.join(known)}")
    missing = [name for name, item in known.items() if name not in values and _required(item)]
    if missing:
        raise UserError(f"{name} lacks {', '.join(missing)}; known keys: {', '.join(known)}")
    hints = typing.get_type_hints(kind)
    read = {key: _read(hints[key], value, _below(where, key)) for key, value in values.items()}
    try:
        return kind(**read)
    except (TypeError, ValueError) as error:
        raise UserError(f"{name}: {error}") from None


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


def _below(where: str, key: object) -> str:
    return f"{where}{'' if where.endswith(' ') else '.'}{key}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _read(hint: Any, value: Any, where: str) -> Any:
    """The value as the type `hint` has it."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return _read(_option(inner, value, where), value, where)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return from_mapping(hint, value, where)
    if not _fits(hint, value):
        raise UserError(f"{where} is {_shown(value)}; {_expected(hint)}")
    if origin is tuple:
        kinds = inner[:1] * len(value) if inner[-1] is ... else inner
        if len(kinds) != len(value):
            raise UserError(f"{where} is {_shown(value)}; expected {len(kinds)} values")
        return tuple(_read(kind, item, _below(where, i)) for i, (kind, item) in enumerate(zip(kinds, value)))
    if origin is dict:
        return {_read(inner[0], k, where): _read(inner[1], v, _below(where, k)) for k, v in value.items()}
    return float(value) if hint is float else value


def _option(options: tuple[Any, ...], value: Any, where: str) -> Any:
    """The one of a union's types that a value is meant to be."""
    for option in options:
        if _fits(option, value):
            return option
    wanted = [option for option in options if option is not types.NoneType]
    if len(wanted) == 1:
        return wanted[0]
    raise UserError(f"{where} is {_shown(value)}; {' or '.join(map(_expected, wanted)).replace('or expected', 'or')}")


def _fits(hint: Any, value: Any) -> bool:
    """Whether a value is of this type, whatever is in it."""
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        return value in typing.get_args(hint)
    if origin is dict or dataclasses.is_dataclass(hint):
        return isinstance(value, Mapping)
    if origin is tuple:
        return isinstance(value, (list, tuple))
    if hint is float:
        return type(value) in (int, float) and math.isfinite(value)
    if hint in (int, str, bool, types.NoneType):
        return type(value) is hint
    return True


def _expected(hint: Any) -> str:
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        return f"choose one of {', '.join(map(str, typing.get_args(hint)))}"
    names = {tuple: "a list", dict: "a mapping", float: "a number", int: "a whole number", bool: "true or false"}
    return f"expected {names.get(origin or hint, 'a mapping' if dataclasses.is_dataclass(hint) else 'text')}"


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_mapping(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value
