"""Forecasts and hands as messages that stock tools know (RViz, Foxglove, rqt, controllers).

Those of forecasts are built from `Futures`; every one takes the exact stamp of the last observation where it is at
hand.
"""

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Pose, PoseArray, PoseStamped, PoseWithCovarianceStamped, Transform, Vector3
from nav_msgs.msg import Path
from std_msgs.msg import ColorRGBA, Header
from trajectory_msgs.msg import MultiDOFJointTrajectory, MultiDOFJointTrajectoryPoint
from visualization_msgs.msg import Marker, MarkerArray

from ...hand.skeleton import BONES, SIDES, WRIST
from ...messages.basic import covariance_matrices, quaternions_or_zero, seconds
from ...messages.forecast import Futures, HandFuture, Waypoint
from ...messages.hands import EXTRAPOLATED, MEASURED, Hands
from ...msg import HandPose
from .basic import duration_msg, header_msg, pose_msg

# Radius of an ellipsoid that holds 95 % of a three-dimensional Gaussian, in standard deviations (chi-square, 3 d.o.f.).
ELLIPSOID_SIGMAS = 2.795
_COLORS = ((0.22, 0.55, 0.95), (0.98, 0.56, 0.18))  # left blue, right orange
_GOAL_COLORS = ((1.0, 0.86, 0.0), (0.0, 0.86, 0.47))  # object yellow, destination green
_TOUCH_COLOR = (0.9, 0.1, 0.1)
_PATH_WIDTH, _BONE_WIDTH, _GOAL_SIZE, _WAYPOINT_SIZE = 0.006, 0.004, 0.05, 0.025  # m
_LEAST_PROBABLE = 0.2  # a goal that is less so is not shown


def build_path_msg(futures: Futures, hand: HandFuture, stamp: Time | None = None) -> Path:
    """nav_msgs/Path of the wrist in the most probable future, each pose stamped with the time that it is for."""
    start = seconds(stamp) if stamp is not None else futures.stamp
    poses = [
        PoseStamped(header=header_msg(start + after, futures.frame_id), pose=pose)
        for after, pose in zip(futures.step_times.tolist(), _wrist_poses(hand))
    ]
    return Path(header=header_msg(futures.stamp if stamp is None else stamp, futures.frame_id), poses=poses)


def build_pose_array_msg(futures: Futures, hand: HandFuture, stamp: Time | None = None) -> PoseArray:
    """geometry_msgs/PoseArray of the wrist at every step of the most probable future."""
    header = header_msg(futures.stamp if stamp is None else stamp, futures.frame_id)
    return PoseArray(header=header, poses=_wrist_poses(hand))


def build_trajectory_msg(futures: Futures, hand: HandFuture, stamp: Time | None = None) -> MultiDOFJointTrajectory:
    """trajectory_msgs/MultiDOFJointTrajectory of the wrist; its one joint is left_wrist or right_wrist."""
    points = [
        MultiDOFJointTrajectoryPoint(
            transforms=[
                Transform(
                    translation=Vector3(x=pose.position.x, y=pose.position.y, z=pose.position.z),
                    rotation=pose.orientation,
                )
            ],
            time_from_start=duration_msg(after),
        )
        for after, pose in zip(futures.step_times.tolist(), _wrist_poses(hand))
    ]
    return MultiDOFJointTrajectory(
        header=header_msg(futures.stamp if stamp is None else stamp, futures.frame_id),
        joint_names=[f"{SIDES[hand.side]}_wrist"],
        points=points,
    )


def build_marker_array_msg(futures: Futures, lifetime: float, stamp: Time | None = None) -> MarkerArray:
    """visualization_msgs/MarkerArray; markers vanish `lifetime` s after they were last published.

    Namespaces, for each side: `left/paths` a fan of wrist paths, one for each hypothesis, more opaque the more
    probable; `left/hand` the bones at the last step of the most probable one; `left/covariance` an ellipsoid at each of
    its steps that holds 95 % of the wrist's positions. `goals`: 0 the object that the task names, 1 its destination,
    more opaque the surer they were found; only where the forecaster looks for them. `left/waypoints`: where the wrist
    is foreseen to be at a moment of its own, a small ball, redder the likelier a touch. Fingers that are held as they
    were seen last, because the forecaster gives none, are fainter.
    """
    header = header_msg(futures.stamp if stamp is None else stamp, futures.frame_id)
    markers: list[Marker] = []
    for hand in futures.hands:
        markers += _path_markers(hand, header, lifetime)
        markers.append(_hand_marker(hand, header, lifetime, 0.3 if futures.holds_fingers else 0.9))
        markers += _covariance_markers(hand, header, lifetime)
    markers += [_waypoint_marker(waypoint, i, header, lifetime) for i, waypoint in enumerate(futures.waypoints)]
    markers += [] if futures.goals is None else _goal_markers(futures.goals, header, lifetime)
    return MarkerArray(markers=markers)


def build_hand_markers_msg(hands: Hands, lifetime: float) -> MarkerArray:
    """visualization_msgs/MarkerArray of observed hands: bones in namespaces `left/now`, `right/now`; fainter where
    extrapolated."""
    header = header_msg(hands.stamp, hands.frame_id)
    alpha = {MEASURED: 1.0, EXTRAPOLATED: 0.4}
    seen = [side for side in range(2) if hands.state[side] in alpha]
    return MarkerArray(
        markers=[
            _bones_marker(
                hands.keypoints[side], header, f"{SIDES[side]}/now", lifetime, _color(side, alpha[hands.state[side]])
            )
            for side in seen
        ]
    )


