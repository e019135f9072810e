"""Our ForeHand4D against the authors': as stored, everywhere; live, where FOREHAND4D_SOURCE is set
(docs/systems.md)."""

import math
import os

import fixtures
import parity_forehand4d as parity
import pytest
import torch
from fixtures import assert_equal
from synthetic_mano import mano_data

from egohand_ros.errors import UserError
from egohand_ros.forecast.forehand4d.conditioning import lifting
from egohand_ros.forecast.forehand4d.network import (
    ForeHand4DConfig,
    ForeHand4DForecaster,
    ForeHand4DLifter,
    ForeHand4DRegressor,
)
from egohand_ros.forecast.forehand4d.objective import ForeHand4DBatch, ForeHand4DWeights, forehand4d_loss
from egohand_ros.forecast.forehand4d.refinement import Refinement, Seen, refine
from egohand_ros.forecast.forehand4d.state import geometry_of, motion_from_pose, motion_from_state, state_from_motion
from egohand_ros.forecast.forehand4d.weights import load_forehand4d
from egohand_ros.hand.mano_layer import ManoLayer

NETWORKS = {"forecaster": ForeHand4DForecaster, "lifter": ForeHand4DLifter, "regressor": ForeHand4DRegressor}
LOSSES = {
    "cam_t": "translation",
    "kp3d": "keypoints",
    "v3d": "vertices",
    "pose": "pose",
    "j2d": "pixels",
    "diffusion": "diffusion",
}


def ours(size: parity.Size, kind: str, state: dict, folder):
    """Our network, from a file with the authors' names."""
    torch.save(parity.checkpoint_of(state), folder / "model.ckpt")
    network = NETWORKS[kind](size.config).eval()
    load_forehand4d(network, folder / "model.ckpt")
    return network


@torch.no_grad()
def our_outputs(network, size: parity.Size, kind: str, sample: bool = True) -> dict[str, torch.Tensor]:
    given, noise = parity.inputs(size), fixtures.Noise(size.seed)
    if kind == "regressor":
        return {"motion": network(given["images"])}
    condition, x, t = tokens(network, given, kind), given["x"], given["t"]
    motion, steps = network(x, t, condition), network.diffusion
    found = {"motion": motion, "step": steps.step(motion, x, t, noise(x, 0))}
    found["ddim"] = steps.ddim_step(motion, x, t, t - 1, noise(x, 0), eta=0.5)
    if sample:
        found["sample"] = network.sample(condition, noise(x, size.steps), noise)
    return found


def tokens(network, given: dict, kind: str) -> torch.Tensor:
    if kind == "forecaster":
        return network.tokens(given["images"])
    names = ("pixels", "valid", "camera_current", "intrinsics", "seen")
    return network.tokens(lifting(*(given[name] for name in names)))


def mano_layers() -> dict[str, ManoLayer]:
    return {side: ManoLayer(mano_data(side)) for side in ("left", "right")}


@torch.no_grad()
def our_losses(network, size: parity.Size, kind: str) -> dict[str, torch.Tensor]:
    given, label, mano = parity.inputs(size), parity.labels(size), mano_layers()
    motion = motion_from_pose(label["pose"], label["translation"])
    state = state_from_motion(motion)
    batch = ForeHand4DBatch(
        state,
        motion,
        geometry_of(label["pose"], label["translation"], mano, label["betas"]),
        given["seen"],
        given["valid"],
        label["hand"],
        label["keypoint"],
        label["posed"],
        label["located"],
        label["measured"],
        given["pixels"],
        given["camera_current"],
        given["intrinsics"],
        label["flat"],
    )
    x = network.diffusion.add_noise(state, given["t"], label["noise"])
    state = network(x, given["t"], tokens(network, given, kind))
    predicted = motion_from_state(state)
    geometry = geometry_of(predicted.pose, predicted.translation, mano, label["betas"])
    total, parts = forehand4d_loss(state, predicted, geometry, batch, ForeHand4DWeights(pixels=1.0))
    weighted = {name: part * (0.01 if name == "translation" else 1.0) for name, part in parts.items()}
    assert float(total) == pytest.approx(float(sum(weighted.values())))
    return {theirs: parts[name] for theirs, name in LOSSES.items()}


def our_refinement(size: parity.Size) -> dict[str, torch.Tensor]:
    given, label, mano = parity.inputs(size), parity.labels(size), mano_layers()
    with torch.no_grad():
        keypoints = geometry_of(label["pose"], label["translation"], mano, label["betas"]).keypoints
    view = given["camera_current"]
    there = torch.einsum("btij,btskj->btski", view[..., :3, :3], keypoints) + view[:, :, None, None, :3, 3]
    valid = given["valid"] & given["seen"][..., None, None] & label["keypoint"][:, None]
    seen = Seen(given["pixels"], valid, view, given["intrinsics"], there)
    pose, translation = parity.refinement_start(size)
    motion, _ = refine(motion_from_pose(pose, translation), seen, mano, label["betas"], Refinement(iterations=26))
    return {"refined_pose": motion.pose, "refined_translation": motion.translation}


def compare(found: dict, theirs: dict, what: str, thin: bool = False) -> None:
    for key, value in found.items():
        if thin and value.dim() >= 3:
            value = value[:, ::3, ::5]
        # 25 steps of Adam turn the rounding of a gradient near zero into one of its sign.
        error = assert_equal(value, theirs[key], 1e-4 if key.startswith("refined") else fixtures.TOLERANCE)
        print(f"ForeHand4D {what} {key}: {error:.1e}")


