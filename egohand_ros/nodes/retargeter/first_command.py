"""`FirstCommand`: whether the first command of a stream has reached those who listen, so that motion may begin.

A subscriber that does not know its publisher yet (a node that has just started, on a busy machine: for half a second
and more) misses what is sent meanwhile. Commands that set off at once ask such a robot for all the way that it missed
in one step. So the first one, which stands still, is sent again until it is acknowledged.
"""

from rclpy.duration import Duration
from rclpy.publisher import Publisher

_AGAIN = 0.1  # s; within a shorter period than acknowledgements take, none would ever be of the last command
_LONGEST = 1.0  # s; a robot does not wait for ever for who only looks on, and subscribers with best effort say nothing
_AT_ONCE = Duration()


class FirstCommand:
    """Of a stream that goes out on `publishers`. Times in s, of a clock that nobody sets."""

    def __init__(self, *publishers: Publisher):
        self._publishers = publishers
        self._since, self._sent = -float("inf"), None

    def begin(self, now: float) -> None:
        """A stream begins: its first command is due."""
        self._since, self._sent = now, None

    def sent(self, now: float) -> None:
        """The first command was sent, again."""
        self._sent = now

    def due(self, now: float) -> bool:
        """Whether it is to be sent, again."""
        return self._sent is None or now - self._sent > _AGAIN

    def reached(self, now: float) -> bool:
        """Whether all who listen reliably have it, or were waited for long enough; nobody at all is waited for too."""
        if self._sent is None:
            return False
        heard = any(p.get_subscription_count() for p in self._publishers)
        return now - self._since > _LONGEST or (heard and all(p.wait_for_all_acked(_AT_ONCE) for p in self._publishers))
