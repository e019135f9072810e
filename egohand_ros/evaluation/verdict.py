"""What a session really did, from its recording: how much was seen, tracked, forecast and followed; and is that good?

Terminal, report, metrics and exit status all show this one verdict. Needs no ROS.
"""

from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np

from ..errors import UserError
from ..hand.skeleton import SIDES, WRIST
from ..messages.hands import MEASURED
from ..robot.hands.library import load_hand
from .recording import Recording

GOOD, DOUBTFUL, BAD = "good", "doubtful", "bad"

_MOVED = 0.02  # rad; less of every joint is no motion
_HARDLY, _HALF = 0.1, 0.5  # shares of frames with a hand
_LOST = 0.05  # share of frames or observations that may be dropped without a word
_FOLLOWED = 0.9  # share of forecasts

# What a node's drops are, where it is not what it is there for.
_DROPPED = {"sim_hand": "sim_hand pictures"}

# What to do about a reason for which inputs are refused.
_CURES = {
    "wrist_missing": "the tracker gives no wrist rotation and not the knuckles to work it out from",
    "stale_stamp": "stamps are too old: are the clocks synchronised, is the machine overloaded?",
    "future_stamp": "stamps are ahead of the clock: are the clocks synchronised?",
    "no_camera_info": "publish camera_info, or set camera_fov",
}


@dataclass(frozen=True)
class Facts:
    """What a session did, in numbers.

    frames           images that were played; 0 without a camera
    poses            observations of the tracker, with and without hands
    tracked          observations with a hand; left, right: measured ones of each
    forecasts        forecasts with a hand
    robot, side      the robot hand ("" without), and which of the person's hands drives it
    driven           forecasts of that hand
    followed         those that the robot's motion was solved for
    commands         joint commands
    travel, motion   rad, of the joint that moved most: the length of its way, and from its lowest to its highest angle
    measured_motion  rad, the same of the joint states; None without any
    dropped          messages that a node could not keep up with, by node
    refused          inputs by node/topic/reason
    violations       of joint limits; None where there was no command to check
    broken           how many of them are of which limit
    restarts         nodes that died and were started again
    """

    frames: int = 0
    poses: int = 0
    tracked: int = 0
    left: int = 0
    right: int = 0
    forecasts: int = 0
    robot: str = ""
    side: str = ""
    driven: int = 0
    followed: int = 0
    commands: int = 0
    travel: float = 0.0
    motion: float = 0.0
    measured_motion: float | None = None
    dropped: dict[str, int] | None = None
    refused: dict[str, int] | None = None
    violations: int | None = None
    broken: dict[str, int] | None = None
    restarts: int = 0
    offline: bool = False

    @property
    def seen(self) -> int:
        """Frames, or the observations of a tracker that brought no images."""
        return self.frames if self.looked_at_images else self.poses

    @property
    def looked_at_images(self) -> bool:
        """Whether our tracker looked at the frames; images may also come beside the poses of another tracker."""
        return self.frames > 0 and "hand_tracker" in (self.dropped or {})


