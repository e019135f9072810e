"""Scoring a recorded session: counts, latencies, forecast errors against what then happened, and robot limits.

Everything comes from the recording, so that any bag can be scored again, on any machine.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..data.bags.recording import is_input_topic
from ..errors import UserError
from ..geometry.transforms import transform_points
from ..hand.skeleton import WRIST
from ..messages.hands import EXTRAPOLATED, MEASURED
from ..robot.arm.audit import count_broken_targets
from ..robot.hands.library import load_hand
from ..robot.hands.model import HandModel
from ..robot.limits.audit import audit_limits, others_late
from ..stream.aligner import PoseTrack
from ..stream.resample import resample
from .metrics import METRICS, Errors
from .recording import HandPoses, JointTrack, Recording, WireCommands, read_recording
from .verdict import judge

_PERCENTILES = (50, 95, 99)
# What then happened is interpolated between observations at most so far apart, s.
_MAX_GAP = 0.12
# A command and its target are sent together; recorders receive them at most so far apart: s, and rows of the other
# topic.
_SKEW, _AHEAD = 0.5, 500
_REACH_ERROR = 1e-3  # of the way, and rad


def score_session(recording: Recording | Path | str) -> dict:
    """Metrics of a recorded session, ready for JSON; keys as in the documentation of `egohand run --metrics`.

    Raises `UserError` for a bag that cannot be read.
    """
    if not isinstance(recording, Recording):
        recording = read_recording(recording)
    limits, counts = count_violations(recording), count(recording)
    verdict = judge(recording, counts, limits)
    return {
        "verdict": verdict.to_json(),
        "counts": counts,
        "latency_ms": latencies(recording),
        "forecast": score_forecasts(recording),
        "limit_violations": verdict.facts.violations,
        "limits": limits,
        "duration_s": round(recording.end - recording.start, 3),
    }


# -------------------------------------------------------------------------------------------------- counts


def count(recording: Recording) -> dict:
    """How many of each kind; `dropped` and `rejected` are what the nodes reported, `refused_in_recording` what is not
    used here."""
    hands, published = recording.hands, recording.player.get("published", {})
    frames = max(published.get("image", 0), published.get("image/compressed", 0))
    state = hands.state if hands is not None else np.zeros((0, 2))
    return {
        "frames": frames or max((n for topic, n in recording.counts.items() if _is_camera(topic)), default=0),
        "hand_poses": recording.count("hand_poses"),
        "tracked_frames": int((state <= EXTRAPOLATED).any(axis=-1).sum()),
        "measured_frames": int((state == MEASURED).any(axis=-1).sum()),
        "forecasts": len(recording.forecasts),
        "commands": recording.count("joint_commands"),
        "joint_states": recording.count("joint_states"),
        "dropped": {
            node: int(values.get("dropped", values.get("count/dropped", 0)))
            for node, values in sorted(recording.diagnostics.items())
            if "dropped" in values or "count/dropped" in values
        },
        "rejected": {
            f"{node}/{key.removeprefix('rejected/')}": int(value)
            for node, values in sorted(recording.diagnostics.items())
            for key, value in values.items()
            if key.startswith("rejected/")
        },
        "refused_in_recording": dict(recording.refused),
        "late_inputs": int(recording.player.get("late", 0)),
    }


def _is_camera(topic: str) -> bool:
    """Whether a full topic has the camera's images, and not those that a node drew."""
    return is_input_topic(topic, "image") or is_input_topic(topic, "image/compressed")


# -------------------------------------------------------------------------------------------------- latency


def latencies(recording: Recording) -> dict[str, dict[str, float]]:
    """p50, p95, p99 in ms of every stage of every node, and `end_to_end`: hand pose received -> joint command sent."""
    samples = {
        f"{node}/{stage}": [sample[stage] for sample in rows if stage in sample]
        for node, rows in sorted(recording.latency.items())
        for stage in dict.fromkeys(stage for sample in rows for stage in sample)
        if stage not in ("stamp", "useful_horizon")
    }
    samples["end_to_end"] = end_to_end(recording)
    return {name: _percentiles(values) for name, values in samples.items() if len(values)}


