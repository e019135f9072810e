"""EgoH4 for the comparison with the authors' code (see fixtures.py). EGOH4_SOURCE is a clone of
masashi-hatano/EgoH4."""

import json
import os
from dataclasses import dataclass

import fixtures
import torch
from fixtures import numbers, uniform

from egohand_ros.forecast.egoh4.network import EgoH4Config


@dataclass(frozen=True)
class Size:
    seed: int
    width: int
    heads: int
    layers: int
    steps: int
    batch: int = 2
    images: bool = True

    @property
    def config(self) -> EgoH4Config:
        return EgoH4Config(width=self.width, heads=self.heads, layers=self.layers, steps=self.steps)


SIZES = {
    "small": Size(1, 32, 4, 2, 1000),
    "other": Size(2, 48, 2, 3, 40, batch=3),
    "blind": Size(3, 32, 8, 1, 20, images=False),  # without image features
}
PUBLISHED = Size(4, 512, 8, 4, 1000)
LOSSES = ("body_observed", "hand_observed", "body_future", "hand_future", "visibility", "reprojection")
_THEIR_LOSSES = ("3d_jpos_body_obs", "3d_jpos_hand_obs", "3d_jpos_body_fut", "3d_jpos_hand_fut", "vis", "repro")


def inputs(size: Size) -> dict[str, torch.Tensor]:
    """A noised sample, its time, the condition, image features."""
    b, seed = size.batch, 10 * size.seed
    return {
        "x": numbers(b, 30, 171, seed=seed),
        "t": torch.arange(b) * (size.steps - 1) // max(b - 1, 1),
        "condition": numbers(b, 20, 13, seed=seed + 1),
        "images": numbers(b, 20, 384, seed=seed + 2) if size.images else None,
    }


def batch(size: Size) -> dict[str, torch.Tensor]:
    """What the loss needs, as the authors' code takes it: joints before them in the camera, in front of and behind its
    limits of depth; a turned camera; some joints and labels unknown."""
    b, seed = size.batch, 10 * size.seed + 5
    world_to_camera = torch.eye(4).repeat(b, 30, 1, 1)
    turn = 0.2 * numbers(b, 30, 3, seed=seed)
    world_to_camera[..., :3, :3] = torch.linalg.matrix_exp(_skew(turn))
    world_to_camera[..., :3, 3] = 0.1 * numbers(b, 30, 3, seed=seed + 1) + torch.tensor([0.0, 0.0, 0.6])
    canonical_world = torch.eye(4).repeat(b, 1, 1)
    canonical_world[:, :3, :3] = torch.linalg.matrix_exp(_skew(numbers(b, 3, seed=seed + 2)))
    canonical_world[:, :3, 3] = numbers(b, 3, seed=seed + 3)
    intrinsics = torch.tensor([[150.0, 0, 255.5], [0, 150.0, 255.5], [0, 0, 1]]).repeat(b, 1, 1)
    out_of_view = uniform(b, 30, 2, seed=seed + 4).round()
    out_of_view[:, ::7] = float("nan")
    return {
        "joints": 0.2 * numbers(b, 30, 171, seed=seed + 5),
        "known": uniform(b, 30, 57, seed=seed + 6) > 0.3,
        "wrists": uniform(b, 30, 2, 2, seed=seed + 7),
        "wrists_known": uniform(b, 30, 2, seed=seed + 8) > 0.2,
        "out_of_view": out_of_view,
        "world_to_camera": world_to_camera,
        "canonical_world": canonical_world,
        "intrinsics": intrinsics,
        "noise": numbers(b, 30, 171, seed=seed + 9),
    }


def _skew(v: torch.Tensor) -> torch.Tensor:
    zero = torch.zeros_like(v[..., 0])
    rows = [zero, -v[..., 2], v[..., 1], v[..., 2], zero, -v[..., 0], -v[..., 1], v[..., 0], zero]
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def authors_network(size: Size, objective: str = "pred_x0", schedule: str = "cosine"):
    """Their model with weights by formula, in eval mode, and its state dict."""
    with fixtures.authors_modules(fixtures.source("egoh4")) as load:
        module = load("models.transformer_cond_diffusion_model")
        model = module.CondGaussianDiffusion(
            d_feats=171,
            d_cond=13,
            d_model=size.width,
            n_head=size.heads,
            n_dec_layers=size.layers,
            d_k=size.width // size.heads,
            d_v=size.width // size.heads,
            max_timesteps=31,
            out_dim=171,
            timesteps=size.steps,
            objective=objective,
            loss_type="l1",
            beta_schedule=schedule,
            jpos_min=-7.81,
            jpos_max=9.85,
        )
    with torch.no_grad():  # Mlp's width follows from d_model; the table of positions stays
        parameters = {name: tuple(p.shape) for name, p in model.named_parameters() if p.requires_grad}
        model.load_state_dict(fixtures.formula_state(parameters, size.seed), strict=False)
    return model.eval()


