"""The horizon solve agrees with the live one, keeps every limit, and stays clear of collision."""

import numpy as np
import pytest
import pytorch_kinematics as pk
import torch
from human_hand import open_hand

from egohand_ros.errors import UserError
from egohand_ros.hand.skeleton import INDEX_MCP, LITTLE_MCP
from egohand_ros.robot.hands.library import load_hand
from egohand_ros.robot.hands.live_pose import LivePose
from egohand_ros.robot.retarget.batch_kinematics import BatchCollision, BatchKinematics, BatchPoints
from egohand_ros.robot.retarget.batch_objective import BatchObjective
from egohand_ros.robot.retarget.compiled_objective import build_problem
from egohand_ros.robot.retarget.horizon import HorizonRetargeter
from egohand_ros.robot.retarget.objective import LiveObjective
from egohand_ros.robot.retarget.retargeter import Retargeter
from egohand_ros.shipped import config_folder

DT = 1 / 30


def closing(side, steps, rng=None):
    """Keypoints (steps, 21, 3) of a hand that closes, in the camera's frame."""
    path = np.stack([open_hand(side, curl) for curl in np.linspace(0.0, 1.2, steps)])
    return path if rng is None else path + np.cumsum(rng.normal(0, 5e-4, path.shape), axis=0)


@pytest.mark.parametrize("objective", ["vector", "dexpilot", "position"])
@pytest.mark.parametrize("name", ["inspire_right", "shadow_left"])
def test_values_and_derivatives_are_those_of_the_live_path(name, objective):
    hand = load_hand(name)
    problem = build_problem(hand, objective)
    live = LiveObjective(problem, LivePose(problem.kinematics))
    batch = BatchObjective([problem], "cpu", torch.float64)
    rng = np.random.default_rng(0)
    human = np.stack([open_hand(hand.side, curl) @ problem.rotation.T for curl in (0.1, 0.6, 1.1)])
    q = rng.uniform(np.maximum(problem.lower, -1), np.minimum(problem.upper, 1), (3, problem.kinematics.n))
    last = q + 0.01
    batch.aim(torch.as_tensor(human)[None, None])
    value, state = batch.evaluate(torch.as_tensor(q.T))
    delta = torch.as_tensor((q - last).T)
    for exact in (True, False):
        gradient, matrix = batch.derivatives(state, delta, exact)
        live.reset()
        for i in range(3):
            live.aim(human[i], last[i])
            expected = live.value(q[i])
            got = float(value[0, i] + batch.stay(delta)[0, i])
            assert got == pytest.approx(expected, rel=1e-9)
            live_gradient, live_matrix = live.derivatives(exact)
            np.testing.assert_allclose(gradient[:, i].numpy(), live_gradient, atol=1e-9)
            np.testing.assert_allclose(matrix[0, :, :, i].numpy(), live_matrix, atol=1e-8)


def test_capsule_distances_and_gradients_are_right():
    hand = load_hand("allegro_right")
    problem = build_problem(hand, "vector")
    batch = BatchCollision([problem.hand], "cpu", torch.float64)
    q = np.random.default_rng(1).uniform(hand.lower, hand.upper, (4, hand.n))
    poses = batch.kinematics.poses(torch.as_tensor(q.T))
    segments = batch.segments(poses)
    distance, where = batch.distances(segments)
    np.testing.assert_allclose(distance[0].T.numpy(), hand.capsules.distances(hand.kinematics, q), atol=1e-9)
    least, rows = batch.nearest(poses, segments, batch.pairs, distance, where, 3)
    h = 1e-6
    for j in range(hand.n):
        moved = hand.capsules.distances(hand.kinematics, q + h * np.eye(hand.n)[j])
        for i in range(4):
            for k in range(3):
                pair = int(np.argmin(np.abs(distance[0, :, i].numpy() - float(least[0, k, i]))))
                slope = (moved[i, pair] - float(distance[0, pair, i])) / h
                assert float(rows[0, k, j, i]) == pytest.approx(slope, abs=1e-4)


@pytest.mark.parametrize("name", ["allegro_left", "shadow_right", "inspire_right"])
def test_batched_points_are_those_of_pytorch_kinematics(name):
    hand = load_hand(name)
    kinematics, problem = hand.kinematics, build_problem(hand, "vector")
    batch = BatchKinematics([kinematics], "cpu", torch.float64)
    points = BatchPoints(batch, [kinematics], [problem.slots], [problem.offsets], "cpu", torch.float64)
    q = np.random.default_rng(5).uniform(hand.lower, hand.upper, (12, hand.n))
    ours = points.positions(batch.poses(torch.as_tensor(q.T)))
    urdf = (config_folder() / "hands" / "urdf" / f"{name}.urdf").read_text()
    chain = pk.build_chain_from_urdf(urdf.encode()).to(dtype=torch.float64)
    order = [kinematics.full_joint_names.index(joint) for joint in chain.get_joint_parameter_names()]
    full = torch.as_tensor(np.stack([kinematics.full_position(x)[order] for x in q]))
    theirs = chain.forward_kinematics(full)
    for i, link in enumerate(problem.links):
        np.testing.assert_allclose(ours[i].T.numpy(), theirs[link].get_matrix()[:, :3, 3].numpy(), atol=1e-6)


