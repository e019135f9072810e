"""Our EgoH4 against the authors': as stored, everywhere; live, where EGOH4_SOURCE is set (docs/systems.md)."""

import fixtures
import parity_egoh4 as parity
import pytest
import torch
from fixtures import assert_equal

from egohand_ros.errors import UserError
from egohand_ros.forecast.common.diffusion import Diffusion
from egohand_ros.forecast.egoh4.network import EgoH4Config, EgoH4Network
from egohand_ros.forecast.egoh4.objective import EgoH4Batch, egoh4_loss
from egohand_ros.forecast.egoh4.weights import load_egoh4


def ours(size: parity.Size, state: dict, folder) -> EgoH4Network:
    """Our network, from a file with the authors' names."""
    torch.save(parity.checkpoint_of(state), folder / "mp_rank_00_model_states.pt")
    network = EgoH4Network(size.config).eval()
    load_egoh4(network, folder)
    return network


def our_outputs(network: EgoH4Network, size: parity.Size, sample: bool = True) -> dict[str, torch.Tensor]:
    given, noise = parity.inputs(size), fixtures.Noise(size.seed)
    x, t, condition, images = (given[name] for name in ("x", "t", "condition", "images"))
    with torch.no_grad():
        joints, visible = network(x, t, condition, images)
        found = {"joints": joints, "visible": visible, "step": network.diffusion.step(joints, x, t, noise(x, 0))}
        if sample:
            found["sample"] = network.sample(condition, images, noise(x, size.steps), noise)
        found["losses"] = our_losses(network, size)
    return found


def our_losses(network: EgoH4Network, size: parity.Size) -> torch.Tensor:
    given, b = parity.inputs(size), parity.batch(size)
    turn = torch.tensor([[0.0, -1.0, 511.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])  # their picture lies on its side
    to_picture = (
        turn @ b["intrinsics"][:, None] @ (b["world_to_camera"] @ b["canonical_world"].inverse()[:, None])[:, :20, :3]
    )
    batch = EgoH4Batch(
        b["joints"], b["known"], b["wrists"][:, :20], b["wrists_known"][:, :20], to_picture, b["out_of_view"][:, :20]
    )
    x = network.diffusion.add_noise(b["joints"], given["t"], b["noise"])
    joints, visible = network(x, given["t"], given["condition"], given["images"])
    total, parts = egoh4_loss(network, joints, visible, batch)
    body, hand = parts["body_observed"] + parts["body_future"], parts["hand_observed"] + parts["hand_future"]
    assert float(total) == pytest.approx(
        float((body + hand) / 2 + 0.05 * parts["reprojection"] + 0.1 * parts["visibility"])
    )
    return torch.stack([parts[name] for name in parity.LOSSES])


@pytest.mark.parametrize("name", parity.SIZES)
def test_equals_the_stored_numbers_of_the_authors(name, tmp_path):
    kept, size = fixtures.stored("egoh4"), parity.SIZES[name]
    network = ours(size, parity.stored_state(kept, name), tmp_path)
    for key, value in our_outputs(network, size).items():
        assert_equal(value if value.dim() < 3 else value[:, ::5, ::7], kept[f"{name}.{key}"])


@pytest.mark.parametrize("name", [*parity.SIZES, "published"])
def test_equals_the_authors_modules(name, tmp_path, record_property):
    size = parity.SIZES.get(name, parity.PUBLISHED)
    model = parity.authors_network(size)
    theirs = parity.authors_outputs(model, size)
    network = ours(size, model.state_dict(), tmp_path)
    for key, value in our_outputs(network, size, "sample" in theirs).items():
        error = assert_equal(value, theirs[key])
        record_property(f"{name} {key}", error)
        print(f"EgoH4 {name} {key}: {error:.1e}")


@pytest.mark.parametrize("prediction", ["pred_x0", "pred_noise"])
@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_every_kind_of_diffusion_equals_theirs(prediction, schedule):
    size = parity.SIZES["other"]
    model = parity.authors_network(size, prediction, schedule)
    diffusion = Diffusion(size.steps, schedule, prediction.removeprefix("pred_"), clip=1.0)
    x, output, noise = (fixtures.numbers(3, 30, 171, seed=s) for s in (1, 2, 3))
    t = torch.tensor([0, 17, 39])
    model.denoise_fn.forward = lambda *_: (output.clone(), None)  # they clamp it in place
    with fixtures.Noise(9).instead_of_torch(1):
        theirs = model.p_sample(x, t, torch.zeros(3, 30, 13), None)
    assert_equal(diffusion.step(output, x, t, fixtures.Noise(9)(x, 0)), theirs)
    assert_equal(diffusion.add_noise(x, t, noise), model.q_sample(x, t, noise))


def test_full_size_is_the_published_size():
    """The authors' model has as many trainable parameters at the sizes of its config files."""
    with torch.device("meta"):
        network = EgoH4Network()
    assert sum(p.numel() for p in network.parameters()) == 7_388_333


def test_mistakes_about_checkpoints_are_named(tmp_path):
    size, kept = parity.SIZES["other"], fixtures.stored("egoh4")
    state = parity.stored_state(kept, "other")
    with pytest.raises(UserError, match="noise schedule"):
        ours(parity.Size(2, 48, 2, 3, 1000), state, tmp_path)
    with pytest.raises(UserError, match=r"shape \(48, .*expects \(32"):
        torch.save(parity.checkpoint_of({k: v for k, v in state.items() if "position_vec" not in k}), tmp_path / "w.pt")
        load_egoh4(EgoH4Network(EgoH4Config(width=32, heads=2, layers=3, steps=40)), tmp_path / "w.pt")
    with pytest.raises(UserError, match="no place"):
        ours(size, state | {"denoise_fn.mystery": torch.zeros(1)}, tmp_path)
    with pytest.raises(UserError, match="lack 1 tensors"):
        ours(size, {k: v for k, v in state.items() if k != "denoise_fn.vis_out.bias"}, tmp_path)
    with pytest.raises(UserError, match="no checkpoint of EgoH4"):
        torch.save({"state_dict": {"other": torch.zeros(1)}}, tmp_path / "other.pt")
        load_egoh4(EgoH4Network(size.config), tmp_path / "other.pt")
