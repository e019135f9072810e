"""LeRobotDataset v2.1 and v3.0 <-> `Episode`, through pyarrow (extra `datasets`); lerobot itself is not needed.

Layouts are those that lerobot 0.3.3 (v2.1) and 0.4.4 to 0.6 (v3.0) write and read: `src/lerobot/datasets` there.
Features:

observation.state   float32 (126,) m: keypoints, named `left_wrist_x` ... `right_little_tip_z`; 0 where not valid
action              float32 (126,) m: the state of the next frame (of itself at the end), so that policies can be
    trained
hand.valid          bool (42,): which keypoints were measured
hand.wrist_rotation float32 (8,): R_frame_palm of both hands as quaternions xyzw; 0 where unknown
camera.pose         float32 (7,): T_world_camera as position m and quaternion xyzw; only where it is known
stamp               float64 (1,) s: when the frame was acquired; LeRobot's own `timestamp` counts from the episode's
    start

LeRobot frames are evenly spaced. Recordings that are not, are resampled (`even_episode`). Of the videos of a
data set, that whose name says ego or head gives the pictures, otherwise the first; no data set says what its camera's
matrix is. Pictures inside parquet files are not read, and none are written. A data set of someone else is read where
one of its features has the names above.
"""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...errors import UserError
from ...geometry.rotations import matrix_from_quaternion, quaternion_from_matrix
from ...geometry.transforms import make_transform
from ...hand.skeleton import KEYPOINT_NAMES, NUM_KEYPOINTS, SIDES
from ...stream.aligner import PoseTrack
from ...stream.resample import resample
from ..episode import Episode
from ..episode_images import EpisodeImages
from ..image_sources import VideoFrames

VERSIONS = ("v2.1", "v3.0")
INFO = "meta/info.json"
STATE, ACTION, VALID = "observation.state", "action", "hand.valid"
ROTATION, CAMERA, STAMP = "hand.wrist_rotation", "camera.pose", "stamp"
STATE_NAMES = tuple(f"{side}_{keypoint}_{axis}" for side in SIDES for keypoint in KEYPOINT_NAMES for axis in "xyz")

_CHUNK = 1000  # files a folder
_FILE_BYTES = 100 * 2**20
_QUANTILES = (0.01, 0.1, 0.5, 0.9, 0.99)
# A frame may be this share of a period away from the even grid and still count as on it.
_ON_GRID = 0.1
_MAX_GAP_STEPS = 1.5  # as where windows are cut

_log = logging.getLogger(__name__)


def is_lerobot(path: Path) -> bool:
    """Whether a folder is a LeRobotDataset."""
    return (Path(path) / INFO).is_file()


# ---------------------------------------------------------------------------------------------- reading


def load_lerobot(path: Path | str) -> list[Episode]:
    """The episodes of a data set, in order. Raises `UserError` for another version, or where no feature is of hands."""
    path = Path(path)
    info = _read_json(path / INFO)
    version = str(info.get("codebase_version", ""))
    if version not in (*VERSIONS, "v2.0"):
        raise UserError(
            f"{path} is a LeRobotDataset {version or 'of no version'}; versions that are read: " + ", ".join(VERSIONS)
        )
    columns = _HandColumns.of(info.get("features", {}), path)
    tables = _tables_v3(path, info) if version.startswith("v3") else _tables_v2(path, info)
    tasks = _tasks(path, version)
    videos = _Videos(path, info)
    made = [(columns.episode(table, tasks), place) for table, place in tables if table.num_rows]
    episodes = [replace(episode, images=videos.of(episode.stamp, place)) for episode, place in made]
    if not episodes:
        raise UserError(f"LeRobotDataset {path} has no frames")
    return episodes


