"""Pictures, cameras and MANO that importers bring, on small files of the data sets' published structure."""

import io
import json
import tarfile

import cv2
import numpy as np
import pytest
import torch
from published_formats import arctic_files, clip_files, egodex_joints, h2o_take, write_clip, write_egodex

from egohand_ros.data.importers.arctic import read_dictionary
from egohand_ros.data.load import load_episodes
from egohand_ros.hand.mano_layer import load_mano_layers
from egohand_ros.hand.skeleton import LEFT, RIGHT, SIDES, WRIST


def grey(number, size=(32, 48)):
    return np.full((*size, 3), 20 * number + 30, dtype=np.uint8)


def write_video(path, frames):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 30.0, (48, 32))
    for number in range(frames):
        writer.write(grey(number))
    writer.release()
    return path


def brightness(episode, numbers):
    """Of pictures of an episode, as the number that `grey` was given."""
    (images,) = episode.images.take(np.array(numbers), ((16, 16),))
    return [round((float(image.mean()) - 30) / 20) for image in images]


def test_arctic_brings_its_pictures_and_mano(mano, tmp_path):
    folder = arctic_files(tmp_path / "raw_seqs" / "s01")
    assert load_episodes(folder, mano)[0].images is None
    pictures = tmp_path / "images" / "s01" / "box_grab_01" / "0"
    pictures.mkdir(parents=True)
    for number in range(4):
        cv2.imwrite(str(pictures / f"{number + 1:05d}.jpg"), grey(number))
    camera = read_dictionary(folder / "box_grab_01.egocam.dist.npy")
    np.save(folder / "box_grab_01.egocam.dist.npy", camera | {"intrinsics": np.diag([900.0, 900.0, 1.0])})
    (episode,) = load_episodes(folder, mano)
    assert brightness(episode, [0, 3]) == [0, 3] and episode.images.stamp == pytest.approx(episode.stamp)
    assert episode.camera_matrix[0, 0] == 900
    assert episode.mano_pose[0, LEFT, 0] == pytest.approx([0, 0, np.pi / 2]) and episode.betas.shape == (2, 10)
    layers = load_mano_layers(mano)
    for side, layer in layers.items():
        i = SIDES.index(side)
        pose, place = (
            torch.tensor(a[:, i], dtype=torch.float32) for a in (episode.mano_pose, episode.mano_translation)
        )
        told = layer(pose, torch.zeros(4, 10), place).keypoints.numpy()
        assert told == pytest.approx(episode.keypoints[:, i], abs=1e-5), "the layer takes them as they are"


def test_h2o_brings_its_pictures(tmp_path):
    folder = h2o_take(tmp_path / "0") / "cam4"
    (folder / "rgb").mkdir()
    for number in range(3):
        cv2.imwrite(str(folder / "rgb" / f"{number:06d}.png"), grey(number))
    (folder / "cam_intrinsics.txt").write_text("600 601 23 15 48 32")
    (episode,) = load_episodes(tmp_path / "0")
    assert brightness(episode, [2, 1]) == [2, 1] and episode.camera_matrix[1, 1] == 601


def test_egodex_brings_its_video(tmp_path):
    h5py = pytest.importorskip("h5py")
    camera = np.tile(np.eye(4), (3, 1, 1))
    write_egodex(tmp_path / "0.hdf5", egodex_joints(), camera, {}, llm_description="stir")
    write_video(tmp_path / "0.mp4", 3)
    with h5py.File(tmp_path / "0.hdf5", "a") as file:
        file.pop("camera/intrinsic", None)
        file["camera/intrinsic"] = np.diag([40.0, 40.0, 1.0])
    (episode,) = load_episodes(tmp_path / "0.hdf5")
    assert brightness(episode, [0, 2]) == [0, 2] and episode.camera_matrix[0, 0] == 40


def test_hot3d_clips_bring_their_pictures(tmp_path):
    path = write_clip(tmp_path / "clip-001849.tar", clip_files())
    with tarfile.open(path, "a") as clip:
        for number in range(3):
            data = cv2.imencode(".jpg", grey(number))[1].tobytes()
            member = tarfile.TarInfo(f"{number:06d}.image_214-1.jpg")
            member.size = len(data)
            clip.addfile(member, io.BytesIO(data))
    (episode,) = load_episodes(path)
    assert brightness(episode, [2, 0]) == [2, 0] and episode.images.stamp == pytest.approx(episode.stamp)
    assert episode.camera_matrix is None, "a fisheye's is no pinhole's"


def test_prepared_egoexo4d_brings_its_pictures_and_pixels(tmp_path):
    hand = (0.002 * np.arange(63).reshape(21, 3) + [0, 0, 0.4]).tolist()
    flat = (10.0 * np.arange(42).reshape(21, 2)).tolist()
    about = {"metadata": {"take_name": "cooking_7"}, "left_hand_3d": [], "left_hand_2d": []}
    frames = {str(n): about | {"right_hand_3d": hand, "right_hand_2d": flat} for n in (3, 4)}
    file = tmp_path / "annotation" / "manual" / "ego_pose_gt_anno_val_public.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"uid": frames}))
    folder = tmp_path / "image" / "undistorted" / "val" / "cooking_7"
    folder.mkdir(parents=True)
    for number in (3, 4):
        cv2.imwrite(str(folder / f"{number:06d}.jpg"), grey(number))
    (episode,) = load_episodes(file)
    assert brightness(episode, [0, 1]) == [3, 4] and episode.images.stamp == pytest.approx(episode.stamp)
    assert episode.camera_matrix[0, 0] == 150 and np.isnan(episode.pixels[:, LEFT]).all()
    assert episode.pixels[1, RIGHT, WRIST].tolist() == flat[0]
