"""The hand_tracker node as a process: real images over DDS, real MediaPipe."""

import numpy as np
import pytest

pytest.importorskip("rclpy")

import cv2
from geometry_msgs.msg import PoseWithCovarianceStamped
from robot_graph import Probe, Process
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from visualization_msgs.msg import MarkerArray

from egohand_ros.geometry.camera import Camera
from egohand_ros.messages.basic import seconds
from egohand_ros.messages.hands import parse_hand_pose_array_msg
from egohand_ros.msg import HandPose, HandPoseArray, Latency
from egohand_ros.nodes.messages.basic import header_msg
from egohand_ros.nodes.messages.image import build_image_msg, parse_image_msg
from egohand_ros.tracking.warmup import drawn_hand

SIZE = 240  # px; small, so that raw images fit into one DDS fragment buffer
FRAME = "head_camera_optical"
LEFT_HAND = drawn_hand(SIZE, "left")
EMPTY = np.full_like(LEFT_HAND, 90)
CAMERA = Camera.from_horizontal_fov(SIZE, SIZE, 60.0)


def camera_info_msg(stamp, camera=CAMERA):
    info = CameraInfo(header=header_msg(stamp, FRAME), width=camera.width, height=camera.height)
    info.k = camera.matrix.ravel()
    return info


class Scene:
    """A probe that plays the camera and collects the hands."""

    def __init__(self):
        self.probe = Probe("camera")
        self.images = self.probe.publisher(Image, "image")
        self.compressed = self.probe.publisher(CompressedImage, "image/compressed")
        self.infos = self.probe.publisher(CameraInfo, "camera_info")
        self.poses = self.probe.collect(HandPoseArray, "hand_poses")

    def show(self, image=LEFT_HAND, stamp=None, frame=FRAME):
        """Publish one raw image; its stamp."""
        stamp = self.probe.now() if stamp is None else stamp
        self.images.publish(build_image_msg(image, header_msg(stamp, frame)))
        return stamp

    def calibrate(self, camera=CAMERA):
        self.infos.publish(camera_info_msg(self.probe.now(), camera))

    def answers(self, image=LEFT_HAND, calibrated=True):
        """Show images until poses come back for a new one; the newest poses."""
        before = len(self.poses)

        def each():
            if calibrated:
                self.calibrate()
            self.show(image)
            self.probe.spin(0.05)

        self.probe.wait(lambda: len(self.poses) > before, what="hand poses", each=each)
        return self.poses[-1]

    def rejected(self):
        prefix = "rejected/"
        values = self.probe.diagnostics.get("hand_tracker", {})
        return {k[len(prefix) :]: int(v) for k, v in values.items() if k.startswith(prefix)}

    def close(self):
        self.probe.close()


@pytest.fixture(scope="module")
def camera(ros):
    made = Scene()
    yield made
    made.close()


@pytest.fixture
def scene(camera):
    camera.poses.clear()
    camera.probe.diagnostics.clear()
    camera.probe.levels.clear()
    return camera


@pytest.fixture(scope="class")
def node(camera):
    with Process("hand_tracker") as process:
        yield process


