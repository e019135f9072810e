"""Free motion: two hands that do all kinds of things nowhere in particular; no table, no objects, no story.

Scenes (`scene.py`) teach what people do at a table. This teaches how hands move at all: reaches of every length and
speed with sub-movements, detours and dwells, passages repeated to and fro, cyclic work (wiping, stirring, screwing,
shaking), slow wandering, and rest; fingers that open, close, tap and play. A forecaster trained on both does not rely
on one table's habits.
"""

from collections.abc import Callable

import numpy as np

from ...geometry.minimum_jerk import minimum_jerk
from ...hand.skeleton import LEFT, RIGHT
from ..episode import Episode
from .hand import POSTURES, HandShape, posture, side_sign
from .motion import Steps, smooth_noise
from .world import (
    FINGERS,
    NUM_COORDINATES,
    ORIENTATION,
    POSITION,
    look_at,
    orientation_matrix,
)

# Where wrists stay, m: in front of a person who looks along +X.
_LOW, _HIGH = np.array([0.15, -0.45, 0.70]), np.array([0.65, 0.45, 1.30])
_HEAD = np.array([0.05, 0.0, 1.30])
_POSTURES = tuple(POSTURES)
# Unhurried people take about a second to reach an object at 0.3 m, far longer than when told to be quick.
_PACE = 0.6


def generate_free_motion(seed: int, duration: float = 30.0, rate: float = 30.0) -> Episode:
    """An episode of free motion, every keypoint valid, in a world frame (Z up) with the head camera's poses.

    The same arguments give the same episode.
    """
    rng = np.random.default_rng([seed, 0xF4EE])
    times = np.arange(round(duration * rate)) / rate
    shape = HandShape.sample(rng)
    right = hand_coordinates(rng, times, RIGHT)
    together = rng.random()
    if together < 0.25:  # both hands do the same, one a little later, as in carrying a tray or clapping
        left = mirrored(right, round(rng.exponential(0.06) * rate), times, rng)
    elif together < 0.40:
        left = hand_coordinates(rng, times, LEFT, only=(still,))
    else:
        left = hand_coordinates(rng, times, LEFT)
    if rng.random() < 0.15:  # a left-hander
        right, left = mirrored(left, 0, times, rng), mirrored(right, 0, times, rng)
    keypoints = []
    for side, path in ((LEFT, left), (RIGHT, right)):
        rotation = orientation_matrix(path[:, ORIENTATION], side)
        in_palm = shape.keypoints(path[:, FINGERS], side)
        keypoints.append(path[:, None, POSITION] + in_palm @ rotation.swapaxes(-1, -2))
    stacked = np.stack(keypoints, axis=1)
    camera = head_camera(rng, times, stacked[:, :, 0])
    return Episode(times, stacked, np.ones(stacked.shape[:-1], dtype=bool), camera_pose=camera)


def hand_coordinates(
    rng: np.random.Generator, times: np.ndarray, side: int, only: tuple[Callable, ...] | None = None
) -> np.ndarray:
    """Path (T, 26) of one hand: stretches of one manner after the other, with sway and tremor on top."""
    start = np.zeros(NUM_COORDINATES)
    start[POSITION] = rng.uniform(_LOW, _HIGH) * [1.0, 0.4, 1.0] - [0.0, 0.2 * side_sign(side), 0.0]
    start[ORIENTATION] = rng.normal(0.0, [0.8, 0.5, 0.7])
    start[FINGERS] = posture(str(rng.choice(_POSTURES)), rng)
    path, extra = Steps(start), np.zeros((len(times), NUM_COORDINATES))
    pace, time = float(_PACE * np.exp(rng.normal(0.0, 0.4))), 0.0
    manners, weights = only or tuple(MANNERS), None if only else np.array(list(MANNERS.values()))
    while time < times[-1]:
        manner = manners[rng.choice(len(manners), p=weights)]
        time = manner(rng, path, extra, times, time, rng.uniform(1.5, 8.0), pace)
    sway = smooth_noise(times, 3, 0.08, 1.0, rng.uniform(0.0005, 0.004), rng)
    tremor = smooth_noise(times, 3, 6, 12, 10 ** rng.uniform(-4.3, -3.3), rng)
    extra[:, POSITION] += sway + tremor
    extra[:, ORIENTATION] += smooth_noise(times, 3, 0.1, 1.5, rng.uniform(0.005, 0.04), rng)
    extra[:, FINGERS] += smooth_noise(times, 20, 0.1, 2.0, rng.uniform(0.003, 0.03), rng)
    if rng.random() < 0.65:
        extra[:, FINGERS] += busy_fingers(rng, times)
    coordinates = path.at(times) + extra
    # What one does with all fingers, another does with two and an almost rigid thumb.
    _play(coordinates, FINGERS, np.repeat(rng.uniform(0.1, 1.1, 5) * rng.uniform(0.7, 1.7), 4))
    coordinates[:, FINGERS] = np.clip(coordinates[:, FINGERS], -0.6, 2.0)
    # Most work is done with the palm turned much the same way, some is not.
    _play(coordinates, ORIENTATION, np.exp(rng.uniform(np.log(0.12), np.log(1.0))))
    return coordinates


