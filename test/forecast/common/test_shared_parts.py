"""Checkpoint reader, MANO and its inverse, rotation vectors, ViT: what several systems share."""

import pickle

import fixtures
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from synthetic_mano import mano_data, write_mano_arrays

from egohand_ros.errors import UserError
from egohand_ros.forecast.common.checkpoints import below, read_checkpoint
from egohand_ros.forecast.common.vit import ViT, ViTConfig, normalised
from egohand_ros.geometry.axis_angle import axis_angle_from_matrix, matrix_from_axis_angle
from egohand_ros.geometry.rotations import matrix_from_sixd, sixd_from_matrix
from egohand_ros.hand.mano import load_mano
from egohand_ros.hand.mano_layer import ManoLayer, fit_mano, load_mano_layers, turn


class Settings(dict):
    """Stands for a class of the authors' that is not installed here."""


class Evil:
    def __reduce__(self):
        return print, ("this must not be run",)


@pytest.mark.parametrize("content", [{"state_dict": 1}, {"module": 1}, {"model": 1}, None])
def test_weights_are_found_wherever_trainers_put_them(content, tmp_path):
    state = {"a.weight": torch.ones(2, 3), "a.step": torch.tensor(3)}
    saved = state if content is None else dict.fromkeys(content, state) | {"epoch": 7, "lr": [0.1]}
    torch.save(saved, tmp_path / "weights.ckpt")
    read = read_checkpoint(tmp_path / "weights.ckpt")
    assert set(read) == set(state) and torch.equal(read["a.weight"], state["a.weight"])
    assert below(read, "b.", "a.")["weight"].shape == (2, 3) and below(read, "c.") == {}


def test_folder_of_deepspeed_is_read(tmp_path):
    (tmp_path / "checkpoint").mkdir()
    torch.save({"module": {"w": torch.ones(1)}}, tmp_path / "checkpoint" / "mp_rank_00_model_states.pt")
    torch.save({"optimizer": {}}, tmp_path / "checkpoint" / "zero_pp_rank_0_mp_rank_00_optim_states.pt")
    assert read_checkpoint(tmp_path)["w"] == 1


def test_classes_in_a_checkpoint_are_neither_needed_nor_run(tmp_path, capsys):
    settings = Settings(lr=0.1, nested=Settings(a=[1, 2]))
    settings.attribute = Settings()
    torch.save({"state_dict": {"w": torch.ones(1)}, "hyper_parameters": settings, "call": Evil()}, tmp_path / "w.ckpt")
    assert read_checkpoint(tmp_path / "w.ckpt")["w"] == 1
    assert "must not" not in capsys.readouterr().out


def test_mistakes_about_files_are_one_line(tmp_path):
    (tmp_path / "text.pth").write_text("no weights")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps({"a": 1}))
    torch.save({"state_dict": {}, "epoch": 1}, tmp_path / "empty.pth")
    (tmp_path / "folder").mkdir()
    for name, message in (
        ("none.pth", "no weights at"),
        ("text.pth", "cannot read"),
        ("folder", "no weights at"),
        ("empty.pth", "holds no weights"),
    ):
        with pytest.raises(UserError, match=message) as error:
            read_checkpoint(tmp_path / name)
        assert "\n" not in str(error.value)


def test_sixd_by_rows_and_by_columns():
    matrix = torch.from_numpy(Rotation.random(7, random_state=1).as_matrix())
    for rows in (False, True):
        torch.testing.assert_close(matrix_from_sixd(sixd_from_matrix(matrix, rows), rows), matrix)
    torch.testing.assert_close(sixd_from_matrix(matrix, rows=True), sixd_from_matrix(matrix.transpose(-1, -2)))


