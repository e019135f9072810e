"""Finds what comes with the package: the config/ folder of a wheel, of the source tree, or of an install prefix."""

import os
from pathlib import Path

from .errors import UserError


def config_folder() -> Path:
    """The shipped config/ folder: `shipped_config` beside this file in a wheel, config/ of the source tree, or
    <prefix>/share/egohand_ros/config of a ROS 2 package.

    Raises `UserError` where there is none.
    """
    here = Path(__file__).resolve()
    prefixes = [Path(p) for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    candidates = [here.parent / "shipped_config", here.parents[1] / "config"]
    candidates += [p / "share" / "egohand_ros" / "config" for p in (*prefixes, *here.parents)]  # sourced or not
    for folder in candidates:
        if (folder / "hands").is_dir():
            return folder
    raise UserError(
        "the shipped config/ is not found; source the workspace (AMENT_PREFIX_PATH) or run from the repository"
    )


def preset_folder() -> Path:
    """The folder of the shipped forecaster presets."""
    return config_folder() / "forecasters"