def busy_fingers(rng: np.random.Generator, times: np.ndarray) -> np.ndarray:
    """Finger angles (T, 20) rad about zero, of fingers that never stay for long: from one of a few postures to the
    next, or in an unbroken play of a few synergies. After a second they may be anywhere, but about their mean."""
    favourites = np.stack([posture(str(rng.choice(_POSTURES)), rng) for _ in range(rng.integers(2, 5))])
    apart = favourites - favourites.mean(axis=0)
    strength = rng.uniform(0.3, 1.0)
    if rng.random() < 0.4:
        high = np.exp(rng.uniform(np.log(0.4), np.log(1.5)))
        return strength * smooth_noise(times, len(apart), 0.15, high, 0.8, rng) @ apart
    dwell, time, place = np.exp(rng.uniform(np.log(0.2), np.log(1.2))), 0.0, 0
    path = Steps(apart[0])
    while time < times[-1]:
        place = (place + int(rng.integers(1, len(apart)))) % len(apart)
        duration = dwell * rng.uniform(0.4, 1.1) + 0.08
        path.move(apart[place] * rng.uniform(0.8, 1.2), time, duration)
        time += max(duration * 0.8, dwell * np.exp(rng.normal(0.0, 0.4)))
    return strength * path.at(times)


def _play(coordinates: np.ndarray, where: slice, share: np.ndarray | float) -> None:
    """Take that share of the deviations (T, 26) from the mean, in place."""
    usual = coordinates[:, where].mean(axis=0)
    coordinates[:, where] = usual + share * (coordinates[:, where] - usual)


def reach(rng, path, extra, times, time, span, pace) -> float:
    """Point-to-point movements with sub-movements and detours; some stop between them and some flow into the next."""
    end, flowing, pause = time + span, rng.random() < 0.4, rng.choice([0.1, 0.5])
    before = path.end[POSITION].copy()
    while time < end:
        here = path.end[POSITION].copy()
        distance = float(np.exp(rng.uniform(np.log(0.02), np.log(0.55))))
        target = np.clip(here + distance * _direction(rng), _LOW, _HIGH)
        if rng.random() < 0.35:  # back to where it came from, as with what was fetched
            target = before + rng.normal(0.0, 0.1, 3) * np.linalg.norm(before - here)
        before, distance = here, float(np.linalg.norm(target - here))
        # Longer ways are gone faster, but not in proportion (Fitts 1954), and people and moods differ.
        duration = (0.22 + 0.9 * distance**0.6 * np.exp(rng.normal(0.0, 0.35))) / pace
        _submovements(rng, path, target - here, time, duration)
        _detour(rng, path, target - here, time, duration)
        turn = rng.normal(0.0, 0.25 + 1.5 * distance, 3) * (rng.random() < 0.7)
        turn -= 0.3 * path.end[ORIENTATION] * (rng.random() < 0.5)
        _add(path, ORIENTATION, turn, time + rng.uniform(-0.1, 0.15) * duration, duration * rng.uniform(0.7, 1.1))
        if rng.random() < 0.5:  # opens on the way, and closes again
            _there_and_back(rng, path, time + rng.uniform(0.0, 0.3) * duration, rng.uniform(0.7, 1.2) * duration + 0.1)
        if rng.random() < 0.4:
            _fingers(rng, path, time + rng.uniform(0.0, 0.8) * duration, rng.uniform(0.25, 0.8) * duration + 0.1)
        if rng.random() < 0.3:
            _fingers(rng, path, time + rng.uniform(0.7, 1.0) * duration, rng.uniform(0.2, 0.5) / pace)
        time += duration * rng.uniform(0.65, 0.95) if flowing else duration + rng.exponential(pause)
    return time


