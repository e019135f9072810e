"""The networks of `egohand-motion`, in NumPy: on inputs this small it is several times faster than torch."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import UserError
from .features import NUMBERS, VECTORS, Past

COUNTED = 0.1  # by how much an output of 1 counts a vector
CLIP = 5.0  # standard deviations, of inputs


def gelu(x: np.ndarray) -> np.ndarray:
    """Gaussian error linear unit by its tangent (Hendrycks and Gimpel, 2016, eq. 2)."""
    return 0.5 * x * (1.0 + np.tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))


@dataclass(frozen=True)
class MotionNetwork:
    """Perceptron from a point's `numbers` to what counts of its vectors, and of the Kalman forecast, at S steps.

    mean, deviation (NUMBERS,) of the inputs; weights and biases of three layers; the last gives S (VECTORS + 1).
    """

    mean: np.ndarray
    deviation: np.ndarray
    weights: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]

    def __call__(self, past: Past, kalman: np.ndarray) -> np.ndarray:
        """Displacements (N, S, 3) from now; `kalman` (N, S, 3) are those of its forecast."""
        x = np.clip((past.numbers - self.mean) / self.deviation, -CLIP, CLIP)
        *inner, last = zip(self.weights, self.biases, strict=True)
        for weight, bias in inner:
            x = gelu(x @ weight.T + bias)
        counts = (x @ last[0].T + last[1]).reshape(len(x), kalman.shape[1], VECTORS + 1)
        return COUNTED * counts[..., :VECTORS] @ past.vectors + counts[..., VECTORS:] * kalman


def read_networks(path: Path, kinds: tuple[str, ...], steps: int) -> tuple[MotionNetwork, ...]:
    """The network of each kind in a .safetensors file: `<kind>.mean`, `.deviation`, `.weight0`, `.bias0`, ..."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        arrays = load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot read weights {path}: {error}") from None
    networks = []
    for kind in kinds:
        try:
            weights, biases = (tuple(arrays[f"{kind}.{part}{i}"] for i in range(3)) for part in ("weight", "bias"))
            network = MotionNetwork(arrays[f"{kind}.mean"], arrays[f"{kind}.deviation"], weights, biases)
        except KeyError as error:
            raise UserError(f"{path} is not of egohand-motion: it lacks {error}") from None
        if weights[0].shape[1] != NUMBERS or len(biases[-1]) != steps * (VECTORS + 1):
            raise UserError(
                f"{path} has networks of {weights[0].shape[1]} inputs and {len(biases[-1])} outputs; "
                f"expected {NUMBERS} and {steps * (VECTORS + 1)}"
            )
        networks.append(network)
    return tuple(networks)
