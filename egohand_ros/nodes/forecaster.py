"""`forecaster`: observed hands (and what else the model looks at) -> where both hands will be.

    subscribes  hand_poses            HandPoseArray, of our hand_tracker or any other
                tracker_poses/left, tracker_poses/right   geometry_msgs/PoseArray, one hand of 21, 25 or 26 joints: what
                                      most trackers without an adapter publish, remapped here
                tracker_poses         geometry_msgs/PoseArray, the hand `tracker_side`, or both hands one after the
                                      other beginning with it
                camera_pose           geometry_msgs/PoseStamped, the camera's optical frame in header.frame_id
                odometry              nav_msgs/Odometry, of the camera or of what carries it (`camera_in_base`)
                prompt                std_msgs/String, what the person is about to do
                image             sensor_msgs/Image            with image_transport raw
                image/compressed  sensor_msgs/CompressedImage  with image_transport compressed
                camera_info       sensor_msgs/CameraInfo
                depth             sensor_msgs/Image
                                      these four only where the model looks at images, or at depth
    publishes   hand_forecasts        HandForecastArray, stamped with the last observation that was used
                forecaster_info       ForecasterInfo, latched
                forecast/{left,right}/{path,poses,trajectory}, forecast/markers    the same for stock tools, only while
                                      somebody listens
                ~/debug/latency       Latency of each forecast

Frames: hands that come in another frame than the camera's poses are in the camera's frame; they are moved to the fixed
frame of those poses, and forecasts are there. Without camera poses everything stays in the tracker's frame.

One forecast for each new observation; while the model is busy only the newest one waits, and drops are counted.

Every forecast is scored when its future has arrived: running errors and coverage are in the diagnostics, and
`adapt_uncertainty` keeps the published covariance at the coverage that it promises (forecast/online.py).
"""

import inspect
import time
from dataclasses import dataclass

import numpy as np
import torch
from builtin_interfaces.msg import Time
from geometry_msgs.msg import PoseArray, PoseStamped
from nav_msgs.msg import Odometry, Path
from rclpy.publisher import Publisher
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import String
from trajectory_msgs.msg import MultiDOFJointTrajectory
from visualization_msgs.msg import MarkerArray

from egohand_ros.msg import ForecasterInfo, HandForecastArray, HandPoseArray, Latency

from ..errors import RejectedInput, UserError
from ..forecast import DEFAULT_FORECASTER
from ..forecast.aggregate import AGGREGATIONS, NEWEST, TEMPORAL, ForecastAggregator
from ..forecast.base import Forecast, Forecaster, make_forecaster, presets
from ..forecast.calibration import COVERAGE
from ..forecast.online import OnlineAssessment
from ..geometry.rotations import matrix_from_quaternion
from ..geometry.transforms import make_transform
from ..hand.conventions import CONVENTIONS
from ..hand.skeleton import SIDES, side_index
from ..stream.guard import StampLimits
from ..stream.intake import Intake, Observation
from ..stream.pairing import BothHands, SidePairer
from ..stream.warmup import example_window
from ..stream.window import Window
from . import qos
from .base import BaseParameters, EgoHandNode, parameter, run_node
from .diagnostics import ERROR, WARN
from .messages import (
    MEASURED,
    Futures,
    build_forecaster_info_msg,
    build_latency_msg,
    futures_from_forecast,
    parse_hand_pose_array_msg,
    parse_header,
    parse_transform,
    time_msg,
)
from .messages_cdr import encode_hand_forecast_array
from .messages_image import parse_camera_info_msg, parse_compressed_image_msg, parse_depth_msg, parse_image_msg
from .messages_standard import (
    build_marker_array_msg,
    build_path_msg,
    build_pose_array_msg,
    build_trajectory_msg,
    parse_pose_array_msg,
)
from .transforms import TransformSource

_WARM_UP_RUNS = 3
_TF_PERIOD = 0.01  # s
_SILENT, _LOST = 1.0, 10.0  # s without an input after which diagnostics warn, and call it an error
_KEPT_STAMPS = 256  # more than the aligner lets wait for a camera pose