@dataclass(frozen=True)
class _HandColumns:
    """Where in a data set's features the parts of an episode are; `order` (126,) are the places of `STATE_NAMES`."""

    state: str
    order: np.ndarray
    present: frozenset[str]

    @classmethod
    def of(cls, features: dict, path: Path) -> "_HandColumns":
        for key, feature in features.items():
            place = {name: i for i, name in enumerate(_names(feature.get("names")))}
            if all(name in place for name in STATE_NAMES):
                return cls(key, np.array([place[name] for name in STATE_NAMES]), frozenset(features))
        raise UserError(
            f"LeRobotDataset {path} has no hand keypoints: none of its features "
            f"{', '.join(features) or '(none)'} has the "
            f"names {STATE_NAMES[0]} ... {STATE_NAMES[-1]}"
        )

    def episode(self, table, tasks: dict[int, str]) -> Episode:
        """One episode from its rows."""
        keypoints = _matrix(table, self.state)[:, self.order].reshape(-1, 2, NUM_KEYPOINTS, 3)
        valid = (keypoints != 0).any(axis=-1)
        if VALID in self.present:
            valid = _matrix(table, VALID).reshape(-1, 2, NUM_KEYPOINTS).astype(bool)
        rotation = camera = None
        if ROTATION in self.present:
            rotation = _rotations(_matrix(table, ROTATION).reshape(-1, 2, 4))
        if CAMERA in self.present:
            pose = _matrix(table, CAMERA)
            camera = make_transform(_rotations(pose[:, 3:]), pose[:, :3])
        stamp = _matrix(table, STAMP if STAMP in self.present else "timestamp")[:, 0]
        said = dict.fromkeys(tasks.get(int(i), "") for i in _matrix(table, "task_index")[:, 0]) if tasks else {}
        return Episode(stamp, keypoints, valid, rotation, camera, "; ".join(text for text in said if text))


@dataclass(frozen=True)
class _Videos:
    """Where the videos of a data set are."""

    path: Path
    info: dict

    @property
    def key(self) -> str | None:
        """The feature with the head camera's video."""
        found = [k for k, feature in self.info.get("features", {}).items() if feature.get("dtype") == "video"]
        return next((key for key in found if "ego" in key or "head" in key), found[0] if found else None)

    def of(self, stamp: np.ndarray, place: dict) -> EpisodeImages | None:
        """The pictures of the frames at times `stamp` (T,); None without a video, or where it was not copied."""
        key, pattern = self.key, self.info.get("video_path")
        if key is None or not pattern:
            return None
        if "chunk_index" in pattern:
            where = {name: place.get(f"videos/{key}/{name}") for name in ("chunk_index", "file_index")}
            begin = place.get(f"videos/{key}/from_timestamp")
            if begin is None or None in where.values():
                return None
            name, start = pattern.format(video_key=key, **where), round(float(begin) * float(self.info["fps"]))
        else:
            name, start = pattern.format(video_key=key, **place), 0
        file = self.path / name
        return EpisodeImages(stamp, VideoFrames(str(file.resolve()), len(stamp), start)) if file.is_file() else None


