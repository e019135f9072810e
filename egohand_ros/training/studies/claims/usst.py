"""USST's claim in miniature (Bao et al., ICCV 2023, its ablation): errors weighed by the network's own uncertainty make
forecasts better. And what the uncertainty is good for once it is calibrated.

As published the uncertainty has no scale (`forecast/usst/objective.py`): a third network has it in units of a hundredth
of the picture, which is ours.
"""

from typing import Any

import numpy as np
from scipy.stats import spearmanr

from ....data.synthetic import generate_scene, observe
from ....data.windows import Cut, cut_windows, window_ends
from ....forecast.common.protocol import Forecaster
from ....hand.skeleton import WRIST
from ..judging import Claim, judged
from ..study import CALIBRATION_SEED, TEST_SEED, TRAINING_SEED, Scores, Study, Variant

PUBLISHED, PLAIN, SCALED = "as published", "without uncertainty", "uncertainty in 1 %"
# An error of a hundredth of the picture is worth 1: the Huber loss is 1e-5 times an absolute error.
_HUNDREDTH = {"unit": 1e-7, "scale": 1.0}
VARIANTS = {
    PUBLISHED: Variant(),
    PLAIN: Variant(loss={"likelihood": False}),
    SCALED: Variant(loss=_HUNDREDTH),
}
ADE, FDE, OWN, SAME, COVERAGE, RANK = (
    "ADE", "FDE", "radius of 90 %, own", "radius of 90 %, same for all", "coverage of own", "rank correlation"
)  # fmt: skip
STAYS, STAYS_90 = "ADE of a hand that stays", "90 % of errors of a hand that stays"
CLAIMS = (
    Claim("uncertainty against none", (PUBLISHED, ADE), (PLAIN, ADE), "0.45 (unseen scenes)", STAYS),
    Claim("uncertainty in 1 % (ours) against none", (SCALED, ADE), (PLAIN, ADE), "", STAYS),
    Claim("regions by its own uncertainty against one for all", (PUBLISHED, OWN), (PUBLISHED, SAME), "", STAYS_90),
    Claim("the same, uncertainty in 1 % (ours)", (SCALED, OWN), (SCALED, SAME), "", STAYS_90),
)
_DURATION, _STRIDE, _COVERED = 20.0, 30, 0.9  # s of a scene; steps between windows that are scored; share


def run(study: Study) -> dict[str, Any]:
    """Train every variant with every seed, calibrate it, and compare all on scenes that none has seen."""
    study = study.of("USST", study.seeded())
    episodes = study.make(TRAINING_SEED, study.scenes, lambda seed: generate_scene(seed, _DURATION).episode)
    spec = study.new(0, VARIANTS[PUBLISHED]).spec
    tests = study.make(TEST_SEED, study.test_scenes, lambda seed: tracked(seed, spec), "test scenes")
    others = study.make(CALIBRATION_SEED, study.test_scenes, lambda seed: tracked(seed, spec), "calibration scenes")
    found = study.compare(VARIANTS, episodes, lambda forecaster: score(forecaster, tests, others))
    stays = [_errors(cut, cut.window.keypoints[:, -1:, :, WRIST].numpy()) for cut in tests]
    errors = np.concatenate(stays)
    reference = {STAYS: float(np.nanmean(errors)), STAYS_90: float(np.nanquantile(errors, _COVERED, axis=0).mean())}
    return judged(study, found, CLAIMS, reference)


def tracked(seed: int, spec) -> Cut:
    """Windows of a scene as a tracker sees it, with what truly came after them."""
    scene = generate_scene(seed, _DURATION)
    ends = window_ends(scene.stamp, spec.step, spec.window_length, spec.horizon_steps, _STRIDE)
    seen, true = (
        cut_windows(episode, ends, spec.step, spec.window_length, spec.horizon_steps)
        for episode in (observe(scene).episode, scene.episode)
    )
    return Cut(seen.window, true.future, true.future_valid, true.future_rotation, true.future_rotation_valid)


def score(forecaster: Forecaster, tests: list[Cut], others: list[Cut]) -> Scores:
    """Of wrists that are seen at the last observation, m: their error over all steps (ADE) and at the last one (FDE);
    the mean radius of balls that hold 90 %, by the network's deviation and the same for all hands, both times a step's
    factor from the `others`; the share that the former hold; and the rank correlation of deviation and error, the mean
    over steps."""
    calibration = [_forecast(forecaster, cut) for cut in others]
    errors, deviations = (np.concatenate([part[i] for part in calibration]) for i in range(2))
    same = np.nanquantile(errors, _COVERED, axis=0)  # (S,)
    factor = np.nanquantile(errors / deviations, _COVERED, axis=0)
    rows: dict[str, list[float]] = {name: [] for name in (ADE, FDE, OWN, SAME, COVERAGE, RANK)}
    for cut in tests:
        error, deviation = _forecast(forecaster, cut)
        known = np.isfinite(error)
        radius = np.where(known, factor * deviation, np.nan)
        for name, values in {
            ADE: error,
            FDE: error[:, -1],
            OWN: radius,
            SAME: np.where(known, same, np.nan),
            COVERAGE: np.where(known, error <= radius, np.nan),
            RANK: _ranks(error, deviation),
        }.items():
            rows[name].append(float(np.nanmean(values)) if np.isfinite(values).any() else np.nan)
    return {name: np.array(values) for name, values in rows.items()}


def _forecast(forecaster: Forecaster, cut: Cut) -> tuple[np.ndarray, np.ndarray]:
    """Error and deviation (N, S) m of every hand, NaN for those that are not seen at the last observation."""
    given = forecaster.forecast(cut.window)
    error = _errors(cut, given.keypoints[:, 0, :, :, WRIST].double().numpy())
    deviation = given.keypoint_std[:, 0, :, :, WRIST].double().numpy()
    return error, np.swapaxes(deviation, 1, 2).reshape(error.shape)


def _errors(cut: Cut, wrists: np.ndarray) -> np.ndarray:
    """Of wrists (B, S or 1, 2, 3) m, (2 B, S)."""
    error = np.linalg.norm(wrists - cut.future[..., WRIST, :], axis=-1)
    seen = cut.window.valid[:, -1, :, WRIST].numpy()
    return np.swapaxes(np.where(seen[:, None], error, np.nan), 1, 2).reshape(-1, error.shape[1])


def _ranks(error: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Spearman's correlation at each step (S,); NaN for less than three hands."""
    known = np.isfinite(error).all(1)
    if known.sum() < 3:
        return np.full(error.shape[1], np.nan)
    pairs = zip(error[known].T, deviation[known].T, strict=True)
    return np.array([spearmanr(e, d).statistic if np.ptp(d) > 0 else 0.0 for e, d in pairs])
