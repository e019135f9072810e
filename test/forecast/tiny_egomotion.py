"""The EgoMotion-style forecaster at the size of a thumb, in both families of language models."""

from dataclasses import replace

from egohand_ros.forecast.egomotion.config import DenoiserSizes, EgoMotionConfig, TokenizerSizes
from egohand_ros.forecast.vlm.sizes import EyeAndTextSizes

SMOLVLM = EyeAndTextSizes("smolvlm", 48, 2, 4, 2, 12, 96, 160, 32, 2, 2, 64, 14, 56, 2)
PALIGEMMA = replace(SMOLVLM, family="paligemma", shuffle=1)
TINY = EgoMotionConfig(
    vlm=SMOLVLM,
    tokenizer_sizes=TokenizerSizes(32, 16, 24, 3, 2, 1, 8),
    denoiser=DenoiserSizes(32, 2, 4, 64, 0.0),
    step=0.1,
    observed=4,
    horizon_steps=18,
    words=("take", "the", "red", "blue", "cup"),
    picture=(56, 84),
    head_width=32,
    diffusion_steps=50,
    sampling_steps=3,
)
