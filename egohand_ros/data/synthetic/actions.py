"""What the hands do. An action adds steps to the world's paths from a start time on and returns when it ends.

To add one, write a function `(world, side, start) -> Done` and put it in `ACTIONS`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .hand import posture, side_sign
from .motion import fitts_time
from .world import (
    FINGERS,
    NUM_COORDINATES,
    ORIENTATION,
    PARTNER,
    PARTNER_REST,
    POSITION,
    TABLE_HEIGHT,
    Held,
    Thing,
    World,
    orientation_matrix,
)

# Palm coordinates (x distal, z dorsal) of what is held: by the fingertips, and against the palm.
_AT_FINGERTIPS, _AT_PALM = np.array([0.150, 0.020, -0.058]), np.array([0.090, 0.0, -0.022])

# From an object that is handed over to the wrist of the other person, whose palm is below it.
_PARTNER_REACH = np.array([0.10, 0.0, -0.055])


@dataclass(frozen=True)
class Done:
    """When an action ended, s, and the words for it ("" if it is not worth telling)."""

    end: float
    phrase: str = ""


def coordinates(
    position: np.ndarray | None = None, orientation: np.ndarray | None = None, fingers: np.ndarray | None = None
) -> np.ndarray:
    """A target (26,) for a hand; what is not given stays as it is."""
    target = np.full(NUM_COORDINATES, np.nan)
    for where, value in ((POSITION, position), (ORIENTATION, orientation), (FINGERS, fingers)):
        if value is not None:
            target[where] = value
    return target


def move_hand(
    world: World,
    side: int,
    start: float,
    position: np.ndarray,
    orientation: np.ndarray,
    width: float,
    lift: float = 0.0,
) -> float:
    """Take the wrist to a pose; the time at which it is there.

    A primary movement that falls a little short, a corrective one that begins before it ends (Meyer et al. 1988), and
    a rise of `lift` m on the way. The orientation leads a little; the gaze leads more.
    """
    rng, path = world.rng, world.hands[side]
    distance = float(np.linalg.norm(position - path.end[POSITION]))
    duration = world.person.pace * fitts_time(distance, width) * np.exp(rng.normal(0.0, 0.10))
    short = coordinates(position=position + (path.end[POSITION] - position) * rng.uniform(0.02, 0.12))
    short[POSITION] += rng.normal(0.0, 0.03 * distance, 3)
    path.move(short, start, 0.85 * duration)
    path.move(coordinates(position=position), start + 0.62 * duration, 0.42 * duration)
    path.move(coordinates(orientation=orientation), start + rng.uniform(0.0, 0.08) * duration, 0.9 * duration)
    if lift > 0.0:
        rise = coordinates(position=np.zeros(3))
        rise = np.where(np.isfinite(rise), rise, 0.0)
        rise[2] = lift
        path.add(rise, start, 0.6 * duration)
        path.add(-rise, start + 0.45 * duration, 0.6 * duration)
    look(world, position, start - rng.uniform(0.10, 0.35))
    return start + 1.05 * duration


def look(world: World, target: np.ndarray, onset: float) -> None:
    """Turn the gaze to a point; the head follows it."""
    world.gaze.move(target + world.rng.normal(0.0, 0.02, 3), onset, world.rng.uniform(0.35, 0.6))


def rest(world: World, side: int, start: float) -> Done:
    """Go to the table's edge and stay there."""
    pose = world.rest_pose(side)
    end = move_hand(world, side, start, pose[POSITION], pose[ORIENTATION], width=0.10, lift=0.03)
    world.hands[side].move(coordinates(fingers=pose[FINGERS]), start, end - start)
    return Done(end + world.rng.uniform(0.4, 2.0))


def gesture(world: World, side: int, start: float) -> Done:
    """Lift the hand and point or beat the air, as people do who talk."""
    rng, sign = world.rng, side_sign(side)
    centre = np.array([0.36, -sign * 0.14, 0.96]) + rng.normal(0.0, 0.05, 3)
    shape, time = posture(str(rng.choice(["point", "open", "flat"])), rng), start
    for _ in range(int(rng.integers(2, 5))):
        orientation = np.array([sign * rng.normal(0.6, 0.4), rng.normal(-0.2, 0.2), sign * rng.normal(0.2, 0.3)])
        beat = move_hand(world, side, time, centre + rng.normal(0.0, 0.06, 3), orientation, width=0.10)
        world.hands[side].move(coordinates(fingers=shape), time, beat - time)
        time = beat + rng.uniform(0.0, 0.15)
    return Done(time)


def take(world: World, side: int, start: float, index: int) -> float:
    """Reach for object `index` and close the hand on it; the time at which it is held."""
    rng, thing, path = world.rng, world.things[index], world.hands[side]
    position, orientation = grasp_pose(world, side, thing, world.place[index])
    lift = rng.uniform(0.02, 0.06)
    there = move_hand(world, side, start, position, orientation, width=0.05, lift=lift)
    span = there - start
    # The hand opens wider than the object during the first two thirds of the reach (Jeannerod 1984).
    path.move(coordinates(fingers=posture("preshape", rng)), start + 0.1 * span, 0.55 * span)
    closing = rng.uniform(0.25, 0.40) * world.person.pace
    path.move(coordinates(fingers=posture(thing.grasp, rng, 0.03)), there - 0.15 * span, closing)
    held = there - 0.15 * span + closing
    world.held.append(Held(index, side, held))
    return held + rng.uniform(0.05, 0.25)


