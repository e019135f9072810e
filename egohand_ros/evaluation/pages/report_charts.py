"""The charts of a session report, each from a `Recording` to SVG text; "" where there is nothing to show."""

import numpy as np

from ...hand.skeleton import SIDES, WRIST
from ...robot.hands.model import HandModel
from ..recording import Recording
from ..session import (
    EXTRAPOLATED,
    MEASURED,
    actual_hands,
    end_to_end,
    fixed_frame_hands,
    hand_of,
)
from .svg import Chart, data_range

AHEAD = 0.5  # s; the forecast that the path charts show
_NINETY = 1.645  # standard deviations on either side that hold 90 % of a normal distribution
_HIGHEST = 8.0  # a chart with a band is at most so much higher than without
_LEFT = 60.0  # px; room for numbers of many digits beside the label
_TAIL_PERIOD = 0.6  # s between the forecasts drawn from above
_AXES = ("x", "y", "z")


def driving_side(recording: Recording) -> int:
    """The side that drives the robot where it is forecast, otherwise the one that is forecast most: 0 left, 1 right."""
    seen = [np.isfinite(f.keypoints[0, 0, :, WRIST, 0]) for f in recording.forecasts if len(f.step_times)]
    counts = np.sum(seen, axis=0) if seen else np.array([0, 1])
    hand, side = hand_of(recording), recording.session.get("options", {}).get("side")
    if hand is not None:
        chosen = SIDES.index(side if side in SIDES else hand.side)
        return chosen if counts[chosen] else int(counts.argmax())
    return int(counts.argmax())


def horizon_chart(scores: dict) -> str:
    """Wrist error over the time ahead, live forecasts and persistence."""
    errors = {name: np.array(values, dtype=float) * 1e3 for name, values in scores.get("wrist_error_m", {}).items()}
    if not errors or not any(np.isfinite(values).any() for values in errors.values()):
        return ""
    times = np.array(scores["step_times_s"])
    top = max(np.nanmax(values) for values in errors.values())
    chart = Chart((0.0, times[-1]), (0.0, 1.1 * top), 520, 260, "seconds ahead", "wrist error [mm]")
    for name, values in errors.items():
        style = "muted" if name == "persistence" and len(errors) > 1 else "b"
        chart.line(np.concatenate([[0.0], times]), np.concatenate([[0.0], values]), style, 2.2).dots(
            times, values, style
        )
    return chart.svg()


def path_charts(recording: Recording) -> list[str]:
    """x, y and z of one wrist over time: measured, and as forecast `AHEAD` before, with its 90 % band."""
    forecasts = [f for f in recording.forecasts if len(f.step_times)]
    if not forecasts or recording.hands is None:
        return []
    side, start = driving_side(recording), recording.play_start
    step = int(np.argmin(np.abs(forecasts[0].step_times - AHEAD)))
    forecasts = [f for f in forecasts if len(f.step_times) > step]
    hands = fixed_frame_hands(recording, forecasts[0].frame)
    times, actual = _measured_wrist(recording, hands, side)
    due = np.array([f.stamp + f.step_times[step] for f in forecasts])
    predicted = np.array([f.keypoints[0, step, side, WRIST] for f in forecasts])
    std = np.array([f.std[0, step, side, WRIST] for f in forecasts])
    due, predicted, std = _with_breaks(due, predicted, std)
    charts = []
    for axis, name in enumerate(_AXES):
        limits, is_cut = _range_with_band(actual[:, axis], predicted[:, axis], _NINETY * std)
        last = axis == len(_AXES) - 1
        chart = Chart(
            (0.0, times[-1] - start),
            limits,
            960,
            150 if last else 122,
            "time [s]" if last else "",
            f"{name} [m]",
            ticks=(10, 3),
            x_ticks=last,
        )
        _bands(chart, due - start, predicted[:, axis], _NINETY * std, limits)
        chart.line(times - start, actual[:, axis], "a", 2.0)
        chart.line(due - start, np.clip(predicted[:, axis], *limits), "b", 1.3)
        if is_cut:
            chart.text(
                0.01 * (times[-1] - start), limits[1] - 0.12 * (limits[1] - limits[0]), "the band goes on outside"
            )
        charts.append(chart.svg())
    return charts


