"""Episodes as LeRobotDatasets of both versions: there and back, the files that lerobot expects, and wrong folders."""

import json
import sys

import cv2
import numpy as np
import pytest

from egohand_ros.data.episode import Episode
from egohand_ros.data.importers.lerobot import STATE_NAMES, VERSIONS, even_episode, load_lerobot, save_lerobot
from egohand_ros.data.load import load_episodes
from egohand_ros.data.synthetic import generate_scene, observe
from egohand_ros.errors import UserError

parquet = pytest.importorskip("pyarrow.parquet")
pyarrow = pytest.importorskip("pyarrow")


@pytest.fixture(scope="module")
def episodes():
    return [observe(generate_scene(seed, 3.0)).episode for seed in (1, 2)]


@pytest.mark.parametrize("version", VERSIONS)
def test_there_and_back(episodes, tmp_path, version):
    save_lerobot(episodes, tmp_path / "set", version)
    again = load_episodes(tmp_path / "set")
    assert len(again) == 2
    for before, after in zip(episodes, again):
        assert np.array_equal(before.stamp, after.stamp) and np.array_equal(before.valid, after.valid)
        assert np.allclose(before.keypoints, after.keypoints, atol=1e-6, equal_nan=True)
        assert np.allclose(before.wrist_rotation, after.wrist_rotation, atol=1e-5, equal_nan=True)
        assert np.allclose(before.camera_pose, after.camera_pose, atol=1e-5) and before.task == after.task
    assert not episodes[0].valid.all(), "the tracker's gaps are part of the test"


@pytest.mark.parametrize("version", VERSIONS)
def test_frames_are_what_lerobot_reads(episodes, tmp_path, version):
    folder = tmp_path / "set"
    save_lerobot(episodes, folder, version)
    info = json.loads((folder / "meta" / "info.json").read_text())
    assert info["fps"] == 30 and info["total_frames"] == 180 and info["total_tasks"] == 2
    names = {
        "v3.0": ("data/chunk-000/file-000.parquet", "meta/episodes/chunk-000/file-000.parquet", "meta/tasks.parquet"),
        "v2.1": ("data/chunk-000/episode_000001.parquet", "meta/episodes_stats.jsonl", "meta/tasks.jsonl"),
    }[version]
    assert all((folder / name).is_file() for name in names)
    table = parquet.read_table(folder / names[0])
    last = table.slice(table.num_rows - 90).to_pydict()
    assert last["index"][-1] == 179 and last["episode_index"][0] == 1 and last["frame_index"] == list(range(90))
    assert np.allclose(np.diff(last["timestamp"]), 1 / 30, atol=1e-6), "lerobot refuses frames that are 0.1 ms off"
    assert last["action"][3] == last["observation.state"][4]
    assert not np.isnan(last["observation.state"]).any(), "policies cannot take NaN"


def test_statistics_are_of_the_frames(episodes, tmp_path):
    save_lerobot(episodes, tmp_path / "set")
    stats = json.loads((tmp_path / "set" / "meta" / "stats.json").read_text())
    state = np.concatenate(
        [parquet.read_table(f)["observation.state"].to_pylist() for f in tmp_path.glob("set/data/*/*")]
    )
    assert stats["observation.state"]["mean"] == pytest.approx(state.mean(0)) and stats["index"]["max"] == [179]
    assert stats["observation.state"]["q90"] == pytest.approx(np.quantile(state, 0.9, axis=0))
    assert stats["observation.state"]["count"] == [180] and len(STATE_NAMES) == state.shape[1]


def test_files_are_cut_and_read_in_order(episodes, tmp_path, monkeypatch):
    monkeypatch.setattr("egohand_ros.data.importers.lerobot._FILE_BYTES", 10)
    monkeypatch.setattr("egohand_ros.data.importers.lerobot._CHUNK", 2)
    save_lerobot([*episodes, *episodes], tmp_path / "set")
    written = sorted(str(f.relative_to(tmp_path / "set" / "data")) for f in tmp_path.glob("set/data/*/*"))
    assert written == [f"chunk-{c:03d}/file-{f:03d}.parquet" for c in (0, 1) for f in (0, 1)]
    assert [e.task for e in load_lerobot(tmp_path / "set")] == [e.task for e in (*episodes, *episodes)]


def test_uneven_recordings_are_resampled_and_gaps_stay_gaps(tmp_path):
    rng = np.random.default_rng(0)
    stamp = np.arange(60) / 30 + rng.uniform(-0.01, 0.01, 60)
    stamp = np.delete(stamp, np.arange(20, 30))
    keypoints = np.ones((50, 2, 21, 3)) * stamp[:, None, None, None]
    even = even_episode(Episode(stamp, keypoints, np.ones((50, 2, 21), bool)), 30)
    assert np.allclose(np.diff(even.stamp), 1 / 30)
    shown = even.valid[:, 0, 0]
    assert np.allclose(even.keypoints[shown, 0, 0, 0], even.stamp[shown]), "linear motion is kept"
    lost = (even.stamp > stamp[19] + 1e-3) & (even.stamp < stamp[20] - 1e-3)
    assert lost.sum() >= 8 and not even.valid[lost].any(), "nothing is made up in a gap"
    save_lerobot([even], tmp_path / "set")
    assert np.array_equal(load_lerobot(tmp_path / "set")[0].valid, even.valid)


