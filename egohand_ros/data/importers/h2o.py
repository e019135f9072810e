"""H2O (Kwon et al., ICCV 2021): a take's `cam4` folder -> `Episode`.

After the README of taeinkwon/h2odataset: cam4 is on the head; `hand_pose/%06d.txt` has 1 + 21 x 3 numbers of the left
hand, then of the right one (the first says whether it is annotated), m in the camera's frame; `cam_pose/%06d.txt` is
the 4 x 4 matrix from camera to world; `action_label/%06d.txt` a number; `rgb/%06d.png` (`rgb256/%06d.jpg` in the small
download) the picture and `cam_intrinsics.txt` fx, fy, cx, cy, width, height of the large one. 30 frames a second. The
published world is that of the fixed cameras' calibration; which of its axes points up is not stated, so it is left as
it is.
"""

from pathlib import Path

import numpy as np

from ...errors import UserError
from ...geometry.camera import Camera
from ...geometry.transforms import transform_points
from ...hand.conventions import to_canonical
from ..episode import Episode
from ..episode_images import EpisodeImages
from ..image_sources import ImageFiles

RATE = 30.0
CAMERA = "cam4"
_NUMBERS = 64  # of one hand
# README of taeinkwon/h2odataset, "action_label"
ACTIONS = (
    "",
    *(f"grab {thing}" for thing in ("book", "espresso", "lotion", "spray", "milk", "cocoa", "chips", "cappuccino")),
    *(f"place {thing}" for thing in ("book", "espresso", "lotion", "spray", "milk", "cocoa", "chips", "cappuccino")),
    *(f"open {thing}" for thing in ("lotion", "milk", "chips")),
    *(f"close {thing}" for thing in ("lotion", "milk", "chips")),
    "pour milk",
    *(f"take out {thing}" for thing in ("espresso", "cocoa", "chips", "cappuccino")),
    *(f"put in {thing}" for thing in ("espresso", "cocoa", "cappuccino")),
    *("apply lotion", "apply spray", "read book", "read espresso", "spray spray", "squeeze lotion"),
)


def is_h2o(path: Path) -> bool:
    """Whether a folder is a take of H2O, or its head camera's."""
    return any((folder / "hand_pose").is_dir() and (folder / "cam_pose").is_dir() for folder in (path, path / CAMERA))


def load_h2o(path: Path | str) -> Episode:
    """Read a take (`subject1/h1/0`) or its cam4 folder. Raises `UserError` where files are missing or of another
    form.
    """
    folder = Path(path) / CAMERA if (Path(path) / CAMERA / "hand_pose").is_dir() else Path(path)
    files = sorted((folder / "hand_pose").glob("*.txt"))
    if not files:
        raise UserError(f"{folder} has no hand_pose/*.txt; give a take of H2O such as subject1/h1/0")
    hands = np.stack([_numbers(file, 2 * _NUMBERS) for file in files]).reshape(-1, 2, _NUMBERS)
    camera = np.stack([_numbers(folder / "cam_pose" / file.name, 16) for file in files]).reshape(-1, 4, 4)
    keypoints = to_canonical(hands[..., 1:].reshape(len(files), 2, 21, 3), "h2o")
    keypoints[hands[..., 0] < 0.5] = np.nan
    keypoints = transform_points(camera[:, None], keypoints)
    stamp = np.array([int(file.stem) for file in files]) / RATE
    return Episode(
        stamp, keypoints, np.isfinite(keypoints).all(axis=-1), None, camera, _task(folder, files), _images(folder)
    )


def _images(folder: Path) -> EpisodeImages | None:
    """The head camera's pictures, where they were downloaded."""
    for place, ending in (("rgb", "png"), ("rgb256", "jpg")):
        names = sorted(file.name for file in (folder / place).glob(f"*.{ending}"))
        if names:
            break
    else:
        return None
    lens, camera = folder / "cam_intrinsics.txt", None
    if lens.is_file():
        fx, fy, cx, cy, width, height = _numbers(lens, 6)
        camera = Camera(np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]), int(width), int(height))
    stamp = np.array([int(Path(name).stem) for name in names]) / RATE
    return EpisodeImages(stamp, ImageFiles(str((folder / place).resolve()), tuple(names)), camera)


def _task(folder: Path, files: list[Path]) -> str:
    labels = [folder / "action_label" / file.name for file in files]
    found = dict.fromkeys(int(_numbers(label, 1)[0]) for label in labels if label.is_file())
    return "; ".join(ACTIONS[i] for i in found if 0 < i < len(ACTIONS))


def _numbers(path: Path, count: int) -> np.ndarray:
    try:
        values = np.array(path.read_text().split(), dtype=np.float64)
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}; expected {count} numbers of H2O") from None
    if len(values) != count:
        raise UserError(f"{path} has {len(values)} numbers; H2O has {count} there")
    return values
