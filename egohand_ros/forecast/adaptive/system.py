"""The record of `adaptive`: nothing but this is imported before it is asked for."""

from ..common.protocol import Forecaster
from ..registry import make_forecaster, register

ALWAYS = ("persistence", "kalman")


@register("adaptive", "weighs forecasters by how well they have done so far, and learns how this person moves")
def adaptive(experts: str = "+".join(ALWAYS), **options) -> Forecaster:
    """`experts` are presets joined by +, beside persistence and kalman, which are there always. Options of the naive
    ones (step, window_length, horizon_steps) go to all.
    """
    from .forecaster import AdaptiveForecaster

    names = dict.fromkeys((*ALWAYS, *(name.strip() for name in experts.split("+") if name.strip())))
    kalman, *others = (name for name in names if name != "persistence")
    return AdaptiveForecaster(
        make_forecaster(kalman, **options), {name: make_forecaster(name, **options) for name in others}
    )
