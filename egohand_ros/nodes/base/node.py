"""`EgoHandNode`: the lifecycle node that every node here is, so that none repeats start-up, shutdown or bookkeeping.

A node is made like this (one file, one node; everything that is not wiring lives below `nodes/`):

    @dataclass(frozen=True)
    class EchoParameters(BaseParameters):
        gain: float = parameter(1.0, "Factor on every input.", range=(0.0, 10.0))

    class EchoNode(EgoHandNode):
        Parameters = EchoParameters

        def __init__(self, **kwargs):
            super().__init__("echo", **kwargs)

        def setup(self):             # configure: load, warm up, make publishers and subscriptions; UserError fails it
            self.output = self.advertise(Float64, "output")
            self.worker = self.make_worker(self.process, self.output.publish)
            self.subscribe(Float64, "input", self.worker.submit, qos=qos.SENSOR)

        def process(self, message):  # in the worker's thread
            if not math.isfinite(message.data):
                self.reject("input", RejectedInput("non_finite"))
                return None
            return Float64(data=self.parameters.gain * message.data)

        def stop(self):              # deactivate: workers are stopped, publishers still publish: the safe command
            self.output.publish(Float64())

    def main(args=None) -> int:
        return run_node(EchoNode, args)

Callbacks run in one thread (the executor's), and only while the node is active. `RejectedInput` out of a callback is
counted and logged once per run of it; any other exception is logged with its traceback and counted as
`internal_error`; neither ends the node. `self.parameters` is a frozen snapshot: take it once per callback.
"""

import time
import traceback
from collections.abc import Callable
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType, JumpThreshold, TimeJump
from rclpy.duration import Duration
from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
from rclpy.lifecycle import (
    LifecycleNode,
    LifecyclePublisher,
    LifecycleState,
    TransitionCallbackReturn,
)
from rclpy.parameter import Parameter
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription
from rclpy.timer import Timer

from ...errors import RejectedInput, UserError
from . import parameters as node_parameters
from . import qos as qos_profiles
from .diagnostics import Health
from .parameters import BaseParameters, parameter
from .polling import subscribe_polled, take
from .runner import run_node
from .worker import LatestWorker

__all__ = ["BaseParameters", "EgoHandNode", "LatestWorker", "parameter", "run_node"]

DIAGNOSTICS_PERIOD = 1.0  # s
_ACKNOWLEDGE_TIMEOUT = 0.2  # s
_MOST_DRAINED = 64  # messages at once, so that a flood on one topic cannot keep the others waiting

_SUCCESS, _FAILURE, _ERROR = (
    TransitionCallbackReturn.SUCCESS,
    TransitionCallbackReturn.FAILURE,
    TransitionCallbackReturn.ERROR,
)


