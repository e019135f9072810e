"""How fast the pipeline is: real forecaster and retargeter processes, fed with synthetic hand poses over DDS."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import JointState

from egohand_ros.msg import Latency

from ..evaluation.recording import stamp_of
from .graph import NodePlan, plan_nodes, set_parameters
from .processes import private_domain
from .session import Session, SessionState

_LATENCY_TOPICS = ("forecaster/debug/latency", "retargeter/debug/latency")
_WARM_UP = 1.0  # s at the beginning that do not count: caches, CPU frequency, the hand on its way from rest


@dataclass(frozen=True)
class PipelineResult:
    """Latencies (N,) s from pose received to command sent with the poses' stamps (N,) s since the start, and the rest.

    stages maps "node/stage" to samples in s; intervals (M,) s between commands; cpu maps nodes to parts of one core.
    """

    stamp: np.ndarray
    latency: np.ndarray
    stages: dict[str, np.ndarray]
    intervals: np.ndarray
    poses: int
    forecasts: int
    cpu: dict[str, float]

    @property
    def lost(self) -> int:
        """Poses after the warm-up that led to no command of their own."""
        return max(self.poses - len(self.latency), 0)


def bench_pipeline(
    forecaster: str,
    hand: str,
    rate: float,
    duration: float,
    settings: list[str],
    on_progress: Callable[[SessionState], None] = lambda state: None,
) -> PipelineResult:
    """Run forecaster and retargeter for `duration` s at `rate` Hz. Raises `UserError` when a node does not start."""
    played = {
        "source": "synthetic",
        "images": False,
        "pose_rate": float(rate),
        "duration": float(duration),
        "autostart": False,
    }
    plans = plan_nodes({"tracker": "external", "forecaster": forecaster, "hand": hand})
    robot = [f"retargeter.{name}" for name in ("start_enabled=true", "joint_states_timeout=0.0")]
    plans = set_parameters([*plans, NodePlan("player", played)], [*robot, *settings])
    with tempfile.TemporaryDirectory(prefix="egohand_bench_") as logs, private_domain() as domain:
        session = Session(
            plans,
            domain,
            Path(logs),
            on_progress=on_progress,
            collect=(*_LATENCY_TOPICS, "hand_poses", "joint_targets"),
        )
        state = session.run()
    if state.interrupted:
        raise KeyboardInterrupt
    return _result(session, state)


def _result(session: Session, state: SessionState) -> PipelineResult:
    forecaster, retargeter = ([deserialize_message(d, Latency) for d in session.collected[t]] for t in _LATENCY_TOPICS)
    first = min((_seconds(m) for m in forecaster), default=0.0) + _WARM_UP
    received = {_key(m): _stages(m)["input_age"] for m in forecaster if _seconds(m) >= first}
    done = [m for m in retargeter if _key(m) in received]
    sent = np.array([_seconds(deserialize_message(d, JointState)) for d in session.collected["joint_targets"]])
    wall = max(state.wall_seconds, 1e-9)
    return PipelineResult(
        stamp=np.array([_seconds(m) - first + _WARM_UP for m in done]),
        latency=np.array([_stages(m)["total"] - received[_key(m)] for m in done]),
        stages=_samples("forecaster", forecaster, first) | _samples("retargeter", retargeter, first),
        intervals=np.diff(sent[sent >= first]) if len(sent) else np.zeros(0),
        poses=sum(stamp_of(data) >= first for data in session.collected["hand_poses"]),
        forecasts=len(received),
        cpu={name: seconds / wall for name, seconds in state.cpu_seconds.items()},
    )


def _samples(node: str, messages: list[Latency], first: float) -> dict[str, np.ndarray]:
    rows = [_stages(m) for m in messages if _seconds(m) >= first]
    return {f"{node}/{stage}": np.array([row[stage] for row in rows]) for stage in (rows[0] if rows else ())}


def _stages(message: Latency) -> dict[str, float]:
    return dict(zip(message.stages, message.durations))


def _seconds(message) -> float:
    return message.header.stamp.sec + 1e-9 * message.header.stamp.nanosec


def _key(message) -> tuple[int, int]:
    return message.header.stamp.sec, message.header.stamp.nanosec
