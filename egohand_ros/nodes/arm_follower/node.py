"""`arm_follower`: a person's wrist, as it will be when a command takes effect -> a robot arm whose tool goes that way.

    subscribes  hand_poses        HandPoseArray
                hand_forecasts    HandForecastArray, its most probable hypothesis
                camera_pose       geometry_msgs/PoseStamped in fixed_frame, where hands come in the camera's frame
                joint_states      sensor_msgs/JointState of the arm, and of the hand on it where it is there
    publishes   arm_commands      trajectory_msgs/JointTrajectory, for a joint_trajectory_controller
                arm_pose          geometry_msgs/PoseStamped, instead, with arm_output pose: the tool's, in base_frame
                arm_twist         geometry_msgs/TwistStamped, instead, with arm_output twist
                arm_targets       sensor_msgs/JointState, the first point of it, always stamped
                ~/debug/latency   Latency from an observation to the first command that it is in
    serves      ~/enable          std_srvs/SetBool

Following is relative, as with a clutch: it begins where the tool is, as soon as the hand is seen and the gate is open,
and begins anew when a hand that was lost is seen again. A hand that is lost stops the arm within its limits; every
trajectory ends at rest, so an arm whose commander dies stands. The gate starts closed (`start_enabled`). The fingers
are the `retargeter`'s. Nobody watches for people here: docs/teleoperation.md says what this does not protect from.
"""

from collections import OrderedDict

import numpy as np

from ...errors import RejectedInput
from ...geometry.transforms import make_transform
from ...hand.palm import palm_rotations
from ...hand.skeleton import SIDES, WRIST
from ...messages.forecast import Futures
from ...messages.hands import Hands
from ...messages.joints import JointSample
from ...robot.arm.model import ArmModel
from ...robot.arm.motion import ArmMotion
from ...robot.arm.teleoperation import ArmTeleoperation, Following
from ...robot.arm.wrist_path import WristPath, observed_wrist, wrist_path
from ...robot.hands.library import load_hand
from ...stream.sight import HandSight
from ..arm.commander import ArmCommander, Arrival
from ..base.diagnostics import WARN
from ..base.node import run_node
from ..base.transports import use_sockets_alone
from .parameters import FORECAST, ArmFollowerParameters

_POSES_KEPT = 64  # observations among which the one that a forecast begins with is found


