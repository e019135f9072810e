"""The registry of forecasters: a name, a line about it, and how to make it.

To add a forecaster, write one module that registers a factory:

    @register("my_model", "one line that says what it is")
    def my_model(**options) -> Forecaster: ...

It then works in the node, the CLI and every protocol.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..errors import UserError
from .common.pretrained import kind_of
from .common.protocol import Forecaster


@dataclass(frozen=True)
class Preset:
    """A registered forecaster: how to make it and one line about it."""

    name: str
    summary: str
    factory: Callable[..., Forecaster]


_PRESETS: dict[str, Preset] = {}
_LOADERS: dict[str, Callable[..., Forecaster]] = {}


def register(name: str, summary: str) -> Callable[[Callable[..., Forecaster]], Callable[..., Forecaster]]:
    """Decorator that puts a factory in the registry under a preset name."""

    def put(factory: Callable[..., Forecaster]) -> Callable[..., Forecaster]:
        if name in _PRESETS and _PRESETS[name].factory is not factory:
            raise ValueError(f"forecaster {name!r} is registered twice")
        _PRESETS[name] = Preset(name, summary, factory)
        return factory

    return put


def register_loader(kind: str, loader: Callable[..., Forecaster]) -> None:
    """What makes a forecaster of a folder that `save_pretrained` wrote for this kind: `loader(folder, **options)`."""
    _LOADERS[kind] = loader


def presets() -> dict[str, Preset]:
    """All presets by name. Importing the modules of this folder is what fills the registry."""
    naive = importlib.import_module(f"{__package__}.naive")
    for module in pkgutil.iter_modules(naive.__path__):
        importlib.import_module(f"{naive.__name__}.{module.name}")
    importlib.import_module(f"{__package__}.learned")
    return dict(sorted(_PRESETS.items()))


def make_forecaster(name: str, **options) -> Forecaster:
    """The forecaster of a preset name, or of a folder with a trained one. Raises `UserError` that lists the known
    names.
    """
    known = presets()
    if name not in known and Path(name).is_dir():
        return _LOADERS[kind_of(name)](name, **options)
    if name not in known:
        raise UserError(f"forecaster {name!r} is unknown; known forecasters: {', '.join(known)}")
    return known[name].factory(**options)


def options_of(name: str) -> frozenset[str]:
    """Names of the options that `make_forecaster(name, ...)` takes by name; none for an unknown one."""
    known = presets()
    if name in known:
        return frozenset(inspect.signature(known[name].factory).parameters)
    if Path(name).is_dir():
        return options_of(kind_of(name)) - {"checkpoint"}  # the folder is the checkpoint
    return frozenset()
