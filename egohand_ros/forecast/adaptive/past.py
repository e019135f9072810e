"""What is known of a hand's past, as vectors.

A *kind* is a part of the hand that is forecast on its own: the wrist's place, its rotation as rotation vectors from
where it is now, the articulation of the fingers in the palm frame. Each is J points (1, 1, 20); all are displacements
from now.
"""

import numpy as np

from ..common.observed import Observed, log_rotation

WRIST_PLACE, ROTATION, FINGERS = 0, 1, 2
KINDS = ("wrist", "rotation", "fingers")
LAGS = (1, 2, 3, 5, 8, 12, 19)  # observations back
DENSE = (1.0 / 30.0, 2.0 / 30.0)  # s back, where the stream is denser than the window
VECTORS = len(LAGS) + 1 + len(DENSE)


def vectors(observed: Observed) -> np.ndarray:
    """(2, N, VECTORS, 3) displacements of wrist and rotation to now, of N = 2 B hands (row 2 b + side): from `LAGS`
    observations ago, from the mean of the window, and from `DENSE` s ago as far as the window alone can tell.
    """
    rows = lambda array: np.moveaxis(array, 2, 1).reshape(-1, array.shape[1], *array.shape[3:])  # noqa: E731
    wrist = _filled(rows(observed.wrist), rows(observed.wrist_valid))
    turned = rows(log_rotation(observed.rotation @ observed.rotation[:, -1:].swapaxes(-1, -2)))
    back = np.stack([wrist - wrist[:, -1:], turned])
    last = back.shape[2] - 1
    index = [last - min(lag, last) for lag in LAGS]
    recent = [-back[:, :, max(last - 1, 0)] * (10.0 * ago) for ago in DENSE]
    return np.concatenate([-back[:, :, index], -back.mean(axis=2)[:, :, None], np.stack(recent, axis=2)], axis=2)


def _filled(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """values (N, T, 3), where not valid (N, T) those of the last observation before, else of the first one after."""
    if valid.all():
        return values
    time = np.arange(valid.shape[1])
    before = np.maximum.accumulate(np.where(valid, time, -1), axis=1)
    index = np.where(before >= 0, before, np.argmax(valid, axis=1)[:, None])
    return np.take_along_axis(values, index[..., None], axis=1)
