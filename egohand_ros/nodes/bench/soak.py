"""A long run of the whole graph: whether memory stays flat and latency where it was.

Latency on a machine that is busy says as much of the machine as of the nodes. To tell these apart, processor time of
every process is noted as well, what a hypervisor gave to others, and how long a fixed piece of work takes.
"""

import os
import tempfile
import time
from array import array
from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
from rclpy.serialization import deserialize_message

from ...errors import UserError
from ...messages.status import LatencySample, parse_latency_msg
from ...msg import Latency
from ..session.checks import check_plans
from ..session.plan import NodePlan, plan_nodes, set_parameters
from ..session.process_usage import Usage, children, stolen_seconds, usage
from ..session.processes import private_domain
from ..session.session import Session, SessionState

_TOPICS = ("forecaster/debug/latency", "retargeter/debug/latency")
_SCENE = 60.0  # s, played again and again
_SAMPLE_PERIOD = 5.0  # s; in runs of less than two minutes a quarter of the warm-up
_WARM_UP = 300.0  # s, or a twelfth of a shorter run: caches, pools and rings of shared memory fill
_PART = 1.0 / 6.0  # of the run: parts that latency is compared over
_MOST_GROWTH = 0.01
_MOST_DRIFT = 1.25  # p99 at the end to p99 at the beginning
_LEAST_DRIFT = 0.002  # s; less is the resolution of a busy machine
_UNSORTED = np.random.default_rng(0).random(1_000_000)  # 10 ms of work

LEAST_DURATION = 30.0  # s; less says nothing
OBSERVER = "session"  # the process that measures keeps its measurements, so that its growth says nothing


