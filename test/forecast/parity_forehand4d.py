"""ForeHand4D for the comparison with the authors' code (see fixtures.py). FOREHAND4D_SOURCE is a clone of
ap229997/forehand4d; what it imports and does not use here (renderers, CLIP, SMPL) has stand-ins."""

import contextlib
import importlib.util
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import fixtures
import torch
from fixtures import module, numbers, uniform
from scipy.spatial.transform import Rotation
from synthetic_mano import write_mano_arrays

from egohand_ros.forecast.common.vit import VIT_H, ViTConfig
from egohand_ros.forecast.forehand4d.network import ForeHand4DConfig

KINDS = ("forecaster", "lifter", "regressor")
_CONDITION = {
    "forecaster": "spatial",
    "regressor": "spatial",
    "lifter": "future_j2d+future_cam+future_plucker+future_kpe",
}


@dataclass(frozen=True)
class Size:
    seed: int
    frames: int
    width: int
    layers: int
    steps: int
    vit: ViTConfig
    batch: int = 2

    @property
    def config(self) -> ForeHand4DConfig:
        return ForeHand4DConfig(
            frames=self.frames, width=self.width, layers=self.layers, steps=self.steps, vit=self.vit
        )


def _small_vit(width: int, depth: int, heads: int) -> ViTConfig:
    return ViTConfig(width, depth, heads, 4 * width, (256, 192), padding=2, class_token=False, drop_path=0.55)


SIZES = {
    "small": Size(1, 8, 32, 2, 1000, _small_vit(32, 2, 4)),
    "other": Size(2, 13, 64, 3, 30, _small_vit(48, 3, 2), batch=3),
}
PUBLISHED = Size(3, 256, 1024, 16, 1000, VIT_H, batch=1)
MOTION_LOSSES = ("cam_t", "kp3d", "v3d", "pose")


class _Arguments(dict):
    """Settings that are read as attributes and as a dictionary."""

    __getattr__ = dict.__getitem__


def arguments(size: Size, kind: str) -> _Arguments:
    """The authors' settings of src/parsers/configs/mdm.py."""
    return _Arguments(
        dataset="arctic_ego", val_dataset="arctic_ego", img_res=224, window_size=1, rot_rep="rot6d",
        frame_of_ref="view", max_motion_length=size.frames, relative_kp3d=True, normalize_transl=True,
        noise_schedule="cosine", diffusion_steps=size.steps, sigma_small=True, arch="trans_enc", emb_trans_dec=False,
        tf_dropout=0.1, layers=size.layers, latent_dim=size.width, cond_mode=_CONDITION[kind], kpe_freq=4,
        img_feat="vit", use_pretrained_feats=False, freeze_pretrained_feats=False, cond_mask_prob=0.1,
        lambda_rcxyz=0.0, lambda_vel=0.0,
        lambda_fc=0.0, debug=False, refine_iters=25, loss_thres=1e-4, lr_mano=1e-2, finetune_3d=1,
    )  # fmt: skip


def _stand_ins(root: Path) -> dict:
    """Rotations: their copy of pytorch3d's, but for one function that pytorch3d has since mended, which is scipy's
    here."""
    spec = importlib.util.spec_from_file_location(
        "rotation_copy", root / "src/models/mdm/utils/rotation_conversions.py"
    )
    rotations = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(rotations)

    def matrix_to_axis_angle(matrix: torch.Tensor) -> torch.Tensor:
        flat = Rotation.from_matrix(matrix.detach().double().reshape(-1, 3, 3).numpy()).as_rotvec()
        return torch.from_numpy(flat).to(matrix).reshape(*matrix.shape[:-2], 3)

    rotations.matrix_to_axis_angle = matrix_to_axis_angle
    models, logger = module("src.models"), module("logger", info=print, warning=print)
    models.__path__ = [str(root / "src/models")]

    def drop_path(x, rate, training):
        assert not training, "the comparison is in eval mode"
        return x

    return {
        "pytorch3d": module("pytorch3d"),
        "pytorch3d.transforms": module("pytorch3d.transforms", rotation_conversions=rotations),
        "pytorch3d.transforms.rotation_conversions": rotations,
        "src.models": models,
        "clip": module("clip"),
        "trimesh": module("trimesh", Trimesh=object),
        "loguru": module("loguru", logger=logger),
        "timm": module("timm"),
        "timm.models": module("timm.models"),
        "timm.models.layers": module(
            "timm.models.layers",
            drop_path=drop_path,
            to_2tuple=lambda x: x if isinstance(x, tuple) else (x, x),
            trunc_normal_=torch.nn.init.trunc_normal_,
        ),
        "model.smpl": module("model.smpl", SMPL=lambda: torch.nn.Identity(), JOINTSTYPE_ROOT={}),
        "data_loaders.humanml.scripts": module("data_loaders.humanml.scripts", motion_process=None),
    }


