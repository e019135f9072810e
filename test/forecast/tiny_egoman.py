"""EgoMAN at the size of a thumb."""

from egohand_ros.forecast.egoman.config import EgoMANConfig, ExpertSizes
from egohand_ros.forecast.vlm.sizes import QwenSizes

TINY = EgoMANConfig(
    vlm=QwenSizes(64, 2, 4, 2, 128, 256, (2, 2, 4), 32, 2, 2, 64, (1,), 112, 6272),
    expert=ExpertSizes(32, 1, 1, 1, 4, 64, 0.0, 32, 64, 48, 32),
    scene="vlm",
    words=("take", "the", "red", "blue", "cup"),
    head_width=32,
    past_widths=(16, 16),
    picture=(56, 84),
    sampling_steps=3,
    may_not_touch=True,
)
