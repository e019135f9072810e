"""Parameters of the `arm_follower` node."""

from dataclasses import dataclass

from ...hand.skeleton import SIDES
from ...robot.arm.teleoperation import TeleoperationOptions
from ..arm.frames import AHEAD, FACING
from ..arm.parameters import ArmParameters
from ..base.parameters import max_future_parameter, parameter

FORECAST, POSE_ONLY = "forecast", "pose"
_DEFAULTS = TeleoperationOptions()


@dataclass(frozen=True)
class ArmFollowerParameters(ArmParameters):
    side: str = parameter(
        "", "Human hand that is followed; empty: the robot hand's own side.", choices=("", *SIDES), read_only=True
    )
    source: str = parameter(FORECAST, "What is followed.", choices=(FORECAST, POSE_ONLY), read_only=True)
    still_camera: str = parameter(
        "",
        "How a camera looks that no camera_pose comes of: ahead, as the person does, along x of fixed_frame, or facing "
        "the person; empty: hands in its frame are refused.",
        choices=("", AHEAD, FACING),
        read_only=True,
    )
    scale: float = parameter(_DEFAULTS.scale, "Way of the tool per way of the wrist.", range=(0.05, 5.0))
    rotate: bool = parameter(_DEFAULTS.rotate, "The tool turns as the wrist does.")
    speed: float = parameter(_DEFAULTS.speed, "Most speed of the tool.", unit="m/s", range=(0.01, 2.0))
    command_lead: float = parameter(
        0.05, "Follow the wrist forecast for now plus this: the arm's delay.", unit="s", range=(0.0, 1.0)
    )
    hold_after: float = parameter(
        _DEFAULTS.hold_after, "Without a sight of the hand for so long the arm stops.", unit="s", range=(0.02, 2.0)
    )
    engage_after: float = parameter(
        _DEFAULTS.engage_after, "A hand has to be seen for so long before it is followed.", unit="s", range=(0.0, 5.0)
    )
    resume_time: float = parameter(
        _DEFAULTS.resume_time, "Full speed so long after following began.", unit="s", range=(0.0, 5.0)
    )
    hand_speed: float = parameter(
        _DEFAULTS.hand_speed,
        "A hand that was faster is another one, or an error: following begins anew.",
        unit="m/s",
        range=(0.5, 20.0),
    )
    min_confidence: float = parameter(_DEFAULTS.min_confidence, "A less sure hand moves nothing.", range=(0.0, 0.99))
    full_confidence: float = parameter(_DEFAULTS.full_confidence, "A less sure hand moves slower.", range=(0.01, 1.0))
    sure_std: float = parameter(
        _DEFAULTS.sure_std, "Deviation up to which a forecast is fully trusted.", unit="m", range=(0.0, 10.0)
    )
    lost_std: float = parameter(
        _DEFAULTS.lost_std, "From this on it is not trusted at all.", unit="m", range=(0.001, 10.0)
    )
    max_future: float = max_future_parameter(0.05)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.options()

    def options(self) -> TeleoperationOptions:
        """Raises `ValueError` for values in the wrong order."""
        names = TeleoperationOptions.__dataclass_fields__.keys() & self.__dataclass_fields__.keys()
        return TeleoperationOptions(lead=self.command_lead, **{name: getattr(self, name) for name in names})
