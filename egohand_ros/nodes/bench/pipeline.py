"""How fast the pipeline is: real forecaster and retargeter processes, fed over DDS with synthetic hand poses and
images.

What is timed, for each observation that led to a command of its own, by the nodes themselves:

- pose received -> command sent: from the forecaster's callback that gets the hands to the publishing of the command.
- image received -> command sent: the same from the callback that got the newest image of the window, so that decoding,
  resizing and the wait for the hands count. The player's tracker takes no time: hands go out right behind their image.
- image due -> command sent: from the time at which the player should publish the image, so that its own lateness, the
  way through the middleware and the wait before the callback count as well.
"""

import os
import signal
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rclpy.serialization import deserialize_message

from ...errors import UserError
from ...messages.cdr import stamp_of
from ...messages.status import LatencySample, parse_latency_msg
from ...msg import Latency
from ...viewer.server import free_port
from ..player.synthetic import IMAGE_DELAY
from ..session.checks import check_plans
from ..session.plan import NodePlan, plan_nodes, set_parameters
from ..session.processes import private_domain
from ..session.session import Session, SessionState
from .visitor import Visitor

_LATENCY_TOPICS = ("forecaster/debug/latency", "retargeter/debug/latency")
# What may befall the viewer in the middle, besides nothing.
VIEWER_FAULTS = {"freeze": signal.SIGSTOP, "kill": signal.SIGKILL}

_WARM_UP = 1.0  # s at the beginning that do not count: caches, CPU frequency, the hand on its way from rest


@dataclass(frozen=True)
class PipelineResult:
    """Latencies (N,) s from pose received to command sent with the poses' stamps (N,) s since the start, and the rest.

    image_latency (N,) s from image received, image_due_latency (N,) s from image due to command sent: NaN where a
    window had no image, None without images.
    stages maps "node/stage" to samples in s; intervals (M,) s between commands; cpu maps nodes to parts of one core.
    """

    stamp: np.ndarray
    latency: np.ndarray
    stages: dict[str, np.ndarray]
    intervals: np.ndarray
    poses: int
    forecasts: int
    cpu: dict[str, float]
    image_latency: np.ndarray | None = None
    image_due_latency: np.ndarray | None = None

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
    images: bool = False,
    pages: int | None = None,
    viewer_fault: str | None = None,
) -> PipelineResult:
    """Run forecaster and retargeter for `duration` s at `rate` Hz, of hands, and with `images` also of rgb8 images of
    640x480 px. With `pages` the viewer runs as well, and so many visitors have its page open; a `viewer_fault` of
    `VIEWER_FAULTS` befalls it after a third of the time.

    Raises `UserError` when a node does not start, and with images for a forecaster that looks at none.
    """
    played = {
        "source": "synthetic",
        "images": images,
        "image_rate": float(rate),
        "tracker_latency": 0.0 if images else 0.03,
        "pose_rate": float(rate),
        "duration": float(duration),
        "autostart": False,
    }
    plans = plan_nodes({"tracker": "external", "forecaster": forecaster, "hand": hand})
    robot = [f"retargeter.{name}" for name in ("start_enabled=true", "joint_states_timeout=0.0")]
    port = free_port()
    plans += [] if pages is None else [NodePlan("viewer", {"hand": hand, "port": port})]
    plans = set_parameters([*plans, NodePlan("player", played)], [*robot, *settings])
    check_plans(plans, settings)
    with tempfile.TemporaryDirectory(prefix="egohand_bench_") as logs, private_domain() as domain, ExitStack() as open_:
        audience = _Audience(on_progress, open_, port, pages or 0, viewer_fault, duration / 3.0)
        session = audience.session = Session(
            plans,
            domain,
            Path(logs),
            on_progress=audience,
            collect=(*_LATENCY_TOPICS, "hand_poses", "joint_targets"),
        )
        state = session.run()
    if state.interrupted:
        raise KeyboardInterrupt
    return _result(session, state, forecaster if images else "")


class _Audience:
    """Progress as before, and visitors who open the page as soon as it is there, until `opened` is closed; what befalls
    the viewer does so `after` s, once, when they have."""

    session: Session

    def __init__(
        self,
        on_progress: Callable[[SessionState], None],
        opened: ExitStack,
        port: int,
        pages: int,
        fault: str | None,
        after: float,
    ):
        self._on_progress, self._opened, self._port, self._pages = on_progress, opened, port, pages
        self._visitors: list[Visitor] = []
        self._fault, self._after, self._running_since = fault, after, np.inf

    def __call__(self, state: SessionState) -> None:
        self._on_progress(state)
        if state.phase != "running":
            return
        self._running_since = min(self._running_since, time.monotonic())
        with suppress(OSError):  # the session does not wait for the viewer
            while len(self._visitors) < self._pages:
                self._visitors.append(self._opened.enter_context(Visitor(self._port)))
        pid = self.session.pid("viewer")
        if self._fault and pid is not None and time.monotonic() > self._running_since + self._after:
            os.kill(pid, VIEWER_FAULTS[self._fault])
            self._fault, self._pages = None, 0


def _result(session: Session, state: SessionState, seeing: str) -> PipelineResult:
    forecaster, retargeter = (
        [parse_latency_msg(deserialize_message(d, Latency)) for d in session.collected[t]] for t in _LATENCY_TOPICS
    )
    first = min((m.stamp for m in forecaster), default=0.0) + _WARM_UP
    known = {m.key: m.stages for m in forecaster if m.stamp >= first}
    if seeing and not any("image_age" in stages for stages in known.values()):
        raise UserError(f"forecaster {seeing!r} looked at no image; leave --images out, or give one that does")
    done = [m for m in retargeter if m.key in known]
    total = np.array([m.stages["total"] for m in done])
    latency = total - np.array([known[m.key]["input_age"] for m in done])
    waited = np.array([known[m.key].get("image_age", np.nan) for m in done])  # from the image to the hands
    sent = np.array([stamp_of(data) for data in session.collected["joint_targets"]])
    wall = max(state.wall_seconds, 1e-9)
    return PipelineResult(
        stamp=np.array([m.stamp - first + _WARM_UP for m in done]),
        latency=latency,
        stages=_samples("forecaster", forecaster, first) | _samples("retargeter", retargeter, first),
        intervals=np.diff(sent[sent >= first]) if len(sent) else np.zeros(0),
        poses=sum(stamp_of(data) >= first for data in session.collected["hand_poses"]),
        forecasts=len(known),
        cpu={name: seconds / wall for name, seconds in state.cpu_seconds.items()},
        image_latency=latency + waited if seeing else None,
        image_due_latency=np.where(np.isnan(waited), np.nan, total - IMAGE_DELAY) if seeing else None,
    )


def _samples(node: str, messages: list[LatencySample], first: float) -> dict[str, np.ndarray]:
    rows = [m.stages for m in messages if m.stamp >= first]
    stages = dict.fromkeys(stage for row in rows for stage in row)
    return {f"{node}/{stage}": np.array([row[stage] for row in rows if stage in row]) for stage in stages}
