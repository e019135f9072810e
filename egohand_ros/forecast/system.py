"""A learned system as a record: what there is to know of it before anything of it is loaded.

The record stands in the system's own folder, `system.py`, and names the rest by references "module:attribute", which
are followed when a forecaster is made or trained. So a record costs nothing at start, and it may name what stands on a
floor above, as an objective in `training/`.
"""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import from_mapping, read_preset
from ..errors import UserError

if TYPE_CHECKING:
    from .common.protocol import Forecaster, ForecasterSpec

# "package.module:attribute", or the thing itself.
Reference = str | Callable[..., Any]

CHECKPOINT = "checkpoint"


def resolve(reference: Reference) -> Any:
    """What a reference names; imports its module."""
    if not isinstance(reference, str):
        return reference
    module, _, attribute = reference.partition(":")
    return reduce(getattr, attribute.split("."), importlib.import_module(module))


@dataclass(frozen=True)
class Stage:
    """One stage of training, by `egohand train PRESET --stage NAME`; a later one goes on from the result of an earlier
    one, given by --init.

    objective   -> class: objective(forecaster, weights of the loss), see `training/objectives/objective.py`
    settings    the part of the preset's YAML that is laid over its `training` in this stage; "" is none
    trains_on   windows (of recordings and generated episodes), or goals (generated scenes with pictures and words)
    prepare     -> function(forecaster, the preset's YAML, device) -> forecaster, made ready for this stage
    whole       whether all of the network is trained; then fine-tuning keeps what helps, and deviations are calibrated
    """

    name: str
    summary: str
    objective: Reference
    settings: str = ""
    trains_on: str = "windows"
    prepare: Reference | None = None
    whole: bool = True


@dataclass(frozen=True)
class PublicWeights:
    """Weights that their authors published, read into a new network by a key map.

    option     of `make_forecaster` and the node that takes the path; "checkpoint": the whole system's
    what       it is, from where, and its licence
    load       -> function(module, path)
    part       of the network that they are for; "" is all of it
    recognized -> function(path) -> whether a checkpoint is theirs and no forecaster of ours; by default a file is
    config     -> function(config) -> the one that they were trained with, where it is not the preset's
    shipped    -> function(config) -> path of those that come with this package, with which new weights begin where none
               are given; None for configurations that they do not fit
    """

    option: str
    what: str
    load: Reference
    part: str = ""
    recognized: Reference | None = None
    config: Reference | None = None
    shipped: Reference | None = None

    def is_of(self, checkpoint: str | Path) -> bool:
        """Whether a checkpoint is what their authors published."""
        return resolve(self.recognized)(checkpoint) if self.recognized is not None else Path(checkpoint).is_file()


@dataclass(frozen=True)
class Preset:
    """A forecaster by name: what `factory` makes, or a learned system with these settings.

    settings   YAML file of a learned one; by default config/forecasters/<name>.yaml
    weights    folder of the weights that come with it
    device     on which it runs unless told
    given      options by name that it has unless told otherwise
    """

    name: str
    summary: str
    factory: Reference | None = None
    system: System | None = field(default=None, repr=False)
    settings: Path | None = None
    weights: Path | None = None
    device: str = "cpu"
    given: tuple[tuple[str, Any], ...] = ()

    def make(self, **options) -> Forecaster:
        """The forecaster. Raises `UserError` where it has no weights and none are given, and TypeError for an option
        that it does not take."""
        if self.system is None:
            return resolve(self.factory)(**options)
        unknown = sorted(set(options) - self.options())
        if unknown:
            raise TypeError(f"{self.name} takes no {', '.join(unknown)}; it takes {', '.join(sorted(self.options()))}")
        untrained, checkpoint = options.pop("untrained", False), options.pop(CHECKPOINT, None)
        options = dict(self.given) | {"device": self.device} | options
        if checkpoint is None and not untrained:
            checkpoint = self.weights if self.weights is not None and self.weights.is_dir() else None
            if checkpoint is None:
                raise UserError(self.lacks_weights)
        if checkpoint is None:
            return self.system.new(self.name, self.values(), **options)
        if self.system.reads(checkpoint):
            return self.system.new(self.name, self.values(), **{CHECKPOINT: checkpoint}, **options)
        return self.system.load(checkpoint, **options)

    @property
    def lacks_weights(self) -> str:
        if self.system is not None and not self.system.stages:
            return (
                f"{self.name} has no shipped weights; give checkpoint=FILE of its authors, or untrained=true to "
                "measure its speed"
            )
        return (
            f"{self.name} has no shipped weights; give checkpoint=FOLDER (train one with `egohand train {self.name}`), "
            "on the command line --forecaster FOLDER, or untrained=true to measure its speed"
        )

    def options(self) -> frozenset[str]:
        """Names of the options of `make`."""
        if self.system is None:
            return frozenset(inspect.signature(resolve(self.factory)).parameters)
        return frozenset((CHECKPOINT, "untrained", *self.system.all_options()))

    def values(self) -> dict[str, Any]:
        """Its YAML as a mapping."""
        return read_preset(self.settings if self.settings is not None else self.name)

    def spec(self) -> ForecasterSpec:
        """What it needs and gives; no weights and no network are loaded."""
        if self.system is None:
            return resolve(self.factory)().spec
        if self.weights is not None and (self.weights / "config.json").is_file():
            described = json.loads((self.weights / "config.json").read_text())
            config = {key: value for key, value in described.items() if key not in ("forecaster", "preset")}
            calibrated = (self.weights / "calibration.json").is_file()
            return self.system.spec_of(config, self.name, calibrated, **dict(self.given))
        return self.system.spec_of(self.values().get("model", {}), self.name, **dict(self.given))


