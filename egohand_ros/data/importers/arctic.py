"""ARCTIC (Fan et al., CVPR 2023): `raw_seqs/<subject>/<sequence>.mano.npy` -> `Episode`, with the user's MANO files.

After docs/data/data_doc.md and src/arctic/preprocess_dataset.py of zc-alexfan/arctic: by side `rot` (N, 3), `pose` (N,
45) on top of MANO's mean pose, `trans` (N, 3) m and `shape` (10,) in the capture's world, Z up, at 30 frames a second.
The file `<sequence>.egocam.dist.npy` beside it has the head camera: `R_k_cam_np` and `T_k_cam_np` map world to camera,
`intrinsics` is the matrix of its pictures `images/<subject>/<sequence>/0/%05d.jpg` (2800 x 2000 px, numbered from 1),
which are looked for in a folder `images` above the one of `raw_seqs`.
"""

import pickle
from pathlib import Path

import numpy as np

from ...errors import UserError
from ...geometry.camera import Camera
from ...geometry.transforms import invert_transform, make_transform
from ...hand.mano import load_mano
from ...hand.skeleton import SIDES
from ..episode import Episode
from ..episode_images import EpisodeImages
from ..image_sources import ImageFiles
from .keypoints_pickle import ArraysOnly

RATE = 30.0
_PICTURE = (2800, 2000)  # px, of the head camera
HANDS, CAMERA = ".mano.npy", ".egocam.dist.npy"
_FIELDS = ("rot", "pose", "trans", "shape")


def load_arctic(path: Path | str, mano: Path | str | None) -> Episode:
    """Read a sequence's hands. Raises `UserError` for other files and without MANO."""
    path, models = Path(path), load_mano(mano)
    content = read_dictionary(path)
    keypoints, poses, places, shapes = [], [], [], []
    for side in SIDES:
        hand = content.get(side, {})
        missing = [name for name in _FIELDS if name not in hand]
        if missing:
            raise UserError(f"{path} lacks {side}/{missing[0]}; expected ARCTIC's raw_seqs/*{HANDS}")
        rot, pose, trans, shape = (np.asarray(hand[name], dtype=np.float64) for name in _FIELDS)
        keypoints.append(models[side].keypoints(rot, pose, shape, trans))
        poses.append(np.concatenate([rot, pose], axis=1).reshape(-1, 16, 3))
        places.append(trans)
        shapes.append(np.broadcast_to(shape, (10,)))
    if len(keypoints[0]) != len(keypoints[1]):
        raise UserError(f"{path} has {len(keypoints[0])} left and {len(keypoints[1])} right hands; expected as many")
    keypoints = np.stack(keypoints, axis=1)
    camera, images = _camera(path.with_name(path.name.replace(HANDS, CAMERA)), len(keypoints)), _images(path)
    stamp = np.arange(len(keypoints)) / RATE
    what, _, how = path.name.removesuffix(HANDS).rpartition("_")[0].partition("_")
    return Episode(
        stamp,
        keypoints,
        np.isfinite(keypoints).all(axis=-1),
        None,
        camera,
        f"{how} the {what}" if how else "",
        images,
        mano_pose=np.stack(poses, axis=1),
        mano_translation=np.stack(places, axis=1),
        betas=np.stack(shapes),
    )


def _images(path: Path) -> EpisodeImages | None:
    """The head camera's pictures, where they were downloaded."""
    path = path.resolve()
    folder = path.parent.parent.parent / "images" / path.parent.name / path.name.removesuffix(HANDS) / "0"
    names = sorted(file.name for file in folder.glob("*.jpg"))
    if not names:
        return None
    lens, camera = path.with_name(path.name.replace(HANDS, CAMERA)), None
    if lens.is_file():
        matrix = read_dictionary(lens).get("intrinsics")
        camera = None if matrix is None else Camera(np.asarray(matrix, dtype=np.float64).reshape(3, 3), *_PICTURE)
    stamp = (np.array([int(Path(name).stem) for name in names]) - 1) / RATE
    return EpisodeImages(stamp, ImageFiles(str(folder.resolve()), tuple(names)), camera)


def _camera(path: Path, count: int) -> np.ndarray | None:
    """T_world_camera (N, 4, 4), or None where the file is missing."""
    if not path.is_file():
        return None
    content = read_dictionary(path)
    try:
        rotation, translation = content["R_k_cam_np"], np.reshape(content["T_k_cam_np"], (-1, 3))
        poses = invert_transform(make_transform(rotation, translation))
    except (KeyError, ValueError) as error:
        raise UserError(f"{path} has no camera poses R_k_cam_np and T_k_cam_np: {error}") from None
    if len(poses) != count:
        raise UserError(f"{path} has {len(poses)} camera poses for {count} frames")
    return poses


def read_dictionary(path: Path) -> dict:
    """The dictionary of arrays that `np.save` pickled; nothing else of it is run."""
    try:
        with open(path, "rb") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(file)
            if shape != () or not dtype.hasobject:
                raise ValueError(f"it is an array {shape} of {dtype}, not a dictionary")
            content = ArraysOnly(file).load()
    except (OSError, ValueError, pickle.UnpicklingError, EOFError, AttributeError, ImportError, IndexError) as error:
        raise UserError(f"{path} cannot be read: {error}; expected a file of ARCTIC's raw_seqs") from None
    content = content.item() if isinstance(content, np.ndarray) else content
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no dictionary; expected a file of ARCTIC's raw_seqs")
    return content