class ArmFollowerNode(ArmCommander):
    Parameters = ArmFollowerParameters
    MAX_HYPOTHESES = 1

    def __init__(self, **kwargs):
        super().__init__("arm_follower", **kwargs)

    # ---------------------------------------------------------------- wiring

    def setup(self) -> None:
        p = self.parameters
        hand = load_hand(p.hand)
        self._side = SIDES.index(p.side or hand.side)
        forecasts = p.source == FORECAST
        arm = ArmModel.load(p.arm, hand)
        self.wire(arm, hand, forecasts=forecasts, still_camera=p.still_camera)

    def fresh(self) -> ArmMotion:
        p = self.parameters
        self._follower = ArmTeleoperation(self._arm, p.options(), 1.0 / p.rate, p.table_height)
        self._sight = HandSight(self._side)
        self._poses: OrderedDict[float, Hands] = OrderedDict()
        self._fingers: np.ndarray | None = None
        return self._follower.motion

    def forget(self) -> None:
        self._follower.forget()
        self._sight.forget()
        self._poses.clear()

    def use_parameters(self) -> None:
        self._follower.options = self.parameters.options()

    # ---------------------------------------------------------------- inputs

    def see(self, hands: Hands, arrival: Arrival) -> None:
        self._poses[hands.stamp] = hands
        while len(self._poses) > _POSES_KEPT:
            self._poses.popitem(last=False)
        if self.parameters.source == FORECAST:
            return
        if not self._sight.sees(hands, self.parameters.hold_after):
            self.health.count("hand_not_tracked")
            return
        path = observed_wrist(hands.stamp, self._wrist(hands))
        self._take(path, self._sight.confidence(hands), arrival)

    def foresee(self, futures: Futures, arrival: Arrival) -> None:
        future = futures.hand(self._side)
        if future is None:
            self.health.count("hand_not_forecast")
            return
        hands = self._observation(futures.stamp)
        if hands is not None and not self._sight.sees(hands, self.parameters.hold_after):
            self.health.count("hand_not_tracked")
            return
        begins = hands is not None and hands.stamp == futures.stamp
        path = wrist_path(
            futures.stamp,
            futures.step_times,
            future.keypoints[0, :, WRIST],
            self._turns(future.wrist_rotation[0], future.keypoints[0]),
            future.keypoint_std[0, :, WRIST],
            self._wrist(hands) if begins else None,
        )
        self._take(path, 1.0 if hands is None else self._sight.confidence(hands), arrival)

    def _take(self, path: WristPath, confidence: float, arrival: Arrival) -> None:
        jumps, stamp = self._follower.jumps, arrival[0]
        self._follower.seen(path, stamp, self.now(), confidence)
        if self._follower.jumps > jumps:
            self.health.count("jumps")
        self.health.count("targets")
        self._newest = arrival

    def _observation(self, stamp: float) -> Hands | None:
        """The newest observation that a forecast of this stamp can have used; None where there is none."""
        found = [known for known in self._poses if known <= stamp]
        recent = bool(found) and stamp - max(found) < self.parameters.hold_after
        return self._poses[max(found)] if recent else None

    def _wrist(self, hands: Hands) -> np.ndarray:
        """T_base_palm (4, 4) of the hand that is followed."""
        keypoints = hands.keypoints[self._side]
        rotation = self._turns(hands.wrist_rotation[self._side], keypoints)
        return make_transform(rotation, keypoints[WRIST])

    def _turns(self, rotation: np.ndarray, keypoints: np.ndarray) -> np.ndarray:
        """R_base_palm (..., 3, 3) as given, else by the palm's keypoints (..., 21, 3); what does not matter is none."""
        if not self.parameters.rotate:
            return np.broadcast_to(np.eye(3), rotation.shape).copy()
        known = np.isfinite(rotation).all((-1, -2))
        if not known.all():
            both = np.full((*keypoints.shape[:-2], 2, *keypoints.shape[-2:]), np.nan)
            both[..., self._side, :, :] = keypoints
            rotation = np.where(known[..., None, None], rotation, palm_rotations(both)[..., self._side, :, :])
        if not np.isfinite(rotation).all():
            raise RejectedInput("no_rotation", "it is not known how the hand is turned; rotate: false leaves that out")
        return rotation

    def hear(self, sample: JointSample) -> None:
        super().hear(sample)
        self._fingers = _joints_of(sample, self._hand.joint_names, self._fingers)

    # ---------------------------------------------------------------- control

    def begin(self, pose: np.ndarray) -> None:
        self._follower.start(pose)

    def step(self, now: float, stands: bool) -> None:
        self._follower.step(now, self._fingers, stands)

    # ---------------------------------------------------------------- diagnostics

    def update_health(self) -> None:
        if not self.is_active:
            return
        state = self._follower.state
        self.health.value("mode", state.value if self._enabled else "disabled")
        missing = self.tell_arm()
        waits = self._enabled and not missing and state is Following.WAITING
        self.health.condition("hand", waits, f"no {SIDES[self._side]} hand is seen: the arm stands", WARN)


def _joints_of(sample: JointSample, names: tuple[str, ...], before: np.ndarray | None) -> np.ndarray | None:
    """Angles (m,) rad of these joints where all of them are in the sample, else those of before."""
    place = {name: i for i, name in enumerate(sample.names)}
    return sample.q[[place[name] for name in names]] if all(name in place for name in names) else before


def main(args: list[str] | None = None) -> int:
    """Run the node until it is told to stop; the exit code."""
    return run_node(ArmFollowerNode, args, use_sockets_alone)


if __name__ == "__main__":
    raise SystemExit(main())
