"""HOT3D (Banerjee et al., CVPR 2025): sequence folders and HOT3D-Clips -> `Episode`.

After facebookresearch/hot3d, `hot3d/data_loaders` and `hot3d/clips/README.md`:

- Sequence: `umetrack_hand_pose_trajectory.jsonl` with `umetrack_hand_user_profile.json`, or
  `mano_hand_pose_trajectory.jsonl` (15 pose components, smplx's order, betas once), one line an image time in ns; hand
  "0" is the left one. `masks/mask_hand_pose_available.csv` says which lines are good. `headset_trajectory.csv` has
  T_world_device.
- Clip: a tar with `<frame>.hands.json`, `.cameras.json`, `.info.json` and `__hand_shapes.json__`.

Without MANO files the UmeTrack hands are read, which come with their model; with MANO files the MANO hands. The world
is Z up for Aria and Y up for Quest 3 (turned to Z up here). The camera pose is that of the RGB camera (clips of Aria)
or of the left SLAM camera (Quest 3); Aria sequences have none, since their camera's place on the headset is in the VRS
file.
"""

import csv
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ...errors import UserError
from ...geometry.rotations import matrix_from_quaternion, rotation_vector
from ...geometry.transforms import make_transform, transform_points, z_up_from_y_up
from ...hand.conventions import to_canonical
from ...hand.mano import load_mano
from ...hand.skeleton import NUM_KEYPOINTS, SIDES
from ...hand.umetrack import UmeTrackHand
from ...stream.aligner import PoseTrack
from ..episode import Episode
from ..episode_images import EpisodeImages
from ..image_sources import TarImages

MANO_POSES, UMETRACK_POSES = "mano_hand_pose_trajectory.jsonl", "umetrack_hand_pose_trajectory.jsonl"
PROFILE, HEADSET, MASK = (
    "umetrack_hand_user_profile.json",
    "headset_trajectory.csv",
    "masks/mask_hand_pose_available.csv",
)
SHAPES = "__hand_shapes.json__"
_PCA = 15
# Streams are triggered within 0.1 ms of each other: their lines are one moment.
_SAME_MOMENT = 0.002
_HEADSET_GAP = 0.1
_CLIP_RATE = 30.0
_RGB, _SLAM_LEFT = "214-1", "1201-1"


@dataclass
class _Hands:
    """What is stored of one side: frame numbers, wrist poses T_world_wrist and pose numbers."""

    frames: list[int] = field(default_factory=list)
    wrists: list[np.ndarray] = field(default_factory=list)
    poses: list[list[float]] = field(default_factory=list)

    def add(self, frame: int, wrist: np.ndarray, pose: list[float]) -> None:
        self.frames.append(frame)
        self.wrists.append(wrist)
        self.poses.append(pose)


def is_hot3d(path: Path) -> bool:
    """Whether a folder is a sequence of HOT3D."""
    return (path / MANO_POSES).is_file() or (path / UMETRACK_POSES).is_file()


def is_hot3d_clip(path: Path) -> bool:
    """Whether a file is a clip of HOT3D."""
    if not tarfile.is_tarfile(path):
        return False
    with tarfile.open(path) as clip:
        return any(member.name.endswith(".cameras.json") for _, member in zip(range(20), clip))


# ---------------------------------------------------------------------------------------------- sequences


def load_hot3d(path: Path | str, mano: Path | str | None = None) -> Episode:
    """Read a sequence folder. Raises `UserError` for a folder of another form."""
    path = Path(path)
    use_mano = mano is not None or not (path / UMETRACK_POSES).is_file()
    lines = _moments(_json_lines(path / (MANO_POSES if use_mano else UMETRACK_POSES)))
    if not lines:
        raise UserError(f"{path} has no hand poses")
    good, hands, betas = _available(path / MASK), {side: _Hands() for side in SIDES}, None
    for frame, line in enumerate(lines):
        if not good.get(line["timestamp_ns"], True):
            continue
        for i, side in enumerate(SIDES):
            hand = line["hand_poses"].get(str(i))
            if hand:
                betas = hand.get("betas", betas)
                hands[side].add(frame, _wxyz_pose(hand["wrist_xform"]), hand["pose" if use_mano else "joint_angles"])
    if use_mano:
        keypoints = _mano_keypoints(hands, len(lines), betas, mano, path)
    else:
        profile = json.loads(_text(path / PROFILE))
        keypoints = _umetrack_keypoints(hands, len(lines), profile.get("hand_model", {}), path)
    stamp = np.array([line["timestamp_ns"] for line in lines]) * 1e-9
    quest = json.loads(_text(path / "metadata.json")).get("headset") == "Quest3"
    camera = _quest_camera(path, stamp) if quest else None
    return _episode(stamp, keypoints, camera, quest)


