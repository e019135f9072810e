"""Importers of Ego-Exo4D, HOT3D, EgoDex, ARCTIC and H2O on small files of their published structure."""

import json
import pickle

import numpy as np
import pytest
from published_formats import (
    MANO_CHAINS,
    arctic_files,
    clip_files,
    egodex_joints,
    h2o_take,
    hand_line,
    mano_joints,
    write_clip,
    write_egodex,
    write_hot3d,
    write_mano,
)
from scipy.spatial.transform import Rotation

from egohand_ros.cli.main import main
from egohand_ros.data.episode import Episode
from egohand_ros.data.importers.arctic import load_arctic, read_dictionary
from egohand_ros.data.importers.egodex import load_egodex
from egohand_ros.data.importers.h2o import ACTIONS
from egohand_ros.data.load import load_episodes
from egohand_ros.errors import UserError
from egohand_ros.hand.conventions import CONVENTIONS, to_canonical
from egohand_ros.hand.mano import load_mano, read_model
from egohand_ros.hand.skeleton import KEYPOINT_NAMES, LEFT, NUM_KEYPOINTS, RIGHT, WRIST

NAME = {name: i for i, name in enumerate(KEYPOINT_NAMES)}


# ---------------------------------------------------------------------------------------------- MANO


def test_mano_at_rest_is_its_template_in_our_order(mano):
    hands = load_mano(mano)
    zeros = np.zeros((2, 3))
    for side in ("left", "right"):
        points = hands[side].keypoints(zeros, np.zeros((2, 45)), np.zeros(10), np.array([[0, 0, 0], [1.0, 2, 3]]))
        rest = to_canonical(mano_joints(side), "mano")
        assert points[0] == pytest.approx(rest, abs=1e-6) and points[1] == pytest.approx(rest + [1, 2, 3], abs=1e-6)
        assert rest[NAME["thumb_tip"]] == pytest.approx(mano_joints(side)[16])
        assert rest[NAME["little_mcp"]] == pytest.approx(mano_joints(side)[MANO_CHAINS["little"][0]])


def test_mano_turns_about_the_wrist_and_bends_fingers(mano):
    hand, rest = load_mano(mano)["right"], to_canonical(mano_joints("right"), "mano")
    turn = np.array([0.3, -0.2, 0.5])
    points = hand.keypoints(turn[None], np.zeros((1, 45)), np.zeros(10), np.zeros((1, 3)))[0]
    expected = (rest - rest[0]) @ Rotation.from_rotvec(turn).as_matrix().T + rest[0]
    assert points == pytest.approx(expected, abs=1e-6), "the wrist stays at its rest position"
    pose = np.zeros((1, 45))
    pose[0, 3:6] = (0, 0, np.pi / 2)  # second index joint
    bent = hand.keypoints(np.zeros((1, 3)), pose, np.zeros(10), np.zeros((1, 3)))[0]
    assert bent[NAME["index_pip"]] == pytest.approx(rest[NAME["index_pip"]], abs=1e-6)
    length = np.linalg.norm(rest[NAME["index_tip"]] - rest[NAME["index_pip"]])
    assert bent[NAME["index_tip"]] == pytest.approx(rest[NAME["index_pip"]] + [0, -length, 0], abs=1e-6)
    assert bent[NAME["middle_tip"]] == pytest.approx(rest[NAME["middle_tip"]], abs=1e-6)


def test_the_known_sign_error_of_the_left_hand_is_undone(mano, tmp_path):
    shape = np.eye(10)[0]
    for folder in (mano, write_mano(tmp_path, with_sign_error=False)):
        hands = load_mano(folder)
        grown = {
            side: hand.keypoints(np.zeros((1, 3)), np.zeros((1, 45)), shape, np.zeros((1, 3)))[0]
            for side, hand in hands.items()
        }
        assert grown["right"][:, 0] == pytest.approx(to_canonical(mano_joints("right"), "mano")[:, 0] - 0.01, abs=1e-6)
        assert grown["left"] == pytest.approx(grown["right"] * [-1, 1, 1], abs=1e-6), "a mirror image"


