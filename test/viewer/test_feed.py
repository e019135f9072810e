"""From messages to what is shown: newest wins, hands in the shown frame, running errors as computed by hand."""

import dataclasses

import numpy as np
import pytest
from test_shapes import future

from egohand_ros.errors import RejectedInput
from egohand_ros.geometry.camera import Camera
from egohand_ros.geometry.transforms import UPRIGHT_OPTICAL, make_transform
from egohand_ros.hand.skeleton import NUM_KEYPOINTS, WRIST
from egohand_ros.messages.forecast import Futures
from egohand_ros.messages.hands import EXTRAPOLATED, hands
from egohand_ros.messages.joints import JointSample
from egohand_ros.messages.poses import StampedPose
from egohand_ros.messages.status import NodeState
from egohand_ros.robot.hands.library import load_hand
from egohand_ros.viewer.feed import Feed, named, ordered
from egohand_ros.viewer.moment import Moment, chain
from egohand_ros.viewer.page import told
from egohand_ros.viewer.panels import plain
from egohand_ros.viewer.picture import draw_picture


def seen(stamp, wrist, frame="world"):
    """A right hand with all its keypoints near its wrist."""
    both = np.full((2, NUM_KEYPOINTS, 3), np.nan)
    both[1] = np.asarray(wrist, dtype=float) + np.linspace(0.0, 0.05, NUM_KEYPOINTS)[:, None]
    return hands(stamp, frame, both)


def forecast(stamp, wrist, frame="world", **more):
    """Of the right hand, at 0.1 and 0.2 s; wrist (K, 2, 3)."""
    return Futures(stamp, frame, np.array([0.1, 0.2]), (future(wrist, **more),))


def test_errors_are_those_of_the_future_that_came_beside_holding_still():
    feed = Feed()
    feed.on_futures(forecast(10.0, [[[0.1, 0, 0], [0.2, 0, 0]]], covariance=np.eye(3) * 0.05**2))
    for stamp in np.arange(10.0, 10.3, 0.05):  # in truth twice as fast as was forecast
        feed.on_hands(seen(stamp, [2 * (stamp - 10.0), 0, 0]))
    (one,) = feed.score.scored
    assert one.error == pytest.approx(0.15) and one.persistence == pytest.approx(0.3)
    assert one.inside == 0.5  # 0.1 m is within 2.5 standard deviations of 0.05 m, 0.2 m is not
    time, error, persistence, coverage = feed.curves().score
    assert (error[0], persistence[0], coverage[0]) == pytest.approx((150.0, 300.0, 50.0)) and time[0] == 10.0


def test_what_was_not_observed_is_not_scored():
    feed = Feed()
    feed.on_futures(forecast(10.0, np.zeros((1, 2, 3))))
    for stamp in (10.0, 10.6, 10.7):  # nobody knows where the hand was between
        feed.on_hands(seen(stamp, [0, 0, 0]))
    extrapolated = dataclasses.replace(seen(11.3, [0, 0, 0]), state=np.array([EXTRAPOLATED, EXTRAPOLATED]))
    feed.on_hands(extrapolated)
    assert not feed.score.scored


def test_hands_of_the_camera_are_moved_by_where_it_was_then():
    feed = Feed()
    for stamp, x in ((1.0, 0.0), (1.1, 1.0)):
        feed.on_camera_pose(StampedPose(stamp, "world", make_transform(np.eye(3), [x, 0.0, 0.0])))
    feed.on_futures(forecast(1.05, np.zeros((1, 2, 3))))
    feed.on_hands(seen(1.05, [0, 0, 1], "camera"))
    moment = feed.moment()
    assert moment.frame == "world" and moment.wrists()[1] == pytest.approx([0.5, 0, 1])
    assert np.array_equal(moment.upright, np.eye(4)) and np.isnan(moment.wrists()[0]).all()


def test_without_camera_poses_the_cameras_own_axes_are_turned_upright():
    feed = Feed()
    feed.on_hands(seen(1.0, [0, 0, 1], "camera"))
    moment = feed.moment()
    assert moment.frame == "camera" and np.array_equal(moment.upright, UPRIGHT_OPTICAL)
    assert moment.upright[:3, :3] @ moment.wrists()[1] == pytest.approx([1, 0, 0])  # in front


def test_frames_of_tf_lead_to_the_shown_one_or_are_left_out():
    step = make_transform(np.eye(3), [1.0, 0.0, 0.0])
    tree = {"base": ("world", step), "tool": ("base", step), "stray": ("elsewhere", step), "a": ("b", step)}
    tree["b"] = ("a", step)  # a circle
    assert chain(tree, "tool", "world")[:3, 3] == pytest.approx([2, 0, 0])
    moment = Moment(hands=seen(1.0, [0, 0, 0]), transforms=tree)
    assert set(moment.shown_frames()) == {"base", "tool"}


def test_the_image_of_the_time_of_the_hands_is_shown_and_only_it_is_decoded():
    feed, decoded = Feed(), []

    def image(value):
        decoded.append(value)
        return np.full((48, 64, 3), value, dtype=np.uint8)

    def broken():
        raise RejectedInput("truncated_image", "cut off")

    feed.on_hands(seen(2.0, [0, 0, 1], "camera"))
    for stamp, decode in ((1.9, lambda: image(19)), (2.0, broken), (2.1, lambda: image(21)), (2.5, lambda: image(25))):
        feed.on_picture(stamp, decode)
    assert feed.moment().picture[0, 0, 0] in (19, 21) and len(decoded) == 1
    feed.moment()
    assert len(decoded) == 1


