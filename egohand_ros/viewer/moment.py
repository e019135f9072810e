"""`Moment`: what is known at one time, as arrays, and in which frame it is shown. Live and from a recording alike."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ..geometry.camera import Camera
from ..geometry.transforms import UPRIGHT_OPTICAL, transform_points
from ..hand.skeleton import WRIST
from ..messages.forecast import Futures
from ..messages.hands import LOST, Hands
from ..messages.joints import JointSample
from ..messages.poses import StampedPose

_MOST_LINKS = 32  # of a chain of transforms; a longer one is a circle


@dataclass(frozen=True)
class Moment:
    """The newest of everything; None where there is nothing. `picture` is RGB uint8 (H, W, 3).

    `transforms` maps a frame to its parent and T_parent_frame (4, 4), as TF does; `targets` and `measured` are the
    robot's joints in rad. `silent` maps what has not come for a while, and is therefore not shown, to its age in s.
    """

    hands: Hands | None = None
    futures: Futures | None = None
    camera: Camera | None = None
    camera_pose: StampedPose | None = None
    picture: np.ndarray | None = None
    targets: JointSample | None = None
    measured: JointSample | None = None
    transforms: Mapping[str, tuple[str, np.ndarray]] = field(default_factory=dict)
    silent: Mapping[str, float] = field(default_factory=dict)

    @property
    def frame(self) -> str:
        """The frame in which all is shown: that of the forecasts, else of the camera's poses, else of the hands."""
        for source in (self.futures, self.camera_pose, self.hands):
            if source is not None:
                return source.frame_id
        return ""

    @property
    def upright(self) -> np.ndarray:
        """T (4, 4) from `frame` to axes whose z points up: the camera's axes are turned, a fixed frame's are kept."""
        fixed = self.camera_pose is not None and self.frame == self.camera_pose.frame_id
        optical = not fixed and ("camera" in self.frame or "optical" in self.frame)
        return UPRIGHT_OPTICAL if optical else np.eye(4)

    def to_shown(self, frame: str) -> np.ndarray | None:
        """T_shown_frame (4, 4); None where there is no way. What is not in the shown frame is in the camera's."""
        if frame == self.frame:
            return np.eye(4)
        known = chain(self.transforms, frame, self.frame)
        if known is None and self.camera_pose is not None and self.camera_pose.frame_id == self.frame:
            return self.camera_pose.transform
        return known

    def shown_hands(self) -> np.ndarray:
        """Keypoints (2, 21, 3) m of both hands in the shown frame, NaN where they are not seen."""
        if self.hands is None or (transform := self.to_shown(self.hands.frame_id)) is None:
            return np.full((2, 21, 3), np.nan)
        seen = self.hands.valid & (self.hands.state != LOST)[:, None]
        return np.where(seen[..., None], transform_points(transform, self.hands.keypoints), np.nan)

    def shown_frames(self) -> dict[str, np.ndarray]:
        """T_shown_frame (4, 4) of the camera and of every frame of TF that leads to the shown one."""
        known = {frame: chain(self.transforms, frame, self.frame) for frame in self.transforms}
        if self.camera_pose is not None and self.camera_pose.frame_id == self.frame:
            known["camera"] = self.camera_pose.transform
        elif np.array_equal(self.upright, UPRIGHT_OPTICAL):
            known["camera"] = np.eye(4)
        return {frame: transform for frame, transform in known.items() if transform is not None}

    def wrists(self) -> np.ndarray:
        """Wrists (2, 3) m in the shown frame, NaN where they are not seen."""
        return self.shown_hands()[:, WRIST]


def chain(transforms: Mapping[str, tuple[str, np.ndarray]], frame: str, root: str) -> np.ndarray | None:
    """T_root_frame (4, 4) along the parents; None where they do not lead there."""
    transform = np.eye(4)
    for _ in range(_MOST_LINKS):
        if frame == root:
            return transform
        if frame not in transforms:
            return None
        frame, step = transforms[frame]
        transform = step @ transform
    return None