def test_mano_is_asked_for_and_its_files_run_no_code(mano, tmp_path):
    with pytest.raises(UserError, match="--mano FOLDER"):
        load_mano(None)
    with pytest.raises(UserError, match="no MANO_LEFT.pkl and MANO_RIGHT.pkl"):
        load_mano(tmp_path)

    class Harmful:
        def __reduce__(self):
            return (exec, (f"open({str(tmp_path / 'harm')!r}, 'w')",))

    (tmp_path / "MANO_RIGHT.pkl").write_bytes(pickle.dumps({"f": Harmful()}))
    with pytest.raises(UserError, match="only arrays are read"):
        read_model(tmp_path / "MANO_RIGHT.pkl")
    (tmp_path / "MANO_RIGHT.pkl").write_bytes(pickle.dumps({"f": np.zeros(3)}))
    with pytest.raises(UserError, match="is no MANO model: it lacks v_template"):
        read_model(tmp_path / "MANO_RIGHT.pkl")
    assert not (tmp_path / "harm").exists()


# ---------------------------------------------------------------------------------------------- ARCTIC


def test_arctic(mano, tmp_path):
    episode = load_episodes(arctic_files(tmp_path / "s01"), mano)[0]
    rest = {side: to_canonical(mano_joints(side), "mano") for side in ("left", "right")}
    assert np.diff(episode.stamp) == pytest.approx(1 / 30) and episode.task == "grab the box"
    assert episode.keypoints[2, RIGHT] == pytest.approx(rest["right"] + [0.02, 0, 0], abs=1e-6)
    turned = (rest["left"] - rest["left"][0]) @ [[0, 1, 0], [-1, 0, 0], [0, 0, 1]] + rest["left"][0]
    assert episode.keypoints[0, LEFT] == pytest.approx(turned, abs=1e-6) and episode.valid.all()
    world_to_camera = np.linalg.inv(episode.camera_pose[0])
    assert world_to_camera[:3, 3] == pytest.approx([0, 0, 1]) and world_to_camera[:3, :3] @ [0, 1, 0] == pytest.approx(
        [0, 0, 1]
    )
    assert load_episodes(tmp_path / "s01" / "box_grab_01.mano.npy", mano)[0].valid.all()


def test_wrong_arctic_files_are_explained(mano, tmp_path):
    folder = arctic_files(tmp_path / "s01", camera=False)
    assert load_arctic(next(folder.glob("*.mano.npy")), mano).camera_pose is None
    with pytest.raises(UserError, match="--mano FOLDER"):
        load_episodes(folder)
    np.save(folder / "box_use_01.mano.npy", np.zeros(3))
    with pytest.raises(UserError, match=r"box_use_01.mano.npy cannot be read: it is an array \(3,\)"):
        load_episodes(folder, mano)
    np.save(folder / "box_use_01.mano.npy", {"left": {}})
    with pytest.raises(UserError, match="lacks left/rot"):
        load_episodes(folder, mano)

    class Harmful:
        def __reduce__(self):
            return (print, ("harm",))

    np.save(folder / "bad.mano.npy", {"left": Harmful()})
    with pytest.raises(UserError, match="only arrays are read"):
        read_dictionary(folder / "bad.mano.npy")


# ---------------------------------------------------------------------------------------------- HOT3D


def wrist(position, quaternion=(1, 0, 0, 0)):
    return {"t_xyz": list(position), "q_wxyz": list(quaternion)}


def test_hot3d_umetrack_hands_of_quest(tmp_path):
    bent = [0.0] * 22
    bent[5] = np.pi / 2  # second angle of the index finger
    times = [1_000_000_000, 1_033_333_333, 1_066_666_666]
    lines = [
        hand_line(times[0], {"0": {"wrist_xform": wrist((0, 1, 0)), "joint_angles": [0.0] * 22}}),
        hand_line(times[1], {"1": {"wrist_xform": wrist((0.5, 1, 0)), "joint_angles": bent}}),
        hand_line(times[2], {"0": {"wrist_xform": wrist((9, 9, 9)), "joint_angles": [0.0] * 22}}),
    ]
    folder = write_hot3d(
        tmp_path / "P0002", "Quest3", lines, [], dict(zip(times, (True, True, False))), ((0, 1.6, 0), (1, 0, 0, 0))
    )
    episode = load_episodes(folder)[0]
    assert episode.stamp == pytest.approx([1.0, 1.033333333, 1.066666666])
    assert episode.valid[:, :, WRIST].tolist() == [[True, False], [False, True], [False, False]], "the mask counts"
    assert not episode.valid[..., NAME["thumb_cmc"]].any(), "UmeTrack has no thumb CMC"
    # Y up becomes Z up: (x, y, z) -> (x, -z, y). Fingers along y, the index at x = 20 mm.
    assert episode.keypoints[0, LEFT, NAME["index_tip"]] == pytest.approx([0.02, 0, 1.11])
    # The right hand is the mirror image; its index bends at 40 mm from y to z.
    assert episode.keypoints[1, RIGHT, NAME["index_mcp"]] == pytest.approx([0.48, 0, 1.04])
    assert episode.keypoints[1, RIGHT, NAME["index_tip"]] == pytest.approx([0.48, -0.07, 1.04])
    assert episode.camera_pose[0] == pytest.approx(
        np.array([[1, 0, 0, 0.03], [0, 0, -1, 0], [0, 1, 0, 1.6], [0, 0, 0, 1]])
    )


