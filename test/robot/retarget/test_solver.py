"""The live solver finds the optimum of dex-retargeting's objectives, and keeps every constraint while it does."""

import numpy as np
import pytest
from scipy.optimize import minimize

from egohand_ros.hand.palm import palm_rotation as reference_palm_rotation
from egohand_ros.hand.poses import demonstration, hand_pose
from egohand_ros.robot.hands.config import Objective, Term
from egohand_ros.robot.hands.library import list_hands, load_hand
from egohand_ros.robot.hands.live_pose import LivePose, box_newton_step
from egohand_ros.robot.retarget.compiled_objective import build_problem
from egohand_ros.robot.retarget.objective import LiveObjective, PinchTerm
from egohand_ros.robot.retarget.retargeter import Retargeter
from egohand_ros.robot.retarget.solver import LiveSolver
from egohand_ros.robot.simulation.mujoco_distance import MujocoDistance


def huber(d, delta):
    return np.where(d < delta, 0.5 * d * d / delta, d - 0.5 * delta)


def by_definition(hand, objective, human, q, last):
    """The objectives written down from their papers, on link positions, for an open pinch."""
    data = hand.objective(objective)
    term, k = data.terms[0], hand.kinematics
    if objective == "dexpilot":
        names = term.links[0]
        at = k.link_positions(q, names)
        fingers, rows = range(1, len(names)), []
        for i in fingers:
            rows += [(j, i, 1.0) for j in fingers if j > i]
        pairs = len(rows)
        rows += [(0, i, float(pairs + len(names) - 1)) for i in fingers]
        error = [
            w * huber(np.linalg.norm(at[t] - at[o] - data.scale * (human[4 * t] - human[4 * o])), 0.03)
            for o, t, w in rows
        ]
        return sum(error) / len(rows) + 4e-3 * np.sum((q - last) ** 2)
    origins, tips = (k.link_positions(q, [row[i] for row in term.links]) for i in (0, 1))
    goal = data.scale * np.array([human[t] - human[o] for o, t in term.keypoints])
    return huber(np.linalg.norm(tips - origins - goal, axis=1), 0.02).mean() + 4e-3 * np.sum((q - last) ** 2)


@pytest.mark.parametrize("objective", ["vector", "dexpilot"])
@pytest.mark.parametrize("name", ["allegro_right", "inspire_left", "shadow_right"])
def test_objectives_have_their_published_definitions(name, objective):
    hand = load_hand(name)
    problem = build_problem(hand, objective)
    live = LiveObjective(problem, LivePose(problem.kinematics))
    human = hand_pose("open", hand.side) @ problem.rotation.T
    rng = np.random.default_rng(0)
    for _ in range(5):
        q, last = rng.uniform(hand.lower, hand.upper, (2, hand.n))
        live.aim(human, last)
        assert live.value(q) == pytest.approx(by_definition(hand, objective, human, q, last), rel=1e-9)


def test_position_is_a_mean_over_coordinates_with_a_base_that_moves_freely():
    hand = load_hand("allegro_right")
    problem = build_problem(hand, "position")
    live = LiveObjective(problem, LivePose(problem.kinematics))
    human = hand_pose("relaxed") @ problem.rotation.T
    q = np.concatenate([hand.rest_q, [0.01, -0.02, 0.03, 0.0, 0.0, 0.0]])
    live.aim(human, q)
    term = hand.objective("position").terms[0]
    at = hand.kinematics.link_positions(hand.rest_q, [row[0] for row in term.links]) + q[16:19]
    goal = human[[row[0] for row in term.keypoints]]
    assert live.value(q) == pytest.approx(huber(np.abs(at - goal), 0.02).mean())


@pytest.mark.parametrize("objective", ["vector", "dexpilot", "position"])
@pytest.mark.parametrize("name", ["allegro_right", "inspire_right"])
def test_the_solution_is_the_optimum(name, objective):
    hand = load_hand(name)
    problem = build_problem(hand, objective)
    solver = LiveSolver(problem, avoid_collisions=False)
    x = np.concatenate([hand.rest_q, np.zeros(problem.kinematics.n - hand.n)])
    gaps = []
    for frame in demonstration(noise=5e-4)[::9]:
        solver.objective.aim(frame @ problem.rotation.T, x)
        solution = solver.solve(x, problem.lower, problem.upper)
        reference = LiveObjective(problem, LivePose(problem.kinematics))
        for own, other in zip(solver.objective.terms, reference.terms):
            if isinstance(own, PinchTerm):
                other.pinch.closed[:] = own.pinch.closed
        reference.aim(frame @ problem.rotation.T, x)

        def value_and_gradient(q, reference=reference):
            value = reference.value(q)
            return value, reference.derivatives(False)[0]

        bounds = np.stack([problem.lower, problem.upper], axis=1)
        best = minimize(
            value_and_gradient, x, jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-13, "maxiter": 1000}
        )
        gaps.append((solution.value - best.fun) / best.fun)
        x = solution.x
    assert np.median(gaps) < 1e-3 and np.quantile(gaps, 0.9) < 1e-2


