"""Hands and forecasts made by hand, for the tests of handover/."""

import numpy as np

from egohand_ros.messages.forecast import Futures, HandFuture


def hand_at(point, side=1):
    """Keypoints (2, 21, 3) of one hand of 18 cm that points along -x, its wrist at `point`."""
    keypoints = np.full((2, 21, 3), np.nan)
    keypoints[side] = np.asarray(point) - np.linspace(0.0, 0.18, 21)[:, None] * np.array([1.0, 0.0, 0.0])
    return keypoints


def future(path, covariance=0.0, side=1, probability=None):
    """A hand's future whose wrist goes along paths (K, S, 3)."""
    path = np.asarray(path, dtype=float)
    k, s = path.shape[:2]
    keypoints = np.repeat(path[:, :, None], 21, axis=2)
    rotation = np.broadcast_to(np.eye(3), (k, s, 3, 3))
    cov = np.broadcast_to(covariance * np.eye(6), (k, s, 6, 6))
    p = np.full(k, 1.0 / k) if probability is None else probability
    return HandFuture(side, 1, p, keypoints, rotation, np.full((k, s, 21), np.nan), cov)


def futures(*hands):
    length = hands[0].keypoints.shape[1]
    return Futures(0.0, "base", 0.1 * np.arange(1, length + 1), hands)
