"""Whether the robot hand, the arm, the forecaster and the extras that nodes are to run with are there. Needs no ROS."""

import importlib.util

from ...errors import UserError
from ...forecast.registry import check_forecaster
from ...robot.arm import config as arms
from ...robot.hands.catalog import config_path
from ...viewer.server import check_installed
from .plan import NodePlan

_MOVE_AN_ARM = ("arm_follower", "handover")


def check_names(plans: list[NodePlan]) -> None:
    """Refuse robot hands, arms and forecasters that there are not, and nodes whose extra is missing. Raises `UserError`
    that lists those there are, or names the extra.

    Only by their names and files, in hundredths of a second; the nodes look into what these hold.
    """
    for plan in plans:
        if plan.parameters.get("hand") and not config_path(plan.parameters["hand"]).is_file():
            raise UserError(f"hand {plan.parameters['hand']!r}: there is no such file")
        if plan.parameters.get("arm"):
            arms.find_arm(plan.parameters["arm"])
        if plan.name in _MOVE_AN_ARM:
            arms.check_installed()
        if plan.name == "viewer":
            check_installed()
        if plan.name == "foxglove":
            check_foxglove()
        if "forecaster" in plan.parameters:
            check_forecaster(plan.parameters["forecaster"])


def check_foxglove() -> None:
    """Raises `UserError` where foxglove-sdk, an extra, is missing."""
    if importlib.util.find_spec("foxglove") is None:
        raise UserError("Foxglove needs foxglove-sdk, which is not installed: pip install 'egohand_ros[foxglove]'")