def _moments(lines: list[dict]) -> list[dict]:
    """Lines in order of time, one for all streams of a moment."""
    kept: list[dict] = []
    for line in sorted(lines, key=lambda line: line["timestamp_ns"]):
        if not kept or (line["timestamp_ns"] - kept[-1]["timestamp_ns"]) * 1e-9 > _SAME_MOMENT:
            kept.append(line)
    return kept


def _available(path: Path) -> dict[int, bool]:
    """Whether the hand poses of a time in ns are good; of streams at the same time, if one says so."""
    good: dict[int, bool] = {}
    for row in _csv_rows(path) if path.is_file() else ():
        time = int(row["timestamp[ns]"])
        good[time] = good.get(time, False) or row["mask"] == "True"
    return good


def _quest_camera(path: Path, stamp: np.ndarray) -> np.ndarray | None:
    """T_world_camera (T, 4, 4) of the left SLAM camera, or None where the files do not tell it for every time."""
    if not (path / HEADSET).is_file() or not (path / "camera_models.json").is_file():
        return None
    models = {model["stream_id"]: model for model in json.loads(_text(path / "camera_models.json"))}
    if _SLAM_LEFT not in models:
        return None
    track = PoseTrack(np.inf, _HEADSET_GAP)
    for row in _csv_rows(path / HEADSET):
        numbers = [float(row[f"q_wo_{axis}"]) for axis in "xyzw"], [float(row[f"t_wo_{axis}[m]"]) for axis in "xyz"]
        track.add(
            int(row["timestamp[ns]"]) * 1e-9,
            make_transform(matrix_from_quaternion(np.array(numbers[0])), np.array(numbers[1])),
        )
    T_world_device, known = track.at(stamp)
    place = models[_SLAM_LEFT]["T_Device_Camera"]
    return T_world_device @ _wxyz_pose(place, "quaternion_wxyz", "translation_xyz") if known.all() else None


# ---------------------------------------------------------------------------------------------- clips


def load_hot3d_clip(path: Path | str, mano: Path | str | None = None) -> Episode:
    """Read a clip's tar. Raises `UserError` where it has no hands (test clips) or is of another form."""
    path = Path(path)
    content = _clip_content(path)
    frames = sorted({int(name.split(".")[0]) for name in content if name.endswith(".cameras.json")})
    hands, use_mano = {side: _Hands() for side in SIDES}, mano is not None
    cameras, stamp = [], []
    for row, frame in enumerate(frames):
        streams = content[f"{frame:06d}.cameras.json"]
        stream = _RGB if _RGB in streams else _SLAM_LEFT
        cameras.append(_wxyz_pose(streams[stream]["T_world_from_camera"], "quaternion_wxyz", "translation_xyz"))
        times = content.get(f"{frame:06d}.info.json", {}).get("image_timestamps_ns", {})
        stamp.append(times[stream] * 1e-9 if stream in times else frame / _CLIP_RATE)
        for side, hand in content.get(f"{frame:06d}.hands.json", {}).items():
            pose = hand["mano_pose" if use_mano else "umetrack_pose"]
            wrist = np.array(pose["wrist_xform"], dtype=np.float64)
            # MANO's are kept as smplx takes them: a rotation vector, then the translation.
            hands[side].add(
                row, wrist if use_mano else wrist.reshape(4, 4), pose["thetas" if use_mano else "joint_angles"]
            )
    if not any(hands[side].frames for side in SIDES) or SHAPES not in content:
        raise UserError(
            f"{path} has no hand annotations; test clips of HOT3D have none, give one of train_aria or train_quest3"
        )
    if use_mano:
        keypoints = _mano_keypoints(hands, len(frames), content[SHAPES]["mano"], mano, path)
    else:
        model = content[SHAPES]["umetrack"]
        keypoints = _umetrack_keypoints(hands, len(frames), model.get("hand_model", model), path)
    episode = _episode(np.array(stamp), keypoints, np.stack(cameras), stream != _RGB)
    return replace(episode, images=_clip_images(path, stream, dict(zip(frames, stamp, strict=True))))