@pytest.mark.parametrize("flat", [False, True])
def test_live_and_horizon_answer_a_flat_palm_alike(flat):
    hand = load_hand("inspire_right")
    points = np.array(open_hand("right", 0.4))
    if flat:
        points[INDEX_MCP] = points[LITTLE_MCP]
    for given in (None, np.eye(3), np.full((3, 3), np.nan)):
        live = Retargeter(hand).solve(points, rotation=given)
        turned = None if given is None else np.broadcast_to(given, (1, 3, 1, 3, 3))
        ahead = HorizonRetargeter([hand]).solve(np.tile(points, (1, 3, 1, 1, 1)), [hand.rest_q], DT, None, turned)
        usable = not flat or (given is not None and np.isfinite(given).all())
        assert live.solved == usable and ahead.held.all() == (not usable)
        if not usable:
            np.testing.assert_allclose(ahead.q[0], np.broadcast_to(hand.rest_q, (1, 3, hand.n)), atol=1e-4)


def test_knuckles_that_are_not_seen_leave_out_their_rows_alone():
    hand = load_hand("shadow_right")
    rng = np.random.default_rng(3)
    problem = build_problem(hand, "vector")
    q, human = rng.uniform(problem.lower, problem.upper), rng.normal(0, 0.05, (21, 3))
    human[[2, 6]] = np.nan
    live = LiveObjective(problem, LivePose(problem.kinematics))
    live.aim(human, q)
    batch = BatchObjective([problem], "cpu", torch.float64)
    batch.aim(torch.as_tensor(human)[None, None, None])
    value = live.value(q)
    assert np.isfinite(value) and float(batch.evaluate(torch.as_tensor(q)[:, None])[0]) == pytest.approx(value)


@pytest.mark.parametrize("name", ["allegro", "inspire"])
def test_live_and_horizon_agree_on_a_still_hand(name):
    hands = [load_hand(f"{name}_{side}") for side in ("left", "right")]
    still = np.stack([open_hand(hand.side, 0.4) for hand in hands])
    live = []
    for hand, points in zip(hands, still):
        retargeter = Retargeter(hand)
        for _ in range(60):
            q = retargeter.solve(points).q
        live.append(q)
    result = HorizonRetargeter(hands).solve(np.broadcast_to(still, (3, 10, 2, 21, 3)), live, DT)
    for path, q in zip(result.q, live):
        np.testing.assert_allclose(path, np.broadcast_to(q, path.shape), atol=0.02)


@pytest.mark.parametrize("name", ["allegro", "shadow"])
def test_paths_keep_all_limits_and_stay_clear_of_collision(name):
    rng = np.random.default_rng(4)
    hands = [load_hand(f"{name}_{side}") for side in ("left", "right")]
    keypoints = np.stack([np.stack([closing(h.side, 20, rng) for h in hands], axis=1) for _ in range(4)])
    start = [hand.rest_q for hand in hands]
    result = HorizonRetargeter(hands).solve(keypoints, start, DT)
    for hand, path in zip(hands, result.q):
        assert path.shape == (4, 20, hand.n)
        full = np.concatenate([np.broadcast_to(hand.rest_q, (4, 1, hand.n)), path], axis=1)
        velocity = np.diff(full, axis=1) / DT
        assert (path >= hand.lower).all() and (path <= hand.upper).all()
        assert (np.abs(velocity) <= hand.velocity_limit + 1e-9).all()
        assert (np.abs(np.diff(velocity, axis=1)) <= hand.acceleration_limit * DT + 1e-9).all()
        assert hand.capsules.distances(hand.kinematics, path).min() > 0.0
        assert np.abs(path[:, -1] - hand.rest_q).max() > 0.3, "the hand closes"


def test_hands_of_different_shape_and_gaps_in_keypoints():
    hands = [load_hand("inspire_left"), load_hand("allegro_right")]
    keypoints = np.stack([np.stack([closing(h.side, 8) for h in hands], axis=1)] * 2)
    keypoints[1, 3:5, 0] = np.nan
    result = HorizonRetargeter(hands).solve(keypoints, [h.rest_q for h in hands], DT)
    assert [path.shape for path in result.q] == [(2, 8, 6), (2, 8, 16)]
    assert all(np.isfinite(path).all() for path in result.q)
    assert result.held[1, 3:5, 0].all() and result.held.sum() == 2


def test_wrong_shapes_are_told():
    with pytest.raises(UserError, match=r"expected \(K, T, 1, 21, 3\)"):
        HorizonRetargeter([load_hand("inspire_right")]).solve(np.zeros((2, 3, 2, 21, 3)), [np.zeros(6)], DT)
