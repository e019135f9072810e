"""`hand_tracker`: images of a calibrated camera -> where both hands are, in metres.

    subscribes  image             sensor_msgs/Image            with image_transport raw
                image/compressed  sensor_msgs/CompressedImage  with image_transport compressed
                camera_info       sensor_msgs/CameraInfo
    publishes   hand_poses        HandPoseArray, stamp and frame of the image (the camera's optical frame)
                wrist/left, wrist/right  geometry_msgs/PoseWithCovarianceStamped, for stock tools
                hand_poses/markers  visualization_msgs/MarkerArray, the bones
                debug/image       sensor_msgs/Image, hands drawn in; made only for subscribers
                ~/debug/latency   Latency of each image

While an image is worked on only the newest one waits, so results are never older than they have to be; what is dropped
is counted. Without a subscriber to any result nothing is computed.
"""

import threading
import time
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from geometry_msgs.msg import PoseWithCovarianceStamped
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from visualization_msgs.msg import MarkerArray

from ..errors import RejectedInput
from ..geometry.camera import Camera
from ..hand.skeleton import NUM_KEYPOINTS, SIDES
from ..messages.basic import parse_header
from ..messages.hands import EXTRAPOLATED, LOST, MEASURED, Hands, hands
from ..msg import HandPoseArray
from ..stream.stamps import StampGuard, StampLimits
from ..tracking.drawing import draw_hands
from ..tracking.tracker import HandTracker, TrackedHands, TrackerConfig, TrackingState
from .base import qos
from .base.diagnostics import ERROR, WARN
from .base.images import ImageInput, image_reliability, min_image_rate
from .base.node import BaseParameters, EgoHandNode, parameter, run_node
from .base.parameters import max_future_parameter
from .latency import LatencyOutput
from .messages.hands import build_hand_pose_array_msg
from .messages.image import build_image_msg, parse_camera_info_msg, parse_compressed_image_msg, parse_image_msg
from .messages.standard import build_hand_markers_msg, build_wrist_msg

_MARKER_LIFETIME = 0.3  # s; a hand that is lost vanishes
_STATES = {
    TrackingState.MEASURED: MEASURED,
    TrackingState.EXTRAPOLATED: EXTRAPOLATED,
    TrackingState.LOST: LOST,
}


@dataclass(frozen=True)
class HandTrackerParameters(BaseParameters):
    image_transport: str = parameter("raw", "Which image topic to use.", choices=("raw", "compressed"), read_only=True)
    image_reliability: str = image_reliability()
    min_image_rate: float = min_image_rate()
    rectified: bool = parameter(
        False, "The images are already rectified: use camera_info's P and no distortion.", read_only=True
    )
    camera_fov: float = parameter(
        0.0,
        "Horizontal field of view to assume (no distortion) while there is no camera_info; 0: refuse images "
        "until it comes.",
        unit="deg",
        range=(0.0, 170.0),
        read_only=True,
    )
    max_hands: int = parameter(2, "Most hands to look for.", range=(1, 2), read_only=True)
    model_complexity: int = parameter(
        1, "MediaPipe's landmark model: 0 faster, 1 more exact.", range=(0, 1), read_only=True
    )
    processing_width: int = parameter(
        640, "Wider images are made this wide first.", unit="px", range=(160, 4096), read_only=True
    )
    min_detection_confidence: float = parameter(
        0.5, "MediaPipe's threshold for a new hand.", range=(0.05, 1.0), read_only=True
    )
    min_tracking_confidence: float = parameter(
        0.5, "MediaPipe's threshold for following a hand.", range=(0.05, 1.0), read_only=True
    )
    model_path: str = parameter(
        "",
        "File hand_landmarker.task, which MediaPipe needs from 0.10.22 on, with its own complexity; empty: the models "
        "inside older ones.",
        read_only=True,
    )
    hand_length: float = parameter(
        0.0,
        "Wrist crease to middle fingertip of the wearer: sets the metric scale; 0: an average adult's, 0.187 m.",
        unit="m",
        range=(0.0, 0.28),
    )
    max_distance: float = parameter(
        2.0, "Hands further from the camera are somebody else's.", unit="m", range=(0.2, 10.0)
    )
    max_gap: float = parameter(
        0.2, "A hand that is not seen is extrapolated for so long.", unit="s", range=(0.0, 2.0), read_only=True
    )
    memory: float = parameter(
        1.0, "A lost hand that comes back within this keeps its track id.", unit="s", range=(0.0, 30.0), read_only=True
    )
    max_image_age: float = parameter(1.0, "Older images are refused.", unit="s", range=(0.05, 60.0))
    max_future: float = max_future_parameter(0.1, read_only=True)

    def tracker_config(self) -> TrackerConfig:
        """Raises `UserError` for values that cannot work."""
        names = TrackerConfig.__dataclass_fields__.keys() & self.__dataclass_fields__.keys()
        return TrackerConfig(**{name: getattr(self, name) for name in names})


