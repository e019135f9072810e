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

import threading
import time
from collections import OrderedDict

import numpy as np
from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import JointState
from std_srvs.srv import SetBool

from ...errors import RejectedInput
from ...geometry.transforms import make_transform
from ...hand.palm import palm_rotations
from ...hand.skeleton import SIDES, WRIST
from ...handover.frames import futures_in, hands_in
from ...messages.hands import Hands, parse_hand_pose_array_msg
from ...messages.joints import JointSample, parse_joint_sample_msg
from ...msg import HandForecastArray, HandPoseArray
from ...robot.arm.model import ArmModel
from ...robot.arm.teleoperation import ArmTeleoperation, Following
from ...robot.arm.wrist_path import WristPath, observed_wrist, wrist_path
from ...robot.hands.library import load_hand
from ...stream.sight import HandSight
from ...stream.stamps import StampGuard, StampLimits
from ..arm.frames import Frames
from ..arm.robot_input import RobotInput
from ..arm.stream import ArmStream
from ..base import qos
from ..base.diagnostics import WARN
from ..base.node import EgoHandNode, run_node
from ..base.realtime import how_to_allow
from ..base.steady_thread import Beat
from ..base.transports import use_sockets_alone
from ..latency import LatencyOutput
from ..messages.forecast import deserialize_futures
from .parameters import FORECAST, ArmFollowerParameters

_POSES_KEPT = 64  # observations among which the one that a forecast begins with is found


