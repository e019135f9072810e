"""The five problems that users of dex-retargeting report most, each set up as they meet it."""

import numpy as np
import pytest
from made_up_hand import made_up_urdf

from egohand_ros.hand.poses import demonstration, hand_pose
from egohand_ros.robot.hands.library import load_hand
from egohand_ros.robot.retarget.retargeter import Retargeter
from egohand_ros.robot.retarget.smoothing import OneEuroFilter
from egohand_ros.robot.setup.add_hand import propose
from egohand_ros.robot.setup.check import pinch_gap

FLEXION = [1, 2, 3, 5, 6, 7, 9, 10, 11]  # of Allegro's three fingers


def rotations(count, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        yield rotation * np.sign(np.linalg.det(rotation))


def settled(retargeter, points, frames=25):
    for _ in range(frames):
        result = retargeter.solve(points)
    return result.q


@pytest.mark.parametrize("side", ["left", "right"])
def test_wrist_frame_the_axes_of_the_tracker_do_not_curl_the_fingers(side):
    """Issues 19, 74, 87: keypoints in the axes of a camera, headset or glove make an open hand look curled."""
    hand, points = load_hand(f"allegro_{side}"), hand_pose("open", side)
    flat = settled(Retargeter(hand), points)
    assert flat[FLEXION].max() < 0.35, "an open hand opens the robot's"
    curled = []
    for rotation in rotations(5):
        turned = points @ rotation.T + [0.3, -0.2, 0.9]
        np.testing.assert_allclose(settled(Retargeter(hand), turned), flat, atol=1e-6)
        naive = Retargeter(hand)
        for _ in range(25):
            q = naive.solve_in_base(points @ rotation.T).q
        curled.append(np.abs(q - flat)[FLEXION].max())
    assert min(curled) > 0.5, "the same keypoints taken for the robot's axes would curl the fingers"


def test_custom_hand_an_unknown_urdf_works_without_editing_anything(tmp_path):
    """Issues 47, 69, 82, 87: a hand of one's own, without tip links, with its own axes, on an arm."""
    path = tmp_path / "mine.urdf"
    path.write_text(made_up_urdf())
    saved = propose(path).save(tmp_path / "mine.yaml")
    hand = load_hand(saved)
    assert hand.side == "right" and list(hand.tips) == ["thumb", "index", "middle", "ring"]
    assert "arm" not in hand.joint_names
    retargeter = Retargeter(hand)
    opened, closed = settled(retargeter, hand_pose("open")), settled(retargeter, hand_pose("fist"))
    index = hand.joint_names.index("alpha_1")
    assert opened[index] > -0.3 and closed[index] < -1.0, "it closes towards the negative end"


@pytest.mark.parametrize("name", ["allegro_right", "leap_left", "shadow_right", "wuji_left"])
def test_pinch_closes_though_the_tracker_never_sees_the_fingers_touch(name):
    """Issues 9, 42, 65: trackers leave a centimetre or two between touching fingertips, and so does the robot."""
    hand = load_hand(name)
    points = hand_pose("pinch_index", hand.side)
    points[4] += 0.022 * (points[4] - points[8]) / np.linalg.norm(points[4] - points[8])
    assert np.linalg.norm(points[4] - points[8]) > 0.02
    pinched = settled(Retargeter(hand, objective="dexpilot"), points, 60)
    followed = settled(Retargeter(hand), points, 60)
    assert 0.0 < pinch_gap(hand, pinched, "index") < 0.005
    assert pinch_gap(hand, followed, "index") > 0.005, "following the keypoints alone does not close it"


def test_chained_mimic_joints_are_followed_to_their_motor():
    """Issue 92: a joint that follows a joint that follows a motor raises an error, or stays at zero."""
    hand = propose(made_up_urdf()).hand
    assert hand.joint_names == ("alpha_1", "beta_1", "gamma_1", "zeta_swing", "zeta_1")
    q = np.array([-0.8, 0.0, 0.0, 0.0, 0.0])
    full = dict(zip(hand.kinematics.full_joint_names, hand.kinematics.full_position(q)))
    assert full["alpha_2"] == pytest.approx(-0.72) and full["alpha_3"] == pytest.approx(0.7 * -0.72 + 0.05)
    tip = "index_tip_point"
    h = 1e-6 * np.eye(5)[0]
    slope = (hand.kinematics.link_positions(q + h, [tip]) - hand.kinematics.link_positions(q - h, [tip]))[0] / 2e-6
    np.testing.assert_allclose(hand.kinematics.link_jacobians(q, [tip])[0, :, 0], slope, atol=1e-7)


def test_jitter_is_filtered_without_the_lag_of_a_low_pass():
    """Jitter: a noisy tracker makes a still robot hand tremble; the usual low-pass (0.2 a frame) lags four frames."""
    hand, rng = load_hand("allegro_right"), np.random.default_rng(1)
    noise = rng.normal(0.0, 0.002, (150, 21, 3))
    still = hand_pose("relaxed") + noise
    trembling = {}
    for label, smoothing in (("raw", None), ("filtered", OneEuroFilter())):
        retargeter = Retargeter(hand, smoothing=smoothing)
        trembling[label] = np.array([retargeter.solve(frame).q for frame in still])[60:]
    step = {label: np.abs(np.diff(path, axis=0)).mean() for label, path in trembling.items()}
    assert step["filtered"] < 0.35 * step["raw"]
    moving = demonstration()[:60]  # a fist and back
    plain, smooth = Retargeter(hand), Retargeter(hand, smoothing=OneEuroFilter())
    raw, filtered = (np.array([r.solve(frame).q for frame in moving]) for r in (plain, smooth))
    low_pass = raw.copy()
    for t in range(1, len(raw)):
        low_pass[t] = low_pass[t - 1] + 0.2 * (raw[t] - low_pass[t - 1])
    assert lag(filtered, raw) <= 1 < 3 <= lag(low_pass, raw)


def lag(path, reference):
    """Frames of delay at which the path agrees best with the reference."""
    return int(np.argmin([np.abs(path[s:] - reference[: len(reference) - s]).mean() for s in range(8)]))