def build_wrist_msg(hand: HandPose) -> PoseWithCovarianceStamped:
    """The wrist alone, as stock tools know it. An orientation of zeros says "unknown", as does a covariance whose first
    entry is -1.
    """
    message = PoseWithCovarianceStamped(header=hand.header)
    wrist = hand.keypoints[WRIST]
    message.pose.pose.position = Point(x=float(wrist.x), y=float(wrist.y), z=float(wrist.z))
    message.pose.pose.orientation = hand.wrist_orientation
    covariance = covariance_matrices(np.asarray(hand.wrist_covariance)).ravel()
    message.pose.covariance = covariance if np.isfinite(covariance).all() else np.eye(1, 36)[0] * -1.0
    return message


def _wrist_poses(hand: HandFuture) -> list[Pose]:
    quaternions = quaternions_or_zero(hand.wrist_rotation[0])
    return [pose_msg(position, q) for position, q in zip(hand.wrist[0], quaternions)]


def _marker(header: Header, kind: int, namespace: str, number: int, lifetime: float, color: ColorRGBA) -> Marker:
    marker = Marker(header=header, ns=namespace, id=number, type=kind, action=Marker.ADD, color=color)
    marker.lifetime = duration_msg(lifetime)
    marker.pose.orientation.w = 1.0
    return marker


def _color(side: int, alpha: float) -> ColorRGBA:
    red, green, blue = _COLORS[side]
    return ColorRGBA(r=red, g=green, b=blue, a=alpha)


def _path_markers(hand: HandFuture, header: Header, lifetime: float) -> list[Marker]:
    markers = []
    most = hand.probability.max()
    for k, probability in enumerate(hand.probability.tolist()):
        alpha = 0.25 + 0.75 * probability / most if most > 0 else 1.0
        marker = _marker(header, Marker.LINE_STRIP, f"{SIDES[hand.side]}/paths", k, lifetime, _color(hand.side, alpha))
        marker.scale.x = _PATH_WIDTH if k == 0 else _PATH_WIDTH / 2
        marker.points = [Point(x=x, y=y, z=z) for x, y, z in hand.wrist[k].tolist()]
        markers.append(marker)
    return markers


def _goal_markers(goals: np.ndarray, header: Header, lifetime: float) -> list[Marker]:
    markers = []
    for i in np.flatnonzero(goals[:, 3] > _LEAST_PROBABLE):
        red, green, blue = _GOAL_COLORS[i % len(_GOAL_COLORS)]
        color = ColorRGBA(r=red, g=green, b=blue, a=0.7 * float(goals[i, 3]))
        marker = _marker(header, Marker.SPHERE, "goals", int(i), lifetime, color)
        marker.pose = pose_msg(goals[i, :3], np.array([0.0, 0.0, 0.0, 1.0]))
        marker.scale = Vector3(x=_GOAL_SIZE, y=_GOAL_SIZE, z=_GOAL_SIZE)
        markers.append(marker)
    return markers


def _waypoint_marker(waypoint: Waypoint, number: int, header: Header, lifetime: float) -> Marker:
    side, touch = waypoint.side, np.nan_to_num(waypoint.contact)
    red, green, blue = (1.0 - touch) * np.array(_COLORS[side]) + touch * np.array(_TOUCH_COLOR)
    color = ColorRGBA(r=float(red), g=float(green), b=float(blue), a=0.8)
    marker = _marker(header, Marker.SPHERE, f"{SIDES[side]}/waypoints", number, lifetime, color)
    marker.pose = pose_msg(waypoint.position, np.array([0.0, 0.0, 0.0, 1.0]))
    marker.scale = Vector3(x=_WAYPOINT_SIZE, y=_WAYPOINT_SIZE, z=_WAYPOINT_SIZE)
    return marker


def _hand_marker(hand: HandFuture, header: Header, lifetime: float, alpha: float) -> Marker:
    name = f"{SIDES[hand.side]}/hand"
    return _bones_marker(hand.keypoints[0, -1], header, name, lifetime, _color(hand.side, alpha))


def _bones_marker(keypoints: np.ndarray, header: Header, namespace: str, lifetime: float, color: ColorRGBA) -> Marker:
    marker = _marker(header, Marker.LINE_LIST, namespace, 0, lifetime, color)
    marker.scale.x = _BONE_WIDTH
    known = [bone for bone in BONES if np.isfinite(keypoints[list(bone)]).all()]
    marker.points = [Point(x=x, y=y, z=z) for bone in known for x, y, z in keypoints[list(bone)].tolist()]
    return marker


def _covariance_markers(hand: HandFuture, header: Header, lifetime: float) -> list[Marker]:
    covariance = hand.wrist_covariance[0, :, :3, :3]
    markers = []
    for s in np.flatnonzero(np.isfinite(covariance).all((-1, -2))):
        variances, axes = np.linalg.eigh(covariance[s])
        axes[:, 0] *= np.sign(np.linalg.det(axes))
        marker = _marker(
            header, Marker.SPHERE, f"{SIDES[hand.side]}/covariance", int(s), lifetime, _color(hand.side, 0.15)
        )
        marker.pose = pose_msg(hand.wrist[0, s], quaternions_or_zero(axes))
        diameter = 2.0 * ELLIPSOID_SIGMAS * np.sqrt(np.maximum(variances, 1e-10))
        marker.scale = Vector3(**dict(zip("xyz", diameter.tolist())))
        markers.append(marker)
    return markers
