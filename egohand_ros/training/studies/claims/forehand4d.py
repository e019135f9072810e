"""ForeHand4D's claims in miniature (arXiv 2510.06145): diffusion forecasts better than the same transformer that
regresses, where there are two equally likely goals; and a sequence lifts 2D keypoints better than each frame by itself.

Hands are of bones (`bones.py`), so nobody needs MANO's files. All networks learn by errors of the state, the rotations
and the place alone: what keypoints add to the loss would take most of the time. The regressor, too, so that what is
compared is sampling and not the loss; the authors' has no error of the state.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from ....config import from_mapping
from ....data.episode import Episode
from ....data.synthetic import generate_scene
from ....data.synthetic.free_motion import generate_free_motion
from ....data.synthetic.goals import generate_choice_scene
from ....data.synthetic.hand import NUM_ANGLES, HandShape
from ....data.synthetic.render import SceneRenderer
from ....data.windows import Cut, cut_windows, window_ends
from ....forecast.common.diffusion import shared_noise
from ....forecast.common.protocol import ForecasterSpec
from ....forecast.forehand4d.conditioning import IMAGE_SIZE
from ....forecast.forehand4d.config import STEP, ForeHand4DSettings
from ....forecast.forehand4d.inputs import Pixels, hands_in_frame, image_input, lifter_input, projected
from ....forecast.forehand4d.network import ForeHand4DForecaster, ForeHand4DLifter, ForeHand4DRegressor
from ....forecast.forehand4d.state import CHANNELS
from ....geometry.camera import Camera
from ....hand.skeleton import FINGER_KEYPOINTS, RIGHT, WRIST
from ...objectives.forehand4d import (
    ForeHand4DLifterObjective,
    ForeHand4DObjective,
    ForeHand4DRegressorObjective,
    LifterWeights,
    detected,
    square_matrix,
)
from ...windows.batches import GroupSampler, WindowSampler
from ..judging import Claim, judged
from ..study import TEST_SEED, TRAINING_SEED, Scores, Study, Variant
from .bones import hands_of_bones

DIFFUSION, REGRESSOR, SEQUENCE, FRAME, SIZE = "diffusion", "regressor", "lifter, sequence", "lifter, a frame", "by size"
BEST, ONE, MEAN, GOALS, BETWEEN = (
    "ADE, best of 10", "ADE, one sample", "ADE, mean of samples", "goals not reached", "ends at neither goal"
)  # fmt: skip
LIFTED, SEEN, UNSEEN, SHAPE = "MPJPE", "MPJPE, hands seen", "MPJPE, hands not seen", "MPJPE about the wrist, seen"
STAYS, MIDDLE = "ADE of a hand that stays, two goals", "MPJPE of hands at their mean place before the camera"
CLAIMS = (
    Claim(
        "diffusion against regressor, best of 10", (DIFFUSION, BEST), (REGRESSOR, BEST), "0.82 (unseen), 0.97", STAYS
    ),
    Claim("the same, one sample", (DIFFUSION, ONE), (REGRESSOR, ONE), "", STAYS),
    Claim("the same, mean of 10 samples", (DIFFUSION, MEAN), (REGRESSOR, MEAN), "", STAYS),
    Claim("goals that no sample ends at", (DIFFUSION, GOALS), (REGRESSOR, GOALS)),
    Claim("lifting a sequence against a frame at a time", (SEQUENCE, LIFTED), (FRAME, LIFTED), "0.58", MIDDLE),
    Claim("the same, hands that are seen", (SEQUENCE, SEEN), (FRAME, SEEN), "", MIDDLE),
    Claim("lifting a sequence against depth by the hand's size, seen", (SEQUENCE, SEEN), (SIZE, SEEN)),
)
_LOSS = {"keypoints": 0.0, "vertices": 0.0}
# A quarter of the preset's network, so that twelve of them are trained in minutes on one core; and of a forecast 24
# frames at 15 Hz: 1.6 s, by when the hand is there.
_SMALL = {"width": 64, "layers": 2, "heads": 4, "feed_forward": 128}
_FRAMES, _STEP = 24, 2.0 * STEP
_SAMPLES, _STEPS = 10, 10  # of diffusion, and of DDIM
_FIELD_OF_VIEW, _DURATION, _STRIDE = 90.0, 20.0, 96  # degrees; s of a scene; frames between windows that are scored
_NOISE_SEED = 7


@dataclass(frozen=True)
class Miniature:
    """A network and the hands whose parameters it gives."""

    network: nn.Module
    mano: dict[str, nn.Module]


@dataclass(frozen=True)
class Choice:
    """One moment with two equally likely futures: a window with its picture for each, and the things' places (2, 3) m
    in the frame of the camera."""

    cuts: tuple[Cut, Cut]
    places: np.ndarray


@dataclass(frozen=True)
class ChoiceSampler(GroupSampler):
    """Windows of choices, either future as often as the other."""

    choices: list[Choice]
    batch: int
    group: int = 1
    seed: int = 0

    def _group(self, rng: np.random.Generator) -> Cut:
        return self.choices[rng.integers(len(self.choices))].cuts[rng.integers(2)]


def run(study: Study) -> dict[str, Any]:
    """Train forecaster, regressor and both lifters with every seed, and compare them on scenes that none has seen."""
    study = study.of("ForeHand4D", study.seeded())
    choices = study.make(TRAINING_SEED, study.scenes, choice, "pictures")
    tests = study.make(TEST_SEED, study.test_scenes, choice, "test pictures")
    episodes = study.make(TRAINING_SEED, study.scenes, either_motion)
    lifted = study.make(TEST_SEED, study.test_scenes, lambda seed: _windows(either_motion(seed), study), "test scenes")

    def scored(seed: int) -> Iterable[tuple[str, Scores]]:
        for name in (DIFFUSION, REGRESSOR):
            yield name, score_forecasts(_forecaster(study, name, seed, choices), tests)
        for name in (SEQUENCE, FRAME):
            yield name, _score_lifted(partial(lift, _lifter(study, name, seed, episodes)), lifted)
        yield SIZE, _score_lifted(by_size, lifted)

    found = study.over_seeds(scored)
    stays = [np.linalg.norm(w - w[:1], axis=-1).mean() for test in tests for w in _true_wrists(test)]
    reference = {STAYS: float(np.mean(stays)), MIDDLE: _of_mean_place(lifted)}
    return judged(study, found, CLAIMS, reference)


def _forecaster(study: Study, name: str, seed: int, choices: list[Choice]) -> Miniature:
    variant = Variant(_SMALL | {"frames": _FRAMES, "horizon_steps": _FRAMES - 1}, _LOSS)
    config = replace(study.settings(seed, variant), group=1)
    network, objective = {
        DIFFUSION: (ForeHand4DForecaster, ForeHand4DObjective),
        REGRESSOR: (ForeHand4DRegressor, ForeHand4DRegressorObjective),
    }[name]
    torch.manual_seed(seed)
    made = Miniature(network(_sizes(study, variant).network()), hands_of_bones())
    study.run(name, objective(made, config.loss), config, ChoiceSampler(choices, config.batch, 1, seed))
    return made


def _lifter(study: Study, name: str, seed: int, episodes: list[Episode]) -> Miniature:
    """Of as many frames as the preset's, or of one: then a step sees as many frames, each by itself."""
    variant = Variant(_SMALL, _LOSS)
    config, sizes = study.settings(seed, variant), _sizes(study, variant)
    frames = sizes.frames
    length = frames if name == SEQUENCE else 1
    batch = config.batch // 2 * (frames // length)
    config = replace(config, batch=batch, loss=LifterWeights(**vars(config.loss)))
    torch.manual_seed(seed)
    made = Miniature(ForeHand4DLifter(replace(sizes.network(), frames=length)), hands_of_bones())
    spec = ForecasterSpec(name, STEP, length, 1, modalities=("keypoints", "camera_pose"))
    sampler = WindowSampler(episodes, spec, batch, config.group, seed, config.augmentation)
    objective = ForeHand4DLifterObjective(made, config.loss, square_matrix(_FIELD_OF_VIEW))
    study.run(name.replace(",", ""), objective, config, sampler)
    return made


