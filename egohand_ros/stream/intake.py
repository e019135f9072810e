"""`Intake`: everything between a checked message's arrays and a `Window`: stamps, plausibility, frames, time restarts.

The node and the replay of a recording both feed it. What it refuses goes to the `reject` callback, never further.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..errors import RejectedInput
from ..geometry.camera import Camera
from ..hand.plausibility import check_pose, plausible_hands
from ..hand.skeleton import WRIST
from .aligner import WindowBuilder, WindowSpec
from .stamps import StampGuard, StampLimits
from .window import Window

# A source that was silent for so long (s) may come back in another frame.
_FRAME_LOCK = 1.0


@dataclass(frozen=True)
class Observation:
    """A window, the frame it is in, for each side [left, right] when its wrist was last seen (s, -inf for never), and
    when the newest of its images was taken (s, None without images)."""

    window: Window
    frame_id: str
    last_seen: tuple[float, float]
    image_stamp: float | None = None


class _LockedFrame:
    """The frame that a source publishes in; it may change only after a silence."""

    def __init__(self) -> None:
        self.frame_id: str | None = None
        self._stamp = -math.inf

    def check(self, stamp: float, frame_id: str) -> None:
        """Raises `RejectedInput` (unknown_frame) for another frame than so far. Accepts nothing yet: see `accept`."""
        if self.frame_id not in (None, frame_id) and stamp - self._stamp < _FRAME_LOCK:
            raise RejectedInput("unknown_frame", f"{frame_id[:40]!r}, but so far it was {str(self.frame_id)[:40]!r}")

    def accept(self, stamp: float, frame_id: str) -> None:
        """This is the frame from now on."""
        self.frame_id, self._stamp = frame_id, stamp


class Intake:
    """Windows of whatever inputs arrive, in one fixed frame.

    Hands whose frame is not that of the camera poses are taken to be in the camera's optical frame, and are moved by
    the camera poses to theirs; with `camera_frame` given, only hands in that frame are. Without camera poses hands stay
    in their own frame, unless a `fixed_frame` is given: then they wait, and poses in another one are refused.
    `now` is the clock that the stamps are judged by, s. `epoch` counts how often history was forgotten.
    """

    def __init__(
        self,
        spec: WindowSpec,
        reject: Callable[[str, RejectedInput], None],
        camera_frame: str = "",
        fixed_frame: str = "",
        limits: StampLimits = StampLimits(),
    ):
        self._spec, self._reject, self._limits = spec, reject, limits
        self._camera_frame, self._fixed_frame = camera_frame, fixed_frame
        self._prompt = ""
        self._calibration: Camera | None = None
        self.epoch = 0
        self._dropped_before = 0
        self._forget()

    def reset(self) -> None:
        """Forget all history but the prompt and the calibration."""
        self._dropped_before = self.dropped_waiting
        self._forget()

    def _forget(self) -> None:
        self.epoch += 1
        self._guards: dict[str, StampGuard] = {}
        self._hand_frame, self._pose_frame = _LockedFrame(), _LockedFrame()
        self._last_seen = [-math.inf, -math.inf]
        self._builder = WindowBuilder(self._spec)
        self._builder.set_prompt(self._prompt)
        self._builder.set_calibration(self._calibration)

    def hands(
        self,
        stamp: float,
        frame_id: str,
        keypoints: np.ndarray,
        valid: np.ndarray,
        rotation: np.ndarray,
        now: float,
        source: str = "hand_poses",
    ) -> bool:
        """Both hands: keypoints (2, 21, 3) m, valid (2, 21), R_frame_palm (2, 3, 3) with NaN where unknown. True when a
        new observation is complete. A hand that cannot be one is left out; without any other the message is."""
        try:
            keep = plausible_hands(keypoints, valid, lambda error: self._reject(source, error))
            self._hand_frame.check(stamp, frame_id)
            self._check_hand_frame(frame_id)
            self._check_stamp(source, stamp, now)
        except RejectedInput as error:
            self._reject(source, error)
            return False
        if self._hand_frame.frame_id not in (None, frame_id):
            self.reset()
        self._hand_frame.accept(stamp, frame_id)
        self._builder.set_camera_frame(self._fixed() not in (None, frame_id))
        valid = valid & keep[:, None]
        for side in np.flatnonzero(valid[:, WRIST]):
            self._last_seen[side] = stamp
        return self._builder.add_hands(stamp, keypoints, valid, rotation)

    def camera_pose(self, stamp: float, frame_id: str, T_frame_camera: np.ndarray, now: float, source: str) -> bool:
        """One camera pose (4, 4) in `frame_id`. True when a hand observation that waited for it is complete."""
        try:
            check_pose(T_frame_camera)
            if self._fixed_frame and frame_id != self._fixed_frame:
                raise RejectedInput("unknown_frame", f"{frame_id[:40]!r}; expected {self._fixed_frame!r}")
            self._pose_frame.check(stamp, frame_id)
            self._check_stamp(source, stamp, now)
        except RejectedInput as error:
            self._reject(source, error)
            return False
        if self._pose_frame.frame_id not in (None, frame_id):
            self.reset()
        self._pose_frame.accept(stamp, frame_id)
        return self._builder.add_camera_pose(stamp, T_frame_camera)

    def image(self, stamp: float, decode: Callable[[], np.ndarray], now: float, source: str = "image") -> None:
        """One image; `decode` gives it as RGB (H, W, 3) uint8, and is called only when the image will be used."""
        if not (self._accept_stamp(source, stamp, now) and self._builder.wants_image(stamp)):
            return
        rgb = decode()
        camera = self._calibration
        if not self._builder.add_image(stamp, rgb) and camera is not None:
            size = f"{rgb.shape[1]}x{rgb.shape[0]}"
            what = f"an image has {size} px, camera_info {camera.width}x{camera.height}; images are used without it"
            self._reject("camera_info", RejectedInput("camera_mismatch", what))

    def camera_info(self, camera: Camera) -> None:
        """The calibration of the images that come from now on."""
        self._calibration = camera
        self._builder.set_calibration(camera)

    def depth(self, stamp: float, depth: np.ndarray, now: float, source: str = "depth") -> None:
        """One depth image (H, W) float32 m, 0 where unknown."""
        if self._accept_stamp(source, stamp, now):
            self._builder.add_depth(stamp, depth)

    def prompt(self, text: str) -> None:
        """The task text of windows from now on."""
        self._prompt = text
        self._builder.set_prompt(text)

    def observation(self) -> Observation | None:
        """The window that ends at the newest complete observation; None before the first one."""
        window = self._builder.window()
        if window is None:
            return None
        frame = self._fixed() if self._builder.camera_frame else self._hand_frame.frame_id
        assert frame is not None, "hands came in one"
        left, right = self._last_seen
        return Observation(window, frame, (left, right), self._builder.image_stamp())

    @property
    def hand_frame(self) -> str | None:
        """The frame that hands come in; None before the first."""
        return self._hand_frame.frame_id

    @property
    def waits_for_camera(self) -> bool:
        """Whether hands need a camera pose to be used."""
        return self._builder.camera_frame

    @property
    def dropped_waiting(self) -> int:
        """Hand observations for which no camera pose came."""
        return self._dropped_before + self._builder.dropped_waiting

    def _accept_stamp(self, source: str, stamp: float, now: float) -> bool:
        try:
            self._check_stamp(source, stamp, now)
        except RejectedInput as error:
            self._reject(source, error)
            return False
        return True

    def _check_stamp(self, source: str, stamp: float, now: float) -> None:
        guard = self._guards.setdefault(source, StampGuard(self._limits))
        if guard.check(stamp, now):
            self.reset()
            self._guards[source] = guard

    def _check_hand_frame(self, frame_id: str) -> None:
        if self._camera_frame and frame_id not in (self._camera_frame, self._fixed()):
            raise RejectedInput("unknown_frame", f"{frame_id[:40]!r}; expected the camera's, {self._camera_frame!r}")

    def _fixed(self) -> str | None:
        return self._fixed_frame or self._pose_frame.frame_id
