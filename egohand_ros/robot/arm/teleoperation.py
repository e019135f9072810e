"""`ArmTeleoperation`: an arm's tool goes the way that a person's wrist goes, from where both were when it began.

What is followed is the wrist as it will be when a command of now takes effect (`lead`). Following is relative, as with
a clutch: it begins where the tool is, and what the wrist does from then on the tool does, times `scale`. A hand that is
lost stops the arm within the limits; when it is seen again following begins anew from where both are, so nothing jumps.
A hand that is suddenly elsewhere (another person's, or a tracker's error) is one that was lost.
"""

from dataclasses import dataclass
from enum import Enum

import numpy as np

from ...geometry.rotations import log_rotation
from .avoidance import Obstacles
from .model import ArmModel
from .motion import ArmMotion, MotionOptions, Outlook
from .wrist_path import WristPath

# A goal that moves is met sooner than one that rests beside a person.
MOTION = MotionOptions(gain=10.0, turn_gain=8.0, turn_speed=2.5, turn_radius=0.2, orientation=0.1, together=True)
# m: joints that brake, each from its own speed, bring a hand that sweeps over a table up to 35 mm nearer to it.
_TABLE_MARGIN = 0.05
_LOOK = 0.01  # s over which the goal's own speed is taken
_STEP_NOISE = 0.05  # m by which one observation may be off the next without having moved
_FULL_SPEED = 0.5  # of the time to a hold: from there on an arm whose hand is not seen slows down


class Following(Enum):
    """What the arm does now."""

    WAITING = "waiting for a hand"
    FOLLOWING = "following"


@dataclass(frozen=True)
class TeleoperationOptions:
    """`scale` m of the tool per m of the wrist; `rotate`: whether the tool turns with the wrist. `speed` m/s at most,
    of the tool, and after `resume_time` s at the earliest. `lead` s from a command to its effect.

    Nothing seen for `hold_after` s stops the arm; a hand has to be seen for `engage_after` s before it is followed, and
    no hand moves faster than `hand_speed` m/s. Confidence slows as it does a robot hand: nothing moves below
    `min_confidence`, from `full_confidence` on all of the speed. A forecast is followed less far ahead the less sure it
    is: all of the lead up to a standard deviation of `sure_std` m, none from `lost_std` on.
    """

    scale: float = 1.0
    rotate: bool = True
    speed: float = 0.5
    lead: float = 0.0
    hold_after: float = 0.2
    engage_after: float = 0.2
    resume_time: float = 0.5
    hand_speed: float = 4.0
    min_confidence: float = 0.2
    full_confidence: float = 0.6
    sure_std: float = 0.05
    lost_std: float = 0.20

    def __post_init__(self) -> None:
        for low, high in (("min_confidence", "full_confidence"), ("sure_std", "lost_std")):
            if not getattr(self, low) < getattr(self, high):
                raise ValueError(
                    f"{low} is {getattr(self, low)}, {high} {getattr(self, high)}; {low} has to be smaller"
                )


