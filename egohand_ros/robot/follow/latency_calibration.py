"""How long a robot hand takes from a command to its effect: found by cross-correlation, saved per user and hand.

The commanded joints are compared with the measured ones, so everything between is in the number: transport to the
robot, the hold until the next command, the motors' own lag.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import yaml

from ...errors import UserError
from ...outputs import check_page, write_text
from ..retarget.calibration import calibration_path
from .delay import GRID, cross_correlation_lag

_LONGEST = 0.6  # s
_LEAST_CORRELATION = 0.8
_LARGEST_SPREAD = 0.05  # s, between joints
_EARLIEST = -0.02  # s; a robot that moves earlier than it was commanded has another clock


@dataclass(frozen=True)
class LatencyCalibration:
    """`delay` s of all joints together with its `correlation` (1: the robot repeats its commands exactly), and `spread`
    s, the standard deviation between joints; `joints` maps each that moved to its own delay s."""

    user: str
    hand: str
    delay: float
    correlation: float
    spread: float
    joints: dict[str, float]
    seconds: float

    @property
    def confidence(self) -> str:
        """high, medium or low: how far the joints agree and the motion repeats the commands."""
        if self.correlation > 0.95 and self.spread < 0.01:
            return "high"
        return "medium" if self.correlation > 0.9 and self.spread < 0.025 else "low"

    def save(self, folder: str | Path | None = None) -> Path:
        """Write <folder>/<user>_<hand>_latency.yaml, by default into the user's own folder."""
        path = latency_path(self.user, self.hand, folder)
        check_page(path, "YAML")
        write_text(path, yaml.safe_dump(asdict(self), sort_keys=False))
        return path


def latency_path(user: str, hand: str, folder: str | Path | None = None) -> Path:
    """Where the calibration of a user and a robot hand is."""
    return calibration_path(user, f"{hand}_latency", folder)


def load_latency(user_or_file: str, hand: str) -> LatencyCalibration:
    """A saved calibration, by user or by its file; `UserError` says how to make one, or what is wrong with it."""
    path = Path(user_or_file) if user_or_file.endswith((".yaml", ".yml")) else latency_path(user_or_file, hand)
    if not path.is_file():
        raise UserError(f"{path} does not exist; make it with `egohand calibrate latency --hand {hand}`")
    try:
        data = yaml.safe_load(path.read_text())
        calibration = LatencyCalibration(**data)
        if not 0.0 <= float(calibration.delay) <= 2.0:
            raise ValueError(f"delay {calibration.delay} s is out of bounds")
    except (TypeError, ValueError, yaml.YAMLError) as error:
        raise UserError(
            f"{path} is no latency calibration: {error}; make it anew with `egohand calibrate latency`"
        ) from None
    if calibration.hand != hand:
        raise UserError(f"{path} is of hand {calibration.hand!r}, not {hand!r}; calibrate that one")
    return calibration


def calibrate_latency(
    names: tuple[str, ...],
    command_stamp: np.ndarray,
    command: np.ndarray,
    state_stamp: np.ndarray,
    state: np.ndarray,
    user: str = "default",
    hand: str = "",
) -> LatencyCalibration:
    """From commands (N, n) rad at (N,) s and measured joints (M, n) rad at (M,) s on one clock.

    Raises `UserError` that says what to do where it cannot be told: too short, no motion, clocks apart, joints that
    disagree.
    """
    start, end = max(command_stamp[0], state_stamp[0]), min(command_stamp[-1], state_stamp[-1])
    if not end - start > 0.0:
        raise UserError("commands and measured joints are of different times; do both use one clock?")
    times = np.arange(start, end, GRID)

    def sampled(stamp: np.ndarray, q: np.ndarray) -> np.ndarray:
        return np.stack([np.interp(times, stamp, column) for column in q.T], axis=1)

    lag = cross_correlation_lag(sampled(command_stamp, command), sampled(state_stamp, state), GRID, _LONGEST)
    if np.isnan(lag.each).all() or np.isnan(lag.seconds):
        raise UserError(
            f"no delay between -{_LONGEST:g} and {_LONGEST:g} s was found; open and close the hand a few times"
        )
    if lag.correlation < _LEAST_CORRELATION:
        raise UserError(f"the robot does not do what it is told (correlation {lag.correlation:.2f}); is it enabled?")
    if lag.seconds < _EARLIEST:
        raise UserError(f"the robot moved {-lag.seconds:.3f} s before it was told; are the clocks synchronised?")
    told = np.isfinite(lag.each) & (lag.each_correlation > _LEAST_CORRELATION)
    spread = float(np.std(lag.each[told])) if told.any() else 0.0
    if spread > _LARGEST_SPREAD:
        raise UserError(f"the joints' delays differ by {spread:.3f} s; move more, and for longer")
    return LatencyCalibration(
        user=user,
        hand=hand,
        delay=round(max(lag.seconds, 0.0), 4),
        correlation=round(lag.correlation, 4),
        spread=round(spread, 4),
        joints={names[i]: round(float(lag.each[i]), 4) for i in np.flatnonzero(told)},
        seconds=round(float(end - start), 2),
    )
