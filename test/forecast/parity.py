"""What the parity tests and their stored numbers share: sizes, weights by formula, and the public networks' outputs.

`python test/forecast/parity.py` writes data/parity.npz anew where the public networks are importable: for each network
the names and shapes of its parameters, the inputs, and its output. Weights are not stored: parameter i of the sorted
names is `default_rng([seed, i]).normal(scale)`, so that anybody can make them again. No public code is stored.
"""

import json
from pathlib import Path

import numpy as np
import torch

FIXTURE = Path(__file__).parent / "data" / "parity.npz"
SEED = 20260


def formula_state(shapes: dict[str, tuple[int, ...]], scale: float) -> dict[str, torch.Tensor]:
    """A state dict of random numbers that depend on nothing but the names, the shapes and SEED."""
    return {
        name: torch.from_numpy(np.random.default_rng([SEED, i]).normal(0.0, scale, shapes[name]).astype(np.float32))
        for i, name in enumerate(sorted(shapes))
    }


def numbers(*shape: int, seed: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng([SEED, 1000 + seed]).normal(size=shape).astype(np.float32))


def head_inputs() -> dict[str, torch.Tensor]:
    return {
        "context": numbers(3, 7, 64, seed=0),
        "state": numbers(3, 4, 16, seed=1),
        "category": torch.tensor([0, 1, 1]),
        "noise": numbers(3, 5, 8, seed=2),
    }


def public_head():
    """The public action head, small; its weights by formula."""
    from reference import n15_action_head

    module = n15_action_head()
    block = dict(dropout=0.2, final_dropout=True, positional_embeddings=None)
    config = module.FlowmatchingActionHeadConfig(
        action_dim=8,
        action_horizon=5,
        max_state_dim=16,
        input_embedding_dim=48,
        backbone_embedding_dim=64,
        hidden_size=32,
        num_inference_timesteps=4,
        num_target_vision_tokens=3,
        max_num_embodiments=2,
        max_seq_len=32,
        diffusion_model_cfg=dict(
            block,
            attention_head_dim=12,
            num_attention_heads=4,
            cross_attention_dim=64,
            interleave_self_attention=True,
            norm_type="ada_norm",
            num_layers=4,
            output_dim=32,
        ),
        vl_self_attention_cfg=dict(block, attention_head_dim=16, num_attention_heads=4, num_layers=2),
    )
    head = module.FlowmatchingActionHead(config).eval()
    shapes = {name: tuple(tensor.shape) for name, tensor in head.state_dict().items()}
    head.load_state_dict(formula_state(shapes, 0.1))
    return head, shapes


def public_head_actions(head) -> torch.Tensor:
    """Actions (3, 5, 8) of the public head for `head_inputs`; it draws its noise itself, so the draw is replaced."""
    from transformers.feature_extraction_utils import BatchFeature

    given = head_inputs()
    context = dict(backbone_features=given["context"], backbone_attention_mask=torch.ones(3, 7))
    drawn, torch.randn = torch.randn, lambda *args, **options: given["noise"].clone()
    try:
        out = head.get_action(
            BatchFeature(data=context), BatchFeature(data=dict(state=given["state"], embodiment_id=given["category"]))
        )
    finally:
        torch.randn = drawn
    return out["action_pred"]


def video_inputs() -> dict[str, torch.Tensor]:
    mask = torch.ones(2, 9, dtype=torch.long)
    mask[1, 5:] = 0
    tokens = torch.from_numpy(np.random.default_rng(SEED).integers(1, 100, (2, 9)))
    return {"frames": numbers(2, 4, 3, 56, 56, seed=3), "tokens": tokens, "mask": mask}


def public_egovideo():
    """The public video and text encoders, small, and a checkpoint's names and shapes."""
    from reference import egovideo_modules

    video_module, text_module = egovideo_modules()
    video = video_module.PretrainVisionTransformer(
        img_size=56,
        patch_size=14,
        embed_dim=64,
        depth=3,
        num_heads=4,
        mlp_ratio=2,
        num_frames=4,
        tubelet_size=1,
        use_flash_attn=False,
        use_fused_rmsnorm=False,
        use_fused_mlp=False,
        attn_pool_num_heads=4,
        clip_embed_dim=16,
        clip_teacher_embed_dim=24,
        clip_teacher_final_dim=16,
        clip_return_layer=1,
    ).eval()
    config = text_module.BertConfig(
        vocab_size=100,
        hidden_size=32,
        num_hidden_layers=24,
        num_attention_heads=4,
        intermediate_size=64,
        fusion_layer=19,
        encoder_width=64,
        cross_module="ca",
    )
    text = text_module.BertModel(config).eval()
    state = {f"visual.{k}": v for k, v in video.state_dict().items()}
    state |= {f"textual.{k}": v for k, v in text.state_dict().items() if not k.endswith("position_ids")}
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    shapes |= {"image_projection": (16, 12), "text_projection": (32, 12)}
    weights = formula_state(shapes, 0.2)
    video.load_state_dict({k.removeprefix("visual."): v for k, v in weights.items() if k.startswith("visual.")})
    text.load_state_dict(
        {k.removeprefix("textual."): v for k, v in weights.items() if k.startswith("textual.")}, strict=False
    )
    return video, text, weights["text_projection"], shapes


def public_egovideo_tokens(video, text, projection) -> tuple[torch.Tensor, torch.Tensor]:
    """Video tokens (2, 65, 64) and text tokens (2, 9, 12) of the public encoders for `video_inputs`."""
    given = video_inputs()
    with torch.no_grad():
        frames = video(given["frames"].transpose(1, 2))[0]
        states = text(given["tokens"], attention_mask=given["mask"], return_dict=True, mode="text").last_hidden_state
        return frames, states @ projection


def write_fixture() -> None:
    head, head_shapes = public_head()
    video, text, projection, video_shapes = public_egovideo()
    frames, words = public_egovideo_tokens(video, text, projection)
    np.savez_compressed(
        FIXTURE,
        head_shapes=json.dumps(head_shapes),
        head_actions=public_head_actions(head).numpy(),
        egovideo_shapes=json.dumps(video_shapes),
        egovideo_frames=frames.numpy(),
        egovideo_words=words.numpy(),
    )


def stored() -> dict[str, np.ndarray]:
    with np.load(FIXTURE) as file:
        return {name: file[name] for name in file.files}


def stored_state(shapes: np.ndarray, scale: float) -> dict[str, torch.Tensor]:
    return formula_state({k: tuple(v) for k, v in json.loads(str(shapes)).items()}, scale)


if __name__ == "__main__":
    write_fixture()
