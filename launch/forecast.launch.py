"""Forecast hands from a camera or a tracker, and drive a robot hand with the forecast.

    ros2 launch egohand_ros forecast.launch.py image_topic:=/camera/image_raw camera_info_topic:=/camera/camera_info
    ros2 launch egohand_ros forecast.launch.py tracker:=external hand_poses_topic:=/my_tracker/hands sim:=true
    ros2 launch egohand_ros forecast.launch.py tracker:=external hand:=none
    ros2 launch egohand_ros forecast.launch.py viewer:=web
    ros2 launch egohand_ros forecast.launch.py --show-args

What runs for which argument is the table in egohand_ros/nodes/session/plan.py, which `egohand run` uses too. A node
that dies is started again; one that refuses its parameters ends the launch, as it would refuse them again. Nodes end in
order when this launch is interrupted, terminated or killed.
"""

from launch.actions import LogInfo, OpaqueFunction
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from egohand_ros.errors import UserError
from egohand_ros.nodes.session.launching import declared, misspelt, node_actions
from egohand_ros.nodes.session.names import check_names
from egohand_ros.nodes.session.plan import ARGUMENTS, config_file, plan_nodes, resolve_arguments
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity

ENABLE_HINT = (
    "The robot does not move yet. To let it: ros2 service call {node}/enable std_srvs/srv/SetBool '{{data: true}}'"
)


def generate_launch_description() -> LaunchDescription:
    """Declare every argument of the table, then start what they ask for."""
    return LaunchDescription([*declared(ARGUMENTS), OpaqueFunction(function=start)])


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The nodes, once the values of the arguments are known."""
    try:
        given = resolve_arguments(
            {argument.name: LaunchConfiguration(argument.name).perform(context) for argument in ARGUMENTS}
        )
        plans = plan_nodes(given)
        check_names(plans)
    except UserError as error:
        raise RuntimeError(str(error)) from None
    entities = misspelt(ARGUMENTS, context) + [entity for plan in plans for entity in node_actions(plan)]
    for plan in plans:
        if plan.name in ("retargeter", "arm_follower"):
            name = "/".join(["", *filter(None, [given["namespace"].strip("/")]), plan.name])
            entities.append(LogInfo(msg=ENABLE_HINT.format(node=name)))
    if given["viewer"] == "true":
        entities.append(viewer(given["namespace"], given["use_sim_time"] == "true", given["fixed_frame"]))
    return entities


def viewer(namespace: str, use_sim_time: bool, fixed_frame: str) -> Node:
    """RViz with the shipped layout, whose topics are relative, in the layout's frame or another one."""
    return Node(
        package="rviz2",
        executable="rviz2",
        name="egohand_viewer",
        namespace=namespace or None,
        arguments=["-d", str(config_file("rviz/egohand.rviz")), *(["-f", fixed_frame] if fixed_frame else [])],
        parameters=[{"use_sim_time": use_sim_time}],
        output="log",
    )