def end_to_end(recording: Recording, with_stamps: bool = False):
    """(N,) s from hand pose received by the forecaster to the joint command sent by the retargeter, by observation;
    with `with_stamps` the observations' stamps (N,) before it."""
    received = {_key(s["stamp"]): s["input_age"] for s in recording.latency.get("forecaster", []) if "input_age" in s}
    rows = [s for s in recording.latency.get("retargeter", []) if "total" in s and _key(s["stamp"]) in received]
    durations = np.array([s["total"] - received[_key(s["stamp"])] for s in rows])
    return (np.array([s["stamp"] for s in rows]), durations) if with_stamps else durations


def _key(stamp: float) -> int:
    return round(stamp * 1e6)


def _percentiles(values: Iterable[float]) -> dict[str, float]:
    p50, p95, p99 = np.percentile(np.asarray(list(values)), _PERCENTILES) * 1e3
    return {"p50": round(p50, 4), "p95": round(p95, 4), "p99": round(p99, 4)}


# -------------------------------------------------------------------------------------------------- forecasts


def fixed_frame_hands(recording: Recording, frame: str) -> HandPoses | None:
    """The observations in the frame of the forecasts: moved by the camera's pose where that is its frame. NaN where
    unknown.
    """
    hands, camera = recording.hands, recording.camera
    if hands is None or camera is None or frame != camera.frame:
        return hands
    track = PoseTrack(np.inf, 0.2)
    for stamp, pose in zip(camera.stamp, camera.pose):
        track.add(stamp, pose)
    poses, known = track.at(hands.stamp)
    keypoints = transform_points(poses[:, None], hands.keypoints)
    valid = hands.valid & known[:, None, None]
    return HandPoses(hands.stamp, hands.received, keypoints, valid, hands.state, [frame] * len(hands.frame))


