"""EgoH4's claim in miniature (arXiv 2504.08654, its ablation): joints of the body, the wrists' reprojection and their
visibility, learned beside the hands, make hands better, above all those that are out of view.

Its people are generated: they work at a table, and turn the head away now and then. The body is a figure that goes with
head and wrists (`data/synthetic/body.py`), so that it tells less of a hidden hand than a real one.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ....data.episode import Episode
from ....data.synthetic import generate_scene
from ....data.synthetic.body import looking_around, seated_body
from ....data.windows import Cut, cut_windows, window_ends
from ....forecast.common.protocol import Forecaster
from ....forecast.egoh4.forecaster import canonical_frames
from ....forecast.egoh4.inputs import wrists_in_picture
from ....hand.skeleton import WRIST
from ..judging import Claim, judged
from ..study import TEST_SEED, TRAINING_SEED, Scores, Study, Variant

WHOLE = "all terms"
_ALL = {"body": 1.0, "reprojection": 0.05, "visibility": 0.1}
_WITH_BODY = {"body": True}
VARIANTS = {
    WHOLE: Variant(_WITH_BODY, _ALL),
    "without body": Variant({}, _ALL | {"body": 0.0}),
    "without reprojection": Variant(_WITH_BODY, _ALL | {"reprojection": 0.0}),
    "without visibility": Variant(_WITH_BODY, _ALL | {"visibility": 0.0}),
    "hands alone": Variant({}, dict.fromkeys(_ALL, 0.0)),
}
ADE, IN_VIEW, OUT_OF_VIEW, KEYPOINTS = "ADE", "ADE, seen last", "ADE, not seen last", "MPJPE"
MIDDLE = "ADE of hands at their mean place in the canonical frame"
CLAIMS = (
    Claim("body, reprojection and visibility against none", (WHOLE, ADE), ("hands alone", ADE), "0.885", MIDDLE),
    Claim("the same, hands out of view", (WHOLE, OUT_OF_VIEW), ("hands alone", OUT_OF_VIEW), "", MIDDLE),
    Claim("body", (WHOLE, ADE), ("without body", ADE), "", MIDDLE),
    Claim("reprojection", (WHOLE, ADE), ("without reprojection", ADE), "", MIDDLE),
    Claim("visibility", (WHOLE, ADE), ("without visibility", ADE), "", MIDDLE),
)
_DURATION, _STRIDE = 20.0, 15  # s of a scene; steps between windows that are scored


def run(study: Study) -> dict[str, Any]:
    """Train every variant with every seed, and compare them on scenes that none has seen."""
    study = study.of("EgoH4", study.seeded())
    episodes = study.make(TRAINING_SEED, study.scenes, person_at_table)
    spec = study.new(0, VARIANTS[WHOLE]).spec
    tests = [
        cut_windows(episode, _ends(episode, spec), spec.step, spec.window_length, spec.horizon_steps)
        for episode in study.make(TEST_SEED, study.test_scenes, person_at_table, "test scenes")
    ]
    found = study.compare(VARIANTS, episodes, lambda forecaster: score(forecaster, tests))
    shown = np.concatenate([seen_last(cut).ravel() for cut in tests])
    reference = {
        MIDDLE: _of_mean_place(tests),
        "hands out of view at the last observation, share": float(1.0 - shown.mean()),
        "ADE of a hand that stays, which is not told to the network": float(
            np.mean([_apart(cut, cut.window.keypoints.numpy()[:, -1:])[..., WRIST].mean() for cut in tests])
        ),
    }
    return judged(study, found, CLAIMS, reference)


def person_at_table(seed: int) -> Episode:
    """Somebody with a body who acts at a table and looks around; every keypoint valid, seen or not."""
    scene = generate_scene(seed, _DURATION)
    scene = replace(scene, T_world_camera=looking_around(scene, seed))
    body, names = seated_body(scene)
    return replace(scene.episode, body=body, body_names=names)


def score(forecaster: Forecaster, tests: list[Cut]) -> Scores:
    """Of a sample a window, m: wrists over all steps (ADE), of hands that were in view at the last observation and of
    those that were not, and all keypoints (MPJPE)."""
    rows: dict[str, list[float]] = {name: [] for name in (ADE, IN_VIEW, OUT_OF_VIEW, KEYPOINTS)}
    for number, cut in enumerate(tests):
        given = forecaster.forecast(cut.window, 1, seed=number)
        apart = _apart(cut, given.keypoints[:, 0].double().numpy())  # (B, S, 2, 21)
        wrists, seen = apart[..., WRIST].mean(1), seen_last(cut)
        for name, values in {
            ADE: wrists,
            IN_VIEW: wrists[seen],
            OUT_OF_VIEW: wrists[~seen],
            KEYPOINTS: apart,
        }.items():
            rows[name].append(float(values.mean()) if values.size else np.nan)
    return {name: np.array(values) for name, values in rows.items()}


def seen_last(cut: Cut) -> np.ndarray:
    """(B, 2) bool: hands whose wrist is in EgoH4's picture at the last observation."""
    window = cut.window
    seen, _ = wrists_in_picture(window.keypoints, window.valid, window.camera_pose)
    return torch.as_tensor(seen)[:, -1].numpy()


def _of_mean_place(tests: list[Cut]) -> float:
    """m, of wrists at the mean place, over all windows, that they have in EgoH4's canonical frame."""
    places = []
    for cut in tests:
        frame = canonical_frames(cut.window).numpy()
        wrists = cut.future[..., WRIST, :] - frame[:, None, None, :3, 3]
        places.append(np.einsum("bji,btsj->btsi", frame[:, :3, :3], wrists))
    place = np.concatenate(places)
    return float(np.linalg.norm(place - place.mean((0, 1)), axis=-1).mean())


def _apart(cut: Cut, keypoints: np.ndarray) -> np.ndarray:
    return np.linalg.norm(keypoints - cut.future, axis=-1)


def _ends(episode: Episode, spec) -> np.ndarray:
    return window_ends(episode.stamp, spec.step, spec.window_length, spec.horizon_steps, _STRIDE)
