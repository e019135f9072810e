"""What a synthetic scene is made of: the table, objects on it, the person, and the paths of hands, gaze and objects.

World frame: Z up, floor at 0; the person looks along +X, their left is +Y.
"""

from dataclasses import dataclass, field

import numpy as np

from ...geometry.transforms import make_transform
from ...hand.skeleton import LEFT, RIGHT
from .hand import NUM_ANGLES, HandShape, posture, side_sign
from .motion import Steps

TABLE_HEIGHT = 0.74
TABLE_X, TABLE_Y = (0.12, 0.95), (-0.65, 0.65)
# Where the other person's hand waits, and where they put down what they were given.
PARTNER_REST, PARKING = np.array([1.02, -0.06, 0.86]), np.array([0.86, 0.30, TABLE_HEIGHT])
# Where a seated person reaches comfortably, x and y m.
REACH_X, REACH_Y = (0.34, 0.56), (-0.30, 0.30)
PARTNER = np.array([0.66, 0.0, 0.98])

# Columns of a hand's path: wrist position m, wrist roll pitch yaw rad (mirrored for the left hand), finger angles rad.
POSITION, ORIENTATION, FINGERS = slice(0, 3), slice(3, 6), slice(6, 6 + NUM_ANGLES)
NUM_COORDINATES = 6 + NUM_ANGLES

COLOURS = {
    "red": (196, 52, 44),
    "blue": (48, 92, 176),
    "green": (66, 140, 84),
    "yellow": (226, 178, 58),
    "orange": (222, 120, 40),
    "white": (226, 224, 216),
}


@dataclass(frozen=True)
class Thing:
    """An object: `shape` is cylinder (radius, radius, height), box or ball, with full extents `size` (3,) m.

    `grasp` is the hand's posture on it and `from_above` whether the hand comes from above or from the side.
    """

    name: str
    shape: str
    size: tuple[float, float, float]
    grasp: str
    from_above: bool
    colour: str = "red"

    @property
    def label(self) -> str:
        return f"{self.colour} {self.name}"


THINGS = (
    Thing("cup", "cylinder", (0.075, 0.075, 0.095), "power", False),
    Thing("bottle", "cylinder", (0.062, 0.062, 0.190), "power", False),
    Thing("ball", "ball", (0.066, 0.066, 0.066), "tripod", True),
    Thing("box", "box", (0.075, 0.050, 0.060), "pinch", True),
    Thing("block", "box", (0.045, 0.045, 0.045), "pinch", True),
    Thing("tin", "cylinder", (0.066, 0.066, 0.105), "power", False),
)


@dataclass
class Held:
    """An interval in which a hand carries an object; `released` is infinite while it does. `given`: to the other
    person.
    """

    thing: int
    side: int
    grasped: float
    released: float = np.inf
    given: bool = False


@dataclass
class Person:
    """Individual sizes and manners: hand shape, speed factor, head and shoulders in m."""

    hand: HandShape
    pace: float
    head: np.ndarray
    shoulder_width: float
    right_handed: bool

    @classmethod
    def sample(cls, rng: np.random.Generator) -> "Person":
        return cls(
            HandShape.sample(rng),
            float(np.exp(rng.normal(0.40, 0.18))),
            np.array([0.04, 0.0, 1.22]) + rng.normal(0.0, [0.02, 0.015, 0.03]),
            float(rng.normal(0.38, 0.02)),
            bool(rng.random() < 0.88),
        )

    def shoulder(self, side: int) -> np.ndarray:
        """Position (3,) m of a shoulder."""
        return np.array([-0.06, -side_sign(side) * self.shoulder_width / 2, self.head[2] - 0.20])


