"""What reasoning is worth to EgoMAN's motion expert (arXiv 2512.16907, its ablations): told waypoints and an act by the
language model, against the expert on its own with past and scene, and told the true waypoints; and what the whole loses
without each input. Trained with the same language model's eye, and the expert for as many steps.

In the paper the whole has 0.78 times the FDE of the expert alone, best of ten.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...data.windows import Cut, cut_windows
from ...errors import UserError
from ...evaluation.protocol import NAIVE
from ...forecast.common.protocol import Forecast, Forecaster
from ...forecast.egoman.config import FUTURE, KIND, SPAN, STEP
from ...forecast.egoman.forecaster import EgoMANForecaster
from ...forecast.egoman.heads import Moment
from ...forecast.egoman.inputs import camera_frames, motion_in, past_of
from ...forecast.egoman.reasoning import Reasoning
from ...forecast.registry import make_forecaster, system_of, values_of
from ...hand.skeleton import SIDES, WRIST
from ...stream.window import Window
from ..runs import Runs
from ..session import MODEL
from ..windows.goal_windows import GOAL_SEED, SeenGoals, see_many
from ..windows.questions import phrase_embedding
from .claims.study import ratio_with_interval
from .reasoning import TEST_SEED, WHOLE, interval, shown, without

TOLD, ALONE, TRUTH = "with waypoints", "motion expert alone", "told the true waypoints"
METRICS = ("ADE", "FDE", "ADE best of 10", "FDE best of 10")
_HYPOTHESES = 10
Scores = dict[str, dict[str, np.ndarray]]


def run_waypoints(
    preset: str,
    folder: Path,
    goals: int,
    test_scenes: int,
    seeds: int,
    changes: Sequence[str] = (),
    device: str = "auto",
    report: Callable[[str, int, int], None] = lambda name, step, steps: None,
) -> dict[str, Any]:
    """Train both with every seed and compare them on scenes that nothing was trained on. Runs are in folders of their
    own below `folder`, and go on where they were stopped."""
    if system_of(preset).name != KIND:
        raise UserError(f"preset {preset!r} is not of EgoMAN, whose claim this is; give egoman-small")
    spec = system_of(preset).spec_of(values_of(preset)["model"], preset)
    see = lambda first, count: see_many(  # noqa: E731
        first, count, spec.image_size, spec, lambda done, total: report("rendering", done, total)
    )
    data = {"goals": goals, "changes": list(changes)}
    runs = Runs(preset, folder, see(GOAL_SEED, goals), data, changes, device, report)
    tests = see(TEST_SEED, test_scenes)
    found: list[Scores] = []
    for seed in range(1, seeds + 1):
        thinks = runs.train("reason", "reason", runs.settings("reason", seed), runs.new(seed))
        motion, joint = runs.settings("motion", seed), runs.settings("joint", seed)
        told, alone = runs.new(seed), runs.new(seed, waypoints=False)
        for forecaster in (told, alone):
            forecaster.network.load_state_dict(thinks.network.state_dict())
        runs.train("motion", "motion", motion, told)
        row = {TRUTH: _by_true_waypoints(told, tests)}
        runs.train("joint", "joint", joint, told)
        runs.train("alone", "motion", replace(motion, steps=motion.steps + joint.steps), alone)
        for name, forecaster in ((TOLD, told), (ALONE, alone)):
            forecaster.save_pretrained(folder / f"{name.replace(' ', '_')}_{seed}" / MODEL)
            row[name] = _scores(forecaster, tests, _HYPOTHESES)
        for name, given in _without_inputs(tests, told).items():
            row[name] = _scores(told, tests, 1, given)
        found.append(row)
        report("scored, seed", seed, seeds)
    naive = {name: _naive(name, told, tests) for name in NAIVE}
    rows = {name: {key: _over_seeds([one[name][key] for one in found]) for key in found[0][name]} for name in found[0]}
    rows |= {name: {key: interval(values) for key, values in row.items()} for name, row in naive.items()}
    return {
        "preset": preset,
        "data": data | {"test_scenes": test_scenes, "test_seed": TEST_SEED, "seeds": seeds},
        "steps": {"reason": runs.settings("reason", 1).steps, "motion": motion.steps, "joint": joint.steps},
        "rows": rows,
        "to the expert alone": {
            name: {key: _ratios([one[name][key] for one in found], [one[ALONE][key] for one in found])
                   for key in METRICS}
            for name in (TOLD, TRUTH)
        },
        "to the whole": {
            name: {key: _ratios([one[name][key] for one in found], [one[TOLD][key] for one in found])
                   for key in METRICS[:2]}
            for name in found[0] if name not in (TOLD, ALONE, TRUTH)
        },
    }  # fmt: skip


def _scores(
    forecaster: Forecaster, tests: Sequence[SeenGoals], hypotheses: int, windows: Sequence[Window] | None = None
) -> dict[str, np.ndarray]:
    """Errors in m (M,) of each scene's acting wrist over all steps and at the last: of the first hypothesis, and of the
    one of ten with the least mean error. `windows` instead of those of the scenes."""
    rows = []
    for number, seen in enumerate(tests):
        cut = _cut(forecaster, seen)
        given = shown(cut.window, seen) if windows is None else windows[number]
        rows.append(_errors(forecaster.forecast(given, hypotheses, seed=number), cut, seen))
    return {key: np.array([row[key] for row in rows]) for key in rows[0]}


def _by_true_waypoints(forecaster: EgoMANForecaster, tests: Sequence[SeenGoals]) -> dict[str, np.ndarray]:
    """As `_scores`, the motion expert told by the truth where and when contact and end are, and what is done."""
    rows = []
    for number, seen in enumerate(tests):
        cut = _cut(forecaster, seen)
        window = shown(cut.window, seen)
        with torch.inference_mode():
            truth = _truth(forecaster.reasoner(window), cut, seen)
            rows.append(_errors(forecaster.go_by(truth, window, _HYPOTHESES, number), cut, seen))
    return {key: np.array([row[key] for row in rows]) for key in rows[0]}


def _truth(reasoning: Reasoning, cut: Cut, seen: SeenGoals) -> Reasoning:
    """What would have been right to think of the windows of a scene, as the motion stage of training has it."""
    frame, stamp = camera_frames(cut.window), cut.window.stamp.numpy()
    moved = motion_in(frame[:, None], cut.future[..., WRIST, :], cut.future_rotation)[:, : FUTURE - 1]
    motion = torch.cat([past_of(cut.window, frame).now[:, None], moved], dim=1)
    first = seen.scene.scene.stamp[0]
    contact, end = (moment - (stamp - first) for moment in (seen.scene.contact, seen.scene.end))
    end = np.clip(end, 0.0, SPAN)
    contact = np.where(contact < 0.0, end, np.clip(contact, 0.0, SPAN))
    seconds = torch.from_numpy(np.stack([np.zeros(len(end)), contact, end], axis=1)).float()
    steps = (seconds / STEP).round().long()
    told = motion[torch.arange(len(steps))[:, None], steps].unflatten(-1, (2, -1))
    moments = tuple(
        Moment(seconds[:, i, None] / SPAN, told[:, i, :, :3], reasoning.thought.moments[i].pixel, told[:, i, :, 3:])
        for i in range(3)
    )
    said = f"{SIDES[seen.scene.side]} hand {seen.scene.scene.task}"
    act = torch.from_numpy(phrase_embedding(said, reasoning.thought.act.shape[-1])).expand(len(steps), -1)
    return replace(reasoning, thought=replace(reasoning.thought, moments=moments, act=act.to(reasoning.thought.act)))


def _without_inputs(tests: Sequence[SeenGoals], forecaster: Forecaster) -> dict[str, list[Window]]:
    """Of each scene, its windows without an input, or with that of the next one."""
    windows = [shown(_cut(forecaster, seen).window, seen) for seen in tests]
    changed = [without(window, windows[(i + 1) % len(windows)]) for i, window in enumerate(windows)]
    return {name: [one[name] for one in changed] for name in changed[0] if name != WHOLE}


def _naive(name: str, forecaster: Forecaster, tests: Sequence[SeenGoals]) -> dict[str, np.ndarray]:
    spec = forecaster.spec
    by = make_forecaster(name, step=spec.step, window_length=spec.window_length, horizon_steps=spec.horizon_steps)
    return _scores(by, tests, 1)


def _cut(forecaster: Forecaster, seen: SeenGoals) -> Cut:
    spec = forecaster.spec
    return cut_windows(seen.scene.scene.episode, seen.frames, spec.step, spec.window_length, spec.horizon_steps)


def _errors(forecast: Forecast, cut: Cut, seen: SeenGoals) -> dict[str, float]:
    """Means over the windows of one scene."""
    side = seen.scene.side
    paths = forecast.keypoints[..., side, WRIST, :].double().numpy()
    apart = np.linalg.norm(paths - cut.future[:, None, :, side, WRIST], axis=-1)  # (B, K, S)
    errors = {"ADE": apart[:, 0].mean(), "FDE": apart[:, 0, -1].mean()}
    if apart.shape[1] > 1:
        best = apart[np.arange(len(apart)), apart.mean(-1).argmin(1)]
        errors |= {"ADE best of 10": best.mean(), "FDE best of 10": best[:, -1].mean()}
    return {key: float(value) for key, value in errors.items()}


def _over_seeds(values: Sequence[np.ndarray]) -> list[float]:
    """Mean, and the least and largest mean of a seed."""
    means = [float(one.mean()) for one in values]
    return [float(np.mean(means)), min(means), max(means)]


def _ratios(own: Sequence[np.ndarray], to: Sequence[np.ndarray]) -> list[float]:
    """The ratio of means of all seeds with its 95 % interval by the bootstrap over seeds and scenes, then the ratio of
    each seed."""
    each = [float(a.mean() / b.mean()) for a, b in zip(own, to, strict=True)]
    return [*ratio_with_interval(np.stack(own), np.stack(to), np.random.default_rng(0)), *each]
