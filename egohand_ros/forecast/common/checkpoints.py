"""Checkpoints as others publish them -> plain tensors by name, without running anything that is in the file.

Lightning keeps its weights under `state_dict`, DeepSpeed under `module` (in a folder, as mp_rank_00_model_states.pt),
others under `model` or at the top. Beside them lie settings of classes that are not installed here; `weights_only`
stays on, and each such class is read as an inert stand-in.
"""

import json
import re
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...errors import UserError

# (pattern, replacement); a replacement of None leaves the tensor out on purpose.
KeyMap = tuple[tuple[str, str | None], ...]

_CONTAINERS = ("state_dict", "module", "model")
_DEEPSPEED = "mp_rank_00_model_states.pt"
_SUFFIXES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")


def read_checkpoint(path: Path | str) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint: a .ckpt, .pth, .pt, .bin or .safetensors file, or the folder that DeepSpeed writes.

    Raises `UserError` where there is none, where it cannot be read, or where it holds no tensors.
    """
    path = _file(Path(path).expanduser())
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    content = _load(path)
    for name in _CONTAINERS:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
            break
    state = {k: v for k, v in content.items() if isinstance(v, torch.Tensor)} if isinstance(content, Mapping) else {}
    if not state:
        raise UserError(f"{path} holds no weights; expected tensors under {', '.join(_CONTAINERS)} or at the top")
    return state


def read_parts(path: Path | str) -> dict[str, torch.Tensor]:
    """As `read_checkpoint`, of one file, or of all parts that a model.safetensors.index.json names beside it."""
    path = Path(path).expanduser()
    if path.suffix != ".json":
        return read_checkpoint(path)
    try:
        parts = sorted(set(json.loads(path.read_text())["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise UserError(f"{path} is no index of weights: {error}; expected model.safetensors.index.json") from None
    state: dict[str, torch.Tensor] = {}
    for part in parts:
        state |= read_checkpoint(path.parent / part)
    return state


def below(state: Mapping[str, torch.Tensor], *prefixes: str) -> dict[str, torch.Tensor]:
    """The tensors below the first prefix that any key has, without it; empty where no prefix fits."""
    for prefix in prefixes:
        found = {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}
        if found:
            return found
    return {}


def rename(state: Mapping[str, torch.Tensor], keys: KeyMap) -> dict[str, torch.Tensor]:
    """Tensors under our names: the first pattern found in a key renames it. `UserError` for a key that no pattern
    knows."""
    renamed = {}
    for key, tensor in state.items():
        for pattern, replacement in keys:
            if re.search(pattern, key):
                if replacement is not None:
                    renamed[re.sub(pattern, replacement, key)] = tensor
                break
        else:
            raise UserError(f"weights contain {key!r} {tuple(tensor.shape)}, which this model has no place for")
    return renamed


def fill(module: nn.Module, state: Mapping[str, torch.Tensor], optional: tuple[str, ...] = ()) -> None:
    """Copy tensors into `module`; `UserError` names what is left over, what is missing (but for the prefixes in
    `optional`) or misshapen."""
    own = module.state_dict()
    for key, tensor in state.items():
        if key not in own:
            raise UserError(f"weights contain {key!r}, which this model's configuration has no place for")
        if own[key].shape != tensor.shape:
            raise UserError(
                f"weight {key!r} has shape {tuple(tensor.shape)}; this model expects {tuple(own[key].shape)}"
            )
    missing = [key for key in own if key not in state and not key.startswith(optional)]
    if missing:
        raise UserError(f"weights lack {len(missing)} tensors of this model, first {missing[0]!r}")
    module.load_state_dict(state, strict=False)


def check_constants(
    state: dict[str, torch.Tensor], expected: Mapping[str, torch.Tensor], why: str, off: float = 1e-6
) -> None:
    """Take the constants out of `state`; `UserError` where one differs from what this configuration has, by more than
    `off` and 1e-4 of it."""
    for key, ours in expected.items():
        theirs = state.pop(key, None)
        if theirs is None:
            continue
        if theirs.shape != ours.shape or not torch.allclose(theirs.double(), ours.double(), rtol=1e-4, atol=off):
            raise UserError(
                f"{key!r} of the checkpoint is not {why} of this configuration; it was trained with another one"
            )


def _file(path: Path) -> Path:
    if path.is_dir():
        candidates = [*sorted(path.rglob(_DEEPSPEED)), *sorted(p for p in path.iterdir() if p.suffix in _SUFFIXES)]
        path = candidates[0] if candidates else path / _DEEPSPEED
    if not path.is_file():
        raise UserError(f"no weights at {path}; expected a {', '.join(_SUFFIXES)} file or a folder of DeepSpeed")
    return path


class _Inert:
    """Stands for a class that is not ours. Its instances are OrderedDicts: torch's safe reader gives those, and no
    others of a stranger's making, whatever items and attributes the file has for them."""

    def __new__(cls, *args: Any, **options: Any) -> Any:
        return OrderedDict()


def _load(path: Path) -> Any:
    try:
        foreign = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        with torch.serialization.safe_globals([(type("Inert", (_Inert,), {}), name) for name in foreign]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises what its parsers meet: pickle, zip, runtime and value errors
        raise UserError(f"cannot read weights {path}: {str(error).splitlines()[0]}") from None
