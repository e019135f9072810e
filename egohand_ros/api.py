"""The public door: what `from egohand_ros.api import ...` promises to keep.

    from egohand_ros.api import load_episode, load_forecaster, load_retargeter

    f = load_forecaster("egohand-small")
    w = load_episode("recording.npz").last_window(f.spec)
    q = load_retargeter("allegro_right").at(f.forecast(w), 0.4).q

Lengths are in m, times in s, angles in rad; sides are always [left, right]; keypoints (..., 21, 3) in the MediaPipe
order. Every mistake of a caller's is a `UserError` that says in one line what was expected. Nothing here needs ROS, and
importing it imports neither torch nor SciPy: each name is loaded when it is first asked for (PEP 562).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for type checkers and editors; at run time `__getattr__` below finds them
    from .data.episode import Episode
    from .errors import UserError
    from .evaluation.protocol import Protocol, Result
    from .forecast.common.protocol import Forecast, Forecaster, ForecasterSpec
    from .forecast.registry import register, register_system
    from .forecast.system import Preset, PublicWeights, Stage, System
    from .robot.hands.model import HandModel
    from .robot.limits.limiter import JointLimiter
    from .robot.retarget.forecast_retargeter import ForecastRetargeter
    from .robot.retarget.retargeter import Retargeter, RetargetResult
    from .stream.window import Window

__all__ = [
    "Episode",
    "Forecast",
    "ForecastRetargeter",
    "Forecaster",
    "ForecasterSpec",
    "HandModel",
    "JointLimiter",
    "Preset",
    "Protocol",
    "PublicWeights",
    "Result",
    "RetargetResult",
    "Retargeter",
    "Stage",
    "System",
    "UserError",
    "Window",
    "evaluate",
    "list_forecasters",
    "list_hands",
    "list_protocols",
    "load_episode",
    "load_episodes",
    "load_forecaster",
    "load_hand",
    "load_retargeter",
    "register",
    "register_system",
]

_FOUND_IN = {
    "Episode": ".data.episode",
    "Forecast": ".forecast.common.protocol",
    "ForecastRetargeter": ".robot.retarget.forecast_retargeter",
    "Forecaster": ".forecast.common.protocol",
    "ForecasterSpec": ".forecast.common.protocol",
    "HandModel": ".robot.hands.model",
    "JointLimiter": ".robot.limits.limiter",
    "Preset": ".forecast.system",
    "Protocol": ".evaluation.protocol",
    "PublicWeights": ".forecast.system",
    "Result": ".evaluation.protocol",
    "RetargetResult": ".robot.retarget.retargeter",
    "Retargeter": ".robot.retarget.retargeter",
    "Stage": ".forecast.system",
    "System": ".forecast.system",
    "UserError": ".errors",
    "Window": ".stream.window",
    "register": ".forecast.registry",
    "register_system": ".forecast.registry",
}


def __getattr__(name: str) -> Any:
    if name not in _FOUND_IN:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    found = getattr(importlib.import_module(_FOUND_IN[name], __package__), name)
    globals()[name] = found  # from now on without this function
    return found


def __dir__() -> list[str]:
    return __all__


def load_episodes(path: Path | str, mano: Path | str | None = None) -> list[Episode]:
    """The episodes of a recording: a rosbag2 folder, an episode `.npz`, a LeRobotDataset, or a file or folder of the
    data sets in docs/data.md. `mano` is the folder of your MANO files, for data sets that store MANO parameters.

    Raises `UserError` that says what was found and what can be read.
    """
    from .data.load import load_episodes

    return load_episodes(path, mano)


def load_episode(path: Path | str, mano: Path | str | None = None) -> Episode:
    """The episode of a recording that holds one; otherwise as `load_episodes`.

    Its arrays are `stamp` (T,) s, `keypoints` (T, 2, 21, 3) m and `valid` (T, 2, 21) in one fixed frame; its method
    `last_window(spec)` is what a forecaster sees of its end.
    """
    from .data.load import load_episode

    return load_episode(path, mano)


def list_forecasters() -> dict[str, ForecasterSpec]:
    """What each forecaster needs and gives, by name; no network is loaded."""
    from .forecast.registry import presets

    return {name: preset.spec() for name, preset in presets().items()}


def load_forecaster(name: str | Path, **options: Any) -> Forecaster:
    """The forecaster of a name (`list_forecasters`), or of a folder in which `egohand train` left one.

    `forecast(window, hypotheses=1, seed=None)` gives K futures of every window of a batch: a `Forecast` with keypoints
    (B, K, S, 2, 21, 3) m in the window's frame, `step_times` (S,) s from its `stamp`, and their uncertainty. Options of
    learned ones: `checkpoint` (folder, hub id, or where its record says so the authors' file), `device` (auto, cpu,
    cuda), and those of the system.

    Raises `UserError` for an unknown name, and where weights are needed and not given.
    """
    from .forecast.registry import make_forecaster

    return make_forecaster(name, **options)


def list_hands() -> list[str]:
    """Names of the robot hands that `load_hand` knows: those shipped and your own (`egohand hands add`)."""
    from .robot.hands.library import list_hands

    return list_hands()


def load_hand(name: str | Path) -> HandModel:
    """A robot hand by name or by the path of a config: joint names (n,), limits (n,) rad, rad/s, rad/s^2, kinematics.

    Raises `UserError` for an unknown name or a config that does not fit its URDF.
    """
    from .robot.hands.library import load_hand

    return load_hand(name)


def load_retargeter(hand: str | Path, side: str | None = None, objective: str = "dexpilot") -> ForecastRetargeter:
    """Human hand to robot hand: `at(forecast, time)` for the pose (n,) rad at a moment of a forecast,
    `solve(keypoints)` for a live pose (21, 3) m in any frame.

    `side` is the human hand's, by default the robot's; `objective` is one of the hand's config: vector, position or
    dexpilot. Joint ranges hold and the hand is free of self-collision; velocities are a `JointLimiter`'s to keep.
    """
    from .robot.retarget.forecast_retargeter import ForecastRetargeter

    return ForecastRetargeter(load_hand(hand), side, objective)


def list_protocols() -> dict[str, str]:
    """A line about each protocol of evaluation, by name."""
    from .evaluation.protocol import PROTOCOLS

    return {name: protocol.summary for name, protocol in PROTOCOLS.items()}


def evaluate(
    episodes: Sequence[Episode] | dict[str, Episode],
    forecasters: Sequence[str] | dict[str, Forecaster],
    protocol: Protocol | str = "egoexo4d",
    progress: Callable[[int, int], None] | None = None,
) -> Result:
    """Errors of forecasters on every window of episodes, by one protocol. `result.metrics(name)` are in m.

    `forecasters` are names, or objects by name: compare with "persistence", which is hard to beat. `progress(done,
    total)` counts forecast windows. Raises `UserError` where no window counts or a forecaster does not fit the
    protocol.
    """
    from .evaluation.protocol import evaluate

    return evaluate(episodes, forecasters, protocol, progress)