@dataclass(frozen=True)
class Verdict:
    """`level` is good, doubtful or bad; `reasons` say in one line each what speaks against good."""

    facts: Facts

    @cached_property
    def bad(self) -> tuple[str, ...]:
        """Why nothing useful came of the session; empty where something did."""
        return tuple(filter(None, (_nothing_seen(self.facts), _nothing_followed(self.facts), _violated(self.facts))))

    @cached_property
    def doubtful(self) -> tuple[str, ...]:
        """What was lost on the way."""
        return tuple(_losses(self.facts))

    @property
    def level(self) -> str:
        return BAD if self.bad else DOUBTFUL if self.doubtful else GOOD

    @property
    def reasons(self) -> tuple[str, ...]:
        return self.bad + self.doubtful

    @property
    def headline(self) -> str:
        """The verdict in one line."""
        facts = self.facts
        if self.bad:
            return f"bad: {self.bad[0]}"
        robot = f", the robot moved {facts.motion:.2f} rad" if facts.robot else ""
        if self.doubtful:
            return f"doubtful: {self.doubtful[0]}"
        return f"good: {facts.forecasts} forecasts{robot}"

    def rows(self) -> list[tuple[str, str]]:
        """Names and values from what was seen to what the robot did."""
        facts, rows = self.facts, []
        if facts.frames:
            rows.append(("frames", str(facts.frames)))
        tracked = f"{facts.tracked} of {facts.seen} (left {facts.left}, right {facts.right})"
        rows += [("tracked", tracked), ("forecast", f"{facts.forecasts}")]
        if facts.robot:
            rows.append(
                ("followed", f"{facts.followed} of {facts.driven} forecasts of the {facts.side or 'driving'} hand")
            )
            shown = "" if facts.measured_motion is None else f", simulated or measured {facts.measured_motion:.2f} rad"
            rows.append(
                ("robot", f"{facts.commands} commands, way {facts.travel:.2f} rad, range {facts.motion:.2f} rad{shown}")
            )
        for name, numbers in (("dropped", facts.dropped), ("refused", facts.refused)):
            said = ", ".join(
                f"{_DROPPED.get(what, what)} {number}" for what, number in (numbers or {}).items() if number
            )
            if said:
                rows.append((name, said))
        return rows

    def to_json(self) -> dict:
        """{"level", "reasons", "facts"}."""
        return {"level": self.level, "reasons": list(self.reasons), "facts": asdict(self.facts)}

    @classmethod
    def of(cls, metrics: dict) -> "Verdict":
        """That of metrics as `score_session` gives them, or as they were read from a file."""
        return cls(Facts(**metrics["verdict"]["facts"]))


def judge(recording: Recording, counts: dict, limits: dict) -> Verdict:
    """The verdict on a recorded session, with its counts and limits as `score_session` finds them."""
    options = recording.session.get("options", {})
    robot, side = _robot(recording)
    hands, index = recording.hands, SIDES.index(side) if side else None
    measured = hands.state == MEASURED if hands is not None else np.zeros((0, 2), dtype=bool)
    shown = np.array([_forecast_sides(f) for f in recording.forecasts]).reshape(-1, 2)
    travel, motion = _motion(recording.targets)
    poses = counts["hand_poses"] or sum(
        number for topic, number in recording.counts.items() if "tracker_poses" in topic
    )
    return Verdict(
        Facts(
            frames=counts["frames"],
            poses=poses,
            tracked=counts["tracked_frames"] if hands is not None else int(shown.any(axis=1).sum()),
            left=int(measured[:, 0].sum()),
            right=int(measured[:, 1].sum()),
            forecasts=int(shown.any(axis=1).sum()),
            robot=robot,
            side=side,
            driven=int(shown.any(axis=1).sum() if index is None else shown[:, index].sum()),
            followed=sum("solve" in sample for sample in recording.latency.get("retargeter", [])),
            commands=counts["commands"],
            travel=travel,
            motion=motion,
            measured_motion=None if recording.measured is None else _motion(recording.measured)[1],
            dropped=counts["dropped"],
            refused={name: number for name, number in counts["rejected"].items() if number},
            violations=sum(limits["violations"].values()) if limits["checked_commands"] else None,
            broken={limit: number for limit, number in limits["violations"].items() if number},
            restarts=sum(recording.session.get("respawns", {}).values()),
            offline=bool(options.get("offline")),
        )
    )


def _robot(recording: Recording) -> tuple[str, str]:
    """Name of the robot hand and the side that drives it, "" where there is none or it is not known."""
    options = recording.session.get("options", {})
    name = options.get("hand", "")
    if name in ("", "none"):
        return ("robot" if recording.count("joint_commands") else ""), ""
    side = options.get("side")
    if side in SIDES:
        return name, side
    try:
        return name, load_hand(name).side
    except UserError:
        return name, ""


def _forecast_sides(forecast) -> tuple[bool, bool]:
    if not len(forecast.step_times) or not len(forecast.keypoints):
        return False, False
    left, right = np.isfinite(forecast.keypoints[0, 0, :, WRIST, 0])
    return bool(left), bool(right)


def _motion(track) -> tuple[float, float]:
    """Way and range in rad of the joint that moved most."""
    if track is None or not len(track.q):
        return 0.0, 0.0
    return round(float(np.abs(np.diff(track.q, axis=0)).sum(axis=0).max()), 4), round(
        float(np.ptp(track.q, axis=0).max()), 4
    )


