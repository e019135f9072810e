"""Capsules fitted to shapes, and the judge that they are fitted to. The makers' own files are looked at where given."""

import os
from pathlib import Path

import numpy as np
import pytest
import yaml

from egohand_ros.errors import UserError
from egohand_ros.robot.hands.config import parse_config
from egohand_ros.robot.hands.library import list_hands, load_hand
from egohand_ros.robot.hands.urdf import parse_urdf
from egohand_ros.robot.setup.fit_capsules import fit, near_distances, poses_in_contact, with_capsules
from egohand_ros.robot.setup.inner_capsules import inner_capsules, mend
from egohand_ros.robot.setup.meeting_poses import further_apart, with_further
from egohand_ros.robot.setup.mesh_body import MeshDistance, Piece, directions, load_pieces
from egohand_ros.robot.setup.shape_files import collision_block, urdf_with_capsules, with_collision_block
from egohand_ros.robot.setup.single_capsules import (
    further_by_pair,
    kept_by_single_capsules,
    pinch_poses,
    with_capsule_extra,
)

OFFICIAL = os.environ.get("EGOHAND_OFFICIAL")


def box(link: str, size, middle=(0.0, 0.0, 0.0)) -> Piece:
    grid = np.stack(np.meshgrid(*[[-0.5, 0.5]] * 3), axis=-1).reshape(-1, 3)
    return Piece(link, grid * size + middle)


@pytest.fixture(scope="module")
def spheres():
    """dex3 with a ball for a body on each outer link, which capsules can be exactly."""
    hand = load_hand("dex3_right")
    tips = hand.tip_bodies.values()
    return hand, [Piece(body, 0.022 * directions(400) + [0.02, 0.0, 0.0]) for body in tips]


@pytest.mark.parametrize("engine", ["fcl", "mujoco"])
def test_distances_between_pieces_are_true_and_negative_inside(spheres, engine, monkeypatch):
    hand, pieces = spheres
    if engine == "fcl":
        pytest.importorskip("fcl")
    else:
        monkeypatch.setitem(__import__("sys").modules, "fcl", None)
    judge = MeshDistance(hand, pieces, samples=2)
    near = 0
    for q in np.random.default_rng(0).uniform(hand.lower, hand.upper, (60, hand.n)):
        poses = hand.kinematics.link_poses(q, list(judge.links))
        middles = {link: p[:3, 3] + p[:3, :3] @ [0.02, 0, 0] for link, p in zip(judge.links, poses)}
        for (i, j), distance in zip(judge.pairs, judge.distances(q)):
            true = np.linalg.norm(middles[judge.links[i]] - middles[judge.links[j]]) - 0.044
            if true > -0.02:
                assert distance == pytest.approx(min(true, 0.01), abs=6e-4)
                near += true < 0.01
    assert near > 3


def test_fitted_capsules_say_the_distances_of_the_shapes(spheres):
    hand, pieces = spheres
    judge = MeshDistance(hand, pieces, samples=5)
    poses = np.random.default_rng(1).uniform(hand.lower, hand.upper, (400, hand.n))
    data = near_distances(hand, judge, poses)
    before, after = fit(hand, data, steps=0), fit(hand, data, steps=500)
    assert np.abs(before.error).max() > 2e-3, "the shipped shapes are others"
    assert np.median(np.abs(after.error)) < 0.2 * np.median(np.abs(before.error))
    assert np.median(np.abs(after.error)) < 2e-3