@dataclass(frozen=True)
class System:
    """A learned system. `->` marks a reference.

    name         its kind: `forecaster:` of a preset's YAML and of a saved config.json
    config       -> dataclass of `model:` in the YAML
    network      -> function(config) -> nn.Module, its weights new
    forecaster   -> class(config, network, preset=name, device=..., ...) with `spec`, `forecast`, `network`,
                 `calibration`, `preset`, save_pretrained(folder), and from_pretrained(folder or hub id, ...)
    spec         -> function(config, preset, calibrated=False) -> ForecasterSpec, in a module without torch
    presets      its forecasters by name
    stages       of its training, in their order
    options      of the forecaster that a user may give, besides the device
    public       weights by their authors
    saves        names of what save_pretrained leaves besides weights, config and calibration
    """

    name: str
    config: Reference
    network: Reference
    forecaster: Reference
    spec: Reference
    presets: tuple[Preset, ...]
    stages: tuple[Stage, ...]
    options: tuple[str, ...] = ()
    public: tuple[PublicWeights, ...] = ()
    saves: tuple[str, ...] = ()

    def read_config(self, values: dict[str, Any], where: str) -> Any:
        """The config of a mapping; `UserError` names what is wrong in it."""
        return from_mapping(resolve(self.config), values, where)

    def spec_of(self, values: dict[str, Any], preset: str, calibrated: bool = False, **options: Any) -> ForecasterSpec:
        return resolve(self.spec)(self.read_config(values, f"{preset}: model"), preset, calibrated, **options)

    def new(self, preset: str, values: dict[str, Any], **options) -> Forecaster:
        """A forecaster of a preset's YAML, its weights new but for the public ones that options name."""
        given = {public: options.pop(public.option, None) for public in self.public}
        config = self.read_config(values.get("model", {}), f"{preset}: model")
        for public, path in given.items():
            if path is not None and public.config is not None:
                config = resolve(public.config)(config)
            if path is None and public.shipped is not None:
                given[public] = resolve(public.shipped)(config)
        network = resolve(self.network)(config)
        for public, path in given.items():
            if path is not None:
                resolve(public.load)(getattr(network, public.part) if public.part else network, path)
        return resolve(self.forecaster)(config, network, preset=preset, **options)

    def load(self, checkpoint: str | Path, **options) -> Forecaster:
        """The forecaster that was saved in a folder or on the hub."""
        for public in self.public:
            if options.pop(public.option, None) is not None:
                raise UserError(f"{public.option}= is for new weights, and {checkpoint} has its own; leave one out")
        return resolve(self.forecaster).from_pretrained(checkpoint, **options)

    def reads(self, checkpoint: str | Path) -> bool:
        """Whether a checkpoint is the authors' own, to be read by its key map."""
        return any(public.option == CHECKPOINT and public.is_of(checkpoint) for public in self.public)

    def all_options(self) -> tuple[str, ...]:
        return ("device", *self.options, *(public.option for public in self.public))

    def stage(self, name: str = "", trains_on: str = "") -> Stage:
        """A stage by its name, or the first one that is trained on something; by default the first.

        Raises `UserError` that lists the stages.
        """
        for stage in self.stages:
            if name in ("", stage.name) and trains_on in ("", stage.trains_on):
                return stage
        if not self.stages:
            raise UserError(f"{self.name} cannot be trained here; give checkpoint=FILE of its authors where it is used")
        wanted = f"stage {name!r}" if name else f"stage that is trained on {trains_on}"
        known = ", ".join(f"{stage.name} ({stage.summary})" for stage in self.stages)
        raise UserError(f"{self.name} has no {wanted}; it has {known}")


def system_of_authors(
    package: str,
    name: str,
    *,
    config: str,
    network: str,
    forecaster: str,
    load: str,
    what: str,
    presets: tuple[Preset, ...],
    stages: tuple[Stage, ...] = (),
    options: tuple[str, ...] = (),
) -> System:
    """The record of a system whose authors published one file of weights, and whose folder `package` has config.py (the
    class `config`, and spec_of), network.py, forecaster.py and weights.py (the function `load`); `what` says from where
    the file is, and its licence. `network` may be in another module: "config:make_network"."""
    return System(
        name=name,
        config=f"{package}.config:{config}",
        network=f"{package}.{network}" if ":" in network else f"{package}.network:{network}",
        forecaster=f"{package}.forecaster:{forecaster}",
        spec=f"{package}.config:spec_of",
        presets=presets,
        stages=stages,
        options=options,
        public=(PublicWeights(CHECKPOINT, what, f"{package}.weights:{load}"),),
    )
