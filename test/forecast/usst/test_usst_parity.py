"""Our USST against the authors': as stored, everywhere; live, where USST_SOURCE is set (docs/systems.md)."""

import fixtures
import parity_usst as parity
import pytest
import torch
from fixtures import assert_equal

from egohand_ros.errors import UserError
from egohand_ros.forecast.usst.inputs import observed_count
from egohand_ros.forecast.usst.network import USSTConfig, USSTNetwork
from egohand_ros.forecast.usst.objective import usst_loss
from egohand_ros.forecast.usst.weights import load_usst

PARTS = ("future_velocity", "warp", "observed", "observed_velocity")


def ours(size: parity.Size, state: dict, folder) -> USSTNetwork:
    """Our network, from a file with the authors' names."""
    torch.save(parity.checkpoint_of(state), folder / "usst.pth")
    network = USSTNetwork(size.config).eval()
    load_usst(network, folder / "usst.pth")
    return network


@torch.no_grad()
def our_outputs(network: USSTNetwork, size: parity.Size) -> dict[str, torch.Tensor]:
    given = parity.inputs(size)
    assert torch.equal(observed_count(given["frames"]), given["observed"])
    output = network(given["images"], given["points"], given["observed"])
    total, parts = usst_loss(output, given["points"], given["observed"], given["frames"])
    there = torch.arange(size.frames) < given["frames"][:, None]
    joined = {name: getattr(output, name)[there] for name in ("points", "log_variance", "velocity")}
    return joined | {"losses": torch.stack([parts[name] for name in PARTS]), "total": total}


@pytest.mark.parametrize("name", parity.SIZES)
def test_equals_the_stored_numbers_of_the_authors(name, tmp_path):
    kept, size = fixtures.stored("usst"), parity.SIZES[name]
    for key, value in our_outputs(ours(size, parity.stored_state(kept, name), tmp_path), size).items():
        assert_equal(value, kept[f"{name}.{key}"])


@pytest.mark.parametrize("name", [*parity.SIZES, *parity.PUBLISHED])
def test_equals_the_authors_modules(name, tmp_path):
    size = (parity.SIZES | parity.PUBLISHED)[name]
    with parity.authors() as (module, losses):
        model = parity.authors_network(module, size)
        theirs = parity.authors_outputs(losses, model, size)
        network = ours(size, model.state_dict(), tmp_path)
        unused = sum(p.numel() for k, p in model.named_parameters() if ".backbone.fc." in k)
        assert sum(p.numel() for p in network.parameters()) == sum(p.numel() for p in model.parameters()) - unused
        found = our_outputs(network, size)
        exact = float64_error(network, model, size)
    for key, value in found.items():
        # Over 64 steps float32 rounds the velocity's norm over three numbers to 4e-5; float64 shows that it is
        # rounding.
        error = assert_equal(value, theirs[key], 1e-4 if key == "velocity" and size.frames > 40 else fixtures.TOLERANCE)
        print(f"USST {name} {key}: {error:.1e}")
    print(f"USST {name} in float64: {exact:.1e}")
    assert exact < 1e-12


@torch.no_grad()
def float64_error(network: USSTNetwork, model, size: parity.Size) -> float:
    """The largest relative difference of points, variances and velocities where both work in float64."""
    given = parity.inputs(size)
    torch.set_default_dtype(torch.float64)
    try:
        images, points = given["images"].double(), given["points"].double()
        ahead, seen = model.double()(
            images.transpose(1, 2), given["frames"], torch.full((size.batch, 1), 0.6, dtype=torch.float32), points
        )
        ours = network.double()(images, points, given["observed"])
    finally:
        torch.set_default_dtype(torch.float32)
        model.float(), network.float()
    there, errors = torch.arange(size.frames) < given["frames"][:, None], []
    for name, key in (("points", "traj"), ("log_variance", "unct"), ("velocity", "velo")):
        theirs = torch.cat([torch.cat([s["0.6"][key], a["0.6"][key]]) for a, s in zip(ahead, seen)])
        errors.append(fixtures.relative_error(getattr(ours, name)[there], theirs))
    return max(errors)


def test_what_is_not_observed_is_not_looked_at(tmp_path):
    size = parity.SIZES["small"]
    network, given = ours(size, parity.stored_state(fixtures.stored("usst"), "small"), tmp_path), parity.inputs(size)
    with torch.no_grad():
        before = network(given["images"], given["points"], given["observed"])
        unseen = torch.arange(size.frames) >= given["observed"][:, None]
        given["points"][unseen], given["images"][unseen] = 9.0, 0.5
        after = network(given["images"], given["points"], given["observed"])
    assert torch.equal(before.points, after.points)
    assert (before.points[0] - before.points[1]).abs().max() > 1e-3  # and it is not that nothing is looked at


def test_mistakes_about_checkpoints_are_named(tmp_path):
    size, state = parity.SIZES["small"], parity.stored_state(fixtures.stored("usst"), "small")
    with pytest.raises(UserError, match="table of positions"):
        ours(parity.Size(1, 12, 32, 32, 4, 2), state, tmp_path)
    with pytest.raises(UserError, match="no place"):
        ours(size, state | {"mystery": torch.zeros(1)}, tmp_path)
    with pytest.raises(UserError, match="lack 1 tensors"):
        ours(size, {k: v for k, v in state.items() if k != "predict_velo.bn2.bias"}, tmp_path)
    with pytest.raises(UserError, match="no checkpoint of USST"):
        torch.save({"model": {"other": torch.zeros(1)}}, tmp_path / "other.pth")
        load_usst(USSTNetwork(USSTConfig(width=32, hidden=32, layers=1)), tmp_path / "other.pth")
    with pytest.raises(ValueError, match="known: resnet18, vit"):
        USSTNetwork(USSTConfig(backbone="resnet50"))
