"""Sizes of EggHand and its parts, and what it says of itself before its network is loaded.

Numbers stand in config/forecasters/egghand.yaml with their source.
"""

from dataclasses import dataclass, field

from ...hand.skeleton import NUM_KEYPOINTS
from ..common.flow_matching import FlowMatching
from ..common.protocol import ForecasterSpec

KIND = "egghand"
TOKENIZER = "tokenizer"  # its folder beside saved weights
MAX_HYPOTHESES = 32
ACTION_WIDTH = 2 * NUM_KEYPOINTS * 3
CAMERA_WIDTH = 12
STATE_WIDTH = ACTION_WIDTH + CAMERA_WIDTH


@dataclass(frozen=True)
class EgoVideoConfig:
    """Published sizes. Images are `image_size` px squares, `frames` of them; texts have up to `text_length` tokens."""

    width: int = 1408
    depth: int = 40
    heads: int = 16
    feed_forward: int = 6144
    patch: int = 14
    image_size: int = 224
    frames: int = 4
    text_width: int = 1024
    text_layers: int = 19
    text_heads: int = 16
    text_feed_forward: int = 4096
    text_output: int = 512
    text_length: int = 59
    vocabulary: int = 30522


@dataclass(frozen=True)
class HuggingFaceConfig:
    """`vision` and `text` are hub ids or local folders, the same one for a model with both towers (SigLIP 2, CLIP).

    In a saved forecaster their configurations are kept as `vision_config` and `text_config` (JSON): loading needs no
    hub.
    """

    vision: str
    text: str
    vision_config: str = ""
    text_config: str = ""


@dataclass(frozen=True)
class ActionHeadConfig:
    """Sizes. `state_width` and `action_width` are what the model sees of an observation and a forecast step.

    latent_state_width, latent_action_width   the head's own state and action widths; 0 means no linear map around them
    future_tokens   learned tokens between state and action tokens (N1.5: 32, EggHand: none)
    """

    state_width: int
    action_width: int
    latent_state_width: int = 0
    latent_action_width: int = 0
    width: int = 1536
    heads: int = 32
    layers: int = 16
    hidden_width: int = 1024
    context_width: int = 2048
    fusion_heads: int = 32
    fusion_layers: int = 4
    categories: int = 32
    future_tokens: int = 0
    action_positions: int = 1024
    dropout: float = 0.2
    flow: FlowMatching = field(default_factory=FlowMatching)


@dataclass(frozen=True)
class EggHandConfig:
    """Observation, encoder and head. Exactly one of `egovideo` and `huggingface` is set.

    image_crop   share of the image's sides that is kept, in its middle
    tokenizer    hub id or local folder; text_length tokens a prompt
    includes_now       the network's first step is the last observation, as in the authors' code; it is left out of the
                       forecast, which begins one step later as everywhere
    padding_is_seen    the padding of a text is looked at, as in the authors' code
    world_extrinsics   camera poses as the authors' code gives them, in the world; otherwise in the canonical frame
    category     which of the head's embodiments hands are (GR00T N1.5: 31 is "new embodiment")
    """

    step: float = 0.1
    window_length: int = 20
    horizon_steps: int = 10
    image_offsets: tuple[int, ...] = (-18, -12, -6, 0)
    image_size: int = 224
    image_crop: float = 0.95
    tokenizer: str = "bert-large-uncased"
    text_length: int = 59
    includes_now: bool = False
    padding_is_seen: bool = False
    world_extrinsics: bool = False
    category: int = 31
    egovideo: EgoVideoConfig | None = None
    huggingface: HuggingFaceConfig | None = None
    head: ActionHeadConfig = field(default_factory=lambda: ActionHeadConfig(STATE_WIDTH, ACTION_WIDTH, 64, 32))

    @property
    def action_steps(self) -> int:
        """Steps that the network gives."""
        return self.horizon_steps + self.includes_now

    def __post_init__(self):
        if (self.head.state_width, self.head.action_width) != (STATE_WIDTH, ACTION_WIDTH):
            raise ValueError(f"head needs state_width {STATE_WIDTH} and action_width {ACTION_WIDTH}")
        if self.category >= self.head.categories:
            raise ValueError(f"category {self.category} is not below head.categories {self.head.categories}")


def spec_of(config: EggHandConfig, preset: str, calibrated: bool = False, checkpoint_hash: str = "") -> ForecasterSpec:
    """What a forecaster of this configuration needs and gives."""
    return ForecasterSpec(
        preset,
        config.step,
        config.window_length,
        config.horizon_steps,
        max_hypotheses=MAX_HYPOTHESES,
        modalities=("keypoints", "images", "camera_pose", "prompt"),
        image_offsets=config.image_offsets,
        image_size=(config.image_size, config.image_size),
        calibrated=calibrated,
        checkpoint_hash=checkpoint_hash,
    )