@pytest.mark.parametrize("kind", parity.KINDS)
@pytest.mark.parametrize("name", parity.SIZES)
def test_equals_the_stored_numbers_of_the_authors(name, kind, tmp_path):
    kept, size = fixtures.stored("forehand4d"), parity.SIZES[name]
    network = ours(size, kind, parity.stored_state(kept, name, kind), tmp_path)
    found = our_outputs(network, size, kind)
    if kind != "regressor":
        found |= our_losses(network, size, kind)
    if kind == "lifter":
        found |= our_refinement(size)
    compare(found, {k.removeprefix(f"{name}.{kind}."): v for k, v in kept.items()}, f"{name} {kind}", thin=True)


@pytest.mark.parametrize("kind", parity.KINDS)
@pytest.mark.parametrize("name", parity.SIZES)
def test_equals_the_authors_modules(name, kind, tmp_path):
    size = parity.SIZES[name]
    with parity.authors() as them:
        model = parity.authors_network(them, size, kind)
        network = ours(size, kind, model.state_dict(), tmp_path)
        theirs = parity.authors_outputs(them, model, size, kind)
        found = our_outputs(network, size, kind)
        if kind != "regressor":
            theirs |= parity.authors_losses(them, model, size, kind)
            found |= our_losses(network, size, kind)
        if kind == "lifter":
            theirs |= parity.authors_refinement(them, model, size)
            found |= our_refinement(size)
    compare(found, theirs, f"{name} {kind}")


@pytest.mark.skipif(not os.environ.get("PARITY_FULL"), reason="set PARITY_FULL=1: 1.3 billion parameters, minutes")
@pytest.mark.parametrize("kind", parity.KINDS)
def test_equals_the_authors_modules_at_published_size(kind):
    size = parity.PUBLISHED
    with parity.authors() as them:
        model = parity.authors_network(them, size, kind)
        theirs = parity.authors_outputs(them, model, size, kind)
        with torch.device("meta"):
            network = NETWORKS[kind](size.config)
        share(network.eval(), model)
    compare(our_outputs(network, size, kind, sample=False), theirs, f"published {kind}")


def share(network, model) -> None:
    """Give ours the tensors of theirs, without a copy of them in memory; the loader's own key map says which is
    which."""
    from egohand_ros.forecast.common.checkpoints import rename
    from egohand_ros.forecast.common.transformer import sinusoids
    from egohand_ros.forecast.forehand4d import weights

    state = {k: v for k, v in model.state_dict().items() if not weights._NOT_NEEDED.match(f"model.{k}")}
    state = rename({k: v for k, v in state.items() if k not in weights._TABLES}, weights._KEYS)
    missing = network.load_state_dict(state, strict=False, assign=True)
    assert not missing.unexpected_keys and not missing.missing_keys
    network.motion.positions = sinusoids(5000, network.config.width, torch.float32)


def test_full_size_is_the_published_size():
    """The authors' modules have as many parameters at the sizes of src/parsers/configs/mdm.py."""
    with torch.device("meta"):
        parameters = {kind: sum(p.numel() for p in cls().parameters()) for kind, cls in NETWORKS.items()}
    assert parameters == {"forecaster": 737_656_006, "lifter": 112_782_534, "regressor": 737_656_006}


def test_a_table_of_positions_that_another_processor_rounded_is_taken(tmp_path):
    kept, size = fixtures.stored("forehand4d"), parity.SIZES["small"]
    state = parity.stored_state(kept, "small", "lifter")
    table = NETWORKS["lifter"](size.config).motion.positions
    rate = torch.exp(torch.arange(0, table.shape[1], 2) * (-math.log(10000.0) / table.shape[1]))
    angle = torch.arange(len(table))[:, None] * torch.nextafter(rate, torch.ones(()))  # one unit in the last place
    rounded = torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)
    assert 1e-4 < (rounded - table).abs().max() < 1e-3
    ours(size, "lifter", state | {"model.sequence_pos_encoder.pe": rounded[:, None]}, tmp_path)


def test_mistakes_about_checkpoints_are_named(tmp_path):
    kept, size = fixtures.stored("forehand4d"), parity.SIZES["small"]
    states = {kind: parity.stored_state(kept, "small", kind) for kind in parity.KINDS}
    with pytest.raises(UserError, match="is ForeHand4D's lifter"):
        ours(size, "forecaster", states["lifter"], tmp_path)
    with pytest.raises(UserError, match="is ForeHand4D's forecaster"):
        ours(size, "lifter", states["forecaster"], tmp_path)
    with pytest.raises(UserError, match="no place"):
        ours(size, "forecaster", states["forecaster"] | {"mystery": torch.zeros(1)}, tmp_path)
    with pytest.raises(UserError, match="lack 1 tensors"):
        ours(size, "lifter", {k: v for k, v in states["lifter"].items() if k != "kpe_conditioner.net.4.bias"}, tmp_path)
    with pytest.raises(UserError, match="table of positions"):
        ours(size, "lifter", states["lifter"] | {"model.sequence_pos_encoder.pe": torch.zeros(5000, 1, 32)}, tmp_path)
    with pytest.raises(UserError, match="no checkpoint of ForeHand4D"):
        torch.save({"state_dict": {"other": torch.zeros(1)}}, tmp_path / "other.ckpt")
        load_forehand4d(ForeHand4DLifter(ForeHand4DConfig(width=32, layers=1)), tmp_path / "other.ckpt")
