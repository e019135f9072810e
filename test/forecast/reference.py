"""Public networks that ours are compared with, where they are importable (see docs/training.md, "Parity")."""

import importlib
import importlib.util
import os
import sys
import types
from pathlib import Path

import pytest


def _bare_packages(*names: str) -> None:
    """Make packages importable without running their `__init__.py`, which wants far more than the few files needed."""
    root = importlib.util.find_spec(names[0]) if names[0] not in sys.modules else None
    for name in names:
        if name in sys.modules:
            continue
        folder = Path(root.submodule_search_locations[0]).joinpath(*name.split(".")[1:])
        module = types.ModuleType(name)
        module.__path__ = [str(folder)]
        sys.modules[name] = module


def n15_action_head():
    """The module of the public N1.5 action head: needs lerobot 0.4.4 and diffusers."""
    if importlib.util.find_spec("lerobot") is None or importlib.util.find_spec("diffusers") is None:
        pytest.skip("the public action head is not importable (needs lerobot==0.4.4 and diffusers)")
    _bare_packages("lerobot", "lerobot.policies", "lerobot.policies.groot", "lerobot.utils")
    return importlib.import_module("lerobot.policies.groot.action_head.flow_matching_action_head")


def egovideo_modules():
    """The public EgoVideo vision encoder and BERT modules; EGOVIDEO_SOURCE names the repository's backbone/ folder."""
    source = os.environ.get("EGOVIDEO_SOURCE")
    if not source or importlib.util.find_spec("einops") is None:
        pytest.skip(
            "the public EgoVideo encoder is not importable (set EGOVIDEO_SOURCE to its backbone/, install einops)"
        )
    _stand_in_for_egovideo_imports()
    if source not in sys.path:
        sys.path.insert(0, source)
    video, text = importlib.import_module("model.vision_encoder"), importlib.import_module("model.bert.xbert")
    text.BertModel.init_weights = lambda self: None  # wants an older transformers; the tests set all weights themselves
    text.BertModel.get_head_mask = lambda self, mask, layers: [None] * layers
    return video, text


def _stand_in_for_egovideo_imports() -> None:
    """Names that its files import and do not use here: CUDA kernels, dropped helpers of old transformers, docstring
    tools."""
    import torch
    import transformers.modeling_utils
    import transformers.pytorch_utils
    import transformers.utils

    def module(name: str, **names) -> None:
        made = sys.modules.setdefault(name, types.ModuleType(name))
        made.__path__ = []
        vars(made).update(names)

    for name in ("flash_attn", "flash_attn.modules", "flash_attn.ops", "timm", "timm.models"):
        module(name)
    module("flash_attn", flash_attn_varlen_qkvpacked_func=None)
    module("flash_attn.bert_padding", unpad_input=None, pad_input=None)
    module("flash_attn.modules.mlp", FusedMLP=None)
    module("flash_attn.ops.rms_norm", DropoutAddRMSNorm=None)
    module(
        "timm.models.layers",
        DropPath=lambda rate: torch.nn.Identity(),
        to_2tuple=lambda x: x if isinstance(x, tuple) else (x, x),
        trunc_normal_=torch.nn.init.trunc_normal_,
    )
    undecorated = lambda *args, **options: lambda function: function  # noqa: E731
    module(
        "transformers.file_utils",
        ModelOutput=transformers.utils.ModelOutput,
        add_start_docstrings=undecorated,
        add_start_docstrings_to_model_forward=undecorated,
        replace_return_docstrings=undecorated,
    )
    for name in ("apply_chunking_to_forward", "find_pruneable_heads_and_indices", "prune_linear_layer"):
        if not hasattr(transformers.modeling_utils, name):
            setattr(transformers.modeling_utils, name, getattr(transformers.pytorch_utils, name, None))
