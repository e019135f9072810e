"""An arm's config: one YAML file in config/arms/, or of one's own."""

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path

import yaml

from ...config import from_mapping
from ...errors import UserError
from ...shipped import config_folder

NEEDS = "a robot arm needs the extra `handover`: pip install 'egohand_ros[handover]'"
_EXTRA = ("mink", "ruckig")


@dataclass(frozen=True)
class ArmConfig:
    """`urdf` is beside the config or an absolute path. `joints` from the base on; `acceleration` rad/s^2 and `jerk`
    rad/s^3 of every joint, `velocity` rad/s where it is to be less than the URDF's (0: the URDF's); `ready` rad, where
    the arm waits; `teleoperation` rad, where it waits for a wrist to follow, far from singularities (empty: `ready`).
    `command_topic` takes trajectory_msgs/JointTrajectory, `state_topic` has sensor_msgs/JointState."""

    name: str
    urdf: str
    joints: tuple[str, ...]
    base: str
    flange: str
    acceleration: float
    jerk: float
    ready: tuple[float, ...]
    teleoperation: tuple[float, ...] = ()
    velocity: float = 0.0
    description: str = ""
    source: str = ""
    command_topic: str = ""
    state_topic: str = "/joint_states"

    def __post_init__(self) -> None:
        if min(self.acceleration, self.jerk) <= 0.0 or self.velocity < 0.0:
            raise ValueError("acceleration and jerk have to be positive")
        for name, angles in (("ready", self.ready), ("teleoperation", self.teleoperation or self.ready)):
            if len(angles) != len(self.joints):
                raise ValueError(f"{name} has {len(angles)} angles for {len(self.joints)} joints")


USER_FOLDER_VARIABLE = "EGOHAND_ARMS"


def user_folder() -> Path:
    """Where `egohand arms add` saves: $EGOHAND_ARMS, otherwise ~/.config/egohand/arms."""
    return Path(os.environ.get(USER_FOLDER_VARIABLE) or Path.home() / ".config" / "egohand" / "arms")


def arm_files() -> dict[str, Path]:
    """Name -> config file of every known arm; the user's own come last and win."""
    folders = (config_folder() / "arms", user_folder())
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.yaml"))}


def list_arms() -> list[str]:
    """Names of all known arms."""
    return sorted(arm_files())


def find_arm(name_or_path: str | Path) -> tuple[ArmConfig, Path]:
    """The config of a known arm or of a .yaml file, and the path of its URDF; `UserError` lists the known ones."""
    path = Path(name_or_path).expanduser()
    if path.suffix not in (".yaml", ".yml"):
        path = arm_files().get(str(name_or_path), path)
    try:
        values = yaml.safe_load(path.read_text())
    except OSError:
        known = ", ".join(list_arms())
        raise UserError(f"arm {str(name_or_path)!r} is unknown; known arms: {known}, or give a .yaml file") from None
    except yaml.YAMLError as error:
        raise UserError(f"arm config {path} is not YAML: {' '.join(str(error).split())}") from None
    config = from_mapping(ArmConfig, values, f"{path.name} ")
    urdf = Path(config.urdf)
    urdf = urdf if urdf.is_absolute() else path.parent / urdf
    if not urdf.is_file():
        raise UserError(f"arm {config.name!r}: its URDF {urdf} is not there")
    return config, urdf


def check_installed() -> None:
    """Raises `UserError` where what moves an arm, an extra, is missing; imports nothing of it, which takes a second."""
    if any(importlib.util.find_spec(name) is None for name in _EXTRA):
        raise UserError(NEEDS)
