"""Ego-Exo4D hands (Grauman et al., CVPR 2024) -> one `Episode` a take.

After handpose/data_preparation of EGO4D/ego-exo4d-egopose:

- Published annotations, `annotations/ego_pose/<split>/hand/{annotation,automatic}/<take_uid>.json`: by frame number (30
  a second) a list with one entry, whose `annotation3D` has `<side>_wrist` and `<side>_<finger>_<1-4>` as x, y, z m in
  the gravity-aligned world of the take (Z up), and how many views saw it: manual ones of fewer than three views are not
  trusted there, nor here.
- `annotations/ego_pose/<split>/camera_pose/<take_uid>.json`: `camera_extrinsics` of the `aria..` camera by frame, 3 x
  4, world to camera. Frames without are left out, as in the authors' preparation.
- Prepared files `ego_pose_gt_anno_<split>_public.json`: {take: {frame: right_hand_3d (21, 3), right_hand_valid_3d (21),
  ...}} in the *camera's* frame. They are moved to the world where a folder `camera_pose` lies beside the file,
  otherwise stay. Pictures are the undistorted ones of the same preparation in their default view,
  `image/undistorted/<split>/<take>/<frame>.jpg` beside the folder `annotation`: 512 px, focal length 150 px.
"""

import json
import logging
import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...errors import UserError
from ...geometry.camera import Camera
from ...geometry.transforms import invert_transform, make_transform, transform_points
from ...hand.conventions import to_canonical
from ...hand.skeleton import NUM_KEYPOINTS, SIDES
from ..episode import Episode
from ..episode_images import EpisodeImages
from ..image_sources import ImageFiles

RATE = 30.0
CAMERA_FOLDER = "camera_pose"
_MIN_VIEWS = 3
_FINGERS = ("thumb", "index", "middle", "ring", "pinky")
# What the authors' preparation undistorts to.
_UNDISTORTED = Camera(np.array([[150.0, 0, 255.5], [0, 150.0, 255.5], [0, 0, 1]]), 512, 512)
_SPLIT = re.compile(r"ego_pose_gt_anno_(\w+)_public\.json")
_JOINTS = ("wrist", *(f"{finger}_{i}" for finger in _FINGERS for i in range(1, 5)))
_HANDS = "annotations/ego_pose/*/hand/*/*.json"

_log = logging.getLogger(__name__)


def is_egoexo4d(path: Path) -> bool:
    """Whether a folder is a download of Ego-Exo4D with hand annotations, or a file is one of those."""
    if path.is_dir():
        return any(path.glob(_HANDS))
    if path.suffix != ".json":
        return False
    with open(path, encoding="utf-8", errors="replace") as file:
        head = file.read(200_000)
    return '"annotation3D"' in head or '_hand_3d"' in head


def load_egoexo4d(path: Path | str) -> list[Episode]:
    """Read a download's folder, one take's file, or a prepared file. Raises `UserError` where there are no hands."""
    path = Path(path)
    episodes = []
    for file in sorted(path.glob(_HANDS)) if path.is_dir() else [path]:
        content = _read(file)
        if any(isinstance(value, list) for value in content.values()):
            content = {file.stem: {frame: _published(value, file) for frame, value in content.items()}}
            cameras = file.parent.parent.parent / CAMERA_FOLDER
            takes = [_in_world(frames, _extrinsics(cameras, take)) for take, frames in content.items()]
        else:
            cameras = file.parent / CAMERA_FOLDER
            takes = [
                _with_pictures(_from_camera(_prepared(frames), _extrinsics(cameras, take), file), frames, file)
                for take, frames in content.items()
            ]
        episodes += [episode for episode in takes if episode is not None]
    if not episodes:
        raise UserError(f"{path} has no hands with 3D keypoints; expected hand annotations of Ego-Exo4D")
    return episodes


def _published(entries: list, file: Path) -> np.ndarray:
    """Keypoints (2, 21, 3) m in the world of one frame's published annotation; NaN where missing or of too few
    views.
    """
    given = entries[0].get("annotation3D", {}) if entries else {}
    keypoints = np.full((2, NUM_KEYPOINTS, 3), np.nan)
    manual = file.parent.name != "automatic"
    for i, side in enumerate(SIDES):
        for k, joint in enumerate(_JOINTS):
            point = given.get(f"{side}_{joint}")
            if point and not (manual and point.get("num_views_for_3d", _MIN_VIEWS) < _MIN_VIEWS):
                keypoints[i, k] = [point[axis] for axis in "xyz"]
    return to_canonical(keypoints, "egoexo4d")


