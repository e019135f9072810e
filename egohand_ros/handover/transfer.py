"""Where and when a hand comes to rest so that an object can change hands, from every hypothesis of its forecast."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..geometry.rotations import nearest_rotation
from ..hand.skeleton import MIDDLE_MCP, TIPS, WRIST
from ..messages.forecast import HandFuture
from .separation import RADIUS_90

QUANTILES = (0.1, 0.5, 0.9)

Reach = Callable[[np.ndarray], np.ndarray]  # points (..., 3) m -> (...) bool: may an object be transferred there?


@dataclass(frozen=True)
class TransferOptions:
    """`rest_speed` m/s below which a hand rests; `time_std` s, and `time_growth` s a second ahead, by how much the
    moment that a hypothesis shows is off, beside what hypotheses differ by (set with minimum jerk, on generated scenes
    of first seed 240000)."""

    rest_speed: float = 0.10
    time_std: float = 0.05
    time_growth: float = 0.25


@dataclass(frozen=True, eq=False)
class Transfer:
    """Where a hand is expected to come to rest, in the forecast's frame.

    position (3,) m of the wrist, covariance (3, 3) m^2 (of a hypothesis and between them), rotation (3, 3)
    R_frame_palm; aperture m, thumb tip to the middle of the other tips; time (3,) s from the forecast's stamp: 10, 50,
    90 %, inf where so much of the probability does not come to rest within the horizon; probability that it comes to
    rest in reach.
    """

    side: int
    stamp: float
    position: np.ndarray
    covariance: np.ndarray
    rotation: np.ndarray
    aperture: float
    time: np.ndarray
    probability: float

    @property
    def radius(self) -> float:
        """m, of the ball around the 90 % region of the position."""
        return RADIUS_90 * float(np.sqrt(max(np.linalg.eigvalsh(self.covariance)[-1], 0.0)))


def expected_transfer(
    hand: HandFuture,
    stamp: float,
    step_times: np.ndarray,
    start: np.ndarray,
    reach: Reach,
    options: TransferOptions = TransferOptions(),
    use_covariance: bool = True,
) -> Transfer:
    """The transfer that a hand's forecast tells of; `start` (3,) m is its wrist at the stamp.

    Of each hypothesis counts the first step at which it comes to rest within reach, or its last step, where it does
    not: then the place is known less surely than its covariance says, and the moment not at all.
    """
    weight = hand.probability / max(float(hand.probability.sum()), 1e-12)
    steps, after = rest_steps(hand.wrist, step_times, start, reach, options.rest_speed)
    k = np.arange(len(weight))
    rests = np.isfinite(after)
    points = hand.wrist[k, steps]
    mean = weight @ points
    off = points - mean
    covariance = np.einsum("k,ki,kj->ij", weight, off, off)
    if use_covariance:
        own = hand.wrist_covariance[k, steps, :3, :3]
        known = np.isfinite(own).all((1, 2))
        if known.any():
            covariance = covariance + np.einsum("k,kij->ij", weight * known, np.where(known[:, None, None], own, 0.0))
    rotations = hand.wrist_rotation[k, steps]
    turned = np.isfinite(rotations).all((1, 2))
    rotation = np.full((3, 3), np.nan)
    if turned.any():
        rotation = nearest_rotation(np.einsum("k,kij->ij", weight[turned], rotations[turned]))
    best = int(weight.argmax())
    return Transfer(
        hand.side,
        stamp,
        mean,
        covariance,
        rotation,
        aperture(hand.keypoints[best, steps[best]]),
        _quantiles(after[rests], weight[rests], np.hypot(options.time_std, options.time_growth * after[rests])),
        float(weight[rests].sum()),
    )


def rest_steps(
    wrist: np.ndarray, step_times: np.ndarray, start: np.ndarray, reach: Reach, rest_speed: float
) -> tuple[np.ndarray, np.ndarray]:
    """Where and when each of the paths (K, S, 3) m comes to rest within reach: step (K,) and s (K,).

    That is after it moved; a hand that never moves rests at once. The moment is where the speed falls through
    `rest_speed`. Of a path that does not come to rest, the last step and inf."""
    count, length = wrist.shape[:2]
    path = np.concatenate([np.broadcast_to(start, (count, 1, 3)), wrist], axis=1)
    times = np.concatenate([[0.0], step_times])
    span = np.diff(times)
    speed = np.linalg.norm(np.diff(path, axis=1), axis=-1) / span
    slow = speed < rest_speed
    started = np.logical_or.accumulate(~slow, axis=1)  # a hand that is about to move does not rest yet
    rests = slow & (started | ~started[:, -1:]) & reach(wrist)
    found = rests.any(axis=1)
    steps = np.where(found, rests.argmax(axis=1), length - 1)
    middle = times[:-1] + span / 2.0
    after = np.full(count, np.inf)
    for k in np.flatnonzero(found):
        s = int(steps[k])
        after[k] = 0.0 if s == 0 else middle[s]
        if s > 0 and speed[k, s - 1] > rest_speed:
            share = (speed[k, s - 1] - rest_speed) / (speed[k, s - 1] - speed[k, s])
            after[k] = middle[s - 1] + share * (middle[s] - middle[s - 1])
    return steps, after


def aperture(keypoints: np.ndarray) -> float:
    """m from the thumb's tip to the middle of the other tips, of keypoints (21, 3) m; NaN where unknown."""
    return float(np.linalg.norm(keypoints[TIPS[0]] - keypoints[list(TIPS[1:])].mean(axis=0)))


def hand_length(keypoints: np.ndarray) -> float:
    """m from the wrist to the middle knuckle, which fingers do not change; NaN where unknown."""
    return float(np.linalg.norm(keypoints[MIDDLE_MCP] - keypoints[WRIST]))


def _quantiles(after: np.ndarray, weight: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Times (3,) s below which a mixture of normal distributions about `after`, of `std`, has 10, 50, 90 %; those that
    do not happen (the weight that is missing to 1) come last."""
    from scipy.special import ndtr

    result = np.full(len(QUANTILES), np.inf)
    if not len(after):
        return result
    grid = np.arange(0.0, float((after + 5.0 * std).max()) + 0.005, 0.005)
    below = (weight * ndtr((grid[:, None] - after) / np.maximum(std, 1e-6))).sum(axis=1)
    for i, quantile in enumerate(QUANTILES):
        if below[-1] >= quantile:
            result[i] = grid[int((below >= quantile).argmax())]
    return result
