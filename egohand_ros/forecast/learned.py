"""The learned presets. Each is a file config/forecasters/<name>.yaml and a factory here; networks load when one is
made."""

from pathlib import Path

from ..config import from_mapping, read_preset
from ..errors import UserError
from .common.protocol import Forecaster
from .registry import register, register_loader

# Weights that come with the package, by preset.
_WEIGHTS = Path(__file__).parent / "weights"


def untrained(preset: str, **options) -> Forecaster:
    """A preset's forecaster before training; `preset` is a shipped name or a .yaml file.

    Options are `device` and, for EggHand, those of `egghand`'s factory that name public weights.
    """
    values = read_preset(preset)
    kind, name = values.get("forecaster"), values.get("name", Path(preset).stem)
    if kind == "egohand-small":
        from .small.forecaster import SmallConfig, SmallForecaster

        return SmallForecaster(
            from_mapping(SmallConfig, values.get("model", {}), f"{name}: model"), preset=name, **options
        )
    if kind == "egghand":
        return _new_egghand(name, values, **options)
    raise UserError(f"preset {name!r} has forecaster {kind!r}; known: egghand, egohand-small")


def from_pretrained(checkpoint: str | Path, **options) -> Forecaster:
    """The forecaster of a folder or hub id, whatever its kind."""
    from .common.pretrained import kind_of

    kind = kind_of(checkpoint)
    if kind == "egohand-small":
        from .small.forecaster import SmallForecaster

        return SmallForecaster.from_pretrained(checkpoint, **options)
    from .egghand.forecaster import EggHandForecaster

    return EggHandForecaster.from_pretrained(checkpoint, **options)


def _new_egghand(
    name: str, values: dict, action_head: str | None = None, egovideo: str | None = None, **options
) -> Forecaster:
    from .egghand.forecaster import EggHandForecaster
    from .egghand.model import EggHandConfig, EggHandNetwork
    from .egghand.weights import load_action_head, load_egovideo

    config = from_mapping(EggHandConfig, values.get("model", {}), f"{name}: model")
    network = EggHandNetwork(config, pretrained_encoder=config.huggingface is not None)
    if action_head is not None:
        load_action_head(network.head, action_head)
    if egovideo is not None:
        if config.egovideo is None:
            raise UserError(f"preset {name!r} has no EgoVideo encoder; leave out egovideo=")
        load_egovideo(network.encoder, egovideo)
    return EggHandForecaster(config, network, preset=name, **options)


def _egghand(name: str, checkpoint: str | Path | None, untrained_weights: bool, options: dict) -> Forecaster:
    if checkpoint is not None:
        return from_pretrained(checkpoint, **options)
    if not untrained_weights:
        raise UserError(
            f"{name} has no shipped weights; give checkpoint=FOLDER (train one with `egohand train {name}`), or "
            "untrained=true to measure its speed"
        )
    return untrained(name, **options)


def _shipped(preset: str, checkpoint: str | Path | None, device: str) -> Forecaster:
    from .small.forecaster import SmallForecaster

    folder = checkpoint or _WEIGHTS / preset
    if checkpoint is None and not folder.is_dir():
        raise UserError(f"{preset} has no shipped weights in this build; give checkpoint=FOLDER (see docs/training.md)")
    return SmallForecaster.from_pretrained(folder, device)


register_loader("egohand-small", from_pretrained)
register_loader("egghand", from_pretrained)


@register("egohand-small", "learned correction of `kalman`; shipped weights; milliseconds on a CPU")
def egohand_small(checkpoint: str | Path | None = None, device: str = "cpu") -> Forecaster:
    """From `checkpoint` (folder or hub id), otherwise from the shipped weights."""
    return _shipped("egohand-small", checkpoint, device)


@register("egohand-follow", "as egohand-small, the next 0.4 s at 30 Hz: what a robot that follows a hand needs")
def egohand_follow(checkpoint: str | Path | None = None, device: str = "cpu") -> Forecaster:
    """From `checkpoint` (folder or hub id), otherwise from the shipped weights."""
    return _shipped("egohand-follow", checkpoint, device)


@register("egghand", "EggHand at full size: EgoVideo encoder and GR00T-N1.5-style head; give a checkpoint")
def egghand(
    checkpoint: str | Path | None = None,
    device: str = "auto",
    untrained: bool = False,
    precision: str = "float32",
    compile: bool = False,
    **options,
) -> Forecaster:
    """From `checkpoint`, or with random weights if `untrained`.

    `precision` is float32, bfloat16 or float16; `compile` records CUDA graphs. Options: tokenizer (folder or hub id),
    and with random weights action_head (GR00T N1.5 or EggHand checkpoint) and egovideo (EgoVideo checkpoint), local
    paths.
    """
    return _egghand(
        "egghand", checkpoint, untrained, {"device": device, "precision": precision, "compile": compile, **options}
    )


@register("egghand-hf", "EggHand around a Hugging Face vision and text encoder (SigLIP 2); give a checkpoint")
def egghand_hf(
    checkpoint: str | Path | None = None,
    device: str = "auto",
    untrained: bool = False,
    precision: str = "float32",
    compile: bool = False,
    **options,
) -> Forecaster:
    """As `egghand`, without `egovideo`; fetches the encoder from the hub where it is not on this machine."""
    return _egghand(
        "egghand-hf", checkpoint, untrained, {"device": device, "precision": precision, "compile": compile, **options}
    )