def test_other_peoples_order_of_names_is_understood(episodes, tmp_path):
    save_lerobot(episodes[:1], tmp_path / "set", "v2.1")
    turned = np.random.default_rng(0).permutation(len(STATE_NAMES))
    info = json.loads((tmp_path / "set" / "meta" / "info.json").read_text())
    info["features"]["observation.state"]["names"] = {"motors": [STATE_NAMES[i] for i in turned]}
    (tmp_path / "set" / "meta" / "info.json").write_text(json.dumps(info))
    file = next(tmp_path.glob("set/data/*/*.parquet"))
    table = parquet.read_table(file)
    import pyarrow as pa

    state = np.array(table["observation.state"].to_pylist(), dtype=np.float32)[:, turned]
    column = pa.FixedSizeListArray.from_arrays(pa.array(state.ravel()), state.shape[1])
    parquet.write_table(table.set_column(0, "observation.state", column), file)
    again = load_lerobot(tmp_path / "set")[0]
    assert np.allclose(again.keypoints, episodes[0].keypoints, atol=1e-6, equal_nan=True)


def test_wrong_data_sets_are_explained_in_one_line(episodes, tmp_path, monkeypatch):
    save_lerobot(episodes[:1], tmp_path / "set")
    info = tmp_path / "set" / "meta" / "info.json"
    good = json.loads(info.read_text())
    robot = good | {"features": {"observation.state": {"dtype": "float32", "shape": [6], "names": ["a"] * 6}}}
    for content, complaint in (
        (good | {"codebase_version": "v1.6"}, "v1.6; versions that are read: v2.1, v3.0"),
        (robot, "has no hand keypoints: none of its features observation.state"),
        ([], "is not the info.json"),
    ):
        info.write_text(json.dumps(content))
        with pytest.raises(UserError, match=complaint):
            load_episodes(tmp_path / "set")
    info.write_text(json.dumps(good))
    next(tmp_path.glob("set/data/*/*")).write_bytes(b"cut")
    with pytest.raises(UserError, match="copied whole") as error:
        load_episodes(tmp_path / "set")
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="exists already"):
        save_lerobot(episodes, tmp_path / "set")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match="needs pyarrow: pip install pyarrow"):
        save_lerobot(episodes, tmp_path / "other")


@pytest.mark.parametrize("version", VERSIONS)
def test_the_real_library_loads_it(episodes, tmp_path, version):
    """Runs where lerobot is installed: 0.3.x for v2.1, 0.4 or later for v3.0 (not in .venv: it pins another torch)."""
    lerobot = pytest.importorskip("lerobot.datasets.lerobot_dataset", exc_type=ImportError)
    if lerobot.CODEBASE_VERSION != version:
        pytest.skip(f"this lerobot reads {lerobot.CODEBASE_VERSION}")
    save_lerobot(episodes, tmp_path / "set", version)
    steps = {"observation.state": [-0.1, 0.0], "action": [0.0, 0.1]}
    dataset = lerobot.LeRobotDataset("local/hands", root=tmp_path / "set", delta_timestamps=steps)
    assert len(dataset) == 180 and dataset.num_episodes == 2 and dataset.fps == 30
    item, later = dataset[95], dataset[98]
    assert item["task"] == episodes[1].task and item["frame_index"] == 5 and item["episode_index"] == 1
    expected = np.nan_to_num(episodes[1].keypoints[[2, 5]]).reshape(2, -1)
    assert np.allclose(item["observation.state"], expected, atol=1e-6)
    assert np.allclose(item["action"][0], dataset[96]["observation.state"][1]) and later["index"] == 98
    assert np.allclose(dataset.meta.stats["action"]["mean"].shape, (126,))


@pytest.mark.parametrize("version", VERSIONS)
def test_the_head_cameras_video_gives_the_pictures(episodes, tmp_path, version):
    folder = tmp_path / "set"
    save_lerobot([episode.slice(0, 10) for episode in episodes], folder, version)
    key, info = "observation.images.head", json.loads((folder / "meta" / "info.json").read_text())
    info["features"] |= {"observation.images.wrist": {"dtype": "video"}, key: {"dtype": "video"}}
    if version == "v3.0":
        info["video_path"] = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
        names, counts = ["chunk-000/file-000.mp4"], [20]
        file = folder / "meta" / "episodes" / "chunk-000" / "file-000.parquet"
        rows = parquet.read_table(file).to_pylist()
        for i, row in enumerate(rows):
            row |= {f"videos/{key}/chunk_index": 0, f"videos/{key}/file_index": 0}
            row[f"videos/{key}/from_timestamp"] = i * 10 / 30
        parquet.write_table(pyarrow.Table.from_pylist(rows), file)
        folders = [folder / "videos" / key]
    else:
        info["video_path"] = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
        names, counts = [f"episode_{i:06d}.mp4" for i in range(2)], [10, 10]
        folders = [folder / "videos" / "chunk-000" / key]
    (folder / "meta" / "info.json").write_text(json.dumps(info))
    assert load_lerobot(folder)[0].images is None, "not copied along"
    number = 0
    for name, count in zip(names, counts):
        (folders[0] / name).parent.mkdir(parents=True, exist_ok=True)
        writer = cv2.VideoWriter(str(folders[0] / name), cv2.VideoWriter_fourcc(*"mp4v"), 30.0, (48, 32))
        for _ in range(count):
            writer.write(np.full((32, 48, 3), 10 * number + 30, dtype=np.uint8))
            number += 1
        writer.release()
    for i, episode in enumerate(load_lerobot(folder)):
        (images,) = episode.images.take(np.array([0, 9]), ((16, 16),))
        assert [round((float(image.mean()) - 30) / 10) for image in images] == [10 * i, 10 * i + 9]
        assert np.array_equal(episode.images.stamp, episode.stamp)