def _nothing_seen(facts: Facts) -> str:
    if not facts.seen:
        return "no image and no hand pose came"
    if not facts.tracked:
        refused = _refusals(facts.refused, "hand_poses", "tracker_poses", "image")
        return f"no hand was seen in {facts.seen} {_unit(facts)}{refused}"
    if facts.robot and facts.side and facts.poses and not getattr(facts, facts.side) and facts.left + facts.right:
        other = SIDES[1 - SIDES.index(facts.side)]
        return (
            f"the {facts.side} hand, which drives {facts.robot}, was never seen, the {other} one "
            f"{getattr(facts, other)} times; give --side {other}, or a {other} robot hand"
        )
    if not facts.forecasts:
        return f"nothing was forecast of {facts.tracked} observations{_refusals(facts.refused, 'forecaster')}"
    if facts.tracked < _HARDLY * facts.seen:
        return f"a hand was tracked in {facts.tracked} of {facts.seen} {_unit(facts)} only{_slow(facts)}"
    return ""


def _nothing_followed(facts: Facts) -> str:
    if not facts.robot or _nothing_seen(facts):
        return ""
    why = _refusals(facts.refused, "retargeter")
    if not facts.commands:
        return f"{facts.robot} got no command{why}"
    if facts.motion < _MOVED:
        return f"{facts.robot} never moved: {facts.followed} of {facts.driven} forecasts were followed{why}"
    if facts.followed < _HALF * facts.driven:
        return f"{facts.robot} followed {facts.followed} of {facts.driven} forecasts only{why}"
    if facts.measured_motion is not None and facts.measured_motion < _MOVED:
        return f"{facts.robot} was commanded to move {facts.motion:.2f} rad, and its joint states stand still"
    return ""


def _violated(facts: Facts) -> str:
    which = ", ".join(f"{limit} {number}" for limit, number in (facts.broken or {}).items())
    return f"{facts.violations} commands broke a limit" + (f" ({which})" if which else "") if facts.violations else ""


def _losses(facts: Facts) -> list[str]:
    found = []
    if facts.looked_at_images and facts.frames - facts.poses > _LOST * facts.frames:
        found.append(f"{facts.frames - facts.poses} of {facts.frames} frames were not tracked{_slow(facts)}")
    overtaken = (facts.dropped or {}).get("forecaster", 0)
    if overtaken > _LOST * max(facts.tracked, 1):
        found.append(
            f"the forecaster skipped {overtaken} of {facts.poses} observations: this machine is too slow for it"
        )
    side = getattr(facts, facts.side) if facts.side and facts.left + facts.right else facts.tracked
    if facts.seen and side < _HALF * facts.seen:
        found.append(
            f"the {facts.side + ' ' if facts.side else ''}hand was measured in {side} of {facts.seen} {_unit(facts)}"
        )
    if facts.robot and facts.followed < _FOLLOWED * facts.driven:
        found.append(
            f"the robot followed {facts.followed} of {facts.driven} forecasts{_refusals(facts.refused, 'retargeter')}"
        )
    if facts.robot and facts.commands and facts.violations is None:
        found.append("its limits could not be checked: the recording has no joint_targets of a hand that is known here")
    lost = (facts.dropped or {}).get("recorder", 0)
    if lost:
        found.append(f"{lost} messages are not in the recording: this machine or its disk is too slow")
    if facts.restarts:
        found.append(f"nodes died and were started again, {facts.restarts} times in all")
    return found


def _unit(facts: Facts) -> str:
    return "frames" if facts.looked_at_images else "observations"


def _slow(facts: Facts) -> str:
    if facts.offline or not facts.looked_at_images or facts.poses >= facts.frames:
        return ""
    return ": this machine is too slow for it; --offline takes every frame of a video"


def _refusals(refused: dict[str, int] | None, *parts: str) -> str:
    """The most frequent refusal of some nodes or topics, with what helps."""
    matching = {name: n for name, n in (refused or {}).items() if n and any(part in name for part in parts)}
    if not matching:
        return ""
    name = max(matching, key=lambda key: matching[key])
    reason = name.rpartition("/")[2]
    cure = f" ({_CURES[reason]})" if reason in _CURES else ""
    return f"; {matching[name]} were refused as {reason}{cure}"
