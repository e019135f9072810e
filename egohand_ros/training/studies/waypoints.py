"""What reasoning is worth to EgoMAN's motion expert (arXiv 2512.16907, its ablations): told waypoints and an act by the
language model, against the expert on its own with past and scene, and told the true waypoints; and what the whole loses
without each input. Trained with the same language model's eye, and the expert for as many steps.

In the paper the whole has 0.78 times the FDE of the expert alone, best of ten.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ...data.windows import Cut, cut_windows
from ...evaluation.protocol import NAIVE
from ...forecast.common.protocol import Forecast, Forecaster, ForecasterSpec
from ...forecast.egoman.config import FUTURE, SPAN, STEP
from ...forecast.egoman.forecaster import EgoMANForecaster
from ...forecast.egoman.heads import Moment
from ...forecast.egoman.inputs import camera_frames, motion_in, past_of
from ...forecast.egoman.reasoning import Reasoning
from ...forecast.registry import make_forecaster, system_of, values_of
from ...hand.skeleton import SIDES, WRIST
from ...stream.window import Window
from ..session import MODEL
from ..windows.goal_windows import GOAL_SEED, SeenGoals, see_many
from ..windows.questions import phrase_embedding
from .judging import interval, ratio_with_interval
from .reasoning import TEST_SEED, WHOLE, shown, without
from .study import Scores, Study, Variant

TOLD, ALONE, TRUTH = "with waypoints", "motion expert alone", "told the true waypoints"
METRICS = ("ADE", "FDE", "ADE best of 10", "FDE best of 10")
_HYPOTHESES = 10


def run(study: Study) -> dict[str, Any]:
    """Train both with every seed and compare them on scenes that nothing was trained on."""
    study = study.of("EgoMAN", {"goals": study.scenes, "changes": list(study.changes)})
    spec = system_of(study.preset).spec_of(values_of(study.preset)["model"], study.preset)
    scenes, tests = (
        see_many(first, count, spec.image_size, spec, lambda done, total: study.report("rendering", done, total))
        for first, count in ((GOAL_SEED, study.scenes), (TEST_SEED, study.test_scenes))
    )
    found = study.over_seeds(lambda seed: _trained_and_scored(study, seed, scenes, tests))
    naive = {name: _naive(name, spec, tests) for name in NAIVE}
    rows = {name: {key: _over_seeds([run[key] for run in runs]) for key in runs[0]} for name, runs in found.items()}
    rows |= {name: {key: interval(values) for key, values in row.items()} for name, row in naive.items()}
    ratios = lambda name, to, metrics: {  # noqa: E731
        key: _ratios([run[key] for run in found[name]], [run[key] for run in found[to]]) for key in metrics
    }
    return {
        "preset": study.preset,
        "data": study.data | {"test_scenes": study.test_scenes, "test_seed": TEST_SEED, "seeds": study.seeds},
        "steps": {stage: study.settings(1, stage=stage).steps for stage in ("reason", "motion", "joint")},
        "rows": rows,
        "to the expert alone": {name: ratios(name, ALONE, METRICS) for name in (TOLD, TRUTH)},
        "to the whole": {name: ratios(name, TOLD, METRICS[:2]) for name in found if name not in (TOLD, ALONE, TRUTH)},
    }


def _trained_and_scored(
    study: Study, seed: int, scenes: Sequence[SeenGoals], tests: Sequence[SeenGoals]
) -> Iterator[tuple[str, Scores]]:
    """Both with the same language model, and the expert alone for as many steps."""
    reason, motion, joint = (study.settings(seed, stage=stage) for stage in ("reason", "motion", "joint"))
    thinks = study.train_on_goals("reason", "reason", study.new(seed), reason, scenes)
    told, alone = study.new(seed), study.new(seed, Variant({"waypoints": False, "along": False}))
    for forecaster in (told, alone):
        forecaster.network.load_state_dict(thinks.network.state_dict())
    study.train_on_goals("motion", "motion", told, motion, scenes)
    yield TRUTH, _by_true_waypoints(told, tests)
    study.train_on_goals("joint", "joint", told, joint, scenes)
    study.train_on_goals("alone", "motion", alone, replace(motion, steps=motion.steps + joint.steps), scenes)
    for name, forecaster in ((TOLD, told), (ALONE, alone)):
        forecaster.save_pretrained(study.folder / f"{name.replace(' ', '_')}_{seed}" / MODEL)
        yield name, _scores(forecaster, tests, _HYPOTHESES)
    for name, given in _without_inputs(tests, told).items():
        yield name, _scores(told, tests, 1, given)
    study.report("scored, seed", seed, study.seeds)


def _scores(
    forecaster: Forecaster, tests: Sequence[SeenGoals], hypotheses: int, windows: Sequence[Window] | None = None
) -> Scores:
    """Errors in m (M,) of each scene's acting wrist over all steps and at the last: of the first hypothesis, and of the
    one of ten with the least mean error. `windows` instead of those of the scenes."""
    rows = []
    for number, seen in enumerate(tests):
        cut = _cut(forecaster, seen)
        given = shown(cut.window, seen) if windows is None else windows[number]
        rows.append(_errors(forecaster.forecast(given, hypotheses, seed=number), cut, seen))
    return {key: np.array([row[key] for row in rows]) for key in rows[0]}


def _by_true_waypoints(forecaster: EgoMANForecaster, tests: Sequence[SeenGoals]) -> Scores:
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


def _naive(name: str, spec: ForecasterSpec, tests: Sequence[SeenGoals]) -> Scores:
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