@dataclass
class Authors:
    """What is compared of their modules."""

    motion: object  # MotionDiffusion's module
    feed_forward: object
    encoder: object
    vit: object
    losses: object
    optimiser: object
    diffusion: object
    respace: object
    mano: Path


@contextlib.contextmanager
def authors():
    """Their modules, with MANO files of our own making."""
    root = fixtures.source("forehand4d")
    mdm = root / "src/models/mdm"
    with tempfile.TemporaryDirectory() as downloads:
        write_mano_arrays(Path(downloads) / "model/body_models/mano")
        before = os.environ.get("DOWNLOADS_DIR")
        os.environ["DOWNLOADS_DIR"] = downloads
        try:
            with fixtures.authors_modules(root, mdm, stand_ins=_stand_ins(root)) as load:
                names = (
                    "src.models.mdm.model_",
                    "src.models.mdm_ff.model",
                    "model.encoder",
                    "model.vit",
                    "src.callbacks.loss.loss_function",
                    "src.models.mdm.model.mano_optimizer",
                    "diffusion.gaussian_diffusion",
                    "diffusion.respace",
                )
                yield Authors(*(load(name) for name in names), Path(downloads))
        finally:
            os.environ.pop("DOWNLOADS_DIR") if before is None else os.environ.update(DOWNLOADS_DIR=before)


def authors_network(them: Authors, size: Size, kind: str):
    """Their MotionDiffusion or MotionFeedForward with weights by formula, in eval mode."""
    vit = size.vit

    def small_vit(_, img_size):
        return them.vit.ViT(
            img_size=img_size,
            patch_size=16,
            embed_dim=vit.width,
            depth=vit.depth,
            num_heads=vit.heads,
            ratio=1,
            mlp_ratio=4,
            qkv_bias=True,
            drop_path_rate=vit.drop_path,
        )

    sys_modules = (them.encoder, importlib.import_module("src.models.mdm.model.encoder"))
    published = [m.vit for m in sys_modules]
    if size.vit != VIT_H:
        for m in sys_modules:
            m.vit = small_vit
    try:
        cls = them.feed_forward.MotionFeedForward if kind == "regressor" else them.motion.MotionDiffusion
        model = cls(1000.0, 224, arguments(size, kind))
    finally:
        for m, original in zip(sys_modules, published):
            m.vit = original
    state = fixtures.formula_state(parameter_shapes(model), size.seed)
    model.load_state_dict(state, strict=False, assign=True)
    if hasattr(model, "ddp_model"):
        model.ddp_model = model.model
    model.train(False)
    for part in model.modules():
        part.training = False  # their ViT's train() passes no mode on
    return model


def parameter_shapes(model) -> dict[str, tuple[int, ...]]:
    """Names and shapes of what is trained; MANO's own parameters and the second name of the same network are not."""
    skip = ("mano_", "ddp_model.")
    return {n: tuple(p.shape) for n, p in model.named_parameters() if not n.startswith(skip)}