class EgoHandNode(LifecycleNode):
    """See the module's docstring. Raises `UserError` for bad parameter overrides."""

    Parameters: type[BaseParameters] = BaseParameters

    def __init__(self, name: str, **kwargs):
        super().__init__(name, **kwargs)
        self.health = Health()
        self.is_active = False
        self.is_finalized = False
        self.failure = ""  # why the last configure or activate failed, one line
        self.failed_by_bug = False
        self._workers: list[LatestWorker] = []
        self._owned: list[tuple[Callable[[Any], Any], Any]] = []  # (destroy function, entity), in order of making
        try:
            self.parameters = node_parameters.declare(self, self.Parameters)
        except UserError:
            self.destroy_node()
            raise
        self.add_pre_set_parameters_callback(lambda given: node_parameters.with_floats(self.Parameters, given))
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self.add_post_set_parameters_callback(self._on_parameters_set)
        backwards = JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=False)
        self._jump_handle = self.get_clock().create_jump_callback(backwards, post_callback=self._on_jump)
        # Diagnostics keep their pace when /clock stands still or a bag plays at ten times its speed.
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._diagnostics_timer = self.create_timer(DIAGNOSTICS_PERIOD, self._on_diagnostics, clock=self._steady)

    # ---------------------------------------------------------------- for subclasses to fill in

    def setup(self) -> None:
        """Configure: load, warm up, make publishers, subscriptions, workers. Raise `UserError` to refuse."""

    def start(self) -> None:
        """Activate: publishers publish already, workers run; callbacks begin after this returns."""

    def stop(self) -> None:
        """Deactivate: workers are stopped, publishers still publish. Send the safe command here."""

    def release(self) -> None:
        """Drop what `setup` loaded. Called after a cleanup, a shutdown, an error or a `setup` that failed half-way."""

    def reset(self) -> None:
        """Forget all history: the clock jumped backwards (a bag looped, a simulation restarted)."""

    def check_parameters(self, new: BaseParameters) -> None:
        """Refuse a set of parameters by raising `UserError`, for what ranges and choices cannot say."""

    def parameters_changed(self, old: BaseParameters, new: BaseParameters) -> None:
        """`self.parameters` has just become `new`."""

    def update_health(self) -> None:
        """Called once a second before diagnostics are published: report conditions such as staleness here."""

    # ---------------------------------------------------------------- for subclasses to use

    def advertise(self, kind: type, topic: str, qos: str = qos_profiles.RELIABLE) -> LifecyclePublisher:
        """A publisher that publishes only while the node is active; its QoS can be overridden by parameters."""
        publisher = self.create_lifecycle_publisher(
            kind,
            topic,
            qos_profiles.profile(qos),
            qos_overriding_options=_qos_overrides(qos),
            # Each event handler costs every turn of the executor 4 us, a third of it for a node with many outputs. A
            # subscriber whose QoS does not fit says so in its own log.
            event_callbacks=PublisherEventCallbacks(use_default_callbacks=False),
        )
        self._owned.append((self.destroy_lifecycle_publisher, publisher))
        return publisher

    def subscribe(
        self,
        kind: type,
        topic: str,
        callback: Callable[[Any], None],
        qos: str = qos_profiles.OBSERVATIONS,
        when_drained: Callable[[], None] | None = None,
        overrides: QoSOverridingOptions | None = None,
        **kwargs,
    ) -> Subscription:
        """A subscription whose callback runs only while the node is active and can neither kill it nor hide a bug.

        `overrides`: which policies `qos_overrides` parameters may change, otherwise rclpy's usual ones. With
        `when_drained`, messages that have queued up behind one are given to the callback at once, and then that
        is called: do the costly work there, so that a node that was held up does not stay behind.
        """
        name = topic.lstrip("~/")

        def guarded(message: Any) -> None:
            if not self.is_active:
                return
            for _ in range(_MOST_DRAINED):
                self.health.count(f"received/{name}")
                self.guard(name, callback, message)
                waiting = take(subscription) if when_drained is not None else None
                if waiting is None:
                    break
                message = waiting.message
            if when_drained is not None:
                self.guard(name, when_drained)

        options = overrides or _qos_overrides(qos)
        subscription = self.create_subscription(
            kind, topic, guarded, qos_profiles.profile(qos), qos_overriding_options=options, **kwargs
        )
        self._owned.append((self.destroy_subscription, subscription))
        return subscription

    def subscribe_polled(
        self, kind: type, topic: str, callback: Callable[[Any], None], qos: str = qos_profiles.OBSERVATIONS
    ) -> Callable[[], None]:
        """A subscription that wakes nobody: what is returned gives the callback what has arrived since the last call.

        For streams that are only looked at when something else happens: a turn of the executor costs more than most
        messages. What came while the node was not active is dropped.
        """
        name = topic.lstrip("~/")
        profile, overrides = qos_profiles.profile(qos), _qos_overrides(qos)
        subscription = subscribe_polled(self, kind, topic, profile, raw=False, qos_overriding_options=overrides)
        self._owned.append((self.destroy_subscription, subscription))

        def poll() -> None:
            for _ in range(_MOST_DRAINED):
                taken = take(subscription)
                if taken is None:
                    return
                if self.is_active:
                    self.health.count(f"received/{name}")
                    self.guard(name, callback, taken.message)

        return poll

    def unsubscribe(self, subscription: Subscription) -> None:
        """End a subscription before the node is cleaned up."""
        self._owned.remove((self.destroy_subscription, subscription))
        self.destroy_subscription(subscription)

    def subscribe_also_latched(self, kind: type, topic: str, callback: Callable[[Any], None], qos: str) -> None:
        """Also what a publisher said once, before this node was there; such a publisher's messages then come twice.

        Only a transient-local subscriber gets that, and it connects to no volatile publisher: hence two subscriptions.
        """
        quiet = SubscriptionEventCallbacks(use_default_callbacks=False)  # not a warning for each volatile publisher
        self.subscribe(kind, topic, callback, qos)
        self.subscribe(kind, topic, callback, qos_profiles.LATCHED, event_callbacks=quiet)

    def make_timer(self, period: float, callback: Callable[[], None], steady: bool = False) -> Timer:
        """A timer that fires only while the node is active, on the node's clock (or on a steady one)."""

        def guarded() -> None:
            if self.is_active:
                self.guard("timer", callback)

        timer = self.create_timer(period, guarded, clock=self._steady if steady else None)
        self._owned.append((self.destroy_timer, timer))
        return timer

    def make_worker(
        self, process: Callable[[Any], Any], deliver: Callable[[Any], None] | None = None, realtime: bool = False
    ) -> LatestWorker:
        """An inference thread that is started by activate and stopped, first of all, by deactivate; `realtime`, with
        the node's `realtime_priority`."""
        name = f"{self.get_name()}_worker"
        priority = getattr(self.parameters, "realtime_priority", 0) if realtime else 0
        worker = LatestWorker(process, deliver, lambda error: self._report("worker", error), name, priority)
        self._workers.append(worker)
        return worker

    def guard(self, source: str, function: Callable, *args: Any) -> Any:
        """Call a function; a `RejectedInput` or a bug in it is counted and logged under `source`, and gives None."""
        try:
            return function(*args)
        except Exception as error:
            self._report(source, error)
            return None

    def reject(self, source: str, error: RejectedInput) -> None:
        """Count an input that is not used; logged when a run of such rejections begins and when it is over."""
        if self.health.reject(source, error.reason, time.monotonic()):
            self.get_logger().warning(f"rejecting {source}: {error}")

    def now(self) -> float:
        """The node clock (ROS time), s."""
        return self.get_clock().now().nanoseconds * 1e-9

    def now_of_stamps(self) -> float:
        """`now()` to judge stamps by. Raises `RejectedInput` (no_clock) while a simulated clock has not started."""
        now = self.now()
        if now <= 0.0:
            raise RejectedInput("no_clock", "use_sim_time is true, but nothing has come on /clock yet")
        return now

    def autostart(self) -> bool:
        """Configure and activate. False, with the reason in `self.failure`, when either fails."""
        return self.trigger_configure() == _SUCCESS and self.trigger_activate() == _SUCCESS

    # ---------------------------------------------------------------- lifecycle

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        return self._transition("configure", self.setup, lambda: super(EgoHandNode, self).on_configure(state))

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        def activate() -> TransitionCallbackReturn:
            result = super(EgoHandNode, self).on_activate(state)
            for worker in self._workers:
                worker.start()
            self.start()
            self.is_active = True
            return result

        result = self._transition("activate", activate)
        if result == _SUCCESS:
            self.get_logger().info("active")
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._halt()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._teardown()
        return _SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._teardown()
        self.is_finalized = True
        return _SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._teardown()
        return _SUCCESS  # back to unconfigured, so that a manager can try again

    def _transition(self, name: str, *steps: Callable[[], Any]) -> TransitionCallbackReturn:
        """Run the steps; say why when they fail, because rclpy swallows exceptions of transitions."""
        self.failure, self.failed_by_bug = "", False
        try:
            for step in steps:
                step()
            return _SUCCESS
        except UserError as error:
            self.failure = str(error)
            self.get_logger().error(f"{name} failed: {error}")
            result = _FAILURE
        except Exception as error:
            self.failure, self.failed_by_bug = f"{type(error).__name__}: {error}", True
            self.get_logger().error(f"{name} failed, this is a bug:\n{traceback.format_exc()}")
            result = _ERROR
        if name == "configure":
            self._teardown()
        else:
            self._halt()
            super().on_deactivate(None)
        return result

    def _halt(self) -> None:
        """Workers stop first, the safe command goes out last. Tolerates a node that never started."""
        was_active, self.is_active = self.is_active, False
        for worker in self._workers:
            if not worker.stop():
                self.get_logger().warning("inference does not end; its result will be thrown away")
        if was_active:
            self.guard("stop", self.stop)
            self._on_diagnostics()  # the last second counts too
            self.guard("stop", self._await_receipt)

    def _await_receipt(self) -> None:
        """Until reliable subscribers have what was published last: the safe command must not die with this process."""
        deadline = time.monotonic() + _ACKNOWLEDGE_TIMEOUT
        owned = (entity for _, entity in self._owned if isinstance(entity, LifecyclePublisher))
        for publisher in (*owned, self._diagnostics):
            publisher.wait_for_all_acked(Duration(seconds=max(0.0, deadline - time.monotonic())))

    def _teardown(self) -> None:
        """Undo everything that setup and activate made, whatever there is of it."""
        self._halt()
        self._workers.clear()
        while self._owned:
            destroy, entity = self._owned.pop()
            self.guard("teardown", destroy, entity)
        self.guard("teardown", self.release)

    def destroy_node(self) -> None:
        if getattr(self, "_jump_handle", None) is not None:
            self._jump_handle.unregister()
            self._jump_handle = None
            self._teardown()
        super().destroy_node()

    # ---------------------------------------------------------------- parameters, clock, diagnostics

    def _on_set_parameters(self, given: list[Parameter]) -> SetParametersResult:
        try:
            self.check_parameters(node_parameters.changed(self.parameters, given))
        except UserError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _on_parameters_set(self, given: list[Parameter]) -> None:
        old, self.parameters = self.parameters, node_parameters.changed(self.parameters, given)
        if old != self.parameters:
            self.guard("parameters", self.parameters_changed, old, self.parameters)

    def _on_jump(self, jump: TimeJump) -> None:
        self.health.count("clock_jumps")
        self.get_logger().warning(f"clock jumped {jump.delta.nanoseconds * 1e-9:.3f} s; forgetting history")
        self.guard("clock", self.reset)

    def _report(self, source: str, error: BaseException) -> None:
        if isinstance(error, RejectedInput):
            self.reject(source, error)
        elif self.health.reject(source, "internal_error", time.monotonic()):
            text = "".join(traceback.format_exception(error))
            self.get_logger().error(f"{source}: this is a bug, input skipped:\n{text}")

    def _on_diagnostics(self) -> None:
        now = time.monotonic()
        for source, reason, count in self.health.ended(now):
            self.get_logger().info(f"{source}: no more {reason} (there were {count} in all)")
        self.guard("diagnostics", self.update_health)
        if self._workers:
            self.health.value("dropped", sum(worker.dropped for worker in self._workers))
        self.health.value("state", "active" if self.is_active else "not active")
        stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(self.health.array(self.get_fully_qualified_name(), stamp, now))


def _qos_overrides(qos: str) -> QoSOverridingOptions | None:
    return None if qos == qos_profiles.LATCHED else QoSOverridingOptions.with_default_policies()
