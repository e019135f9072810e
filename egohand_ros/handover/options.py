"""What a handover is done by: where, how far, how fast."""

from dataclasses import dataclass, field

import numpy as np

from .intent import IntentOptions
from .machine import MachineOptions
from .separation import SeparationOptions
from .transfer import TransferOptions


@dataclass(frozen=True)
class Zone:
    """Where hands are that an object can be exchanged with: `nearest` to `farthest` m from the point (0, 0, `shoulder`)
    of the base, in front of `front` m, above `floor` m. The tool itself goes as far as `tool_farthest` m."""

    shoulder: float = 0.16
    nearest: float = 0.35
    farthest: float = 0.93
    tool_farthest: float = 0.80
    front: float = 0.2
    floor: float = 0.12

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Whether points (..., 3) m are in it, (...) bool."""
        far = np.linalg.norm(points - np.array([0.0, 0.0, self.shoulder]), axis=-1)
        inside = (far >= self.nearest) & (far <= self.farthest)
        return inside & (points[..., 0] >= self.front) & (points[..., 2] >= self.floor)


@dataclass(frozen=True)
class HandoverOptions:
    """A hand offers (`ObservedPerson.offers`) once it is slower than `offer_slowed` of the fastest of its way and is
    expected to rest, with `offer_spreads` standard deviations added, no further than `offer_within` m from the zone's
    shoulder: where the tool gets to, and by how much a hand holds its object before it; or once it has rested for
    `offer_after` s further out.

    `free_part` m: where an object that a hand holds can be taken, in the palm frame, towards the thumb counted
    positive for either hand; with an object, which lies as much deeper in its own hand, the tool goes `into_palm` m
    further in the last stretch. The tool stands `standoff` m before that point, and as many `sure_radii` of the
    expected point's 90 % region further back, at most `most_back`. A goal moves when what is expected is `deadband` m
    off it.

    The last, slow stretch begins when the hand rests within `last_stretch` of the tool for `settle_time` s, or when it
    slows down below `arriving_speed` m/s and is forecast to rest there within `arriving_within` s, by 90 % no more than
    `arriving_radius` m off; until it rests the tool stays `await_at` m before the object, for
    `arrive_timeout` s. Fingers close when the tool
    is within `close_at`.

    While it watches, the tool already goes beside, no nearer, to where a hand that is likely to hand over is expected,
    as far as that is sure and at most `most_beside` m.

    `speed` m/s of the tool, `carry_speed` with an object, and slowly out of `leave_distance` m of the hand. Covariances
    count with `use_covariance`. The tool waits at `ready` m, level, and `receive_ahead` m nearer to people when the
    robot has nothing that they could take. The arm keeps above `table_height` m, in the base's frame. What is known of
    the person counts in full up to an age of `slow_after` s; the arm stands from `stop_after` s on, `forecast_period` s
    later for forecasts, which come less often; those of before `forecast_life` s are as good as none."""

    offer_slowed: float = 0.8
    offer_spreads: float = 0.85
    offer_within: float = 0.87
    offer_after: float = 0.8
    free_part: tuple[float, float, float] = (0.085, 0.13, -0.03)
    into_palm: float = 0.02
    standoff: float = 0.05
    sure_radii: float = 0.3
    most_back: float = 0.25
    deadband: float = 0.02
    last_stretch: float = 0.32
    settle_time: float = 0.1
    settle_speed: float = 0.10
    arriving_speed: float = 0.5
    arriving_within: float = 0.45
    arriving_radius: float = 0.10
    await_at: float = 0.03
    arrive_timeout: float = 0.8
    left_by: float = 0.12
    speed: float = 0.7
    carry_speed: float = 0.4
    leave_distance: float = 0.10
    clear: float = 0.2
    close_at: float = 0.02
    use_covariance: bool = True
    timeout: float = 30.0
    ready: tuple[float, float, float] = (0.50, 0.0, 0.42)
    receive_ahead: float = 0.08
    most_beside: float = 0.2
    table_height: float = 0.0
    slow_after: float = 0.10
    stop_after: float = 0.15
    forecast_period: float = 0.10
    forecast_life: float = 1.0
    zone: Zone = field(default_factory=Zone)
    intent: IntentOptions = field(default_factory=IntentOptions)
    machine: MachineOptions = field(default_factory=MachineOptions)
    separation: SeparationOptions = field(default_factory=SeparationOptions)
    transfer: TransferOptions = field(default_factory=TransferOptions)