def plan_chart(recording: Recording) -> str:
    """Both wrists from above (or as the camera sees them), measured paths with forecasts as tails."""
    forecasts = [f for f in recording.forecasts if len(f.step_times)]
    if not forecasts or recording.hands is None:
        return ""
    in_world = recording.camera is not None and forecasts[0].frame == recording.camera.frame
    hands = fixed_frame_hands(recording, forecasts[0].frame)
    has_camera = recording.camera_matrix is not None or len(recording.image_stamps) > 0
    # From above with the person at the bottom (world: x forward, y left); the camera's own view (y down);
    # without any camera the frame's own axes.
    across, along = (
        (lambda p: -p[..., 1], lambda p: p[..., 0])
        if in_world
        else (lambda p: p[..., 0], (lambda p: -p[..., 1]) if has_camera else (lambda p: p[..., 1]))
    )
    paths = [_measured_wrist(recording, hands, side)[1] for side in range(2)]
    joined = np.concatenate(paths)
    width, height = 520.0, 420.0
    x_range, y_range = _square(data_range(across(joined)), data_range(along(joined)), (width - 56) / (height - 44))
    labels = ("to the right [m]", "forward [m]") if in_world else ("image right [m]", "image up [m]")
    if not (in_world or has_camera):
        labels = (f"x of {forecasts[0].frame} [m]", f"y of {forecasts[0].frame} [m]")
    chart = Chart(x_range, y_range, width, height, *labels, ticks=(5, 5), left=_LEFT)
    for path in paths:
        chart.line(across(path), along(path), "a", 1.6)
    last = -np.inf
    for forecast in forecasts:
        if forecast.stamp - last < _TAIL_PERIOD:
            continue
        last = forecast.stamp
        here, seen = actual_hands(hands, np.array([forecast.stamp]))
        for side in range(2):
            tail = forecast.keypoints[0, :, side, WRIST]
            if seen[0, side, WRIST] and np.isfinite(tail).all():
                tail = np.concatenate([here[0, side, WRIST][None], tail])
                chart.line(across(tail), along(tail), "b", 1.3).dots(across(tail[:1]), along(tail[:1]), "b", 1.8)
    for side, path in enumerate(paths):
        known = path[np.isfinite(path[:, 0])]
        if len(known):
            lowest = along(known).min() - 0.05 * (y_range[1] - y_range[0])
            chart.text(float(np.median(across(known))), float(lowest), SIDES[side], "middle")
    return chart.svg()


def latency_chart(recording: Recording) -> str:
    """Histogram of pose received -> command sent."""
    values = end_to_end(recording) * 1e3
    if len(values) < 5:
        return ""
    p50, p95, p99 = np.percentile(values, (50, 95, 99))
    top = max(1.25 * p99, 1.0)
    heights, edges = np.histogram(np.minimum(values, top), bins=48, range=(0.0, top))
    chart = Chart((0.0, top), (0.0, heights.max() * 1.15), 520, 240, "pose received to command sent [ms]", "poses")
    chart.bars(edges, heights, "a")
    for row, (name, value) in enumerate((("p50", p50), ("p95", p95), ("p99", p99))):
        chart.upright(value, f"{name} {value:.1f} ms", row=row)
    return chart.svg()


def latency_over_time(recording: Recording) -> str:
    """Pose received -> command sent of every pose over the session."""
    stamps, values = end_to_end(recording, with_stamps=True)
    if len(values) < 5:
        return ""
    values = values * 1e3
    limits = (0.0, max(1.1 * values.max(), 1.0))
    chart = Chart((0.0, recording.play_end - recording.play_start), limits, 520, 170, "time [s]", "ms", ticks=(8, 3))
    return chart.dots(stamps - recording.play_start, values, "a", 1.4).svg()


def timeline_chart(recording: Recording) -> str:
    """When each hand was measured, extrapolated or not seen, and when forecasts and commands came."""
    hands = recording.hands
    if hands is None:
        return ""
    start, end = recording.play_start, recording.play_end
    rows = {3.5: "left", 2.5: "right", 1.5: "forecasts", 0.5: "commands"}
    chart = Chart((0.0, end - start), (0.0, 4.0), 960, 140, "time [s]", ticks=(12, 4), left=74.0).row_labels(rows)
    for side, height in ((0, 3.5), (1, 2.5)):
        for state, style in ((MEASURED, "good"), (EXTRAPOLATED, "warm")):
            begins, ends = _runs(hands.stamp, hands.state[:, side] == state)
            chart.spans(begins - start, ends - start, height - 0.32, height + 0.32, style)
    stamps = np.array([f.received for f in recording.forecasts])
    for stamp, height, style in (
        (stamps, 1.5, "b"),
        (recording.targets.stamp if recording.targets else np.zeros(0), 0.5, "a"),
    ):
        if len(stamp):
            begins, ends = _runs(stamp, np.ones(len(stamp), dtype=bool))
            chart.spans(begins - start, ends - start, height - 0.32, height + 0.32, style)
    return chart.svg()


