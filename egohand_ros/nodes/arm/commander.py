"""`ArmCommander`: what every node has that commands an arm: hands and forecasts in the base's frame, joint states, the
gate `~/enable`, steady control steps, the stream of commands that they make, and their latency.
"""

import threading
import time
from typing import TypeAlias

from geometry_msgs.msg import PoseStamped
from rclpy.publisher import Publisher
from sensor_msgs.msg import JointState
from std_srvs.srv import SetBool

from ...handover.frames import futures_in, hands_in
from ...messages.hands import parse_hand_pose_array_msg
from ...messages.joints import JointSample, parse_joint_sample_msg
from ...msg import HandForecastArray, HandPoseArray
from ...robot.arm.model import ArmModel
from ...robot.hands.model import HandModel
from ...stream.stamps import StampGuard, StampLimits
from ..base import qos
from ..base.diagnostics import WARN
from ..base.node import EgoHandNode
from ..base.steady_thread import Beat
from ..latency import LatencyOutput
from ..messages.forecast import deserialize_futures
from .frames import Frames
from .parameters import ArmParameters
from .robot_input import RobotInput
from .stream import ArmStream

Arrival: TypeAlias = tuple[float, float, float]  # s: stamp, when it was received, and that by time.perf_counter()


class ArmCommander(EgoHandNode):
    """A node whose parameters are `ArmParameters`, whose `setup` calls `wire`, and that has these, all of them called
    under `_lock`, since control has a thread of its own unless time is simulated:

        fresh() -> ArmMotion        nothing was seen or is known of the arm; the motion whose commands are to go out
        forget()                    what was seen is of no use: time began again
        use_parameters()            `self.parameters` have changed
        see(hands, arrival)         an observation in the base's frame; may raise `RejectedInput`
        foresee(futures, arrival)   a forecast, in the same way
        begin(pose)                 commands begin, or would with an open gate, where the arm is, (n,) rad
        step(now, stands)           one control step of the motion, which has to come to a stop where it `stands`

    What arrives and is in the next command goes into `_newest`, so that its latency is told.
    """

    MAX_HYPOTHESES: int | None = None  # of each hand's forecast that are looked at; None: all
    ARRIVAL_TO_COMMAND = ""  # what that latency is called where it is told beside the others

    def __init__(self, name: str, **kwargs):
        super().__init__(name, **kwargs)
        self._lock = threading.RLock()
        self._beat: Beat | None = None
        self._frames: Frames | None = None
        self._joints: RobotInput | None = None

    def wire(
        self, arm: ArmModel, hand: HandModel, *beside: Publisher, forecasts: bool = True, still_camera: str = ""
    ) -> None:
        """All inputs and outputs of an arm with a hand on it, and the beat. `beside`: commands of that hand, which has
        to be heard then as the arm has."""
        p: ArmParameters = self.parameters
        self._arm, self._hand, self._waited_for = arm, hand, hand.joint_names if beside else ()
        self._frames = Frames(self, still_camera)
        self._stamp_guards = {name: StampGuard(_limits(p)) for name in ("hand_poses", "hand_forecasts")}
        self._stream = ArmStream(self, arm, *beside)
        self._latency = LatencyOutput(self)
        self.subscribe(PoseStamped, "camera_pose", self._frames.on_camera_pose)
        self.subscribe(HandPoseArray, "hand_poses", self._on_poses, qos.SENSOR)
        if forecasts:
            self.subscribe(HandForecastArray, "hand_forecasts", self._on_forecasts, qos.SENSOR, raw=True)
        heard = lambda message: self.hear(parse_joint_sample_msg(message))  # noqa: E731
        self._polls = [self.subscribe_polled(JointState, "joint_states", heard)]
        service = self.create_service(SetBool, "~/enable", self._on_enable)
        self._owned.append((self.destroy_service, service))
        self._begin_anew()
        period, on_error = 1.0 / p.rate, lambda error: self._report("beat", error)
        simulated = self.get_parameter("use_sim_time").value
        self._beat = None if simulated else Beat(period, self._control, on_error, p.realtime_priority)
        if self._beat is None:
            self.make_timer(period, self._control)

    # ---------------------------------------------------------------- for subclasses to use, or to add to

    def hear(self, sample: JointSample) -> None:
        """Joints of the robot."""
        self._joints.hear(sample, time.monotonic())

    def sent(self, now: float) -> None:
        """The arm's command of this step went out."""
        self.health.count("commands")

    def in_doubt(self, now: float) -> None:
        """In place of a step, while it is not known where the robot is."""

    def close_gate(self, reason: str) -> None:
        """The arm stops within its limits, and gets no more commands."""
        self._stream.brake()
        self._enabled = False

    def tell_arm(self) -> str:
        """Into diagnostics; which part of the robot is not heard of, "" for none."""
        self.health.value("programme without a solution", self._motion.failures)
        if self._beat is not None:
            self.health.value("real-time priority", self._beat.allowed)
            self.health.value("missed periods", self._beat.missed)
        missing = self._joints.missing(time.monotonic())
        self.health.condition("robot", bool(missing), f"nothing comes on joint_states from the {missing}", WARN)
        return missing

    # ---------------------------------------------------------------- lifecycle

    def start(self) -> None:
        for poll in self._polls:
            poll()  # what came before is of no use
        with self._lock:
            self._begin_anew()
            self._enabled = self.parameters.start_enabled
        self.health.value("robot", f"{self._arm.config.name} with {self._hand.name}")
        if self._beat is not None:
            self._beat.start()

    def stop(self) -> None:
        """A trajectory that stops at once; the arm then stands."""
        if self._beat is not None:
            self._beat.stop()
        with self._lock:
            self.close_gate("the node was deactivated")

    def release(self) -> None:
        if self._frames is not None:
            self._frames.close()

    def reset(self) -> None:
        if self._joints is None:
            return
        with self._lock:
            self.forget()
            self._joints.forget()
            self._frames.forget()
            self._stream.interrupt()
            for guard in self._stamp_guards.values():
                guard.reset()

    def parameters_changed(self, old: ArmParameters, new: ArmParameters) -> None:
        if self._joints is None:
            return
        with self._lock:
            self.use_parameters()
            for guard in self._stamp_guards.values():
                guard.limits = _limits(new)
            self._joints.silence = self._joints.watch.silence = new.joint_states_silence
            self._joints.error = new.following_error

    def _begin_anew(self) -> None:
        p = self.parameters
        self._motion = self.fresh()
        arm, bounds = self._arm, (p.joint_states_silence, p.following_error)
        self._joints = RobotInput(arm.config.joints, self._waited_for, arm.velocity_limit, *bounds)
        self._stream.fresh(self._motion, self._joints)
        self._newest: Arrival | None = None

    # ---------------------------------------------------------------- inputs, control, gate

    def _on_poses(self, message: HandPoseArray) -> None:
        with self._lock:
            received, begun = self.now(), time.perf_counter()
            hands = parse_hand_pose_array_msg(message)
            if self._stamp_guards["hand_poses"].check(hands.stamp, self.now_of_stamps()):
                self.forget()
            transform = self._frames.base_from(hands.frame_id, hands.stamp)
            self.see(hands_in(self.parameters.base_frame, transform, hands), (hands.stamp, received, begun))

    def _on_forecasts(self, serialized: bytes) -> None:
        with self._lock:
            received, begun = self.now(), time.perf_counter()
            futures = deserialize_futures(serialized, self.MAX_HYPOTHESES)
            self._stamp_guards["hand_forecasts"].check(futures.stamp, received)
            transform = self._frames.base_from(futures.frame_id, futures.stamp)
            self.foresee(futures_in(self.parameters.base_frame, transform, futures), (futures.stamp, received, begun))

    def _control(self) -> None:
        """One control step, and what it commands."""
        with self._lock:
            if not self.is_active:
                return
            for poll in self._polls:
                poll()
            now, steady, begun = self.now(), time.monotonic(), time.perf_counter()
            if not self._stream.begins(now, steady, self._enabled, self.begin):
                return self.in_doubt(now)
            self._stream.catch_up(now)
            stands = self._stream.stands(steady, self._beat is None)
            self.step(now, stands)
            stepped = time.perf_counter()
            if self._stream.stepped(now, steady, stands):
                self.sent(now)
            self._note_latency(begun, stepped)

    def _note_latency(self, begun: float, stepped: float) -> None:
        if self._newest is None:
            return
        (stamp, received, arrived), self._newest = self._newest, None
        end = time.perf_counter()
        stages = {"input_age": received - stamp, "wait": begun - arrived}
        stages |= {"control": stepped - begun, "publish": end - stepped}
        if self.ARRIVAL_TO_COMMAND:
            stages[self.ARRIVAL_TO_COMMAND] = end - arrived
        stages["total"] = stages["input_age"] + end - arrived
        self._latency.note(stamp, stages)

    def _on_enable(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        with self._lock:
            response.success, response.message = False, "the node is not active"
            if self.is_active:
                if self._enabled and not request.data:
                    self.close_gate("disabled")
                self._enabled, response.success = request.data, True
                response.message = "enabled" if self._enabled else "disabled: the arm stops"
        return response


def _limits(parameters: ArmParameters) -> StampLimits:
    return StampLimits(max_age=parameters.max_age, max_future=parameters.max_future)