def inputs(size: Size) -> dict[str, torch.Tensor]:
    """A noised motion, its time, an image, and what a lifter sees; keypoints in our order, sides [left, right]."""
    b, t, seed = size.batch, size.frames, 10 * size.seed
    valid = uniform(b, t, 2, 21, seed=seed) > 0.2
    seen = torch.ones(b, t, dtype=torch.bool)
    seen[-1, t - 3 :] = False
    camera_current = torch.eye(4).repeat(b, t, 1, 1)
    vector = 0.3 * numbers(b * t, 3, seed=seed + 1)
    camera_current[..., :3, :3] = (
        torch.from_numpy(Rotation.from_rotvec(vector.numpy()).as_matrix()).float().reshape(b, t, 3, 3)
    )
    # Cameras stand a metre behind: a keypoint in a camera's plane makes the loss of its pixels ill-conditioned.
    camera_current[..., :3, 3] = 0.1 * numbers(b, t, 3, seed=seed + 2) + torch.tensor([0.0, 0.0, 1.0])
    return {
        "x": numbers(b, t, 198, seed=seed + 3),
        "t": torch.arange(b) * (size.steps - 1) // max(b - 1, 1),
        "images": numbers(b, 3, 224, 224, seed=seed + 4),
        "pixels": 224 * uniform(b, t, 2, 21, 2, seed=seed + 5),
        "valid": valid,
        "seen": seen,
        "camera_current": camera_current,
        "intrinsics": torch.tensor([[210.0, 0, 110], [0, 205.0, 115], [0, 0, 1]]).repeat(b, 1, 1),
    }


def labels(size: Size) -> dict[str, torch.Tensor]:
    """What the losses compare with: MANO parameters near the camera, what is valid of them, shapes, noise."""
    b, t, seed = size.batch, size.frames, 10 * size.seed + 500
    flags = {name: torch.ones(b, dtype=torch.bool) for name in ("posed", "located", "measured", "flat")}
    flags["located"][0] = flags["posed"][-1] = False
    hand = torch.ones(b, 2, dtype=torch.bool)
    hand[0, 0] = False
    return {
        "pose": 0.4 * numbers(b, t, 2, 16, 3, seed=seed),
        "translation": 0.1 * numbers(b, t, 2, 3, seed=seed + 1) + torch.tensor([0.0, 0.0, 0.5]),
        "betas": numbers(b, t, 2, 10, seed=seed + 2),
        "noise": numbers(b, t, 198, seed=seed + 3),
        "hand": hand,
        "keypoint": uniform(b, 2, 21, seed=seed + 4) > 0.1,
        **flags,
    }


def _to_theirs(points: torch.Tensor) -> torch.Tensor:
    """Keypoints (…, 21, n) of one hand in their order."""
    from egohand_ros.hand.mano_layer import TO_MANO

    return points[..., list(TO_MANO), :]


def authors_inputs(size: Size, mano: dict | None = None) -> tuple[dict, dict, dict]:
    """`inputs` (and `labels`, where their MANO models are given) as their dictionaries inputs, meta_info, targets."""
    given, b, t = inputs(size), size.batch, size.frames
    sides = {"l": 0, "r": 1}
    meta = {
        "intrinsics": given["intrinsics"][:, None],
        "mask_timesteps": given["seen"].float(),
        "lengths": given["seen"].sum(1),
    }
    targets = {"future2view": torch.linalg.inv(given["camera_current"])}
    for s, i in sides.items():
        targets[f"future.j2d.norm.{s}"] = _to_theirs(2 * given["pixels"][:, :, i] / 224 - 1)
        targets[f"future_valid_{s}"] = _to_theirs(given["valid"][:, :, i, :, None])[..., 0].float()
    if mano is not None:
        label = labels(size)
        targets["is_valid"] = torch.ones(b, 1)
        for s, i in sides.items():
            long = {"r": "right", "l": "left"}[s]
            pose, translation, betas = (label[k][:, :, i].flatten(2) for k in ("pose", "translation", "betas"))
            hand = mano[s](
                betas=betas.reshape(b * t, 10),
                global_orient=pose.reshape(b * t, 48)[:, :3],
                hand_pose=pose.reshape(b * t, 48)[:, 3:],
            )
            place = translation.reshape(b * t, 1, 3)
            targets[f"future.view.pose.{s}"], targets[f"future.view.transl.{s}"] = pose, translation
            targets[f"future_betas_{s}"] = betas
            targets[f"future.j3d.cam.{s}"] = (hand.joints + place).detach().reshape(b, t, 21, 3)
            targets[f"future.v3d.cam.{s}"] = (hand.vertices + place).detach().reshape(b, t, 778, 3)
            targets[f"{long}_valid"] = label["hand"][:, i : i + 1].float()
            targets[f"joints_valid_{s}"] = _to_theirs(label["keypoint"][:, i, :, None])[..., 0].float()[:, None]
        names = {"is_pose_loss": "posed", "is_cam_loss": "located", "is_j3d_loss": "measured", "is_j2d_loss": "flat"}
        meta |= {theirs: label[ours].float()[:, None] for theirs, ours in names.items()}
        meta["is_beta_loss"] = torch.ones(b, 1)
    return {"img": given["images"][:, None]}, meta, targets


