"""`egohand-motion` as a forecaster: the wrist's place, its rotation and every finger by networks of their own."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from ...geometry.rotations import exp_rotation, log_rotation
from ...hand.skeleton import NUM_KEYPOINTS, WRIST
from ...stream.window import Window
from ..common.observed import Observed, assemble, last_index, pose_hand, take
from ..common.protocol import Forecast, ForecasterSpec
from ..naive.kalman import Extrapolation, Kalman, turned_from_last
from .features import Past, look_back
from .network import read_networks

NAME = "egohand-motion"
WEIGHTS = "model.safetensors"
KINDS = ("wrist", "rotation", "fingers")
FINGERS = NUM_KEYPOINTS - 1
# Motion by observation that cannot be told from noise: m, rad, m.
FLOORS = {"wrist": 1e-3, "rotation": 1e-2, "fingers": 5e-4}


@dataclass(frozen=True)
class Points:
    """What is forecast of B windows: N = 2 B hands, row 2 b + side, and their 20 N keypoints but the wrist.

    Where each was last seen: wrist (N, 3) m, rotation R_frame_palm (N, 3, 3), fingers (20 N, 3) m in the palm frame;
    and by kind the displacements (N or 20 N, T, 3) from there, and where they were seen (N or 20 N, T).
    """

    wrist: np.ndarray
    rotation: np.ndarray
    fingers: np.ndarray
    past: tuple[np.ndarray, ...]
    seen: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, observed: Observed) -> "Points":
        articulation, known = observed.articulation()
        bent, bent_seen = by_point(articulation[..., WRIST + 1 :, :]), by_point(known[..., WRIST + 1 :])
        fingers = take(bent, last_index(bent_seen)) * bent_seen.any(axis=1)[:, None]
        place, place_seen = by_hand(observed.wrist), by_hand(observed.wrist_valid)
        wrist = take(place, last_index(place_seen))
        return cls(
            wrist,
            by_hand(observed.rotation)[:, -1],
            fingers,
            (place - wrist[:, None], by_hand(turned_from_last(observed)), bent - fingers[:, None]),
            (place_seen, by_hand(observed.rotation_valid & observed.wrist_valid), bent_seen),
        )

    def displacements(self, expected: Extrapolation) -> tuple[np.ndarray, ...]:
        """(N or 20 N, S, 3) by kind of what was expected of the windows."""
        return (
            by_hand(expected.wrist) - self.wrist[:, None],
            log_rotation(by_hand(expected.rotation) @ self.rotation[:, None].swapaxes(-1, -2)),
            by_point(expected.articulation[..., WRIST + 1 :, :]) - self.fingers[:, None],
        )


def by_hand(array: np.ndarray) -> np.ndarray:
    """(B, T, 2, ...) as (2 B, T, ...)."""
    return np.moveaxis(array, 2, 1).reshape(-1, array.shape[1], *array.shape[3:])


def by_point(array: np.ndarray) -> np.ndarray:
    """(B, T, 2, 20, ...) as (40 B, T, ...)."""
    return np.moveaxis(array, 1, 3).reshape(-1, array.shape[1], *array.shape[4:])


class MotionForecaster:
    """One hypothesis, with the spread of `kalman`, for hands seen twice or more; what nothing is known of stays."""

    def __init__(self, weights: Path | str, kalman: Kalman | None = None):
        self._kalman = kalman or Kalman()
        own, path = self._kalman.spec, Path(weights)
        self.networks = read_networks(path, KINDS, own.horizon_steps)
        self.spec = ForecasterSpec(
            NAME, own.step, own.window_length, own.horizon_steps, minimum_observations=2,
            checkpoint_hash=hashlib.sha256(path.read_bytes()).hexdigest()[:12],
        )  # fmt: skip

    def continued(
        self, points: Points, kalman: Sequence[np.ndarray], recent: Sequence[np.ndarray | None] = (None, None)
    ) -> tuple[tuple[np.ndarray, ...], tuple[Past, ...]]:
        """Displacements (N or 20 N, S, 3) from now by kind, and what was looked at; `kalman` are those of its forecast,
        `recent` those (N, 2, 3) of wrist and rotation to now since one and two thirds of an observation ago, where the
        stream shows them.
        """
        sizes = [len(past) for past in points.past]
        unknown = [np.full((size, 2, 3), np.nan) for size in sizes]
        dense = [given if given is not None else none for given, none in zip((*recent, None), unknown, strict=True)]
        floors = np.repeat([FLOORS[kind] for kind in KINDS], sizes)
        # All at once: most of what it costs is the number of calls.
        seen = np.concatenate(points.seen)
        looked = look_back(np.concatenate(points.past), seen, floors, np.concatenate(dense))
        moves, edges = seen.sum(axis=1) > 1, np.cumsum([0, *sizes])
        found, pasts = [], []
        for network, expected, (a, b) in zip(self.networks, kalman, pairwise(edges), strict=True):
            pasts.append(Past(looked.vectors[a:b], looked.numbers[a:b]))
            found.append(network(pasts[-1], expected) * moves[a:b, None, None])
        return tuple(found), tuple(pasts)

    def forecast(self, window: Window, hypotheses: int = 1, seed: int | None = None) -> Forecast:
        """One hypothesis, whatever number is asked for."""
        observed = Observed.from_window(window)
        points, usual = Points.of(observed), self._kalman.forecast(window)
        expected = self._kalman.extrapolate(observed)
        (wrist, turn, bend), _ = self.continued(points, points.displacements(expected))
        batch, steps = window.batch, self.spec.horizon_steps
        hands = lambda array: np.moveaxis(array.reshape(batch, 2, *array.shape[1:]), 1, 2)  # noqa: E731
        rotation = hands(exp_rotation(turn) @ points.rotation[:, None])
        fingers = np.moveaxis((points.fingers[:, None] + bend).reshape(batch, 2, FINGERS, steps, 3), 3, 1)
        articulation = np.concatenate([np.zeros((batch, steps, 2, 1, 3)), fingers], axis=3)
        keypoints = pose_hand(hands(points.wrist[:, None] + wrist), rotation, articulation)
        return assemble(
            self.spec, window, observed, keypoints[:, None], rotation[:, None],
            usual.keypoint_std.numpy(), usual.wrist_covariance.numpy(),
        )  # fmt: skip