@dataclass(frozen=True)
class SoakResult:
    """`time` (N,) s since the start; `rss` and `private` map processes to resident memory and to the part of it that is
    theirs alone and not of a file (N,) bytes, `cpu` to the processor time that they have used (N,) s, NaN while a
    process was away. Of the whole machine: `load` (N,) processes that wanted to run; `stolen` (N,) s of processor time
    that its hypervisor gave to others so far; `yardstick` (N,) s of processor time for a piece of work that is always
    the same. `latency_time` (M,) s and `latency` (M,) s from pose received to command; restarts of nodes; `duration` s,
    and the one that was `asked` for."""

    time: np.ndarray
    rss: dict[str, np.ndarray]
    private: dict[str, np.ndarray]
    cpu: dict[str, np.ndarray]
    load: np.ndarray
    stolen: np.ndarray
    yardstick: np.ndarray
    latency_time: np.ndarray
    latency: np.ndarray
    poses: int
    restarts: dict[str, int]
    duration: float
    asked: float

    @property
    def warm_up(self) -> float:
        """s at the beginning that are not compared; what memory is compared over lasts as long."""
        return _warm_up(self.duration)

    def memory(self, node: str, private: bool = False) -> tuple[float, float, float]:
        """Bytes: the first value, the median after the warm-up and the median at the end."""
        values = (self.private if private else self.rss)[node]
        first = (self.time >= self.warm_up) & (self.time < 2.0 * self.warm_up)
        last = self.time >= self.duration - self.warm_up
        known = values[np.isfinite(values)]
        begin = float(known[0]) if len(known) else float("nan")
        return begin, _median(values[first]), _median(values[last])

    def growth(self, node: str, private: bool = False) -> float:
        """Memory at the end relative to that after the warm-up, less 1."""
        _, first, last = self.memory(node, private)
        return last / first - 1.0

    def processor(self, node: str, begin: float, end: float) -> float:
        """Part of one processor that a process used from `begin` to `end` s; NaN where it was not there throughout."""
        return self._rate(self.cpu[node], begin, end)

    def stolen_part(self, begin: float, end: float) -> float:
        """Processors that the hypervisor gave to others, on average from `begin` to `end` s."""
        return self._rate(self.stolen, begin, end)

    def _rate(self, total: np.ndarray, begin: float, end: float) -> float:
        begin, end = np.clip((begin, end), *self.time[[0, -1]])  # nobody looked beyond
        around = slice(max(np.searchsorted(self.time, begin) - 1, 0), np.searchsorted(self.time, end) + 1)
        if begin == end or not np.all(np.diff(total[around]) >= 0.0):  # away, or another process meanwhile
            return float("nan")
        first, last = np.interp((begin, end), self.time, total)
        return float((last - first) / (end - begin))

    def work_time(self, begin: float, end: float) -> float:
        """Median processor time in s of the yardstick from `begin` to `end` s."""
        return _median(self.yardstick[(self.time >= begin) & (self.time < end)])

    def percentiles(self, begin: float, end: float) -> tuple[float, float, float]:
        """p50, p95 and p99 in s of the latencies from `begin` to `end` s; NaN where there are none."""
        values = self.latency[(self.latency_time >= begin) & (self.latency_time < end)]
        return tuple(np.percentile(values, (50, 95, 99)).tolist()) if len(values) else (float("nan"),) * 3

    @property
    def parts(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """(begin, end) in s of what latency is compared over: after the warm-up, and at the end."""
        span = _PART * self.duration
        return (self.warm_up, self.warm_up + span), (self.duration - span, self.duration)

    @property
    def p99(self) -> tuple[float, float]:
        """s, after the warm-up and at the end."""
        first, last = self.parts
        return self.percentiles(*first)[2], self.percentiles(*last)[2]

    @property
    def failures(self) -> list[str]:
        """What was not as it should be; empty when passed."""
        found = [f"ended after {self.duration:.0f} of {self.asked:.0f} s"] if self.duration < self.asked else []
        for node in self.rss:
            growth = max(self.growth(node), self.growth(node, private=True), key=_nan_is_most)
            if node != OBSERVER and not growth < _MOST_GROWTH:
                found.append(f"{node}'s memory grew by {100 * growth:.1f} %")
        first, last = self.p99
        if not (last < _MOST_DRIFT * first or last - first < _LEAST_DRIFT):
            found.append(f"p99 went from {1e3 * first:.1f} to {1e3 * last:.1f} ms")
        return found + [f"{node} was restarted {count} times" for node, count in self.restarts.items() if count]


def _warm_up(duration: float) -> float:
    return min(_WARM_UP, duration / 12.0)


def _median(values: np.ndarray) -> float:
    return float(np.nanmedian(values)) if np.isfinite(values).any() else float("nan")


def _nan_is_most(value: float) -> float:
    return np.inf if np.isnan(value) else value


def run_soak(
    duration: float,
    forecaster: str,
    hand: str,
    rate: float,
    settings: list[str],
    folder: Path | None = None,
    on_progress: Callable[[SessionState], None] = lambda state: None,
) -> SoakResult:
    """Both hands at `rate` Hz, 3 hypotheses, simulated robot, recording into `folder` (a temporary one when None).

    One that is interrupted is judged as far as it went, and has not passed. Raises `UserError` for nodes that do not
    start.
    """
    if not 0.0 < rate <= 1000.0:
        raise UserError(f"--rate {rate:g}: expected more than 0 and at most 1000 Hz")
    played = dict(source="synthetic", images=False, pose_rate=float(rate), duration=_SCENE, loop=True, autostart=False)
    with tempfile.TemporaryDirectory(prefix="egohand_soak_") as work, private_domain() as domain:
        arguments = {"tracker": "external", "forecaster": forecaster, "hand": hand, "sim": "true"}
        plans = plan_nodes(arguments | {"record": str(folder or Path(work) / "bag")})
        robot = [f"retargeter.{name}" for name in ("start_enabled=true", "command_rate=200.0")]
        hypotheses = [] if forecaster != "kalman" else ["forecaster.hypotheses=3"]
        plans = set_parameters([*plans, NodePlan("player", played)], [*robot, *hypotheses, *settings])
        check_plans(plans, settings)
        sampler = _Sampler(duration, on_progress)
        session = Session(plans, domain, Path(work) / "logs", on_progress=sampler, collect=(*_TOPICS,))
        sampler.watch(session, [plan.name for plan in plans])
        state = session.run()
    if sampler.passed < LEAST_DURATION:
        if state.interrupted:
            raise KeyboardInterrupt
        raise UserError(f"the session ended after {sampler.passed:.0f} s")
    return sampler.result(state)


class _Sampler:
    """Looks at the processes every few seconds, and ends the session when it is time."""

    def __init__(self, duration: float, on_progress: Callable[[SessionState], None]):
        self.passed, self._duration, self._on_progress = 0.0, duration, on_progress
        self._rows: list[tuple[float, float, float, float, dict[str, Usage]]] = []
        self._latencies = _Latencies()
        self._begin: float | None = None
        self._next = 0.0

    def watch(self, session: Session, names: list[str]) -> None:
        """The session, and the nodes in it to look at."""
        self._session, self._names = session, names

    def __call__(self, state: SessionState) -> None:
        self._on_progress(state)
        if state.phase != "running" or self.passed >= self._duration:
            return
        now = time.monotonic()
        if self._begin is None:
            self._begin, self._began = now, time.time()
        self.passed = now - self._begin
        if self.passed >= self._next:
            self._next = self.passed + min(_SAMPLE_PERIOD, 0.25 * _warm_up(self._duration))
            self._rows.append((self.passed, os.getloadavg()[0], stolen_seconds(), _fixed_work(), self._look()))
            self._latencies.take(*(self._session.collected[topic] for topic in _TOPICS))
        if self.passed >= self._duration:
            raise KeyboardInterrupt  # the session then ends in order

    def _look(self) -> dict[str, Usage]:
        """Each node, the processes that it started, and this one."""
        found = {OBSERVER: usage(os.getpid())}
        for name in self._names:
            pid = self._session.pid(name)
            found[name] = usage(pid)
            found |= {f"{name}/{child}": usage(number) for child, number in children(pid).items()}
        return found

    def result(self, state: SessionState) -> SoakResult:
        """What was seen."""
        self._latencies.take(*(self._session.collected[topic] for topic in _TOPICS))
        time, load, stolen, yardstick, looks = zip(*self._rows)
        names = dict.fromkeys(name for look in looks for name in look)
        away = usage(None)
        series = {name: np.array([astuple(look.get(name, away)) for look in looks]).T for name in names}
        rss, private, cpu = ({name: rows[i] for name, rows in series.items()} for i in range(3))
        return SoakResult(
            np.array(time),
            rss,
            private,
            cpu,
            np.array(load),
            np.array(stolen),
            np.array(yardstick),
            np.array(self._latencies.stamps) - self._began,
            np.array(self._latencies.durations),
            state.received["hand_poses"],
            dict(state.respawns),
            min(self.passed, self._duration),
            self._duration,
        )


def _fixed_work() -> float:
    """Processor time in s of a little work that is always the same: what changes is the machine."""
    begin = time.thread_time()
    np.sort(_UNSORTED)
    return time.thread_time() - begin


class _Latencies:
    """Stamps s and latencies s from pose received to command sent, out of the nodes' messages, as two plain arrays."""

    def __init__(self):
        self.stamps, self.durations = array("d"), array("d")
        self._received: dict[tuple[int, int], float] = {}

    def take(self, forecasts: list[bytes], commands: list[bytes]) -> None:
        """Use messages and remove them from their lists."""
        fresh = {}
        for message in _messages(forecasts):
            fresh[message.key] = message.stages["input_age"]
        known = self._received | fresh  # a forecast of the last time may have its command now
        for message in _messages(commands):
            if message.key in known:
                self.stamps.append(message.stamp)
                self.durations.append(message.stages["total"] - known[message.key])
        self._received = fresh


def _messages(collected: list[bytes]) -> list[LatencySample]:
    messages = [parse_latency_msg(deserialize_message(data, Latency)) for data in collected]
    collected.clear()
    return messages