@dataclass
class World:
    """The scene while its story is being told. Actions add to the paths; `scene.py` evaluates them."""

    rng: np.random.Generator
    person: Person
    things: list[Thing]
    place: list[np.ndarray]  # where each object is at this point of the story: its centre (3,) m, infinite if gone
    first_place: tuple[np.ndarray, ...] = ()
    hands: list[Steps] = field(default_factory=list)
    gaze: Steps | None = None
    partner: Steps | None = None
    held: list[Held] = field(default_factory=list)
    free_at: list[float] = field(default_factory=lambda: [0.0, 0.0])

    @classmethod
    def sample(
        cls, rng: np.random.Generator, person: Person | None = None, things: list[Thing] | None = None
    ) -> "World":
        """A person, any or this one, at a table with these things on it, or with any three to five."""
        things = things or any_things(rng)
        anybody = Person.sample(rng)
        world = cls(rng, person or anybody, things, [])
        for thing in things:
            world.place.append(world.free_spot(thing))
        world.first_place = tuple(world.place)
        world.hands = [Steps(world.rest_pose(side)) for side in (LEFT, RIGHT)]
        world.gaze = Steps(np.array([0.45, 0.0, TABLE_HEIGHT]))
        world.partner = Steps(PARTNER_REST)
        return world

    def free_spot(self, thing: Thing) -> np.ndarray:
        """A centre (3,) m for an object on the table, away from the others (best of some tries)."""
        best, clearance = None, -1.0
        for _ in range(24):
            spot = np.array([self.rng.uniform(*REACH_X), self.rng.uniform(*REACH_Y), TABLE_HEIGHT + thing.size[2] / 2])
            others = [np.linalg.norm(spot[:2] - other[:2]) for other in self.place]
            nearest = min(others, default=np.inf)
            if nearest > clearance:
                best, clearance = spot, nearest
            if nearest > 0.15:
                break
        return best

    def rest_pose(self, side: int) -> np.ndarray:
        """A hand's coordinates when it lies on the table's edge."""
        sign = side_sign(side)
        position = np.array([0.19, -sign * 0.16, TABLE_HEIGHT + 0.035]) + self.rng.normal(0, [0.03, 0.03, 0.006])
        orientation = [
            sign * self.rng.normal(0.35, 0.15),
            self.rng.normal(0.05, 0.08),
            sign * self.rng.normal(0.25, 0.15),
        ]
        return np.concatenate([position, orientation, posture("rest", self.rng)])

    def nearer_hand(self, point: np.ndarray) -> int:
        """The hand that would take an object at `point` (3,)."""
        bias = 0.06 if self.person.right_handed else -0.06
        return RIGHT if point[1] < bias + self.rng.normal(0.0, 0.03) else LEFT


def any_things(rng: np.random.Generator) -> list[Thing]:
    """Three to five things, each of another kind and colour."""
    count = int(rng.integers(3, 6))
    kinds = rng.choice(len(THINGS), count, replace=False)
    colours = rng.choice(list(COLOURS), count, replace=False)
    return [Thing(**{**vars(THINGS[k]), "colour": str(c)}) for k, c in zip(kinds, colours)]


def orientation_matrix(angles: np.ndarray, side: int) -> np.ndarray:
    """R_world_palm (..., 3, 3) of roll, pitch, yaw (..., 3) rad: Rz(yaw) Ry(pitch) Rx(roll); all zero is a palm that
    faces down and points forward."""
    roll, pitch, yaw = np.moveaxis(np.asarray(angles, dtype=np.float64), -1, 0)
    cr, sr, cp, sp, cy, sy = np.cos(roll), np.sin(roll), np.cos(pitch), np.sin(pitch), np.cos(yaw), np.sin(yaw)
    # Written row by row, as a matrix is read.
    rows = [
        cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr,
        sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr,
        -sp, cp * sr, cp * cr,
    ]  # fmt: skip
    return np.stack(rows, axis=-1).reshape(*roll.shape, 3, 3)


def look_at(eye: np.ndarray, target: np.ndarray, roll: np.ndarray) -> np.ndarray:
    """T_world_camera (T, 4, 4) of optical frames at `eye` (T, 3) that look at `target` (T, 3), tilted by `roll` (T,)
    rad.
    """
    forward = target - eye
    forward = forward / np.linalg.norm(forward, axis=-1, keepdims=True)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right = right / np.linalg.norm(right, axis=-1, keepdims=True)
    down = np.cross(forward, right)
    c, s = np.cos(roll)[:, None], np.sin(roll)[:, None]
    return make_transform(np.stack([c * right + s * down, c * down - s * right, forward], axis=-1), eye)
