"""The record of `egohand-motion`: nothing but this is imported before it is asked for."""

from pathlib import Path

from ..common.protocol import Forecaster
from ..registry import register

SHIPPED = Path(__file__).parents[1] / "weights" / "egohand-motion"


@register("egohand-motion", "learned from motion of real people; hands alone, one hypothesis", SHIPPED)
def motion(checkpoint: str | Path = SHIPPED, **options) -> Forecaster:
    """`checkpoint` is a folder that training/studies/real/real_motion.py wrote. Options are those of `kalman`."""
    from ..naive.kalman import Kalman
    from .forecaster import WEIGHTS, MotionForecaster

    return MotionForecaster(Path(checkpoint).expanduser() / WEIGHTS, Kalman(**options))