def test_hand_and_forecast_are_drawn_where_they_are_in_the_image():
    picture = np.zeros((480, 640, 3), dtype=np.uint8)
    camera = Camera.from_horizontal_fov(640, 480, 70.0)
    hand = seen(1.0, [-0.1, 0.0, 0.5], "camera")
    drawn = draw_picture(Moment(hands=hand, camera=camera, picture=picture))
    column, row = np.rint(camera.project(hand.keypoints[1, WRIST])).astype(int)
    assert drawn[row, column].any() and not drawn[:, 500:].any() and not picture.any()
    path = Futures(1.0, "camera", np.array([0.1, 0.2]), (future([[[0.0, 0, 0.5], [0.2, 0, 0.5]]]),))
    fan = draw_picture(Moment(hands=hand, futures=path, camera=camera, picture=picture))
    assert fan[:, 500:].any()
    assert not draw_picture(Moment(hands=hand, picture=picture)).any()  # no calibration: just the image


def test_commands_are_shown_as_a_share_of_their_range():
    hand = load_hand("allegro_right")
    feed = Feed(hand)
    names = tuple(reversed(hand.joint_names))
    feed.on_targets(JointSample(5.0, names, hand.upper[::-1].copy(), np.full(hand.n, np.nan)))
    feed.on_targets(JointSample(5.5, names, hand.lower[::-1].copy(), np.full(hand.n, np.nan)))
    feed.on_targets(JointSample(5.6, ("another",), np.zeros(1), np.zeros(1)))
    joints = feed.curves().joints
    assert joints[0] == pytest.approx([0.0, 0.5]) and (joints[1:, 0] == 1.0).all() and (joints[1:, 1] == 0.0).all()


def test_latencies_are_what_the_nodes_say_of_themselves():
    feed = Feed()
    values = {"latency/total p50 [ms]": "6.20", "latency/total p95 [ms]": "8.10"}
    feed.on_nodes(3.0, [NodeState("/ego/retargeter", 0, "ok", values), NodeState("/ego/player", 1, "late", {})])
    feed.on_nodes(4.0, [NodeState("/ego/retargeter", 0, "ok", values)])
    assert feed.curves().latency == {"pose to command": pytest.approx(np.array([[0, 1], [6.2, 6.2], [8.1, 8.1]]))}
    assert feed.nodes["/ego/player"].message == "late"


def test_a_clock_that_is_set_back_begins_anew():
    feed = Feed()
    feed.on_camera_pose(StampedPose(100.0, "world", np.eye(4)))
    feed.on_futures(forecast(100.0, np.zeros((1, 2, 3))))
    feed.on_hands(seen(100.0, [0, 0, 0]))
    feed.on_camera_pose(StampedPose(1.0, "world", make_transform(np.eye(3), [1.0, 0, 0])))
    assert feed.moment().futures is None
    feed.on_hands(seen(1.0, [0, 0, 0], "camera"))
    assert feed.moment().wrists()[1] == pytest.approx([1, 0, 0])


def test_hands_that_come_no_more_are_not_shown_as_if_they_were_there():
    feed = Feed()
    feed.on_hands(seen(1.0, [0, 0, 1], "camera"))
    feed.on_futures(forecast(1.0, np.zeros((1, 2, 3)), "camera"))
    assert feed.moment(1.9).hands is not None and not feed.moment(1.9).silent
    late = feed.moment(4.0)
    assert late.hands is None and late.futures is None and late.silent == {"hands": 3.0, "forecasts": 3.0}
    assert "no hands for 3 s" in told(late) and "no hands" not in told(feed.moment(1.9))


def test_nothing_that_others_say_is_markup_or_a_program():
    hostile = "{alert(1)} <b>`x` [a](b) | c\n# d"
    shown = plain(hostile)
    assert "\n" not in shown and all(shown[i - 1] == "\\" for i, c in enumerate(shown) if c in "{}<>`[]()|#" and i)
    feed = Feed()
    feed.on_futures(dataclasses.replace(forecast(1.0, np.zeros((1, 2, 3)), "{evil}"), model_id="`{evil}`"))
    assert "{evil" not in told(feed.moment()).replace("\\{evil", "")


def test_arm_and_hand_may_speak_in_messages_of_their_own():
    hand, nothing = load_hand("allegro_right"), np.full(2, np.nan)
    feed = Feed(hand)
    feed.on_measured(JointSample(1.0, ("elbow", "shoulder"), np.array([0.1, 0.2]), nothing))
    feed.on_measured(JointSample(1.1, hand.joint_names, hand.rest_q, np.zeros(hand.n)))
    feed.on_measured(JointSample(1.2, ("elbow", "shoulder"), np.array([0.3, 0.4]), nothing))
    measured = feed.moment().measured
    assert named(measured, ("shoulder", "elbow")) == pytest.approx([0.4, 0.3])
    assert ordered(measured, hand) == pytest.approx(hand.rest_q) and named(measured, ("wrist",)) is None
