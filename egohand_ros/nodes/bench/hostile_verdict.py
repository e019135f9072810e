"""The verdict over a hostile run: were all attacks counted, did every command keep the limits, was the robot safe?

Pure functions over what was sent, counted and recorded.
"""

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
from sensor_msgs.msg import JointState

from ...errors import RejectedInput
from ...messages.joints import parse_joint_command_msg
from ...robot.hands.command import CommandMapping
from ...robot.hands.model import HandModel
from ...robot.limits.audit import LimitAudit, audit_limits

# Which node takes which attacked topic.
TARGETS = {
    "hand_poses": "forecaster",
    "tracker_poses": "forecaster",
    "camera_pose": "forecaster",
    "odometry": "forecaster",
    "prompt": "forecaster",
    "hand_forecasts": "retargeter",
    "joint_states": "retargeter",
    "image": "hand_tracker",
    "image/compressed": "hand_tracker_compressed",
    "camera_info": "hand_tracker",
    "joint_commands": "sim_hand",
}
# Where each received message is either used, under one of these counts, or refused.
USES = {"hand_forecasts": ("targets", "hand_not_forecast", "hand_not_tracked"), "joint_commands": ("commands",)}
_SERVO_SLACK = 0.05  # rad that a servo may overshoot
_FEWEST_COMMANDS = 100
_MOST_UNSEEN = 0.5  # part of the commands
# What the middleware may lose of a topic's messages when the machine is overloaded: this part, and in short runs a few,
# but never as many as half the attacks of one kind, so that a kind that never arrives is seen.
_MAX_LOSS, _FEW_LOST = 1e-3, 10


@dataclass
class HostileReport:
    """What was sent and what became of it. `failures` is empty when the nodes passed.

    sent: topic: kind: number. must_be_refused, received (valid input included), lost (on the way) and dropped (replaced
    by a newer one before the node looked at it): topic: number. refused: node: topic: reason: number.
    unseen_commands: of `commands`, those that did not come to the bench.
    """

    messages: int = 0
    seconds: float = 0.0
    sent: dict[str, dict[str, int]] = field(default_factory=lambda: {topic: {} for topic in TARGETS})
    must_be_refused: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TARGETS, 0))
    received: dict[str, int] = field(default_factory=dict)
    lost: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    refused: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)
    commands: LimitAudit | None = None
    unseen_commands: int = 0
    peak_robot_speed: float = 0.0
    clock_jumps: int = 0
    exits: dict[str, list[int]] = field(default_factory=dict)
    recovery_seconds: float = float("nan")
    failures: list[str] = field(default_factory=list)

    def refused_on(self, topic: str) -> int:
        """How many messages the topic's node refused on it."""
        return sum(self.refused.get(TARGETS[topic], {}).get(topic, {}).values())


def judge_counts(
    report: HostileReport, counts: dict[str, dict[str, int]], published: dict[str, int], kinds: dict[str, int]
) -> None:
    """Messages arrived, every attack that had to be refused was counted, and nothing was counted as a bug.

    `counts`: what each node counted, under the keys of its diagnostics; `published`: topic: number, valid ones too;
    `kinds`: topic: kinds of attack on it.
    """
    for node, numbers in counts.items():
        report.refused[node] = _by_topic(numbers)
    for topic, must in report.must_be_refused.items():
        numbers, refused = counts[TARGETS[topic]], report.refused_on(topic)
        received = report.received[topic] = numbers.get(f"count/received/{topic}", 0)
        dropped = report.dropped[topic] = numbers.get("dropped", 0) if topic.startswith("image") else 0
        lost = report.lost[topic] = max(0, published[topic] - received)
        if lost > most_lost(published[topic], sum(report.sent[topic].values()), kinds[topic]):
            report.failures.append(f"{topic}: of {published[topic]} messages {received} arrived")
        if refused + dropped + lost < must:
            report.failures.append(f"{topic}: {must} had to be refused, {refused} were, {dropped} were dropped")
        used = sum(numbers.get(f"count/{use}", 0) for use in USES.get(topic, ()))
        if topic in USES and received != used + refused:
            report.failures.append(f"{topic}: {received} received, but {used} used and {refused} refused")
    for node, topics in report.refused.items():
        bugs = sum(reasons.get("internal_error", 0) for reasons in topics.values())
        if bugs:
            report.failures.append(f"{node}: {bugs} internal errors")


def most_lost(published: int, attacks: int, kinds: int) -> float:
    """How many messages of a topic the middleware may lose, of which so many were attacks of so many kinds."""
    return max(_MAX_LOSS * published, min(_FEW_LOST, 0.5 * attacks / max(kinds, 1)))


def _by_topic(numbers: dict[str, int]) -> dict[str, dict[str, int]]:
    refused: dict[str, dict[str, int]] = defaultdict(dict)
    for key, number in numbers.items():
        if key.startswith("rejected/") and number:
            topic, _, reason = key.removeprefix("rejected/").rpartition("/")
            refused[topic][reason] = number
    return dict(refused)


def judge_commands(
    report: HostileReport,
    hand: HandModel,
    mapping: CommandMapping,
    targets: list[JointState],
    wire: list[JointState],
) -> None:
    """Every one of `targets` (joint_targets) is within the limits; what of them came on `wire` (joint_commands and
    attacks) is just that. A busy machine loses some on the way here.
    """
    base = targets[0].header.stamp.sec if targets else 0  # float64 holds nanoseconds since then, but not since 1970
    stamps = [t.header.stamp.sec - base + 1e-9 * t.header.stamp.nanosec for t in targets]
    report.commands = audit_limits(hand, np.array(stamps), np.array([t.position for t in targets]))
    if len(targets) < _FEWEST_COMMANDS:
        report.failures.append(f"only {len(targets)} commands were sent")
    if report.commands.violations:
        report.failures.append(f"{report.commands.violations} commands broke a limit")
    meant = {_stamp(t): np.array(t.position) for t in targets}
    came: dict[tuple[int, int], bool] = {}  # attacks have stamps of commands too: one of each stamp has to be right
    for message in wire:
        stamp = _stamp(message)
        if stamp in meant:
            came[stamp] = came.get(stamp, False) or _is_meant(message, meant[stamp], mapping)
    wrong, report.unseen_commands = len(came) - sum(came.values()), len(meant) - len(came)
    if wrong:
        report.failures.append(f"{wrong} commands were not on the wire as they were meant")
    if report.unseen_commands > _MOST_UNSEEN * len(meant):
        report.failures.append(f"{report.unseen_commands} of {len(meant)} commands never came here: a busy machine?")


def _is_meant(message: JointState, meant: np.ndarray, mapping: CommandMapping) -> bool:
    try:
        return bool(np.abs(parse_joint_command_msg(message, mapping) - meant).max() < 1e-9)
    except RejectedInput:
        return False


def judge_robot(report: HostileReport, hand: HandModel, states: list[JointState]) -> None:
    """The simulated robot stayed within its joint limits. `states` may hold attacks, which have no effort."""
    own = [s for s in states if list(s.name) == list(hand.joint_names) and len(s.effort)]
    q, qd = np.array([s.position for s in own]), np.array([s.velocity for s in own])
    if not ((q > hand.lower - _SERVO_SLACK) & (q < hand.upper + _SERVO_SLACK)).all():
        report.failures.append("the simulated robot left its joint limits")
    report.peak_robot_speed = float(np.abs(qd / hand.velocity_limit).max())


def _stamp(message: JointState) -> tuple[int, int]:
    return message.header.stamp.sec, message.header.stamp.nanosec
