"""What `egohand run` shows while a session runs, and after it."""

import math
from contextlib import ExitStack, nullcontext

from rich.console import Console
from rich.table import Table

from ..evaluation.verdict import BAD, DOUBTFUL, GOOD, Verdict
from ._heartbeat import HEARTBEAT

_PHASES = {
    "starting": "starting nodes",
    "connecting": "connecting nodes",
    "stopping": "stopping nodes",
    "scoring": "scoring what was recorded",
    "writing": "writing metrics and report",
}
_COLOURS = {GOOD: "bold green", DOUBTFUL: "bold yellow", BAD: "bold red"}


class SessionProgress:
    """One line that changes; in a log, one line every few seconds. Call it with the session's state.

    It goes on after the session's last state, until all is scored and written.
    """

    def __init__(self):
        self._console = Console(stderr=True)
        self._status = self._console.status("starting") if self._console.is_terminal else nullcontext()
        self._text = lambda: "starting"
        self._phase = "starting"
        self._stack = ExitStack()

    def __enter__(self) -> "SessionProgress":
        self._line = self._stack.enter_context(self._status)
        self._stack.enter_context(HEARTBEAT.doing(lambda: self._text(), live=self._line is not None))
        return self

    def __exit__(self, *error) -> None:
        self._stack.__exit__(*error)

    def __call__(self, state) -> None:
        self._text = lambda: progress_text(state)  # as it is when asked: nodes are stopped without a call
        if self._line is not None:
            self._line.update(self._text())
        elif state.phase != self._phase:
            HEARTBEAT.say(self._text())
        self._phase = state.phase


def progress_text(state) -> str:
    """The line for a session's state."""
    if state.phase != "running":
        return _PHASES.get(state.phase, state.phase)
    player, received = state.player, state.received
    published = player.get("published", {})
    frames = max(published.get("image", 0), published.get("image/compressed", 0))
    parts = [f"{player.get('position', 0.0):5.1f} / {player.get('duration', 0.0):.1f} s"]
    parts += [f"{frames} frames"] if frames else []
    parts += [
        f"{received['hand_poses']} poses",
        f"{received['hand_forecasts']} forecasts",
        f"{received['joint_commands']} commands",
    ]
    if math.isfinite(state.latency_p95_ms):
        parts.append(f"camera to command p95 {state.latency_p95_ms:.1f} ms")
    if state.respawns:
        parts.append("restarted " + ", ".join(f"{name} x{count}" for name, count in state.respawns.items()))
    return "  ".join(parts)


def print_summary(metrics: dict, outputs) -> None:
    """The figures that one wants to see first, and where the rest is."""
    console = Console()
    verdict = Verdict.of(metrics)
    table = Table(box=None, show_header=False, pad_edge=False)
    for row in verdict.rows():
        table.add_row(*row)
    end_to_end = metrics["latency_ms"].get("end_to_end")
    if end_to_end and not verdict.facts.offline:  # time stands still there while a node works
        table.add_row("pose to command", "p50 {p50:.2f}  p95 {p95:.2f}  p99 {p99:.2f} ms".format(**end_to_end))
    for name, errors in metrics["forecast"]["forecasters"].items():
        shown = "  ".join(
            f"{key} {errors[key] * 1e3:.1f}" for key in ("ADE", "FDE", "MPJPE") if errors[key] is not None
        )
        table.add_row(f"error of {name}", f"{shown} mm" if shown else "nothing to compare with")
    table.add_row("limit violations", _violations(metrics))
    restarted = {name: node["respawns"] for name, node in metrics["nodes"].items() if node["respawns"]}
    if restarted:
        table.add_row("restarted", ", ".join(f"{name} x{count}" for name, count in restarted.items()))
    console.print(table)
    print_verdict(verdict)
    for label, path in (("recording", outputs.record), ("metrics", outputs.metrics), ("report", outputs.report)):
        if path:
            console.print(f"{label}: {path}", highlight=False, soft_wrap=True)


def print_verdict(verdict: Verdict) -> None:
    """One line in the verdict's colour; what else speaks against good below it."""
    console = Console()
    console.print(verdict.headline, style=_COLOURS[verdict.level], highlight=False, markup=False, soft_wrap=True)
    for reason in verdict.reasons[1:]:
        console.print(f"  {reason}", style=_COLOURS[verdict.level], highlight=False, markup=False, soft_wrap=True)


def _violations(metrics: dict) -> str:
    if metrics["limit_violations"] is None:
        return "no command to check"
    return f"{metrics['limit_violations']} in {metrics['limits']['checked_commands']} commands"
