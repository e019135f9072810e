"""TF: frames out of it, and frames on it, never a second parent for one that somebody else broadcasts.

TF is a tree: a frame with two parents jumps from one to the other, for everybody. So nothing is broadcast before others
had time to be heard, and nothing of a frame that has another parent; diagnostics name it.
"""

import time
from contextlib import suppress
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time as TimeMsg
from geometry_msgs.msg import TransformStamped
from rclpy.node import Node
from rclpy.time import Time

from ..errors import RejectedInput, UserError
from ..messages.poses import parse_stamped_transform_msg
from .base import qos
from .base.diagnostics import WARN
from .base.node import EgoHandNode

_LISTEN = 1.0  # s; what is latched on /tf_static is heard by then
_MOST_FRAMES = 4096  # of others, so that made-up names cannot fill the memory


def message_class(asked_by: str) -> Any:
    """tf2_msgs/TFMessage. Raises `UserError` where it is missing; `asked_by` is the parameter that needs it."""
    try:
        from tf2_msgs.msg import TFMessage
    except ImportError:
        raise UserError(
            f"{asked_by} needs tf2_msgs, which is not installed; apt install ros-$ROS_DISTRO-tf2-msgs, or leave "
            f"{asked_by} at its default"
        ) from None
    return TFMessage


class StaticTransform:
    """One frame on /tf_static that a parameter asks for, latched."""

    def __init__(self, node: EgoHandNode, asked_by: str):
        self._message = message_class(asked_by)
        self._output = node.advertise(self._message, "/tf_static", qos.LATCHED)

    def send(self, transform: TransformStamped) -> None:
        """Where the frame is from now on."""
        self._output.publish(self._message(transforms=[transform]))


class TransformOutput:
    """Broadcasts on /tf for `node` until it is cleaned up; `asked_by` as in `message_class`."""

    def __init__(self, node: EgoHandNode, asked_by: str):
        self._node, self._message = node, message_class(asked_by)
        self._ours: set[tuple[str, str]] = set()  # (frame, parent), all that were ever broadcast here
        self._theirs: dict[str, str] = {}  # parent by frame
        self._output = node.advertise(self._message, "/tf")
        self._polls = [
            node.subscribe_polled(self._message, "/tf", self._hear, qos.TRANSFORMS),
            node.subscribe_polled(self._message, "/tf_static", self._hear, qos.STATIC_TRANSFORMS),
        ]
        self.start()

    def start(self) -> None:
        """Listen anew, and broadcast nothing meanwhile."""
        self._theirs.clear()
        self._begin = time.monotonic() + _LISTEN

    def send(self, transforms: list[TransformStamped]) -> None:
        """Broadcast those whose frames nobody else does. Any thread."""
        if time.monotonic() < self._begin or not transforms:
            return
        self._ours.update((t.child_frame_id, t.header.frame_id) for t in transforms)
        free = [t for t in transforms if t.child_frame_id not in self._theirs]
        if free:
            self._output.publish(self._message(transforms=free))

    def look(self) -> None:
        """Once a second: hear what others broadcast, and report what is therefore not broadcast here."""
        for poll in self._polls:
            poll()
        frames = {frame for frame, _ in tuple(self._ours)}
        taken = sorted(f"{frame} (child of {self._theirs[frame]})" for frame in frames if frame in self._theirs)
        said = f"others broadcast {', '.join(taken)}, so this node does not"
        self._node.health.condition("tf", bool(taken), said, WARN)

    def _hear(self, message: Any) -> None:
        for transform in message.transforms:
            frame, parent = transform.child_frame_id, transform.header.frame_id
            if (frame, parent) not in self._ours and len(self._theirs) < _MOST_FRAMES:
                self._theirs[frame] = parent


class TransformSource:
    """T_fixed_frame of any frame at any time, on machines that have tf2_ros (it is not on PyPI).

    Raises `UserError` without; `asked_by` says what needs it, `otherwise` what to do instead of installing it.
    """

    def __init__(self, node: Node, fixed_frame: str, asked_by: str, otherwise: str):
        try:
            import tf2_ros
        except ImportError:
            raise UserError(
                f"{asked_by}, but tf2_ros is not installed; apt install ros-$ROS_DISTRO-tf2-ros-py, or {otherwise}"
            ) from None
        self._fixed_frame, self._error = fixed_frame, tf2_ros.TransformException
        self._buffer = tf2_ros.Buffer()
        self._listener = tf2_ros.TransformListener(self._buffer, node)

    def at(self, frame_id: str, stamp: TimeMsg) -> np.ndarray:
        """T_fixed_frame (4, 4) at a stamp, between the transforms around it. Raises `RejectedInput` (unknown_frame)
        while those are not there."""
        try:
            message = self._buffer.lookup_transform(self._fixed_frame, frame_id, Time.from_msg(stamp))
        except self._error as error:
            raise RejectedInput("unknown_frame", " ".join(str(error).split())) from None
        return parse_stamped_transform_msg(message).transform

    def find(self, frame_id: str, stamp: TimeMsg) -> np.ndarray | None:
        """As `at`; None while it is not known."""
        with suppress(RejectedInput):
            return self.at(frame_id, stamp)
        return None

    def close(self) -> None:
        """Stop listening."""
        self._listener.unregister()
