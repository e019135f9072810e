"""A recording's inputs through the same stream and the same forecaster as in the live node, message by message.

Forecasts depend on the stamps and contents of the inputs alone, so that the replay of a recording gives what the node
published. `compare_with_live` shows it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..data.bags.reading import BagMessage, read_messages
from ..data.bags.recording import is_input_topic
from ..errors import RejectedInput
from ..forecast.common.protocol import Forecast, Forecaster
from ..geometry.camera import camera_of_info
from ..hand.skeleton import WRIST
from ..images.decoding import decode_image
from ..images.raw_images import raw_depth, raw_image
from ..messages.basic import parse_header
from ..messages.forecast import published_positions
from ..messages.hands import parse_hand_pose_array_msg
from ..messages.poses import parse_stamped_pose_msg
from ..stream.intake import Intake, Observation
from ..stream.stamps import StampLimits
from .recording import RecordedForecast, read_recording

_TOPICS = ("hand_poses", "camera_pose", "odometry", "prompt")
_PICTURES = {"images": ("camera_info", "image", "image/compressed"), "depth": ("depth",)}  # by what a model looks at
_HAND_TIMEOUT = 0.5  # s; the node's default


@dataclass(frozen=True)
class Replayed:
    """A forecast made again: the observation it came from, and which sides [left, right] the node would publish."""

    observation: Observation
    forecast: Forecast
    published: tuple[bool, bool]


def replay_forecasts(bag: Path | str, forecaster: Forecaster, hypotheses: int = 1) -> Iterator[Replayed]:
    """Forecast every observation of a recording, in order. Raises `UserError` for a bag that cannot be read."""
    for observation in replay_observations(bag, forecaster.spec):
        forecast = forecaster.forecast(observation.window, hypotheses)
        stamp = float(observation.window.stamp[0])
        valid = forecast.valid[0, :, WRIST].cpu().numpy()
        fresh = [stamp - seen <= _HAND_TIMEOUT for seen in observation.last_seen]
        yield Replayed(observation, forecast, tuple(bool(a and b) for a, b in zip(valid, fresh)))


def replay_observations(
    bag: Path | str, spec, reject: Callable[[str, RejectedInput], None] = lambda source, error: None
) -> Iterator[Observation]:
    """The observations that a forecaster with `spec` would have seen."""
    # Images are as the camera gave them, not rectified: the node's default.
    # A recording says nothing of how old a message was on arrival in the node; only the order counts.
    intake = Intake(spec, reject, limits=StampLimits(max_age=np.inf, max_future=np.inf))
    topics = _TOPICS + sum((_PICTURES.get(modality, ()) for modality in spec.modalities), ())
    for message in read_messages(bag, topics, reject):
        if not any(is_input_topic(message.topic, name) for name in topics):
            continue
        try:
            complete = _feed(intake, message, spec)
        except RejectedInput as error:
            reject(message.topic, error)
            continue
        if complete:
            yield intake.observation()


def compare_with_live(bag: Path | str, forecaster: Forecaster) -> tuple[int, float]:
    """How many of the recorded forecasts were made again, and the largest difference of a keypoint, m, as published.

    A forecast that the replay does not have at all, or that has other hands, counts as an infinite difference.
    """
    again = {_key(r.observation.window.stamp[0]): r for r in replay_forecasts(bag, forecaster)}
    live = read_recording(bag).forecasts
    return len(live), max((_difference(f, again.get(_key(f.stamp))) for f in live), default=0.0)


def _key(stamp: float) -> int:
    return round(float(stamp) * 1e6)


def _difference(live: RecordedForecast, replayed: Replayed | None) -> float:
    if replayed is None:
        return np.inf
    if not len(live.step_times):
        return np.inf if any(replayed.published) else 0.0
    expected = published_positions(replayed.forecast.keypoints[0, 0].double().cpu().numpy())
    valid = replayed.forecast.valid[0].cpu().numpy() & np.array(replayed.published)[:, None]
    given = np.isfinite(live.keypoints[0]).all(axis=(0, -1))
    if not np.array_equal(given, valid) or expected.shape != live.keypoints[0].shape:
        return np.inf
    return float(np.abs(expected - live.keypoints[0])[:, valid].max(initial=0.0))


def _feed(intake: Intake, message: BagMessage, spec) -> bool:
    kind, data, now = message.msgtype.rpartition("/")[2], message.data, message.received
    if kind == "HandPoseArray":
        hands = parse_hand_pose_array_msg(data).measured()
        return intake.hands(hands.stamp, hands.frame_id, hands.keypoints, hands.valid, hands.wrist_rotation, now)
    if kind in ("PoseStamped", "Odometry"):
        pose = parse_stamped_pose_msg(data)
        source = "camera_pose" if kind == "PoseStamped" else "odometry"
        return intake.camera_pose(pose.stamp, pose.frame_id, pose.transform, now, source)
    if kind == "String":
        intake.prompt(data.data)
    elif kind == "CameraInfo":
        intake.camera_info(camera_of_info(data))
    elif kind == "CompressedImage":
        decode = lambda: decode_image(data.data.tobytes(), spec.widest_image)  # noqa: E731
        intake.image(parse_header(data.header)[0], decode, now)
    elif kind == "Image" and is_input_topic(message.topic, "depth"):
        intake.depth(parse_header(data.header)[0], raw_depth(data), now)
    elif kind == "Image":
        intake.image(parse_header(data.header)[0], lambda: raw_image(data), now)
    return False