class TestOneNode:
    """One process answers all of these."""

    @pytest.fixture
    def running(self, node, scene):
        scene.answers()
        return scene

    def test_an_image_becomes_a_hand_with_its_stamp_and_frame(self, running):
        running.calibrate()
        running.probe.spin(0.2)
        stamps = []

        def each():
            stamps.append(running.show())
            running.probe.spin(0.1)

        running.poses.clear()
        running.probe.wait(lambda: len(running.poses) >= 3, what="three poses", each=each)
        for message in running.poses:
            assert min(abs(seconds(message.header.stamp) - s) for s in stamps) < 1e-8
            assert message.header.frame_id == FRAME
            (hand,) = message.hands
            assert (hand.side, hand.tracking_state, hand.header) == (HandPose.LEFT, HandPose.MEASURED, message.header)
            assert hand.track_id > 0 and 0 < hand.confidence <= 1
        hands = parse_hand_pose_array_msg(running.poses[-1])
        assert hands.valid[0].all() and not hands.valid[1].any()
        expected = 0.187 * CAMERA.matrix[0, 0] / (154 * SIZE / 480)  # pinhole: hand length, focal length, size in px
        assert hands.keypoints[0, 0, 2] == pytest.approx(expected, rel=0.2)
        assert np.linalg.det(hands.wrist_rotation[0]) == pytest.approx(1.0)
        assert np.linalg.eigvalsh(hands.wrist_covariance[0]).min() > 0

    def test_no_hand_is_an_empty_message(self, running):
        running.probe.wait(
            lambda: running.poses and not running.poses[-1].hands,
            what="empty poses",
            each=lambda: (running.show(EMPTY), running.probe.spin(0.05)),
        )

    def test_standard_topics_the_debug_image_and_latency_come_to_who_subscribes(self, running):
        wrists = running.probe.collect(PoseWithCovarianceStamped, "wrist/left")
        drawn = running.probe.collect(Image, "debug/image")
        markers = running.probe.collect(MarkerArray, "hand_poses/markers")
        latency = running.probe.collect(Latency, "hand_tracker/debug/latency")
        running.probe.wait(
            lambda: wrists and drawn and latency and markers, what="all outputs", each=lambda: running.answers()
        )
        assert wrists[-1].header.frame_id == FRAME and wrists[-1].pose.pose.position.z > 0.1
        (bones,) = markers[-1].markers
        assert (bones.ns, bones.header.frame_id, len(bones.points)) == ("left/now", FRAME, 40)
        picture = parse_image_msg(drawn[-1])
        assert picture.shape == LEFT_HAND.shape and (picture != LEFT_HAND).any()
        stages = dict(zip(latency[-1].stages, latency[-1].durations, strict=True))
        assert {"input_age", "wait", "decode", "detect", "locate", "identify", "build", "publish", "total"} == set(
            stages
        )
        assert 0 < stages["detect"] < stages["total"]

    def test_hostile_images_are_counted_by_reason_and_the_node_goes_on(self, running):
        now = running.probe.now()
        good = build_image_msg(LEFT_HAND, header_msg(now, FRAME))
        half = build_image_msg(LEFT_HAND, header_msg(now, FRAME))
        half.data = half.data[: len(half.data) // 2]
        gray = build_image_msg(LEFT_HAND, header_msg(now, FRAME))
        gray.encoding = "mono8"
        vast = build_image_msg(LEFT_HAND, header_msg(now, FRAME))
        vast.width = vast.height = 2**31
        cases = {
            "truncated_image": half,
            "unsupported_encoding": gray,
            "huge_image": vast,
            "camera_mismatch": build_image_msg(LEFT_HAND[:120], header_msg(now, FRAME)),
            "empty_frame": build_image_msg(LEFT_HAND, header_msg(now, "")),
            "zero_stamp": build_image_msg(LEFT_HAND, header_msg(0.0, FRAME)),
            "stale_stamp": good,
            "future_stamp": good,
        }
        stamps = {"zero_stamp": 0.0, "stale_stamp": -30.0, "future_stamp": 1e6}

        def send():
            for reason, message in cases.items():
                offset = stamps.get(reason)
                stamp = 0.0 if offset == 0.0 else running.probe.now() + (offset or 0.0)
                message.header = header_msg(stamp, message.header.frame_id)
                running.images.publish(message)
                running.probe.spin(0.04)  # the worker takes the newest only; give it time for each

        running.probe.wait(
            lambda: {f"image/{reason}" for reason in cases} <= set(running.rejected()),
            what="all reasons counted",
            each=send,
        )
        uncalibrated = CameraInfo(header=header_msg(now, FRAME), width=640, height=480)
        running.probe.wait(
            lambda: "camera_info/uncalibrated_camera" in running.rejected(),
            what="bad calibration counted",
            each=lambda: (running.infos.publish(uncalibrated), running.probe.spin(0.05)),
        )
        assert running.answers(calibrated=False).hands[0].side == HandPose.LEFT


def test_a_time_that_restarts_begins_a_new_track(scene):
    """As when a bag loops: /clock and the stamps jump back together."""
    from rosgraph_msgs.msg import Clock

    from egohand_ros.nodes.messages.basic import time_msg

    clock = scene.probe.publisher(Clock, "/clock")

    def play(second):
        """Show images from this second of the clock on until poses with such a stamp come back."""
        seen = len(scene.poses)
        tick = iter(np.arange(second, second + 100, 0.05))

        def each():
            stamp = float(next(tick))
            clock.publish(Clock(clock=time_msg(stamp)))
            scene.probe.spin(0.03)
            scene.infos.publish(camera_info_msg(stamp))
            scene.show(stamp=stamp)

        def come():
            new = scene.poses[seen:]
            return [m for m in new if m.hands and second <= seconds(m.header.stamp) < second + 100]

        scene.probe.wait(come, what=f"poses of second {second}", each=each)
        return come()[-1].hands[0].track_id

    with Process("hand_tracker", use_sim_time=True):
        first = play(500.0)
        assert play(100.0) > first


def test_without_camera_info_images_are_refused_and_the_fix_is_named(scene):
    begin = scene.probe.now()
    with Process("hand_tracker"):
        scene.probe.wait(
            lambda: "image/no_camera_info" in scene.rejected(),
            what="refusal",
            each=lambda: (scene.show(), scene.probe.spin(0.05)),
        )
        scene.probe.wait(lambda: scene.probe.levels.get("hand_tracker", (0, ""))[0] == 2, what="error level")
        assert "camera_fov" in scene.probe.levels["hand_tracker"][1]
        assert not [m for m in scene.poses if seconds(m.header.stamp) >= begin]
        assert scene.answers().hands  # it recovers by itself


def test_an_assumed_field_of_view_and_compressed_images(scene):
    jpeg = cv2.imencode(".jpg", LEFT_HAND[..., ::-1])[1].tobytes()

    def send(data):
        header = header_msg(scene.probe.now(), FRAME)
        scene.compressed.publish(CompressedImage(header=header, format="jpeg", data=data))
        scene.probe.spin(0.05)

    with Process("hand_tracker", image_transport="compressed", camera_fov=60):
        scene.probe.wait(lambda: scene.poses, what="poses", each=lambda: send(jpeg))
        assert scene.poses[-1].hands[0].side == HandPose.LEFT
        scene.probe.wait(
            lambda: "image/compressed/truncated_image" in scene.rejected(),
            what="refusal",
            each=lambda: send(jpeg[:-40]),
        )
        count = len(scene.poses)
        scene.probe.wait(lambda: len(scene.poses) > count, what="poses again", each=lambda: send(jpeg))


def test_a_parameter_that_cannot_work_ends_the_node_with_one_line(ros):
    process = Process("hand_tracker", hand_length=0.01)
    assert process.ended() == 2
    assert "hand_length is 0.01 m; expected 0.08 to 0.28 m" in process.errors and "Traceback" not in process.errors


def test_the_real_video_is_tracked_as_one_right_hand(scene, shared_data):
    capture = cv2.VideoCapture(str(shared_data / "hand_video" / "human_hand_video.mp4"))
    frames = [cv2.imencode(".jpg", capture.read()[1])[1].tobytes() for _ in range(40)]
    camera, begun = Camera.from_horizontal_fov(1280, 720, 65.0), scene.probe.now()

    def fresh():
        """Of this test's frames: what a node of a test before had sent may come only now."""
        return [p for p in scene.poses if p.header.stamp.sec + 1e-9 * p.header.stamp.nanosec >= begun - 1e-6]

    def poses_of(frame):
        before = len(fresh())

        def each():
            scene.calibrate(camera)
            header = header_msg(scene.probe.now(), FRAME)
            scene.compressed.publish(CompressedImage(header=header, format="jpeg", data=frame))
            scene.probe.spin(0.05)

        scene.probe.wait(lambda: len(fresh()) > before, what="poses of the frame", each=each)
        return fresh()[-1]

    with Process("hand_tracker", image_transport="compressed"):
        seen = [(number, hand) for number, frame in enumerate(frames) for hand in poses_of(frame).hands]
    hands = [hand for _, hand in seen]
    assert len(hands) >= 0.98 * len(frames)
    told = [(n, h.side, h.tracking_state, h.track_id, h.confidence, h.keypoints[0]) for n, h in seen]
    assert {(h.side, h.tracking_state) for h in hands} == {(HandPose.RIGHT, HandPose.MEASURED)}, told
    assert len({h.track_id for h in hands}) == 1
    assert all(0.3 < h.keypoints[0].z < 1.0 for h in hands)
