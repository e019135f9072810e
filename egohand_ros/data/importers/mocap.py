"""Qualisys Track Manager `.tsv` recordings of one marked hand -> `Episode`.

Marker names are those of dfki-ric/hand_embodiment: `hand_top`, `hand_left`, `hand_right` on the back of the hand and
`<finger>_middle`, `<finger>_tip` on each finger.

- Wrist keypoint: the midpoint of `hand_left` and `hand_right`, the two markers at the wrist end of the hand's back. It
  is a point fixed to the hand about 2 cm above the joint, so its path is the true one of a wrist up to that offset.
- Wrist rotation: of the rigid body of the three hand markers. The plane of the markers is the back of the hand (z), and
  x is fixed in it once for a recording: the mean direction to the midpoint of index and little finger markers.
- `<finger>_middle` is the PIP keypoint (thumb: IP) and `<finger>_tip` the tip. No other keypoint is measured; the
  others are invalid. The capture has no camera, so the episode has no camera pose.
"""

import csv
from pathlib import Path

import numpy as np

from ...errors import UserError
from ...hand.skeleton import FINGERS, KEYPOINT_NAMES, NUM_KEYPOINTS, WRIST, side_index
from ..episode import Episode

HAND_MARKERS = ("hand_top", "hand_left", "hand_right")
KEYPOINT_MARKERS = {
    f"{finger}_{marker}": KEYPOINT_NAMES.index(f"{finger}_{joint}")
    for finger in FINGERS
    for marker, joint in (("middle", "ip" if finger == "thumb" else "pip"), ("tip", "tip"))
}


def is_qualisys_tsv(path: Path) -> bool:
    """Whether a file begins like a Qualisys marker recording."""
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.readline().startswith("NO_OF_FRAMES\t")


def load_qualisys(path: Path | str, side: str = "right") -> Episode:
    """Read a recording in mm as an episode in m in the capture's own frame; gaps (empty or zero) are invalid.

    Raises `UserError` for a file that is not one, or that lacks the hand's markers.
    """
    stamp, markers = read_markers(Path(path))
    missing = [name for name in HAND_MARKERS if name not in markers]
    if missing:
        raise UserError(f"{path} lacks the markers {', '.join(missing)}; it has {', '.join(markers)}")
    keypoints = np.full((len(stamp), 2, NUM_KEYPOINTS, 3), np.nan)
    hand = side_index(side)
    keypoints[:, hand, WRIST] = (markers["hand_left"] + markers["hand_right"]) / 2.0
    for name, index in KEYPOINT_MARKERS.items():
        if name in markers:
            keypoints[:, hand, index] = markers[name]
    rotation = np.full((len(stamp), 2, 3, 3), np.nan)
    rotation[:, hand] = _wrist_rotation(markers, keypoints[:, hand, WRIST])
    return Episode(stamp, keypoints, np.isfinite(keypoints).all(axis=-1), rotation)


def read_markers(path: Path) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """stamp (T,) s and every marker's path (T, 3) m, NaN in gaps."""
    with open(path, encoding="utf-8", errors="replace", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t"))
    header = {row[0]: row[1:] for row in rows[:40] if row}
    names = [name for name in header.get("MARKER_NAMES", ()) if name]
    first = next((i + 1 for i, row in enumerate(rows[:40]) if row[:2] == ["Frame", "Time"]), None)
    if first is None:
        raise UserError(f"{path} has no line 'Frame, Time, ...'; export it from Qualisys with a header and time column")
    width = 2 + 3 * len(names)
    for number, row in enumerate(rows[first:], first + 1):
        if row and len(row) < width:
            raise UserError(f"{path} line {number} has {len(row)} of {width} columns; is the file cut short?")
    try:
        table = np.array(
            [[float(cell) if cell.strip() else np.nan for cell in row[:width]] for row in rows[first:] if row]
        )
    except ValueError as error:
        raise UserError(f"{path} has a row that is not numbers: {error}") from None
    if table.ndim != 2 or table.shape[1] != width or not len(table):
        raise UserError(f"{path} has rows that do not match its {len(names)} marker names; is the file cut short?")
    positions = table[:, 2:].reshape(len(table), len(names), 3) / 1000.0
    positions[(positions == 0.0).all(axis=-1)] = np.nan
    return table[:, 1], {name: positions[:, i] for i, name in enumerate(names)}


def _wrist_rotation(markers: dict[str, np.ndarray], wrist: np.ndarray) -> np.ndarray:
    """R_capture_palm (T, 3, 3), NaN in gaps, from the three markers on the back of the hand."""
    forward = _unit(markers["hand_top"] - wrist)
    leftward = markers["hand_left"] - markers["hand_right"]
    dorsal = _unit(np.cross(forward, leftward))
    body = np.stack([forward, np.cross(dorsal, forward), dorsal], axis=-1)
    ends = [markers[name] for name in ("index_middle", "little_middle") if name in markers]
    if not ends:
        return body
    distal = np.einsum("tij,ti->tj", body, sum(ends) / len(ends) - wrist)
    heading = np.nanmean(_unit(distal), axis=0)
    angle = np.arctan2(heading[1], heading[0])
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    return body @ turn


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
