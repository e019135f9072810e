"""`FirstCommand`: whether the first command of a stream has reached those who listen, so that motion may begin.

A subscriber that this node knows need not know this node yet, and one that is there this node need not know: of what
a process sends that has just started others miss the first one to three seconds (seen with a restarted commander on a
quiet machine: discovery is repeated once a second, either way). Commands that set off at once ask such a robot for all
the way that it missed in one step. So the first one, which stands still, is sent again: while this node itself is new,
and then until it is acknowledged, or until nobody is new.
"""

from rclpy.duration import Duration
from rclpy.publisher import Publisher

_AGAIN = 0.1  # s; within a shorter period than acknowledgements take, none would ever be of the last command
_NEW = 3.0  # s, for which a subscriber, or this node, is new, and the longest that anybody, or nobody, is waited for
_AT_ONCE = Duration()


class FirstCommand:
    """Of a stream that goes out on `publishers`. Times in s, of a clock that nobody sets."""

    def __init__(self, *publishers: Publisher):
        self._publishers = publishers
        self._known, self._newest = [0] * len(publishers), -float("inf")
        self._made: float | None = None
        self._since, self._sent, self._reached = -float("inf"), None, True

    def look(self, now: float) -> None:
        """Take note of who listens: often, also while nothing is sent, and from the beginning."""
        if self._made is None:
            self._made = now
        known = [p.get_subscription_count() for p in self._publishers]
        if any(count > before for count, before in zip(known, self._known)):
            self._newest = now
        self._known = known

    def begin(self, now: float) -> None:
        """A stream begins: its first command is due."""
        self._since, self._sent, self._reached = now, None, False

    def sent(self, now: float) -> None:
        """The first command was sent, again."""
        self._sent = now

    def due(self, now: float) -> bool:
        """Whether it is to be sent, again."""
        return self._sent is None or now - self._sent > _AGAIN

    def reached(self, now: float) -> bool:
        """Whether all have it who listen reliably, or nobody is new; no sooner than all who listen can be known."""
        is_old = self._made is not None and now - self._made > _NEW
        if not self._reached and self._sent is not None and is_old:
            since = self._newest if any(self._known) else self._since
            acknowledged = any(self._known) and all(p.wait_for_all_acked(_AT_ONCE) for p in self._publishers)
            self._reached = acknowledged or now - min(since, self._since) > _NEW
        return self._reached