def test_hot3d_mano_hands_of_aria(mano, tmp_path):
    betas, pose = [0.0] * 10, [0.0] * 15
    hand = {"pose": pose, "wrist_xform": wrist((0.1, 0.2, 0.3)), "betas": betas}
    times = [5_000_000_000, 5_000_090_813, 5_033_300_000]  # the second line is another stream at the same moment
    lines = [hand_line(t, {"1": hand}) for t in times]
    folder = write_hot3d(tmp_path / "P0003", "Aria", [], lines, dict.fromkeys(times, True))
    with pytest.raises(UserError, match="--mano FOLDER"):
        load_episodes(folder)
    episode = load_episodes(folder, mano)[0]
    assert len(episode) == 2 and episode.camera_pose is None and not episode.valid[:, LEFT].any()
    assert episode.keypoints[0, RIGHT] == pytest.approx(
        to_canonical(mano_joints("right"), "mano") + [0.1, 0.2, 0.3], abs=1e-6
    )


def test_hot3d_clips(mano, tmp_path):
    path = write_clip(tmp_path / "clip-001849.tar", clip_files())
    episode = load_episodes(path)[0]
    assert episode.stamp == pytest.approx([1.0, 1.033333333, 1.066666666]) and not episode.valid[:, RIGHT].any()
    assert episode.keypoints[0, LEFT, NAME["middle_tip"]] == pytest.approx([0.04, 0.11, 0])
    assert episode.camera_pose[0, :3, 3] == pytest.approx([0, 0, 1.5])
    with_mano = load_episodes(tmp_path, mano)[0]
    assert with_mano.keypoints[1, LEFT] == pytest.approx(
        to_canonical(mano_joints("left"), "mano") + [0.1, 0.2, 0.3], abs=1e-6
    )
    test_clip = {name: content for name, content in clip_files().items() if ".hands" not in name}
    with pytest.raises(UserError, match="test clips of HOT3D have none"):
        load_episodes(write_clip(tmp_path / "clip-2.tar", test_clip))


# ---------------------------------------------------------------------------------------------- EgoDex


def test_egodex(tmp_path):
    pytest.importorskip("h5py")
    camera = np.tile(np.diag([1.0, -1.0, -1.0, 1.0]), (3, 1, 1))  # optical: looks along -z of the world
    confidences = {"leftHand": np.ones(3), "rightThumbTip": np.array([0.9, 0.0, 0.9])}
    attributes = {
        "llm_type": "reversible",
        "llm_description": "open it",
        "llm_description2": "close it",
        "which_llm_description": "2",
    }
    write_egodex(tmp_path / "task" / "0.hdf5", egodex_joints(), camera, confidences, **attributes)
    write_egodex(tmp_path / "task" / "1.hdf5", egodex_joints(), camera, {}, llm_type="neutral", llm_description="stir")
    first, second = load_episodes(tmp_path / "task")
    assert first.task == "close it" and second.task == "stir" and np.diff(first.stamp) == pytest.approx(1 / 30)
    assert first.keypoints[0, RIGHT, WRIST] == pytest.approx([0, 0.5, 2.0]), "Z up"
    assert first.keypoints[0, LEFT, NAME["thumb_tip"], 0] == pytest.approx(0.04)
    assert first.keypoints[0, LEFT, NAME["index_mcp"], 0] == pytest.approx(0.06), "5 is the metacarpal"
    assert first.keypoints[0, LEFT, NAME["little_tip"], 0] == pytest.approx(0.24)
    assert first.valid[:, RIGHT, NAME["thumb_tip"]].tolist() == [True, False, True] and first.valid.sum() == 3 * 42 - 1
    assert first.camera_pose[0, :3, 2] == pytest.approx([0, 1, 0]), "forward is horizontal"
    assert first.camera_pose[0, :3, 1] == pytest.approx([0, 0, -1]), "the image's y points down"