@dataclass(frozen=True)
class ForecasterParameters(BaseParameters):
    forecaster: str = parameter(DEFAULT_FORECASTER, "Preset name; `egohand forecasters` lists them.", read_only=True)
    checkpoint: str = parameter(
        "", "Weights, a folder or a hub id; empty: those that come with the forecaster.", read_only=True
    )
    device: str = parameter(
        "auto", "Where the model runs: cpu, cuda, cuda:1, …; auto takes a GPU where there is one.", read_only=True
    )
    hypotheses: int = parameter(1, "Futures of each hand, at most as many as the forecaster gives.", range=(1, 256))
    aggregation: str = parameter(
        NEWEST, "Each forecast as it comes (newest), or averaged with those before it (temporal: Temporal Orthogonal Filtering).",
        choices=AGGREGATIONS,
    )  # fmt: skip
    seed: int = parameter(-1, "Seed of sampled hypotheses; -1: a new one each time.", range=(-1, 2**31 - 1))
    adapt_uncertainty: bool = parameter(
        True,
        "Scale covariances and standard deviations so that 90 % regions hold 90 % of what then happens, for any forecaster; "
        "false: as the forecaster gives them. Errors and coverage are in the diagnostics either way.",
    )
    keypoint_convention: str = parameter(
        "auto",
        "Order of the joints of tracker_poses; auto tells mediapipe, webxr and openxr apart by their number.",
        choices=("auto", *CONVENTIONS), read_only=True,
    )  # fmt: skip
    tracker_side: str = parameter("left", "The hand, or the first of two, of tracker_poses.", choices=SIDES, read_only=True)
    fixed_frame: str = parameter(
        "", "Frame that forecasts have to be in; empty: that of the camera poses, the tracker's while there are none.",
        read_only=True,
    )  # fmt: skip
    camera_frame: str = parameter(
        "", "The only frame of hands to be moved by camera poses; empty: whatever is not the fixed one.", read_only=True
    )
    camera_pose_source: str = parameter(
        "topic", "Camera poses: topics camera_pose and odometry, or TF from fixed_frame.", choices=("topic", "tf"),
        read_only=True,
    )  # fmt: skip
    camera_in_base: tuple[float, ...] = parameter(
        (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0),
        "Pose of the camera's optical frame in the child frame of odometry: x, y, z [m], qx, qy, qz, qw.",
        read_only=True,
    )
    image_transport: str = parameter(
        "raw", "Which image topic to use, where the model looks at images.", choices=("raw", "compressed"), read_only=True
    )
    rectified: bool = parameter(
        False, "The images are already rectified: use camera_info's P; otherwise K. Neither undoes distortion.", read_only=True
    )
    max_input_age: float = parameter(1.0, "Older inputs are refused.", unit="s", range=(0.01, 60.0), read_only=True)
    hand_timeout: float = parameter(
        0.5, "A hand that was not seen for longer is not forecast.", unit="s", range=(0.0, 10.0)
    )
    marker_lifetime: float = parameter(0.5, "How long markers stay when nothing new comes.", unit="s", range=(0.05, 60.0))

    def __post_init__(self):
        quaternion = np.array(self.camera_in_base[3:])
        if len(self.camera_in_base) != 7 or not abs(np.linalg.norm(quaternion) - 1.0) < 1e-2:
            raise ValueError(f"camera_in_base is {self.camera_in_base}; expected x, y, z and a unit quaternion x, y, z, w")
        if self.camera_pose_source == "tf" and not self.fixed_frame:
            raise ValueError("camera_pose_source is tf, but fixed_frame is empty; set it to the world's frame, as odom")

    def T_base_camera(self) -> np.ndarray:
        """(4, 4)"""
        values = np.array(self.camera_in_base)
        return make_transform(matrix_from_quaternion(values[3:]), values[:3])


@dataclass(frozen=True)
class _Work:
    observation: Observation
    stamp: Time  # of the last observation, exactly as it came
    track_id: tuple[int, int]
    epoch: int
    input_age: float  # s
    pre: float  # s
    queued: float  # time.perf_counter


@dataclass(frozen=True)
class _Result:
    work: _Work
    futures: Futures
    stages: dict[str, float]


