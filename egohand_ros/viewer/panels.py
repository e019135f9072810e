"""`Panels`: the camera's picture, curves and the state of every node beside the scene. Nothing in them can be set."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from ..messages.status import NodeState
from ..robot.hands.model import HandModel
from .feed import Curves
from .shapes import COVERAGE

CAMERA_WIDTH, CHARTS_WIDTH = 420, 380  # px
_CHART_HEIGHT = 110  # px
_JPEG_QUALITY = 80
_BLUE, _ORANGE, _GREEN, _GREY = "#2566c9", "#e8590c", "#2f9e44", "#868e96"
_LEVELS = ("ok", "WARN", "ERROR", "stale")
_NOTHING = np.zeros(1)
_NO_IMAGE = np.full((240, 320, 3), 235, dtype=np.uint8)
_LONGEST_REASON = 120  # characters
_MARKUP = "\\`*_{}[]<>()#|!~$&"


class Panels:
    """Beside the scene of `server`, a viser.ViserServer. `hand` is the robot's, None for none."""

    def __init__(self, server: Any, hand: HandModel | None = None):
        gui, self._hand = server.gui, hand
        left = gui.add_panel()
        with left.add_tab("Camera and nodes"):
            self._picture = gui.add_image(_NO_IMAGE, format="jpeg", jpeg_quality=_JPEG_QUALITY)
            self._told = gui.add_markdown("no image yet")
            self._nodes = gui.add_markdown("no diagnostics yet")
        left.dock_left()
        left.set_width(CAMERA_WIDTH)
        gui.main_panel.dock_right()
        gui.main_panel.set_width(CHARTS_WIDTH)
        self._error = _Chart(
            gui, "wrist error, mean over the horizon [mm]", ("forecast", "persistence"), (_BLUE, _GREY)
        )
        self._coverage = _Chart(gui, f"wrist inside its {COVERAGE:.0%} region [%]", ("inside", "promised"),
                                (_BLUE, _GREY), (0.0, 105.0), legend=False)  # fmt: skip
        self._latency = _Chart(
            gui, "latency [ms]", ("to forecast p50", "p95", "to command p50", "p95"),
            (_GREEN, _GREEN, _ORANGE, _ORANGE), dashed=(1, 3),
        )  # fmt: skip
        count = 0 if hand is None else hand.n
        self._joints = None
        if count:
            self._joints = _Chart(
                gui, "commanded joints, 0 lower and 1 upper limit", tuple(hand.joint_names),
                [_hue(i, count) for i in range(count)], (-0.05, 1.05), legend=False,
            )  # fmt: skip
            self._limits = gui.add_markdown("no command yet")

    def show_picture(self, picture: np.ndarray | None, told: str) -> None:
        """RGB uint8 (H, W, 3), and one line about it; None leaves the one before."""
        if picture is not None:
            self._picture.image = picture
        _say(self._told, told)

    def show_nodes(self, nodes: Iterable[NodeState]) -> None:
        """A table, the worst first."""
        rows = sorted(nodes, key=lambda node: (-node.level, node.name))
        table = ["| node | state | |", "|---|---|---|"]
        for node in rows:
            level = _LEVELS[min(node.level, len(_LEVELS) - 1)]
            reason = "" if node.message == "ok" else plain(node.message)[:_LONGEST_REASON]
            state = f"{node.values.get('state', '')} {'' if node.level == 0 else f'**{level}**'}".strip()
            table.append(f"| {plain(node.name)} | {state} | {reason} |")
        _say(self._nodes, "\n".join(table) if rows else "no diagnostics yet")

    def show_curves(self, curves: Curves) -> None:
        """What is known over time."""
        time, error, persistence, coverage = curves.score
        self._error.show(time, error, persistence)
        known = np.isfinite(coverage)
        self._coverage.show(time[known], coverage[known], np.full(known.sum(), 1e2 * COVERAGE))
        self._show_latency(curves.latency)
        if self._joints is not None:
            self._joints.show(*curves.joints)
            _say(self._limits, self._limits_text(curves.joints[1:]))

    def _show_latency(self, latency: dict[str, np.ndarray]) -> None:
        forecast, command = (latency.get(name) for name in ("pose to forecast", "pose to command"))
        known = [track for track in (forecast, command) if track is not None]
        if not known:
            return
        time = np.unique(np.concatenate([track[0] for track in known]))
        columns = []
        for track in (forecast, command):
            for row in (1, 2):
                columns.append(np.full(len(time), np.nan) if track is None else np.interp(time, track[0], track[row]))
        self._latency.show(time, *columns)

    def _limits_text(self, shares: np.ndarray) -> str:
        if not shares.shape[1] or self._hand is None:
            return "no command yet"
        outside = ((shares < -1e-6) | (shares > 1.0 + 1e-6)).any(axis=1)
        if outside.any():
            names = ", ".join(plain(self._hand.joint_names[i]) for i in np.flatnonzero(outside))
            return f"**outside their limits: {names}**"
        nearest = int(np.argmax(np.abs(shares[:, -1] - 0.5)))
        name, share = plain(self._hand.joint_names[nearest]), shares[nearest, -1]
        return f"all {len(shares)} inside their limits; nearest now {name}, at {share:.2f}"


class _Chart:
    """Curves over time in s."""

    def __init__(
        self,
        gui: Any,
        title: str,
        names: tuple[str, ...],
        colours: Any,
        limits: tuple[float, float] | None = None,
        dashed: tuple[int, ...] = (),
        legend: bool = True,
    ):
        series = [{"label": "s"}] + [
            {"label": name, "stroke": colour, "width": 1.5, "points": {"show": False}}
            | ({"dash": [4.0, 3.0]} if i in dashed else {})
            for i, (name, colour) in enumerate(zip(names, colours))
        ]
        scales = {"x": {"time": False}} | ({"y": {"range": limits}} if limits else {})
        self._count = len(names)
        gui.add_markdown(f"**{title}**")
        self._plot = gui.add_uplot(
            (_NOTHING,) * (1 + self._count), tuple(series), scales=scales, legend={"show": legend}, height=_CHART_HEIGHT
        )

    def show(self, time: np.ndarray, *columns: np.ndarray) -> None:
        if len(time):
            self._plot.data = (time, *columns)


def _say(markdown: Any, text: str) -> None:
    """Only what is new is sent."""
    if markdown.content != text:
        markdown.content = text


def plain(text: str) -> str:
    """A text of others' in Markdown: nothing in it is markup, or a program, which viser's Markdown (MDX) would run."""
    kept = "".join(c if c.isprintable() else " " for c in text)
    return "".join(f"\\{c}" if c in _MARKUP else c for c in kept)


def _hue(index: int, count: int) -> str:
    return f"hsl({round(360 * index / count)}, 65%, 45%)"
