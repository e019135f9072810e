"""Importers of recordings, on small files of the exact format and on the real samples; wrong files get one clear
line.
"""

import pickle
import sys

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from egohand_ros.data.episode import Episode
from egohand_ros.data.importers.aria_mps import load_aria_mps
from egohand_ros.data.importers.keypoints_pickle import load_keypoints_pickle
from egohand_ros.data.importers.mocap import KEYPOINT_MARKERS, load_qualisys
from egohand_ros.data.load import load_episodes, load_labelled
from egohand_ros.data.synthetic import generate_scene
from egohand_ros.errors import UserError
from egohand_ros.hand.skeleton import KEYPOINT_NAMES, LEFT, RIGHT, WRIST

MARKERS = ("hand_top", "hand_left", "hand_right", "index_middle", "index_tip", "little_middle", "elbow")


def qualisys_text(positions: np.ndarray, names=MARKERS, rate=100) -> str:
    """A Qualisys export of marker positions (T, M, 3) mm."""
    header = [
        f"NO_OF_FRAMES\t{len(positions)}",
        "NO_OF_CAMERAS\t7",
        f"NO_OF_MARKERS\t{len(names)}",
        f"FREQUENCY\t{rate}",
    ]
    header += ["DATA_INCLUDED\t3D", "MARKER_NAMES\t" + "\t".join(names)]
    columns = "\t".join(f"{name} {axis}" for name in names for axis in "XYZ")
    rows = [f"Frame\tTime\t{columns}\t"]
    for i, frame in enumerate(positions):
        cells = ["" if np.isnan(value) else f"{value:.3f}" for value in frame.ravel()]
        rows.append("\t".join([str(i + 1), f"{i / rate:.5f}", *cells, ""]))
    return "\n".join(header + rows) + "\n"


def marked_hand(rotation=np.eye(3), at=(0, 0, 0)):
    """Markers (7, 3) mm of a flat right hand: back of the hand up, fingers along x."""
    local = np.array([[50, 0, 0], [0, 15, 0], [0, -15, 0], [100, 30, 0], [150, 30, 0], [100, -30, 0], [-200, 0, 0.0]])
    return local @ np.asarray(rotation).T + np.asarray(at)


def test_qualisys_markers_become_keypoints_in_metres(tmp_path):
    turn = Rotation.from_euler("zyx", [0.5, -0.3, 0.2]).as_matrix()
    path = tmp_path / "take.tsv"
    path.write_text(qualisys_text(np.stack([marked_hand(turn, (100, 200, 300)), marked_hand(turn, (110, 200, 300))])))
    episode = load_qualisys(path)
    assert episode.stamp == pytest.approx([0.0, 0.01])
    assert episode.keypoints[0, RIGHT, WRIST] == pytest.approx([0.1, 0.2, 0.3], abs=1e-5)
    assert episode.keypoints[1, RIGHT, WRIST, 0] == pytest.approx(0.11, abs=1e-5)
    index_pip = KEYPOINT_NAMES.index("index_pip")
    assert episode.keypoints[0, RIGHT, index_pip] == pytest.approx([0.1, 0.2, 0.3] + turn @ [0.1, 0.03, 0.0], abs=1e-5)
    measured = {KEYPOINT_NAMES[i] for i in np.flatnonzero(episode.valid[0, RIGHT])}
    assert measured == {"wrist", "index_pip", "index_tip", "little_pip"}, "nothing is invented"
    assert not episode.valid[:, LEFT].any() and episode.camera_pose is None
    assert episode.wrist_rotation[0, RIGHT] == pytest.approx(turn, abs=1e-4)
    assert np.isnan(episode.wrist_rotation[:, LEFT]).all()


def test_qualisys_gaps_are_invalid(tmp_path):
    positions = np.repeat(marked_hand()[None] + 500.0, 4, axis=0)
    positions[1, 4] = np.nan  # an empty cell
    positions[2, 3] = 0.0  # how older exports write a gap
    positions[3, 1] = np.nan  # a marker of the wrist itself
    path = tmp_path / "take.tsv"
    path.write_text(qualisys_text(positions))
    episode = load_qualisys(path)
    tip, pip = KEYPOINT_NAMES.index("index_tip"), KEYPOINT_NAMES.index("index_pip")
    assert episode.valid[:, RIGHT, tip].tolist() == [True, False, True, True]
    assert episode.valid[:, RIGHT, pip].tolist() == [True, True, False, True]
    assert episode.valid[:, RIGHT, WRIST].tolist() == [True, True, True, False]
    assert np.isnan(episode.wrist_rotation[3, RIGHT]).all()


