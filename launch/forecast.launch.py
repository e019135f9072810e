"""Forecast hands from a camera or a tracker, and drive a robot hand with the forecast.

    ros2 launch egohand_ros forecast.launch.py image_topic:=/camera/image_raw camera_info_topic:=/camera/camera_info
    ros2 launch egohand_ros forecast.launch.py tracker:=external hand_poses_topic:=/my_tracker/hands sim:=true
    viewer:=true ros2 launch egohand_ros forecast.launch.py --show-args

What runs for which argument is the table in egohand_ros/nodes/session/plan.py, which `egohand run` uses too.
"""

from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from egohand_ros.nodes.session.plan import ARGUMENTS, NodePlan, config_file, plan_nodes
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity

ENABLE_HINT = (
    "The robot does not move yet. To let it: ros2 service call {node}/enable std_srvs/srv/SetBool '{{data: true}}'"
)


def generate_launch_description() -> LaunchDescription:
    """Declare every argument of the table, then start what they ask for."""
    arguments = [
        DeclareLaunchArgument(
            argument.name,
            default_value=argument.default,
            description=argument.help,
            choices=list(argument.choices) or None,
        )
        for argument in ARGUMENTS
    ]
    return LaunchDescription([*arguments, OpaqueFunction(function=start)])


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The nodes, once the values of the arguments are known."""
    given = {argument.name: LaunchConfiguration(argument.name).perform(context) for argument in ARGUMENTS}
    plans = plan_nodes(given)
    entities: list[LaunchDescriptionEntity] = [node(plan) for plan in plans]
    if any(plan.name == "retargeter" for plan in plans):
        name = "/".join(["", *filter(None, [given["namespace"].strip("/")]), "retargeter"])
        entities.append(LogInfo(msg=ENABLE_HINT.format(node=name)))
    if given["viewer"] == "true":
        entities.append(viewer(given["namespace"], given["use_sim_time"] == "true"))
    return entities


def node(plan: NodePlan) -> Node:
    """A plan as a launch action. The recorder gets time to close its bag; a node that dies is started again."""
    return Node(
        package="egohand_ros",
        executable=plan.name,
        name=plan.name,
        namespace=plan.namespace or None,
        parameters=[*map(str, plan.parameter_files), *([plan.parameters] if plan.parameters else [])],
        remappings=list(plan.remappings),
        ros_arguments=["--log-level", plan.log_level],
        output="screen",
        emulate_tty=True,
        respawn=True,
        respawn_delay=1.0,
        sigterm_timeout="15",
    )


def viewer(namespace: str, use_sim_time: bool) -> Node:
    """RViz with the shipped layout, whose topics are relative."""
    return Node(
        package="rviz2",
        executable="rviz2",
        name="egohand_viewer",
        namespace=namespace or None,
        arguments=["-d", str(config_file("rviz/egohand.rviz"))],
        parameters=[{"use_sim_time": use_sim_time}],
        output="log",
    )
