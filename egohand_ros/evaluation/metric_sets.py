"""The metrics of each published protocol, of one forecast a sample. All in m and rad; `shown` says how they are
displayed.

egoexo4d    EgoH4 and EggHand; see `metrics.py`
egoman      EgoMAN: ADE, FDE, DTW, ROT of both wrists
forehand4d  ForeHand4D: mpjpe/f and its variants, MRRPE
megohand    MEgoHand: MPJPE, MPJPE-PA, MPVE, MPVE-PA, MWTE, MRE
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..geometry.rotations import geodesic_angle
from ..hand.skeleton import LEFT, RIGHT, WRIST
from .alignment import similarity, transformed
from .metrics import METRICS, Errors, Mean

# EgoMAN's code (utils/eval_utils/metrics_summary.py) takes the hypothesis with the least ADE + 1 mm a degree of ROT.
_METRES_PER_DEGREE = 0.001


@dataclass(frozen=True)
class Compared:
    """One forecast of each of B samples over S frames beside what happened, sides [left, right].

    keypoints, actual (B, S, 2, 21, 3) m; valid (B, 2, 21) bool: keypoints that take part, in all frames
    rotation, actual_rotation (B, S, 2, 3, 3) R_frame_palm; rotation_valid (B, 2) bool: hands whose rotation is known
    throughout
    """

    keypoints: np.ndarray
    actual: np.ndarray
    valid: np.ndarray
    rotation: np.ndarray
    actual_rotation: np.ndarray
    rotation_valid: np.ndarray

    def errors(self) -> Errors:
        return Errors.between(self.keypoints, self.actual, self.valid[:, None])

    def wrist_distance(self) -> np.ndarray:
        """(B, S, 2) m."""
        return np.linalg.norm(self.keypoints[..., WRIST, :] - self.actual[..., WRIST, :], axis=-1)

    def angle(self) -> np.ndarray:
        """(B, S, 2) rad between the palms."""
        return geodesic_angle(self.rotation, self.actual_rotation)

    def over_hands(self, values: np.ndarray, valid: np.ndarray) -> np.ndarray:
        """Mean (B,) over the valid (B, 2) hands of values (B, 2); NaN where there is none."""
        valid = valid & np.isfinite(values)
        with np.errstate(invalid="ignore"):
            return np.where(valid, values, 0.0).sum(axis=-1) / valid.sum(axis=-1)


@dataclass(frozen=True)
class MetricSet:
    """`metrics` by name; `distance` (B,) by which the best of K hypotheses is chosen, whose metrics `best` are
    shown.
    """

    metrics: Callable[[Compared], dict[str, Mean]]
    distance: Callable[[Compared], np.ndarray]
    best: tuple[str, ...]


# ---------------------------------------------------------------------------------------------- Ego-Exo4D


def egoexo4d_metrics(compared: Compared) -> dict[str, Mean]:
    errors = compared.errors()
    return {key: metric(errors) for key, metric in METRICS.items()}


# ---------------------------------------------------------------------------------------------- EgoMAN


def egoman_metrics(compared: Compared) -> dict[str, Mean]:
    """ADE, FDE: as elsewhere; DTW: `dtw` m; ROT: mean geodesic angle rad. Mean over hands, then samples (EgoMAN section
    5).
    """
    distance, seen = compared.wrist_distance(), compared.valid[..., WRIST]
    wrist = np.moveaxis(compared.keypoints[..., WRIST, :], 2, 1), np.moveaxis(compared.actual[..., WRIST, :], 2, 1)
    values = {
        "ADE": (distance.mean(axis=1), seen),
        "FDE": (distance[:, -1], seen),
        "DTW": (dtw(*wrist), seen),
        "ROT": (compared.angle().mean(axis=1), compared.rotation_valid),
    }
    samples = {key: compared.over_hands(*given) for key, given in values.items()}
    return {key: Mean.of(sample, np.isfinite(sample)) for key, sample in samples.items()}


def egoman_distance(compared: Compared) -> np.ndarray:
    """(B,) m: ADE and 1 mm a degree of ROT, as EgoMAN's published code chooses."""
    position = compared.over_hands(compared.wrist_distance().mean(axis=1), compared.valid[..., WRIST])
    rotation = compared.over_hands(compared.angle().mean(axis=1), compared.rotation_valid)
    return position + _METRES_PER_DEGREE * np.nan_to_num(np.degrees(rotation))