class _Work(NamedTuple):
    message: Image | CompressedImage
    camera: Camera | None
    received: float  # node clock, s
    queued: float  # time.perf_counter


class _Result(NamedTuple):
    poses: HandPoseArray
    markers: MarkerArray | None
    drawn: Image | None
    stages: dict[str, float]
    work: _Work


class HandTrackerNode(EgoHandNode):
    Parameters = HandTrackerParameters

    def __init__(self, **kwargs):
        super().__init__("hand_tracker", **kwargs)
        self._tracker: HandTracker | None = None

    # ------------------------------------------------------------------------------------------ wiring

    def setup(self) -> None:
        parameters = self.parameters
        self._tracker = HandTracker(parameters.tracker_config())
        self._guard = StampGuard(StampLimits(parameters.max_image_age, parameters.max_future))
        self._restart = threading.Event()  # asks the worker, which owns the tracker, to forget
        self._camera: Camera | None = None
        self._last_image = time.monotonic()
        self._seen_images, self._seen_drops = 0, 0

        self._poses = self.advertise(HandPoseArray, "hand_poses")
        self._wrists = [self.advertise(PoseWithCovarianceStamped, f"wrist/{side}") for side in SIDES]
        self._markers = self.advertise(MarkerArray, "hand_poses/markers")
        self._debug_image = self.advertise(Image, "debug/image")
        self._latency = LatencyOutput(self)

        self._worker = self.make_worker(self._process, self._publish)
        self.subscribe_also_latched(CameraInfo, "camera_info", self._on_camera_info, qos.SENSOR)
        # Resolved by hand, so that remapping `image` moves the compressed topic along, as image_transport does.
        base = self.resolve_topic_name("image")
        self._image_topic = base if parameters.image_transport == "raw" else f"{base}/compressed"
        kind = Image if parameters.image_transport == "raw" else CompressedImage
        self._images = ImageInput(self, kind, self._image_topic, self._on_image, qos.IMAGES)
        self.health.value("image topic", self._image_topic)

    def start(self) -> None:
        self._last_image = time.monotonic()

    def release(self) -> None:
        tracker, self._tracker = self._tracker, None
        if tracker is not None:
            tracker.close()

    def reset(self) -> None:
        self._guard.reset()
        self._worker.clear()
        self._restart.set()

    def check_parameters(self, new: HandTrackerParameters) -> None:
        new.tracker_config()

    def parameters_changed(self, old: HandTrackerParameters, new: HandTrackerParameters) -> None:
        if self._tracker is not None:
            self._tracker.config = new.tracker_config()
            self._guard.limits = replace(self._guard.limits, max_age=new.max_image_age)

    # ------------------------------------------------------------------------------------------ executor's thread

    def _on_camera_info(self, message: CameraInfo) -> None:
        self._camera = parse_camera_info_msg(message, self.parameters.rectified)

    def _on_image(self, message: Image | CompressedImage) -> None:
        self._last_image = time.monotonic()
        now = self.now()
        if self._guard.check(parse_header(message.header)[0], now):
            self._restart.set()
        if not self._is_wanted():
            self.health.count("images_without_subscriber")
            return
        self._worker.submit(_Work(message, self._camera, now, time.perf_counter()))

    def _is_wanted(self) -> bool:
        outputs = (self._poses, *self._wrists, self._markers, self._debug_image)
        return any(publisher.get_subscription_count() for publisher in outputs)

    def update_health(self) -> None:
        if not self.is_active:
            return
        silent = time.monotonic() - self._last_image
        self.health.condition("image", silent > 1.0, f"none on {self._image_topic} for {silent:.1f} s", WARN)
        self._images.look(silent)
        missing = self._camera is None and self.parameters.camera_fov == 0.0
        fix = "no valid camera_info; publish it, or set camera_fov to the lens's horizontal field of view"
        self.health.condition("camera", missing, fix, ERROR)
        if self._camera is None and not missing:
            self.health.value("camera", f"assumed, {self.parameters.camera_fov:g} deg field of view, not calibrated")
        images, drops = self.health.counted("hand_images"), self._worker.dropped
        new_images, new_drops = images - self._seen_images, drops - self._seen_drops
        self._seen_images, self._seen_drops = images, drops
        slow = f"{new_drops} of {new_images + new_drops} images dropped in the last second: too slow for this rate"
        self.health.condition("throughput", new_drops > 0.1 * (new_images + new_drops), slow)

    # ------------------------------------------------------------------------------------------ worker's thread

    def _process(self, work: _Work) -> _Result | None:
        begin = time.perf_counter()
        if self._restart.is_set():
            self._restart.clear()
            self._tracker.reset()
        try:
            image = self._decode(work.message)
            camera = work.camera or self._assumed_camera(image)
            decoded = time.perf_counter()
            header = work.message.header
            tracked = self._tracker.process(image, parse_header(header)[0], camera)
        except RejectedInput as error:
            self.reject(self._image_topic.lstrip("/"), error)
            self._latency.say(work.message.header.stamp, {"wait": begin - work.queued})
            return None
        for reason, number in tracked.rejected.items():
            self.health.count(f"hands_not_used/{reason}", number)
        built = time.perf_counter()
        arrays = _as_arrays(tracked, header)
        poses = build_hand_pose_array_msg(arrays)
        markers = drawn = None
        if self._markers.get_subscription_count():
            markers = build_hand_markers_msg(arrays, _MARKER_LIFETIME)
        if self._debug_image.get_subscription_count():
            drawn = build_image_msg(draw_hands(image, tracked, camera), header)
        stages = {
            "input_age": work.received - parse_header(header)[0],
            "wait": begin - work.queued,
            "decode": decoded - begin,
            **tracked.timings,
            "build": time.perf_counter() - built,
        }
        return _Result(poses, markers, drawn, stages, work)

    def _decode(self, message: Image | CompressedImage) -> np.ndarray:
        if isinstance(message, CompressedImage):
            return parse_compressed_image_msg(message, self.parameters.processing_width)
        return parse_image_msg(message)

    def _assumed_camera(self, image: np.ndarray) -> Camera:
        if self.parameters.camera_fov == 0.0:
            raise RejectedInput("no_camera_info", "publish camera_info, or set the parameter camera_fov")
        return Camera.from_horizontal_fov(image.shape[1], image.shape[0], self.parameters.camera_fov)

    def _publish(self, result: _Result) -> None:
        begin = time.perf_counter()
        self._poses.publish(result.poses)
        for hand in result.poses.hands:
            if self._wrists[hand.side].get_subscription_count():
                self._wrists[hand.side].publish(build_wrist_msg(hand))
        if result.markers is not None:
            self._markers.publish(result.markers)
        if result.drawn is not None:
            self._debug_image.publish(result.drawn)
        end = time.perf_counter()
        total = result.stages["input_age"] + end - result.work.queued
        stages = {**result.stages, "publish": end - begin, "total": total}
        self.health.count("hand_images")
        self.health.count("hands", len(result.poses.hands))
        self._latency.note(result.poses.header.stamp, stages)


def _as_arrays(tracked: TrackedHands, header) -> Hands:
    """The tracked hands as the arrays that messages are built from."""
    out = hands(header.stamp, header.frame_id, np.full((2, NUM_KEYPOINTS, 3), np.nan))
    for hand in tracked.hands:
        side = SIDES.index(hand.side)
        out.keypoints[side], out.valid[side] = hand.keypoints, hand.valid
        out.wrist_rotation[side], out.wrist_covariance[side] = hand.wrist_rotation, hand.wrist_covariance
        out.confidence[side], out.keypoint_confidence[side] = hand.confidence, hand.keypoint_confidence
        out.state[side], out.track_id[side] = _STATES[hand.state], hand.track_id
    return out


def main(args: list[str] | None = None) -> int:
    """Run the node until it is told to stop; the exit code."""
    return run_node(HandTrackerNode, args)


if __name__ == "__main__":
    raise SystemExit(main())