def _tables_v2(path: Path, info: dict) -> Iterator:
    """One table an episode, each from its own file, and what its place is filled in by."""
    parquet = _parquet()
    for i in range(int(info["total_episodes"])):
        place = {"episode_chunk": i // int(info.get("chunks_size", _CHUNK)), "episode_index": i}
        yield _read_parquet(parquet, path / info["data_path"].format(**place)), place


def _tables_v3(path: Path, info: dict) -> Iterator:
    """One table an episode, and its row of meta/episodes; several lie in a file, which is read once."""
    parquet = _parquet()
    listed = sorted((path / "meta" / "episodes").glob("*/*.parquet"))
    if not listed:
        raise UserError(f"LeRobotDataset {path} has no meta/episodes/*/*.parquet; was it copied whole?")
    held = (None, None)
    for file in listed:
        for row in _places(_read_parquet(parquet, file)).to_pylist():
            name = info["data_path"].format(chunk_index=row["data/chunk_index"], file_index=row["data/file_index"])
            if held[0] != name:
                held = (name, _read_parquet(parquet, path / name))
            yield held[1].filter(np.asarray(held[1]["episode_index"]) == row["episode_index"]), row


def _places(table):
    """The columns of meta/episodes that say where things are; statistics are many times as much."""
    return table.select([n for n in table.column_names if n == "episode_index" or n.startswith(("data/", "videos/"))])


def _tasks(path: Path, version: str) -> dict[int, str]:
    """Task texts by index."""
    if version.startswith("v3"):
        file = path / "meta" / "tasks.parquet"
        if not file.is_file():
            return {}
        table = _read_parquet(_parquet(), file)
        # pandas names the index column so where it has no name of its own
        text = "task" if "task" in table.column_names else "__index_level_0__"
        return dict(zip(table["task_index"].to_pylist(), table[text].to_pylist()))
    return {row["task_index"]: row["task"] for row in _read_lines(path / "meta" / "tasks.jsonl")}


def _names(names) -> list[str]:
    """Names of a feature's dimensions: a list, or lists by group."""
    if isinstance(names, dict):
        return [str(name) for group in names.values() for name in (group if isinstance(group, list) else [group])]
    return [str(name) for name in names or ()]


def _matrix(table, key: str) -> np.ndarray:
    """A column as numbers (T, D)."""
    if key not in table.column_names:
        raise UserError(f"LeRobotDataset lacks the column {key} that its info.json lists")
    return np.array(table[key].to_pylist(), dtype=np.float64).reshape(table.num_rows, -1)


def _rotations(quaternions: np.ndarray) -> np.ndarray:
    """(..., 4) xyzw -> (..., 3, 3); NaN for zeros."""
    known = np.linalg.norm(quaternions, axis=-1) > 0.5
    matrices = matrix_from_quaternion(np.where(known[..., None], quaternions, [0.0, 0.0, 0.0, 1.0]))
    return np.where(known[..., None, None], matrices, np.nan)


# ---------------------------------------------------------------------------------------------- writing


def save_lerobot(
    episodes: Sequence[Episode], folder: Path | str, version: str = "v3.0", fps: int | None = None
) -> None:
    """Write episodes as one data set; `fps` defaults to the rate of the first. Raises `UserError` where the folder
    exists.
    """
    folder = Path(folder)
    if version not in VERSIONS:
        raise UserError(f"LeRobotDataset version {version!r} is unknown; known: {', '.join(VERSIONS)}")
    if folder.exists():
        raise UserError(f"{folder} exists already; give another folder, or remove it")
    if not episodes:
        raise UserError("no episode was given; a data set needs at least one")
    _parquet()
    rate = fps or _rate(episodes[0].stamp)
    even = [even_episode(episode, rate) for episode in episodes]
    with_camera = all(episode.camera_pose is not None for episode in even)
    tasks = {text: i for i, text in enumerate(dict.fromkeys(episode.task for episode in even))}
    frames, start = [], 0
    for i, episode in enumerate(even):
        frames.append(_frames(episode, i, start, rate, tasks[episode.task], with_camera))
        start += len(episode)
    features = {key: _feature(key, column) for key, column in frames[0].items()}
    info = {
        "codebase_version": version,
        "robot_type": "human_hands",
        "total_episodes": len(even),
        "total_frames": start,
        "total_tasks": len(tasks),
        "chunks_size": _CHUNK,
        "fps": rate,
        "splits": {"train": f"0:{len(even)}"},
        "video_path": None,
    }
    (_write_v3 if version == "v3.0" else _write_v2)(folder, info, features, frames, [e.task for e in even], tasks)


def even_episode(episode: Episode, fps: int) -> Episode:
    """The episode at `fps` evenly spaced frames a second: itself where it is, otherwise resampled between its
    frames.
    """
    count = int(np.floor(episode.duration * fps + 0.5)) + 1
    grid = episode.stamp[0] + np.arange(count) / fps
    if count == len(episode) and np.abs(episode.stamp - grid).max() <= _ON_GRID / fps:
        return episode
    grid = grid[grid <= episode.stamp[-1] + 1e-6]
    _log.warning("an episode of %d frames was resampled to %d at %d Hz", len(episode), len(grid), fps)
    hands = resample(
        episode.stamp, episode.keypoints, episode.valid, episode.wrist_rotation, grid, _MAX_GAP_STEPS / fps
    )
    rotation = np.where(hands.rotation_valid[..., None, None], hands.rotation, np.nan)
    camera = None
    if episode.camera_pose is not None:
        track = PoseTrack(np.inf, np.inf)
        for stamp, pose in zip(episode.stamp, episode.camera_pose):
            track.add(stamp, pose)
        camera = track.at(grid)[0]
    return Episode(grid, hands.keypoints, hands.valid, rotation, camera, episode.task)


def _rate(stamp: np.ndarray) -> int:
    return max(1, round(1.0 / np.median(np.diff(stamp)))) if len(stamp) > 1 else 30


def _frames(episode: Episode, index: int, start: int, fps: int, task: int, with_camera: bool) -> dict[str, np.ndarray]:
    """Columns (T, ...) of an episode by feature."""
    count = len(episode)
    state = np.where(episode.valid[..., None], episode.keypoints, 0.0).reshape(count, -1).astype(np.float32)
    known = np.isfinite(episode.wrist_rotation).all(axis=(-1, -2))
    rotation = quaternion_from_matrix(np.where(known[..., None, None], episode.wrist_rotation, np.eye(3)))
    columns = {
        STATE: state,
        ACTION: np.concatenate([state[1:], state[-1:]]),
        VALID: episode.valid.reshape(count, -1),
        ROTATION: (rotation * known[..., None]).reshape(count, -1).astype(np.float32),
    }
    if with_camera:
        pose = [episode.camera_pose[:, :3, 3], quaternion_from_matrix(episode.camera_pose[:, :3, :3])]
        columns[CAMERA] = np.concatenate(pose, axis=1).astype(np.float32)
    return columns | {
        STAMP: episode.stamp,
        "timestamp": (np.arange(count) / fps).astype(np.float32),
        "frame_index": np.arange(count),
        "episode_index": np.full(count, index),
        "index": start + np.arange(count),
        "task_index": np.full(count, task),
    }


def _feature(key: str, column: np.ndarray) -> dict:
    quaternion = [f"rotation_{axis}" for axis in "xyzw"]
    names = {
        STATE: list(STATE_NAMES),
        ACTION: list(STATE_NAMES),
        VALID: [f"{side}_{keypoint}" for side in SIDES for keypoint in KEYPOINT_NAMES],
        ROTATION: [f"{side}_{name}" for side in SIDES for name in quaternion],
        CAMERA: ["x", "y", "z", *quaternion],
    }
    return {"dtype": str(column.dtype), "shape": [column[0].size], "names": names.get(key)}


def _write_v3(
    folder: Path, info: dict, features: dict, frames: list[dict], said: list[str], tasks: dict[str, int]
) -> None:
    """meta/info.json, stats.json, tasks.parquet, episodes/ and data/ with several episodes a file."""
    import pyarrow as pa

    parquet = _parquet()
    pattern = "chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
    rows, file, size, writer = [], 0, 0, None
    for i, columns in enumerate(frames):
        table = _table(columns)
        if writer is not None and size + table.nbytes > _FILE_BYTES:
            writer.close()
            file, size, writer = file + 1, 0, None
        where = {"chunk_index": file // _CHUNK, "file_index": file % _CHUNK}
        if writer is None:
            target = folder / "data" / pattern.format(**where)
            target.parent.mkdir(parents=True, exist_ok=True)
            writer = parquet.ParquetWriter(target, table.schema)
        writer.write_table(table)
        size += table.nbytes
        rows.append(
            {
                "episode_index": i,
                "tasks": [said[i]],
                "length": table.num_rows,
                **{f"data/{key}": value for key, value in where.items()},
                "dataset_from_index": int(columns["index"][0]),
                "dataset_to_index": int(columns["index"][-1]) + 1,
                "meta/episodes/chunk_index": 0,
                "meta/episodes/file_index": 0,
                **{f"stats/{k}/{name}": v for k, stats in _stats(columns).items() for name, v in stats.items()},
            }
        )
    writer.close()
    listed = folder / "meta" / "episodes" / pattern.format(chunk_index=0, file_index=0)
    listed.parent.mkdir(parents=True)
    parquet.write_table(pa.Table.from_pylist(rows), listed)
    parquet.write_table(_task_table(tasks), folder / "meta" / "tasks.parquet")
    together = {key: np.concatenate([columns[key] for columns in frames]) for key in frames[0]}
    _write_json(folder / "meta" / "stats.json", _stats(together))
    sizes = {"data_files_size_in_mb": _FILE_BYTES // 2**20, "video_files_size_in_mb": 200}
    _write_json(folder / INFO, {**info, **sizes, "data_path": f"data/{pattern}", "features": features})


def _write_v2(
    folder: Path, info: dict, features: dict, frames: list[dict], said: list[str], tasks: dict[str, int]
) -> None:
    """meta/info.json, episodes.jsonl, episodes_stats.jsonl, tasks.jsonl and one data file an episode."""
    parquet = _parquet()
    pattern = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
    for i, columns in enumerate(frames):
        target = folder / pattern.format(episode_chunk=i // _CHUNK, episode_index=i)
        target.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(_table(columns), target)
    counts = {"total_videos": 0, "total_chunks": (len(frames) - 1) // _CHUNK + 1}
    _write_json(folder / INFO, {**info, **counts, "data_path": pattern, "features": features})
    lengths = [len(columns["index"]) for columns in frames]
    for name, rows in (
        ("episodes", [{"episode_index": i, "tasks": [said[i]], "length": n} for i, n in enumerate(lengths)]),
        ("episodes_stats", [{"episode_index": i, "stats": _stats(columns)} for i, columns in enumerate(frames)]),
        ("tasks", [{"task_index": i, "task": text} for text, i in tasks.items()]),
    ):
        (folder / "meta" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def _table(columns: dict[str, np.ndarray]):
    """An arrow table: one number a row, or lists of a fixed length."""
    import pyarrow as pa

    arrays = {}
    for key, column in columns.items():
        flat = pa.array(column.ravel())
        arrays[key] = flat if column.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, column.shape[1])
    return pa.table(arrays)


def _task_table(tasks: dict[str, int]):
    """What pandas writes of a frame whose index, named task, are the texts."""
    import pyarrow as pa

    kinds = {"task_index": ("int64", "int64"), "task": ("unicode", "object")}
    described = [
        {"name": name, "field_name": name, "pandas_type": kind, "numpy_type": numpy_type, "metadata": None}
        for name, (kind, numpy_type) in kinds.items()
    ]
    pandas = {"index_columns": ["task"], "column_indexes": [], "columns": described, "pandas_version": "2.2.3"}
    table = pa.table({"task_index": list(tasks.values()), "task": list(tasks)})
    return table.replace_schema_metadata({"pandas": json.dumps(pandas)})


def _stats(columns: dict[str, np.ndarray]) -> dict[str, dict[str, list]]:
    """Minimum, maximum, mean, deviation, count and quantiles of every feature over its frames."""
    result = {}
    for key, column in columns.items():
        values = column.reshape(len(column), -1).astype(np.float64)
        parts = {"min": values.min(0), "max": values.max(0), "mean": values.mean(0), "std": values.std(0)}
        parts |= {f"q{round(100 * q):02d}": np.quantile(values, q, axis=0) for q in _QUANTILES}
        result[key] = {name: part.tolist() for name, part in parts.items()} | {"count": [len(values)]}
    return result


# ---------------------------------------------------------------------------------------------- files


def _parquet():
    try:
        from pyarrow import parquet
    except ImportError:
        raise UserError("LeRobotDataset needs pyarrow: pip install pyarrow") from None
    return parquet


def _read_parquet(parquet, path: Path, columns: list[str] | None = None):
    try:
        return parquet.read_table(path, columns=columns)
    except (OSError, ValueError, KeyError) as error:  # pyarrow's own errors are of these kinds
        raise UserError(f"cannot read {path}: {' '.join(str(error).split())}; was the data set copied whole?") from None


def _read_json(path: Path) -> dict:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}; expected the info.json of a LeRobotDataset") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} is not the info.json of a LeRobotDataset")
    return content


def _read_lines(path: Path) -> list[dict]:
    try:
        return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}; was the data set copied whole?") from None


def _write_json(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=4) + "\n")