def shuttle(rng, path, extra, times, time, span, pace) -> float:
    """To and fro between two or three poses, as in filling a box, feeding a machine or practising a movement.

    Each passage is much like the one before; the fingers close and open at the same places every time.
    """
    stations = [path.end.copy()]
    for _ in range(rng.integers(1, 3)):
        pose, reach_length = stations[0].copy(), float(np.exp(rng.uniform(np.log(0.05), np.log(0.5))))
        pose[POSITION] = np.clip(pose[POSITION] + reach_length * _direction(rng), _LOW, _HIGH)
        pose[ORIENTATION] += rng.normal(0.0, 0.2 + reach_length, 3) * (rng.random() < 0.7)
        if rng.random() < 0.7:
            pose[FINGERS] = posture(str(rng.choice(_POSTURES)), rng)
        stations.append(pose)
    opens, opened = rng.random() < 0.6, posture(str(rng.choice(["preshape", "open", "flat"])), rng)
    detours = [rng.normal(0.0, 0.12, 3) * (rng.random() < 0.6) for _ in stations]
    tempo, dwell = np.exp(rng.normal(0.0, 0.25)) / pace, rng.choice([0.0, 0.05, 0.15, 0.4, 0.8])
    # One way is often slower than the other: towards an object with care, and back without.
    tempos = tempo * np.exp(rng.normal(0.0, 0.15, len(stations)))
    scatter, end, place = rng.uniform(0.02, 0.15), time + max(2.5 * span, 8.0), 0
    while time < end:
        place = (place + 1) % len(stations)
        target = stations[place].copy()
        delta = target[POSITION] - path.end[POSITION]
        distance = float(np.linalg.norm(delta))
        target[POSITION] += rng.normal(0.0, 0.008 + scatter * distance, 3)
        target[ORIENTATION] += rng.normal(0.0, 0.06, 3)
        duration = (0.25 + 1.1 * distance**0.6) * tempos[place] * np.exp(rng.normal(0.0, 0.1))
        fingers, target[FINGERS] = target[FINGERS].copy(), np.nan
        out = detours[place] * distance * np.exp(rng.normal(0.0, 0.2))
        _add(path, POSITION, out, time, 0.6 * duration)
        _add(path, POSITION, -out, time + 0.4 * duration, 0.6 * duration)
        path.move(target, time, duration)
        grip = np.full(NUM_COORDINATES, np.nan)
        if opens:  # wider than what it goes to, or comes from, in the first two thirds of the way (Jeannerod 1984)
            grip[FINGERS] = opened + rng.normal(0.0, 0.03, 20)
            path.move(grip, time + rng.uniform(0.0, 0.2) * duration, rng.uniform(0.35, 0.6) * duration)
        grip[FINGERS] = fingers + rng.normal(0.0, 0.02, 20)
        path.move(grip, time + rng.uniform(0.55, 1.0) * duration, rng.uniform(0.2, 0.5) * tempo)
        time += duration * rng.uniform(0.85, 1.0) + dwell * rng.exponential(1.0)
    return time