def _clip_images(path: Path, stream: str, stamps: dict[int, float]) -> EpisodeImages | None:
    """The pictures of the stream whose poses the episode has. Their lens is a fisheye of its own model: its matrix is
    not a pinhole's, and is left away."""
    with tarfile.open(path) as clip:
        members = [name for name in clip.getnames() if name.endswith(f".image_{stream}.jpg")]
    taken = {stamps[number]: name for name in members if (number := int(Path(name).name.split(".")[0])) in stamps}
    if not taken:
        return None
    times = sorted(taken)
    return EpisodeImages(np.array(times), TarImages(str(path.resolve()), tuple(taken[t] for t in times)))


def _clip_content(path: Path) -> dict[str, dict]:
    """Every JSON file of a clip that is needed, by name."""
    wanted = (".cameras.json", ".hands.json", ".info.json", SHAPES)
    try:
        with tarfile.open(path) as clip:
            members = [member for member in clip if member.isfile() and member.name.endswith(wanted)]
            return {Path(member.name).name: json.load(clip.extractfile(member)) for member in members}
    except (tarfile.TarError, ValueError, OSError) as error:
        raise UserError(f"{path} cannot be read as a clip of HOT3D: {error}") from None


# ---------------------------------------------------------------------------------------------- both


def _mano_keypoints(hands: dict[str, _Hands], count: int, betas, mano: Path | str | None, path: Path) -> np.ndarray:
    models = load_mano(mano, _PCA)
    if betas is None:
        raise UserError(f"{path} has no MANO shape (betas)")
    keypoints = np.full((count, 2, NUM_KEYPOINTS, 3), np.nan)
    for i, side in enumerate(SIDES):
        if hands[side].frames:
            wrist = np.stack(hands[side].wrists)
            if wrist.ndim == 3:
                wrist = np.concatenate([rotation_vector(wrist[:, :3, :3]), wrist[:, :3, 3]], axis=1)
            pose = np.array(hands[side].poses, dtype=np.float64)
            keypoints[hands[side].frames, i] = models[side].keypoints(wrist[:, :3], pose, np.array(betas), wrist[:, 3:])
    return keypoints


def _umetrack_keypoints(hands: dict[str, _Hands], count: int, hand_model: dict, path: Path) -> np.ndarray:
    try:
        model = UmeTrackHand(hand_model)
    except KeyError as error:
        raise UserError(
            f"{path} has no UmeTrack hand model: {error} is missing; give --mano to read the MANO hands"
        ) from None
    keypoints = np.full((count, 2, NUM_KEYPOINTS, 3), np.nan)
    for i, side in enumerate(SIDES):
        if hands[side].frames:
            landmarks = model.landmarks(np.array(hands[side].poses), np.stack(hands[side].wrists), side)
            keypoints[hands[side].frames, i] = to_canonical(landmarks, "aria_mps")
    return keypoints


def _episode(stamp: np.ndarray, keypoints: np.ndarray, camera: np.ndarray | None, y_up: bool) -> Episode:
    if y_up:
        T = z_up_from_y_up()
        keypoints = transform_points(T, keypoints.reshape(len(stamp), -1, 3)).reshape(keypoints.shape)
        camera = None if camera is None else T @ camera
    return Episode(stamp, keypoints, np.isfinite(keypoints).all(axis=-1), None, camera)


def _wxyz_pose(pose: dict, quaternion: str = "q_wxyz", translation: str = "t_xyz") -> np.ndarray:
    w, x, y, z = pose[quaternion]
    return make_transform(matrix_from_quaternion(np.array([x, y, z, w])), np.array(pose[translation]))


def _json_lines(path: Path) -> list[dict]:
    try:
        return [json.loads(line) for line in _text(path).splitlines() if line.strip()]
    except ValueError as error:
        raise UserError(f"{path} cannot be read: {error}; was it cut short?") from None


def _csv_rows(path: Path) -> Iterator[dict[str, str]]:
    return csv.DictReader(_text(path).splitlines())


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}; expected a sequence folder of HOT3D") from None
