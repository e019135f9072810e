"""Parameters of the `retargeter` node."""

from dataclasses import dataclass

from ...hand.skeleton import SIDES
from ...robot.follow.command_stream import FollowerOptions
from ...robot.follow.path_follower import ConfidenceGate
from ...robot.hands.config import DRIVING_OBJECTIVE, OBJECTIVES
from ..base.parameters import BaseParameters, max_future_parameter, parameter
from ..base.realtime import HIGHEST


@dataclass(frozen=True)
class RetargeterParameters(BaseParameters):
    hand: str = parameter("allegro_right", "Robot hand: a name (`egohand hands`) or a config file.", read_only=True)
    urdf: str = parameter("", "URDF file instead of the one in the hand's config.", read_only=True)
    use_robot_description: bool = parameter(False, "Take the URDF from the topic robot_description.", read_only=True)
    command_interface: str = parameter("", "Command interface of the hand's config; empty: its first.", read_only=True)
    use_robot_topics: bool = parameter(
        False,
        "Use the command and state topics of the hand's config, not joint_commands and joint_states.",
        read_only=True,
    )
    objective: str = parameter(DRIVING_OBJECTIVE, "What retargeting minimises.", choices=OBJECTIVES, read_only=True)
    side: str = parameter(
        "", "Human hand that drives the robot; empty: the robot's own side.", choices=("", *SIDES), read_only=True
    )
    source: str = parameter("forecast", "What is followed.", choices=("forecast", "pose"), read_only=True)
    command_lead: float = parameter(
        0.0, "Command the pose forecast for now plus this: the robot's actuation delay.", unit="s", range=(0.0, 2.0)
    )
    latency_calibration: str = parameter(
        "",
        "User, or file, of `egohand calibrate latency`: the delay found there is added to command_lead.",
        read_only=True,
    )
    blend_time: float = parameter(
        0.06, "A new forecast takes over from the one before it within this time.", unit="s", range=(0.0, 0.2)
    )
    command_rate: float = parameter(100.0, "Rate of commands.", unit="Hz", range=(1.0, 1000.0), read_only=True)
    realtime_priority: int = parameter(
        20,
        "Real-time priority (SCHED_FIFO) of the threads that commands pass through, so that other load does not delay "
        "them, where the user may have one; 0: none.",
        range=(0, HIGHEST),
        read_only=True,
    )
    start_enabled: bool = parameter(False, "Begin to command without a call of ~/enable.", read_only=True)
    joint_states_timeout: float = parameter(
        2.0, "Enabling waits so long for joint_states, then begins from the rest pose.", unit="s", range=(0.0, 1e9)
    )
    joint_states_silence: float = parameter(
        0.5,
        "A robot that was heard and is silent for so long gets no more commands until it is heard again.",
        unit="s",
        range=(0.05, 60.0),
    )
    hold_after: float = parameter(0.2, "Without a target for so long, the hand holds.", unit="s", range=(0.02, 5.0))
    relax_after: float = parameter(
        1.0, "Without a target for so long, it goes to its rest pose.", unit="s", range=(0.05, 60.0)
    )
    relax_speed: float = parameter(0.15, "Speed of relaxing, as a fraction of the velocity limits.", range=(0.01, 1.0))
    max_age: float = parameter(0.5, "Older observations are refused.", unit="s", range=(0.02, 5.0))
    max_future: float = max_future_parameter(0.05)
    min_confidence: float = parameter(0.2, "Less confident targets are refused.", range=(0.0, 0.99))
    full_confidence: float = parameter(0.6, "Less confident targets are followed more slowly.", range=(0.01, 1.0))
    sure_std: float = parameter(
        0.05, "Keypoint standard deviation up to which a forecast is fully trusted.", unit="m", range=(0.0, 10.0)
    )
    lost_std: float = parameter(0.20, "From this on it is not trusted at all.", unit="m", range=(0.001, 10.0))

    def __post_init__(self):
        self.follower_options()
        self.gate()

    def follower_options(self) -> FollowerOptions:
        """Raises `ValueError` for times or confidences in the wrong order."""
        names = FollowerOptions.__dataclass_fields__.keys() & self.__dataclass_fields__.keys()
        given = {name: getattr(self, name) for name in names} | {"future_tolerance": self.max_future}
        return FollowerOptions(period=1.0 / self.command_rate, **given)

    def gate(self) -> ConfidenceGate:
        """Raises `ValueError` for deviations in the wrong order."""
        return ConfidenceGate(self.sure_std, self.lost_std)
