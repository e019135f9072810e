"""`run_node`: the process around one node: start-up, executor, signals, exit code."""

import contextlib
import signal
import socket
import sys
import threading
from collections.abc import Callable

import rclpy
from rclpy.exceptions import InvalidHandle
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future

from ...errors import UserError
from .steady_thread import realtime_threads


def make_executor():
    """The executor of every node: single-threaded, because rclpy's multi-threaded one contends with torch.

    rclpy's EventsExecutor takes a third less CPU and saves 0.4 ms a message (measured with 7.1.6), but it hangs for
    good when another thread wakes it or the context is shut down; 0.4 ms is not worth that.
    """
    return SingleThreadedExecutor()


def run_node(make: Callable[[], LifecycleNode], args: list[str] | None = None, realtime: bool = False) -> int:
    """Run one node until SIGINT or SIGTERM. Returns the exit code: 0, 2 for what the user can mend, 1 for a bug.

    With `autostart` it configures and activates itself first. On a signal it deactivates (the safe command goes out
    while the context still lives, which rclpy's own signal handler would have shut down) and then shuts down.
    `realtime`: the middleware's threads get real-time priority where the user may. They share locks with the thread
    that publishes, which else waits for them to get a turn, whatever its own priority.
    """
    node = None
    try:
        with realtime_threads() if realtime else contextlib.nullcontext():
            rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
            node = make()
        return _run(node)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 0
    finally:
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()


def _run(node) -> int:
    executor = make_executor()
    executor.add_node(node)
    stopped = Future(executor=executor)
    with _StopSignals(lambda: stopped.set_result(True), executor.wake) as signals:
        if node.parameters.autostart and not node.autostart():
            return 1 if node.failed_by_bug else 2
        signals.ready()
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


def _shut_down(node) -> None:
    """Deactivate, so that the safe command goes out, then finalize."""
    if node.is_active:
        node.trigger_deactivate()
    node.trigger_shutdown()


class _StopSignals:
    """SIGINT and SIGTERM: interrupt the start-up; later wake the executor, which then ends by itself.

    Python runs its signal handlers only between bytecodes, and an idle executor waits inside C. So a thread reads
    the byte that the interpreter writes at the moment of the signal.
    """

    def __init__(self, stop: Callable[[], None], wake: Callable[[], None]):
        self._stop, self._wake = stop, wake
        self._running = False

    def ready(self) -> None:
        """From now on a signal ends the spinning instead of raising KeyboardInterrupt."""
        self._running = True

    def finished(self) -> None:
        """Nothing spins any more: further signals are ignored, so that the safe command goes out."""
        self._stop = self._wake = lambda: None

    def __enter__(self) -> "_StopSignals":
        self._read, self._write = socket.socketpair()
        self._write.setblocking(False)
        self._old = {s: signal.signal(s, self._handle) for s in (signal.SIGINT, signal.SIGTERM)}
        self._old_fd = signal.set_wakeup_fd(self._write.fileno())
        threading.Thread(target=self._watch, name="signals", daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        signal.set_wakeup_fd(self._old_fd)
        for number, handler in self._old.items():
            signal.signal(number, handler)
        self._write.close()

    def _handle(self, number: int, frame) -> None:
        if not self._running:
            raise KeyboardInterrupt

    def _watch(self) -> None:
        while self._read.recv(16):
            if self._running:
                stop, wake = self._stop, self._wake
                self.finished()
                # The executor may see the result, and be gone, before it has been told to look.
                with contextlib.suppress(AttributeError, InvalidHandle):
                    stop()
                    wake()
        self._read.close()