@pytest.mark.parametrize(
    "change, complaint",
    [
        (lambda text: text.replace("hand_left", "palm_left"), "lacks the markers hand_left"),
        (lambda text: text.replace("Frame\tTime", "Frame\tZeit"), "no line 'Frame, Time"),
        (lambda text: text.rsplit("\t", 4)[0] + "\n", r"line \d+ has \d+ of \d+ columns; is the file cut short"),
        (lambda text: text.replace("150.000", "abc"), "not numbers"),
    ],
)
def test_wrong_qualisys_files_are_explained(tmp_path, change, complaint):
    path = tmp_path / "take.tsv"
    path.write_text(change(qualisys_text(np.stack([marked_hand(), marked_hand()]))))
    with pytest.raises(UserError, match=complaint):
        load_qualisys(path)


def test_the_real_mocap_recording(shared_data):
    episode = load_qualisys(shared_data / "hand_mocap" / "recording.tsv")
    assert len(episode) == 6000 and episode.duration == pytest.approx(59.99)
    valid = episode.valid[:, RIGHT]
    assert valid[:, WRIST].all() and set(np.flatnonzero(valid.any(axis=0))) == {WRIST, *KEYPOINT_MARKERS.values()}
    assert (~valid[:, KEYPOINT_NAMES.index("thumb_tip")]).sum() == 493
    rotation = episode.wrist_rotation[:, RIGHT]
    assert np.allclose(np.linalg.det(rotation), 1.0)
    local = np.einsum("tij,tki->tkj", rotation, episode.keypoints[:, RIGHT] - episode.keypoints[:, RIGHT, :1])
    index, thumb, little = (np.nanmedian(local[:, tip], axis=0) for tip in (8, 4, 20))
    assert index[0] > 0.12 and thumb[1] > 0.03 > little[1], "fingers distal, thumb on the +y side of a right hand"
    assert np.percentile(np.linalg.norm(np.diff(episode.keypoints[:, RIGHT, WRIST], axis=0), axis=-1) * 100, 99) < 1.0


def aria_rows(count=3):
    """Rows as dictionaries: left landmarks i at (i, 0, 1) cm and the right hand missing."""
    for i in range(count):
        row = {"tracking_timestamp_us": 1_000_000 + 33_333 * i}
        row |= {"left_tracking_confidence": 0.99, "right_tracking_confidence": -1}
        for side in ("left", "right"):
            for k in range(21):
                values = (0.01 * k, 0.0, 0.01) if side == "left" else (0, 0, 0)
                row |= {f"t{axis}_{side}_landmark_{k}_device": value for axis, value in zip("xyz", values)}
        yield row


