"""Scenes of one instruction: it names what the hand then does, among things that share its words."""

import numpy as np
import pytest

from egohand_ros.config import read_preset
from egohand_ros.data.synthetic.goals import DESTINATION, DIRECTIONS, OBJECT, generate_goal_scene
from egohand_ros.forecast.small.sight import split

SEEDS = range(60)


@pytest.fixture(scope="module")
def scenes():
    return [generate_goal_scene(seed) for seed in SEEDS]


def label_of(made) -> str:
    """The named thing, by where it is at first."""
    first = made.scene.T_world_object[0, :, :3, 3]
    index = np.argmin(np.linalg.norm(first - made.goals[0, OBJECT], axis=-1))
    return made.scene.things[index].label


def test_a_seed_tells_everything():
    a, b, other = generate_goal_scene(3), generate_goal_scene(3), generate_goal_scene(4)
    assert (a.scene.keypoints == b.scene.keypoints).all() and a.scene.task == b.scene.task
    assert np.array_equal(a.goals, b.goals, equal_nan=True)
    assert (a.scene.keypoints != other.scene.keypoints).any()


def test_the_instruction_names_its_object_and_only_that_one(scenes):
    for made in scenes:
        labels = [thing.label for thing in made.scene.things]
        assert len(set(labels)) == len(labels) >= 4
        assert f"the {label_of(made)}" in made.scene.task


def test_neither_the_colour_nor_the_kind_alone_tells_the_object(scenes):
    shared = 0
    for made in scenes:
        colour, name = label_of(made).split()
        others = [thing for thing in made.scene.things if thing.label != f"{colour} {name}"]
        shared += any(t.colour == colour for t in others) and any(t.name == name for t in others)
    assert shared > 0.5 * len(scenes)


def test_a_hand_goes_to_the_named_object(scenes):
    for made in scenes:
        wrists = made.scene.keypoints[:, :, 0]
        nearest = np.linalg.norm(wrists - made.goals[:, None, OBJECT], axis=-1).min()
        waited = int(made.begin * made.scene.rate)
        before = np.linalg.norm(wrists[:waited] - wrists[:1], axis=-1).max()
        assert nearest < 0.25 and before < 0.06, made.scene.task


def test_what_is_put_somewhere_gets_there_and_the_words_say_where(scenes):
    told = [made for made in scenes if any(words in made.scene.task for words in DIRECTIONS)]
    assert len(told) > 10
    for made in told:
        words = next(words for words in DIRECTIONS if f" {words} the " in made.scene.task)
        away = made.goals[0, DESTINATION] - made.anchor[0]
        assert away[:2] @ DIRECTIONS[words] > 0.8 * np.linalg.norm(away[:2])
        released = made.scene.T_world_object[-1, :, :3, 3]
        if abs(made.goals[-1, OBJECT] - made.goals[-2, OBJECT]).max() < 1e-9:  # put down before the scene ends
            assert np.linalg.norm(released - made.goals[-1, DESTINATION], axis=-1).min() < 0.06


def test_an_instruction_without_a_destination_has_none(scenes):
    taken = [made for made in scenes if " to the " not in made.scene.task and "over" not in made.scene.task]
    bare = [made for made in taken if not any(words in made.scene.task for words in DIRECTIONS)]
    assert bare and all(np.isnan(made.goals[:, DESTINATION]).all() and np.isnan(made.anchor).all() for made in bare)


def test_the_preset_knows_every_word():
    known = set(read_preset("egohand-small")["grounding"]["words"])
    said = {word for seed in range(400) for word in split(generate_goal_scene(seed, duration=0.5).scene.task)}
    assert said <= known