def release(world: World, side: int, start: float) -> float:
    """Open the hand and draw it back a little; the time at which the object is free."""
    rng, path = world.rng, world.hands[side]
    opening = rng.uniform(0.25, 0.4) * world.person.pace
    path.move(coordinates(fingers=posture("preshape", rng)), start, opening)
    back = path.end[POSITION] - 0.05 * orientation_matrix(path.end[ORIENTATION], side)[:, 0] + [0.0, 0.0, 0.02]
    path.move(coordinates(position=back), start + 0.6 * opening, 0.4)
    world.held[-1].released = start + 0.4 * opening
    return start + opening + 0.1


def put_elsewhere(world: World, side: int, start: float) -> Done:
    """Take an object and put it somewhere else on the table."""
    index = choose(world, side)
    if index is None:
        return rest(world, side, start)
    thing = world.things[index]
    time = take(world, side, start, index)
    target = world.free_spot(thing)
    time = place(world, side, time, index, target)
    where = "on the left" if target[1] > 0.1 else "on the right" if target[1] < -0.1 else "in the middle"
    return Done(time, f"put the {thing.label} {where}")


def place(world: World, side: int, start: float, index: int, target: np.ndarray) -> float:
    """Put object `index`, which the hand holds, down with its centre at `target` (3,) m; when the hand is off it."""
    position, orientation = grasp_pose(world, side, world.things[index], target)
    time = move_hand(world, side, start, position, orientation, width=0.06, lift=world.rng.uniform(0.05, 0.16))
    time = release(world, side, time + world.rng.uniform(0.0, 0.2))
    world.place[index] = target
    return time


def give(world: World, side: int, start: float) -> Done:
    """Take an object and hand it over to the person opposite."""
    index = choose(world, side)
    if index is None:
        return rest(world, side, start)
    end, _ = give_object(world, side, start, index)
    return Done(end, f"give the {world.things[index].label} to the other person")


def give_object(world: World, side: int, start: float, index: int) -> tuple[float, np.ndarray]:
    """Take object `index` and hand it over; when it is done, and where the object's centre (3,) m is handed over."""
    rng, thing = world.rng, world.things[index]
    time = take(world, side, start, index)
    target = PARTNER + rng.normal(0.0, 0.04, 3) - [0.06, 0.0, 0.0]
    position, orientation = grasp_pose(world, side, thing, target)
    orientation = orientation + [0.0, -0.25, 0.0]
    world.partner.move(target + _PARTNER_REACH, time + rng.uniform(0.0, 0.3), rng.uniform(0.6, 0.9))
    time = move_hand(world, side, time, position, orientation, width=0.08, lift=0.05)
    look(world, PARTNER + [0.3, 0.0, 0.1], time - 0.3)
    time = release(world, side, time + rng.uniform(0.4, 1.0))
    world.held[-1].given = True
    world.partner.move(PARTNER_REST, world.held[-1].released + 0.15, rng.uniform(0.8, 1.1))
    world.place[index] = np.full(3, np.inf)
    return time, target


def grasp_pose(world: World, side: int, thing: Thing, centre: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Wrist position (3,) m and roll, pitch, yaw (3,) rad of a hand that holds an object at `centre`."""
    rng, sign = world.rng, side_sign(side)
    aim = np.arctan2(*(centre - world.person.shoulder(side))[[1, 0]])
    if thing.from_above:
        angles = np.array(
            [sign * rng.normal(0.15, 0.10), rng.normal(0.65, 0.08), 0.6 * aim + sign * rng.normal(0.1, 0.08)]
        )
        contact = _AT_FINGERTIPS
    else:
        angles = np.array(
            [sign * rng.normal(1.35, 0.08), rng.normal(0.05, 0.06), 0.6 * aim + sign * rng.normal(0.30, 0.08)]
        )
        contact = _AT_PALM - np.array([0.0, 0.0, thing.size[0] / 2])
    scale = world.person.hand.length / 0.187
    contact = contact * scale * np.array([1.0, sign, 1.0])
    position = centre - orientation_matrix(angles, side) @ contact
    position[2] = max(position[2], TABLE_HEIGHT + 0.04)
    return position, angles


def choose(world: World, side: int) -> int | None:
    """An object on the table that this hand would take, or any if it would take none; None if all are gone."""
    here = [i for i, place in enumerate(world.place) if np.isfinite(place).all()]
    near = [i for i in here if world.nearer_hand(world.place[i]) == side]
    return int(world.rng.choice(near or here)) if here else None


ACTIONS: dict[str, tuple[float, Callable[[World, int, float], Done]]] = {
    # name: (how often, relative to the others; the function)
    "put_elsewhere": (0.55, put_elsewhere),
    "give": (0.20, give),
    "gesture": (0.12, gesture),
    "rest": (0.13, rest),
}
