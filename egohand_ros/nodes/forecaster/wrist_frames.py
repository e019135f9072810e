"""`WristFrames`: the hands of an observation as frames of TF. Only what is seen: forecasts are no frames."""

import numpy as np
from builtin_interfaces.msg import Time

from ...geometry.transforms import UPRIGHT_OPTICAL, make_transform
from ...hand.skeleton import SIDES, WRIST
from ...stream.intake import Observation
from ..base.node import EgoHandNode
from ..messages.transforms import build_transform_msg
from ..transforms import TransformOutput


class WristFrames:
    """`publish_tf`: left_wrist and right_wrist (axes as in hand/palm.py) in the frame of the forecasts, and the
    camera's frame where its poses come from a topic. `view_frame`: the frame of hands that no camera pose moves, turned
    upright as an optical frame's axes have to be."""

    def __init__(self, node: EgoHandNode):
        p = node.parameters
        self._wrists, self._view = p.publish_tf, p.view_frame
        self._camera = p.publish_tf and p.camera_pose_source == "topic"
        self._names = [f"{p.frame_prefix}{side}_wrist" for side in SIDES]
        self._output = TransformOutput(node, "publish_tf" if p.publish_tf else "view_frame")
        self.start, self.look = self._output.start, self._output.look

    def publish(self, observation: Observation, hand_frame: str, stamp: Time) -> None:
        """The newest step of an observation, whose hands came in `hand_frame`. In the worker's thread."""
        window, frame = observation.window, observation.frame_id
        moved = frame != hand_frame and window.camera_pose is not None
        edges = []
        if self._wrists:
            seen = (window.valid[0, -1, :, WRIST] & window.rotation_valid[0, -1]).numpy()
            for side in np.flatnonzero(seen):
                rotation, position = window.wrist_rotation[0, -1, side], window.keypoints[0, -1, side, WRIST]
                edges.append((frame, self._names[side], make_transform(rotation.numpy(), position.numpy())))
        if self._camera and moved:
            edges.append((frame, hand_frame, window.camera_pose[0, -1].numpy()))
        if self._view and not moved and self._view != frame:
            edges.append((self._view, frame, UPRIGHT_OPTICAL))
        self._output.send([build_transform_msg(stamp, *edge) for edge in edges])
