"""Small files of the exact structure in which other projects publish their data sets, for the tests of importers."""

import io
import json
import pickle
import sys
import tarfile
import types
from pathlib import Path

import numpy as np
import scipy.sparse
from scipy.spatial.transform import Rotation

from egohand_ros.data.importers.egodex import JOINTS
from egohand_ros.hand.mano import TIP_VERTICES

MANO_CHAINS = {
    "index": (1, 2, 3),
    "middle": (4, 5, 6),
    "little": (7, 8, 9),
    "ring": (10, 11, 12),
    "thumb": (13, 14, 15),
}


class _Ch:
    """Pickles like chumpy.ch.Ch: its numbers are in x."""

    def __init__(self, x):
        self.x = x


class _Select:
    """Pickles like chumpy.reordering.Select, which MANO's shapedirs are: some elements of an array."""

    def __init__(self, a, idxs, preferred_shape):
        self.a, self.idxs, self.preferred_shape = a, idxs, preferred_shape


def mano_joints(side: str) -> np.ndarray:
    """Joints (16, 3) and fingertips (5, 3) m of the hand that `write_mano` makes: a left one is its mirror image."""
    points = np.zeros((21, 3))
    points[0] = (0.095, 0.006, 0.006)
    for finger, (name, chain) in enumerate(MANO_CHAINS.items()):
        for k, joint in enumerate(chain):
            points[joint] = points[0] + (-0.05 - 0.03 * k, 0.0, 0.03 - 0.015 * finger)
        tip = ("thumb", "index", "middle", "ring", "little").index(name)
        points[16 + tip] = points[0] + (-0.14, 0.0, 0.03 - 0.015 * finger)
    return points * ([-1, 1, 1] if side == "left" else [1, 1, 1])


def write_mano(folder: Path, with_sign_error: bool = True) -> Path:
    """MANO_LEFT.pkl and MANO_RIGHT.pkl: 778 vertices of which those that count lie at the joints and fingertips."""
    folder.mkdir(parents=True, exist_ok=True)
    modules = {name: types.ModuleType(name) for name in ("chumpy", "chumpy.ch", "chumpy.reordering")}
    for cls, name, module in ((_Ch, "Ch", "chumpy.ch"), (_Select, "Select", "chumpy.reordering")):
        cls.__name__ = cls.__qualname__ = name
        cls.__module__ = module
        setattr(modules[module], name, cls)
    sys.modules.update(modules)
    try:
        for side in ("left", "right"):
            content = _mano_content(side, with_sign_error)
            (folder / f"MANO_{side.upper()}.pkl").write_bytes(pickle.dumps(content, protocol=2))
    finally:
        for name in modules:
            del sys.modules[name]
    return folder


def _mano_content(side: str, with_sign_error: bool) -> dict:
    points, vertices = mano_joints(side), np.zeros((778, 3))
    regressor, weights = np.zeros((16, 778)), np.zeros((778, 16))
    parents = np.zeros(16, dtype=np.int64)
    for chain in MANO_CHAINS.values():
        parents[list(chain)] = (0, *chain[:-1])
    for joint in range(16):
        vertices[joint], regressor[joint, joint] = points[joint], 1.0
    weights[:, 0] = 1.0
    for finger, name in enumerate(("thumb", "index", "middle", "ring", "little")):
        vertices[TIP_VERTICES[finger]] = points[16 + finger]
        weights[TIP_VERTICES[finger]] = np.eye(16)[MANO_CHAINS[name][-1]]
    shape = np.zeros((778, 3, 10))
    # The first shape makes the hand longer in x; MANO's left hand was published with the sign of the right one.
    shape[:, 0, 0] = -0.01 if side == "right" or with_sign_error else 0.01
    return {
        "v_template": vertices,
        "shapedirs": _Select(_Ch(shape), np.arange(shape.size), shape.shape),
        "posedirs": np.zeros((778, 3, 135)),
        "J_regressor": scipy.sparse.csc_matrix(regressor),
        "weights": _Ch(weights),
        "kintree_table": np.stack([np.where(np.arange(16) == 0, 2**32 - 1, parents), np.arange(16)]),
        "f": np.zeros((1538, 3), dtype=np.uint32),
        "hands_mean": np.full(45, 0.0),
        "hands_components": np.eye(45),
        "bs_type": "lrotmin",
    }