@pytest.mark.parametrize("name", [name for name in list_hands() if name.endswith("_right")] + ["svh_left", "dex3_left"])
def test_streams_break_no_limit_and_never_collide_by_another_judge(name):
    hand = load_hand(name)
    retargeter, judge, rate = Retargeter(hand, objective="dexpilot"), MujocoDistance(hand), 30.0
    path = np.array([retargeter.solve(frame, dt=1 / rate).q for frame in demonstration(hand.side, rate, 5e-4)[::3]])
    velocity = np.diff(path, axis=0) * rate
    assert (path >= hand.lower).all() and (path <= hand.upper).all()
    assert (np.abs(velocity) <= hand.velocity_limit + 1e-9).all()
    assert (np.abs(np.diff(velocity, axis=0)) * rate <= hand.acceleration_limit + 1e-6).all()
    assert min(judge.least(q) for q in path[::4]) > 0.0


def test_our_capsules_and_mujoco_measure_the_same():
    hand = load_hand("leap_right")
    judge = MujocoDistance(hand)
    for q in np.random.default_rng(5).uniform(hand.lower, hand.upper, (20, hand.n)):
        ours = hand.capsules.distances(hand.kinematics, q).min()
        assert (ours > 0) == (judge.least(q) > 0)
        if 0 < ours < 0.015:
            assert judge.least(q) == pytest.approx(ours, abs=2e-5)


def test_a_contact_term_keeps_fingertips_as_far_apart_as_the_humans():
    hand = load_hand("shadow_right")
    vector = hand.objective("vector")
    contact = Term("contact", weight=20.0, delta=0.005, near=0.06, links=(("fftip", "thtip"),), keypoints=((8, 4),))
    points = hand_pose("pinch_index")
    points[4] += [0.0, 0.02, 0.0]
    wanted = np.linalg.norm(points[4] - points[8])
    gap = {}
    for label, terms in (("without", vector.terms), ("with", (*vector.terms, contact))):
        retargeter = Retargeter(hand, objective=Objective("vector", vector.scale, terms))
        for _ in range(40):
            q = retargeter.solve(points).q
        a, b = hand.kinematics.link_positions(q, ["fftip", "thtip"])
        gap[label] = abs(np.linalg.norm(a - b) - wanted)
    assert gap["with"] < 0.003 < gap["without"]


def test_a_contact_with_an_object_keeps_the_distance_to_it():
    hand = load_hand("allegro_right")
    contact = Term("contact", weight=50.0, delta=0.005, near=0.2, links=(("link_3.0_tip",),), keypoints=((8,),))
    retargeter = Retargeter(hand, objective=Objective("vector", 1.6, (*hand.objective("vector").terms, contact)))
    points = hand_pose("relaxed")
    objects = np.full((5, 3), np.nan)
    objects[1] = points[8] + [0.0, 0.0, -0.02]
    for _ in range(40):
        q = retargeter.solve(points, objects=objects).q
    rotation = reference_palm_rotation(points, "right")
    place = (objects[1] - points[0]) @ rotation @ np.asarray(hand.config.palm_rotation).T
    wrist, tip = hand.kinematics.link_positions(q, ["wrist", "link_3.0_tip"])
    assert np.linalg.norm(tip - wrist - place) == pytest.approx(0.02, abs=0.004)


def test_a_posture_prior_settles_what_the_fingertips_leave_open():
    hand = load_hand("allegro_right")
    data = hand.objective("vector")
    prior = Term("posture", weight=0.05, pose=(("joint_0.0", 0.3),))
    free, pulled = Retargeter(hand), Retargeter(hand, objective=Objective("vector", 1.6, (*data.terms, prior)))
    for _ in range(60):
        q, p = free.solve(hand_pose("fist")).q, pulled.solve(hand_pose("fist")).q
    assert abs(p[0] - 0.3) < abs(q[0] - 0.3)


