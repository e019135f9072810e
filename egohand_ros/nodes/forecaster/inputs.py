"""`ForecasterInputs`: the subscriptions of the `forecaster` node, and what comes of their messages: work for its
worker.

Everything here runs in the executor's thread. What a message has to be is checked by the `parse_` functions and by
`stream/intake.py`.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import PoseArray, PoseStamped
from nav_msgs.msg import Odometry
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import String

from ...errors import RejectedInput
from ...forecast.common.protocol import ForecasterSpec
from ...hand.skeleton import SIDES, side_index
from ...messages.basic import parse_header
from ...messages.hands import Hands, hands_of_sides, parse_hand_pose_array_msg
from ...messages.poses import StampedPose, parse_pose_array_msg, parse_stamped_pose_msg
from ...msg import HandPoseArray
from ...stream.intake import Intake, Observation
from ...stream.pairing import SidePairer
from ...stream.stamps import StampLimits
from ..base import qos
from ..base.images import ImageInput
from ..base.node import EgoHandNode, LatestWorker
from ..messages.basic import time_msg
from ..messages.image import parse_camera_info_msg, parse_compressed_image_msg, parse_depth_msg, parse_image_msg
from ..transforms import TransformSource

_TF_PERIOD = 0.01  # s
_KEPT_STAMPS = 256  # more than the aligner lets wait for a camera pose, and more than there are images in a window


@dataclass(frozen=True)
class Work:
    """An observation to forecast, with what its messages said and how long they took so far."""

    observation: Observation
    stamp: Time  # of the last observation, exactly as it came
    track_id: tuple[int, int]
    epoch: int
    input_age: float  # s
    pre: float  # s
    queued: float  # time.perf_counter
    image: "ImageTimes | None" = None  # of the newest image that the window holds
    hand_frame: str = ""  # in which the hands came


@dataclass(frozen=True)
class ImageTimes:
    """When an image was received (time.perf_counter), and how long it took to decode and resize it, s."""

    received: float
    decode: float


class ForecasterInputs:
    """Collects the inputs of `spec` and gives `worker` the newest observation whenever one has become complete."""

    def __init__(self, node: EgoHandNode, spec: ForecasterSpec, worker: LatestWorker):
        self._node, self._spec, self._worker = node, spec, worker
        p = node.parameters
        limits = StampLimits(max_age=p.max_input_age, max_future=p.max_future)
        self._intake = Intake(spec, node.reject, p.camera_frame, p.fixed_frame, limits)
        self._pairer = SidePairer()
        self._stamps: dict[float, Time] = {}
        self._images: dict[float, ImageTimes] = {}
        self._image_input: ImageInput | None = None
        self._last_image = -np.inf  # time.monotonic, of any kind
        self._transforms: TransformSource | None = None
        # Stamps of hands whose camera pose TF does not know yet.
        self._awaited: deque[float] = deque(maxlen=_KEPT_STAMPS)
        # When the newest observation began to be taken in: perf_counter, now.
        self._due: tuple[float, float] | None = None
        self._track_id = [0, 0]
        # Called with the stamp and age (s) of hands of which nothing will be forecast.
        self.on_unused: Callable[[Time, float], None] | None = None
        self.start()

    def start(self) -> None:
        """Silence counts from now on."""
        self.last_input = self.last_observation = time.monotonic()  # hands of any kind; an observation that is complete

    def update_health(self) -> None:
        """What there is to say about images, where the model looks at them."""
        if self._image_input is not None:
            self._image_input.look(time.monotonic() - self._last_image)

    def reset(self) -> None:
        """Forget all history."""
        self._intake.reset()
        self._pairer.reset()
        self._awaited.clear()
        self._worker.clear()
        self._due = None

    def close(self) -> None:
        """Let go of what is not one of the node's subscriptions."""
        if self._transforms is not None:
            self._transforms.close()
            self._transforms = None

    @property
    def epoch(self) -> int:
        """How often history was forgotten."""
        return self._intake.epoch

    @property
    def waits_for_camera(self) -> bool:
        """Whether hands need a camera pose to be used."""
        return self._intake.waits_for_camera

    @property
    def dropped_waiting(self) -> int:
        """Hand observations for which no camera pose came."""
        return self._intake.dropped_waiting

    def subscribe(self) -> None:
        """Everything that the model looks at.

        Of what has arrived, what was subscribed first is taken first: images before the hands that were found in them,
        and camera poses before the hands that they move. Hands that came before any camera pose count as not to be
        moved.
        """
        node, drained = self._node, {"when_drained": self._submit}
        if "images" in self._spec.modalities:
            self._subscribe_images()
        if "depth" in self._spec.modalities:
            node.subscribe(Image, "depth", self._on_depth, qos.SENSOR)
        if node.parameters.camera_pose_source == "tf":
            instead = "publish camera_pose and set camera_pose_source to topic"
            self._transforms = TransformSource(
                node, node.parameters.fixed_frame, "camera_pose_source is tf", otherwise=instead
            )
            node.make_timer(_TF_PERIOD, self._poll_transforms)
        else:
            node.subscribe(PoseStamped, "camera_pose", self._on_camera_pose, **drained)
            node.subscribe(Odometry, "odometry", self._on_odometry, **drained)
        node.subscribe(HandPoseArray, "hand_poses", self._on_hand_poses, **drained)
        node.subscribe(PoseArray, "tracker_poses", self._on_tracker_poses, **drained)
        for side in range(2):
            topic = f"tracker_poses/{SIDES[side]}"
            on_hand = lambda m, side=side, topic=topic: self._on_one_hand(m, side, topic)  # noqa: E731
            node.subscribe(PoseArray, topic, on_hand, **drained)
        node.subscribe_also_latched(String, "prompt", self._on_prompt, qos.OBSERVATIONS)

    def _subscribe_images(self) -> None:
        node = self._node
        node.subscribe_also_latched(CameraInfo, "camera_info", self._on_camera_info, qos.SENSOR)
        # Resolved by hand, so that remapping `image` moves the compressed topic along, as image_transport does.
        base = node.resolve_topic_name("image")
        raw = node.parameters.image_transport == "raw"
        kind, topic = (Image, base) if raw else (CompressedImage, f"{base}/compressed")
        self._image_input = ImageInput(node, kind, topic, self._on_image, qos.SENSOR)

    # ---------------------------------------------------------------- hands

    def _on_hand_poses(self, message: HandPoseArray) -> None:
        begin, now = time.perf_counter(), self._node.now_of_stamps()
        hands = parse_hand_pose_array_msg(message)
        for hand in message.hands:
            self._track_id[hand.side] = hand.track_id
        # The forecaster bridges gaps itself, and knows that it does.
        self._observe(hands.measured(), message.header.stamp, begin, now, "hand_poses")

    def _on_tracker_poses(self, message: PoseArray) -> None:
        begin, now = time.perf_counter(), self._node.now_of_stamps()
        stamp, frame_id, joints = parse_pose_array_msg(message, self._node.parameters.keypoint_convention)
        first = side_index(self._node.parameters.tracker_side)
        both = hands_of_sides(stamp, frame_id, {(first + i) % 2: hand for i, hand in enumerate(joints)})
        self._observe(both, message.header.stamp, begin, now, "tracker_poses")

    def _on_one_hand(self, message: PoseArray, side: int, source: str) -> None:
        begin, now = time.perf_counter(), self._node.now_of_stamps()
        stamp, frame_id, joints = parse_pose_array_msg(message, self._node.parameters.keypoint_convention)
        if len(joints) > 1:
            raise RejectedInput("wrong_count", f"{len(message.poses)} joints; expected those of one hand")
        self._remember(stamp, message.header.stamp)
        hand = hands_of_sides(stamp, frame_id, {side: joints[0]} if len(joints) else {})
        for both in self._pairer.add(side, hand):
            self._observe(both, self._stamps[both.stamp], begin, now, "tracker_poses")

    def _observe(self, both: Hands, stamp: Time, begin: float, now: float, source: str) -> None:
        self.last_input = time.monotonic()
        self._remember(both.stamp, stamp)
        if self._transforms is not None:
            self._awaited.append(both.stamp)
        if self._intake.hands(both.stamp, both.frame_id, both.keypoints, both.valid, both.wrist_rotation, now, source):
            self._complete(begin, now)
        elif self.on_unused is not None:
            self.on_unused(stamp, now - both.stamp)

    def _remember(self, seconds: float, stamp: Time) -> None:
        """Keep the exact stamp: seconds as a float lose the last 100 ns."""
        _keep(self._stamps, seconds, stamp)

    # ---------------------------------------------------------------- camera, images, prompt

    def _on_camera_pose(self, message: PoseStamped) -> None:
        self._move_camera(parse_stamped_pose_msg(message), np.eye(4), "camera_pose")

    def _on_odometry(self, message: Odometry) -> None:
        self._move_camera(parse_stamped_pose_msg(message), self._node.parameters.T_base_camera(), "odometry")

    def _move_camera(self, pose: StampedPose, T_body_camera: np.ndarray, source: str) -> None:
        begin, now = time.perf_counter(), self._node.now_of_stamps()
        if self._intake.camera_pose(pose.stamp, pose.frame_id, pose.transform @ T_body_camera, now, source):
            self._complete(begin, now)

    def _poll_transforms(self) -> None:
        """Camera poses at the very stamps of the hands: the newest transform is of another moment."""
        frame = self._intake.hand_frame
        if not frame or not self._awaited:
            return
        found = [(stamp, self._transforms.find(frame, self._stamps[stamp])) for stamp in self._awaited]
        known = [(stamp, pose) for stamp, pose in found if pose is not None]
        for stamp, pose in known:
            begin, now = time.perf_counter(), self._node.now_of_stamps()
            if self._intake.camera_pose(stamp, self._node.parameters.fixed_frame, pose, now, "tf"):
                self._complete(begin, now)
        while known and self._awaited and self._awaited[0] <= known[-1][0]:
            self._awaited.popleft()
        self._submit()

    def _on_prompt(self, message: String) -> None:
        self._intake.prompt(message.data)

    def _on_camera_info(self, message: CameraInfo) -> None:
        self._intake.camera_info(parse_camera_info_msg(message, self._node.parameters.rectified))

    def _on_image(self, message: Image | CompressedImage) -> None:
        self._last_image = time.monotonic()
        received, now = time.perf_counter(), self._node.now_of_stamps()
        stamp, _ = parse_header(message.header)
        if isinstance(message, CompressedImage):
            width = self._spec.widest_image
            self._intake.image(stamp, lambda: parse_compressed_image_msg(message, width), now)
        else:
            self._intake.image(stamp, lambda: parse_image_msg(message), now)
        _keep(self._images, stamp, ImageTimes(received, time.perf_counter() - received))

    def _on_depth(self, message: Image) -> None:
        now = self._node.now_of_stamps()
        self._intake.depth(parse_header(message.header)[0], parse_depth_msg(message), now)

    # ---------------------------------------------------------------- observations

    def _complete(self, begin: float, now: float) -> None:
        """An observation is complete; it is forecast unless a newer one has come already."""
        self.last_observation = time.monotonic()
        self._node.health.count("observations")
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
        work = Work(
            observation,
            stamp,
            tuple(self._track_id),
            self._intake.epoch,
            now - seconds,
            queued - begin,
            queued,
            self._images.get(observation.image_stamp),
            self._intake.hand_frame or "",
        )
        replaced = self._worker.submit(work)
        said = "the forecaster is slower than the tracker; observations are dropped"
        self._node.health.condition("overrun", replaced, said)


def _keep(kept: dict, stamp: float, value: object) -> None:
    """Remember what belongs to a stamp, among the newest."""
    kept[stamp] = value
    if len(kept) > _KEPT_STAMPS:
        del kept[next(iter(kept))]
