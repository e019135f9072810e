"""What averaging overlapping forecasts does (arXiv 2505.16602, Temporal Orthogonal Filtering): error and jerk of what
is said of the same lead, forecast after forecast, as each comes and averaged with those before it.

In the paper motion is smoother at an equal error.
"""

from collections.abc import Sequence

import numpy as np

from ...data.episode import Episode
from ...data.windows import cut_windows, window_ends
from ...forecast.common.protocol import Forecaster
from ...forecast.live.temporal_filter import TemporalOrthogonalFilter
from ...hand.skeleton import WRIST

NEWEST, AVERAGED, RECENT, REAL = "newest", "averaged, all alike", "averaged, newer ones more", "real motion"
RECENCY = 0.1  # s after which a forecast counts 1/e
_LEADS = (0.2, 0.5, 1.0)  # s
_GRID = 0.02  # s, the node's


def overlapping(forecaster: Forecaster, episodes: Sequence[Episode]) -> dict[str, dict[str, float]]:
    """MPJPE in m over all steps and at some leads, and the wrist's mean jerk in m/s^3 at those, by way."""
    errors: dict[str, list[np.ndarray]] = {}
    jerks: dict[str, list[np.ndarray]] = {}
    spec = forecaster.spec
    leads = [step for step in (round(lead / spec.step) - 1 for lead in _LEADS) if 0 <= step < spec.horizon_steps]
    for episode in episodes:
        ends = window_ends(episode.stamp, spec.step, spec.window_length, spec.horizon_steps)
        cut = cut_windows(episode, ends, spec.step, spec.window_length, spec.horizon_steps)
        forecast, part = forecaster.forecast(cut.window), cut.takes_part()
        times = cut.window.stamp.numpy()[:, None] + forecast.step_times.double().numpy()
        for side in range(2):
            rows = part[:, side].all(-1)
            if not rows.all():  # jerk is that of consecutive ones
                continue
            points = forecast.keypoints[:, 0, :, side].double().numpy()
            turns = forecast.wrist_rotation[:, 0, :, side].double().numpy()
            said = {
                NEWEST: points,
                AVERAGED: _averaged(spec.horizon, times, points, turns, None),
                RECENT: _averaged(spec.horizon, times, points, turns, RECENCY),
                REAL: cut.future[:, :, side],
            }
            for way, paths in said.items():
                apart = np.linalg.norm(paths - cut.future[:, :, side], axis=-1).mean(-1)
                errors.setdefault(way, []).append(apart)
                jerks.setdefault(way, []).append(_jerk(paths[:, leads, WRIST], spec.step))
    found = {}
    for way, rows in errors.items():
        error, jerk = np.concatenate(rows).mean(0), np.concatenate(jerks[way]).mean(0)
        found[way] = {"MPJPE": float(error.mean())}
        for i, step in enumerate(leads):
            lead = f"{spec.step * (step + 1):g} s"
            found[way] |= {f"MPJPE at {lead}": float(error[step]), f"jerk at {lead}": float(jerk[i])}
    return found


def averaged_overlaps(found: Sequence[dict[str, dict[str, float]]]) -> dict[str, dict[str, tuple[float, float, float]]]:
    """Mean, least and largest over seeds."""
    rows = {}
    for way, row in found[0].items():
        numbers = {key: [one[way][key] for one in found] for key in row}
        rows[way] = {key: (float(np.mean(n)), float(np.min(n)), float(np.max(n))) for key, n in numbers.items()}
    return rows


def _averaged(
    horizon: float, times: np.ndarray, points: np.ndarray, turns: np.ndarray, recency: float | None
) -> np.ndarray:
    """Forecasts (N, S, 21, 3) at times (N, S), each averaged with all before it that reach the same moment."""
    filter = TemporalOrthogonalFilter(horizon, _GRID, recency)
    shown = points.copy()
    for row, at in enumerate(times):
        filter.add(float(2.0 * at[0] - at[1]), at, points[row], turns[row])
        mean, _, known = filter.at(at)
        shown[row, known] = mean[known]
    return shown


def _jerk(paths: np.ndarray, step: float) -> np.ndarray:
    """Of points (N, L, 3) every `step` s: (N - 3, L)."""
    return np.linalg.norm(np.diff(paths, 3, axis=0), axis=-1) / step**3
