"""`generate_scene`: one synthetic sequence, ground truth of everything, from a seed."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d, maximum_filter1d

from ...geometry.minimum_jerk import minimum_jerk
from ...geometry.transforms import invert_transform, make_transform
from ...hand.skeleton import LEFT, RIGHT
from ..episode import Episode
from .actions import ACTIONS, Done, rest
from .motion import Steps, smooth_noise
from .world import (
    FINGERS,
    ORIENTATION,
    PARKING,
    POSITION,
    TABLE_HEIGHT,
    Held,
    Person,
    Thing,
    World,
    look_at,
    orientation_matrix,
)

# The head takes this part of a gaze shift; the eyes do the rest.
_HEAD_SHARE = 0.65
# Flesh between a keypoint and the table, m; and how far ahead, s, a hand begins to rise over it.
_SKIN, _LIFT_TIME = 0.008, 0.06
_CENTRE_OF_VIEW = np.array([0.46, 0.0, TABLE_HEIGHT + 0.04])


@dataclass(frozen=True)
class Scene:
    """Ground truth at `rate` Hz in the world frame (Z up, m). T frames, N objects, sides [left, right].

    stamp (T,) s, keypoints (T, 2, 21, 3), T_world_camera (T, 4, 4) of the head camera (optical frame),
    T_world_object (T, N, 4, 4), partner (T, 3) the other person's right wrist. `task` is the instruction in words.
    """

    seed: int
    rate: float
    stamp: np.ndarray
    keypoints: np.ndarray
    T_world_camera: np.ndarray
    things: tuple[Thing, ...]
    T_world_object: np.ndarray
    person: Person
    partner: np.ndarray
    task: str

    def __len__(self) -> int:
        return len(self.stamp)

    @property
    def episode(self) -> Episode:
        """The ground truth as an episode: every keypoint valid."""
        valid = np.ones(self.keypoints.shape[:-1], dtype=bool)
        return Episode(self.stamp, self.keypoints, valid, camera_pose=self.T_world_camera, task=self.task)


def generate_scene(
    seed: int, duration: float = 30.0, rate: float = 30.0, start: float = 0.0, person: Person | None = None
) -> Scene:
    """A person at a table who takes, carries, puts, gives, gestures and rests, seen by a head camera.

    The same arguments give the same scene. `start` is the stamp of the first frame, s; with `person` given it is that
    one.
    """
    rng = np.random.default_rng([seed, 0xE60])
    world = World.sample(rng, person)
    task = tell_story(world, duration)
    return act_out(world, seed, duration, rate, start, task)


def act_out(world: World, seed: int, duration: float, rate: float, start: float, task: str) -> Scene:
    """The scene of a story that has been told: every path at `rate` Hz; arguments as of `generate_scene`."""
    rng = world.rng
    times = np.arange(round(duration * rate)) / rate
    paths = [hand_path(world, side, times) for side in (LEFT, RIGHT)]
    keypoints = np.stack([path[0] for path in paths], axis=1)
    rotations = np.stack([path[1] for path in paths], axis=1)
    objects = object_paths(world, times, make_transform(rotations, keypoints[:, :, 0]))
    camera = camera_path(world, times)
    partner = world.partner.at(times) + smooth_noise(times, 3, 0.1, 0.8, 0.004, rng)
    return Scene(
        seed, rate, start + times, keypoints, camera, tuple(world.things), objects, world.person, partner, task
    )


def tell_story(world: World, duration: float) -> str:
    """Let the hands act, one after the other with overlaps, until `duration` s; the instruction for all of it."""
    rng, phrases = world.rng, []
    names, weights = list(ACTIONS), np.array([weight for weight, _ in ACTIONS.values()])
    time = rng.uniform(0.3, 1.2)
    while time < duration:
        favourite = RIGHT if world.person.right_handed else LEFT
        side = favourite if rng.random() < 0.6 else 1 - favourite
        begin = max(time, world.free_at[side])
        done: Done = ACTIONS[str(rng.choice(names, p=weights / weights.sum()))][1](world, side, begin)
        if done.phrase:
            phrases.append(done.phrase)
        world.free_at[side] = done.end
        # The other hand often begins before this one is done; sometimes this one goes home first.
        if rng.random() < 0.2:
            world.free_at[side] = rest(world, side, done.end).end
        time = max(begin + 0.5, done.end - rng.exponential(1.2))
    return "; ".join(dict.fromkeys(phrases)) or "rest your hands on the table"


def hand_path(world: World, side: int, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints (T, 21, 3) m and R_world_palm (T, 3, 3) of one hand, with sway, finger play and tremor."""
    rng, path = world.rng, world.hands[side].at(times)
    # Slow drift of an unsupported arm, and physiological tremor at 8 to 12 Hz (Elble and Koller 1990).
    position = (
        path[:, POSITION] + smooth_noise(times, 3, 0.1, 1.2, 0.003, rng) + smooth_noise(times, 3, 8, 12, 1.5e-4, rng)
    )
    orientation = path[:, ORIENTATION] + smooth_noise(times, 3, 0.1, 1.0, 0.025, rng)
    together, alone = smooth_noise(times, 1, 0.1, 1.5, 0.03, rng), smooth_noise(times, 15, 0.1, 1.5, 0.012, rng)
    fingers = path[:, FINGERS].reshape(-1, 5, 4)
    fingers[..., 1:] += together[..., None] + alone.reshape(-1, 5, 3)
    rotation = orientation_matrix(orientation, side)
    in_palm = world.person.hand.keypoints(fingers.reshape(-1, 20), side)
    keypoints = position[:, None] + in_palm @ rotation.swapaxes(-1, -2)
    keypoints[..., 2] += lift_off_table(keypoints[..., 2].min(axis=-1), times)[:, None]
    return keypoints, rotation


