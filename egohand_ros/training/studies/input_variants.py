"""What MEgoHand's inputs are worth (arXiv 2505.16602, its ablations of modalities and of depth): trained without each
of them, on the same generated scenes and for as many steps, and scored on scenes that nothing was trained on.

In the paper, on five data sets, MPJPE is 1.54 times that of the whole without image and depth, 1.16 without text and
depth, 1.10 without text, 1.05 without depth, 1.06 without depth supervision.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...evaluation.image_and_text_inputs import BASELINES, GOAL_TEST_SEED, Pictures, Seeing, SeenScene, goal_scenes
from ...evaluation.protocol import evaluate, forecaster_for, get_protocol
from ...forecast.common.protocol import Forecaster
from ...forecast.megohand.config import DEPTH, IMAGE, TEXT
from ...forecast.registry import system_of, values_of
from ..runs import Runs
from ..windows.goal_windows import GOAL_SEED, see_many
from .overlapping_chunks import averaged_overlaps, overlapping

WHOLE = "all inputs"
# The model's settings of each variant, and the weights of its loss, over the preset's.
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, float]]] = {
    WHOLE: ({}, {}),
    "without depth supervision": ({}, {"depth": 0.0}),
    "without depth": ({"inputs": (TEXT, IMAGE)}, {"depth": 0.0}),
    "without text": ({"inputs": (IMAGE, DEPTH)}, {}),
    "without image and depth": ({"inputs": (TEXT,)}, {"depth": 0.0}),
}
_STRIDE = 3  # of the windows that are scored
_METRICS = ("MPJPE", "MWTE", "MRE")


def run_variants(
    preset: str,
    folder: Path,
    goals: int,
    test_scenes: int,
    seeds: int,
    changes: Sequence[str] = (),
    device: str = "auto",
    report: Callable[[str, int, int], None] = lambda name, step, steps: None,
) -> dict[str, Any]:
    """Train every variant with every seed, one inverse network a seed for all of them; their errors relative to those
    of the whole. Runs are in folders of their own below `folder`, and go on where they were stopped."""
    spec = system_of(preset).spec_of(values_of(preset)["model"], preset)
    rendering = lambda done, total: report("rendering", done, total)  # noqa: E731
    scenes = see_many(GOAL_SEED, goals, spec.image_size, spec, rendering)
    tests = goal_scenes(GOAL_TEST_SEED, test_scenes, spec, rendering)
    data = {"goals": goals, "changes": list(changes)}
    runs = Runs(preset, folder, scenes, data, changes, device, report)
    errors: dict[str, list[dict[str, float]]] = {name: [] for name in VARIANTS}
    overlaps = []
    for seed in range(1, seeds + 1):
        known = runs.train("inverse", "inverse", runs.settings("inverse", seed), runs.new(seed)).network.inverse
        for name, (model, losses) in VARIANTS.items():
            config = runs.settings("motion", seed)
            config = replace(config, loss=replace(config.loss, **losses))
            forecaster = runs.new(seed, **model)
            forecaster.network.inverse.load_state_dict(known.state_dict())
            trained = runs.train(name, "motion", config, forecaster)
            errors[name].append(_errors(trained, tests))
            if name == WHOLE:
                overlaps.append(overlapping(_shown(trained, tests), [s.scene.episode for s in tests]))
    rows = {name: {key: _ratio(own, errors[WHOLE], key) for key in _METRICS} for name, own in errors.items()}
    protocol = replace(get_protocol("megohand"), stride=_STRIDE, hypotheses=1)
    naive = {name: forecaster_for(name, protocol) for name in BASELINES}
    baselines = evaluate({f"scene {i}": s.scene.episode for i, s in enumerate(tests)}, naive, protocol)
    return {
        "preset": preset,
        "data": data | {"test_scenes": test_scenes, "test_seed": GOAL_TEST_SEED, "seeds": seeds},
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
