import numpy as np

from egohand_ros.tracking.motion import WristMotion

SMALL = 1e-6 * np.eye(3)


def moving(velocity, count=15, dt=1 / 30):
    motion = WristMotion(0.0, np.zeros(3), SMALL)
    for i in range(1, count):
        motion.update(i * dt, velocity * (i * dt), SMALL)
    return motion, (count - 1) * dt


def test_a_steady_hand_is_continued_in_its_direction_but_slower():
    velocity = np.array([0.5, -0.2, 0.1])
    motion, now = moving(velocity)
    travelled = motion.predict(now + 0.2)[0][:3] - motion.position
    full = velocity * 0.2
    assert np.dot(travelled, full) / np.linalg.norm(travelled) / np.linalg.norm(full) > 0.99
    assert 0.4 < np.linalg.norm(travelled) / np.linalg.norm(full) < 0.9


def test_uncertainty_grows_with_the_gap():
    motion, now = moving(np.zeros(3))
    spread = [np.trace(motion.predict(now + gap)[1][:3, :3]) for gap in (0.0, 0.03, 0.1, 0.2)]
    assert all(np.diff(spread) > 0)


def test_prediction_leaves_the_filter_alone_and_an_uncertain_axis_moves_less():
    motion = WristMotion(0.0, np.zeros(3), SMALL)
    before = motion.state.copy()
    motion.predict(1.0)
    np.testing.assert_array_equal(motion.state, before)
    motion.update(0.01, np.ones(3) * 0.1, np.diag([1e-6, 1e-6, 1.0]))
    assert motion.position[0] > 0.09 > 0.01 > motion.position[2]