class ArmTeleoperation:
    """Tell it what is `seen`, `step` it at every `period` s. Poses are in the frame of the arm's base; times are the
    caller's, in s. Not thread-safe. Needs the extra `handover`."""

    def __init__(
        self,
        arm: ArmModel,
        options: TeleoperationOptions = TeleoperationOptions(),
        period: float = 0.01,
        table_height: float = -np.inf,
    ):
        self.arm, self.options, self.period = arm, options, period
        self._obstacles = Obstacles(arm, table_height, _TABLE_MARGIN)
        self.motion = ArmMotion(arm, period, MOTION, arm.teleoperation_q)
        self.jumps = 0  # hands that were suddenly elsewhere
        self._path: WristPath | None = None
        self._reference: tuple[np.ndarray, np.ndarray] | None = None  # wrist and tool (4, 4) when following began
        self.forget()

    @property
    def state(self) -> Following:
        """What the arm does now."""
        return Following.WAITING if self._reference is None else Following.FOLLOWING

    def start(self, q: np.ndarray) -> None:
        """Stand at q (n,) rad, where the arm was measured."""
        self.motion.start(q)
        self._reference = None

    def forget(self) -> None:
        """Nothing has been seen; go on from the last command."""
        self._path, self._reference = None, None
        self._since = self._seen_at = -np.inf  # when the hand was first seen without a gap, and last
        self._engaged_at = -np.inf
        self._last: tuple[float, np.ndarray] | None = None  # stamp and place of the newest observation
        self._confidence = 0.0

    def seen(self, path: WristPath, stamp: float, now: float, confidence: float = 1.0) -> None:
        """The hand was seen at `stamp`, and this is its path from then on; `confidence` 0 to 1."""
        place = path.at(stamp)[:3, 3]
        if now - self._seen_at > self.options.hold_after:
            self._lose(now)
        elif self._last is not None:
            passed, moved = stamp - self._last[0], float(np.linalg.norm(place - self._last[1]))
            if moved > self.options.hand_speed * max(passed, 0.0) + _STEP_NOISE:
                self.jumps += 1
                self._lose(now)
        self._path, self._seen_at, self._last = path, now, (stamp, place)
        self._stamp, self._confidence = stamp, confidence

    def step(self, now: float, hand_q: np.ndarray | None = None, stand: bool = False) -> np.ndarray:
        """The next angles (n,) rad. `hand_q` (m,) rad of the hand on the arm, as measured, which it keeps clear of the
        arm. `stand`: brake, whatever was seen; following then begins anew."""
        if stand or now - self._seen_at > self.options.hold_after or now < self._seen_at - _LOOK:
            self._reference = None
        elif self._reference is None and now - self._since >= self.options.engage_after:
            self._reference, self._engaged_at = (self._wrist(now), self.arm.tool()), now
        rows = self._obstacles.rows(self.arm.capsules(hand_q))
        self.arm.move(self.motion.q)
        if self._reference is None:
            return self.motion.step(self.arm.tool(), 0.0, rows)
        goal, later = self._goal(now), self._goal(now + _LOOK)
        turn = goal[:3, :3] @ log_rotation(goal[:3, :3].T @ later[:3, :3])
        along = (later[:3, 3] - goal[:3, 3]) / _LOOK, turn / _LOOK
        return self.motion.step(goal, self.options.speed * self._pace(now), rows, along)

    def outlook(self, ahead: int = 0) -> Outlook:
        """How the arm goes on without another step, as `ArmMotion.outlook`."""
        return self.motion.outlook(ahead)

    def _lose(self, now: float) -> None:
        self._reference, self._since = None, now

    def _wrist(self, now: float) -> np.ndarray:
        """T_base_palm (4, 4) when a command of now takes effect, less far ahead where that is doubtful."""
        assert self._path is not None
        options = self.options
        due = now + options.lead
        std = self._path.std_at(due)
        sure = 1.0 if np.isnan(std) else (options.lost_std - std) / (options.lost_std - options.sure_std)
        return self._path.at(self._stamp + float(np.clip(sure, 0.0, 1.0)) * (due - self._stamp))

    def _goal(self, now: float) -> np.ndarray:
        """T_base_tool (4, 4)."""
        assert self._reference is not None
        wrist, (first, tool) = self._wrist(now), self._reference
        goal = tool.copy()
        goal[:3, 3] += self.options.scale * (wrist[:3, 3] - first[:3, 3])
        if self.options.rotate:
            goal[:3, :3] = wrist[:3, :3] @ first[:3, :3].T @ tool[:3, :3]
        return goal

    def _pace(self, now: float) -> float:
        """Share of the speed, 0 to 1."""
        options = self.options
        unseen = (now - self._seen_at) / max(options.hold_after, 1e-6)
        fresh = np.clip((1.0 - unseen) / (1.0 - _FULL_SPEED), 0.0, 1.0)
        sure = (self._confidence - options.min_confidence) / (options.full_confidence - options.min_confidence)
        resumed = (now - self._engaged_at) / max(options.resume_time, 1e-6)
        return float(fresh * np.clip(sure, 0.0, 1.0) * np.clip(0.2 + 0.8 * resumed, 0.0, 1.0))