def dtw(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Dynamic time warping distance (...) of paths (..., S, 3): the least sum of distances over a warping path, divided
    by the path's length, as EgoMAN normalises it."""
    cost = np.linalg.norm(a[..., :, None, :] - b[..., None, :, :], axis=-1)
    rows, columns = cost.shape[-2:]
    total = np.full((*cost.shape[:-2], rows + 1, columns + 1), np.inf)
    total[..., 0, 0] = 0.0
    length = np.zeros(total.shape)
    for i in range(1, rows + 1):
        for j in range(1, columns + 1):
            up, left, diagonal = total[..., i - 1, j], total[..., i, j - 1], total[..., i - 1, j - 1]
            least = np.minimum(np.minimum(up, left), diagonal)
            total[..., i, j] = cost[..., i - 1, j - 1] + least
            # Of equally short ways EgoMAN's code takes up before left before diagonal.
            steps = np.where(left == least, length[..., i, j - 1], length[..., i - 1, j - 1])
            length[..., i, j] = 1.0 + np.where(up == least, length[..., i - 1, j], steps)
    return total[..., rows, columns] / length[..., rows, columns]


# ---------------------------------------------------------------------------------------------- ForeHand4D


def forehand4d_metrics(compared: Compared) -> dict[str, Mean]:
    """Mean over a hand's keypoints, then a frame's hands, then frames and samples (src/utils/eval_modules.py there). m:

    mpjpe/f: as they are; /ra: relative to the wrist; /pa: after the best similarity of each frame; /pag: after one of
    the whole sequence; /paf: after the one of its first frame. MRRPE: error of the left wrist relative to the right
    one.
    """
    forecast, actual = (np.moveaxis(array, 2, 1) for array in (compared.keypoints, compared.actual))  # (B, 2, S, 21, 3)
    wrist = slice(WRIST, WRIST + 1)
    aligned = {
        "mpjpe/f": (forecast, actual),
        "mpjpe/f/ra": (forecast - forecast[..., wrist, :], actual - actual[..., wrist, :]),
        "mpjpe/f/pa": (per_frame(forecast, actual, compared.valid), actual),
        "mpjpe/f/pag": (per_sequence(forecast, actual, compared.valid), actual),
        "mpjpe/f/paf": (by_first_frame(forecast, actual, compared.valid), actual),
    }
    result = {key: _frame_mean(points, compared.valid) for key, points in aligned.items()}
    apart = [points[:, LEFT, :, WRIST] - points[:, RIGHT, :, WRIST] for points in (forecast, actual)]
    both = compared.valid[..., WRIST].all(axis=-1)
    return result | {"MRRPE": Mean.of(np.linalg.norm(apart[0] - apart[1], axis=-1), both[:, None])}


def _frame_mean(points: tuple[np.ndarray, np.ndarray], valid: np.ndarray) -> Mean:
    """Error of points (B, 2, S, 21, 3): over keypoints, hands, then frames and samples."""
    hands = mean_point_error(*points, valid[:, :, None])  # (B, 2, S)
    known = np.isfinite(hands)
    with np.errstate(invalid="ignore"):
        frames = np.where(known, hands, 0.0).sum(axis=1) / known.sum(axis=1)
    return Mean.of(frames, np.isfinite(frames))


# ---------------------------------------------------------------------------------------------- MEgoHand


def megohand_metrics(compared: Compared) -> dict[str, Mean]:
    """MPJPE: absolute; MPJPE-PA: after the best similarity of each frame; MWTE: of the wrist's place; MRE: of its
    rotation.

    MPVE and MPVE-PA are the same of mesh vertices. No forecaster of this project forecasts a mesh, so they are not
    given: a hand's shape made up from its keypoints would measure what was made up.
    """
    forecast, actual = (np.moveaxis(array, 2, 1) for array in (compared.keypoints, compared.actual))
    errors = {
        "MPJPE": mean_point_error(forecast, actual, compared.valid[:, :, None]),
        "MPJPE-PA": mean_point_error(per_frame(forecast, actual, compared.valid), actual, compared.valid[:, :, None]),
        "MWTE": np.where(compared.valid[..., WRIST][..., None], np.moveaxis(compared.wrist_distance(), 1, 2), np.nan),
        "MRE": np.where(compared.rotation_valid[..., None], np.moveaxis(compared.angle(), 1, 2), np.nan),
    }
    return {key: Mean.of(values, np.isfinite(values)) for key, values in errors.items()}


# ---------------------------------------------------------------------------------------------- points


def mean_point_error(points: np.ndarray, actual: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Mean distance (...) over the valid (..., N) of points (..., N, 3), keypoints or vertices; NaN where none is."""
    distance = np.linalg.norm(points - actual, axis=-1)
    valid = np.broadcast_to(valid, distance.shape)
    with np.errstate(invalid="ignore"):
        return np.where(valid, distance, 0.0).sum(axis=-1) / valid.sum(axis=-1)


def per_frame(points: np.ndarray, actual: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """points (B, 2, S, N, 3), each frame of each hand aligned to the actual ones by its own similarity; valid (B, 2,
    N).
    """
    return transformed(points, *similarity(points, actual, np.broadcast_to(valid[:, :, None], points.shape[:-1])))


def per_sequence(points: np.ndarray, actual: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """`per_frame` with one similarity for all frames of a hand."""
    flat = (*points.shape[:2], -1, 3)
    mask = np.broadcast_to(valid[:, :, None], points.shape[:-1]).reshape(*points.shape[:2], -1)
    found = similarity(points.reshape(flat), actual.reshape(flat), mask)
    return transformed(points.reshape(flat), *found).reshape(points.shape)


def by_first_frame(points: np.ndarray, actual: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """`per_frame` with the similarity of the first frame for all frames of a hand."""
    scale, rotation, translation = similarity(points[:, :, 0], actual[:, :, 0], valid)
    return transformed(points, scale[:, :, None], rotation[:, :, None], translation[:, :, None])


def mean_displacement(compared: Compared) -> np.ndarray:
    """(B,) m: average displacement of the wrists."""
    return np.nan_to_num(compared.errors().displacement())


METRIC_SETS: dict[str, MetricSet] = {
    "egoexo4d": MetricSet(egoexo4d_metrics, mean_displacement, ("ADE", "FDE")),
    "egoman": MetricSet(egoman_metrics, egoman_distance, ("ADE", "FDE", "DTW", "ROT")),
    "forehand4d": MetricSet(forehand4d_metrics, mean_displacement, ()),
    "megohand": MetricSet(megohand_metrics, mean_displacement, ()),
}


def shown(key: str) -> tuple[float, str]:
    """By what a metric is multiplied to be displayed, and the unit then."""
    name = key.partition(" best of ")[0]
    if "coverage" in name:
        return 100.0, "%"
    return {"ROT": (180.0 / np.pi, "°"), "MRE": (1e3, "mrad")}.get(name, (1e3, "mm"))
