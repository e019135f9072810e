"""The loop around a node: it ends on a signal, and its turns leave nothing behind."""

import gc
import os
import signal
from types import SimpleNamespace

from rclpy.lifecycle import LifecycleNode
from rclpy.task import Future

from egohand_ros.nodes.base import runner

TURNS = 200


class Counting(LifecycleNode):
    """Looks after some turns of the executor how many callbacks hang on any future, and ends by a signal."""

    is_active = is_finalized = False
    parameters = SimpleNamespace(autostart=False)

    def __init__(self):
        super().__init__("counting")
        self.turns, self.most = 0, None
        self.create_timer(0.001, self._count)

    def _count(self):
        self.turns += 1
        if self.turns == TURNS:
            futures = [x for x in gc.get_objects() if isinstance(x, Future)]
            self.most = max(len(future._callbacks) for future in futures)
            os.kill(os.getpid(), signal.SIGTERM)


def test_turns_of_the_executor_leave_no_callbacks_on_the_future_that_ends_it(ros):
    node, signals = Counting(), runner.StopSignals()
    signals.begin()
    try:
        assert runner.run(node, signals) == 0
        assert node.turns >= TURNS and node.most < 10
    finally:
        signals.end()
        node.destroy_node()
