"""Sizes of EgoMAN, and what it says of itself before its network is loaded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ..common.protocol import WAYPOINTS, WRIST_POSITION, WRIST_ROTATION, ForecasterSpec, Need
from ..small.config import GroundingConfig
from ..vlm.sizes import QwenSizes

KIND = "egoman"
MAX_HYPOTHESES = 16
STEP = 0.1  # s
PAST = 5  # observations before that of the image
FUTURE = 50  # steps; the first one is the image's own time
CHANNELS = 18  # of one step: left position 3 and rotation 6, then right
SPAN = 4.5  # s, what 1 of a waypoint's time stands for
MOMENTS = ("start", "contact", "end")
SCENE_IMAGE = 448  # px, square, of the scene encoder
NEEDS_IMAGES = Need("images", "EgoMAN needs images")


@dataclass(frozen=True)
class ExpertSizes:
    """Of the motion expert; the defaults are the published ones.

    scene   width of what the scene encoder gives
    act     width of the act's embedding, CLIP's
    told    width in which the two are added
    """

    width: int = 768
    encoder_layers: int = 6
    mixer_layers: int = 2
    decoder_layers: int = 6
    heads: int = 8
    feed_forward: int = 2048
    dropout: float = 0.1
    time_width: int = 256
    scene: int = 1024
    act: int = 768
    told: int = 768


@dataclass(frozen=True)
class EgoMANConfig:
    """Sizes; the defaults are the published ones.

    scene           what sees the scene for the motion expert: dinov3 (ViT-L/16, the authors'), or the language model's
                    own eye, averaged, which is ours
    words           of a small language model's vocabulary; empty: the tokenizer is Qwen's, from `tokenizer`
    head_width      inside the heads that read waypoints
    picture         (height, width) px of the image that the language model is shown
    sampling_steps  Euler steps of the motion expert
    anchored        whether a forecast is moved and turned as a whole so that its first step, the image's own time, is
                    where the wrist is seen then, which is ours
    may_not_touch   whether it has learned answers without <CONTACT>, which are ours: then its probability is that of a
                    contact to come
    waypoints       whether the motion expert is told what the language model concludes; without waypoints and act it is
                    on its own, with the past and the scene (the paper's ablation)
    grounding       what finds in the picture the things that the words name, from which waypoints are told then, which
                    is ours (pointing.py); it takes the picture at its own size, and the camera's calibration and pose
    along           whether the motion expert moves wrists off the path through the waypoints, and not from noise to
                    where they are, which is ours; then no `sampling_steps` leave the path itself
    """

    vlm: QwenSizes = field(default_factory=QwenSizes)
    expert: ExpertSizes = field(default_factory=ExpertSizes)
    scene: Literal["dinov3", "vlm"] = "dinov3"
    words: tuple[str, ...] = ()
    tokenizer: str = "Qwen/Qwen2.5-VL-7B-Instruct"
    head_width: int = 512
    past_widths: tuple[int, ...] = (256, 512)
    picture: tuple[int, ...] = (224, 224)
    sampling_steps: int = 50
    anchored: bool = False
    may_not_touch: bool = False
    waypoints: bool = True
    grounding: GroundingConfig | None = None
    along: bool = False

    def __post_init__(self) -> None:
        if len(self.picture) != 2 or any(side % 28 or side < 28 for side in self.picture):
            raise ValueError(f"picture is {self.picture}; expected height and width that are multiples of 28 px")
        if self.picture[0] * self.picture[1] > self.vlm.pixels:
            raise ValueError(f"picture {self.picture} is above {self.vlm.pixels} px; make one of the two fit")
        least = 0 if self.along else 1
        if self.sampling_steps < least:
            raise ValueError(
                f"sampling_steps is {self.sampling_steps}; expected {least} or more (the authors' are 150)"
            )
        if self.along and not self.waypoints:
            raise ValueError("along is of the path through the waypoints, and waypoints is false; set both or neither")
        if self.scene == "vlm" and self.expert.scene != self.vlm.width:
            raise ValueError(f"expert.scene is {self.expert.scene}; expected vlm.width, {self.vlm.width}")

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) px of a window's picture."""
        return self.grounding.size if self.grounding else (self.picture[0], self.picture[1])


def spec_of(config: EgoMANConfig, preset: str, calibrated: bool = False, checkpoint_hash: str = "") -> ForecasterSpec:
    """What a forecaster of this configuration needs and gives."""
    return ForecasterSpec(
        preset,
        STEP,
        PAST + 1,
        FUTURE - 1,
        max_hypotheses=MAX_HYPOTHESES,
        modalities=("keypoints", "images", "camera_pose", "prompt"),
        image_offsets=(0,),
        image_size=config.image_size,
        more_image_sizes=((SCENE_IMAGE, SCENE_IMAGE),) if config.scene == "dinov3" else (),
        calibrated=calibrated,
        checkpoint_hash=checkpoint_hash,
        needs=(NEEDS_IMAGES,),
        gives=(WRIST_POSITION, WRIST_ROTATION, *((WAYPOINTS,) if config.waypoints else ())),
        slow=True,
    )
