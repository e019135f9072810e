"""Hands and forecasts of any frame -> the frame of the robot's base."""

from collections import OrderedDict

import numpy as np
from geometry_msgs.msg import PoseStamped

from ...errors import RejectedInput
from ...geometry.transforms import make_transform
from ...messages.poses import parse_stamped_pose_msg
from ..base.node import EgoHandNode
from ..messages.basic import time_msg
from ..transforms import TransformSource

_KEPT = 64  # camera poses
# R_fixed_camera of a level camera (z ahead, y down), by where it looks: along x of the fixed frame, or against it.
AHEAD, FACING = "ahead", "facing"
_LEVEL = {
    AHEAD: np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]),
    FACING: np.array([[0.0, 0.0, -1.0], [1.0, 0.0, 0.0], [0.0, -1.0, 0.0]]),
}
_OFF = 0.05  # s by which a camera pose may be off the stamp that it is used for


class Frames:
    """T_base_frame at any time: of the base's frame, the fixed one, the camera's by `camera_pose`, or any by TF.

    The camera's frame is that of the parameter `camera_frame`; where that is "", the first one that is neither of the
    others, until the clock jumps: a second one may be misspelt. `still`: how a camera looks that no `camera_pose` ever
    came of, in the fixed frame, at whose origin it then stands; "": such a camera's frame is not known.
    """

    def __init__(self, node: EgoHandNode, still: str = ""):
        p, self._still, self._node = node.parameters, still, node
        self._base, self._fixed, self._T_base_fixed = p.base_frame, p.fixed_frame, p.T_base_fixed()
        self._camera: OrderedDict[float, np.ndarray] = OrderedDict()
        self._camera_frame = self._named = p.camera_frame
        instead = "give base_pose and publish camera_pose"
        self._tf = TransformSource(node, p.base_frame, "use_tf is true", otherwise=instead) if p.use_tf else None

    def forget(self) -> None:
        """The clock jumped."""
        self._camera.clear()
        self._camera_frame = self._named

    def close(self) -> None:
        """Stop listening to TF."""
        if self._tf is not None:
            self._tf.close()
            self._tf = None

    def on_camera_pose(self, message: PoseStamped) -> None:
        """Where the camera was. Raises `RejectedInput`."""
        pose = parse_stamped_pose_msg(message)
        if pose.frame_id != self._fixed:
            raise RejectedInput("unknown_frame", f"camera_pose is in {pose.frame_id!r}, not in {self._fixed!r}")
        self._camera[pose.stamp] = self._T_base_fixed @ pose.transform
        while len(self._camera) > _KEPT:
            self._camera.popitem(last=False)

    def base_from(self, frame_id: str, stamp: float) -> np.ndarray:
        """T_base_frame (4, 4) at a stamp. Raises `RejectedInput`: unknown_frame."""
        if frame_id == self._base:
            return np.eye(4)
        if self._tf is not None:
            return self._tf.at(frame_id, time_msg(stamp))
        if frame_id == self._fixed:
            return self._T_base_fixed
        if self._camera_frame and frame_id != self._camera_frame:
            raise RejectedInput("unknown_frame", f"{frame_id[:40]!r} is neither {self._base!r} nor {self._fixed!r} nor "
                                f"the camera's, {self._camera_frame!r}; camera_frame names that")  # fmt: skip
        pose = self.camera(stamp)
        if pose is None and self._still and not self._camera:
            pose = self._T_base_fixed @ make_transform(_LEVEL[self._still], np.zeros(3))
        if pose is None:
            raise RejectedInput("unknown_frame", f"{frame_id!r} is neither {self._base!r} nor {self._fixed!r}, and no "
                                "camera_pose of that time has come")  # fmt: skip
        if not self._camera_frame:
            self._camera_frame, logger = frame_id, self._node.get_logger()
            told = f"{frame_id[:40]!r} is taken for the camera's frame, and no other from now on; camera_frame names it"
            if self._still and not self._camera:  # nothing but that name says that it is a camera's
                logger.warning(told)
            else:
                logger.info(told)
        return pose

    def camera(self, stamp: float) -> np.ndarray | None:
        """T_base_camera (4, 4) at a stamp, None where it is not known."""
        near = min(self._camera, key=lambda known: abs(known - stamp), default=np.inf)
        return self._camera[near] if abs(near - stamp) <= _OFF else None