def test_wrong_egodex_files_are_explained(tmp_path):
    pytest.importorskip("h5py")
    joints = egodex_joints()
    del joints["leftHand"], joints["rightRingFingerTip"]
    write_egodex(tmp_path / "0.hdf5", joints, np.tile(np.eye(4), (3, 1, 1)))
    with pytest.raises(UserError, match="lacks transforms/leftHand and 1 more"):
        load_episodes(tmp_path / "0.hdf5")
    (tmp_path / "1.hdf5").write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(UserError, match="cannot be read as HDF5"):
        load_egodex(tmp_path / "1.hdf5")


# ---------------------------------------------------------------------------------------------- H2O


def test_h2o(tmp_path):
    episode = load_episodes(h2o_take(tmp_path / "0"))[0]
    assert episode.stamp == pytest.approx([0, 1 / 30, 2 / 30]) and episode.task == "pour milk" and len(ACTIONS) == 37
    assert episode.keypoints[2, LEFT, 1] == pytest.approx([0.003, 0.004, 2.005])
    assert episode.keypoints[1, RIGHT, WRIST] == pytest.approx([0.5, 0.501, 1.502])
    assert episode.valid[:, RIGHT, WRIST].tolist() == [False, True, True] and episode.valid[:, LEFT].all()
    assert episode.camera_pose[2, 2, 3] == 2
    (tmp_path / "0" / "cam4" / "hand_pose" / "000001.txt").write_text("1 2 3")
    with pytest.raises(UserError, match="000001.txt has 3 numbers; H2O has 128"):
        load_episodes(tmp_path / "0" / "cam4")


# ---------------------------------------------------------------------------------------------- Ego-Exo4D


def egoexo_frame(offset, views=4, leave_out=()):
    fingers = ("thumb", "index", "middle", "ring", "pinky")
    names = ["wrist", *(f"{finger}_{i}" for finger in fingers for i in range(1, 5))]
    points = {}
    for s, side in enumerate(("left", "right")):
        for k, name in enumerate(names):
            if f"{side}_{name}" not in leave_out:
                seen = 2 if (side, name) == ("right", "ring_4") else views
                points[f"{side}_{name}"] = {"x": offset + 0.01 * k, "y": float(s), "z": 1.0, "num_views_for_3d": seen}
    return [{"annotation3D": points, "annotation2D": {}}]


def egoexo_download(root):
    """Frames 30, 33 and 36 of one take, the last one without a camera pose."""
    hands, cameras = (root / "annotations" / "ego_pose" / "train" / part for part in ("hand/annotation", "camera_pose"))
    hands.mkdir(parents=True)
    cameras.mkdir(parents=True)
    frames = {"30": egoexo_frame(0.0, leave_out=("left_pinky_4",)), "33": egoexo_frame(0.1), "36": egoexo_frame(0.2)}
    (hands / "take-a.json").write_text(json.dumps(frames))
    # World to camera: the camera stands at x = 1 and looks along the world's x.
    extrinsic = [[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, -1]]
    poses = {"aria01": {"camera_intrinsics": [], "camera_extrinsics": {"30": extrinsic, "33": extrinsic}}}
    (cameras / "take-a.json").write_text(
        json.dumps({"metadata": {}, "cam01": {"camera_extrinsics": extrinsic}} | poses)
    )
    return root


def test_egoexo4d_published_annotations(tmp_path):
    for path in (egoexo_download(tmp_path), tmp_path / "annotations/ego_pose/train/hand/annotation/take-a.json"):
        episode = load_episodes(path)[0]
        assert episode.stamp == pytest.approx([1.0, 1.1]), "frames without a camera pose are left out"
        assert episode.keypoints[1, RIGHT, NAME["little_tip"]] == pytest.approx([0.3, 1, 1]), "already in the world"
        assert not episode.valid[0, LEFT, NAME["little_tip"]] and not episode.valid[:, RIGHT, NAME["ring_tip"]].any()
        assert episode.valid.sum() == 2 * 42 - 3
        assert episode.camera_pose[0, :3, 3] == pytest.approx([1, 0, 0]) and episode.camera_pose[
            0, :3, 2
        ] == pytest.approx([1, 0, 0])


