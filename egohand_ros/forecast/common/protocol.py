"""The forecaster protocol: what goes in (`Window`) and what comes out (`Forecast`). The registry is in
`../registry.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from ...errors import UserError
from ...hand.skeleton import NUM_KEYPOINTS, WRIST
from ...stream.window import Window

if TYPE_CHECKING:  # importing it takes seconds, and what a forecaster needs is asked without
    import torch


WRIST_POSITION, WRIST_ROTATION, FINGERS = "wrist_position", "wrist_rotation", "fingers"
BODY, MESH, WAYPOINTS = "body", "mesh", "waypoints"
HANDS = (WRIST_POSITION, WRIST_ROTATION, FINGERS)
OUTPUTS = (*HANDS, BODY, MESH, WAYPOINTS)


class MissingInput(UserError):
    """A window lacks what the forecaster cannot do without; the message is the reason of its spec."""


@dataclass(frozen=True)
class Need:
    """A modality without which nothing is forecast, and what a user is told then: "EgoH4 needs camera poses"."""

    modality: str
    reason: str


@dataclass(frozen=True)
class ForecasterSpec:
    """What a forecaster needs and gives. Times in s; `image_offsets` count observations back from the last one.

    step             between observations, and between forecast steps
    times            of the forecast steps from the last observation, increasing; () is every `step`, `horizon_steps` of
                     them. Where given, `horizon_steps` is their number.
    modalities       what it looks at where it is there: keypoints, images, depth, camera_pose, camera_matrix, pixels,
                     betas, prompt
    needs            those of them without which it forecasts nothing, each with its reason
    gives            what it forecasts, of OUTPUTS; what else a `Forecast` shows of a hand is held as it was seen last
    slow             a forecast may take longer on a CPU than there is between observations: live, hands go on with the
                     last one meanwhile
    image_size       (height, width) px of `Window.images`; `more_image_sizes` those of `Window.more_images`
    """

    name: str
    step: float = 0.1
    window_length: int = 20
    horizon_steps: int = 10
    max_hypotheses: int = 1
    modalities: tuple[str, ...] = ("keypoints",)  # of keypoints, images, depth, camera_pose, prompt
    image_offsets: tuple[int, ...] = ()
    image_size: tuple[int, int] = (224, 224)  # height, width
    more_image_sizes: tuple[tuple[int, int], ...] = ()
    images_need_prompt: bool = False  # images without a prompt are not looked at, so that nobody has to decode them
    calibrated: bool = False
    checkpoint_hash: str = ""
    minimum_observations: int = 1  # valid observations of a hand below which it is not forecast
    needs: tuple[Need, ...] = ()
    gives: tuple[str, ...] = HANDS
    times: tuple[float, ...] = ()
    slow: bool = False

    def __post_init__(self) -> None:
        if self.times and len(self.times) != self.horizon_steps:
            raise ValueError(
                f"{self.name}: {len(self.times)} times of steps, but horizon_steps is {self.horizon_steps}"
            )
        if any(later <= earlier for earlier, later in zip((0.0, *self.times), self.times, strict=False)):
            raise ValueError(f"{self.name}: times of steps have to be positive and to increase; given {self.times}")

    @property
    def horizon(self) -> float:
        """Seconds from the last observation to the last step."""
        return self.times[-1] if self.times else self.step * self.horizon_steps

    @property
    def looks(self) -> bool:
        """Whether it looks at images."""
        return "images" in self.modalities

    @property
    def widest_image(self) -> int:
        """px, of all sizes at which it looks at images."""
        return max(width for _, width in (self.image_size, *self.more_image_sizes))

    @property
    def single_image(self) -> bool:
        """Whether it looks at one image alone, that of the last observation."""
        return self.looks and self.image_offsets == (0,)

    @property
    def model_id(self) -> str:
        return f"{self.name}@{self.checkpoint_hash}" if self.checkpoint_hash else self.name

    @property
    def observed(self) -> float:
        """Seconds from the first observation of a window to the last."""
        return self.step * (self.window_length - 1)

    def lacks(self, seen: Window | object) -> str:
        """Why nothing can be forecast from a window (or an episode: whatever has the modality's name as an attribute);
        "" where nothing is missing."""
        return next((need.reason for need in self.needs if getattr(seen, need.modality, None) is None), "")

    def check(self, window: Window) -> None:
        """Raise `MissingInput` with the reason where something is missing."""
        reason = self.lacks(window)
        if reason:
            raise MissingInput(reason)

    def step_times(self) -> torch.Tensor:
        """(S,) s from the last observation."""
        import torch

        if self.times:
            return torch.tensor(self.times, dtype=torch.float64)
        return self.step * torch.arange(1, self.horizon_steps + 1, dtype=torch.float64)


@dataclass(frozen=True)
class ManoForecast:
    """MANO's parameters of both hands in the frame of the window, sides [left, right]; K hypotheses, S steps.

    pose        (B, K, S, 2, 16, 3) rad, rotation vectors: the global one, then 15 relative to the parent and to MANO's
                mean pose
    translation (B, K, S, 2, 3) m, smplx's: the wrist's place without its rest position
    betas       (B, 2, 10), or None for the mean shape: shapes are taken from the window, not forecast
    """

    pose: torch.Tensor
    translation: torch.Tensor
    betas: torch.Tensor | None = None


@dataclass(frozen=True)
class Waypoints:
    """P moments that a system foresees by themselves, the same for all hypotheses: when a hand sets out, touches
    something, lets go. In the frame of the window.

    labels   P names, such as start, contact, end
    time     (B, P) s from the forecast's stamp, not negative
    side     (B, P) int64, 0 left, 1 right
    position (B, P, 3) m of the wrist
    rotation (B, P, 3, 3) R_frame_palm; NaN where not given
    contact  (B, P) probability that the hand touches something then; NaN where not given
    valid    (B, P) bool
    """

    labels: tuple[str, ...]
    time: torch.Tensor
    side: torch.Tensor
    position: torch.Tensor
    rotation: torch.Tensor
    contact: torch.Tensor
    valid: torch.Tensor

    def __post_init__(self) -> None:
        lead = (len(self.time), len(self.labels))
        shapes = {"position": (3,), "rotation": (3, 3)}
        for name in ("time", "side", "position", "rotation", "contact", "valid"):
            given, shape = tuple(getattr(self, name).shape), (*lead, *shapes.get(name, ()))
            if given != shape:
                raise ValueError(f"waypoints field {name} has shape {given}; expected {shape}")


@dataclass(frozen=True)
class Forecast:
    """K possible futures of both hands, in the frame of the window they came from. S steps.

    stamp            (B,) float64 s, time of the last observation used
    step_times       (S,) float64 s from `stamp`
    keypoints        (B, K, S, 2, 21, 3) m
    wrist_rotation   (B, K, S, 2, 3, 3) R_frame_palm
    keypoint_std     (B, K, S, 2, 21) m, per axis; NaN where the forecaster gives none
    wrist_covariance (B, K, S, 2, 6, 6) position [m^2], rotation [rad^2] in the window's frame; NaN where not given
    probability      (B, K), sums to 1 over K; most probable first
    valid            (B, 2, 21) bool: keypoints that are forecast at all; a hand is forecast where its wrist is
    stage            B reasoned interaction stages, or None
    goal_points      (B, G, 3) m, what the hands go for: the object, then its destination; or None
    goal_probability (B, G) that there is such a goal, and it was found; with goal_points
    gives            what of this is forecast, as in `ForecasterSpec`; without FINGERS the keypoints beside the wrist
                     keep their place in the palm as it was seen last, without WRIST_ROTATION the palm keeps its turn
    body             (B, K, S, J, 3) m, joints of the wearer's body, named `body_names`; or None
    mano             the hands as MANO's parameters, or None
    vertices         (B, K, S, 2, 778, 3) m, MANO's, or None
    waypoints        moments foreseen by themselves, or None
    """

    stamp: torch.Tensor
    step_times: torch.Tensor
    keypoints: torch.Tensor
    wrist_rotation: torch.Tensor
    keypoint_std: torch.Tensor
    wrist_covariance: torch.Tensor
    probability: torch.Tensor
    valid: torch.Tensor
    stage: tuple[str, ...] | None = field(default=None)
    goal_points: torch.Tensor | None = None
    goal_probability: torch.Tensor | None = None
    gives: tuple[str, ...] = HANDS
    body: torch.Tensor | None = None
    body_names: tuple[str, ...] = ()
    mano: ManoForecast | None = None
    vertices: torch.Tensor | None = None
    waypoints: Waypoints | None = None

    def __post_init__(self) -> None:
        batch, hypotheses, steps = self.keypoints.shape[:3]
        expected = {
            "stamp": (batch,),
            "step_times": (steps,),
            "keypoints": (batch, hypotheses, steps, 2, NUM_KEYPOINTS, 3),
            "wrist_rotation": (batch, hypotheses, steps, 2, 3, 3),
            "keypoint_std": (batch, hypotheses, steps, 2, NUM_KEYPOINTS),
            "wrist_covariance": (batch, hypotheses, steps, 2, 6, 6),
            "probability": (batch, hypotheses),
            "valid": (batch, 2, NUM_KEYPOINTS),
        }
        if self.body is not None:
            expected["body"] = (batch, hypotheses, steps, self.body.shape[3], 3)
        if self.vertices is not None:
            expected["vertices"] = (batch, hypotheses, steps, 2, *self.vertices.shape[-2:])
        for name, shape in expected.items():
            given = tuple(getattr(self, name).shape)
            if given != shape:
                raise ValueError(f"forecast field {name} has shape {given}; expected {shape}")

    @property
    def held(self) -> torch.Tensor:
        """(B, 2, 21) bool: keypoints that are shown and not forecast, but held in the palm as they were seen last."""
        held = self.valid.clone()
        held[..., WRIST] &= WRIST_POSITION not in self.gives
        held[..., WRIST + 1 :] &= FINGERS not in self.gives
        return held


@runtime_checkable
class Forecaster(Protocol):
    """Anything with a `spec` and a `forecast` is a forecaster; no base class is needed."""

    spec: ForecasterSpec

    def forecast(self, window: Window, hypotheses: int = 1, seed: int | None = None) -> Forecast:
        """Forecast every window of a batch. The same window, hypotheses and seed give the same result."""
        ...
