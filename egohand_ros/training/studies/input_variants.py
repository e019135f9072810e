"""What MEgoHand's inputs are worth (arXiv 2505.16602, its ablations of modalities and of depth): trained without each
of them, on the same generated scenes and for as many steps, and scored on scenes that nothing was trained on.

In the paper, on five data sets, MPJPE is 1.54 times that of the whole without image and depth, 1.16 without text and
depth, 1.10 without text, 1.05 without depth, 1.06 without depth supervision.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ...evaluation.image_and_text_inputs import BASELINES, GOAL_TEST_SEED, Pictures, Seeing, SeenScene, goal_scenes
from ...evaluation.protocol import evaluate, forecaster_for, get_protocol
from ...forecast.common.protocol import Forecaster
from ...forecast.megohand.config import DEPTH, IMAGE, TEXT
from ...forecast.registry import system_of, values_of
from ..windows.goal_windows import GOAL_SEED, see_many
from .overlapping_chunks import averaged_overlaps, overlapping
from .study import Study, Variant

WHOLE = "all inputs"
VARIANTS = {
    WHOLE: Variant(),
    "without depth supervision": Variant(loss={"depth": 0.0}),
    "without depth": Variant({"inputs": (TEXT, IMAGE)}, {"depth": 0.0}),
    "without text": Variant({"inputs": (IMAGE, DEPTH)}),
    "without image and depth": Variant({"inputs": (TEXT,)}, {"depth": 0.0}),
}
_STRIDE = 3  # of the windows that are scored
_METRICS = ("MPJPE", "MWTE", "MRE")


def run(study: Study) -> dict[str, Any]:
    """Train every variant with every seed, one inverse network a seed for all of them; their errors relative to those
    of the whole."""
    study = study.of("MEgoHand", {"goals": study.scenes, "changes": list(study.changes)})
    spec = system_of(study.preset).spec_of(values_of(study.preset)["model"], study.preset)
    rendering = lambda done, total: study.report("rendering", done, total)  # noqa: E731
    scenes = see_many(GOAL_SEED, study.scenes, spec.image_size, spec, rendering)
    tests = goal_scenes(GOAL_TEST_SEED, study.test_scenes, spec, rendering)
    overlaps = []

    def scored(seed: int) -> Iterable[tuple[str, dict[str, float]]]:
        settings = study.settings(seed, stage="inverse")
        known = study.train_on_goals("inverse", "inverse", study.new(seed), settings, scenes).network.inverse
        for name, variant in VARIANTS.items():
            forecaster = study.new(seed, variant)
            forecaster.network.inverse.load_state_dict(known.state_dict())
            study.train_on_goals(name, "motion", forecaster, study.settings(seed, variant, "motion"), scenes)
            yield name, _errors(forecaster, tests)
            if name == WHOLE:
                overlaps.append(overlapping(_shown(forecaster, tests), [s.scene.episode for s in tests]))

    errors = study.over_seeds(scored)
    rows = {name: {key: _ratio(own, errors[WHOLE], key) for key in _METRICS} for name, own in errors.items()}
    protocol = replace(get_protocol("megohand"), stride=_STRIDE, hypotheses=1)
    naive = {name: forecaster_for(name, protocol) for name in BASELINES}
    baselines = evaluate({f"scene {i}": s.scene.episode for i, s in enumerate(tests)}, naive, protocol)
    return {
        "preset": study.preset,
        "data": study.data | {"test_scenes": study.test_scenes, "test_seed": GOAL_TEST_SEED, "seeds": study.seeds},
        "rows": rows,
        "errors": errors,
        "overlaps": averaged_overlaps(overlaps),
        "baselines": {name: {key: baselines.metrics(name)[key] for key in _METRICS} for name in naive},
    }


def _errors(forecaster: Forecaster, tests: Sequence[SeenScene]) -> dict[str, float]:
    protocol = replace(get_protocol("megohand"), stride=_STRIDE, hypotheses=1)
    episodes = {f"scene {i}": s.scene.episode for i, s in enumerate(tests)}
    result = evaluate(episodes, {"": _shown(forecaster, tests)}, protocol)
    return {key: result.metrics("")[key] for key in _METRICS}


def _shown(forecaster: Forecaster, tests: Sequence[SeenScene]) -> Forecaster:
    """With the pictures of the scenes, if it looks at any."""
    sees = "images" in forecaster.spec.modalities
    return Seeing(forecaster, Pictures(tests, forecaster.spec)) if sees else forecaster


def _ratio(own: Sequence[dict[str, float]], whole: Sequence[dict[str, float]], key: str) -> tuple[float, float, float]:
    """Mean, least and largest over seeds of a variant's error against the whole's of the same seed."""
    ratios = np.array([a[key] / b[key] for a, b in zip(own, whole, strict=True)])
    return float(ratios.mean()), float(ratios.min()), float(ratios.max())
