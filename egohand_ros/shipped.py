"""Finds what comes with the package: the config/ folder of the source tree, of an install prefix, or of the wheel."""

import os
from pathlib import Path

from .errors import UserError


def config_folder() -> Path:
    """The shipped config/ folder: of the source tree, or <prefix>/share/egohand_ros/config of an installed package.

    Raises `UserError` where there is none.
    """
    here = Path(__file__).resolve()
    prefixes = [Path(p) for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    candidates = [here.parents[1] / "config"]
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