# ---------------------------------------------------------------------------------------------- EgoDex


def write_egodex(
    path: Path, joints: dict[str, np.ndarray], camera: np.ndarray, confidences: dict | None = None, **attributes
) -> Path:
    """`joints` (N, 4, 4) by name."""
    import h5py

    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["camera/intrinsic"] = np.array([[736.6339, 0, 960], [0, 736.6339, 540], [0, 0, 1]], dtype=np.float32)
        for name, poses in {**joints, "camera": camera, "hip": camera}.items():
            file[f"transforms/{name}"] = poses.astype(np.float32)
        for name, values in (confidences or {}).items():
            file[f"confidences/{name}"] = values
        file.attrs.update(attributes)
    return path


# ---------------------------------------------------------------------------------------------- HOT3D


def umetrack_model() -> dict:
    """A left hand in mm: five straight fingers, each turning about x at its rest positions; landmarks in HOT3D's
    order.
    """
    rest, landmarks, bones = np.zeros((22, 3)), np.zeros((21, 3)), np.ones((21, 3), dtype=int)
    weights = np.zeros((21, 3))
    weights[:, 0] = 1.0
    bones[:, 1:] = 0
    axes = np.tile([1.0, 0.0, 0.0], (22, 1))
    inner = (6, 8, 11, 14, 17)
    for finger in range(5):
        x = 20.0 * finger
        for joint, y in enumerate((40.0, 40.0, 70.0, 90.0)):
            rest[4 * finger + joint] = (x, y, 0.0)
        landmarks[finger], bones[finger, 0] = (x, 110.0, 0.0), 4 + 3 * finger
        for k in range(2 if finger == 0 else 3):
            landmarks[inner[finger] + k] = (x, (70.0, 90.0)[k] if finger == 0 else (40.0, 70.0, 90.0)[k], 0.0)
            bones[inner[finger] + k, 0] = 2 + 3 * finger + k + (1 if finger == 0 else 0)
    landmarks[20] = (40.0, 20.0, 0.0)
    names = ("joint_rotation_axes", "joint_rest_positions", "landmark_rest_positions", "landmark_rest_bone_weights")
    model = {name: array.tolist() for name, array in zip(names, (axes, rest, landmarks, weights))}
    return model | {"landmark_rest_bone_indices": bones.tolist(), "hand_scale": 1.0}


def hand_line(time: int, hands: dict[str, dict]) -> str:
    return json.dumps({"timestamp_ns": time, "hand_poses": hands})