def lift_off_table(lowest: np.ndarray, times: np.ndarray) -> np.ndarray:
    """How much (T,) m a hand has to be higher so that its lowest keypoint (T,) m stays on the table, smoothly."""
    needed = np.maximum(TABLE_HEIGHT + _SKIN - lowest, 0.0)
    frames = _LIFT_TIME / max(times[1] - times[0], 1e-6) if len(times) > 1 else 1.0
    return gaussian_filter1d(maximum_filter1d(needed, 2 * int(2 * frames) + 1), frames)


def object_paths(world: World, times: np.ndarray, T_world_wrist: np.ndarray) -> np.ndarray:
    """T_world_object (T, N, 4, 4): on the table, in a hand while held, and off with the other person once given."""
    paths, parked = np.tile(np.eye(4), (len(times), len(world.things), 1, 1)), 0
    for index in range(len(world.things)):
        pose = paths[:, index] = make_transform(np.eye(3), world.first_place[index])
        for held in (h for h in world.held if h.thing == index):
            inside = (times >= held.grasped) & (times < held.released)
            if not inside.any():
                continue
            wrist = T_world_wrist[inside, held.side]
            carried = wrist @ (invert_transform(wrist[0]) @ pose)
            paths[inside, index] = carried
            after = times >= held.released
            if held.given:
                paths[after, index] = handed_over(world, carried[-1], times[after], held, parked)
                parked += 1
                continue
            pose = settle(carried[-1], world.things[index])
            paths[after, index] = pose
    return paths


def handed_over(world: World, pose: np.ndarray, times: np.ndarray, held: Held, parked: int) -> np.ndarray:
    """Poses (T, 4, 4) of an object from its release on: it goes with the other person's hand, who then puts it down."""
    partner = world.partner.at(np.concatenate([[held.released], times]))
    path = np.tile(pose, (len(times), 1, 1))
    path[:, :3, 3] += partner[1:] - partner[0]
    down = settle(pose, world.things[held.thing])
    down[:2, 3] = PARKING[:2] - [0.0, 0.11 * parked]
    put = minimum_jerk((times - held.released - 1.0) / 0.8)[:, None, None]
    return (1.0 - put) * path + put * down if len(times) else path


def settle(pose: np.ndarray, thing: Thing) -> np.ndarray:
    """The pose (4, 4) in which an object stands after it was let go: upright on the table, its heading kept."""
    heading = np.arctan2(pose[1, 0], pose[0, 0])
    standing = np.eye(4)
    standing[:2, :2] = [[np.cos(heading), -np.sin(heading)], [np.sin(heading), np.cos(heading)]]
    standing[:3, 3] = [pose[0, 3], pose[1, 3], TABLE_HEIGHT + thing.size[2] / 2]
    return standing


def camera_path(world: World, times: np.ndarray) -> np.ndarray:
    """T_world_camera (T, 4, 4): the head sways, leans towards what is looked at, and turns after the gaze."""
    rng, person = world.rng, world.person
    gaze: Steps = world.gaze
    target = gaze.at(times)
    aim = _CENTRE_OF_VIEW + _HEAD_SHARE * (target - _CENTRE_OF_VIEW)
    lean = 0.08 * (target - _CENTRE_OF_VIEW) * [1.0, 1.0, 0.3]
    sway = smooth_noise(times, 3, 0.08, 0.7, 0.006, rng)
    jitter = smooth_noise(times, 3, 0.3, 3.0, 0.006, rng)
    eye = person.head + [0.09, 0.0, 0.02] + lean + sway
    return look_at(eye, aim + jitter, smooth_noise(times, 1, 0.1, 0.8, 0.02, rng)[:, 0])
