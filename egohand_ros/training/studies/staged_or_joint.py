"""EgoMotion's claim in miniature (arXiv 2604.19105): a language model that first learns to say motion primitives, and
is then frozen, against one that learns together with the diffusion that goes by it.

Both ways begin with the same motion tokenizer and the same weights, see the same windows, and change every weight
equally often. They are compared on scenes that neither has seen, in fidelity (how like real motion samples are) and
alignment (whether hands go for what was said).
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from scipy.linalg import sqrtm

from ...data.windows import Cut, cut_windows
from ...forecast.common.observed import Observed
from ...forecast.common.protocol import Forecast, ForecasterSpec
from ...forecast.egomotion.forecaster import EgoMotionForecaster
from ...forecast.egomotion.inputs import motion_in, now_of
from ...hand.skeleton import TIPS, WRIST
from ..config import TrainingConfig
from ..session import MODEL
from ..windows.goal_windows import GOAL_SEED, GoalWindowSampler, SeenGoals, see_many
from .judging import ratio_with_interval
from .study import TEST_SEED, Study, drawn

STAGED, JOINT = "staged", "joint"
WAYS = {STAGED: ("reason", "generate"), JOINT: ("joint",)}
TOKENIZER = "tokenizer"
_HYPOTHESES = 5
_LATE = 2.0  # s


@dataclass(frozen=True)
class Scored:
    """Of one way and seed, over scenes (M,): errors in m by name, and whether samples go for what was said; and numbers
    of all samples together."""

    scenes: dict[str, np.ndarray]
    whole: dict[str, float]


def run(study: Study) -> dict[str, Any]:
    """Train both ways with every seed, and compare them on the same held-out windows."""
    study = study.of("EgoMotion", study.seeded(GOAL_SEED))
    spec = study.new(0).spec
    training, test = (
        see_many(first, count, spec.image_size, spec, lambda done, total: study.report("rendering", done, total))
        for first, count in ((GOAL_SEED, study.scenes), (TEST_SEED, study.test_scenes))
    )
    codes = []

    def scored(seed: int) -> Iterator[tuple[str, Scored]]:
        base = _trained(study, study.new(seed), TOKENIZER, seed, "", training)
        codes.append(_usage(base))
        for way, stages in WAYS.items():
            forecaster = _copy(base)
            for stage in stages:
                _trained(study, forecaster, stage, seed, way, training)
            forecaster.save_pretrained(study.folder / f"{way}_{seed}" / MODEL)
            yield way, score(forecaster, test, lambda i, n: study.report("forecasting", i, n))

    found = study.over_seeds(scored)
    truth = score_truth(spec, test)
    return {
        "preset": study.preset,
        "data": study.data,
        "seeds": study.seeds,
        "steps": {stage: _settings(study, stage, 1).steps for stages in WAYS.values() for stage in stages},
        "primitives": codes,
        "truth": {**{k: float(v.mean()) for k, v in truth.scenes.items()}, **truth.whole},
        "rows": {way: _row(runs) for way, runs in found.items()},
        "joint to staged": _ratios(found),
    }


def _settings(study: Study, stage: str, seed: int) -> TrainingConfig:
    """Of a stage; all after the tokenizer take as many steps, so that each weight is changed equally often."""
    config, like = study.settings(seed, stage=stage), study.settings(seed, stage=WAYS[STAGED][0])
    return config if stage == TOKENIZER else replace(config, steps=like.steps)


def _trained(
    study: Study, forecaster: EgoMotionForecaster, stage: str, seed: int, way: str, scenes: Sequence[SeenGoals]
) -> EgoMotionForecaster:
    """The forecaster, trained in place."""
    config, name = _settings(study, stage, seed), " ".join(part for part in (way, stage) if part)
    sampler = drawn(GoalWindowSampler, scenes, forecaster, config, blind=0.0, deaf=0.0)
    key = (f"{name.replace(' ', '_')}_{seed}",)
    study.train(name, forecaster, config, sampler, stage, key, fit=stage == TOKENIZER)
    return forecaster


def score(
    forecaster: EgoMotionForecaster, test: Sequence[SeenGoals], report: Callable[[int, int], None] = lambda i, n: None
) -> Scored:
    """Fidelity and alignment on held-out scenes; samples but the first, which has no noise, are what is generated.

    late: m, of the first hypothesis's wrist of the hand that acts, from 2 s on. nearest: the same of the nearest one.
    contact: m, of samples at the moment of the true contact. contact, other words: the same, told what is asked in
    another scene. names: share of samples whose thumb and index finger are then nearer to what was named than to
    anything else. frechet: squared distance of the samples' latents from those of real motions, as normal
    distributions. jerk: of the samples' wrists, over that of real ones.
    """
    rows: dict[str, list[float]] = {}
    real, made, jerks = [], [], []
    for number, seen in enumerate(test):
        cut = shown(forecaster.spec, seen)
        given = forecaster.forecast(cut.window, _HYPOTHESES, seed=number)
        times = given.step_times.numpy()
        late = _late(times)
        paths, actual = _paths(given, seen.scene.side), cut.future[:, None, :, seen.scene.side, WRIST]
        apart = np.linalg.norm(paths - actual, axis=-1)
        for name, value in {
            "late": apart[:, 0][:, late].mean(),
            "nearest": apart[..., late].mean(-1).min(-1).mean(),
        }.items():
            rows.setdefault(name, []).append(float(value))
        grips = _grips(given.keypoints[:, 1:, :, seen.scene.side].numpy())
        contact, names = _alignment(seen, times, paths[:, 1:], actual, grips)
        other = (test[(number + 1) % len(test)].scene.scene.task,) * len(seen.frames)
        misled = forecaster.forecast(replace(cut.window, prompt=other), _HYPOTHESES, seed=number)
        wrong = _paths(misled, seen.scene.side)[:, 1:]
        rows.setdefault("contact", []).append(contact)
        rows.setdefault("contact, other words", []).append(_alignment(seen, times, wrong, actual, grips)[0])
        rows.setdefault("names", []).append(names)
        latents = _latents(forecaster, cut, given)
        real.append(latents[0])
        made.append(latents[1])
        jerks.append([_jerk(paths[:, 1:]), _jerk(actual)])
        report(number + 1, len(test))
    sampled, true = np.array(jerks).mean(0)
    whole = {"frechet": frechet(np.concatenate(made), np.concatenate(real)), "jerk": float(sampled / true)}
    return Scored({name: np.array(values) for name, values in rows.items()}, whole)


def score_truth(spec: ForecasterSpec, test: Sequence[SeenGoals]) -> Scored:
    """What there is to reach: how often the real hand is nearest to what was named, and how far off a hand is that
    stays where it is (late, contact)."""
    rows: dict[str, list[float]] = {"names": [], "late of no motion": [], "contact of no motion": []}
    for seen in test:
        cut, times = shown(spec, seen), spec.step_times().numpy()
        actual = cut.future[:, None, :, seen.scene.side, WRIST]
        still = cut.window.keypoints[:, -1:, None, seen.scene.side, WRIST].numpy()
        still = np.broadcast_to(still, actual.shape)
        contact, names = _alignment(seen, times, still, actual, _grips(cut.future[:, None, :, seen.scene.side]))
        rows["names"].append(names)
        rows["contact of no motion"].append(contact)
        apart = np.linalg.norm(still - actual, axis=-1)
        rows["late of no motion"].append(float(apart[..., _late(times)].mean()))
    return Scored({name: np.array([v for v in values if np.isfinite(v)]) for name, values in rows.items()}, {})


def shown(spec: ForecasterSpec, seen: SeenGoals) -> Cut:
    """The windows of a scene with its pictures and its instruction."""
    scene = seen.scene.scene
    cut = cut_windows(scene.episode, seen.frames, spec.step, spec.window_length, spec.horizon_steps)
    window = replace(
        cut.window,
        images=torch.from_numpy(seen.images)[:, None],
        camera_matrix=torch.from_numpy(np.tile(seen.matrix, (len(seen.frames), 1, 1, 1))),
        prompt=(scene.task,) * len(seen.frames),
    )
    return replace(cut, window=window)


def frechet(one: np.ndarray, other: np.ndarray) -> float:
    """Squared Fréchet distance of two sets (M, D) as normal distributions (Heusel et al. 2017, equation 6)."""
    means, covariances = (one.mean(0), other.mean(0)), (np.cov(one.T), np.cov(other.T))
    root = np.real(sqrtm(covariances[0] @ covariances[1] + 1e-9 * np.eye(one.shape[1])))
    apart = np.square(means[0] - means[1]).sum()
    return float(max(apart + np.trace(covariances[0] + covariances[1] - 2.0 * root), 0.0))


def _alignment(
    seen: SeenGoals, times: np.ndarray, paths: np.ndarray, actual: np.ndarray, grips: np.ndarray
) -> tuple[float, float]:
    """Of wrists (B, K, S, 3), m off at the true contact, and the share of grips (B, K, S, 3) nearest to what was named
    then, over the windows whose contact is still to come; NaN without any. Things are where they were just before."""
    scene = seen.scene
    stamp = scene.scene.stamp
    ahead = scene.contact - (stamp[seen.frames] - stamp[0])
    rows = np.flatnonzero((ahead > times[0]) & (ahead < times[-1]))
    if not len(rows):
        return np.nan, np.nan
    step = np.abs(times[None] - ahead[rows, None]).argmin(-1)
    at, true = paths[rows, :, step], actual[rows, :, step]
    frame = int(np.clip(np.searchsorted(stamp - stamp[0], scene.contact) - 1, 0, len(stamp) - 1))
    things = scene.scene.T_world_object[frame, :, :3, 3]
    named = np.linalg.norm(things - scene.goals[frame, 0], axis=-1).argmin()
    nearest = np.linalg.norm(grips[rows, :, step][:, :, None] - things, axis=-1).argmin(-1)
    return float(np.linalg.norm(at - true, axis=-1).mean()), float((nearest == named).mean())


def _late(times: np.ndarray) -> np.ndarray:
    """Which steps are late: from 2 s on, or the second half of what is shorter than 4 s."""
    return times >= min(_LATE, 0.5 * times[-1]) - 1e-6


def _grips(hands: np.ndarray) -> np.ndarray:
    """Between the tips of thumb and index finger, of hands (..., 21, 3)."""
    return hands[..., list(TIPS[:2]), :].mean(-2)


def _paths(given: Forecast, side: int) -> np.ndarray:
    return given.keypoints[:, :, :, side, WRIST].numpy()


def _latents(forecaster: EgoMotionForecaster, cut: Cut, given: Forecast) -> tuple[np.ndarray, np.ndarray]:
    """Latents, mean over time, of real motions (B, L) and of samples (B (K - 1), L)."""
    observed = Observed.from_window(cut.window)
    now = now_of(cut.window, observed)
    motions = [motion_in(now, cut.future, cut.future_rotation)]
    for k in range(1, given.keypoints.shape[1]):
        motions.append(motion_in(now, given.keypoints[:, k].numpy(), given.wrist_rotation[:, k].numpy()))
    with torch.inference_mode():
        latents = [forecaster.network.motion.latent(m.to(forecaster.device)).mean(1).cpu().numpy() for m in motions]
    return latents[0], np.concatenate(latents[1:])


def _jerk(paths: np.ndarray) -> float:
    return float(np.linalg.norm(np.diff(paths, n=3, axis=-2), axis=-1).mean())


def _usage(forecaster: EgoMotionForecaster) -> dict[str, list[float]]:
    """Of each codebook: perplexity and the share of codes in use."""
    perplexity, usage = forecaster.network.motion.quantizer.usage()
    return {"perplexity": perplexity.tolist(), "usage": usage.tolist()}


def _copy(forecaster: EgoMotionForecaster) -> EgoMotionForecaster:
    """One of its own, with the same weights."""
    tokens, forecaster.network.tokens = forecaster.network.tokens, None
    network = copy.deepcopy(forecaster.network)
    forecaster.network.tokens = network.tokens = tokens
    made = EgoMotionForecaster(forecaster.config, network, preset=forecaster.preset, device=str(forecaster.device))
    return made


def _row(runs: Sequence[Scored]) -> dict[str, Any]:
    """Means over seeds, and each seed's own."""
    each = {name: [float(np.nanmean(run.scenes[name])) for run in runs] for name in runs[0].scenes}
    each |= {name: [run.whole[name] for run in runs] for name in runs[0].whole}
    return {name: {"mean": float(np.mean(values)), "seeds": values} for name, values in each.items()}


def _ratios(found: dict[str, list[Scored]]) -> dict[str, list[float]]:
    """Joint over staged: mean ratio, and its 95 % interval by the bootstrap over seeds and scenes. Of what all samples
    have together, there are only seeds: the least and the largest ratio."""
    rng, ratios = np.random.default_rng(0), {}
    staged, joint = found[STAGED], found[JOINT]
    for name in staged[0].scenes:
        pairs = np.array([[run.scenes[name] for run in runs] for runs in (joint, staged)])  # (2, seeds, scenes)
        ratios[name] = ratio_with_interval(*pairs, rng)
    for name in staged[0].whole:
        each = [a.whole[name] / max(b.whole[name], 1e-9) for a, b in zip(joint, staged, strict=True)]
        ratios[name] = [float(np.mean(each)), min(each), max(each)]
    return ratios
