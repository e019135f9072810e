"""Split-conformal calibration: factors on standard deviations, so that regions keep what they promise.

For each step, the factor is the conformal quantile of how many promised radii the truth was away, over data that the
forecaster was not trained on (Vovk et al. 2005; Lei et al. 2018, section 2.2). A forecaster that gives no deviations of
its own gets constant ones: its factors are then deviations in m and rad.
"""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy.special import gammaincinv

from ...errors import UserError
from ...geometry.rotations import rotation_vector
from ...hand.skeleton import WRIST
from .protocol import Forecast

COVERAGE = 0.9
# Of three Gaussian coordinates of unit deviation, this radius holds the share COVERAGE.
RADIUS = math.sqrt(2.0 * gammaincinv(3 / 2, COVERAGE))  # of chi squared, without the time that scipy.stats takes


@dataclass(frozen=True)
class Calibration:
    """Factors (S,) on the deviations of wrist position, wrist rotation and keypoints; `samples` scores were behind
    each."""

    position: np.ndarray
    rotation: np.ndarray
    keypoint: np.ndarray
    samples: int = 0

    def apply(self, forecast: Forecast) -> Forecast:
        """The forecast with its deviations times the factors; unit deviations stand in for those it does not give."""
        steps = forecast.keypoints.shape[2]
        if steps > len(self.position):
            raise ValueError(f"calibration is for {len(self.position)} steps; the forecast has {steps}")

        def shaped(factors: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(factors[:steps])[None, None, :, None]

        diagonal = torch.cat(
            [shaped(f)[..., None].expand(-1, -1, -1, -1, 3) for f in (self.position, self.rotation)], -1
        )
        covariance, std = with_unit_spread(forecast)
        return replace(
            forecast,
            wrist_covariance=covariance * diagonal[..., :, None] * diagonal[..., None, :],
            keypoint_std=std * shaped(self.keypoint)[..., None],
        )

    def to_json(self) -> dict:
        return {
            "coverage": COVERAGE,
            "samples": self.samples,
            **{
                name: [round(float(x), 6) for x in getattr(self, name)] for name in ("position", "rotation", "keypoint")
            },
        }

    @classmethod
    def from_json(cls, values: dict) -> "Calibration":
        """The way back of `to_json`; `UserError` for anything else."""
        try:
            factors = [np.array(values[name], dtype=np.float64) for name in ("position", "rotation", "keypoint")]
            samples = int(values.get("samples", 0))
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"a calibration needs lists position, rotation and keypoint; {error!r} is wrong") from None
        if values.get("coverage") != COVERAGE or not all(np.isfinite(f).all() and (f > 0).all() for f in factors):
            raise UserError(f"a calibration needs coverage {COVERAGE} and positive factors; calibrate again")
        position, rotation, keypoint = factors
        return cls(position, rotation, keypoint, samples)

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(self.to_json(), indent=2) + "\n")

    @classmethod
    def load(cls, path: Path) -> "Calibration":
        try:
            return cls.from_json(json.loads(path.read_text()))
        except (OSError, json.JSONDecodeError) as error:
            raise UserError(f"cannot read calibration {path}: {error}") from None


@dataclass(frozen=True)
class Scores:
    """How many promised radii the truth was away, NaN where unknown: position (B, S, 2), rotation (B, S, 2),
    keypoint (B, S, 2, 21). At most 1 means inside the region that promises COVERAGE."""

    position: np.ndarray
    rotation: np.ndarray
    keypoint: np.ndarray


def with_unit_spread(forecast: Forecast) -> tuple[torch.Tensor, torch.Tensor]:
    """Wrist covariance and keypoint deviation of a forecast, of 1 m and 1 rad where it gives none."""
    covariance, std = forecast.wrist_covariance, forecast.keypoint_std
    unit = torch.eye(6, dtype=covariance.dtype, device=covariance.device)
    covariance = torch.where(covariance.isfinite().all(-1).all(-1)[..., None, None], covariance, unit)
    return covariance, torch.where(std.isfinite(), std, torch.ones_like(std))


def score(
    forecast: Forecast,
    keypoints: np.ndarray,
    valid: np.ndarray,
    rotation: np.ndarray | None = None,
    rotation_valid: np.ndarray | None = None,
) -> Scores:
    """Scores of the first hypothesis against the truth: keypoints (B, S, 2, 21, 3) m, valid (B, S, 2, 21), R_frame_palm
    (B, S, 2, 3, 3), rotation_valid (B, S, 2)."""
    covariance, std = (tensor[:, 0].double().cpu().numpy() for tensor in with_unit_spread(forecast))
    mean = forecast.keypoints[:, 0].double().cpu().numpy()
    counted = valid & forecast.valid.cpu().numpy()[:, None]
    error = np.where(counted[..., None], keypoints - mean, np.nan)
    position = _radii(error[..., WRIST, :], covariance[..., :3, :3])
    if rotation is None:
        turn = np.full_like(position, np.nan)
    else:
        given = forecast.wrist_rotation[:, 0].double().cpu().numpy()
        known = rotation_valid & counted[..., WRIST]
        away = np.full((*known.shape, 3), np.nan)
        away[known] = rotation_vector(rotation[known] @ given[known].swapaxes(-1, -2))
        turn = _radii(away, covariance[..., 3:, 3:])
    return Scores(position, turn, np.linalg.norm(error, axis=-1) / (RADIUS * std))


def calibrate(scores: list[Scores]) -> Calibration:
    """Factors from scores of data that was not trained on. Raises `UserError` where a step has too few for a
    quantile."""
    position = np.concatenate([s.position for s in scores])
    factors = [
        np.array([conformal_quantile(values[:, step]) for step in range(position.shape[1])])
        for values in (
            position,
            np.concatenate([s.rotation for s in scores]),
            np.concatenate([s.keypoint for s in scores]),
        )
    ]
    at, turn, keypoint = factors
    turn = np.where(np.isfinite(turn), turn, 1.0)  # no palm was seen: rotations stay as they are
    if not all(np.isfinite(f).all() for f in (at, turn, keypoint)):
        raise UserError("too little data to calibrate: every step needs at least 9 scored wrists")
    return Calibration(at, turn, keypoint, samples=int(np.isfinite(position[:, 0]).sum()))


def conformal_quantile(scores: np.ndarray, coverage: float = COVERAGE) -> float:
    """The ceil((n + 1) coverage)-th smallest of n finite scores; infinite if there are too few."""
    finite = np.sort(scores[np.isfinite(scores)], axis=None)
    rank = math.ceil((len(finite) + 1) * coverage)
    return float(finite[rank - 1]) if rank <= len(finite) else float("inf")


def _radii(error: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Mahalanobis lengths of errors (..., 3) under covariances (..., 3, 3), in promised radii."""
    safe = np.where(np.isfinite(error), error, 0.0)
    squared = (safe * np.linalg.solve(covariance, safe[..., None])[..., 0]).sum(axis=-1)
    return np.where(np.isfinite(error).all(axis=-1), np.sqrt(squared) / RADIUS, np.nan)