class ArmFollowerNode(EgoHandNode):
    Parameters = ArmFollowerParameters

    def __init__(self, **kwargs):
        super().__init__("arm_follower", **kwargs)
        self._frames: Frames | None = None

    # ---------------------------------------------------------------- wiring

    def setup(self) -> None:
        p = self.parameters
        self._hand = load_hand(p.hand)
        self._arm = ArmModel.load(p.arm, self._hand)
        self._side = SIDES.index(p.side or self._hand.side)
        self._sight = HandSight(self._side)
        self._frames = Frames(self, p.still_camera)
        limits = StampLimits(max_age=p.max_age, max_future=p.max_future)
        self._stamp_guards = {name: StampGuard(limits) for name in ("hand_poses", "hand_forecasts")}
        self._stream = ArmStream(self, self._arm)
        self._latency = LatencyOutput(self)
        self._lock = getattr(self, "_lock", None) or threading.RLock()
        self.subscribe(PoseStamped, "camera_pose", self._locked(self._frames.on_camera_pose))
        self.subscribe(HandPoseArray, "hand_poses", self._locked(self._on_poses), qos.SENSOR)
        if p.source == FORECAST:
            self.subscribe(HandForecastArray, "hand_forecasts", self._locked(self._on_forecasts), qos.SENSOR, raw=True)
        self._poll_joints = self.subscribe_polled(JointState, "joint_states", self._on_joint_states)
        service = self.create_service(SetBool, "~/enable", self._on_enable)
        self._owned.append((self.destroy_service, service))
        self._fresh()
        period, on_error = 1.0 / p.rate, lambda error: self._report("beat", error)
        self._beat = None if self._simulated_time() else Beat(period, self._on_beat, on_error, p.realtime_priority)
        if self._beat is None:
            self.make_timer(period, self._control)

    def _fresh(self) -> None:
        """As if nothing had been seen, and nothing were known of the arm."""
        p, arm = self.parameters, self._arm
        self._follower = ArmTeleoperation(arm, p.options(), 1.0 / p.rate, p.table_height)
        self._joints = RobotInput(arm.config.joints, (), arm.velocity_limit, p.joint_states_silence, p.following_error)
        self._stream.fresh(self._follower.motion, self._joints)
        self._poses: OrderedDict[float, Hands] = OrderedDict()
        self._fingers: np.ndarray | None = None
        self._new: tuple[float, float, float] | None = None  # stamp, received, when it was taken in

    def start(self) -> None:
        self._poll_joints()  # what came before is of no use
        with self._lock:
            self._fresh()
            self._sight.forget()
            self._enabled = self.parameters.start_enabled
        self.health.value("robot", f"{self._arm.config.name} with {self._hand.name}")
        if self._beat is not None:
            self._beat.start()

    def stop(self) -> None:
        """A trajectory that stops at once; the arm then stands."""
        if self._beat is not None:
            self._beat.stop()
        with self._lock:
            self._stream.brake()
            self._enabled = False

    def release(self) -> None:
        beat = getattr(self, "_beat", None)
        if beat is not None:
            beat.stop()
        if self._frames is not None:
            self._frames.close()

    def reset(self) -> None:
        with self._lock:
            self._follower.forget()
            self._joints.forget()
            self._frames.forget()
            self._stream.interrupt()
            self._sight.forget()
            self._poses.clear()
            for guard in self._stamp_guards.values():
                guard.reset()

    def parameters_changed(self, old: ArmFollowerParameters, new: ArmFollowerParameters) -> None:
        if self._frames is None:
            return
        with self._lock:
            self._follower.options = new.options()
            self._joints.silence = self._joints.watch.silence = new.joint_states_silence
            self._joints.error = new.following_error

    def _locked(self, function):
        def call(message):
            with self._lock:
                function(message)

        return call

    def _simulated_time(self) -> bool:
        return bool(self.get_parameter("use_sim_time").value)

    # ---------------------------------------------------------------- inputs

    def _on_poses(self, message: HandPoseArray) -> None:
        received, begin = self.now(), time.perf_counter()
        hands = parse_hand_pose_array_msg(message)
        if self._stamp_guards["hand_poses"].check(hands.stamp, self.now_of_stamps()):
            self._follower.forget()
            self._poses.clear()
        transform = self._frames.base_from(hands.frame_id, hands.stamp)
        hands = hands_in(self.parameters.base_frame, transform, hands)
        self._poses[hands.stamp] = hands
        while len(self._poses) > _POSES_KEPT:
            self._poses.popitem(last=False)
        if self.parameters.source == FORECAST:
            return
        if not self._sight.sees(hands, self.parameters.hold_after):
            self.health.count("hand_not_tracked")
            return
        path = observed_wrist(hands.stamp, self._wrist(hands))
        self._take(path, hands.stamp, self._sight.confidence(hands), received, begin)

    def _on_forecasts(self, serialized: bytes) -> None:
        received, begin = self.now(), time.perf_counter()
        futures = deserialize_futures(serialized, max_hypotheses=1)
        self._stamp_guards["hand_forecasts"].check(futures.stamp, received)
        transform = self._frames.base_from(futures.frame_id, futures.stamp)
        future = futures_in(self.parameters.base_frame, transform, futures).hand(self._side)
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
        confidence = 1.0 if hands is None else self._sight.confidence(hands)
        self._take(path, futures.stamp, confidence, received, begin)

    def _take(self, path: WristPath, stamp: float, confidence: float, received: float, begin: float) -> None:
        jumps = self._follower.jumps
        self._follower.seen(path, stamp, self.now(), confidence)
        if self._follower.jumps > jumps:
            self.health.count("jumps")
        self.health.count("targets")
        self._new = stamp, received, begin

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

    def _on_joint_states(self, message: JointState) -> None:
        sample = parse_joint_sample_msg(message)
        self._joints.hear(sample, time.monotonic())
        self._fingers = _joints_of(sample, self._hand.joint_names, self._fingers)

    # ---------------------------------------------------------------- control

    def _on_beat(self) -> None:
        if self.is_active:
            self._control()

    def _control(self) -> None:
        """One control step, and what it commands."""
        with self._lock:
            self._poll_joints()
            now, steady, begin = self.now(), time.monotonic(), time.perf_counter()
            if not self._stream.begins(now, steady, self._enabled, self._follower.start):
                return
            self._stream.catch_up(now)
            stands = self._stream.stands(steady, self._simulated_time())
            self._follower.step(now, self._fingers, stands)
            stepped = time.perf_counter()
            if self._stream.stepped(now, steady, stands):
                self.health.count("commands")
            self._note_latency(begin, stepped)

    def _note_latency(self, begin: float, stepped: float) -> None:
        if self._new is None:
            return
        (stamp, received, taken_in), self._new = self._new, None
        end = time.perf_counter()
        stages = {
            "input_age": received - stamp,
            "wait": begin - taken_in,
            "control": stepped - begin,
            "publish": end - stepped,
        }
        stages["total"] = stages["input_age"] + end - taken_in
        self._latency.note(stamp, stages)

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        with self._lock:
            if not self.is_active:
                response.success, response.message = False, "the node is not active"
                return response
            response.success = True
            if not request.data:
                self._stream.brake()
            self._enabled = request.data
            response.message = "enabled" if self._enabled else "disabled: the arm stops"
        return response

    # ---------------------------------------------------------------- diagnostics

    def update_health(self) -> None:
        if not self.is_active:
            return
        state = self._follower.state
        self.health.value("mode", state.value if self._enabled else "disabled")
        self.health.value("programme without a solution", self._follower.motion.failures)
        if self._beat is not None:
            wanted = self.parameters.realtime_priority
            allowed = "yes" if self._beat.realtime else f"no: {how_to_allow(wanted)}" if wanted else "off"
            self.health.value("real-time priority", allowed)
            self.health.value("missed periods", self._beat.missed)
        missing = self._joints.missing(time.monotonic())
        self.health.condition("robot", bool(missing), f"nothing comes on joint_states from the {missing}", WARN)
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
