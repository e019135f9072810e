"""What is known of a hand's past, as vectors and as numbers that do not depend on how its frame is turned.

A *kind* is a part of the hand that is forecast on its own: the wrist's place, its rotation as rotation vectors from
where it is now, the articulation of the fingers in the palm frame. Each is J points (1, 1, 20); all are displacements
from now.
"""

from dataclasses import dataclass

import numpy as np

from ...hand.skeleton import WRIST
from ..common.observed import Observed, log_rotation

WRIST_PLACE, ROTATION, FINGERS = 0, 1, 2
KINDS = ("wrist", "rotation", "fingers")
# Below these (m, rad, m) a displacement is noise.
FLOORS = (2e-3, 1e-2, 5e-4)
LAGS = (1, 2, 3, 5, 8, 12, 19)  # observations back
DENSE = (1.0 / 30.0, 2.0 / 30.0)  # s back, where the stream is denser than the window
MEANS = (5.0, 1e9)  # s over which the place that the hand returns to is averaged
VECTORS = len(LAGS) + len(DENSE) + len(MEANS)
_GAIN_LAGS = (1, 3, 5, 10)
CONTEXT = 8 + 3 + len(_GAIN_LAGS) + 5
# Which numbers of a context grow with the size of the motion, all alike.
SIZES = np.array([0, 1, 2, 3, 4, 5, 6, 7])


@dataclass(frozen=True)
class Past:
    """N hands, one kind of J points.

    back   (N, T, J, 3) where the points were, relative to now, oldest first; what was not seen is filled from beside it
    seen   (N, T) bool, the hand was seen; known (N, J) bool, the point was seen at all
    recent (N, 2, J, 3) displacement from `DENSE` s ago to now; usual (N, 2, J, 3) from the means of `MEANS` to now
    """

    back: np.ndarray
    seen: np.ndarray
    known: np.ndarray
    recent: np.ndarray
    usual: np.ndarray


def pasts(observed: Observed) -> list[Past]:
    """Of each kind, for N = 2 B hands (row 2 b + side); all that is known is the window."""
    rows = lambda array: np.moveaxis(array, 2, 1).reshape(-1, array.shape[1], *array.shape[3:])  # noqa: E731
    seen = rows(observed.wrist_valid)
    articulation, valid = observed.articulation()
    turned = log_rotation(observed.rotation @ observed.rotation[:, -1:].swapaxes(-1, -2))
    wrist = _filled(rows(observed.wrist)[:, :, None], seen[..., None])
    fingers = _filled(rows(articulation[..., WRIST + 1 :, :]), rows(valid[..., WRIST + 1 :]))
    return [
        _windowed(wrist, seen, seen.any(axis=1, keepdims=True)),
        _windowed(rows(turned)[:, :, None], seen, rows(observed.rotation_valid).any(axis=1, keepdims=True)),
        _windowed(fingers, seen, rows(valid[..., WRIST + 1 :]).any(axis=1)),
    ]


def _windowed(values: np.ndarray, seen: np.ndarray, known: np.ndarray) -> Past:
    back = values - values[:, -1:]
    share = np.array(DENSE) * 10.0
    recent = -back[:, -2:-1] * share[:, None, None]
    usual = np.repeat(-back.mean(axis=1, keepdims=True), len(MEANS), axis=1)
    return Past(back, seen, known, recent, usual)


def _filled(values: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """values (N, T, J, 3), where not valid (N, T, J) those of the last observation before, else of the first one
    after.
    """
    if valid.all():
        return values
    length = valid.shape[1]
    time = np.arange(length)[None, :, None]
    before = np.maximum.accumulate(np.where(valid, time, -1), axis=1)
    first = np.argmax(valid, axis=1)[:, None]
    index = np.where(before >= 0, before, first)
    return np.take_along_axis(values, index[..., None], axis=1)


def vectors(past: Past) -> np.ndarray:
    """(N, VECTORS, J, 3) displacements to now: from `LAGS` observations ago, and `recent` and `usual` ones."""
    last = past.back.shape[1] - 1
    index = [last - min(lag, last) for lag in LAGS]
    return np.concatenate([-past.back[:, index], past.recent, past.usual], axis=1)


def context(past: Past, floor: float) -> np.ndarray:
    """(N, CONTEXT): sizes, directions to each other, and how well constant velocity would have done in the window."""
    back, length, points = past.back, past.back.shape[1], past.back.shape[2]
    step = back[:, 1:] - back[:, :-1]
    step = step * (past.seen[:, 1:] & past.seen[:, :-1])[..., None, None]
    squared = np.einsum("ntjd,ntjd->nt", step, step) / points
    ago = [length - 1 - min(lag, length - 1) for lag in (1, 2, 5, 19)]
    told = np.concatenate(
        [-back[:, ago], past.usual, past.recent[:, :1]], axis=1
    )  # one, two, five, all, slow, ever, dense
    one, energy = told[:, :1], np.einsum("nkjd,nkjd->nk", told, told)
    size = np.log(np.sqrt(energy / points) + floor)
    pace = np.sqrt(np.stack([squared.max(1), squared.sum(1) / squared.shape[1]], axis=1))
    others = np.concatenate([told[:, 1:4] - one, told[:, 6:], told[:, 4:6]], axis=1)
    along = np.einsum("nkjd,njd->nk", others, one[:, 0])
    spread = np.sqrt(np.einsum("nkjd,nkjd->nk", others, others) * energy[:, :1])
    cosine = along / (spread + 1e-8)
    gains = np.stack([_gain(back, step, past.seen, lag, floor) for lag in _GAIN_LAGS], axis=1)
    seen = past.seen.sum(axis=1, keepdims=True) / length
    return np.concatenate(
        [
            size[:, :4], np.log(pace + floor * np.array([1.0, 0.5])), size[:, 4:6],
            cosine[:, :3], gains, seen, size[:, 6:] - size[:, :1] + 1.1, cosine[:, 3:],
        ],
        axis=1,
    )  # fmt: skip


def _gain(back: np.ndarray, step: np.ndarray, seen: np.ndarray, lag: int, floor: float) -> np.ndarray:
    """(N,) how far the points went on in `lag` observations, in the direction of their last change and in units of
    it.
    """
    length = back.shape[1]
    if length < lag + 3:
        return np.zeros(len(back))
    counted = (seen[:, 1 + lag :] & seen[:, 1:-lag])[..., None, None]
    onward, change = (back[:, 1 + lag :] - back[:, 1:-lag]) * counted, step[:, : length - 1 - lag] * counted
    energy = np.einsum("ntjd,ntjd->n", change, change) + 2.5 * floor * floor * back.shape[2]
    return np.tanh(np.einsum("ntjd,ntjd->n", onward, change) / energy / max(1.0, 0.4 * lag))