def channels_last(motion: torch.Tensor) -> torch.Tensor:
    """Their (B, 198, 1, T) as (B, T, 198)."""
    return motion[:, :, 0].transpose(1, 2)


def channels_first(motion: torch.Tensor) -> torch.Tensor:
    return motion.transpose(1, 2)[:, :, None].contiguous()


@torch.no_grad()
def authors_outputs(them: Authors, model, size: Size, kind: str) -> dict[str, torch.Tensor]:
    """One pass, one ancestral and one DDIM step, a whole sample."""
    given, meta, targets = authors_inputs(size)
    if kind == "regressor":
        return {"motion": model.sample(given, meta, targets)}
    condition = {"y": {"mask": meta["mask_timesteps"][:, None, None], "lengths": meta["lengths"]}}
    condition = model.process_all_conditions(given, condition, meta, targets)
    ours = inputs(size)
    x, t = channels_first(ours["x"]), ours["t"]
    found = {"motion": channels_last(model.model(x, t, **condition))}
    one = fixtures.Noise(size.seed)
    draw = _ChannelsFirst(one)
    with draw.instead_of_torch(1):
        step = model.diffusion.p_sample(model.model, x, t, clip_denoised=False, model_kwargs=condition)
    with draw.instead_of_torch(1):
        ddim = model.diffusion.ddim_sample(model.model, x, t, clip_denoised=False, model_kwargs=condition, eta=0.5)
    found |= {"step": channels_last(step["sample"]), "ddim": channels_last(ddim["sample"])}
    if size.width < PUBLISHED.width:
        with draw.instead_of_torch(size.steps):
            found["sample"] = model.sample(given, meta, targets)
    return found


class _ChannelsFirst(fixtures.Noise):
    """The same noise in their layout."""

    def __init__(self, noise: fixtures.Noise):
        super().__init__(noise.seed)

    def __call__(self, like: torch.Tensor, t: int) -> torch.Tensor:
        b, c, _, frames = like.shape
        return channels_first(super().__call__(torch.empty(b, frames, c), t))


def authors_losses(them: Authors, model, size: Size, kind: str) -> dict[str, torch.Tensor]:
    """Every part of their loss for the noised labels, a side's two parts added; needs a diffusion model."""
    mano = {"r": model.mano_r.mano, "l": model.mano_l.mano}
    given, meta, targets = authors_inputs(size, mano)
    t, label, b = inputs(size)["t"], labels(size), size.batch
    model.schedule_sampler.sample = lambda count, device: (t, torch.ones(count))
    drawn, torch.randn_like = torch.randn_like, lambda like, **_: channels_first(label["noise"])
    try:
        with torch.no_grad():
            out = model(given, meta, targets)
    finally:
        torch.randn_like = drawn
    predicted, actual = (
        {k: v.flatten(0, 1) if v.dim() > 1 and v.shape[:2] == (b, size.frames) else v for k, v in both.items()}
        for both in (out, targets)
    )
    settings = arguments(size, kind)
    parts = them.losses.compute_loss_motion(predicted, actual, meta, settings)
    parts |= them.losses.compute_loss_2d(predicted, actual, meta, settings, targets=actual)
    found = {name: sum(parts[f"loss/mano/{name}/{s}"][0] for s in "rl") for name in (*MOTION_LOSSES, "j2d")}
    found["diffusion"] = sum(v.mean() for k, v in out.items() if "diff_mse" in k)
    return {k: v.reshape(()) for k, v in found.items()}