def with_condition(x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
    """Their input: the condition beside the sample, anything for the future frames, which it ignores."""
    filled = torch.cat([condition, torch.full((len(x), 10, 13), 7.0)], dim=1)
    return torch.cat([x, filled], dim=-1)


def authors_outputs(model, size: Size) -> dict[str, torch.Tensor]:
    """Joints and visibility of one pass, one sampling step, a whole sample, and the losses."""
    given = inputs(size)
    with torch.no_grad():
        joints, visible = model.denoise_fn(with_condition(given["x"], given["condition"]), given["images"], given["t"])
        condition = with_condition(given["x"], given["condition"])[..., 171:]
        with fixtures.Noise(size.seed).instead_of_torch(1):
            step = model.p_sample(given["x"], given["t"], condition, given["images"])
        found = {"joints": joints, "visible": visible, "step": step}
        if size.width < PUBLISHED.width or os.environ.get("PARITY_FULL"):  # minutes at published size
            with fixtures.Noise(size.seed).instead_of_torch(size.steps):
                found["sample"] = model.p_sample_loop(given["x"].shape, condition, given["images"])
        found["losses"] = authors_losses(model, size)
    return found


def authors_losses(model, size: Size) -> torch.Tensor:
    given, b = inputs(size), batch(size)
    model.T_cano_t0_world = b["canonical_world"]
    condition = with_condition(given["x"], given["condition"])[..., 171:]
    losses = model.p_losses(
        b["joints"], condition, given["images"], given["t"], b["wrists"],
        b["wrists_known"].float(),
        b["world_to_camera"], b["intrinsics"], b["noise"], b["known"].float(), b["out_of_view"],
        torch.ones(size.batch, 30, 2),
    )  # fmt: skip
    return torch.stack([losses[f"loss_{name}"] for name in _THEIR_LOSSES])


def checkpoint_of(state: dict[str, torch.Tensor]) -> dict:
    """A DeepSpeed file as their trainer's: the trained network, its running average (what is sampled from),
    settings."""
    other = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    module = {f"_forward_module.model.{k}": v for k, v in other.items()}
    module |= {f"_forward_module.ema.online_model.{k}": v for k, v in other.items()}
    module |= {f"_forward_module.ema.ema_model.{k}": v for k, v in state.items()}
    module |= {"_forward_module.ema.initted": torch.tensor(True), "_forward_module.ema.step": torch.tensor(7)}
    return {"module": module, "global_steps": 3, "ds_version": "0.14", "hyper_parameters": {"seed": 42}}


def stored_state(kept: dict, name: str) -> dict[str, torch.Tensor]:
    """Their whole state dict again: parameters by formula, constants as stored, derived constants as zeros."""
    shapes = fixtures.from_shapes(kept[f"{name}.shapes"])
    parameters = json.loads(str(kept[f"{name}.parameters"]))
    state = {key: torch.zeros(shape) for key, shape in shapes.items()}
    state |= fixtures.formula_state({key: shapes[key] for key in parameters}, SIZES[name].seed)
    constants = {k: torch.from_numpy(v) for k, v in kept.items() if k.startswith(f"{name}.constant.")}
    return state | {key.removeprefix(f"{name}.constant."): value for key, value in constants.items()}


def write_fixture() -> None:
    kept = {}
    for name, size in SIZES.items():
        model = authors_network(size)
        state = model.state_dict()
        kept[f"{name}.shapes"] = fixtures.shapes_of(state)
        kept[f"{name}.parameters"] = json.dumps([k for k, p in model.named_parameters() if p.requires_grad])
        for constant in ("betas", "denoise_fn.motion_transformer.position_vec.weight"):
            kept[f"{name}.constant.{constant}"] = state[constant]
        for key, value in authors_outputs(model, size).items():
            # A few of the numbers say as much as all of them, in a hundredth of the space.
            kept[f"{name}.{key}"] = value if value.dim() < 3 else value[:, ::5, ::7]
    fixtures.store("egoh4", **kept)


if __name__ == "__main__":
    write_fixture()