def _sizes(study: Study, variant: Variant) -> ForeHand4DSettings:
    return from_mapping(ForeHand4DSettings, study.values(variant)["model"], f"{study.preset}: model")


def choice(seed: int) -> Choice:
    """A moment before the hand sets out, as its picture shows it."""
    camera = Camera.from_horizontal_fov(IMAGE_SIZE, IMAGE_SIZE, _FIELD_OF_VIEW)
    scenes = [generate_choice_scene(seed, goal) for goal in range(2)]
    frame = int(np.floor(scenes[0].begin * scenes[0].scene.rate))
    picture = torch.from_numpy(SceneRenderer(scenes[0].scene, camera).render(frame))[None, None]
    cuts = []
    for made in scenes:
        cut = cut_windows(made.scene.episode, np.array([frame]), _STEP, 1, _FRAMES - 1)
        cuts.append(replace(cut, window=replace(cut.window, images=picture)))
    pose = scenes[0].scene.T_world_camera[frame]
    return Choice((cuts[0], cuts[1]), (scenes[0].places - pose[:3, 3]) @ pose[:3, :3])


def either_motion(seed: int) -> Episode:
    """Scenes and free motion by halves."""
    return generate_free_motion(seed, _DURATION) if seed % 2 else generate_scene(seed, _DURATION).episode


