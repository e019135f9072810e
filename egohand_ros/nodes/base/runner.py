"""`run_node`: the process around one node: start-up, executor, signals, exit code."""

import contextlib
import signal
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

import rclpy
from rclpy.exceptions import InvalidHandle
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future

from ...errors import UserError
from .realtime import how_to_allow, priority_of, raise_receiving


def make_executor():
    """The executor of every node: single-threaded, because rclpy's multi-threaded one contends with torch.

    rclpy's EventsExecutor takes a third less CPU and saves 0.4 ms a message (measured with 7.1.6), but it hangs for
    good when another thread wakes it or the context is shut down; 0.4 ms is not worth that.
    """
    return SingleThreadedExecutor()


def run_node(
    make: Callable[[], LifecycleNode], args: list[str] | None = None, transports: Callable[[], None] = lambda: None
) -> int:
    """Run one node until SIGINT or SIGTERM. Returns the exit code: 0, 2 for what the user can mend, 1 for a bug.

    `transports`: one of `transports.py`, for whoever commands a robot, is one, or records.

    With `autostart` it configures and activates itself first. On a signal it deactivates (the safe command goes out
    while the context still lives, which rclpy's own signal handler would have shut down) and then shuts down. It is the
    last that its process does: signals that come while it ends change nothing any more.
    """
    signals = StopSignals()
    node = None
    try:
        signals.begin()
        transports()
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
        node = make()
        return run(node, signals)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 0
    finally:
        signals.finished()
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
        signals.ignore()


def run(node: LifecycleNode, signals: "StopSignals") -> int:
    """The exit code of a node that ran until one of the signals."""
    executor = make_executor()
    executor.add_node(node)
    stopped = Future(executor=executor)
    if node.parameters.autostart and not node.autostart():
        return 0 if signals.interrupted else 1 if node.failed_by_bug else 2
    _take_priority(node)
    signals.stop_by(lambda: stopped.set_result(True), executor.wake)
    # Not spin_until_future_complete: rclpy 7.1.6 hangs one more callback on the future with each turn, 200 bytes
    # for every message, for as long as the node runs. One is enough to make the executor turn when it is done.
    stopped.add_done_callback(lambda future: None)
    try:
        while not stopped.done():
            executor.spin_once()
    except ExternalShutdownException:
        pass
    finally:
        signals.finished()
        _shut_down(node)
        executor.shutdown()
    return 0


def _take_priority(node) -> None:
    """Where the node asks for a real-time priority: for its executor, just below what it runs in threads of its own."""
    wanted = priority_of(getattr(node.parameters, "realtime_priority", 0))
    if wanted and not raise_receiving(max(wanted - 1, 1)):
        node.get_logger().info(f"no real-time priority, so other load delays this node: {how_to_allow(wanted)}")


def _shut_down(node) -> None:
    """Deactivate, so that the safe command goes out, then finalize; a lifecycle manager may have done so before."""
    if node.is_active:
        node.trigger_deactivate()
    if not node.is_finalized:
        node.trigger_shutdown()


class StopSignals:
    """SIGINT and SIGTERM: interrupt the start-up, once; later wake the executor, which then ends by itself.

    Python runs its signal handlers only between bytecodes, and an idle executor waits inside C. So a thread reads
    the byte that the interpreter writes at the moment of the signal.
    """

    def __init__(self):
        self.interrupted = False
        self._stop: Callable[[], None] = lambda: None
        self._wake: Callable[[], None] = lambda: None
        self._starting = True
        self._old: dict[int, Any] = {}

    def stop_by(self, stop: Callable[[], None], wake: Callable[[], None]) -> None:
        """From now on a signal ends the spinning instead of raising KeyboardInterrupt."""
        self._stop, self._wake = stop, wake
        self._starting = False
        if self.interrupted:  # while C code ran that lost the exception
            raise KeyboardInterrupt

    def finished(self) -> None:
        """Nothing spins any more: further signals are ignored, so that the safe command goes out."""
        self._starting = False
        self._stop = self._wake = lambda: None

    def begin(self) -> None:
        """Take the signals over."""
        self._read, self._write = socket.socketpair()
        self._write.setblocking(False)
        self._old = {s: signal.signal(s, self._handle) for s in (signal.SIGINT, signal.SIGTERM)}
        self._old_fd = signal.set_wakeup_fd(self._write.fileno())
        threading.Thread(target=self._watch, name="signals", daemon=True).start()

    def ignore(self) -> None:
        """For the rest of the process: the interpreter, on its way out, would give signals their deadly default."""
        for number in self._old:
            signal.signal(number, signal.SIG_IGN)

    def end(self) -> None:
        """Give the signals back to whom they belonged."""
        signal.set_wakeup_fd(self._old_fd)
        for number, handler in self._old.items():
            signal.signal(number, handler)
        self._write.close()

    def _handle(self, number: int, frame) -> None:
        if self._starting and not self.interrupted:
            self.interrupted = True
            raise KeyboardInterrupt

    def _watch(self) -> None:
        while self._read.recv(16):
            if not self._starting:
                stop, wake = self._stop, self._wake
                self.finished()
                # The executor may see the result, and be gone, before it has been told to look.
                with contextlib.suppress(AttributeError, InvalidHandle):
                    stop()
                    wake()
        self._read.close()
