"""EgoDex (Apple, Hoque et al. 2025): `<task>/<number>.hdf5` -> `Episode`.

After the format description of apple/ml-egodex: 30 Hz; `transforms/<joint>` (N, 4, 4) in ARKit's world, whose Y axis
points up (turned to Z up here); `transforms/camera` is T_world_camera of an optical frame; `confidences/<joint>` (N,)
from 0 to 1, in newer files; attributes `llm_description`, and where `llm_type` is "reversible" `which_llm_description`
names the one of two. The picture of frame n is that of the video `<number>.mp4` beside it, its camera
`camera/intrinsic`. `<side>Hand` is the wrist. Metacarpals are no keypoints of ours. A keypoint of confidence 0 is not
there.
"""

from pathlib import Path

import numpy as np

from ...errors import UserError
from ...geometry.camera import Camera
from ...geometry.transforms import z_up_from_y_up
from ...hand.conventions import to_canonical
from ...hand.skeleton import SIDES
from ..episode import Episode
from ..episode_images import EpisodeImages
from ..image_sources import VideoFrames
from ..video import Video

RATE = 30.0
_THUMB = ("ThumbKnuckle", "ThumbIntermediateBase", "ThumbIntermediateTip", "ThumbTip")
_FINGER = ("Metacarpal", "Knuckle", "IntermediateBase", "IntermediateTip", "Tip")
# In the order of convention "arkit".
JOINTS = (
    "Hand",
    *_THUMB,
    *(f"{name}Finger{part}" for name in ("Index", "Middle", "Ring", "Little") for part in _FINGER),
)


def load_egodex(path: Path | str) -> Episode:
    """Read one demonstration. Raises `UserError` for a file without the hands' transforms."""
    try:
        import h5py
    except ImportError:
        raise UserError("EgoDex needs h5py: pip install h5py") from None
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise UserError(f"{path} cannot be read as HDF5: {error}") from None
    with file:
        transforms = file.get("transforms", {})
        missing = [f"{side}{joint}" for side in SIDES for joint in JOINTS if f"{side}{joint}" not in transforms]
        if missing:
            raise UserError(
                f"{path} lacks transforms/{missing[0]} and {len(missing) - 1} more; expected a file of EgoDex"
            )
        joints = np.stack([[transforms[f"{s}{j}"][:, :3, 3] for j in JOINTS] for s in SIDES])  # (2, 25, N, 3)
        known = np.ones(joints.shape[:-1], dtype=bool)
        for i, side in enumerate(SIDES):
            for k, joint in enumerate(JOINTS):
                name = f"confidences/{side}{joint}"
                if name in file:
                    known[i, k] = file[name][:] > 0
        camera = transforms["camera"][:] if "camera" in transforms else None
        task = _task(file.attrs)
        matrix = file["camera/intrinsic"][:] if "camera/intrinsic" in file else None
    T_up_arkit = z_up_from_y_up()
    joints = np.where(known[..., None], joints, np.nan)
    keypoints = to_canonical(np.moveaxis(joints, 2, 0), "arkit") @ T_up_arkit[:3, :3].T
    camera = None if camera is None else T_up_arkit @ camera
    stamp = np.arange(len(keypoints)) / RATE
    images = _images(Path(path).with_suffix(".mp4"), stamp, matrix)
    return Episode(stamp, keypoints, np.isfinite(keypoints).all(axis=-1), None, camera, task, images)


def _images(path: Path, stamp: np.ndarray, matrix: np.ndarray | None) -> EpisodeImages | None:
    """The video's frames, where it was downloaded."""
    if not path.is_file():
        return None
    video = Video.open(path)
    count = min(len(stamp), video.frames or len(stamp))
    camera = None if matrix is None else Camera(matrix, video.width, video.height)
    return EpisodeImages(stamp[:count], VideoFrames(str(path.resolve()), count), camera)


def _task(attributes) -> str:
    second = _text(attributes.get("llm_type")) == "reversible" and _text(attributes.get("which_llm_description")) == "2"
    return _text(attributes.get("llm_description2" if second else "llm_description"))


def _text(value) -> str:
    return "" if value is None else value.decode() if isinstance(value, bytes) else str(value)
