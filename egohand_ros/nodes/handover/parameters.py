"""Parameters of the `handover` node."""

from dataclasses import dataclass, replace

from ...handover.options import HandoverOptions
from ...handover.separation import SeparationOptions
from ...handover.touch import SenseOptions
from ..arm.parameters import ArmParameters
from ..base.node import parameter

NEVER, GIVE, TAKE, EITHER = "never", "give", "take", "either"
_DEFAULTS, _SEPARATION, _SENSE = HandoverOptions(), SeparationOptions(), SenseOptions()


@dataclass(frozen=True)
class HandoverParameters(ArmParameters):
    command_interface: str = parameter("", "Command interface of the hand's config; empty: its first.", read_only=True)
    state_rate: float = parameter(20.0, "Rate of handover_state.", unit="Hz", range=(1.0, 100.0), read_only=True)
    without_goal: str = parameter(
        NEVER,
        "What is begun by itself, again and again, while no goal of the action is: nothing, or a handover of this "
        "direction.",
        choices=(NEVER, GIVE, TAKE, EITHER),
    )
    holds_object: bool = parameter(False, "The robot's hand holds an object at the beginning.", read_only=True)
    timeout: float = parameter(
        _DEFAULTS.timeout, "Time for a handover whose goal does not say.", unit="s", range=(1.0, 3600.0)
    )
    slow_after: float = parameter(
        _DEFAULTS.slow_after, "Age of what is known of a person that slows the arm.", unit="s", range=(0.01, 1.0)
    )  # fmt: skip
    stop_after: float = parameter(_DEFAULTS.stop_after, "Age from which the arm stands.", unit="s", range=(0.02, 1.0))
    forecast_period: float = parameter(
        0.05,
        "Forecasts may be as much older than hand poses: the time between two of them, where that is longer.",
        unit="s",
        range=(0.0, 1.0),
    )
    speed: float = parameter(_DEFAULTS.speed, "Most speed of the tool.", unit="m/s", range=(0.01, 2.0))
    carry_speed: float = parameter(
        _DEFAULTS.carry_speed, "Most speed of the tool with an object.", unit="m/s", range=(0.01, 2.0)
    )
    transfer_speed: float = parameter(
        _SEPARATION.transfer_speed, "Most speed towards the transferring hand, in contact.", unit="m/s",
        range=(0.01, 0.25),
    )  # fmt: skip
    human_speed: float = parameter(
        _SEPARATION.human_speed, "Speed of people that is always reckoned with.", unit="m/s", range=(0.5, 3.0)
    )
    reaction_time: float = parameter(
        _SEPARATION.reaction_time,
        "From the exposure of the camera to the arm's first deceleration, as ~/debug/latency and the arm show.",
        unit="s",
        range=(0.01, 1.0),
    )
    deceleration: float = parameter(
        _SEPARATION.deceleration, "With which the robot's fastest point stops.", unit="m/s^2", range=(0.5, 50.0)
    )
    person_uncertainty: float = parameter(
        _SEPARATION.person_uncertainty, "Of the person's place: Z_d.", unit="m", range=(0.0, 1.0)
    )
    robot_uncertainty: float = parameter(
        _SEPARATION.robot_uncertainty, "Of the robot's place: Z_r.", unit="m", range=(0.0, 1.0)
    )
    table_height: float = parameter(
        _DEFAULTS.table_height, "The arm keeps above this, in base_frame.", unit="m", range=(-10.0, 10.0)
    )
    ready: tuple[float, ...] = parameter(
        _DEFAULTS.ready, "Where the tool waits, in base_frame.", unit="m", range=(-3.0, 3.0), read_only=True
    )
    receive_ahead: float = parameter(
        _DEFAULTS.receive_ahead, "The tool waits so much nearer to people while the robot's hand is empty.", unit="m",
        range=(0.0, 0.5),
    )  # fmt: skip
    grip_error: float = parameter(
        _SENSE.grip_error, "Fingers that stay so far behind their command hold something.", unit="rad",
        range=(0.005, 1.0), read_only=True,
    )  # fmt: skip
    contact_force: float = parameter(
        _SENSE.contact_force, "A larger force on the hand before a transfer is a person.", unit="N",
        range=(1.0, 500.0), read_only=True,
    )  # fmt: skip

    def __post_init__(self):
        super().__post_init__()
        if len(self.ready) != 3:
            raise ValueError("ready: expected x, y, z")
        if not self.slow_after < self.stop_after:
            raise ValueError("slow_after has to be smaller than stop_after")
        self.options()

    def options(self) -> HandoverOptions:
        """What the controller is asked to keep to. Raises `ValueError`."""
        separation = replace(_SEPARATION, **{name: getattr(self, name) for name in _shared(SeparationOptions)})
        own = {name: getattr(self, name) for name in _shared(HandoverOptions)}
        return replace(_DEFAULTS, **own, separation=separation)

    def sense_options(self) -> SenseOptions:
        """How touch is told."""
        return SenseOptions(grip_error=self.grip_error, contact_force=self.contact_force)


def _shared(kind: type) -> set[str]:
    return set(kind.__dataclass_fields__) & set(HandoverParameters.__dataclass_fields__)
