"""Project Aria Machine Perception Services: `hand_tracking_results.csv` (and `closed_loop_trajectory.csv`) ->
`Episode`.

Landmarks are in the device frame. With the trajectory beside the results (or given) they are moved to its
gravity-aligned world frame; without, the device frame is taken for the fixed frame, which is only right while the head
holds still. The device frame is not a camera's optical frame, so the episode has no camera pose.
"""

import csv
import logging
from pathlib import Path

import numpy as np

from ...errors import UserError
from ...geometry.rotations import matrix_from_quaternion
from ...geometry.transforms import make_transform, transform_points
from ...hand.conventions import CONVENTIONS, to_canonical
from ...hand.skeleton import NUM_KEYPOINTS, SIDES
from ...stream.aligner import PoseTrack
from ..episode import Episode

RESULTS, TRAJECTORY = "hand_tracking_results.csv", "closed_loop_trajectory.csv"
# What MPS writes: a folder a recording, in it a folder for the hands and one for the trajectory.
_NAMES, _HANDS, _SLAM = (RESULTS, "hand_tracking_results_v2.csv"), "hand_tracking", "slam"
_STAMP = "tracking_timestamp_us"
# The trajectory comes at 1 kHz; between poses further apart than this (s) nothing is known.
_TRAJECTORY_GAP = 0.1

_log = logging.getLogger(__name__)


def is_aria_results(path: Path) -> bool:
    """Whether a file begins like Aria MPS hand tracking or wrist and palm poses."""
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.readline().startswith(_STAMP)


def find_results(folder: Path) -> Path | None:
    """The results in a folder of MPS, or of its hand tracking; None where it has none."""
    places = [folder / inner / name for inner in ("", _HANDS) for name in _NAMES]
    return next((place for place in places if place.is_file()), None)


def _find_trajectory(results: Path) -> Path | None:
    """The closed-loop trajectory beside the results, or where MPS puts it."""
    places = (
        results.with_name(TRAJECTORY),
        results.parent / _SLAM / TRAJECTORY,
        results.parent.parent / _SLAM / TRAJECTORY,
    )
    return next((place for place in places if place.is_file()), None)


def load_aria_mps(path: Path | str, trajectory: Path | str | None = None) -> Episode:
    """Read results; a hand with confidence -1 (or 0) is not there. `trajectory` defaults to the file beside `path`,
    or in the folder `slam` of the same MPS output.

    Raises `UserError` for a file without landmarks or without rows.
    """
    path = Path(path)
    table = read_columns(path)
    count = CONVENTIONS["aria_mps"][0]
    if f"tx_left_landmark_{count - 1}_device" not in table:
        raise UserError(f"{path} has no landmark columns (wrist and palm alone are no hand); give {RESULTS}")
    stamp = table[_STAMP] * 1e-6
    keypoints = np.full((len(stamp), 2, NUM_KEYPOINTS, 3), np.nan)
    for side, name in enumerate(SIDES):
        columns = [[table[f"t{axis}_{name}_landmark_{i}_device"] for axis in "xyz"] for i in range(count)]
        keypoints[:, side] = to_canonical(np.moveaxis(np.array(columns), -1, 0), "aria_mps")
        keypoints[~(table[f"{name}_tracking_confidence"] > 0), side] = np.nan
    trajectory = Path(trajectory) if trajectory else _find_trajectory(path)
    if trajectory is None:
        _log.warning("%s has no %s beside it: hands stay in the moving device frame", path, TRAJECTORY)
    else:
        T_world_device, known = device_poses(trajectory, stamp)
        keypoints = transform_points(T_world_device[:, None], keypoints)
        keypoints[~known] = np.nan
    return Episode(stamp, keypoints, np.isfinite(keypoints).all(axis=-1))


def device_poses(trajectory: Path, stamp: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """T_world_device (T, 4, 4) at times (T,) s, and whether each is known (T,), from a closed-loop trajectory."""
    table = read_columns(trajectory)
    needed = [f"{name}_world_device" for name in ("tx", "ty", "tz", "qx", "qy", "qz", "qw")]
    missing = [name for name in needed if name not in table]
    if missing:
        raise UserError(f"{trajectory} lacks the columns {', '.join(missing)}; give a {TRAJECTORY}")
    rotation = matrix_from_quaternion(np.column_stack([table[name] for name in needed[3:]]))
    poses = make_transform(rotation, np.column_stack([table[name] for name in needed[:3]]))
    track = PoseTrack(np.inf, _TRAJECTORY_GAP)
    for time, pose in zip(table[_STAMP] * 1e-6, poses):
        track.add(time, pose)
    return track.at(stamp)


def read_columns(path: Path) -> dict[str, np.ndarray]:
    """Numeric columns of a CSV by name; what is no number is NaN. Raises `UserError` for an empty or ragged file."""
    with open(path, encoding="utf-8", errors="replace", newline="") as file:
        rows = [row for row in csv.reader(file) if row]
    if len(rows) < 2:
        raise UserError(f"{path} has no rows")
    width = len(rows[0])
    # A file that is still being written or was cut ends in a broken row.
    body = [row for row in rows[1:] if len(row) == width]
    if len(body) < len(rows) - 2 or not body:
        raise UserError(f"{path} has rows that do not match its {width} columns; is it a CSV of Aria MPS?")
    columns = np.array([[_number(cell) for cell in row] for row in body]).T
    return dict(zip(rows[0], columns))


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return float("nan")
