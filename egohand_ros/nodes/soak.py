"""A long run of the whole graph: whether memory stays flat and latency where it was."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rclpy.serialization import deserialize_message

from egohand_ros.msg import Latency

from ..errors import UserError
from .graph import NodePlan, plan_nodes, set_parameters
from .processes import private_domain
from .session import Session, SessionState

_TOPICS = ("forecaster/debug/latency", "retargeter/debug/latency")
_SCENE = 60.0  # s, played again and again
_SAMPLE_PERIOD = 5.0  # s
_PART = 0.15  # of the run, at its beginning and at its end, that are compared
_WARM_UP = 0.1  # of the run, at most a minute: caches and buffers fill
_MOST_GROWTH = 0.01
_MOST_DRIFT = 1.25  # p99 at the end to p99 at the beginning
_LEAST_DRIFT = 0.002  # s; less is the resolution of a busy machine


@dataclass(frozen=True)
class SoakResult:
    """`time` (N,) s since the start; `rss` maps nodes to resident memory (N,) bytes, NaN while a node was away;
    `latency_time` (M,) s and `latency` (M,) s from pose received to command; restarts of nodes; `duration` s."""

    time: np.ndarray
    rss: dict[str, np.ndarray]
    latency_time: np.ndarray
    latency: np.ndarray
    poses: int
    restarts: dict[str, int]
    duration: float

    def _parts(self, time: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Masks of what is compared: after the warm-up, and at the end."""
        begin = min(_WARM_UP * self.duration, 60.0)
        span = _PART * (self.duration - begin)
        return (time >= begin) & (time < begin + span), time >= self.duration - span

    def growth(self, node: str) -> float:
        """Median memory at the end relative to that after the warm-up, less 1."""
        first, last = self._parts(self.time)
        values = self.rss[node]
        return float(np.nanmedian(values[last]) / np.nanmedian(values[first]) - 1.0)

    @property
    def p99(self) -> tuple[float, float]:
        """s, after the warm-up and at the end."""
        first, last = self._parts(self.latency_time)
        if not first.any() or not last.any():
            return float("nan"), float("nan")
        return float(np.percentile(self.latency[first], 99)), float(np.percentile(self.latency[last], 99))

    @property
    def failures(self) -> list[str]:
        """What was not as it should be; empty when passed."""
        found = [
            f"{node}'s memory grew by {100 * self.growth(node):.1f} %" for node in self.rss if not self.growth(node) < _MOST_GROWTH
        ]
        first, last = self.p99
        if not (last < _MOST_DRIFT * first or last - first < _LEAST_DRIFT):
            found.append(f"p99 went from {1e3 * first:.1f} to {1e3 * last:.1f} ms")
        return found + [f"{node} was restarted {count} times" for node, count in self.restarts.items() if count]


def run_soak(
    duration: float,
    forecaster: str,
    hand: str,
    rate: float,
    settings: list[str],
    folder: Path | None = None,
    on_progress: Callable[[SessionState], None] = lambda state: None,
) -> SoakResult:
    """Both hands at `rate` Hz, 3 hypotheses, simulated robot, recording into `folder` (a temporary one when None)."""
    played = dict(source="synthetic", images=False, pose_rate=float(rate), duration=_SCENE, loop=True, autostart=False)
    with tempfile.TemporaryDirectory(prefix="egohand_soak_") as work, private_domain() as domain:
        arguments = {"tracker": "external", "forecaster": forecaster, "hand": hand, "sim": "true"}
        plans = plan_nodes(arguments | {"record": str(folder or Path(work) / "bag")})
        robot = [f"retargeter.{name}" for name in ("start_enabled=true", "command_rate=200.0")]
        hypotheses = [] if forecaster != "kalman" else ["forecaster.hypotheses=3"]
        plans = set_parameters([*plans, NodePlan("player", played)], [*robot, *hypotheses, *settings])
        sampler = _Sampler(duration, on_progress)
        session = Session(plans, domain, Path(work) / "logs", on_progress=sampler, collect=(*_TOPICS,))
        sampler.watch(session, [plan.name for plan in plans])
        state = session.run()
    if not sampler.done:
        if state.interrupted:
            raise KeyboardInterrupt
        raise UserError("the session ended before its time")
    return sampler.result(state)


class _Sampler:
    """Looks at the processes every few seconds, and ends the session when it is time."""

    def __init__(self, duration: float, on_progress: Callable[[SessionState], None]):
        self.done, self._duration, self._on_progress = False, duration, on_progress
        self._rows: list[tuple[float, dict[str, float]]] = []
        self._begin: float | None = None
        self._next = 0.0

    def watch(self, session: Session, names: list[str]) -> None:
        """The session, and the nodes in it to look at."""
        self._session, self._names = session, names

    def __call__(self, state: SessionState) -> None:
        self._on_progress(state)
        if state.phase != "running" or self.done:
            return
        now = time.monotonic()
        if self._begin is None:
            self._begin, self._began = now, time.time()
        passed = now - self._begin
        if passed >= self._next:
            self._next = passed + _SAMPLE_PERIOD
            self._rows.append((passed, {name: resident_bytes(self._session.pid(name)) for name in self._names}))
        if passed >= self._duration:
            self.done = True
            raise KeyboardInterrupt  # the session then ends in order

    def result(self, state: SessionState) -> SoakResult:
        """What was seen."""
        times = np.array([passed for passed, _ in self._rows])
        rss = {name: np.array([row[name] for _, row in self._rows]) for name in self._names}
        stamps, latency = self._latencies()
        return SoakResult(
            times, rss, stamps - self._began, latency, state.received["hand_poses"], dict(state.respawns), self._duration
        )

    def _latencies(self) -> tuple[np.ndarray, np.ndarray]:
        """Stamps (M,) s and latencies (M,) s from pose received to command sent."""
        received, stamps, latency = {}, [], []
        forecasts, commands = (self._session.collected[topic] for topic in _TOPICS)
        for data in forecasts:
            message = deserialize_message(data, Latency)
            received[message.header.stamp.sec, message.header.stamp.nanosec] = _stages(message)["input_age"]
        for data in commands:
            message = deserialize_message(data, Latency)
            key = message.header.stamp.sec, message.header.stamp.nanosec
            if key in received:
                stamps.append(key[0] + 1e-9 * key[1])
                latency.append(_stages(message)["total"] - received[key])
        return np.array(stamps), np.array(latency)


def _stages(message: Latency) -> dict[str, float]:
    return dict(zip(message.stages, message.durations))


def resident_bytes(pid: int | None) -> float:
    """Resident memory of a process, NaN when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/status").read_text().splitlines()
        return 1024.0 * float(next(line.split()[1] for line in fields if line.startswith("VmRSS")))
    except (OSError, StopIteration):
        return float("nan")
