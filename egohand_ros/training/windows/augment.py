"""Augmentation of cut windows: the same motion seen elsewhere, mirrored, by other hands, faster, and by worse trackers.

Geometric changes apply to window and future alike; what a tracker does wrong applies to the window alone.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from ...data.windows import Cut
from ...geometry.rotations import exp_rotation
from ...hand.palm import palm_rotations
from ...hand.skeleton import FINGER_KEYPOINTS, NUM_KEYPOINTS, WRIST
from ...stream.window import Window
from .image_augment import ImageAugmentation, augment_images

_MIRROR = np.diag([1.0, -1.0, 1.0])
# A mirrored camera keeps its optical axis and its image is flipped left to right.
_FLIP_IMAGE = np.diag([-1.0, 1.0, 1.0])
# Keypoints that some trackers lack: PIP joints and tips alone (marker capture), no fingertips, no thumb CMC (Aria MPS).
_SPARSE = (
    tuple(i for chain in FINGER_KEYPOINTS.values() for i in (chain[0], chain[2])),
    tuple(chain[3] for chain in FINGER_KEYPOINTS.values()),
    (FINGER_KEYPOINTS["thumb"][0],),
)


@dataclass(frozen=True)
class Augmentation:
    """Ranges and probabilities; zero or (1, 1) switches a part off. Lengths in m.

    time_scale, space_scale, hand_scale   ranges of factors on time, on wrist paths and on hands; drawn log-uniformly
    mirror, camera_lost, hand_lost        probabilities of mirroring, of no camera poses, of a window without one hand
    noise          range of the deviation of keypoint noise, drawn log-uniformly for each window
    noise_memory   largest correlation of the noise from one observation to the next
    drift          largest ratio of noise common to a hand to noise of a keypoint alone
    gap            probability that a hand is lost for some observations; the last one is always there
    sparse         probability that a tracker lacks some keypoints
    offset         deviation of each keypoint of a finger from where ours is in the hand, constant in a window: trackers
                   and markers differ in what they call a knuckle, and people in how they hold their fingers
    wrist_offset   the same of the wrist: on the skin, in the joint or on a bracelet
    tilt           rad, deviation of the palm's axes in the same sense
    own_rotation   probability that the tracker measures the palm's rotation better than its noisy keypoints tell
    images         what is done to images, by default nothing

    A preset that wants those alone which it names gives `augmentation: {only: {...}}`: the rest is then off.
    """

    time_scale: tuple[float, ...] = (0.7, 1.5)
    space_scale: tuple[float, ...] = (0.7, 1.4)
    hand_scale: tuple[float, ...] = (0.88, 1.12)
    mirror: float = 0.5
    camera_lost: float = 0.5
    hand_lost: float = 0.3
    noise: tuple[float, ...] = (0.0001, 0.008)
    noise_memory: float = 0.6
    drift: float = 2.0
    gap: float = 0.15
    sparse: float = 0.35
    offset: float = 0.012
    wrist_offset: float = 0.024
    tilt: float = 0.12
    own_rotation: float = 0.3
    images: ImageAugmentation = field(default_factory=ImageAugmentation)

    def __post_init__(self):
        for name in ("time_scale", "space_scale", "hand_scale", "noise"):
            values = getattr(self, name)
            if len(values) != 2 or not 0 < values[0] <= values[1]:
                raise ValueError(f"{name} is {list(values)}; expected two positive numbers, the smaller one first")


NONE = Augmentation(
    (1.0, 1.0), (1.0, 1.0), (1.0, 1.0), 0.0, 0.0, 0.0, (1e-9, 1e-9), 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
)


def log_uniform(rng: np.random.Generator, bounds: tuple[float, ...], size: int | None = None) -> np.ndarray | float:
    """Factors between two bounds, evenly spread over their logarithm."""
    return np.exp(rng.uniform(np.log(bounds[0]), np.log(bounds[1]), size))


def augment(cut: Cut, options: Augmentation, rng: np.random.Generator) -> Cut:
    """A changed copy of B windows; time scaling has to happen where windows are cut."""
    own = rng.random(cut.window.batch) < options.own_rotation
    cut = redefine(cut, options, own, rng)
    space, hand = log_uniform(rng, options.space_scale), log_uniform(rng, options.hand_scale)
    cut = move(cut, rng.uniform(-np.pi, np.pi), space, hand)
    if rng.random() < options.mirror:
        cut = mirror(cut)
    if rng.random() < options.camera_lost:
        cut = replace(cut, window=replace(cut.window, camera_pose=None))
    return replace(cut, window=augment_images(disturb(cut.window, options, own, rng), options.images, rng))


def move(cut: Cut, yaw: float, space_scale: float, hand_scale: float) -> Cut:
    """Turn everything by `yaw` rad about Z, and scale wrist and camera paths, and hands about their wrists."""
    turn = np.array([[np.cos(yaw), -np.sin(yaw), 0.0], [np.sin(yaw), np.cos(yaw), 0.0], [0.0, 0.0, 1.0]])
    window = cut.window

    def keypoints(points: np.ndarray) -> np.ndarray:
        wrist = points[..., WRIST : WRIST + 1, :]
        return (wrist * space_scale + (points - wrist) * hand_scale) @ turn.T

    camera = None
    if window.camera_pose is not None:
        camera = window.camera_pose.clone()
        camera[..., :3, 3] *= space_scale
        camera[..., :3, :] = torch.from_numpy(turn) @ camera[..., :3, :]
    shown = window.valid.numpy()[..., None]
    moved = replace(
        window,
        keypoints=torch.from_numpy(keypoints(window.keypoints.numpy()) * shown),
        wrist_rotation=torch.from_numpy(turn @ window.wrist_rotation.numpy()),
        camera_pose=camera,
    )
    return replace(
        cut,
        window=moved,
        future=keypoints(cut.future) * cut.future_valid[..., None],
        future_rotation=turn @ cut.future_rotation,
        body=None if cut.body is None else cut.body * space_scale @ turn.T,
    )


def redefine(cut: Cut, options: Augmentation, own: np.ndarray, rng: np.random.Generator) -> Cut:
    """Other points of the hand, and other axes of the palm, constant over each window and its future.

    Where a tracker has its `own` (B,) idea of the palm, its axes are tilted; elsewhere they are those of the
    new points. Hands whose palm is not known all the time stay as they are.
    """
    batch, window = cut.window.batch, cut.window
    known = window.rotation_valid.numpy().all(axis=1) & cut.future_rotation_valid.all(axis=1)
    offset = rng.standard_normal((batch, 1, 2, NUM_KEYPOINTS, 3)) * known[:, None, :, None, None]
    offset *= np.where(np.arange(NUM_KEYPOINTS) == WRIST, options.wrist_offset, options.offset)[:, None]
    axes = exp_rotation(rng.normal(0.0, options.tilt, (batch, 1, 2, 3)) * known[:, None, :, None])
    by_points = (known & ~own[:, None])[:, None]

    def changed(keypoints: np.ndarray, rotation: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        points = (keypoints + offset @ rotation.swapaxes(-1, -2)) * valid[..., None]
        palm = palm_rotations(np.where(valid[..., None], points, np.nan))
        use = by_points & np.isfinite(palm).all(axis=(-1, -2))
        return points, np.where(use[..., None, None], palm, rotation @ axes)

    past = changed(window.keypoints.numpy(), window.wrist_rotation.numpy(), window.valid.numpy())
    future, future_rotation = changed(cut.future, cut.future_rotation, cut.future_valid)
    moved = replace(window, keypoints=torch.from_numpy(past[0]), wrist_rotation=torch.from_numpy(past[1]))
    return replace(cut, window=moved, future=future, future_rotation=future_rotation)


def mirror(cut: Cut) -> Cut:
    """Left becomes right: sides swapped and everything reflected in the plane y = 0."""
    window = cut.window
    swap = lambda array: np.ascontiguousarray(array[:, :, ::-1])  # noqa: E731
    tensor = lambda t: torch.from_numpy(swap(t.numpy()))  # noqa: E731
    camera = None
    if window.camera_pose is not None:
        camera = window.camera_pose.clone()
        camera[..., :3, :3] = torch.from_numpy(_MIRROR @ camera[..., :3, :3].numpy() @ _FLIP_IMAGE)
        camera[..., 1, 3] *= -1
    mirrored = replace(
        window,
        keypoints=torch.from_numpy(swap(window.keypoints.numpy()) @ _MIRROR),
        valid=tensor(window.valid),
        wrist_rotation=torch.from_numpy(_MIRROR @ swap(window.wrist_rotation.numpy()) @ _MIRROR),
        rotation_valid=tensor(window.rotation_valid),
        camera_pose=camera,
        **_mirrored_pictures(window),
        depth=None if window.depth is None else window.depth.flip(-1),
    )
    return Cut(
        mirrored,
        swap(cut.future) @ _MIRROR,
        swap(cut.future_valid),
        _MIRROR @ swap(cut.future_rotation) @ _MIRROR,
        swap(cut.future_rotation_valid),
        body=None if cut.body is None else cut.body[:, :, _other_side(cut.body_names)] @ _MIRROR,
        body_names=cut.body_names,
    )


def _other_side(names: tuple[str, ...]) -> list[int]:
    """Of each joint of a body its counterpart: that of the same name on the other side, or itself."""
    other = {"left": "right", "right": "left"}
    swapped = ["_".join(other.get(word, word) for word in name.split("_")) for name in names]
    return [names.index(name) if name in names else i for i, name in enumerate(swapped)]


def _mirrored_pictures(window: Window) -> dict[str, Any]:
    """Images, and what is told in their pixels or of the other hand, reflected too."""
    mirrored: dict[str, Any] = {"betas": None if window.betas is None else window.betas.flip(1)}
    if window.images is None:
        return mirrored
    width = window.images.shape[-2]
    mirrored["images"] = window.images.flip(-2)
    if window.more_images is not None:
        mirrored["more_images"] = tuple(images.flip(-2) for images in window.more_images)
    if window.camera_matrix is not None:
        matrix = window.camera_matrix.clone()
        matrix[..., 0, 2] = width - matrix[..., 0, 2]
        mirrored["camera_matrix"] = matrix
    if window.pixels is not None:
        pixels = window.pixels.flip(2).clone()
        pixels[..., 0] = width - pixels[..., 0]
        mirrored["pixels"] = pixels
    return mirrored


def disturb(window: Window, options: Augmentation, own: np.ndarray, rng: np.random.Generator) -> Window:
    """The window as a worse tracker would have seen it: noise, gaps, missing keypoints, a missing hand; `own` (B,) as
    of `redefine`."""
    batch, length = window.batch, window.length
    valid = window.valid.numpy().copy()
    lost = _gaps(batch, length, options.gap, rng)
    lost[rng.random(batch) < options.hand_lost, :, rng.integers(2)] = True
    valid &= ~lost[..., None]
    missing = np.zeros((batch, NUM_KEYPOINTS), dtype=bool)
    for row in np.flatnonzero(rng.random(batch) < options.sparse):
        missing[row, list(_SPARSE[rng.integers(len(_SPARSE))])] = True
    keypoints = window.keypoints.numpy() + _noise((batch, length), options, rng)
    # The palm as the tracker's keypoints tell it, before the missing ones are taken away: it had some way to know it.
    rotation, told = window.wrist_rotation.numpy().copy(), window.rotation_valid.numpy() & valid[..., WRIST]
    palm = palm_rotations(np.where(valid[..., None], keypoints, np.nan))
    noisy = np.isfinite(palm).all(axis=(-1, -2)) & ~own[:, None, None]
    rotation[noisy & told] = palm[noisy & told]
    rotation[~told] = np.eye(3)
    valid &= ~missing[:, None, None]
    return replace(
        window,
        keypoints=torch.from_numpy(np.where(valid[..., None], keypoints, 0.0)),
        valid=torch.from_numpy(valid),
        wrist_rotation=torch.from_numpy(rotation),
        rotation_valid=torch.from_numpy(told),
    )


def _noise(shape: tuple[int, int], options: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """Noise (B, T, 2, 21, 3) m, correlated in time and between the keypoints of a hand as far as each window has it."""
    batch, length = shape
    own = rng.standard_normal((batch, length, 2, NUM_KEYPOINTS, 3))
    common = rng.standard_normal((batch, length, 2, 1, 3)) * rng.uniform(0, options.drift, (batch, 1, 1, 1, 1))
    memory = rng.uniform(0.0, options.noise_memory, (batch, 1, 1, 1))
    noise = own + common
    for t in range(1, length):
        noise[:, t] = memory * noise[:, t - 1] + np.sqrt(1.0 - memory**2) * noise[:, t]
    return noise * log_uniform(rng, options.noise, batch).reshape(-1, 1, 1, 1, 1)


def _gaps(batch: int, length: int, probability: float, rng: np.random.Generator) -> np.ndarray:
    """(B, T, 2) bool: observations in which a hand is lost; now and then from the start, never at the end."""
    if length < 2:
        return np.zeros((batch, length, 2), dtype=bool)
    time = np.arange(length)[:, None]
    begin = rng.integers(-length // 2, length - 1, (batch, 1, 2))
    end = np.minimum(begin + rng.integers(1, length // 2 + 1, (batch, 1, 2)), length - 1)
    return (time >= begin) & (time < end) & (rng.random((batch, 1, 2)) < probability)
