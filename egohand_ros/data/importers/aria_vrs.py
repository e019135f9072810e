"""Project Aria Gen 2 `.vrs`: the hands that the glasses tracked themselves -> `Episode`.

Landmarks come in the device frame at 30 Hz, device poses from visual-inertial odometry; both are matched by their
tracking time. What reads the file is Meta's `projectaria_tools`, which only this importer needs.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from ...errors import UserError
from ...geometry.transforms import transform_points
from ...hand.conventions import to_canonical
from ...hand.skeleton import NUM_KEYPOINTS
from ...stream.aligner import PoseTrack
from ..episode import Episode

MAGIC = b"VisionRe"
_HANDS, _FAST_ODOMETRY, _ODOMETRY = "handtracking", "vio_high_frequency", "vio"
_ODOMETRY_GAP = 0.15  # s; slow odometry comes at 10 Hz

_log = logging.getLogger(__name__)


def load_aria_vrs(path: Path | str) -> Episode:
    """Read hands; they are moved to the odometry's frame, Z up, or stay in the device frame where there is none.

    Raises `UserError` where projectaria_tools is missing or the file has no hand tracking, as those of Gen 1 glasses.
    """
    try:
        from projectaria_tools.core import data_provider
    except ImportError:
        raise UserError(
            f"{path}: Aria .vrs files need projectaria_tools: pip install 'projectaria_tools>=2', "
            "or pip install '.[aria]' in the checkout"
        ) from None
    with _silent():
        provider = data_provider.create_vrs_data_provider(str(path))
    if provider is None:
        raise UserError(f"{path} cannot be read as an Aria .vrs")
    stream = provider.get_stream_id_from_label(_HANDS)
    count = provider.get_num_data(stream) if stream is not None else 0
    if not count:
        raise UserError(
            f"{path} has no hand tracking on the device (Aria Gen 1 has none); give the folder of its MPS results"
        )
    results = [provider.get_hand_pose_data_by_index(stream, i) for i in range(count)]
    stamp = np.array([result.tracking_timestamp.total_seconds() for result in results])
    keypoints = np.stack([[_landmarks(result.left_hand), _landmarks(result.right_hand)] for result in results])
    track, up = _odometry(provider)
    if not len(track):
        _log.warning("%s has no odometry: hands stay in the moving device frame", path)
    else:
        T_odometry_device, known = track.at(stamp)
        keypoints = transform_points(T_odometry_device[:, None], keypoints) @ up.T
        keypoints[~known] = np.nan
    return Episode(stamp, keypoints, np.isfinite(keypoints).all(axis=-1))


def _landmarks(hand) -> np.ndarray:
    """(21, 3) m in our order; NaN for a hand that is not there."""
    if hand is None or not hand.confidence > 0:
        return np.full((NUM_KEYPOINTS, 3), np.nan)
    return to_canonical(np.array(hand.landmark_positions_device), "aria_mps")


def _odometry(provider) -> tuple[PoseTrack, np.ndarray]:
    """T_odometry_device over time, and the rotation (3, 3) that turns the odometry's frame until Z is up."""
    track, gravity = PoseTrack(np.inf, _ODOMETRY_GAP), np.array([0.0, 0.0, -1.0])
    fast = provider.get_stream_id_from_label(_FAST_ODOMETRY)
    slow = provider.get_stream_id_from_label(_ODOMETRY)
    if fast is not None and provider.get_num_data(fast):
        for i in range(provider.get_num_data(fast)):
            pose = provider.get_vio_high_freq_data_by_index(fast, i)
            track.add(pose.tracking_timestamp.total_seconds(), pose.transform_odometry_device.to_matrix())
            gravity = np.array(pose.gravity_odometry)
    elif slow is not None:
        for i in range(provider.get_num_data(slow)):
            pose = provider.get_vio_data_by_index(slow, i)
            if pose.status.name == "VALID":
                T_odometry_device = pose.transform_odometry_bodyimu @ pose.transform_bodyimu_device
                track.add(pose.capture_timestamp_ns * 1e-9, T_odometry_device.to_matrix())
                gravity = np.array(pose.gravity_in_odometry)
    return track, Rotation.align_vectors([[0.0, 0.0, -1.0]], [gravity])[0].as_matrix()


@contextmanager
def _silent() -> Iterator[None]:
    """Without what the library's native part writes to the standard error, fifty lines for each file."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
