"""The parameters of the `forecaster` node."""

from dataclasses import dataclass

import numpy as np

from ...forecast import DEFAULT_FORECASTER
from ...forecast.options import AGGREGATIONS, AUTO, NEWEST, PRECISIONS
from ...hand.conventions import CONVENTIONS
from ...hand.skeleton import SIDES
from ..base.images import image_reliability, min_image_rate
from ..base.parameters import BaseParameters, max_future_parameter, parameter, transform_of_values
from ..base.realtime import AUTOMATIC, HIGHEST


@dataclass(frozen=True)
class ForecasterParameters(BaseParameters):
    forecaster: str = parameter(DEFAULT_FORECASTER, "Preset name; `egohand forecasters` lists them.", read_only=True)
    checkpoint: str = parameter(
        "",
        "Weights: a folder, a hub id, or for egoh4, usst and forehand4d the file of the authors; empty: those that "
        "come with the forecaster.",
        read_only=True,
    )
    mano: str = parameter(
        "",
        "Folder of your MANO_LEFT.pkl and MANO_RIGHT.pkl, for forehand4d and megohand; empty: that of EGOHAND_MANO, "
        "from outside.",
        read_only=True,
    )
    device: str = parameter(
        AUTO,
        "Where the model runs: cpu, cuda, cuda:1, …; auto takes a GPU where there is one. The CPU replaces a "
        "device that fails.",
        read_only=True,
    )
    precision: str = parameter(
        AUTO,
        "Precision of the network's arithmetic, for forecasters that have a choice (EggHand); auto: bfloat16 on "
        "a GPU that has "
        "it, float32 elsewhere.",
        choices=PRECISIONS,
        read_only=True,
    )
    compile: bool = parameter(
        False,
        "Compile the model and record CUDA graphs when the node is configured, which takes minutes, and again "
        "where hypotheses "
        "changes; for forecasters that can (EggHand), and on a GPU only.",
        read_only=True,
    )
    device_timeout: float = parameter(
        2.0,
        "A GPU that takes longer for a forecast counts as hung, and is left for the CPU; 0: it is waited for.",
        unit="s",
        range=(0.0, 600.0),
        read_only=True,
    )
    realtime_priority: int = parameter(
        AUTOMATIC,
        "Real-time priority (SCHED_FIFO) of the threads that poses come through and of the thread that forecasts, "
        "where the user may have one; threads that a network starts beside them have none. 0: none. -1: 15, for the "
        "thread that forecasts only while a forecast takes a few milliseconds of one processor.",
        range=(AUTOMATIC, HIGHEST),
        read_only=True,
    )
    hypotheses: int = parameter(1, "Futures of each hand, at most as many as the forecaster gives.", range=(1, 256))
    aggregation: str = parameter(
        NEWEST,
        "Each forecast as it comes (newest), or averaged with those before it (temporal: Temporal Orthogonal "
        "Filtering).",
        choices=AGGREGATIONS,
    )
    aggregation_recency: float = parameter(
        0.0,
        "Time over which forecasts that are averaged lose weight; 0: all count alike, as published.",
        unit="s",
        range=(0.0, 10.0),
        read_only=True,
    )
    seed: int = parameter(-1, "Seed of sampled hypotheses; -1: a new one each time.", range=(-1, 2**31 - 1))
    adapt_uncertainty: bool = parameter(
        True,
        "Scale covariances and standard deviations so that 90 % regions hold 90 % of what then happens, for any "
        "forecaster; "
        "false: as the forecaster gives them. Errors and coverage are in the diagnostics either way.",
    )
    keypoint_convention: str = parameter(
        "auto",
        "Order of the joints of tracker_poses; auto tells mediapipe, webxr and openxr apart by their number.",
        choices=("auto", *CONVENTIONS),
        read_only=True,
    )
    tracker_side: str = parameter(
        "left", "The hand, or the first of two, of tracker_poses.", choices=SIDES, read_only=True
    )
    fixed_frame: str = parameter(
        "",
        "Frame that forecasts have to be in; empty: that of the camera poses, the tracker's while there are none.",
        read_only=True,
    )
    camera_frame: str = parameter(
        "", "The only frame of hands to be moved by camera poses; empty: whatever is not the fixed one.", read_only=True
    )
    camera_pose_source: str = parameter(
        "topic",
        "Camera poses: topics camera_pose and odometry, or TF from fixed_frame.",
        choices=("topic", "tf"),
        read_only=True,
    )
    camera_in_base: tuple[float, ...] = parameter(
        (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0),
        "Pose of the camera's optical frame in the child frame of odometry: x, y, z [m], qx, qy, qz, qw.",
        read_only=True,
    )
    image_transport: str = parameter(
        "raw",
        "Which image topic to use, where the model looks at images.",
        choices=("raw", "compressed"),
        read_only=True,
    )
    image_reliability: str = image_reliability()
    min_image_rate: float = min_image_rate()
    rectified: bool = parameter(
        False,
        "The images are already rectified: use camera_info's P; otherwise K. Neither undoes distortion.",
        read_only=True,
    )
    publish_tf: bool = parameter(
        False,
        "Broadcast the wrists as they are seen now, left_wrist and right_wrist, and the frame of hands that camera "
        "poses from a topic move; not what has another parent already.",
        read_only=True,
    )
    frame_prefix: str = parameter(
        "", "What the frames left_wrist and right_wrist begin with, for several people: ana/ .", read_only=True
    )
    view_frame: str = parameter(
        "",
        "Broadcast the frame of the hands upright in this one while there are no camera poses, so that RViz with this "
        "fixed frame shows them; empty: no such frame.",
        read_only=True,
    )
    max_input_age: float = parameter(1.0, "Older inputs are refused.", unit="s", range=(0.01, 60.0), read_only=True)
    max_future: float = max_future_parameter(0.1, read_only=True)
    hand_timeout: float = parameter(
        0.5, "A hand that was not seen for longer is not forecast.", unit="s", range=(0.0, 10.0)
    )
    marker_lifetime: float = parameter(
        0.5, "How long markers stay when nothing new comes.", unit="s", range=(0.05, 60.0)
    )

    def __post_init__(self):
        self.T_base_camera()
        if self.camera_pose_source == "tf" and not self.fixed_frame:
            raise ValueError("camera_pose_source is tf, but fixed_frame is empty; set it to the world's frame, as odom")

    def T_base_camera(self) -> np.ndarray:
        """(4, 4)"""
        return transform_of_values("camera_in_base", self.camera_in_base)
