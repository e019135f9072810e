"""A `NodePlan` as actions of a launch file. launch_ros, which is not on PyPI, is imported where it is used."""

import os
import signal
from typing import Any

from ..start_up import FOLLOWED
from .plan import Argument, NodePlan, likely_misspelt

RESPAWN_DELAY = 1.0  # s
USER_ERROR = 2  # exit code of a node that says what the user can mend


def node_actions(plan: NodePlan) -> list[Any]:
    """Start a node's process, and again where it dies; one that refuses its parameters ends the launch. The recorder
    gets time to close its bag."""
    from launch.actions import EmitEvent, LogInfo, RegisterEventHandler, TimerAction
    from launch.event_handlers import OnProcessExit
    from launch.events import Shutdown
    from launch_ros.actions import Node

    process = Node(
        package="egohand_ros",
        executable=plan.name,
        name=plan.name,
        namespace=plan.namespace or None,
        parameters=[*map(str, plan.parameter_files), *([plan.parameters] if plan.parameters else [])],
        remappings=list(plan.remappings),
        ros_arguments=["--log-level", plan.log_level],
        additional_env={FOLLOWED: str(os.getpid())},
        output="screen",
        emulate_tty=True,
        sigterm_timeout="15",
    )

    def ended(event: Any, context: Any) -> list[Any]:
        if context.is_shutdown:
            return []
        if event.returncode == USER_ERROR:
            reason = f"{plan.name} cannot run as it was asked to; see its error above"
            return [LogInfo(msg=reason), EmitEvent(event=Shutdown(reason=reason))]
        if event.returncode in (0, -signal.SIGTERM):  # it was asked to end
            return []
        return [TimerAction(period=RESPAWN_DELAY, actions=node_actions(plan))]

    return [RegisterEventHandler(OnProcessExit(target_action=process, on_exit=ended)), process]


def misspelt(arguments: tuple[Argument, ...], context: Any) -> list[Any]:
    """A warning for each argument that was likely meant to be one of the table's."""
    from launch.actions import LogInfo

    return [LogInfo(msg=f"warning: {line}") for line in likely_misspelt(arguments, context.launch_configurations)]


def declared(arguments: tuple[Argument, ...]) -> list[Any]:
    """Launch arguments as the table has them."""
    from launch.actions import DeclareLaunchArgument

    return [
        DeclareLaunchArgument(
            argument.name,
            default_value=argument.default,
            description=argument.help,
            choices=list(argument.spellings) or None,
        )
        for argument in arguments
    ]
