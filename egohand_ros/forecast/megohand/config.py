"""Sizes of MEgoHand, and what it says of itself before its network is loaded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ..common.protocol import HANDS, MESH, ForecasterSpec, Need
from ..egghand.config import ActionHeadConfig
from ..vlm.sizes import SmolSizes

KIND = "megohand"
MAX_HYPOTHESES = 16
WIDTH = 109  # numbers of a hand's state, see state.py
MANO, BONES = "mano", "bones"
TEXT, IMAGE, DEPTH = "text", "image", "depth"
FARTHEST = 2.0  # m, what 1 of a depth stands for; beyond it nothing is told apart
NEEDS_IMAGES = Need("images", "MEgoHand needs images")


@dataclass(frozen=True)
class DepthSizes:
    """Of what is made of depth.

    widths, layers   of the four stages of the residual network that reads it; the defaults are ResNet-50's
    stem             width of its first convolution
    bottleneck       its kind of block, otherwise the plain one
    estimator        what makes depth of an image where no sensor gives it: depth_anything (Depth Anything V2, metric,
                     indoor, of the size `vits`), or nothing
    """

    widths: tuple[int, ...] = (256, 512, 1024, 2048)
    layers: tuple[int, ...] = (3, 4, 6, 3)
    stem: int = 64
    bottleneck: bool = True
    estimator: Literal["none", "depth_anything"] = "depth_anything"


def published_head() -> ActionHeadConfig:
    """GR00T N1's head for MEgoHand's states: the paper gives none of its sizes."""
    return ActionHeadConfig(WIDTH, WIDTH, categories=1, action_positions=1024)


@dataclass(frozen=True)
class MEgoHandConfig:
    """Sizes; the defaults are the paper's where it says any, and GR00T N1's otherwise.

    hand            mano (the user's MANO files), or bones: a hand of ours with as many numbers and no mesh
    inputs          what it looks at beside the hand: text, image, depth
    image           (height, width) px of the image that a window has; it is squeezed to the eye's square
    observed        hand states that it is told; the paper's is one, that of the image's time
    horizon_steps   of a chunk
    step            s between them, which the paper does not say
    words           of a small language model's vocabulary; empty: the tokenizer is SmolLM2's, from `tokenizer`
    text_length     tokens of a prompt, at most
    frozen          whether the language model stays as it is in training, as the paper's, which was trained before
    inverse_width   of the network that finds a hand's state from its keypoints
    """

    hand: Literal["mano", "bones"] = MANO
    vlm: SmolSizes = field(default_factory=SmolSizes)
    depth: DepthSizes = field(default_factory=DepthSizes)
    head: ActionHeadConfig = field(default_factory=published_head)
    inputs: tuple[Literal["text", "image", "depth"], ...] = (TEXT, IMAGE, DEPTH)
    image: tuple[int, ...] = (224, 224)
    observed: int = 1
    horizon_steps: int = 16
    step: float = 0.1
    words: tuple[str, ...] = ()
    tokenizer: str = "HuggingFaceTB/SmolLM2-1.7B-Instruct"
    text_length: int = 64
    frozen: bool = True
    inverse_width: int = 1024
    inverse_layers: int = 4

    def __post_init__(self) -> None:
        if (self.head.state_width, self.head.action_width) != (WIDTH, WIDTH):
            raise ValueError(f"head.state_width and head.action_width are those of a hand's state, {WIDTH}")
        if self.head.context_width != self.vlm.width:
            raise ValueError(f"head.context_width is {self.head.context_width}; expected vlm.width, {self.vlm.width}")
        if len(self.image) != 2 or min(self.image) < 1:
            raise ValueError(f"image is {self.image}; expected its height and width, px")
        if self.observed < 1 or self.horizon_steps < 1 or self.step <= 0.0:
            raise ValueError("observed and horizon_steps have to be 1 or more, and step more than 0 s")
        if self.depth.estimator != "none" and self.vlm.picture % 14:
            raise ValueError(f"vlm.picture is {self.vlm.picture}; depth_anything takes multiples of 14 px")
        if DEPTH in self.inputs and IMAGE not in self.inputs:
            raise ValueError("depth is added to what is seen of the image; inputs lack image")


def spec_of(config: MEgoHandConfig, preset: str, calibrated: bool = False, checkpoint_hash: str = "") -> ForecasterSpec:
    """What a forecaster of this configuration needs and gives."""
    sees = IMAGE in config.inputs
    looks = (("images",) if sees else ()) + (("depth",) if DEPTH in config.inputs else ())
    return ForecasterSpec(
        preset,
        config.step,
        config.observed,
        config.horizon_steps,
        max_hypotheses=MAX_HYPOTHESES,
        modalities=("keypoints", *looks, "camera_pose", "prompt"),
        image_offsets=(0,) if sees else (),
        image_size=(config.image[0], config.image[1]),
        calibrated=calibrated,
        checkpoint_hash=checkpoint_hash,
        needs=(NEEDS_IMAGES,) if sees else (),
        gives=(*HANDS, MESH) if config.hand == MANO else HANDS,
        slow=True,
    )