def test_finger_scales_of_an_operator_stretch_that_finger():
    hand = load_hand("allegro_right")
    plain, small = (
        Retargeter(hand),
        Retargeter(hand, finger_scale=dict.fromkeys(("thumb", "index", "middle", "ring"), 1.25)),
    )
    points = hand_pose("relaxed")
    shrunk = points / 1.25
    for _ in range(30):
        q, p = plain.solve(points).q, small.solve(shrunk).q
    np.testing.assert_allclose(p, q, atol=1e-6)


def test_a_given_wrist_rotation_serves_where_the_knuckles_are_missing():
    hand, points = load_hand("allegro_right"), hand_pose("relaxed")
    rotation = reference_palm_rotation(points, "right")
    expected = Retargeter(hand).solve(points).q
    seen = np.ones(21, dtype=bool)
    seen[[1, 5, 9, 13, 17]] = False
    bare, nan = Retargeter(hand), Retargeter(hand)
    assert bare.solve(points, seen).status == "held: the palm has no orientation"
    assert nan.solve(points, seen, rotation=np.full((3, 3), np.nan)).status == "held: the palm has no orientation"
    result = bare.solve(points, seen, rotation=rotation)
    assert result.solved
    np.testing.assert_allclose(result.q, expected, atol=1e-9)
    wrong = reference_palm_rotation(points, "left")  # where the palm is seen, it goes first
    np.testing.assert_allclose(Retargeter(hand).solve(points, rotation=wrong).q, expected, atol=1e-9)


def test_irregular_frames_keep_the_limits_too():
    hand, rng = load_hand("allegro_right"), np.random.default_rng(7)
    retargeter = Retargeter(hand, objective="dexpilot")
    frames, dt = demonstration(noise=1e-3)[::2], rng.uniform(0.005, 0.08, 200)
    path = np.array([retargeter.solve(f, dt=d).q for f, d in zip(frames, dt)])
    dt = dt[1 : len(path)]
    velocity = np.diff(path, axis=0) / dt[:, None]
    mean = 0.5 * (dt[1:] + dt[:-1])[:, None]
    assert (np.abs(velocity) <= hand.velocity_limit + 1e-9).all()
    assert (np.abs(np.diff(velocity, axis=0)) / mean <= hand.acceleration_limit + 1e-6).all()
    assert hand.capsules.distances(hand.kinematics, path).min() > 0.0


def test_a_bounded_step_is_never_uphill_however_tight_the_bounds_and_stiff_a_contact():
    rng, worse = np.random.default_rng(0), []
    for _ in range(200):
        n = int(rng.integers(3, 20))
        root, pressed = rng.normal(size=(n, n)), rng.normal(size=n)
        hessian = root @ root.T * 0.1 + 0.01 * np.eye(n) + 200.0 * np.outer(pressed, pressed) * rng.integers(0, 2)
        gradient, low, high = rng.normal(size=n) * 3.0, -rng.uniform(0.0, 0.05, n), rng.uniform(0.0, 0.05, n)
        step = box_newton_step(gradient, hessian, low, high)
        assert (step >= low).all() and (step <= high).all()
        value = gradient @ step + 0.5 * step @ hessian @ step

        def model(d, g=gradient, h=hessian):
            return g @ d + 0.5 * d @ h @ d, g + h @ d

        bounds = np.stack([low, high], axis=1)
        result = minimize(model, np.zeros(n), jac=True, method="L-BFGS-B", bounds=bounds)
        assert value < 0.0 or result.fun > -1e-9
        worse.append((value - result.fun) / abs(result.fun))
    assert np.median(worse) < 1e-3


@pytest.mark.parametrize("finger", ["index", "middle", "ring"])
def test_a_pinch_that_is_held_closes_until_the_tips_touch(finger):
    hand = load_hand("allegro_right")
    retargeter = Retargeter(hand, objective="dexpilot")
    human = [hand_pose("relaxed")] * 15 + [hand_pose(f"pinch_{finger}")] * 45
    for points in human:
        q = retargeter.solve_in_base(points @ retargeter.problem.rotation.T, dt=1 / 30.0).q
    tips = {hand.tip_bodies["thumb"], hand.tip_bodies[finger]}
    between = [i for i in range(len(hand.capsules)) if set(hand.capsules.pair_names(i)) == tips]
    gap = hand.capsules.distances(hand.kinematics, q)[between].min() - hand.capsules.margin
    assert gap < 1e-3  # ring's was 3.8 mm