def joint_charts(recording: Recording, hand: HandModel | None) -> list[str]:
    """One small chart a joint: commanded and measured position with the limits."""
    targets, measured = recording.targets, recording.measured
    if targets is None:
        return []
    start, charts = recording.play_start, []
    span = (0.0, recording.play_end - start)
    for i, name in enumerate(targets.names):
        lower, upper = (hand.lower[i], hand.upper[i]) if hand is not None else data_range(targets.q[:, i])
        chart = Chart(
            span, (lower - 0.06 * (upper - lower), upper + 0.06 * (upper - lower)), 300, 130, title=name, ticks=(4, 3)
        )
        if hand is not None:
            chart.level(lower).level(upper)
        shown = measured is not None and name in measured.names
        chart.line(targets.stamp - start, targets.q[:, i], *(("under", 5.0) if shown else ("b", 1.4)))
        if shown:
            chart.line(measured.stamp - start, measured.q[:, measured.names.index(name)], "a", 1.1)
        charts.append(chart.svg())
    return charts


def _measured_wrist(recording: Recording, hands, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Times (T,) s and wrist (T, 3) m of what was measured, NaN where not."""
    times = hands.stamp[np.concatenate([[True], np.diff(hands.stamp) > 0])]
    keypoints, seen = actual_hands(hands, times)
    return times, np.where(seen[:, side, WRIST, None], keypoints[:, side, WRIST], np.nan)


def _with_breaks(due: np.ndarray, *values: np.ndarray) -> tuple[np.ndarray, ...]:
    """NaN put in where forecasts were missing for a while, so that lines break there."""
    gaps = np.flatnonzero(np.diff(due) > 0.25) + 1
    return (np.insert(due, gaps, np.nan), *(np.insert(v, gaps, np.nan, axis=0) for v in values))


def _bands(chart: Chart, times: np.ndarray, middle: np.ndarray, half: np.ndarray, limits: tuple[float, float]) -> None:
    """The band in the stretches where it is known."""
    known = np.isfinite(middle) & np.isfinite(half) & np.isfinite(times)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], known.astype(int), [0]])))
    for begin, end in zip(edges[::2], edges[1::2]):
        part = slice(begin, end)
        chart.area(
            times[part], np.clip(middle[part] - half[part], *limits), np.clip(middle[part] + half[part], *limits), "b"
        )


def _range_with_band(actual: np.ndarray, predicted: np.ndarray, half: np.ndarray) -> tuple[tuple[float, float], bool]:
    """Limits, and whether the band is cut off there: where else what was measured would become a flat line."""
    robust, whole = _robust_range(actual, predicted), data_range(actual, predicted, predicted - half, predicted + half)
    low, high = min(robust[0], whole[0]), max(robust[1], whole[1])
    most = _HIGHEST * (robust[1] - robust[0])
    if high - low <= most:
        return (low, high), False
    middle = (robust[0] + robust[1]) / 2
    return (middle - most / 2, middle + most / 2), True


def _robust_range(actual: np.ndarray, predicted: np.ndarray) -> tuple[float, float]:
    """All that was measured, and 98 % of what was forecast: a single overshoot must not flatten the rest."""
    known = predicted[np.isfinite(predicted)]
    return data_range(actual, np.percentile(known, (1, 99)) if len(known) else known, margin=0.1)


def _square(
    x: tuple[float, float], y: tuple[float, float], aspect: float
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Ranges widened so that a metre is as long on both axes, with some air."""
    width = max(x[1] - x[0], (y[1] - y[0]) * aspect) * 1.15
    height = width / aspect
    cx, cy = (x[0] + x[1]) / 2, (y[0] + y[1]) / 2
    return (cx - width / 2, cx + width / 2), (cy - height / 2, cy + height / 2)


def _runs(stamp: np.ndarray, where: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Begin and end times of the runs of true; a silence of four periods ends one."""
    if not len(stamp) or not where.any():
        return np.zeros(0), np.zeros(0)
    period = float(np.median(np.diff(stamp))) if len(stamp) > 1 else 0.03
    index = np.flatnonzero(where)
    breaks = np.flatnonzero((np.diff(index) > 1) | (np.diff(stamp[index]) > 4 * period)) + 1
    parts = np.split(index, breaks)
    return np.array([stamp[p[0]] for p in parts]), np.array([stamp[p[-1]] + period for p in parts])