@torch.inference_mode()
def score_forecasts(made: Miniature, tests: list[Choice]) -> Scores:
    """Of the right wrist, m, the mean over both futures: error of the nearest of 10 samples, of one, and of their mean
    path; the share of goals at which no sample ends (nearer than a third of the way between both), and of samples that
    end at neither."""
    rows: dict[str, list[float]] = {name: [] for name in (BEST, ONE, MEAN, GOALS, BETWEEN)}
    for test in tests:
        paths = _wrists(made, test)  # (K, T, 3)
        true = np.stack(_true_wrists(test))  # (2, T, 3)
        apart = np.linalg.norm(paths[:, None] - true, axis=-1)[..., 1:].mean(-1)  # (K, 2)
        ends = np.linalg.norm(paths[:, None, -1] - true[:, -1], axis=-1)
        there = ends < np.linalg.norm(true[0, -1] - true[1, -1]) / 3.0
        middle = np.linalg.norm(paths.mean(0) - true, axis=-1)[..., 1:].mean(-1)
        rows[BEST].append(float(apart.min(0).mean()))
        rows[ONE].append(float(apart.mean()))
        rows[MEAN].append(float(middle.mean()))
        rows[GOALS].append(float(1.0 - there.any(0).mean()))
        rows[BETWEEN].append(float(1.0 - there.any(1).mean()))
    return {name: np.array(values) for name, values in rows.items()}


def _wrists(made: Miniature, test: Choice) -> np.ndarray:
    """Right wrists (K, T, 3) m in the camera's frame: samples, or the one path of a regressor."""
    network = made.network
    images = image_input(test.cuts[0].window.images)
    if isinstance(network, ForeHand4DRegressor):
        state = network(images)
    else:
        tokens = network.tokens(images).repeat_interleave(_SAMPLES, 0)
        noise = shared_noise(_NOISE_SEED, _SAMPLES, (_FRAMES, CHANNELS), "cpu")
        state = network.sample_ddim(tokens, noise(tokens, 0), _STEPS)
    still = torch.eye(4).expand(len(state), 4, 4)
    return hands_in_frame(state, made.mano, still).keypoints[:, :, RIGHT, WRIST].double().numpy()


def _true_wrists(test: Choice) -> list[np.ndarray]:
    """Both futures of the right wrist (T, 3) m in the camera's frame."""
    found = []
    for cut in test.cuts:
        pose = cut.window.camera_pose[0, -1].numpy()
        path = np.concatenate([cut.window.keypoints[0, -1:].numpy(), cut.future[0]])[:, RIGHT, WRIST]
        found.append((path - pose[:3, 3]) @ pose[:3, :3])
    return found


def _windows(episode: Episode, study: Study) -> Cut:
    frames = _sizes(study, Variant()).frames
    return cut_windows(episode, window_ends(episode.stamp, STEP, frames, 1, _STRIDE), STEP, frames, 1)


