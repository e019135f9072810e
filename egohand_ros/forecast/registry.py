"""The registry of forecasters: a name, a line about it, and how to make it.

A forecaster without weights is one file in `naive/`:

    @register("mine", "one line that says what it is")
    class Mine: ...  # has .spec, and .forecast(window, hypotheses, seed) -> Forecast

A learned system is one folder beside `small/`, whose `system.py` calls `register_system(System(...))`. A package of
one's own does either in a module that it names as an entry point of the group `egohand_ros.forecasters`. All of them
then work in the node, the command line, training and every protocol; nothing but the record is imported before a
forecaster is asked for.
"""

import importlib
import logging
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TypeVar

from ..config import read_preset
from ..errors import UserError
from .common.protocol import Forecaster
from .system import CHECKPOINT, Preset, System

ENTRY_POINTS = "egohand_ros.forecasters"
NAIVE = "naive"  # the folder of those without weights, a module each
EXPERTS = "experts"  # the option of a forecaster over others
RECORD = "system"  # the module of a system's folder that registers it
EXTERNAL = "external:"  # before a command: a forecaster that is a process of its own

_PRESETS: dict[str, Preset] = {}
_SYSTEMS: dict[str, System] = {}
_loaded = False
_logger = logging.getLogger(__name__)

Factory = TypeVar("Factory", bound=Callable[..., Any])


def register(name: str, summary: str) -> Callable[[Factory], Factory]:
    """Decorator that puts a class or a factory in the registry under a preset name."""

    def put(factory: Factory) -> Factory:
        _put(Preset(name, summary, factory))
        return factory

    return put


def register_system(system: System) -> None:
    """Put a learned system, and its presets, in the registry."""
    if _SYSTEMS.get(system.name, system) != system:
        raise ValueError(f"system {system.name!r} is registered twice")
    _SYSTEMS[system.name] = system
    for preset in system.presets:
        _put(replace(preset, system=system))


def presets() -> dict[str, Preset]:
    """All presets by name."""
    _load_all()
    return dict(sorted(_PRESETS.items()))


def systems() -> dict[str, System]:
    """All learned systems by name."""
    _load_all()
    return dict(sorted(_SYSTEMS.items()))


def split_name(name: str) -> tuple[str, dict[str, str]]:
    """A preset's name and options, of `name:experts` where the preset averages others: adaptive:persistence+kalman."""
    preset, colon, experts = name.partition(":")
    known = presets()
    if colon and name not in known and preset in known and EXPERTS in known[preset].options():
        return preset, {EXPERTS: experts}
    return name, {}


def find_preset(name: str) -> Preset:
    """The preset of a name. Raises `UserError` that lists the known names."""
    if name.startswith(EXTERNAL):
        return Preset(name, "a process of its own", partial(_external, name.removeprefix(EXTERNAL)))
    name, known = split_name(name)[0], presets()
    if name not in known:
        raise UserError(f"forecaster {name!r} is unknown; known forecasters: {', '.join(known)}, {EXTERNAL}COMMAND")
    return known[name]


def check_forecaster(name: str) -> None:
    """Refuse what `make_forecaster` would not find, without making it."""
    if not Path(name).is_dir():
        find_preset(name)


def find_system(kind: str, where: str) -> System:
    """The learned system of a kind that `where` names. Raises `UserError` that lists the known ones."""
    known = systems()
    if kind not in known:
        raise UserError(f"{where} has forecaster {kind!r}; known: {', '.join(known)}")
    return known[kind]


def make_forecaster(name: str | Path, **options) -> Forecaster:
    """The forecaster of a preset name, or of a folder with a trained one. Raises `UserError` that lists the known
    names.
    """
    name = str(name)
    if name not in presets() and Path(name).is_dir():
        return from_pretrained(name, **options)
    return find_preset(name).make(**split_name(name)[1], **options)


def from_pretrained(checkpoint: str | Path, **options) -> Forecaster:
    """The forecaster of a folder or hub id, whatever its kind."""
    from .common.pretrained import kind_of

    kind = kind_of(checkpoint)
    if _saved_by_name(kind):
        return presets()[kind].make(**{CHECKPOINT: checkpoint}, **options)
    return find_system(kind, str(checkpoint)).load(checkpoint, **options)


def is_slow(name: str) -> bool:
    """Whether a learned forecaster, by its preset's name or folder, says it is slow on a CPU; nothing is loaded."""
    preset = presets().get(name)
    if preset is None and Path(name).is_dir():
        from .common.pretrained import kind_of

        system = systems().get(kind_of(name))
        preset = replace(system.presets[0], system=system) if system is not None and system.presets else None
    return preset is not None and preset.system is not None and preset.spec().slow


def untrained(preset: str | Path, **options) -> Forecaster:
    """A learned preset's forecaster before training; `preset` is a name or a .yaml file.

    Options are those of its system: `device`, and names of public weights.
    """
    values = values_of(preset)
    system = system_of(preset)
    return system.new(values.get("name", Path(preset).stem), values, **options)


def values_of(preset: str | Path) -> dict[str, Any]:
    """The YAML of a learned preset by name, or of a .yaml file, as a mapping."""
    known = presets().get(str(preset))
    return known.values() if known is not None and known.settings is not None else read_preset(preset)


def system_of(preset: str | Path) -> System:
    """The learned system of a preset's name or .yaml file."""
    return find_system(values_of(preset).get("forecaster"), f"preset {str(preset)!r}")


def options_of(name: str) -> frozenset[str]:
    """Names of the options that `make_forecaster(name, ...)` takes by name; none for an unknown one."""
    (name, given), known = split_name(name), presets()
    if name in known:
        return known[name].options() - set(given)
    if Path(name).is_dir():
        from .common.pretrained import kind_of

        kind = kind_of(name)
        found = known[kind].options() if _saved_by_name(kind) else find_system(kind, name).all_options()
        return frozenset(found) - {CHECKPOINT}  # the folder is the checkpoint
    return frozenset()


def _saved_by_name(kind: str) -> bool:
    """Whether folders of this kind hold what a preset without a network of its own has learned."""
    preset = presets().get(kind)
    return preset is not None and preset.system is None and CHECKPOINT in preset.options()


def _external(command: str) -> Forecaster:
    from .external.forecaster import ExternalForecaster

    return ExternalForecaster(command)


def _put(preset: Preset) -> None:
    before = _PRESETS.get(preset.name)
    if before is not None and before != preset:
        raise ValueError(f"forecaster {preset.name!r} is registered twice")
    _PRESETS[preset.name] = preset


def _load_all() -> None:
    """Import every record: those of this folder, and those of other packages' entry points."""
    global _loaded
    if _loaded:
        return
    for name in _own_records():
        importlib.import_module(name)
    for point in entry_points(group=ENTRY_POINTS):
        try:
            point.load()
        except Exception as error:  # it must not take the others with it
            told = " ".join(str(error).split()) or type(error).__name__
            _logger.warning("forecasters of entry point %s = %s are left out: %s", point.name, point.value, told)
    _loaded = True


def _own_records() -> Iterator[str]:
    """Modules of this folder that register: naive/*, and <system>/system."""
    here = importlib.import_module(__package__)
    for path in here.__path__:
        for folder in pkgutil.iter_modules([path]):
            inside = [module.name for module in pkgutil.iter_modules([str(Path(path) / folder.name)])]
            wanted = inside if folder.name == NAIVE else [RECORD] if RECORD in inside else []
            yield from (f"{__package__}.{folder.name}.{module}" for module in wanted)
