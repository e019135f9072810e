"""`generate_goal_scene`: one instruction that names its goal among distractors, and the hands that follow it.

What the instruction means is labelled: which object is taken, and where it goes. Colours and kinds repeat among the
objects, so that neither word alone tells which one is meant.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...hand.skeleton import LEFT, RIGHT
from .actions import coordinates, give_object, move_hand, place, take
from .hand import posture, side_sign
from .motion import Steps
from .scene import Scene, act_out
from .world import (
    COLOURS,
    POSITION,
    REACH_X,
    REACH_Y,
    TABLE_HEIGHT,
    THINGS,
    Person,
    Thing,
    World,
)

OBJECT, DESTINATION = 0, 1
# Where things are put beside other things, as the person sees it: words and direction on the table.
DIRECTIONS = {
    "to the left of": (0.0, 1.0),
    "to the right of": (0.0, -1.0),
    "behind": (1.0, 0.0),
    "in front of": (-1.0, 0.0),
}
_TAKE, _PUT, _GIVE, _TOUCH = ("take", "pick up", "grab", "get"), ("put", "place", "set"), ("give", "hand"), ("touch",)
_BESIDE, _CLEARANCE = 0.115, 0.085  # m
# What people say around it.
_POLITE = ("", "", "", "please ", "now ", "next, ", "then ")
# s, at most, by which the gaze leads the hand (actions.py).
_GAZE_LEADS = 0.35
# So often a free spot beside another thing is looked for.
_TRIES = 40


@dataclass(frozen=True)
class GoalScene:
    """A scene with T frames and the meaning of its instruction, as positions in the world frame (m).

    goals (T, 2, 3): the object that is meant, wherever it is at the time, and where it has to go; NaN where the
    instruction says nothing of a destination
    anchor (T, 3): what the destination is told by: another object, or the other person's hand; NaN without one
    begin s: when the hand that follows it begins to move, counted from the first frame
    contact, end s: when it touches the object, and when it is done with it, counted likewise
    side of that hand; label of the object, as "red cup"
    """

    scene: Scene
    goals: np.ndarray
    anchor: np.ndarray
    begin: float
    contact: float
    end: float
    side: int
    label: str


@dataclass
class _Told:
    """What an instruction says: its words, the object, and how the destination is told; and what comes of it: the
    hand, and when it touches and is done, s."""

    phrase: str
    thing: int
    side: int
    contact: float
    end: float
    anchor: int | None = None  # an object
    to_partner: bool = False
    destination: np.ndarray | None = None


def generate_goal_scene(
    seed: int, duration: float = 6.0, rate: float = 30.0, start: float = 0.0, person: Person | None = None
) -> GoalScene:
    """A person who follows one instruction at a table with four to six things. The same arguments give the same
    scene.
    """
    rng = np.random.default_rng([seed, 0x60A1])
    world = World.sample(rng, person, look_alikes(rng))
    begin = float(rng.uniform(1.2, 2.6))
    for side in (LEFT, RIGHT):
        _wait(world, side)
    names, weights = list(_INSTRUCTIONS), np.array([weight for weight, _ in _INSTRUCTIONS.values()])
    told = _INSTRUCTIONS[str(rng.choice(names, p=weights / weights.sum()))][1](world, begin)
    phrase = str(rng.choice(_POLITE)) + told.phrase
    scene = act_out(world, seed, duration, rate, start, phrase)
    goals = np.full((len(scene), 2, 3), np.nan)
    goals[:, OBJECT] = scene.T_world_object[:, told.thing, :3, 3]
    anchor = np.full((len(scene), 3), np.nan)
    if told.destination is not None:
        goals[:, DESTINATION] = told.destination
    if told.anchor is not None:
        anchor[:] = scene.T_world_object[:, told.anchor, :3, 3]
    if told.to_partner:
        anchor[:] = scene.partner
    label = world.things[told.thing].label
    return GoalScene(scene, goals, anchor, begin, told.contact, told.end, told.side, label)


@dataclass(frozen=True)
class ChoiceScene:
    """A scene in which the right hand takes one of two things that look the same; until `begin` s from the first frame
    nothing tells which. places (2, 3) m of the things, on the person's left and right."""

    scene: Scene
    begin: float
    places: np.ndarray


def generate_choice_scene(seed: int, goal: int, duration: float = 3.0, rate: float = 30.0) -> ChoiceScene:
    """Two like things as far from the hand, of which `goal` (0 left, 1 right) is taken. Scenes of one seed are the same
    until the gaze goes to one of them."""
    rng = np.random.default_rng([seed, 0xC401])
    kind = [thing for thing in THINGS if thing.from_above][int(rng.integers(3))]
    thing = Thing(**{**vars(kind), "colour": str(rng.choice(list(COLOURS)))})
    world = World.sample(rng, None, [thing, thing])
    height = TABLE_HEIGHT + thing.size[2] / 2
    places = [np.array([rng.uniform(0.40, 0.54), sign * rng.uniform(0.12, 0.26), height]) for sign in (1.0, -1.0)]
    world.place, world.first_place = list(places), tuple(places)
    start = world.hands[RIGHT].start.copy()
    start[POSITION] = np.array([0.24, 0.0, TABLE_HEIGHT + 0.12]) + rng.normal(0.0, 0.02, 3)
    world.hands[RIGHT] = Steps(start)
    hand_moves = float(rng.uniform(0.6, 0.9))
    take(world, RIGHT, hand_moves, goal)
    scene = act_out(world, seed, duration, rate, 0.0, f"take the {thing.label}")
    return ChoiceScene(scene, hand_moves - _GAZE_LEADS, np.stack(places))