def _score_lifted(lifter, tests: list[Cut]) -> Scores:
    """Of what `lifter(seen, camera poses, matrix, true keypoints)` gives, m: keypoints of hands in the picture (MPJPE),
    of those that the detector saw and of those that it lost, and about the wrist."""
    rows: dict[str, list[float]] = {name: [] for name in (LIFTED, SEEN, UNSEEN, SHAPE)}
    for number, cut in enumerate(tests):
        keypoints, camera = cut.window.keypoints, cut.window.camera_pose
        matrix = square_matrix(_FIELD_OF_VIEW).double().expand(len(keypoints), 3, 3)
        inside = projected(keypoints, cut.window.valid, camera, matrix)
        seen = detected(inside, LifterWeights(), torch.Generator().manual_seed(number))
        given = lifter(seen, camera, matrix, keypoints)
        apart = (given - keypoints).norm(dim=-1).mean(-1).numpy()  # (B, T, 2)
        shape = (given - given[..., :1, :] - keypoints + keypoints[..., :1, :]).norm(dim=-1).mean(-1).numpy()
        there, found = inside.valid.all(-1).numpy(), seen.valid.all(-1).numpy()
        for name, values in {
            LIFTED: apart[there],
            SEEN: apart[found],
            UNSEEN: apart[there & ~found],
            SHAPE: shape[found],
        }.items():
            rows[name].append(float(values.mean()) if values.size else np.nan)
    return {name: np.array(values) for name, values in rows.items()}


def _of_mean_place(tests: list[Cut]) -> float:
    """m, of each hand as it is on average in the frame of its camera."""
    local = []
    for cut in tests:
        pose = cut.window.camera_pose.numpy()[:, :, None]
        local.append((cut.window.keypoints.numpy() - pose[..., None, :3, 3]) @ pose[..., :3, :3])
    points = np.concatenate(local)
    return float(np.linalg.norm(points - points.mean((0, 1)), axis=-1).mean())


@torch.inference_mode()
def lift(made: Miniature, seen: Pixels, camera: torch.Tensor, matrix: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
    """Keypoints (B, T, 2, 21, 3) m of windows, by a lifter of their length or of one frame."""
    frames, lead = made.network.config.frames, seen.valid.shape[:2]
    split = lambda array: array.reshape(-1, frames, *array.shape[2:])  # noqa: E731
    seen, camera = Pixels(split(seen.pixels), split(seen.valid)), split(camera)
    tokens = made.network.tokens(lifter_input(seen, camera, matrix[:1].expand(len(camera), 3, 3)))
    noise = shared_noise(_NOISE_SEED, 1, (frames, CHANNELS), "cpu")(tokens, 0)
    state = made.network.sample_ddim(tokens, noise, _STEPS)
    keypoints = hands_in_frame(state, made.mano, camera[:, 0]).keypoints
    return keypoints.double().reshape(*lead, *keypoints.shape[2:])


def by_size(seen: Pixels, camera: torch.Tensor, matrix: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """Keypoints (B, T, 2, 21, 3) m: a hand of average size in its true posture, put where it looks as large as it does.

    It is told more than any tracker knows, but for the person's size and the pixels' noise; a hand that is not seen
    stays where it was seen last.
    """
    view = torch.linalg.inv(camera)
    local = torch.einsum("btij,btskj->btski", view[..., :3, :3], true)
    shape = local - local[..., :1, :]
    average = torch.from_numpy(HandShape.mean().keypoints(np.zeros(NUM_ANGLES), RIGHT))
    palm = [chain[0] for name, chain in FINGER_KEYPOINTS.items() if name != "thumb"]
    shape = shape * (average[palm].norm(dim=-1).mean() / shape[..., palm, :].norm(dim=-1).mean(-1))[..., None, None]
    plane = (seen.pixels.double() - matrix[:, None, None, None, :2, 2]) / matrix[:, None, None, None, [0, 1], [0, 1]]
    # x + t_x = u (z + t_z) for every keypoint, and likewise for y: linear in the place t.
    zero, one = torch.zeros_like(plane[..., 0]), torch.ones_like(plane[..., 0])
    rows = torch.cat([torch.stack([one, zero, -plane[..., 0]], -1), torch.stack([zero, one, -plane[..., 1]], -1)], -2)
    sides = [plane[..., i] * shape[..., 2] - shape[..., i] for i in range(2)]
    weight = seen.valid.double().repeat(*(1,) * (seen.valid.dim() - 1), 2)[..., None]
    place = torch.linalg.lstsq(rows * weight + 1e-9, torch.cat(sides, -1)[..., None] * weight).solution[..., 0]
    points = shape + place[..., None, :]
    points = torch.einsum("btij,btskj->btski", camera[..., :3, :3], points) + camera[:, :, None, None, :3, 3]
    known = seen.valid.all(-1)
    for t in range(1, points.shape[1]):
        points[:, t] = torch.where(known[:, t, :, None, None], points[:, t], points[:, t - 1])
    return points