def test_rotation_vectors_are_scipys_and_keep_their_gradients():
    random = Rotation.random(200, random_state=2).as_rotvec()
    axis = random[:20] / np.linalg.norm(random[:20], axis=1, keepdims=True)
    vectors = np.concatenate(
        [random, np.zeros((1, 3)), 1e-6 * axis, 1e-3 * axis, (np.pi - 1e-3) * axis, np.pi * np.eye(3)]
    )
    matrix = torch.from_numpy(Rotation.from_rotvec(vectors).as_matrix())
    torch.testing.assert_close(matrix_from_axis_angle(torch.from_numpy(vectors)), matrix, rtol=0, atol=1e-9)
    back = axis_angle_from_matrix(matrix)
    np.testing.assert_allclose(back[:-3].numpy(), vectors[:-3], atol=1e-7)
    np.testing.assert_allclose(np.abs(back[-3:].numpy()), np.abs(vectors[-3:]), atol=1e-7)  # half a turn has two signs
    given = torch.from_numpy(vectors).requires_grad_()
    axis_angle_from_matrix(matrix_from_axis_angle(given)).square().sum().backward()
    assert torch.isfinite(given.grad).all()
    torch.testing.assert_close(given.grad[:-3], 2 * given.detach()[:-3], rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def layers() -> dict[str, ManoLayer]:
    return {side: ManoLayer(mano_data(side)) for side in ("left", "right")}


def test_mano_is_smplx(layers, tmp_path):
    """Keypoints as hand/mano.py gives them, for parameters that the converters read."""
    write_mano_arrays(tmp_path)
    pose, betas, place = (fixtures.numbers(5, *n, seed=s) * 0.5 for s, n in enumerate(((16, 3), (10,), (3,))))
    for side, hand in load_mano(tmp_path).items():
        ours = layers[side](pose, betas, place)
        theirs = hand.keypoints(pose[:, 0].numpy(), pose[:, 1:].flatten(1).numpy(), betas.numpy(), place.numpy())
        np.testing.assert_allclose(ours.keypoints.numpy(), theirs, atol=1e-6)
        assert ours.vertices.shape == (5, 778, 3) and layers[side].faces.shape == (1538, 3)
        torch.testing.assert_close(ours.keypoints[:, 0], layers[side].rest_wrist(betas) + place, rtol=0, atol=1e-6)
    with pytest.raises(UserError, match="MANO_LEFT.pkl and MANO_RIGHT.pkl"):
        load_mano_layers(tmp_path / "nothing")
    assert set(load_mano_layers(tmp_path)) == {"left", "right"}


def test_mano_has_gradients_and_takes_any_leading_axes(layers):
    pose = (0.3 * fixtures.numbers(2, 3, 16, 3, seed=4)).requires_grad_()
    layers["left"](pose).vertices.sum().backward()
    assert torch.isfinite(pose.grad).all() and pose.grad.abs().max() > 0


def test_turning_parameters_turns_the_hand(layers):
    pose, place = 0.5 * fixtures.numbers(4, 16, 3, seed=5), fixtures.numbers(4, 3, seed=6)
    transform = torch.eye(4).repeat(4, 1, 1)
    transform[:, :3, :3] = matrix_from_axis_angle(fixtures.numbers(4, 3, seed=7))
    transform[:, :3, 3] = fixtures.numbers(4, 3, seed=8)
    layer = layers["right"]
    turned, moved = turn(pose, place, layer.rest_wrist(), transform)
    expected = (
        torch.einsum("bij,bkj->bki", transform[:, :3, :3], layer(pose, None, place).vertices)
        + transform[:, None, :3, 3]
    )
    torch.testing.assert_close(layer(turned, None, moved).vertices, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("side", ["left", "right"])
def test_keypoints_give_parameters_that_give_the_keypoints(layers, side):
    layer = layers[side]
    pose = torch.cat([fixtures.numbers(3, 1, 3, seed=9), 0.3 * fixtures.numbers(3, 15, 3, seed=10)], dim=1)
    place = fixtures.numbers(3, 3, seed=11)
    keypoints = layer(pose, None, place).keypoints
    fit = fit_mano(layer, keypoints, betas=torch.zeros(3, 10))
    assert float(fit.error.mean()) < 5e-4 and float(fit.error.max()) < 2e-3  # m
    found = layer(fit.pose, fit.betas, fit.translation).keypoints
    assert float((found - keypoints).norm(dim=-1).mean()) == pytest.approx(float(fit.error.mean()), rel=1e-3)


def test_keypoints_that_are_not_valid_are_not_looked_at(layers):
    layer = layers["right"]
    keypoints = layer(0.2 * fixtures.numbers(2, 16, 3, seed=12), None, fixtures.numbers(2, 3, seed=13)).keypoints
    valid = torch.ones(2, 21, dtype=torch.bool)
    valid[:, [3, 8]] = False
    valid[1] = False
    spoilt = torch.where(valid[..., None], keypoints, torch.nan)
    fit = fit_mano(layer, spoilt, valid)
    assert float(fit.error[0]) < 2e-3 and all(torch.isfinite(t).all() for t in (fit.pose, fit.betas, fit.translation))


def test_vit_with_and_without_class_token():
    small = dict(width=16, depth=2, heads=2, feed_forward=32, image_size=(32, 48), patch=16)
    images = normalised(torch.randint(0, 256, (3, 32, 48, 3), dtype=torch.uint8))
    assert ViT(ViTConfig(**small))(images).shape == (3, 7, 16)
    prompt = torch.zeros(1, 4, 16)
    assert ViT(ViTConfig(**small))(images, prompt).shape == (3, 11, 16)
    network = ViT(ViTConfig(**small, class_token=False, padding=2, drop_path=0.9)).eval()
    assert network(images).shape == (3, 6, 16) and torch.equal(network(images), network(images))
    network.train()
    many = images.repeat(40, 1, 1, 1)
    assert not torch.equal(network(many), network(many))  # blocks are left out of some samples in training
    grey = normalised(torch.full((1, 2, 2, 3), 255, dtype=torch.uint8), (0.5,) * 3, (0.5,) * 3)
    assert grey.shape == (1, 3, 2, 2) and torch.allclose(grey, torch.ones(1))
