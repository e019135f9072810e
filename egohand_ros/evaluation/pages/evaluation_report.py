"""`write_evaluation_report`: an evaluation as one self-contained HTML page."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from zlib import crc32

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ...outputs import write_text
from ..metric_sets import shown
from ..protocol import Result, Score
from .overlays import Picture
from .svg import Chart

# Colours of lines in the page, s0 to s11. These have their own on every page, the others one of what is left.
_STYLES = 12
_OWN = ("persistence", "static", "cvm", "damped", "kalman", "egohand-small", "egohand-follow")


def write_evaluation_report(
    result: Result, path: Path | str, pictures: Sequence[Picture] = (), made: Mapping[str, str] | None = None
) -> None:
    """Write the page, with pictures of forecasts and how it was `made` (version, date, command); its folder is made.
    Raises `UserError` where that is not possible."""
    write_text(path, render(result, pictures, made))


def styles(names: Sequence[str]) -> dict[str, str]:
    """A class of lines for each forecaster, by its name and not by its place among the others."""
    chosen = {name: f"s{_OWN.index(name)}" for name in names if name in _OWN}
    taken, free = set(), range(len(_OWN), _STYLES)
    for name in sorted(set(names) - set(_OWN)):
        wanted = crc32(name.encode()) % len(free)
        number = next((n for i in range(len(free)) if (n := free[(wanted + i) % len(free)]) not in taken), free[wanted])
        taken.add(number)
        chosen[name] = f"s{number}"
    return {name: chosen[name] for name in names}


def render(result: Result, pictures: Sequence[Picture] = (), made: Mapping[str, str] | None = None) -> str:
    """The page as text."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    names, moved = list(result.scores), result.ego_motion
    return environment.get_template("evaluation_report.html.j2").render(
        protocol=result.protocol,
        windows=result.windows,
        names=styles(names),
        made={
            **(made or {}),
            **{f"weights of {name}": model for name, model in result.models.items() if model != name},
        },
        summary=_table(result.scores, list(result.protocol.metrics)),
        more=_table(result.scores, _extra_metrics(result)),
        moved=moved,
        moved_summary=None if moved is None else _table(moved.scores, list(result.protocol.metrics)),
        pictures=pictures,
        charts=[
            _chart(result, kind, label)
            for kind, label in (("ADE", "wrist error"), ("MPJPE", "wrist-relative error"))
            if f"{kind} at {result.protocol.step_times()[0]:g} s" in result.scores[names[0]].metrics
        ],
        episodes={
            label: (scores[names[0]].windows, _table(scores, list(result.protocol.metrics)))
            for label, scores in result.by_episode.items()
        },
        left_out={name: score.not_forecast for name, score in result.scores.items() if score.not_forecast},
    )


def _extra_metrics(result: Result) -> list[str]:
    """Metrics beyond the protocol's, but for those of single steps, which the charts show."""
    keys = dict.fromkeys(key for score in result.scores.values() for key in score.metrics)
    return [key for key in keys if key not in result.protocol.metrics and " at " not in key]


def _table(scores: dict[str, Score], keys: list[str]) -> dict:
    """Columns and rows of texts, each metric in its unit; the best of each column is marked."""
    values = {name: list(score.values(keys).values()) for name, score in scores.items()}
    least = [min((v for v in column if math.isfinite(v)), default=math.nan) for column in zip(*values.values())]
    rows = {
        name: [
            (_text(key, value), value == best and "coverage" not in key) for key, value, best in zip(keys, row, least)
        ]
        for name, row in values.items()
    }
    columns = [key + ("" if shown(key)[1] in ("mm", "%") else f", {shown(key)[1]}") for key in keys]
    return {"columns": columns, "rows": rows}


def _text(key: str, value: float) -> str:
    if not math.isfinite(value):
        return "–"
    scale, unit = shown(key)
    return f"{scale * value:.1f} %" if unit == "%" else f"{scale * value:.1f}"


def _chart(result: Result, kind: str, label: str) -> str:
    """Error over the time ahead, one line a forecaster."""
    times = result.protocol.step_times()
    lines = {
        name: [1e3 * score.metrics[f"{kind} at {t:g} s"].value for t in times] for name, score in result.scores.items()
    }
    top = max((v for line in lines.values() for v in line if math.isfinite(v)), default=1.0)
    chart = Chart((0.0, times[-1]), (0.0, 1.05 * top), 520, 280, "seconds ahead", f"{label} [mm]")
    for name, style in styles(list(lines)).items():
        chart.line(times, lines[name], style, 2.2).dots(times, lines[name], style)
    return chart.svg()