class ForecasterNode(EgoHandNode):
    Parameters = ForecasterParameters

    def __init__(self, **kwargs):
        super().__init__("forecaster", **kwargs)
        self._forecaster: Forecaster | None = None
        self._transforms: TransformSource | None = None

    # ---------------------------------------------------------------- lifecycle

    def setup(self) -> None:
        self._load(self._wanted_device())
        self.check_parameters(self.parameters)
        p, spec = self.parameters, self._forecaster.spec
        limits = StampLimits(max_age=p.max_input_age)
        self._intake = Intake(spec, self.reject, p.camera_frame, p.fixed_frame, limits)
        self._aggregator = ForecastAggregator(spec.horizon)
        self._pairer = SidePairer()
        self._stamps: dict[float, Time] = {}
        self._last_transform = 0.0
        self._due: tuple[float, float] | None = None  # when the newest observation began to be taken in: perf_counter, now
        self._track_id = [0, 0]
        self._last_observation = self._last_input = time.monotonic()
        self._assessment, self._assessed_epoch = OnlineAssessment(), self._intake.epoch
        self._worker = self.make_worker(self._process, self._publish)
        self._advertise()
        self._subscribe(spec.modalities)

    def start(self) -> None:
        self._last_observation = self._last_input = time.monotonic()
        self._publish_info()

    def release(self) -> None:
        self._forecaster = None
        if self._transforms is not None:
            self._transforms.close()
            self._transforms = None

    def reset(self) -> None:
        self._intake.reset()
        self._pairer.reset()
        self._worker.clear()
        self._due = None

    def check_parameters(self, new: ForecasterParameters) -> None:
        if self._forecaster is not None and new.hypotheses > self._forecaster.spec.max_hypotheses:
            most = self._forecaster.spec.max_hypotheses
            raise UserError(f"hypotheses is {new.hypotheses}, but {new.forecaster} gives at most {most}")

    def update_health(self) -> None:
        if not self.is_active:
            return
        now = time.monotonic()
        silent = now - self._last_input
        waited = now - self._last_observation if self._intake.waits_for_camera and silent <= _SILENT else 0.0
        self._report_silence("input", silent, f"no hands for {silent:.1f} s")
        self._report_silence("camera_pose", waited, f"hands come, but for {waited:.1f} s no camera pose to move them by")
        self.health.condition("device", bool(self._fallen_back), self._fallen_back, WARN)
        self.health.value("observations without camera pose", self._intake.dropped_waiting)
        self._report_accuracy()
        total = self.health.percentiles().get("total")
        if total is not None:
            self.health.value("useful horizon at p95 [s]", f"{self._forecaster.spec.horizon - total[1]:.3f}")

    def _report_accuracy(self) -> None:
        report = self._assessment.report()
        if report.scored:
            self.health.value("forecasts scored", report.scored)
            self.health.value("ADE [m]", f"{report.ade:.4f}")
            self.health.value("FDE [m]", f"{report.fde:.4f}")
            self.health.value(f"coverage of {COVERAGE:.0%} regions", f"{report.coverage:.3f}")
            self.health.value("regions adapted", report.adapted and self.parameters.adapt_uncertainty)

    def _report_silence(self, name: str, silent: float, message: str) -> None:
        self.health.condition(name, silent > _SILENT, message, ERROR if silent > _LOST else WARN)

    def _advertise(self) -> None:
        self._forecasts = self.advertise(HandForecastArray, "hand_forecasts")
        self._info = self.advertise(ForecasterInfo, "forecaster_info", qos.LATCHED)
        self._markers = self.advertise(MarkerArray, "forecast/markers")
        self._latency = self.advertise(Latency, "~/debug/latency")
        builders = {
            "path": (Path, build_path_msg),
            "poses": (PoseArray, build_pose_array_msg),
            "trajectory": (MultiDOFJointTrajectory, build_trajectory_msg),
        }
        self._parallel: list[tuple[int, Publisher, object]] = [
            (i, self.advertise(kind, f"forecast/{side}/{name}"), build)
            for i, side in enumerate(SIDES)
            for name, (kind, build) in builders.items()
        ]

    def _subscribe(self, modalities: tuple[str, ...]) -> None:
        drained = dict(when_drained=self._submit)
        self.subscribe(HandPoseArray, "hand_poses", self._on_hand_poses, **drained)
        self.subscribe(PoseArray, "tracker_poses", self._on_tracker_poses, **drained)
        for side in range(2):
            topic = f"tracker_poses/{SIDES[side]}"
            on_hand = lambda m, side=side, topic=topic: self._on_one_hand(m, side, topic)  # noqa: E731
            self.subscribe(PoseArray, topic, on_hand, **drained)
        if self.parameters.camera_pose_source == "tf":
            self._transforms = TransformSource(self, self.parameters.fixed_frame)
            self.make_timer(_TF_PERIOD, self._poll_transforms)
        else:
            self.subscribe(PoseStamped, "camera_pose", self._on_camera_pose, **drained)
            self.subscribe(Odometry, "odometry", self._on_odometry, **drained)
        # Only a transient-local subscriber gets a prompt from before its time, but it connects to no volatile publisher.
        self.subscribe(String, "prompt", self._on_prompt, qos.OBSERVATIONS)
        self.subscribe(String, "prompt", self._on_prompt, qos.LATCHED)
        if "images" in modalities:
            self.subscribe(CameraInfo, "camera_info", self._on_camera_info, qos.SENSOR)
            # Resolved by hand, so that remapping `image` moves the compressed topic along, as image_transport does.
            base = self.resolve_topic_name("image")
            if self.parameters.image_transport == "raw":
                self.subscribe(Image, base, self._on_image, qos.SENSOR)
            else:
                self.subscribe(CompressedImage, f"{base}/compressed", self._on_image, qos.SENSOR)
        if "depth" in modalities:
            self.subscribe(Image, "depth", self._on_depth, qos.SENSOR)

    # ---------------------------------------------------------------- model and device

    def _wanted_device(self) -> str:
        """The device to use. A GPU that is not there is a warning, a device that cannot exist a `UserError`."""
        self._fallen_back = ""
        name = self.parameters.device
        if name == "auto":
            return "cuda" if torch.cuda.is_available() else "cpu"
        try:
            device = torch.device(name)
        except RuntimeError:
            raise UserError(f"device is {name!r}; expected auto, cpu, cuda or cuda:N") from None
        if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
            self._fall_back(f"{name} is not there")
            return "cpu"
        return name

    def _fall_back(self, reason: str) -> None:
        self._fallen_back = f"{reason}; running on the CPU"
        self.get_logger().warning(self._fallen_back)

    def _load(self, device: str) -> None:
        """Make the forecaster, on the device where it takes one, and run it until it is warm."""
        options = self._options(device)
        self._device = options.get("device", "cpu")
        try:
            self._forecaster = make_forecaster(self.parameters.forecaster, **options)
            for _ in range(_WARM_UP_RUNS):
                forecast = self._infer(example_window(self._forecaster.spec))
                encode_hand_forecast_array(futures_from_forecast(forecast, "warm up"))
        except torch.OutOfMemoryError:
            if self._device == "cpu":
                raise
            self._fall_back(f"{self._device} is out of memory")
            self._load("cpu")
            return
        self.health.value("device", self._device)
        self.health.value("model", self._forecaster.spec.model_id)

    def _options(self, device: str) -> dict[str, str]:
        """The options that the forecaster's factory takes, of those that the node has."""
        name, checkpoint = self.parameters.forecaster, self.parameters.checkpoint
        known = presets()
        taken = inspect.signature(known[name].factory).parameters if name in known else ()
        if checkpoint and "checkpoint" not in taken:
            raise UserError(f"checkpoint is {checkpoint!r}, but {name} has no weights; leave it empty")
        options = {"device": device, "checkpoint": checkpoint}
        return {option: value for option, value in options.items() if option in taken and value}

    def _infer(self, window: Window) -> Forecast:
        p = self.parameters
        hypotheses = min(p.hypotheses, self._forecaster.spec.max_hypotheses)
        return self._forecaster.forecast(window, hypotheses, p.seed if p.seed >= 0 else None)

    # ---------------------------------------------------------------- inputs (executor's thread)

    def _on_hand_poses(self, message: HandPoseArray) -> None:
        begin, now = time.perf_counter(), self.now_of_stamps()
        hands = parse_hand_pose_array_msg(message)
        # What a tracker made up is no observation: the forecaster bridges gaps itself, and knows that it does.
        valid = hands.valid & (hands.state == MEASURED)[:, None]
        for hand in message.hands:
            self._track_id[hand.side] = hand.track_id
        both = BothHands(hands.stamp, hands.frame_id, hands.keypoints, valid, hands.wrist_rotation)
        self._observe(both, message.header.stamp, begin, now, "hand_poses")

    def _on_tracker_poses(self, message: PoseArray) -> None:
        begin, now = time.perf_counter(), self.now_of_stamps()
        stamp, frame_id, joints = parse_pose_array_msg(message, self.parameters.keypoint_convention)
        first = side_index(self.parameters.tracker_side)
        both = BothHands.of(stamp, frame_id, {(first + i) % 2: hand for i, hand in enumerate(joints)})
        self._observe(both, message.header.stamp, begin, now, "tracker_poses")

    def _on_one_hand(self, message: PoseArray, side: int, source: str) -> None:
        begin, now = time.perf_counter(), self.now_of_stamps()
        stamp, frame_id, joints = parse_pose_array_msg(message, self.parameters.keypoint_convention)
        if len(joints) > 1:
            raise RejectedInput("wrong_count", f"{len(message.poses)} joints; expected those of one hand")
        self._remember(stamp, message.header.stamp)
        hand = BothHands.of(stamp, frame_id, dict.fromkeys([side][: len(joints)], joints[0] if len(joints) else None))
        for both in self._pairer.add(side, hand):
            self._observe(both, self._stamps[both.stamp], begin, now, "tracker_poses")

    def _observe(self, both: BothHands, stamp: Time, begin: float, now: float, source: str) -> None:
        self._last_input = time.monotonic()
        self._remember(both.stamp, stamp)
        if self._intake.hands(both.stamp, both.frame_id, both.keypoints, both.valid, both.rotation, now, source):
            self._complete(begin, now)

    def _remember(self, seconds: float, stamp: Time) -> None:
        """Keep the exact stamp: seconds as a float lose the last 100 ns."""
        self._stamps[seconds] = stamp
        if len(self._stamps) > _KEPT_STAMPS:
            del self._stamps[next(iter(self._stamps))]

    def _on_camera_pose(self, message: PoseStamped) -> None:
        self._move_camera(message.header, parse_transform(message.pose), "camera_pose")

    def _on_odometry(self, message: Odometry) -> None:
        T_world_base = parse_transform(message.pose.pose)
        self._move_camera(message.header, T_world_base @ self.parameters.T_base_camera(), "odometry")

    def _move_camera(self, header, T_frame_camera: np.ndarray, source: str) -> None:
        begin, now = time.perf_counter(), self.now_of_stamps()
        stamp, frame_id = parse_header(header)
        if self._intake.camera_pose(stamp, frame_id, T_frame_camera, now, source):
            self._complete(begin, now)

    def _poll_transforms(self) -> None:
        frame = self._intake.hand_frame
        found = self._transforms.latest(frame) if frame else None
        if found is not None:
            stamp, pose = found
            begin, now = time.perf_counter(), self.now_of_stamps()
            if stamp != self._last_transform and self._intake.camera_pose(
                stamp or now, self.parameters.fixed_frame, pose, now, "tf"
            ):
                self._complete(begin, now)
                self._submit()
            self._last_transform = stamp

    def _on_prompt(self, message: String) -> None:
        self._intake.prompt(message.data)

    def _on_camera_info(self, message: CameraInfo) -> None:
        self._intake.camera_info(parse_camera_info_msg(message, self.parameters.rectified))

    def _on_image(self, message: Image | CompressedImage) -> None:
        now = self.now_of_stamps()
        stamp, _ = parse_header(message.header)
        if isinstance(message, CompressedImage):
            width = self._forecaster.spec.image_size[1]
            self._intake.image(stamp, lambda: parse_compressed_image_msg(message, width), now)
        else:
            self._intake.image(stamp, lambda: parse_image_msg(message), now)

    def _on_depth(self, message: Image) -> None:
        now = self.now_of_stamps()
        self._intake.depth(parse_header(message.header)[0], parse_depth_msg(message), now)

    def _complete(self, begin: float, now: float) -> None:
        """An observation is complete; it is forecast unless a newer one has come already."""
        self._last_observation = time.monotonic()
        self.health.count("observations")
        if self._due is not None:
            self._worker.dropped += 1
        self._due = begin, now

    def _submit(self) -> None:
        """Give the newest observation to the worker, if there is a new one."""
        if self._due is None:
            return
        (begin, now), self._due = self._due, None
        observation = self._intake.observation()
        if observation is None:
            return
        seconds = float(observation.window.stamp[0])
        queued = time.perf_counter()
        stamp = self._stamps.get(seconds) or time_msg(seconds)
        work = _Work(
            observation, stamp, tuple(self._track_id), self._intake.epoch, now - seconds, queued - begin, queued
        )
        replaced = self._worker.submit(work)
        self.health.condition("overrun", replaced, "the forecaster is slower than the tracker; observations are dropped")

    # ---------------------------------------------------------------- forecast (worker's thread)

    def _process(self, work: _Work) -> _Result:
        begin, started = time.perf_counter(), self.now()
        try:
            forecast = self._infer(work.observation.window)
        except torch.OutOfMemoryError:
            if self._device == "cpu":
                raise
            self._fall_back(f"{self._device} is out of memory")
            self._load("cpu")
            self._publish_info()
            forecast = self._infer(work.observation.window)
        inferred, ended = time.perf_counter(), self.now()
        if self.parameters.aggregation == TEMPORAL:
            forecast = self._aggregator(forecast, work.epoch)
        forecast = self._assess(work, forecast)
        futures = futures_from_forecast(
            forecast,
            work.observation.frame_id,
            work.track_id,
            fresh=[self._is_fresh(work.observation, side) for side in range(2)],
            model_id=self._forecaster.spec.model_id,
            inference_start=started,
            inference_end=ended,
        )
        stages = {
            "input_age": work.input_age,
            "pre": work.pre,
            "wait": begin - work.queued,
            "inference": inferred - begin,
            "post": time.perf_counter() - inferred,
        }
        return _Result(work, futures, stages)

    def _assess(self, work: _Work, forecast: Forecast) -> Forecast:
        """The forecast as it is to be published. Only the worker's thread scores and adapts."""
        if work.epoch != self._assessed_epoch:
            self._assessment.reset()
            self._assessed_epoch = work.epoch
        return self._assessment.publish(forecast, self.parameters.adapt_uncertainty)

    def _score(self, window: Window) -> None:
        """Its last observation is the truth that earlier forecasts waited for."""
        rotation = np.where(window.rotation_valid[0, -1, :, None, None], window.wrist_rotation[0, -1], np.nan)
        last = (window.keypoints[0, -1].numpy(), window.valid[0, -1].numpy(), rotation)
        self._assessment.observe(float(window.stamp[0]), *last)

    def _is_fresh(self, observation: Observation, side: int) -> bool:
        age = float(observation.window.stamp[0]) - observation.last_seen[side]
        return age <= self.parameters.hand_timeout

    def _publish(self, result: _Result) -> None:
        work, futures = result.work, result.futures
        if work.epoch != self._intake.epoch:
            return  # history was forgotten while the model ran
        begin = time.perf_counter()
        self._forecasts.publish(encode_hand_forecast_array(futures, work.stamp))
        end = time.perf_counter()
        total = work.input_age + end - work.queued + work.pre
        stages = {**result.stages, "publish": end - begin, "total": total}
        self.health.latency(stages)
        self.health.count("forecasts")
        if not futures.hands:
            self.health.count("forecasts_without_hand")
        if self._latency.get_subscription_count():
            useful = self._forecaster.spec.horizon - total
            self._latency.publish(build_latency_msg(work.stamp, stages, useful))
        self._publish_parallel(futures, work.stamp)
        self._score(work.observation.window)

    def _publish_parallel(self, futures: Futures, stamp: Time) -> None:
        for side, publisher, build in self._parallel:
            hand = futures.hand(side)
            if hand is not None and publisher.get_subscription_count():
                publisher.publish(build(futures, hand, stamp))
        if self._markers.get_subscription_count():
            self._markers.publish(build_marker_array_msg(futures, self.parameters.marker_lifetime, stamp))

    def _publish_info(self) -> None:
        stamp = self.get_clock().now().to_msg()
        self._info.publish(build_forecaster_info_msg(self._forecaster.spec, self._device, stamp))


def main(args: list[str] | None = None) -> int:
    """Run the node until it is told to stop; the exit code."""
    return run_node(ForecasterNode, args)


if __name__ == "__main__":
    raise SystemExit(main())