def cycle(rng, path, extra, times, time, span, pace) -> float:
    """Cyclic work: the wrist goes round an ellipse, the palm turns back and forth, or both; it fades in and out."""
    frequency = float(np.exp(rng.uniform(np.log(0.3), np.log(2.5))))
    amplitude = float(np.exp(rng.uniform(np.log(0.01), np.log(0.12)))) / max(1.0, frequency)
    envelope = _envelope(times, time, span)
    phase = 2.0 * np.pi * frequency * (times - time) + 0.6 * smooth_noise(times, 1, 0.1, 0.6, 1.0, rng)[:, 0]
    wave = np.stack([np.sin(phase), np.sin(phase + rng.uniform(0.0, np.pi))], axis=-1) * envelope[:, None]
    kind = rng.random()
    if kind < 0.75:
        axes = np.stack([_direction(rng), _direction(rng) * rng.uniform(0.0, 1.0)])
        extra[:, POSITION] += amplitude * wave @ axes
    if kind > 0.5:
        extra[:, ORIENTATION] += wave[:, :1] * rng.normal(0.0, 0.35, 3) / max(1.0, frequency)
    if rng.random() < 0.4:
        fingers = np.zeros((5, 4))
        fingers[:, 1:] = rng.uniform(0.05, 0.5) * (rng.random((5, 1)) < 0.6)
        extra[:, FINGERS] += wave[:, 1:] * fingers.ravel()
    return time + span


def wander(rng, path, extra, times, time, span, pace) -> float:
    """Slow, unbroken movement without goals, as in showing, explaining or following something."""
    envelope = _envelope(times, time, span)[:, None]
    high = rng.uniform(0.2, 1.0)
    extra[:, POSITION] += envelope * smooth_noise(times, 3, 0.05, high, rng.uniform(0.02, 0.10), rng)
    extra[:, ORIENTATION] += envelope * smooth_noise(times, 3, 0.05, high, rng.uniform(0.05, 0.5), rng)
    if rng.random() < 0.6:
        extra[:, FINGERS] += envelope * smooth_noise(times, 20, 0.1, 1.2, rng.uniform(0.02, 0.15), rng)
    return time + span


def finger_work(rng, path, extra, times, time, span, pace) -> float:
    """The hand stays about where it is while its fingers grasp, release, tap and type."""
    end = time + span
    while time < end:
        kind = rng.random()
        if kind < 0.25:
            _fingers(rng, path, time, rng.uniform(0.15, 0.7) / pace)
        elif kind < 0.6:
            _there_and_back(rng, path, time, rng.uniform(0.3, 1.2) / pace)
        else:
            tap = np.zeros((5, 4))
            tap[rng.integers(5), 1:] = rng.uniform(0.1, 0.6) * np.array([1.0, 0.5, 0.3])
            down = rng.uniform(0.06, 0.25) / pace
            _add(path, FINGERS, tap.ravel(), time, down)
            _add(path, FINGERS, -tap.ravel(), time + down * rng.uniform(1.0, 2.0), down)
        _add(path, POSITION, rng.normal(0.0, 0.01, 3), time, rng.uniform(0.2, 0.6))
        _add(path, ORIENTATION, rng.normal(0.0, 0.08, 3), time, rng.uniform(0.2, 0.6))
        time += rng.exponential(0.45) + 0.1
    return time


def still(rng, path, extra, times, time, span, pace) -> float:
    """Nothing but sway; now and then a small shift."""
    if rng.random() < 0.5:
        _add(path, POSITION, rng.normal(0.0, 0.015, 3), time + rng.uniform(0.2, 0.8) * span, rng.uniform(0.3, 1.0))
    return time + span


MANNERS: dict[Callable, float] = {
    reach: 0.34,
    shuttle: 0.30,
    cycle: 0.10,
    wander: 0.10,
    finger_work: 0.10,
    still: 0.06,
}


