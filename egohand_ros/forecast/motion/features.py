"""What `egohand-motion` knows of the past of one point: vectors that turn with it, and numbers that do not.

A point is a wrist (m), a palm's rotation vector from now (rad) or a finger's keypoint in the palm frame (m). The
forecast is a sum of the vectors, so that it turns and is mirrored with the motion by construction; how much each counts
is told by the numbers alone, which are the same however the motion is turned. (S. Villar et al., *Scalars are
universal*, NeurIPS 2021.)
"""

from dataclasses import dataclass

import numpy as np

LAGS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 19)  # observations back
_RECENT = (1.0 / 3.0, 2.0 / 3.0)  # observations back, which only a stream denser than the window can show
_MEAN_LAG = 5.0  # as far as the mean of the window counts as being back
SIZES = np.sqrt(np.array([*_RECENT, *LAGS, _MEAN_LAG]))  # how vectors grow with their lag
VECTORS = len(SIZES)
_TESTED = (1, 2, 3, 5, 8)  # observations ahead, for the test inside the window
_DAMPED = 2.0  # observations over which speed decays in that test
_SPEEDS = 10  # of the newest, that are told one by one
_FORGET, _TEST_FORGET = 0.8, 0.9  # by observation: of speeds in the scale, of tests
_UPPER = np.triu_indices(VECTORS)
NUMBERS = len(_UPPER[0]) + 4 * len(_TESTED) + 1 + _SPEEDS + 2


@dataclass(frozen=True)
class Past:
    """vectors (N, VECTORS, 3), numbers (N, NUMBERS) float32."""

    vectors: np.ndarray
    numbers: np.ndarray


def look_back(
    points: np.ndarray, seen: np.ndarray, floor: float | np.ndarray, recent: np.ndarray | None = None
) -> Past:
    """Of N points: displacements from now `points` (N, T, 3), where they were `seen` (N, T); `floor`, of all or each
    (N,), is a motion by observation too small to tell from noise; `recent` (N, 2, 3), NaN where not known, are
    displacements to now since one and two thirds of an observation ago.
    """
    points, floor = fill(points, seen), np.broadcast_to(floor, len(points))
    count, length = seen.shape
    change = np.zeros_like(points)
    np.subtract(points[:, 1:], points[:, :-1], out=change[:, 1:])
    guess = change[:, -1:] * np.array(_RECENT)[:, None]
    recent = guess if recent is None else np.where(np.isfinite(recent), recent, guess)
    back = points[:, [max(length - 1 - lag, 0) for lag in LAGS]]
    vectors = np.concatenate([recent, -back, -points.mean(axis=1, keepdims=True)], axis=1) / SIZES[:, None]
    speed = np.sqrt(np.einsum("ntd,ntd->nt", change, change))
    weight = _FORGET ** np.arange(length)[::-1]
    scale = np.sqrt((speed * speed) @ weight / weight.sum()) + floor
    unit = vectors / scale[:, None, None]
    products = (unit @ unit.swapaxes(-1, -2))[:, _UPPER[0], _UPPER[1]]
    newest = np.log((speed[:, ::-1][:, :_SPEEDS] + 0.1 * floor[:, None]) / scale[:, None])
    if newest.shape[1] < _SPEEDS:
        newest = np.pad(newest, ((0, 0), (0, _SPEEDS - newest.shape[1])), mode="edge")
    numbers = [
        np.sign(products) * np.log1p(np.abs(products)),
        _tests(points, seen, change, scale, 0.3 * floor),
        np.log(scale)[:, None],
        0.5 * newest,
        seen.mean(axis=1)[:, None],
        seen[:, -2:-1] if length > 1 else np.zeros((count, 1)),
    ]
    return Past(vectors, np.concatenate(numbers, axis=1, dtype=np.float32))


def fill(points: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Points (N, T, 3), where not seen (N, T) those seen last before, else first after."""
    if seen.all():
        return points
    before = np.maximum.accumulate(np.where(seen, np.arange(seen.shape[1]), -1), axis=1)
    index = np.where(before >= 0, before, np.argmax(seen, axis=1)[:, None])
    return np.take_along_axis(points, index[..., None], axis=1)


def _tests(
    points: np.ndarray, seen: np.ndarray, change: np.ndarray, scale: np.ndarray, least: np.ndarray
) -> np.ndarray:
    """How well holding still, coming to rest and going on would have done inside the window, (N, 4 by horizon):
    logarithms of ratios, and how much there was to judge."""
    length = seen.shape[1]
    count, judged = len(points), seen[:, 1:] & seen[:, :-1]
    found = np.zeros((count, len(_TESTED), 4))
    for place, ahead in enumerate(_TESTED):
        if length <= ahead + 1:
            continue
        moved, speed = points[:, 1 + ahead :] - points[:, 1:-ahead], change[:, 1:-ahead]
        shares = np.array([0.0, _DAMPED * -np.expm1(-ahead / _DAMPED), float(ahead)])
        away = moved[:, None] - shares[:, None, None] * speed[:, None]
        away = np.sqrt(np.einsum("ncti,ncti->nct", away, away))
        weight = (judged[:, :-ahead] & seen[:, 1 + ahead :]) * _TEST_FORGET ** np.arange(length - 1 - ahead)[::-1]
        total = weight.sum(axis=1)
        errors = (away @ weight[..., None])[..., 0] / np.maximum(total, 1e-9)[:, None] + least[:, None]
        hold = errors[:, 0]
        known = (total > 0)[:, None]
        ratios = np.stack([errors[:, 1] / hold, errors[:, 2] / hold, hold / scale], axis=1)
        found[:, place, :3] = np.log(np.where(known, ratios, 1.0))
        found[:, place, 3] = np.minimum(total, 5.0) / 5.0
    return found.reshape(count, 4 * len(_TESTED))
