"""What is known of human motion before a person is: coefficients of the past, by a small network of its context.

The weights are fitted by `python -m egohand_ros.training.fit_adaptive` on real recordings; `prior.json` beside them
names those.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from .past import CONTEXT, KINDS, VECTORS

WEIGHTS = Path(__file__).with_name("prior.safetensors")
INPUTS = 2 + VECTORS  # displacements by `kalman` and `damped`, then the vectors of the past
STEP, STEPS = 0.1, 10
_LIMIT = 4.0  # deviations from the usual at which a context stops to matter
GAIN = 0.3
START = 0.8  # of `kalman`, before training


@dataclass(frozen=True)
class Prior:
    """Of one kind: context (N, CONTEXT) -> coefficients (N, STEPS, INPUTS). Two hidden layers; the mean of several
    networks.
    """

    mean: np.ndarray
    spread: np.ndarray
    layers: tuple[tuple[np.ndarray, np.ndarray], ...]  # weights (M, in, out) and biases (M, 1, out)

    def __call__(self, context: np.ndarray) -> np.ndarray:
        value = np.clip((context - self.mean) / self.spread, -_LIMIT, _LIMIT)[None]
        *hidden, (weight, bias) = self.layers
        for inner, offset in hidden:
            value = np.tanh(value @ inner + offset)
        found = GAIN * (value @ weight + bias).mean(0).reshape(-1, STEPS, INPUTS)
        found[..., 0] += START
        return found


def load_priors(path: Path = WEIGHTS) -> list[Prior | None]:
    """One of each kind; None for a kind that has no weights."""
    if not path.is_file():
        return [None] * len(KINDS)
    arrays = {name: array.astype(np.float64) for name, array in load_file(path).items()}
    return [_prior(arrays, kind) if f"{kind}.mean" in arrays else None for kind in KINDS]


def _prior(arrays: dict[str, np.ndarray], kind: str) -> Prior:
    layers = tuple((arrays[f"{kind}.weight{i}"], arrays[f"{kind}.bias{i}"]) for i in range(3))
    if layers[0][0].shape[1] != CONTEXT:
        raise ValueError(f"prior of {kind} takes {layers[0][0].shape[1]} numbers; expected {CONTEXT}")
    return Prior(arrays[f"{kind}.mean"], arrays[f"{kind}.spread"], layers)