def mirrored(path: np.ndarray, delay: int, times: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The other hand's path (T, 26) that does the same `delay` frames later, with its own small differences."""
    other = np.roll(path, delay, axis=0)
    other[:delay] = path[0]
    sign = np.ones(NUM_COORDINATES)
    sign[1], sign[3], sign[5] = -1.0, -1.0, -1.0  # y, roll and yaw
    other = other * sign
    other[:, POSITION] += smooth_noise(times, 3, 0.05, 0.8, 0.006, rng)
    other[:, ORIENTATION] += smooth_noise(times, 3, 0.05, 0.8, 0.05, rng)
    return other


def head_camera(rng: np.random.Generator, times: np.ndarray, wrists: np.ndarray) -> np.ndarray:
    """T_world_camera (T, 4, 4): the head looks at where one hand will be shortly, or about; wrists (T, 2, 3) m."""
    rate = 1.0 / (times[1] - times[0])
    ahead = np.minimum(np.arange(len(times)) + round(rng.uniform(0.0, 0.5) * rate), len(times) - 1)
    watched = wrists[ahead, rng.integers(2)]
    about = np.array([0.45, 0.0, 0.85]) + smooth_noise(times, 3, 0.05, 0.5, 0.08, rng)
    share = rng.uniform(0.0, 0.7)
    width = max(3, int(0.25 * rate))
    smooth = np.stack(
        [np.convolve(np.pad(c, width // 2, mode="edge"), np.ones(width) / width, "same") for c in watched.T], -1
    )
    aim = about + share * (smooth[width // 2 : width // 2 + len(times)] - about)
    eye = _HEAD + rng.normal(0.0, 0.05, 3) + smooth_noise(times, 3, 0.05, 0.8, 0.015, rng)
    return look_at(eye, aim, smooth_noise(times, 1, 0.1, 0.8, 0.03, rng)[:, 0])


def _submovements(rng, path: Steps, delta: np.ndarray, time: float, duration: float) -> None:
    """One, two or three overlapping minimum-jerk steps that add up to `delta` (3,)."""
    count = rng.choice(3, p=[0.45, 0.38, 0.17]) + 1
    shares = rng.dirichlet(np.linspace(8.0, 2.0, count)) if count > 1 else np.ones(1)
    onset = time
    for i, share in enumerate(shares):
        aside = rng.normal(0.0, 0.04 * np.linalg.norm(delta), 3) if count > 1 else np.zeros(3)
        length = duration * (0.55 + 0.45 / count) * rng.uniform(0.85, 1.15)
        _add(path, POSITION, share * delta + aside, onset, length)
        if i + 1 < count:
            onset += length * rng.uniform(0.3, 0.7)


def _detour(rng, path: Steps, delta: np.ndarray, time: float, duration: float) -> None:
    """Out to one side and back, or up over something."""
    if rng.random() < 0.5:
        return
    out = np.cross(delta, _direction(rng)) * rng.uniform(0.0, 0.5)
    if rng.random() < 0.4:
        out = np.array([0.0, 0.0, rng.uniform(0.0, 0.12)])
    _add(path, POSITION, out, time, 0.6 * duration)
    _add(path, POSITION, -out, time + 0.4 * duration, 0.6 * duration)


def _fingers(rng, path: Steps, onset: float, duration: float) -> None:
    """To a mixture of two named postures."""
    first, second = (posture(str(rng.choice(_POSTURES)), rng) for _ in range(2))
    mix = rng.uniform(0.0, 1.0)
    target = np.full(NUM_COORDINATES, np.nan)
    target[FINGERS] = mix * first + (1.0 - mix) * second
    path.move(target, onset, duration)


def _there_and_back(rng, path: Steps, onset: float, duration: float) -> None:
    """Towards a named posture and back to about where the fingers were, as in opening a grip and closing it again."""
    target = rng.uniform(0.3, 1.0) * (posture(str(rng.choice(_POSTURES)), rng) - path.end[FINGERS])
    _add(path, FINGERS, target, onset, 0.5 * duration)
    _add(path, FINGERS, -target * rng.uniform(0.8, 1.1), onset + duration * rng.uniform(0.4, 0.6), 0.5 * duration)


def _add(path: Steps, where: slice, delta: np.ndarray, onset: float, duration: float) -> None:
    full = np.zeros(NUM_COORDINATES)
    full[where] = delta
    path.add(full, onset, duration)


def _direction(rng: np.random.Generator) -> np.ndarray:
    vector = rng.standard_normal(3)
    return vector / np.linalg.norm(vector)


def _envelope(times: np.ndarray, start: float, span: float) -> np.ndarray:
    """0 to 1 and back over a stretch."""
    fade = min(0.6, span / 3.0)
    return minimum_jerk((times - start) / fade) * minimum_jerk((start + span - times) / fade)
