"""HandoverState and an arm's trajectory, from a plan and an outlook."""

import numpy as np
from geometry_msgs.msg import Pose, PoseStamped, PoseWithCovariance, TwistStamped, Vector3
from std_msgs.msg import Header
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from ...handover.controller import Plan
from ...handover.options import HandoverOptions
from ...handover.separation import required_separation
from ...messages.basic import quaternions_or_zero
from ...msg import HandoverState
from ...robot.arm.motion import Outlook
from .basic import duration_msg, header_msg, pose_msg

_FEWEST_POINTS = 5


def build_handover_state_msg(plan: Plan, header: Header, stamp: float, options: HandoverOptions, tool_speed: float):
    """HandoverState of a plan; `stamp` s is the header's; `tool_speed` m/s of the robot now."""
    transfer, forecast = plan.transfer, plan.forecast
    times, pose = np.full(3, np.inf), _unknown_pose()
    if transfer is not None:
        times, pose = transfer.time + transfer.stamp - stamp, _transfer_pose(transfer)
    p10, p50, p90 = (float(t) if np.isfinite(t) else -1.0 for t in np.where(times > 0.0, times, 0.0))
    return HandoverState(
        header=header,
        direction=plan.direction,
        probability=plan.probability.astype(np.float32),
        side=HandoverState.NO_HAND if plan.side is None else plan.side,
        phase=int(plan.phase),
        reason=plan.reason,
        transfer_pose=pose,
        time_to_contact_p10=p10,
        time_to_contact_p50=p50,
        time_to_contact_p90=p90,
        settled=plan.settled,
        distance=_or_unknown(plan.distance),
        predicted_distance=_or_unknown(forecast.distance),
        predicted_distance_time=max(forecast.time, 0.0) if np.isfinite(forecast.time) else 0.0,
        required_separation=float(required_separation(tool_speed, options.separation)),
        speed_scale=float(np.clip(plan.speed / options.speed, 0.0, 1.0)),
    )


def build_arm_trajectory_msg(names: tuple[str, ...], outlook: Outlook, spacing: float) -> JointTrajectory:
    """JointTrajectory of an outlook whose state is that of one of its periods from now: points `spacing` s apart, the
    last at rest.

    Its stamp is zero, "from now on", so that a controller goes on from where it commands the arm to be."""
    lead = outlook.period
    count = max(_FEWEST_POINTS, int(np.ceil((outlook.duration + lead) / spacing - 1e-9)))
    points = []
    for k in range(1, count + 1):
        q, qd, _ = outlook.at(k * spacing - lead)
        if k == count:
            q, qd = outlook.q[-1], np.zeros(len(q))
        points.append(
            JointTrajectoryPoint(
                positions=q.tolist(), velocities=qd.tolist(), time_from_start=duration_msg(k * spacing)
            )
        )
    return JointTrajectory(header=header_msg(0.0, ""), joint_names=list(names), points=points)


def build_tool_pose_msg(tool: np.ndarray, header: Header) -> PoseStamped:
    """PoseStamped of T_base_tool (4, 4)."""
    quaternion = quaternions_or_zero(tool[None, :3, :3])[0]
    return PoseStamped(header=header, pose=pose_msg(tool[:3, 3], quaternion))


def build_twist_msg(linear: np.ndarray, angular: np.ndarray, header: Header) -> TwistStamped:
    """TwistStamped of speeds (3,) m/s and (3,) rad/s in the header's frame."""
    message = TwistStamped(header=header)
    message.twist.linear = Vector3(**dict(zip("xyz", linear.tolist())))
    message.twist.angular = Vector3(**dict(zip("xyz", angular.tolist())))
    return message


def _transfer_pose(transfer) -> PoseWithCovariance:
    covariance = np.zeros((6, 6))
    covariance[:3, :3] = transfer.covariance
    quaternion = quaternions_or_zero(transfer.rotation[None])[0]
    return PoseWithCovariance(pose=pose_msg(transfer.position, quaternion), covariance=covariance.ravel())


def _unknown_pose() -> PoseWithCovariance:
    message = PoseWithCovariance(pose=Pose())
    message.pose.orientation.w = 0.0
    message.covariance[0] = -1.0
    return message


def _or_unknown(distance: float) -> float:
    return float(distance) if np.isfinite(distance) else -1.0