def test_egoexo4d_automatic_annotations_have_no_view_counts_to_trust(tmp_path):
    egoexo_download(tmp_path)
    hands = tmp_path / "annotations" / "ego_pose" / "train" / "hand"
    (hands / "annotation").rename(hands / "automatic")
    assert load_episodes(tmp_path)[0].valid[:, RIGHT, NAME["ring_tip"]].all()


def test_egoexo4d_prepared_files(tmp_path, caplog):
    egoexo_download(tmp_path / "raw")
    hand = (np.arange(63).reshape(21, 3) / 1000.0).tolist()
    hand[3] = [None] * 3
    flags = [True] * 21
    flags[5] = False
    frame = {
        "right_hand_3d": hand,
        "right_hand_valid_3d": flags,
        "left_hand_3d": [],
        "left_hand_valid_3d": [],
        "metadata": {},
    }
    file = tmp_path / "ego_pose_gt_anno_train_public.json"
    file.write_text(json.dumps({"take-a": {"30": frame, "33": frame}}))
    episode = load_episodes(file)[0]
    assert "hands stay in the moving camera's frame" in caplog.text and episode.camera_pose is None
    assert episode.keypoints[0, RIGHT, 1] == pytest.approx([0.003, 0.004, 0.005])
    assert np.flatnonzero(~episode.valid[0, RIGHT]).tolist() == [3, 5] and not episode.valid[:, LEFT].any()
    (tmp_path / "raw/annotations/ego_pose/train/camera_pose").rename(tmp_path / "camera_pose")
    moved = load_episodes(file)[0]
    assert moved.keypoints[0, RIGHT, 1] == pytest.approx([1.005, -0.003, -0.004]), "camera z is the world's x"


def test_wrong_egoexo4d_files_are_explained(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"take": {"0": {"left_hand_3d": [], "right_hand_3d": []}}}))
    (tmp_path / "b.json").write_text('{"0": [{"annotation3D": ')
    with pytest.raises(UserError, match="no hands with 3D keypoints"):
        load_episodes(tmp_path / "a.json")
    with pytest.raises(UserError, match="expected a JSON file of Ego-Exo4D"):
        load_episodes(tmp_path / "b.json")


# ---------------------------------------------------------------------------------------------- all


def test_a_folder_of_takes_gives_all_of_them(tmp_path):
    for name in ("1", "0"):
        h2o_take(tmp_path / "h1" / name)
    (tmp_path / "h1" / "notes").mkdir()
    assert len(load_episodes(tmp_path / "h1")) == 2
    with pytest.raises(UserError, match="holds no recording that can be read"):
        load_episodes(tmp_path)


def test_every_convention_names_each_keypoint_at_most_once():
    for name, (count, indices) in CONVENTIONS.items():
        used = [i for i in indices if i >= 0]
        assert len(indices) == NUM_KEYPOINTS and len(set(used)) == len(used) and max(used) < count, name


def test_convert_takes_mano_and_writes_every_format(mano, tmp_path, capsys):
    source = arctic_files(tmp_path / "s01", frames=40)
    assert main(["convert", str(source), str(tmp_path / "none.npz")]) == 2
    error = capsys.readouterr().err.strip()
    assert "--mano FOLDER" in error and "\n" not in error
    assert main(["convert", str(source), str(tmp_path / "a.npz"), "--mano", str(mano)]) == 0
    for kind in ("lerobot", "lerobot-v2.1", "bag", "npz"):
        target = tmp_path / f"as_{kind}"
        assert (
            main(["convert", str(tmp_path / "a.npz"), str(target) + (".npz" if kind == "npz" else ""), "--to", kind])
            == 0
        )
    for made in sorted(tmp_path.glob("as_*")):
        again, first = load_episodes(made)[0], Episode.load(tmp_path / "a.npz")
        assert np.allclose(again.keypoints, first.keypoints, atol=1e-6) and again.task == first.task
        assert np.allclose(again.camera_pose, first.camera_pose, atol=1e-6)