def write_csv(path, rows):
    rows = list(rows)
    path.write_text("\n".join([",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]) + "\n")


def test_aria_landmarks_in_our_order(tmp_path):
    path = tmp_path / "hand_tracking_results.csv"
    write_csv(path, aria_rows())
    episode = load_aria_mps(path)
    assert episode.stamp == pytest.approx([1.0, 1.033333, 1.066666])
    assert episode.keypoints[0, LEFT, WRIST] == pytest.approx([0.05, 0, 0.01])  # landmark 5
    assert episode.keypoints[0, LEFT, KEYPOINT_NAMES.index("index_tip"), 0] == pytest.approx(0.01)  # landmark 1
    assert not episode.valid[0, LEFT, KEYPOINT_NAMES.index("thumb_cmc")], "Aria has no thumb CMC"
    assert episode.valid[0, LEFT].sum() == 20 and not episode.valid[:, RIGHT].any()


def test_aria_hands_go_to_the_world_with_the_trajectory(tmp_path):
    path = tmp_path / "hand_tracking_results.csv"
    write_csv(path, aria_rows())
    names = ("tx", "ty", "tz", "qx", "qy", "qz", "qw")
    turn = Rotation.from_euler("z", 90, degrees=True).as_quat()
    poses = [
        {
            "graph_uid": "a-b",
            "tracking_timestamp_us": t,
            **{f"{n}_world_device": v for n, v in zip(names, (x, 0, 2, *turn))},
        }
        for t, x in ((990_000, 0.0), (1_010_000, 0.2), (1_050_000, 0.2))
    ]
    write_csv(tmp_path / "closed_loop_trajectory.csv", poses)
    episode = load_aria_mps(path)
    assert episode.keypoints[0, LEFT, WRIST] == pytest.approx([0.1, 0.05, 2.01])
    assert not episode.valid[2].any(), "no pose after 1.05 s"
    assert load_episodes(tmp_path)[0].keypoints[0, LEFT, WRIST] == pytest.approx([0.1, 0.05, 2.01])


def test_the_real_aria_samples(shared_data):
    folder = shared_data / "aria_mps"
    episode = load_episodes(folder / "hand_tracking_results_v2.csv")[0]
    assert len(episode) == 8 and episode.valid[..., WRIST].sum(axis=0).tolist() == [3, 3]
    hand = episode.keypoints[episode.valid[:, LEFT, WRIST], LEFT]
    lengths = np.linalg.norm(hand[:, 12] - hand[:, 0], axis=-1)
    assert ((0.05 < lengths) & (lengths < 0.25)).all()
    with pytest.raises(UserError, match="give hand_tracking_results.csv"):
        load_episodes(folder / "wrist_and_palm_poses_v2.csv")


def test_a_folder_of_mps_is_read_with_its_trajectory(tmp_path):
    for name in ("hand_tracking", "slam"):
        (tmp_path / "mps" / name).mkdir(parents=True)
    write_csv(tmp_path / "mps" / "hand_tracking" / "hand_tracking_results.csv", aria_rows())
    names = ("tx", "ty", "tz", "qx", "qy", "qz", "qw")
    pose = {f"{n}_world_device": v for n, v in zip(names, (0, 0, 2, 0, 0, 0, 1))}
    write_csv(
        tmp_path / "mps" / "slam" / "closed_loop_trajectory.csv",
        [{"tracking_timestamp_us": t, **pose} for t in (990_000, 1_050_000, 1_080_000)],
    )
    (episode,) = load_episodes(tmp_path / "mps")
    assert episode.keypoints[0, LEFT, WRIST] == pytest.approx([0.05, 0.0, 2.01])


def test_the_real_folder_of_aria_mps(shared_data):
    assert len(load_episodes(shared_data / "aria_mps")[0]) == 8


def test_the_real_vrs_of_aria(shared_data):
    pytest.importorskip("projectaria_tools")
    (episode,) = load_episodes(shared_data / "aria_gen2" / "sequence.vrs")
    assert len(episode) == 9 and episode.valid[..., WRIST].all() and episode.duration == pytest.approx(8 / 30, abs=1e-3)
    hand = np.linalg.norm(episode.keypoints[:, :, 12] - episode.keypoints[:, :, 0], axis=-1)
    assert ((0.1 < hand) & (hand < 0.25)).all()
    assert np.linalg.norm(np.diff(episode.keypoints[:, :, 0], axis=0), axis=-1).max() < 0.1, "in a frame that stands"


def test_a_vrs_without_the_package_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "projectaria_tools.core", None)
    (tmp_path / "walk.vrs").write_bytes(b"VisionRe" + bytes(64))
    with pytest.raises(UserError, match=r"walk.vrs: Aria .vrs files need projectaria_tools: pip install"):
        load_episodes(tmp_path / "walk.vrs")


def test_the_real_keypoint_pickle(shared_data):
    episode = load_episodes(shared_data / "hand_keypoints" / "human_joint_right.pkl")[0]
    assert len(episode) == 621 and episode.valid[:, RIGHT].all() and not episode.valid[:, LEFT].any()
    assert episode.duration == pytest.approx(620 / 30)


def test_pickles_run_no_code(tmp_path):
    class Harmful:
        def __reduce__(self):
            return (exec, (f"open({str(tmp_path / 'harm')!r}, 'w')",))

    path = tmp_path / "left.pkl"
    path.write_bytes(pickle.dumps([Harmful()]))
    with pytest.raises(UserError, match="only arrays are read"):
        load_keypoints_pickle(path)
    assert not (tmp_path / "harm").exists()
    path.write_bytes(pickle.dumps([np.ones((21, 3)), None]))
    episode = load_keypoints_pickle(path)
    assert episode.valid[:, LEFT, 0].tolist() == [True, False], "the side is in the name, None is a missing hand"


def test_what_is_no_recording_is_explained_in_one_line(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "empty.npz").write_bytes(b"")
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 no zip")
    (tmp_path / "folder").mkdir()
    np.savez(tmp_path / "other.npz", joints=np.zeros(3))
    (tmp_path / "broken.pkl").write_bytes(b"\x80\x04 nothing")
    for name in ("notes.txt", "empty.npz", "broken.npz", "folder", "missing", "other.npz", "broken.pkl"):
        with pytest.raises(UserError) as error:
            load_episodes(tmp_path / name)
        assert "\n" not in str(error.value) and name in str(error.value)


def test_episodes_of_a_folder_and_their_labels(tmp_path):
    scene = generate_scene(0, 4.0, 10.0)
    for name in ("b.npz", "a.npz"):
        scene.episode.save(tmp_path / name)
    episodes = load_episodes(tmp_path)
    assert len(episodes) == 2 and episodes[0].task == scene.task
    assert np.allclose(episodes[0].keypoints, scene.keypoints)
    labels = list(load_labelled([tmp_path, tmp_path / "a.npz"]))
    assert labels == [str(tmp_path), f"{tmp_path}#2", str(tmp_path / "a.npz")]
    assert isinstance(episodes[0], Episode)
