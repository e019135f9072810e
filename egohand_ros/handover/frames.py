"""Hands and their futures in the frame of the robot's base."""

from dataclasses import replace

import numpy as np

from ..geometry.transforms import transform_points
from ..messages.forecast import Futures, HandFuture
from ..messages.hands import Hands


def hands_in(frame_id: str, transform: np.ndarray, hands: Hands) -> Hands:
    """Hands in the frame `frame_id`, which T_target_source (4, 4) maps them to."""
    rotation = transform[:3, :3]
    return replace(
        hands,
        frame_id=frame_id,
        keypoints=transform_points(transform, hands.keypoints),
        wrist_rotation=rotation @ hands.wrist_rotation,
        wrist_covariance=_turned(rotation, hands.wrist_covariance),
    )


def futures_in(frame_id: str, transform: np.ndarray, futures: Futures) -> Futures:
    """The same for futures and their waypoints."""
    rotation = transform[:3, :3]
    waypoints = tuple(
        replace(w, position=rotation @ w.position + transform[:3, 3], rotation=rotation @ w.rotation)
        for w in futures.waypoints
    )
    hands = tuple(_future_in(transform, hand) for hand in futures.hands)
    return replace(futures, frame_id=frame_id, hands=hands, waypoints=waypoints)


def _future_in(transform: np.ndarray, hand: HandFuture) -> HandFuture:
    rotation = transform[:3, :3]
    return replace(
        hand,
        keypoints=transform_points(transform, hand.keypoints),
        wrist_rotation=rotation @ hand.wrist_rotation,
        wrist_covariance=_turned(rotation, hand.wrist_covariance),
    )


def _turned(rotation: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Covariances (..., 6, 6) of position and orientation, both in the frame's axes."""
    both = np.zeros((6, 6))
    both[:3, :3] = both[3:, 3:] = rotation
    return both @ covariance @ both.T