def authors_refinement(them: Authors, model, size: Size) -> dict[str, torch.Tensor]:
    """Pose and translation after 25 steps of their optimiser from the labels, moved off a little, sides [left,
    right]."""
    mano = {"r": model.mano_r.mano, "l": model.mano_l.mano}
    given, meta, targets = authors_inputs(size, mano)
    for s in "rl":
        view = torch.einsum(
            "btij,btkj->btki", inputs(size)["camera_current"][..., :3, :3], targets[f"future.j3d.cam.{s}"]
        )
        targets[f"future_joints3d_{s}"] = view + inputs(size)["camera_current"][..., None, :3, 3]
    pose, translation = refinement_start(size)
    start = (pose[:, :, 1].flatten(2), translation[:, :, 1], pose[:, :, 0].flatten(2), translation[:, :, 0])
    model.sample, kept = (lambda *_: None), model.process_motion_output
    model.process_motion_output = lambda _: tuple(part.clone() for part in start)
    try:
        right, right_place, left, left_place = them.optimiser.optimize_mano_params(
            given, meta, targets, model, arguments(size, "lifter")
        )
    finally:
        model.process_motion_output = kept
        del model.sample
    return {
        "refined_pose": torch.stack([left, right], 2).unflatten(-1, (16, 3)),
        "refined_translation": torch.stack([left_place, right_place], 2),
    }


def refinement_start(size: Size) -> tuple[torch.Tensor, torch.Tensor]:
    label, seed = labels(size), 10 * size.seed + 700
    pose = label["pose"] + 0.1 * numbers(*label["pose"].shape, seed=seed)
    return pose, label["translation"] + 0.02 * numbers(*label["translation"].shape, seed=seed + 1)


def checkpoint_of(state: dict[str, torch.Tensor]) -> dict:
    """A Lightning file as their trainer's: their wrapper holds the network as `model`, and MANO twice."""
    mano = {f"mano_{s}.shapedirs": torch.zeros(778, 3, 10) for s in "rl"}
    return {
        "state_dict": {f"model.{k}": v for k, v in state.items()} | mano,
        "epoch": 3,
        "pytorch-lightning_version": "2.1",
    }


def stored_state(kept: dict, name: str, kind: str) -> dict[str, torch.Tensor]:
    """Their whole state dict again: parameters by formula; MANO's arrays and the unused maps as zeros."""
    shapes = fixtures.from_shapes(kept[f"{name}.{kind}.shapes"])
    trained = set(json.loads(str(kept[f"{name}.{kind}.parameters"])))
    values = fixtures.formula_state({k: v for k, v in shapes.items() if k in trained}, SIZES[name].seed)
    state = {key: values.get(key, values.get(key.replace("ddp_model.", "model."))) for key in shapes}
    state = {key: torch.zeros(shapes[key]) if value is None else value for key, value in state.items()}
    for key in state:
        if key.endswith("sequence_pos_encoder.pe"):
            del_rows = torch.from_numpy(kept[f"{name}.positions"])
            state[key] = _table(state[key].shape, del_rows)
    return state


def _table(shape: torch.Size, rows: torch.Tensor) -> torch.Tensor:
    """Their table of positions: rows that were stored, every 100th; the others from ours, which these check."""
    from egohand_ros.forecast.common.transformer import sinusoids

    table = sinusoids(shape[0], shape[2], torch.float32)[:, None]
    table[::100] = rows
    return table


def write_fixture() -> None:
    kept = {}
    with authors() as them:
        for name, size in SIZES.items():
            for kind in KINDS:
                model = authors_network(them, size, kind)
                kept[f"{name}.{kind}.shapes"] = fixtures.shapes_of(model.state_dict())
                kept[f"{name}.{kind}.parameters"] = json.dumps(list(parameter_shapes(model)))
                found = authors_outputs(them, model, size, kind)
                if kind != "regressor":
                    kept[f"{name}.positions"] = model.state_dict()["model.sequence_pos_encoder.pe"][::100].clone()
                    found |= authors_losses(them, model, size, kind)
                if kind == "lifter":
                    found |= authors_refinement(them, model, size)
                for key, value in found.items():
                    kept[f"{name}.{kind}.{key}"] = value if value.dim() < 3 else value[:, ::3, ::5]
    fixtures.store("forehand4d", **kept)


if __name__ == "__main__":
    write_fixture()