def _prepared(frames: dict) -> dict[str, np.ndarray]:
    """Keypoints (2, 21, 3) m in the camera's frame by frame number; an empty list is a hand that is not seen."""
    result = {}
    for frame, hands in frames.items():
        keypoints = np.full((2, NUM_KEYPOINTS, 3), np.nan)
        for i, side in enumerate(SIDES):
            given = np.array(hands.get(f"{side}_hand_3d") or (), dtype=np.float64)  # None becomes NaN
            if given.shape == (NUM_KEYPOINTS, 3):
                flags = np.array(hands.get(f"{side}_hand_valid_3d") or np.ones(NUM_KEYPOINTS), dtype=bool)
                keypoints[i] = np.where(flags[:, None], given, np.nan)
        result[frame] = to_canonical(keypoints, "egoexo4d")
    return result


def _with_pictures(episode: Episode | None, frames: dict, file: Path) -> Episode | None:
    """The take with its undistorted pictures, where they were prepared, and where in them hands were labelled."""
    split, name = _SPLIT.match(file.name), next(iter(frames.values()), {}).get("metadata", {}).get("take_name")
    if episode is None or split is None or name is None:
        return episode
    folder = file.parent.parent.parent / "image" / "undistorted" / split[1] / name
    names = sorted(path.name for path in folder.glob("*.jpg"))
    if not names:
        return episode
    stamp = np.array([int(Path(name).stem) for name in names]) / RATE
    images = EpisodeImages(stamp, ImageFiles(str(folder.resolve()), tuple(names)), _UNDISTORTED)
    pixels = np.full((len(episode), 2, NUM_KEYPOINTS, 2), np.nan)
    for row, number in enumerate(np.rint(episode.stamp * RATE).astype(int)):
        for i, side in enumerate(SIDES):
            given = np.array(frames[str(number)].get(f"{side}_hand_2d") or (), dtype=np.float64)
            if given.shape == (NUM_KEYPOINTS, 2):
                pixels[row, i] = to_canonical(given, "egoexo4d")
    return replace(episode, images=images, pixels=pixels)


def _in_world(frames: dict[str, np.ndarray], extrinsics: dict[int, np.ndarray] | None) -> Episode | None:
    numbers = sorted(int(frame) for frame in frames if extrinsics is None or int(frame) in extrinsics)
    if len(numbers) < len(frames):
        _log.warning("%d of %d frames have no camera pose and are left out", len(frames) - len(numbers), len(frames))
    if not numbers:
        return None
    camera = None if extrinsics is None else np.stack([extrinsics[n] for n in numbers])
    return _episode(numbers, np.stack([frames[str(n)] for n in numbers]), camera)


def _from_camera(frames: dict[str, np.ndarray], extrinsics: dict[int, np.ndarray] | None, file: Path) -> Episode | None:
    if extrinsics is None:
        _log.warning("%s has no folder %s beside it: hands stay in the moving camera's frame", file, CAMERA_FOLDER)
        return _in_world(frames, None)
    moved = {f: transform_points(extrinsics[int(f)], points) for f, points in frames.items() if int(f) in extrinsics}
    return _in_world(moved, extrinsics)


def _episode(numbers: list[int], keypoints: np.ndarray, camera: np.ndarray | None) -> Episode | None:
    valid = np.isfinite(keypoints).all(axis=-1)
    return Episode(np.array(numbers) / RATE, keypoints, valid, None, camera) if valid.any() else None


def _extrinsics(folder: Path, take: str) -> dict[int, np.ndarray] | None:
    """T_world_camera (4, 4) of the head camera by frame number, or None where there is no file."""
    file = folder / f"{take}.json"
    if not file.is_file():
        return None
    cameras = [value for name, value in _read(file).items() if name.startswith("aria") and isinstance(value, dict)]
    if not cameras or not isinstance(cameras[0].get("camera_extrinsics"), dict):
        raise UserError(f"{file} has no camera_extrinsics of an aria camera; expected a camera pose file of Ego-Exo4D")
    poses = {}
    for frame, matrix in cameras[0]["camera_extrinsics"].items():
        matrix = np.array(matrix, dtype=np.float64)
        if matrix.shape[-1] == 4 and np.isfinite(matrix[:3]).all():
            poses[int(frame)] = invert_transform(make_transform(matrix[:3, :3], matrix[:3, 3]))
    return poses


def _read(path: Path) -> dict:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}; expected a JSON file of Ego-Exo4D") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a JSON object; expected hand annotations of Ego-Exo4D")
    return content
