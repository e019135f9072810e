"""USST for the comparison with the authors' code (see fixtures.py). USST_SOURCE is a clone of oppo-us-research/USST
with its submodule third_party/hoi-forecast; it also imports einops, timm and torchvision."""

import contextlib
import json
from dataclasses import dataclass
from types import SimpleNamespace

import fixtures
import torch
from fixtures import numbers, uniform

from egohand_ros.forecast.usst.network import USSTConfig


@dataclass(frozen=True)
class Size:
    seed: int
    frames: int
    width: int
    hidden: int
    latent: int
    layers: int
    backbone: str = "resnet18"
    batch: int = 2

    @property
    def config(self) -> USSTConfig:
        return USSTConfig(self.frames, self.width, self.hidden, self.latent, self.layers, backbone=self.backbone)


SIZES = {
    "small": Size(1, 10, 32, 32, 4, 2),
    "other": Size(2, 15, 64, 48, 8, 3, batch=3),
}
PUBLISHED = {
    "published": Size(3, 40, 256, 128, 16, 6),
    "published_h2o": Size(4, 64, 256, 128, 16, 6),
    "published_vit": Size(5, 40, 256, 128, 16, 6, "vit"),
}
# Theirs of the future's points is added to in place until it is the total, so the total stands for it.
PARTS = ("unobs_velo_loss", "unobs_warp_loss", "obs_loss", "obs_velo_loss")


def inputs(size: Size) -> dict[str, torch.Tensor]:
    """Pictures, points, how many frames there are and are observed; one clip is shorter than the others."""
    b, t, seed = size.batch, size.frames, 10 * size.seed
    frames = torch.full((b,), t)
    frames[-1] = t - 3
    return {
        "images": 2 * uniform(b, t, 3, 64, 64, seed=seed) - 1,
        "points": 0.2 * numbers(b, t, 3, seed=seed + 1).cumsum(1) / t**0.5,
        "frames": frames,
        "observed": torch.floor(frames * 0.6).long(),
    }


def settings(size: Size) -> SimpleNamespace:
    """config/usst_res18_3d.yml and usst_vit_3d.yml, with sizes of our own."""
    vit = size.backbone == "vit"
    return SimpleNamespace(
        arch="TransformerSSM",
        backbone="vit/b16-224" if vit else "resnet18",
        freeze_backbone=True,
        vpt=dict(prompt_len=10, prompt_dim=768, dropout=0.0) if vit else dict(num_tokens=5),
        ssm=SimpleNamespace(h_dim=size.hidden, z_dim=size.latent, pred_link=True), feat_dim=size.width,
        loc_dim=size.width, transformer=SimpleNamespace(depth=size.layers), modalities=["rgb", "loc"], target="3d",
        sup_obs=True, centralize=True, use_odom=True, pred_velocity=True,
        aleatoric_uncertainty=SimpleNamespace(type="hybrid", act_out="softplus"),
    )  # fmt: skip


@contextlib.contextmanager
def authors():
    """Their network's and their loss's modules."""
    root = fixtures.source("usst")
    # torchvision's wheel may be for a GPU; its ResNet needs none of its kernels, but its import wants to describe them.
    stand_ins = {"torchvision._meta_registrations": fixtures.module("torchvision._meta_registrations")}
    with fixtures.authors_modules(root, root / "third_party/hoi-forecast", stand_ins=stand_ins) as load:
        network, frames, losses = (
            load(f"src.{name}") for name in ("models.TransformerSSM", "models.EmbedFrame", "Losses")
        )
        make, frames.models.resnet.model_urls = frames.timm.create_model, {"resnet18": ""}
        frames.load_state_dict_from_url = lambda _: frames.models.resnet18().state_dict()  # no download
        frames.timm = SimpleNamespace(
            create_model=lambda *args, pretrained, **options: make(*args, pretrained=False, **options)
        )
        yield network, losses


def authors_network(network, size: Size):
    model = network.TransformerSSM(settings(size), seq_len=size.frames, input_size=64)
    model.load_state_dict(fixtures.formula_state(learned(model.state_dict()), size.seed), strict=False)
    return model.eval()


def learned(state: dict[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    """Shapes of all but tables of positions and counters."""
    return {k: tuple(v.shape) for k, v in state.items() if not k.endswith((".pe", "num_batches_tracked"))}


def authors_outputs(losses, model, size: Size) -> dict[str, torch.Tensor]:
    """Points, log-variances and velocities of all frames (of a clip shorter than the others, those it has), and the
    losses."""
    given, share = inputs(size), torch.full((size.batch, 1), 0.6)
    with torch.no_grad():
        outputs = model(given["images"].transpose(1, 2), given["frames"], share, given["points"])
        weights = SimpleNamespace(
            function="Huber", delta=1e-5, scale=1000, robust_weighing=True, tau=0.1, velo_coeff=10.0, velo_warp=1.0
        )
        parts = losses.CoordLoss(weights)(outputs, given["frames"], given["points"])
    ahead, seen = outputs
    joined = {
        ours: torch.cat([torch.cat([s["0.6"][key], a["0.6"][key]]) for a, s in zip(ahead, seen)])
        for ours, key in (("points", "traj"), ("log_variance", "unct"), ("velocity", "velo"))
    }
    return joined | {"losses": torch.stack([parts[name] for name in PARTS]), "total": parts["total_loss"]}


def checkpoint_of(state: dict[str, torch.Tensor]) -> dict:
    """A file as train.py writes it."""
    return {"epoch": 500, "model": state, "optimizer": {"state": {}, "param_groups": []}}


def stored_state(kept: dict, name: str) -> dict[str, torch.Tensor]:
    """Their whole state dict again: what is learned by formula, the tables of positions as stored."""
    shapes = fixtures.from_shapes(kept[f"{name}.shapes"])
    state = {key: torch.zeros(shape) for key, shape in shapes.items()}
    state |= fixtures.formula_state(learned(state), SIZES[name].seed)
    return state | {key: torch.from_numpy(kept[f"{name}.table.{key}"]) for key in state if key.endswith(".pe")}


def write_fixture() -> None:
    kept = {}
    with authors() as (network, losses):
        for name, size in SIZES.items():
            model = authors_network(network, size)
            state = model.state_dict()
            kept[f"{name}.shapes"] = fixtures.shapes_of(state)
            kept |= {f"{name}.table.{key}": state[key] for key in state if key.endswith(".pe")}
            kept |= {f"{name}.{key}": value for key, value in authors_outputs(losses, model, size).items()}
            kept[f"{name}.parameters"] = json.dumps(sum(p.numel() for p in model.parameters()))
    fixtures.store("usst", **kept)


if __name__ == "__main__":
    write_fixture()