def write_hot3d(
    folder: Path, headset: str, umetrack: list[str], mano: list[str], mask: dict[int, bool], device=None
) -> Path:
    """A sequence folder; `device` is T_world_device as position and quaternion wxyz."""
    (folder / "masks").mkdir(parents=True)
    (folder / "metadata.json").write_text(json.dumps({"headset": headset, "recording_name": folder.name}))
    for name, lines in (("umetrack", umetrack), ("mano", mano)):
        if lines:
            (folder / f"{name}_hand_pose_trajectory.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "umetrack_hand_user_profile.json").write_text(json.dumps({"hand_model": umetrack_model()}))
    rows = [f"{time},{stream},{good}" for time, good in mask.items() for stream in ("1201-1", "1201-2")]
    (folder / "masks" / "mask_hand_pose_available.csv").write_text(
        "\n".join(["timestamp[ns],stream_id,mask", *rows]) + "\n"
    )
    (position, quaternion) = device or ((0, 0, 0), (1, 0, 0, 0))
    columns = "object_uid,timestamp[ns],t_wo_x[m],t_wo_y[m],t_wo_z[m],q_wo_w,q_wo_x,q_wo_y,q_wo_z"
    numbers = ",".join(map(str, (*position, *quaternion)))
    (folder / "headset_trajectory.csv").write_text("\n".join([columns, *(f"58635,{t},{numbers}" for t in mask)]) + "\n")
    if headset == "Quest3":
        place = {"quaternion_wxyz": [1, 0, 0, 0], "translation_xyz": [0.03, 0, 0]}
        (folder / "camera_models.json").write_text(json.dumps([{"stream_id": "1201-1", "T_Device_Camera": place}]))
    return folder


def write_clip(path: Path, files: dict[str, dict]) -> Path:
    """A tar of JSON files."""
    with tarfile.open(path, "w") as clip:
        for name, content in files.items():
            data = json.dumps(content).encode()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            clip.addfile(info, io.BytesIO(data))
    return path


def arctic_files(folder, frames=4, camera=True):
    """A sequence whose left hand is turned and whose right one moves along x."""
    hand = {"pose": np.zeros((frames, 45)), "shape": np.zeros(10), "fitting_err": np.zeros(frames)}
    left = hand | {"rot": np.tile([0, 0, np.pi / 2], (frames, 1)), "trans": np.zeros((frames, 3))}
    right = hand | {"rot": np.zeros((frames, 3)), "trans": np.arange(frames)[:, None] * [0.01, 0, 0]}
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "box_grab_01.mano.npy", {"left": left, "right": right})
    if camera:
        R = np.tile(Rotation.from_euler("x", 90, degrees=True).as_matrix(), (frames, 1, 1))
        np.save(
            folder / "box_grab_01.egocam.dist.npy",
            {"R_k_cam_np": R, "T_k_cam_np": np.tile([[0], [0], [1.0]], (frames, 1, 1))},
        )
    return folder


def clip_files(frames=3):
    identity = np.eye(4).tolist()
    place = {"quaternion_wxyz": [1, 0, 0, 0], "translation_xyz": [0, 0, 1.5]}
    files = {"__hand_shapes.json__": {"mano": [0.0] * 10, "umetrack": umetrack_model()}}
    for i in range(frames):
        pose = {"mano_pose": {"thetas": [0.0] * 15, "wrist_xform": [0, 0, 0, 0.1, 0.2, 0.3]}}
        pose["umetrack_pose"] = {"joint_angles": [0.0] * 20, "wrist_xform": identity}
        files[f"{i:06d}.cameras.json"] = {
            s: {"calibration": {}, "T_world_from_camera": place} for s in ("214-1", "1201-1")
        }
        files[f"{i:06d}.hands.json"] = {"left": pose}
        files[f"{i:06d}.info.json"] = {"image_timestamps_ns": {"214-1": 10**9 + i * 33_333_333, "1201-1": 0}}
    return files


def egodex_joints(frames=3):
    joints = {}
    for s, side in enumerate(("left", "right")):
        for k, joint in enumerate(JOINTS):
            poses = np.tile(np.eye(4), (frames, 1, 1))
            poses[:, :3, 3] = (0.01 * k, 1.0 + s, -0.5)  # ARKit: y up, z to the back
            joints[f"{side}{joint}"] = poses
    return joints


def h2o_take(folder, frames=3):
    for name in ("hand_pose", "cam_pose", "action_label"):
        (folder / "cam4" / name).mkdir(parents=True)
    hand = np.arange(63) / 1000.0
    for i in range(frames):
        numbers = np.concatenate([[1], hand, [i > 0], hand + 0.5])
        pose = np.eye(4)
        pose[:3, 3] = (0, 0, i)
        for kind, values in (
            ("hand_pose", numbers),
            ("cam_pose", pose.ravel()),
            ("action_label", [0 if i == 0 else 23]),
        ):
            (folder / "cam4" / kind / f"{i:06d}.txt").write_text(" ".join(f"{v:g}" for v in values))
    return folder