def test_inner_capsules_lie_within_the_shape_and_mend_what_others_miss(spheres):
    hand, _ = spheres
    shape = [box(body, [0.05, 0.03, 0.03], [0.02, 0.0, 0.0]) for body in hand.tip_bodies.values()]
    rows, size = inner_capsules(shape[:1], 100, np.random.default_rng(0)), np.array([0.05, 0.03, 0.03])
    assert len(rows) > 50
    for end in (rows[:, :3], rows[:, 3:6]):
        assert (np.abs(end - [0.02, 0, 0]) + rows[:, 6:] < 0.5 * size + 1e-9).all()
    judge, rng = MeshDistance(hand, shape, samples=5), np.random.default_rng(1)
    data = near_distances(hand, judge, rng.uniform(hand.lower, hand.upper, (400, hand.n)))
    thin = {body: np.array([[0.0, 0.0, 0.0, 0.04, 0.0, 0.0, 0.014]]) for body in hand.tip_bodies.values()}
    mended, added, before = mend(hand, data, thin, shape, 12, rng)
    _, _, after = mend(hand, data, mended, shape, 0, rng)
    assert added == 12 and before > 2e-3, "a capsule misses the corners of a box"
    assert after < 0.6 * before
    np.testing.assert_array_equal(mended[shape[0].link][0], thin[shape[0].link][0])


def test_corners_that_capsules_miss_are_found_and_kept_apart(spheres):
    hand, _ = spheres
    inner = hand.tree.parent_joint(hand.tip_bodies["index"]).parent
    bodies = (hand.tip_bodies["thumb"], inner, hand.tip_bodies["index"])
    shape = [box(body, [0.05, 0.03, 0.03], [0.02, 0.0, 0.0]) for body in bodies]
    thin = {body: np.array([[0.0, 0.0, 0.0, 0.04, 0.0, 0.0, 0.018]]) for body in bodies}
    judge = MeshDistance(hand, shape, samples=5)
    further = further_apart(with_capsules(hand, thin, {}, []), judge, 300)
    (pair,) = further  # not thumb and fingertip, which are meant to meet
    assert set(pair) == set(bodies[:2]) and further[pair] > 1e-3
    mended = with_capsules(hand, thin, with_further({}, further), [])
    assert max(further_apart(mended, judge, 300, seed=1).values(), default=0.0) < 0.4 * further[pair]


def test_samples_are_put_right_by_the_pair_that_keeps_least_and_none_keeps_more_than_it_may():
    gap = np.array([[0.0, 1e-3], [0.0, 5e-3], [3e-3, 3e-3]])
    kept, left = further_by_pair(gap, np.array([-1e-3, 0.0, 3e-3]), np.array([0.0, 4e-3]))
    np.testing.assert_allclose(kept, [0.0, 2e-3])  # the first pair carries a pinch
    assert left == 0.0
    kept, left = further_by_pair(gap, np.array([-1e-3, 0.0, 3e-3]), np.array([0.0, 1e-3]))
    np.testing.assert_array_equal(kept, 0.0)
    assert left == pytest.approx(1e-3)


def test_tips_keep_apart_by_the_capsules_that_pinches_do_not_need(spheres):
    hand, _ = spheres
    tips = {hand.tip_bodies[finger] for finger in ("thumb", "index")}
    shape = [box(body, [0.05, 0.03, 0.03], [0.02, 0.0, 0.0]) for body in tips]
    thin = {body: np.array([[0.0, 0, 0, 0.02, 0, 0, 0.014], [0.02, 0, 0, 0.04, 0, 0, 0.014]]) for body in tips}
    judge, bare = MeshDistance(hand, shape, samples=5), with_capsules(hand, thin, {}, [])
    kept = kept_by_single_capsules(bare, judge, rounds=1)
    assert kept and {pair[::2] for pair in kept} <= {tuple(sorted(tips)), tuple(sorted(tips))[::-1]}
    mended = with_capsule_extra(bare, kept)
    q = np.random.default_rng(3).uniform(hand.lower, hand.upper, (2000, hand.n))
    deep = [[judge.least(x) for x in q[h.capsules.distances(h.kinematics, q).min(1) >= 0.0]] for h in (bare, mended)]
    before, after = (-np.minimum(np.array(d) + 0.8e-3, 0.0).sum() for d in deep)
    assert after < 0.7 * before
    pinches = pinch_poses(bare)
    gap, less = (h.capsules.distances(h.kinematics, pinches).min(1) for h in (bare, mended))
    held = np.array([judge.least(x) > -0.8e-3 for x in pinches])
    assert (less[held & (gap >= 0.0)] > -1e-6).all(), "pinches are as they were"


