"""The record of `adaptive`: nothing but this is imported before it is asked for."""

from pathlib import Path

from ..common.protocol import Forecaster
from ..registry import make_forecaster, register

DEFAULT_EXPERTS = "persistence+damped+kalman"


@register("adaptive", "weighs other forecasters by how well they have done so far, and learns how this person moves")
def adaptive(experts: str = DEFAULT_EXPERTS, prior: str = "", **options) -> Forecaster:
    """`experts` are presets joined by +; `prior` is a file of training/studies/fit_adaptive.py (default: the shipped
    one). Options of the naive ones (step, window_length, horizon_steps) go to all.
    """
    from .forecaster import BASIS, AdaptiveForecaster
    from .prior import load_priors

    names = list(dict.fromkeys(name.strip() for name in experts.split("+") if name.strip()))
    made = {name: make_forecaster(name, **options) for name in names}
    basis = {name: made.get(name) or make_forecaster(name, **options) for name in BASIS}
    return AdaptiveForecaster(made, basis, priors=load_priors(Path(prior)) if prior else None)
