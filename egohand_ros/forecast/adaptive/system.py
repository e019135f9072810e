"""The record of `adaptive`: nothing but this is imported before it is asked for."""

from pathlib import Path

from ..common.protocol import Forecaster
from ..motion.system import SHIPPED
from ..registry import make_forecaster, register

ALWAYS = ("persistence", "kalman")
NAME, MOTION = "adaptive", "egohand-motion"


@register(NAME, "weighs forecasters by how well they have done so far, and learns how this person moves", SHIPPED)
def adaptive(
    experts: str = "+".join(ALWAYS), motion: str | Path = SHIPPED, checkpoint: str | Path = "", **options
) -> Forecaster:
    """`experts` are presets joined by +, beside persistence, kalman and egohand-motion, which are there always;
    `motion` is a folder with weights of the last. `checkpoint` is one that `egohand train adaptive` wrote: those
    weights, what is believed before anything is known, and how `person` begins. Options of the naive ones (step,
    window_length, horizon_steps) go to all.
    """
    from .beliefs import FILE, read_beliefs
    from .forecaster import AdaptiveForecaster

    names = dict.fromkeys((*ALWAYS, *(name.strip() for name in experts.split("+") if name.strip())))
    kalman, *others = (name for name in names if name != "persistence")
    folder = Path(checkpoint or motion).expanduser()
    beliefs, starts = read_beliefs(folder / FILE) if checkpoint else (None, None)
    return AdaptiveForecaster(
        make_forecaster(kalman, **options),
        make_forecaster(MOTION, checkpoint=folder, **options),
        {name: make_forecaster(name, **options) for name in others if name != MOTION},
        beliefs=beliefs,
        starts=starts,
    )