def test_what_single_capsules_keep_is_read_and_one_that_is_not_there_is_said(spheres):
    hand, _ = spheres
    link, other = hand.tip_bodies["thumb"], hand.tip_bodies["index"]
    block = collision_block(None, [], {}, "boxes", {(link, 0, other, 0): 0.0012})
    text = with_collision_block(Path(load_config_path("dex3_right")).read_text(), block)
    collision = parse_config(yaml.safe_load(text), "x.yaml").collision
    assert collision.capsule_extra == ((link, 0, other, 0, 0.0012),)
    more = with_capsule_extra(hand, {row[:4]: row[4] for row in collision.capsule_extra}).capsules
    plain = with_capsule_extra(hand, {}).capsules
    first, second = plain.links.index(link), plain.links.index(other)
    thick = [{frozenset(p): t for p, t in zip(m.pairs.tolist(), m.thickness)} for m in (plain, more)]
    assert thick[1][frozenset((first, second))] == pytest.approx(thick[0][frozenset((first, second))] + 0.0012)
    with pytest.raises(UserError, match="capsule 99 of"):
        _ = with_capsule_extra(hand, {(link, 99, other, 0): 0.001}).capsules


def test_capsules_in_files_are_read_back_as_they_were(spheres):
    hand, _ = spheres
    link = next(iter(hand.tip_bodies.values()))
    rows = {link: np.array([[0.0, 0.0, 0.0, 0.0, 0.03, 0.0, 0.008], [0.01, 0.0, 0.0, 0.01, 0.0, 0.02, 0.005]])}
    tree = parse_urdf(urdf_with_capsules(hand.urdf_text, rows))
    from egohand_ros.robot.hands.capsules import capsules_of

    read = np.array([[*a, *b, r] for a, b, r in capsules_of(tree.links[link])])
    np.testing.assert_allclose(read, rows[link], atol=2e-6)
    assert not any(shapes for name, shapes in tree.links.items() if name != link)
    text = Path(load_config_path("dex3_right")).read_text()
    block = collision_block(rows, [("a", "0")], {("a", "1"): 0.0012}, "boxes")
    data = yaml.safe_load(with_collision_block(with_collision_block(text, block), block))
    assert data["collision"]["ignore"] == [["a", "0"]] and data["collision"]["extra"] == [["a", "1", 0.0012]]
    assert parse_config(data, "x.yaml").collision.capsules[link][0][6] == 0.008


def load_config_path(name: str) -> Path:
    from egohand_ros.robot.hands.library import config_path

    return config_path(name)


def test_another_hands_urdf_is_refused(tmp_path):
    other = load_hand("allegro_right")
    path = tmp_path / "allegro.urdf"
    path.write_text(other.urdf_text)
    with pytest.raises(UserError, match="has no joints"):
        load_pieces(load_hand("dex3_right"), path)


@pytest.mark.skipif(not OFFICIAL, reason="set EGOHAND_OFFICIAL to a folder with the makers' NAME.urdf and meshes")
@pytest.mark.parametrize("name", list_hands())
def test_shipped_capsules_are_the_makers_shapes_to_a_millimetre(name):
    """Nothing that the solver takes to be clear is deeper than 1 mm, in poses that were not fitted to."""
    hand = load_hand(name)
    judge = MeshDistance(hand, load_pieces(hand, Path(OFFICIAL) / f"{name}.urdf"))
    capsules = hand.capsules
    for q in poses_in_contact(hand, 30, seed=77):
        if capsules.distances(hand.kinematics, q).min() >= capsules.margin:
            assert judge.least(q) > -1.5e-3
