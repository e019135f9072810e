"""Sizes of `egohand-small`, and what it says of itself before its network is loaded."""

from dataclasses import dataclass

from ..common.protocol import ForecasterSpec

KIND = "egohand-small"
MAX_HYPOTHESES = 16
# Pixels of an image (a side) to one cell of the grounding's map.
CELL = 8
_SEES = ("keypoints", "camera_pose", "images", "prompt")


@dataclass(frozen=True)
class GroundingConfig:
    """`words` is the vocabulary. Image px have to be multiples of 8; widths are those of layers."""

    words: tuple[str, ...]
    image_height: int = 120
    image_width: int = 160
    channels: tuple[int, ...] = (24, 48, 64)
    word_width: int = 48
    map_width: int = 64
    goal_width: int = 320

    def __post_init__(self):
        if self.image_height % CELL or self.image_width % CELL:
            raise ValueError(f"image {self.image_height}x{self.image_width} px; expected multiples of {CELL}")
        if len(self.channels) != 3:
            raise ValueError(f"channels are {list(self.channels)}; expected three, one for each halving of the image")

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) px."""
        return self.image_height, self.image_width


@dataclass(frozen=True)
class SmallConfig:
    """Sizes of the network, and the share of its expected finger correction that is given.

    Generated fingers are less like real ones than generated wrists are: half of their correction is better on a real
    capture, and gives up a part of the gain on generated motion (docs/training.md). Training does not look at it.
    With `grounding`, images and words are looked at where there are any; without, hands alone are.
    """

    step: float = 0.1
    window_length: int = 20
    horizon_steps: int = 10
    time_components: int = 6
    finger_components: int = 24
    observation_width: int = 64
    width: int = 320
    layers: int = 3
    flow_width: int = 192
    flow_layers: int = 2
    dropout: float = 0.1
    sampling_steps: int = 4
    finger_share: float = 0.5
    grounding: GroundingConfig | None = None

    @property
    def channels(self) -> int:
        """Of an action: wrist 3, rotation 3 and finger components."""
        return 6 + self.finger_components


def spec_of(
    config: SmallConfig, preset: str, calibrated: bool = False, checkpoint_hash: str = "", goals: bool = False
) -> ForecasterSpec:
    """What a forecaster of this configuration needs and gives; with `goals` it looks for what a task names."""
    sees = {}
    if config.grounding and goals:
        size = config.grounding.size
        sees = dict(modalities=_SEES, image_offsets=(0,), image_size=size, images_need_prompt=True)
    return ForecasterSpec(
        preset,
        config.step,
        config.window_length,
        config.horizon_steps,
        max_hypotheses=MAX_HYPOTHESES,
        **sees,
        calibrated=calibrated,
        checkpoint_hash=checkpoint_hash,
        minimum_observations=2,
    )
