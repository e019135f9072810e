"""Pickled sequences of one hand's 21 keypoints (as dexsuite/dex-retargeting stores them) -> `Episode`.

The file is a list of arrays (21, 3) m, or None where the hand was not found. Only arrays are unpickled, nothing is run.
"""

import pickle
from pathlib import Path

import numpy as np

from ...errors import UserError
from ...hand.skeleton import NUM_KEYPOINTS, RIGHT, SIDES
from ..episode import Episode

_ALLOWED = {
    (module, name)
    for module in ("numpy", "numpy.core.multiarray", "numpy._core.multiarray")
    for name in ("ndarray", "dtype", "scalar", "_reconstruct")
}


class ArraysOnly(pickle.Unpickler):
    """Unpickles plain values and numpy arrays; anything else is an `UnpicklingError`, and nothing of it is run."""

    def find_class(self, module: str, name: str):
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it contains a {module}.{name}; only arrays are read")
        return super().find_class(module, name)


def load_keypoints_pickle(path: Path | str, rate: float = 30.0) -> Episode:
    """Read keypoints at `rate` Hz. The side is the one in the file's name, otherwise right.

    Raises `UserError` for a file that is not a sequence of (21, 3) arrays.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            frames = list(ArraysOnly(file).load())
        arrays = [np.full((NUM_KEYPOINTS, 3), np.nan) if f is None else np.asarray(f, dtype=np.float64) for f in frames]
    except (pickle.UnpicklingError, EOFError, TypeError, ValueError, AttributeError, ImportError, IndexError) as error:
        raise UserError(f"{path} cannot be read as keypoints: {error}; expected a list of (21, 3) arrays") from None
    odd = {array.shape for array in arrays} - {(NUM_KEYPOINTS, 3)}
    if odd or not arrays:
        raise UserError(f"{path} has frames of shape {sorted(odd) or 'none'}; expected a list of (21, 3) arrays in m")
    keypoints = np.full((len(arrays), 2, NUM_KEYPOINTS, 3), np.nan)
    side = next((i for i, name in enumerate(SIDES) if name in path.stem.lower()), RIGHT)
    keypoints[:, side] = np.stack(arrays)
    return Episode(np.arange(len(arrays)) / rate, keypoints, np.isfinite(keypoints).all(axis=-1))
