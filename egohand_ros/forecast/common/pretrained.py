"""Learned forecasters on disk, the Hugging Face way: a folder or hub id with config.json, model.safetensors,
calibration.json.

Normalisation is part of the weights: buffers of the network. The files of a folder are replaced one by one and whole.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from ...config import from_mapping, to_mapping
from ...errors import UserError
from ...outputs import replaced_file
from .calibration import Calibration
from .protocol import ForecasterSpec

WEIGHTS, CONFIG, CALIBRATION = "model.safetensors", "config.json", "calibration.json"


@dataclass(frozen=True)
class Pretrained:
    """What a folder holds. `kind` names the architecture, `hash` the weights (first 12 hex digits of their SHA-256)."""

    folder: Path
    kind: str
    preset: str
    config: dict[str, Any]
    calibration: Calibration | None
    hash: str

    def load_into(self, network: nn.Module) -> None:
        """Fill a network; `UserError` where the weights are not those of this configuration."""
        path = self.folder / WEIGHTS
        try:
            state = load_file(path)
        except (OSError, SafetensorError) as error:
            raise UserError(f"cannot read weights {path}: {error}") from None
        own = network.state_dict()
        wrong = [k for k in own if k not in state or state[k].shape != own[k].shape] + [
            k for k in state if k not in own
        ]
        if wrong:
            raise UserError(f"{path} does not fit its config.json: {len(wrong)} tensors differ, first {wrong[0]!r}")
        network.load_state_dict(state)


def save_pretrained(
    folder: Path | str,
    kind: str,
    preset: str,
    config: dict[str, Any],
    network: nn.Module,
    calibration: Calibration | None,
) -> None:
    """Write a folder that `find_pretrained` reads back."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    replace_file(folder / WEIGHTS, lambda path: save_file(state, path, metadata={"format": "pt"}))
    described = {"forecaster": kind, "preset": preset, **config}
    replace_file(folder / CONFIG, lambda path: Path(path).write_text(json.dumps(described, indent=2) + "\n"))
    if calibration is not None:
        replace_file(folder / CALIBRATION, lambda path: calibration.save(Path(path)))
    else:
        (folder / CALIBRATION).unlink(missing_ok=True)  # it was made for other weights


def kind_of(path_or_id: str | Path) -> str:
    """Which kind of forecaster a folder or hub id holds."""
    return _read_config(_local_folder(path_or_id))["forecaster"]


def find_pretrained(path_or_id: str | Path, kind: str) -> Pretrained:
    """A local folder, or a repository on the Hugging Face hub, that holds a forecaster of this kind."""
    folder = _local_folder(path_or_id)
    described = _read_config(folder)
    preset, found = described.pop("preset"), described.pop("forecaster")
    if found != kind:
        raise UserError(f"{folder} holds a forecaster of kind {found!r}; {kind!r} is expected")
    if not (folder / WEIGHTS).is_file():
        raise UserError(f"{folder} has no {WEIGHTS}")
    calibration = Calibration.load(folder / CALIBRATION) if (folder / CALIBRATION).is_file() else None
    with open(folder / WEIGHTS, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:12]
    return Pretrained(folder, found, preset, described, calibration, digest)


class SavedForecaster:
    """A forecaster of a network and a calibration: how it is made, saved and found again, where it has nothing of its
    own.

    A class says its `kind`, the dataclass of its configuration, how its network is made of one, and what it then needs
    and gives; its constructor takes config, network, calibration, preset and checkpoint_hash, then options of its own.
    """

    kind: ClassVar[str]
    config_class: ClassVar[type]
    config: Any
    network: nn.Module
    calibration: Calibration | None
    preset: str
    spec: ForecasterSpec

    def __init__(
        self,
        config: Any,
        network: nn.Module | None = None,
        calibration: Calibration | None = None,
        preset: str = "",
        checkpoint_hash: str = "",
        device: str = "cpu",
    ):
        self.config, self.calibration, self.preset = config, calibration, preset or self.kind
        self.device = choose_device(device)
        self.network = (network or self.make_network(config)).to(self.device).eval()
        self.spec = self.spec_of(config, self.preset, calibration is not None, checkpoint_hash)

    @staticmethod
    def make_network(config: Any) -> nn.Module:
        """The network of a configuration, its weights new."""
        raise NotImplementedError

    @staticmethod
    def spec_of(config: Any, preset: str, calibrated: bool, checkpoint_hash: str) -> ForecasterSpec:
        """What a forecaster of a configuration needs and gives."""
        raise NotImplementedError

    @classmethod
    def from_pretrained(cls, path_or_id: str | Path, **options: Any) -> Self:
        """From a folder or hub id that `save_pretrained` wrote; options as of the constructor."""
        found = find_pretrained(path_or_id, cls.kind)
        config: Any = from_mapping(cls.config_class, found.config, str(found.folder / CONFIG))
        network = cls.make_network(config)
        found.load_into(network)
        make: Callable[..., Self] = cls
        return make(config, network, found.calibration, found.preset, found.hash, **options)

    def save_pretrained(self, folder: Path | str) -> None:
        """Weights, configuration and calibration."""
        save_pretrained(folder, self.kind, self.preset, to_mapping(self.config), self.network, self.calibration)


def replace_file(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file whole or not at all: `write(temporary path)`, flushed to disk, then renamed over `path`."""
    with replaced_file(path) as temporary:
        write(temporary)


def choose_device(device: str) -> torch.device:
    """The device of a name; "auto" is the GPU where there is one."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise UserError(f"device {device!r} is unknown; expected auto, cpu or cuda") from None
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device {device!r} is asked for, but torch sees no GPU; use device auto or cpu")
    return chosen


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        described = json.loads((folder / CONFIG).read_text())
        _ = described["preset"], described["forecaster"]
        return described
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder} holds no forecaster: {CONFIG} is missing or not ours ({error})") from None


def _local_folder(path_or_id: str | Path) -> Path:
    folder = Path(path_or_id).expanduser()
    if folder.is_dir():
        return folder
    text = str(path_or_id)
    if text.count("/") != 1 or text.startswith((".", "/", "~")):
        raise UserError(f"no folder {text!r}; expected one with {CONFIG} and {WEIGHTS}, or a hub id owner/name")
    from huggingface_hub import snapshot_download  # only for what is not on this disk
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(text, allow_patterns=["*.json", "*.safetensors", "*.txt", "*.model"]))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(f"cannot fetch {text!r} from the hub: {' '.join(str(error).split())[:200]}") from None
