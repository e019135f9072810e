"""`write_report`: one self-contained HTML page about a recorded session. Needs no network to be read."""

from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ...outputs import write_text
from ..recording import Recording, read_recording
from ..session import hand_of, score_session
from ..verdict import GOOD, Verdict
from . import report_charts as charts
from .report_frames import key_frames

_CLOCKS_ARE_SET = 1e9  # s since 1970; earlier times are no dates
_STAGE_NAMES = {
    "end_to_end": "hand pose received → joint command sent",
    "input_age": "age of the input when processing began",
    "wait": "waiting for the worker",
    "total": "from acquisition to published",
}


def write_report(recording: Recording | Path | str, path: Path, metrics: dict | None = None) -> None:
    """Write the page; `metrics` as `score_session` gives them, computed when not given. Raises `UserError` for a broken
    bag.
    """
    if not isinstance(recording, Recording):
        recording = read_recording(recording)
    metrics = metrics or score_session(recording)
    write_text(path, render(recording, metrics))


def render(recording: Recording, metrics: dict) -> str:
    """The page as text."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"mm": _millimetres, "ms": lambda v: f"{v:.2f}" if v < 10 else f"{v:.1f}"}
    hand, frames, verdict = hand_of(recording), key_frames(recording), Verdict.of(metrics)
    return environment.get_template("report.html.j2").render(
        title=_title(recording),
        subtitle=_subtitle(recording),
        verdict=verdict,
        tiles=_tiles(recording, metrics, verdict.level == GOOD),
        frames=frames,
        has_robot=any(frame.robot for frame in frames),
        has_camera=any(frame.camera for frame in frames),
        offline=verdict.facts.offline,
        metrics=metrics,
        model=_model(recording),
        side=("left", "right")[charts.driving_side(recording)],
        ahead=charts.AHEAD,
        horizon=charts.horizon_chart(metrics["forecast"]),
        paths=charts.path_charts(recording),
        plan=charts.plan_chart(recording),
        latency=charts.latency_chart(recording),
        latency_times=charts.latency_over_time(recording),
        latency_rows=_latency_rows(metrics["latency_ms"]),
        timeline=charts.timeline_chart(recording),
        joints=charts.joint_charts(recording, hand),
        hand=hand,
        has_measured=recording.measured is not None,
        facts=_facts(recording, metrics),
        prompt=recording.prompt,
    )


def _title(recording: Recording) -> str:
    options = recording.session.get("options", {})
    if options.get("video"):
        return Path(options["video"]).name
    if options.get("bag"):
        return f"Replay of {Path(options['bag']).name}"
    return "Synthetic session" if options.get("synthetic") else recording.path.name


def _subtitle(recording: Recording) -> str:
    options = recording.session.get("options", {})
    # A replay's messages have the times of its recording; a recording of episodes begins with zero.
    began = recording.session.get("started", recording.start)
    day = datetime.fromtimestamp(began, tz=UTC).strftime(" · %d %B %Y, %H:%M UTC") if began > _CLOCKS_ARE_SET else ""
    hand = options.get("hand", "")
    robot = f" driving {hand}" if hand and hand != "none" else ""
    return f"{_model(recording)} forecasts{robot} · {recording.play_end - recording.play_start:.0f} s{day}"


def _model(recording: Recording) -> str:
    return recording.forecasts[0].model_id if recording.forecasts else recording.forecaster.get("preset", "no")


def _tiles(recording: Recording, metrics: dict, good: bool) -> list[dict[str, str]]:
    """The figures at the top: value, unit, label and whether they are good, bad or neither; no figure of a session that
    did not work is good."""
    counts, tiles = metrics["counts"], []
    if counts["frames"] and "hand_tracker" in recording.latency:
        share = 100.0 * counts["tracked_frames"] / counts["frames"]
        tiles.append(_tile(f"{share:.1f}", "%", f"of {counts['frames']} frames tracked"))
    else:
        tiles.append(_tile(f"{counts['tracked_frames']}", "", "hand poses"))
    tiles.append(_tile(f"{counts['forecasts']}", "", "forecasts"))
    if counts["commands"]:
        tiles.append(_tile(f"{counts['commands']}", "", "joint commands"))
    latency = metrics["latency_ms"].get("end_to_end")
    if latency and not metrics["verdict"]["facts"]["offline"]:  # time stands still there while a node works
        tiles.append(_tile(f"{latency['p95']:.1f}", "ms", "pose to command, p95"))
    errors = metrics["forecast"]["forecasters"]
    model = _model(recording)
    if model in errors and errors[model]["ADE"] is not None:
        own, persistence = errors[model]["ADE"], errors["persistence"]["ADE"]
        label = (
            f"mean wrist error; persistence {persistence * 1e3:.0f} mm"
            if model != "persistence"
            else "mean wrist error"
        )
        tiles.append(_tile(f"{own * 1e3:.0f}", "mm", label, "good" if good and own < persistence else ""))
    violations = metrics["limit_violations"]
    if violations is not None:
        tiles.append(_tile(str(violations), "", "limit violations", "bad" if violations else "good" if good else ""))
    return tiles


def _tile(value: str, unit: str, label: str, mood: str = "") -> dict[str, str]:
    return {"value": value, "unit": unit, "label": label, "mood": mood}


def _latency_rows(latency: dict[str, dict[str, float]]) -> list[dict]:
    rows = []
    for name, values in sorted(latency.items(), key=lambda item: item[0] != "end_to_end"):
        node, _, stage = name.partition("/")
        label = _STAGE_NAMES.get(stage or node, (stage or node).replace("_", " "))
        rows.append({"node": node if stage else "", "stage": label, "total": stage in ("", "total"), **values})
    return rows


def _facts(recording: Recording, metrics: dict) -> list[tuple[str, list[tuple[str, str]]]]:
    """Tables of names and values for the end of the page."""
    session, counts = recording.session, metrics["counts"]
    tables = [("Options", _pairs(session.get("options", {}))), ("Forecaster", _pairs(recording.forecaster))]
    tables.append(("Messages", sorted((topic, str(count)) for topic, count in recording.counts.items() if count)))
    tables.append(("Dropped", [(name, str(number)) for name, number in counts["dropped"].items()]))
    rejected = [(name, str(number)) for name, number in counts["rejected"].items()]
    tables.append(("Rejected inputs", rejected or [("none", "")]))
    nodes = [
        (
            name,
            f"{100 * node['cpu']:.0f} % of a core"
            + (f", restarted {node['respawns']} times" if node["respawns"] else ""),
        )
        for name, node in metrics.get("nodes", {}).items()
    ]
    tables.append(("Nodes", nodes))
    tables.append(("Machine", _pairs(session.get("machine", {})) + _pairs(session.get("versions", {}))))
    return [(name, rows) for name, rows in tables if rows]


def _pairs(values: dict) -> list[tuple[str, str]]:
    return [(str(key).replace("_", " "), str(value)) for key, value in values.items()]


def _millimetres(value: float | None) -> str:
    return "–" if value is None else f"{1e3 * value:.1f}"