def look_alikes(rng: np.random.Generator) -> list[Thing]:
    """Four to six things of few kinds and few colours: no two alike, but each shares a word with another where it
    can.
    """
    count = int(rng.integers(4, 7))
    kinds = rng.choice(len(THINGS), 3, replace=False)
    colours = rng.choice(list(COLOURS), 3, replace=False)
    pairs = [(kind, str(colour)) for kind in kinds for colour in colours]
    chosen = rng.choice(len(pairs), count, replace=False)
    return [Thing(**{**vars(THINGS[pairs[i][0]]), "colour": pairs[i][1]}) for i in chosen]


def _wait(world: World, side: int) -> None:
    """Half of the hands wait in the air instead of on the table."""
    rng = world.rng
    if rng.random() < 0.5:
        return
    sign = side_sign(side)
    raised = coordinates(
        position=np.array([0.30, -sign * 0.17, TABLE_HEIGHT + 0.13]) + rng.normal(0.0, [0.05, 0.05, 0.04]),
        orientation=np.array([sign * rng.normal(0.6, 0.3), rng.normal(0.0, 0.15), sign * rng.normal(0.2, 0.2)]),
        fingers=posture(str(rng.choice(["rest", "open", "flat"])), rng),
    )
    world.hands[side].start = raised
    world.hands[side].end = raised.copy()


def _take(world: World, begin: float) -> _Told:
    index = int(world.rng.integers(len(world.things)))
    side, thing = world.nearer_hand(world.place[index]), world.things[index]
    time = take(world, side, begin, index)
    path = world.hands[side]
    lifted = path.end[POSITION] + [-world.rng.uniform(0.0, 0.08), 0.0, world.rng.uniform(0.06, 0.16)]
    end = move_hand(world, side, time, lifted, path.end[3:6], width=0.10)
    return _Told(f"{world.rng.choice(_TAKE)} the {thing.label}", index, side, world.held[-1].grasped, end)


def _put(world: World, begin: float) -> _Told:
    rng = world.rng
    index = int(rng.integers(len(world.things)))
    spot = _spot_beside(world, index)
    if spot is None:
        return _take(world, begin)
    anchor, words, target = spot
    side, thing = world.nearer_hand(world.place[index]), world.things[index]
    time = take(world, side, begin, index)
    place(world, side, time, index, target)
    phrase = f"{rng.choice(_PUT)} the {thing.label} {words} the {world.things[anchor].label}"
    held = world.held[-1]
    return _Told(phrase, index, side, held.grasped, held.released, anchor, destination=target)


def _spot_beside(world: World, index: int) -> tuple[int, str, np.ndarray] | None:
    """A free spot (3,) for object `index` beside another one, and how to say it; None where there is none."""
    rng, thing = world.rng, world.things[index]
    others = [i for i in range(len(world.things)) if i != index]
    for _ in range(_TRIES):
        anchor, words = int(rng.choice(others)), str(rng.choice(list(DIRECTIONS)))
        away = np.array(DIRECTIONS[words]) * (_BESIDE + rng.normal(0.0, 0.006)) + rng.normal(0.0, 0.006, 2)
        spot = world.place[anchor][:2] + away
        inside = REACH_X[0] - 0.04 < spot[0] < REACH_X[1] + 0.04 and REACH_Y[0] - 0.04 < spot[1] < REACH_Y[1] + 0.04
        clear = min(np.linalg.norm(world.place[i][:2] - spot) for i in others)
        moved = np.linalg.norm(world.place[index][:2] - spot)
        if inside and clear > _CLEARANCE and moved > 0.10:
            return anchor, words, np.array([*spot, TABLE_HEIGHT + thing.size[2] / 2])
    return None


def _give(world: World, begin: float) -> _Told:
    rng = world.rng
    index = int(rng.integers(len(world.things)))
    side, thing = world.nearer_hand(world.place[index]), world.things[index]
    target = give_object(world, side, begin, index)[1]
    verb = str(rng.choice(_GIVE))
    phrase = f"{verb} the {thing.label} to the other person" if verb == "give" else f"hand over the {thing.label}"
    held = world.held[-1]
    return _Told(phrase, index, side, held.grasped, held.released, to_partner=True, destination=target)


def _touch(world: World, begin: float) -> _Told:
    rng = world.rng
    index = int(rng.integers(len(world.things)))
    thing, centre = world.things[index], world.place[index]
    side = world.nearer_hand(centre)
    sign = side_sign(side)
    aim = np.arctan2(*(centre - world.person.shoulder(side))[[1, 0]])
    orientation = np.array([sign * rng.normal(0.3, 0.1), rng.normal(0.35, 0.08), aim])
    # The index fingertip is about so far ahead of the wrist.
    ahead = 0.98 * world.person.hand.length * np.array([np.cos(aim), np.sin(aim), 0.0])
    tip = centre - ahead + [0.0, 0.0, thing.size[2] / 2 + 0.06]
    there = move_hand(world, side, begin, tip, orientation, width=0.04, lift=0.04)
    world.hands[side].move(coordinates(fingers=posture("point", rng)), begin + 0.1, 0.4 * (there - begin))
    return _Told(f"{rng.choice(_TOUCH)} the {thing.label}", index, side, there, there)


_INSTRUCTIONS: dict[str, tuple[float, Callable[[World, float], _Told]]] = {
    # name: (how often, relative to the others; the function)
    "take": (0.30, _take),
    "put": (0.42, _put),
    "give": (0.18, _give),
    "touch": (0.10, _touch),
}
