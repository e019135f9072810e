"""MEgoHand's parts: states and chunks, hands of bones, the inverse network, what is seen, weights by their public
names."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from synthetic_mano import write_mano_arrays
from tiny_megohand import TINY

from egohand_ros.data.synthetic import generate_scene
from egohand_ros.errors import UserError
from egohand_ros.forecast.megohand import state as states
from egohand_ros.forecast.megohand.bones import BoneHand, random_poses
from egohand_ros.forecast.megohand.config import WIDTH, DepthSizes, MEgoHandConfig
from egohand_ros.forecast.megohand.depth import DepthEstimator, patch_depth
from egohand_ros.forecast.megohand.forecaster import MEgoHandForecaster, hand_of
from egohand_ros.forecast.megohand.inverse import InverseLosses, InverseMano, inverse_loss, palm_frame
from egohand_ros.forecast.megohand.network import MEgoHandNetwork
from egohand_ros.forecast.megohand.state import HandState, chunk_of, states_of, told
from egohand_ros.forecast.megohand.vision_language import mirrored_words
from egohand_ros.forecast.megohand.weights import load_resnet, load_siglip2, load_smollm2
from egohand_ros.forecast.registry import presets, system_of
from egohand_ros.hand.mano_layer import ManoLayer
from egohand_ros.hand.palm import palm_rotation
from egohand_ros.hand.skeleton import WRIST


@pytest.fixture(scope="module")
def bones():
    return BoneHand()


def some(count, seed=0):
    """Poses (count, 16, 3), shapes and translations."""
    drawn = torch.Generator().manual_seed(seed)
    pose = random_poses(BoneHand(), count, drawn)
    pose[:, 0] = torch.randn(count, 3, generator=drawn)
    return pose, torch.randn(count, 10, generator=drawn), torch.randn(count, 3, generator=drawn)


def test_a_state_has_109_numbers_in_the_papers_order():
    pose, betas, translation = some(4)
    state = HandState.of_pose(pose, betas, translation)
    numbers = state.numbers
    assert numbers.shape == (4, 109) and WIDTH == states.TRANSLATION.stop == 109
    assert torch.equal(numbers[:, 90:100], betas) and torch.equal(numbers[:, 106:], translation)
    assert torch.equal(numbers[:, 100:103], state.root[..., 0]), "the first column of the global rotation"
    again = HandState.of_numbers(numbers)
    assert torch.allclose(again.pose, pose, atol=1e-4) and torch.allclose(again.root, state.root, atol=1e-5)


def test_a_chunk_is_relative_to_its_first_state_and_keeps_its_shape():
    first = HandState.of_pose(*some(3, 1))
    pose, betas, translation = some(6, 2)
    later = HandState.of_pose(pose.unflatten(0, (3, 2)), betas.unflatten(0, (3, 2)), translation.unflatten(0, (3, 2)))
    chunk = chunk_of(first, later)
    assert chunk.shape == (3, 2, 109) and (chunk[..., ~told()] == 0).all()
    back = states_of(first, chunk)
    for name in ("fingers", "root", "translation"):
        assert torch.allclose(getattr(back, name), getattr(later, name), atol=1e-5), name
    assert torch.equal(back.betas[:, 0], first.betas), "as the first, whatever came later"
    still = states_of(first, chunk_of(first, HandState(*(part[:, None] for part in vars(first).values()))))
    assert torch.allclose(still.root[:, 0], first.root, atol=1e-6)


def test_a_hand_of_bones_bends_as_hands_do(bones):
    flat = bones(torch.zeros(1, 16, 3)).keypoints[0]
    assert torch.allclose(flat, bones.template, atol=1e-6) and (flat[WRIST] == 0).all()
    pose = torch.zeros(1, 16, 3)
    pose[0, 1:4, 1] = 1.2  # the index finger about the palm's y
    bent = bones(pose).keypoints[0]
    moved = (bent - flat).norm(dim=-1)
    assert (moved[[6, 7, 8]] > 0.01).all() and moved[[*range(6), *range(9, 21)]].max() < 1e-6
    assert bent[8, 2] < flat[8, 2] - 0.02, "towards the palm"
    lengths = lambda points: (points[..., [6, 7, 8], :] - points[..., [5, 6, 7], :]).norm(dim=-1)  # noqa: E731
    assert torch.allclose(lengths(bent), lengths(flat), atol=1e-6)
    shaped = bones(torch.zeros(10, 16, 3), torch.eye(10)).keypoints
    assert ((shaped - flat).norm(dim=-1).amax(-1) > 0.001).all(), "each number of shape does something"
    turned = bones(torch.tensor([[[0.0, 0.0, np.pi / 2]] + [[0.0, 0.0, 0.0]] * 15]), None, torch.ones(1, 3)).keypoints[
        0
    ]
    assert torch.allclose(turned - 1.0, torch.stack([-flat[:, 1], flat[:, 0], flat[:, 2]], -1), atol=1e-6)


def test_random_hands_close_in_manos_model_too(tmp_path):
    mano = hand_of(replace(TINY, hand="mano"), write_mano_arrays(tmp_path))
    assert isinstance(mano, ManoLayer)
    for model in (BoneHand(), mano):
        made = model(random_poses(model, 300, torch.Generator().manual_seed(1)), None, None).keypoints
        reach = (made[:, [8, 12, 16, 20]] - made[:, [0]]).norm(dim=-1)
        assert made.isfinite().all() and (reach.amax(0) > 1.5 * reach.amin(0)).all(), "from open to closed"
    with pytest.raises(UserError, match="get them at https://mano.is.tue.mpg.de"):
        hand_of(replace(TINY, hand="mano"), tmp_path / "nowhere")


def test_the_inverse_network_learns_by_both_losses_and_turns_with_the_hand(bones):
    torch.manual_seed(0)
    inverse = InverseMano(64, 1)
    pose, betas, translation = some(64, 3)
    with torch.no_grad():
        keypoints = bones(pose, betas, translation).keypoints
    actual, known = HandState.of_pose(pose, betas, translation), torch.ones(64, 21, dtype=torch.bool)
    assert np.allclose(palm_frame(keypoints, known), palm_rotation(keypoints.numpy(), "right"), atol=1e-5)
    optimizer, losses = torch.optim.Adam(inverse.parameters(), 3e-3), {True: [], False: []}
    for i in range(60):
        shapes = i % 2 == 0
        found = inverse(keypoints, known, bones)
        loss, parts = inverse_loss(found, actual, keypoints, known, bones, InverseLosses(), shapes)
        assert set(parts) == {"points", "shape" if shapes else "pose"}
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses[shapes].append(float(loss.detach()))
    assert losses[True][-1] < 0.6 * losses[True][0] and losses[False][-1] < losses[False][0]
    with torch.no_grad():
        found = inverse(keypoints, known, bones)
        made = bones(found.pose, found.betas, found.translation).keypoints
        assert torch.allclose(made[:, WRIST], keypoints[:, WRIST], atol=1e-6), "the wrist is where it is seen"
        turn = HandState.of_pose(*some(1, 9)).root[0]
        other = inverse(keypoints @ turn.T + 0.3, known, bones)
        assert torch.allclose(other.fingers, found.fingers, atol=1e-4)
        assert torch.allclose(other.root, turn @ found.root, atol=1e-4)
        blind = known.clone()
        blind[:, 4:] = False
        assert inverse(torch.where(blind[..., None], keypoints, torch.nan), blind, bones).numbers.isfinite().all()


def test_depth_is_read_patch_by_patch_and_the_unknown_does_not_count():
    depth = torch.full((1, 8, 8), 1.0)
    depth[0, :4, :4], depth[0, 4:, 4:], depth[0, 0, 7] = 0.0, 9.0, float("nan")
    mean, known = patch_depth(depth, 2)
    assert known.tolist() == [[False, True, True, True]] and torch.allclose(mean[0, 1:], torch.tensor([0.5, 0.5, 1.0]))
    made = DepthEstimator().eval()(torch.zeros(1, 28, 42, 3, dtype=torch.uint8))
    assert made.shape == (1, 28, 42) and (made >= 0).all() and (made <= 20).all(), "metres, at the image's size"


def test_depth_words_and_picture_reach_the_context_and_padding_does_not():
    torch.manual_seed(0)
    network = MEgoHandNetwork(TINY).eval()
    torch.nn.init.normal_(network.depth.out.weight, std=0.5)  # it begins with nothing
    images = torch.randint(0, 255, (2, 48, 48, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    depth, said = torch.full((2, 48, 48), 1.0), ["take the cup", "put the red cup left"]
    see = lambda images, depth, said: network.see(images, depth, network.words(said, images is not None))  # noqa: E731
    with torch.no_grad():
        whole, alone = see(images, depth, said), see(images[:1], depth[:1], said[:1])
        length = alone.context.shape[1]
        assert whole.context.shape[1] > length and whole.known[0].sum() == length
        assert torch.allclose(whole.context[0, :length], alone.context[0], atol=1e-5)
        assert whole.depth.shape == (2, 36)
        for other in ((255 - images, depth, said), (images, 0.2 * depth, said), (images, None, said)):
            assert (see(*other).context - whole.context).abs().max() > 1e-3
        assert (see(images, depth, ["take the blue", said[1]]).context - whole.context)[0].abs().max() > 1e-3
        deaf = MEgoHandNetwork(replace(TINY, inputs=("image",))).eval()
        assert torch.equal(deaf.words(said, True)[0][0], deaf.words(["", ""], True)[0][0])


def test_the_published_size_has_a_place_for_every_public_tensor_and_small_ones_are_read(tmp_path):
    with torch.device("meta"):
        whole = MEgoHandNetwork(MEgoHandConfig(hand="bones"))
    names = {name: tuple(value.shape) for name, value in whole.state_dict().items()}
    assert names["vlm.eye.embeddings.patch_embedding.weight"] == (1152, 3, 14, 14)
    assert names["vlm.language.layers.11.mlp.down_proj.weight"] == (2048, 8192)
    assert "vlm.language.layers.12.mlp.down_proj.weight" not in names
    assert names["depth.network.encoder.stages.3.layers.2.layer.2.convolution.weight"] == (2048, 512, 1, 1)
    assert names["estimator.model.backbone.embeddings.position_embeddings"] == (1, 1370, 384)
    assert sum(p.numel() for p in whole.parameters()) > 1.5e9
    network = MEgoHandNetwork(TINY)
    parts = {"vision_model.": network.vlm.eye, "model.": network.vlm.language, "resnet.": network.depth.network}
    loads = {"vision_model.": load_siglip2, "model.": load_smollm2, "resnet.": load_resnet}
    for prefix, part in parts.items():
        told = {f"{prefix}{key}": torch.full_like(value, 3) for key, value in part.state_dict().items()}
        extra = {"model.layers.1.mlp.up_proj.weight": torch.zeros(48, 32), "lm_head.weight": torch.zeros(2, 2)}
        save_file({**told, **(extra if prefix == "model." else {})}, tmp_path / "some.safetensors")
        loads[prefix](network, tmp_path / "some.safetensors")
        assert all((value == 3).all() for value in part.state_dict().values())
    with pytest.raises(UserError, match="expected keys 'model"):
        load_smollm2(network, tmp_path / "some.safetensors")
    assert [s.name for s in system_of("megohand").stages] == ["inverse", "motion", "recordings"]


def test_presets_say_what_they_need_and_wrong_sizes_are_refused():
    spec = presets()["megohand-small"].spec()
    assert spec.lacks(type("Nothing", (), {})()) == "MEgoHand needs images" and "depth" in spec.modalities
    assert presets()["megohand"].spec().horizon_steps == 16 and "mesh" in presets()["megohand"].spec().gives
    with pytest.raises(ValueError, match="multiple of 8 x 2"):
        replace(TINY.vlm, picture=50)
    with pytest.raises(ValueError, match="inputs lack image"):
        replace(TINY, inputs=("depth",))
    with pytest.raises(ValueError, match="depth_anything takes multiples of 14"):
        replace(TINY, depth=DepthSizes())
    assert mirrored_words("put it to the left of the red cup, right.") == "put it to the right of the red cup, left."


def test_a_recording_gets_manos_parameters_of_its_keypoints(tmp_path):
    """In its own frame; a right hand's parameters make keypoints as far off as is said, and its wrist exactly."""
    folder = write_mano_arrays(tmp_path)
    forecaster = MEgoHandForecaster(replace(TINY, hand="mano"), mano=folder)
    episode = generate_scene(3, 2.0).episode
    hidden = episode.valid.copy()
    hidden[:5, 1, WRIST] = False
    labelled, apart = forecaster.label(replace(episode, valid=hidden))
    assert np.isnan(labelled.mano_pose[:5, 1]).all() and np.isfinite(labelled.mano_pose[5:]).all()
    right = forecaster.hand(
        torch.tensor(labelled.mano_pose[5:, 1]).float(),
        torch.tensor(labelled.betas[1]).float().expand(len(episode) - 5, 10),
        torch.tensor(labelled.mano_translation[5:, 1]).float(),
    ).keypoints.numpy()
    errors = np.linalg.norm(right - episode.keypoints[5:, 1], axis=-1)
    assert errors[:, WRIST].max() < 1e-4 and 0.2 * apart < errors.mean() < 5.0 * apart
    labelled.save(tmp_path / "labelled.npz")
    with pytest.raises(UserError, match="no palm is seen"):
        forecaster.label(replace(episode, valid=np.zeros_like(episode.valid)))
