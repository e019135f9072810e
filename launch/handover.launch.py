"""Hand objects over between a person and a robot arm with a dexterous hand: in simulation, or with real ones.

    ros2 launch egohand_ros handover.launch.py
    ros2 launch egohand_ros handover.launch.py sim:=false tracker:=external use_robot_topics:=true
    ros2 launch egohand_ros handover.launch.py --show-args

What runs for which argument is the table in egohand_ros/nodes/session/handover_plan.py. A real arm does not move before
its gate is opened; docs/handover.md says what comes first.
"""

from launch.actions import LogInfo, OpaqueFunction
from launch.substitutions import LaunchConfiguration

from egohand_ros.errors import UserError
from egohand_ros.nodes.session.handover_plan import HANDOVER_ARGUMENTS, plan_handover
from egohand_ros.nodes.session.launching import declared, misspelt, node_actions
from egohand_ros.nodes.session.names import check_names
from launch import LaunchContext, LaunchDescription, LaunchDescriptionEntity

ENABLE_HINT = (
    "The arm does not move yet. To let it: ros2 service call {name}/enable std_srvs/srv/SetBool '{{data: true}}'"
)


def generate_launch_description() -> LaunchDescription:
    """Declare every argument of the table, then start what they ask for."""
    return LaunchDescription([*declared(HANDOVER_ARGUMENTS), OpaqueFunction(function=start)])


def start(context: LaunchContext) -> list[LaunchDescriptionEntity]:
    """The nodes, once the values of the arguments are known."""
    given = {a.name: LaunchConfiguration(a.name).perform(context) for a in HANDOVER_ARGUMENTS}
    try:
        plans = plan_handover(given)
        check_names(plans)
    except UserError as error:
        raise RuntimeError(str(error)) from None
    actions = misspelt(HANDOVER_ARGUMENTS, context) + [action for plan in plans for action in node_actions(plan)]
    if not any(plan.parameters.get("start_enabled") for plan in plans):
        name = "/".join(["", *filter(None, [given["namespace"].strip("/")]), "handover"])
        actions.append(LogInfo(msg=ENABLE_HINT.format(name=name)))
    return actions