def actual_hands(hands: HandPoses, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What was measured at times (M,): keypoints (M, 2, 21, 3) m and valid (M, 2, 21). Extrapolated hands do not
    count.
    """
    order = np.argsort(hands.stamp, kind="stable")
    order = order[np.concatenate([[True], np.diff(hands.stamp[order]) > 0])]
    valid = hands.valid[order] & (hands.state[order] == MEASURED)[..., None]
    rotation = np.full((len(order), 2, 3, 3), np.nan)
    samples = resample(hands.stamp[order], np.nan_to_num(hands.keypoints[order]), valid, rotation, times, _MAX_GAP)
    return samples.keypoints, samples.valid


def forecast_errors(recording: Recording) -> tuple[str, np.ndarray, dict[str, Errors]] | None:
    """Model id, step times (S,) s, and the errors of the live forecasts and of persistence over the same keypoints."""
    forecasts = [f for f in recording.forecasts if len(f.step_times)]
    if not forecasts or recording.hands is None:
        return None
    steps = np.median([len(f.step_times) for f in forecasts])
    forecasts = [f for f in forecasts if len(f.step_times) == steps]
    hands = fixed_frame_hands(recording, forecasts[0].frame)
    step_times = forecasts[0].step_times
    stamp = np.array([f.stamp for f in forecasts])
    actual, seen = actual_hands(hands, (stamp[:, None] + step_times).ravel())
    actual = actual.reshape(len(stamp), -1, 2, *actual.shape[-2:])
    last, last_seen = actual_hands(hands, stamp)
    predicted = np.stack([f.keypoints[0] for f in forecasts])
    valid = seen.reshape(actual.shape[:-1]) & last_seen[:, None] & np.isfinite(predicted).all(axis=-1)
    compared = {
        forecasts[0].model_id: np.nan_to_num(predicted),
        "persistence": np.repeat(last[:, None], len(step_times), 1),
    }
    if forecasts[0].model_id == "persistence":
        compared["persistence"] = np.nan_to_num(predicted)
    return forecasts[0].model_id, step_times, {n: Errors.between(p, actual, valid) for n, p in compared.items()}


def score_forecasts(recording: Recording) -> dict:
    """Errors in m of the live forecasts, and of persistence on the same windows, against what was measured later."""
    found = forecast_errors(recording)
    if found is None:
        return {"windows": 0, "forecasters": {}}
    _, step_times, errors = found
    scored = next(iter(errors.values())).valid[..., WRIST].any(axis=(1, 2))
    return {
        "windows": int(scored.sum()),
        "step_times_s": np.round(step_times, 6).tolist(),
        "forecasters": {
            name: {metric: _rounded(function(e).value) for metric, function in METRICS.items()}
            for name, e in errors.items()
        },
        "wrist_error_m": {
            name: [_rounded(METRICS["ADE"](e.frames(slice(s, s + 1))).value) for s in range(len(step_times))]
            for name, e in errors.items()
        },
    }


def _rounded(value: float) -> float | None:
    return round(float(value), 6) if np.isfinite(value) else None


# -------------------------------------------------------------------------------------------------- limits


def hand_of(recording: Recording) -> HandModel | None:
    """The robot hand of a session: as its options say, otherwise as its joint names do."""
    name = recording.session.get("options", {}).get("hand")
    if recording.targets is None:
        return None
    if name and name != "none":
        try:
            return load_hand(name)
        except UserError:
            return None
    return None


def _missing_targets(track: JointTrack, wire: WireCommands | None) -> np.ndarray:
    """(T - 1,) between which targets commands arrived at the robot: a target goes with each command, so that those of
    the gap were sent and are missing in the recording."""
    if wire is None or len(track.received) < 2:
        return np.zeros(max(len(track.received) - 1, 0), dtype=bool)
    margin = 0.25 * np.median(np.diff(track.received))
    after = np.searchsorted(wire.received, track.received[:-1] + margin)
    return np.searchsorted(wire.received, track.received[1:] - margin) > after


def _measured_joints(track: JointTrack | None, hand: HandModel) -> tuple[np.ndarray, np.ndarray] | None:
    """When joint states came (M,) s and the hand's joints in them (M, n) rad; None where they are not all there."""
    if track is None or not set(hand.joint_names) <= set(track.names):
        return None
    return track.received, track.q[:, [track.names.index(name) for name in hand.joint_names]]


def count_violations(recording: Recording) -> dict:
    """How often a command left its limits, and how near the motion came to them (1: at the limit).

    Judged are the targets in rad, by their stamps and by when they arrived (`arrival`); `wire_mismatch` counts commands
    in the robot's own units that are not the same motion, and `arm` targets of the arm, where one carries the hand. Of
    an offline session arrival is not judged, and absent: its clock waits for the nodes and then leaps, so that what a
    recorder calls a moment holds whatever came until the next.
    """
    hand, track = hand_of(recording), recording.targets
    if hand is None or track is None or tuple(track.names) != tuple(hand.joint_names):
        return {"violations": {}, "checked_commands": 0}
    lost = _missing_targets(track, recording.wire_commands)
    measured = _measured_joints(recording.measured, hand)
    rate = float(recording.diagnostics.get("retargeter", {}).get("command rate [Hz]", "nan"))
    period = 1.0 / rate if rate > 0.0 else None
    robot = recording.measured
    late = None if robot is None else others_late(track.received, robot.stamp, robot.received)
    received = None if recording.session.get("options", {}).get("offline") else track.received
    audit = audit_limits(
        hand, track.stamp, track.q, received=received, lost=lost, measured=measured, period=period, late=late
    )
    arm = _arm_violations(recording)
    by_arrival = {} if received is None else {"arrival": audit.arrival}
    peak = {} if received is None else {"peak_velocity_use_on_arrival": round(audit.worst_arrival, 4)}
    return {
        "checked_commands": audit.commands,
        "violations": {
            "position": audit.position,
            "velocity": audit.velocity,
            "acceleration": audit.acceleration,
            **by_arrival,
            **arm,
            "wire_mismatch": wire_mismatches(recording, hand),
        },
        "peak_velocity_use": round(audit.worst_velocity, 4),
        "peak_acceleration_use": round(audit.worst_acceleration, 4),
        **peak,
    }


def _arm_violations(recording: Recording) -> dict[str, int]:
    """{"arm": targets of the arm that broke its limits}; {} without an arm, or one that is not known here."""
    name, track = recording.session.get("options", {}).get("arm") or "none", recording.arm_targets
    if name == "none" or track is None:
        return {}
    from ..robot.arm.model import ArmModel  # with MuJoCo, which other sessions do without

    try:
        arm = ArmModel.load(name)
    except UserError:
        return {}
    if track.names != tuple(arm.config.joints):
        return {}
    period = float(np.median(np.diff(track.stamp))) if len(track.stamp) > 1 else 0.01
    limits = arm.lower, arm.upper, arm.velocity_limit
    return {"arm": count_broken_targets(track.stamp, track.q, max(period, 1e-3), *limits)[0]}


def wire_mismatches(recording: Recording, hand: HandModel) -> int:
    """Recorded joint_commands that are not the joint_targets that were sent with them.

    Messages are lost where a machine is overloaded, of either topic. So a command without its target is a mismatch when
    no hand within its velocity limits could pass it between the targets around it, by their stamps. Of the other ones
    as many are taken for commands whose target was lost as targets are missing in the recording.
    """
    interface = recording.diagnostics.get("retargeter", {}).get("command interface")  # absent in older recordings
    mapping, wire, targets = hand.command_mapping(interface), recording.wire_commands, recording.targets
    if wire is None or wire.positions.shape[1:] != (len(mapping.names),):
        return 0
    expected = mapping.to_wire(targets.q)
    partner = _partners(expected, targets.received, wire)
    alone, paired = np.flatnonzero(partner < 0), np.flatnonzero(partner >= 0)
    place = np.searchsorted(paired, alone)
    between = (place > 0) & (place < len(paired))  # otherwise the recording began or ended between the two
    before, after = partner[paired[place[between] - 1]], partner[paired[place[between]]]
    q, limit = mapping.from_wire(expected)[:, mapping.index], hand.velocity_limit[mapping.index]
    commanded = mapping.from_wire(wire.positions[alone[between]])[:, mapping.index]
    way = np.abs(commanded - q[before]) + np.abs(q[after] - commanded)
    time = (targets.stamp[after] - targets.stamp[before])[:, None]  # not positive where the clock was set back
    astray = int(((time[:, 0] > 0.0) & ~(way <= limit * time * (1.0 + _REACH_ERROR) + _REACH_ERROR).all(axis=1)).sum())
    sent = int(recording.diagnostics.get("retargeter", {}).get("count/commands", 0))
    lost = max(sent - len(expected), len(wire.positions) - len(expected), 0)
    return astray + max(len(alone) - astray - lost, 0)


def _partners(expected: np.ndarray, received: np.ndarray, wire: WireCommands) -> np.ndarray:
    """For each row of `wire` (N,) the index of the same row in `expected` (M, m), in the same order; -1 for none.

    Looked for among the rows that were received, (M,) s, at nearly the same time.
    """
    found, position = np.full(len(wire.positions), -1), 0
    for i, (row, time) in enumerate(zip(wire.positions, wire.received)):
        while position < len(expected) and received[position] < time - _SKEW:
            position += 1
        for ahead in (1, _AHEAD):  # nearly always it is the next one
            near = slice(position, position + ahead)
            same = (np.abs(expected[near] - row) < 1e-9).all(axis=-1) & (received[near] <= time + _SKEW)
            if same.any():
                found[i] = position + int(same.argmax())
                position = found[i] + 1
                break
    return found
