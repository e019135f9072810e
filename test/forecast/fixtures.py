"""One scheme for every comparison with a public network: weights by formula, stored numbers, the authors' own code.

A system's module `parity_<system>.py` says at which sizes it is compared, gives the inputs, and runs the authors'
modules. `python test/forecast/parity_<system>.py` with `<SYSTEM>_SOURCE` set writes data/<system>.npz anew: names and
shapes of the parameters, the constants among them, and the outputs. Weights are not stored: parameter i of the sorted
names is made from `default_rng([SEED, i])`, so that anybody can make them again. No public code is stored.
"""

import contextlib
import importlib
import json
import os
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

SEED = 20261
TOLERANCE = 1e-5


def fixture_path(system: str) -> Path:
    return Path(__file__).parent / "data" / f"{system}.npz"


def formula_state(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, torch.Tensor]:
    """A state dict that depends on nothing but names, shapes and the seed, and keeps activations near one."""
    return {name: _formula(name, tuple(shapes[name]), [SEED + seed, i]) for i, name in enumerate(sorted(shapes))}


def _formula(name: str, shape: tuple[int, ...], seed: list[int]) -> torch.Tensor:
    random = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    if name.endswith("running_var"):
        return torch.from_numpy(1.0 + 0.1 * np.abs(random))
    if len(shape) >= 2:
        return torch.from_numpy(random / np.float32(np.sqrt(max(np.prod(shape[1:]), 1))))
    return torch.from_numpy(0.1 * random + (1.0 if name.endswith("weight") else 0.0)).float()


def numbers(*shape: int, seed: int) -> torch.Tensor:
    """Standard normal float32, the same everywhere."""
    return torch.from_numpy(np.random.default_rng([SEED, 1000 + seed]).normal(size=shape).astype(np.float32))


def uniform(*shape: int, seed: int) -> torch.Tensor:
    """Uniform float32 in [0, 1), the same everywhere."""
    return torch.from_numpy(np.random.default_rng([SEED, 5000 + seed]).random(size=shape).astype(np.float32))


class Noise:
    """The noise of a sampling run: of step t it depends on the seed and t alone."""

    def __init__(self, seed: int):
        self.seed = seed

    def __call__(self, like: torch.Tensor, t: int) -> torch.Tensor:
        return numbers(*like.shape, seed=100_000 * (1 + self.seed) + t)

    @contextlib.contextmanager
    def instead_of_torch(self, steps: int) -> Iterator[None]:
        """Authors' samplers draw their noise themselves, once at the start and once a step: those draws are
        replaced."""
        drawn, times = (torch.randn, torch.randn_like), iter(reversed(range(steps)))

        def randn(*shape, **_):
            shape = shape[0] if isinstance(shape[0], (tuple, list, torch.Size)) else shape
            return self(torch.empty(*shape), steps)

        torch.randn, torch.randn_like = randn, lambda like, **_: self(like, next(times))
        try:
            yield
        finally:
            torch.randn, torch.randn_like = drawn


def relative_error(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """The largest difference, relative to the largest number of theirs."""
    ours, theirs = torch.as_tensor(ours), torch.as_tensor(theirs)
    assert ours.shape == theirs.shape, f"{tuple(ours.shape)} and {tuple(theirs.shape)}"
    assert torch.isfinite(theirs).all() and theirs.abs().max() > 0
    return float((ours.double() - theirs.double()).abs().max() / theirs.double().abs().max())


def assert_equal(ours, theirs, tolerance: float = TOLERANCE) -> float:
    error = relative_error(ours, theirs)
    assert error < tolerance, f"largest relative difference {error:.2e}"
    return error


def store(system: str, **arrays) -> None:
    fixture_path(system).parent.mkdir(exist_ok=True)
    plain = {k: v.numpy() if isinstance(v, torch.Tensor) else v for k, v in arrays.items()}
    np.savez_compressed(fixture_path(system), **plain)


def stored(system: str) -> dict[str, np.ndarray]:
    with np.load(fixture_path(system)) as file:
        return {name: file[name] for name in file.files}


def shapes_of(state: dict[str, torch.Tensor]) -> str:
    return json.dumps({name: list(tensor.shape) for name, tensor in state.items()})


def from_shapes(text) -> dict[str, tuple[int, ...]]:
    return {name: tuple(shape) for name, shape in json.loads(str(text)).items()}


def source(system: str) -> Path:
    """The folder of the authors' code, from `<SYSTEM>_SOURCE`; the test is skipped where it is not set."""
    name = f"{system.upper()}_SOURCE"
    if not os.environ.get(name):
        pytest.skip(f"set {name} to a clone of the authors' repository to compare with it")
    return Path(os.environ[name])


@contextlib.contextmanager
def authors_modules(*folders: Path, stand_ins: dict[str, types.ModuleType] | None = None) -> Iterator[object]:
    """Gives `importlib.import_module`; what it imports from `folders` is gone from sys.modules afterwards, so that the
    authors' `utils` and `models` hide nobody else's. `stand_ins` are modules for names that need not be installed."""
    before, path = dict(sys.modules), list(sys.path)
    sys.modules.update(stand_ins or {})
    sys.path[:0] = [str(folder) for folder in folders]
    try:
        yield importlib.import_module
    finally:
        sys.path[:] = path
        new = {name: module for name, module in sys.modules.items() if name not in before}
        # All places first: that of a namespace package is looked up in its parent.
        places = {k: [vars(m).get("__file__") or "", *map(str, vars(m).get("__path__", ()))] for k, m in new.items()}
        for name in new:
            if name in (stand_ins or {}) or any(p.startswith(str(f)) for p in places[name] for f in folders):
                del sys.modules[name]


def module(name: str, **names) -> types.ModuleType:
    """A module that has just these names."""
    made = types.ModuleType(name)
    made.__path__ = []
    vars(made).update(names)
    return made
