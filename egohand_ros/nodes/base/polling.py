"""Subscriptions that are looked at now and then, for who watches much and has no hurry.

An executor's turn costs 0.3 ms in rclpy, for each message again. Who records or counts hundreds of messages a second
needs them neither at once nor one at a time: they wait in the middleware, with the time of their arrival, until they
are taken.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.subscription import Subscription


class Taken(NamedTuple):
    """A message (bytes from a raw subscription); the time in ns of the system's clock at which it came, 0 where the
    middleware does not tell; its number among those of its publisher, None where the middleware does not tell."""

    message: Any
    came: int
    number: int | None


class _NobodyWaits(ReentrantCallbackGroup):
    """Of what is in this group no executor takes notice."""

    def can_execute(self, entity: Any) -> bool:
        return False


def subscribe_polled(
    node: Node, kind: type, topic: str, profile: QoSProfile, raw: bool = True, **kwargs: Any
) -> Subscription:
    """A subscription, raw unless told otherwise, that no executor waits for: see `take_waiting`.

    It has no event handlers. With rmw_fastrtps they would wake the executor for each message that waits, again and
    again.
    """
    events = SubscriptionEventCallbacks(use_default_callbacks=False)
    return node.create_subscription(
        kind,
        topic,
        lambda data: None,
        profile,
        raw=raw,
        callback_group=_NobodyWaits(),
        event_callbacks=events,
        **kwargs,
    )


def take(subscription: Subscription) -> Taken | None:
    """The next message that waits, None when none does."""
    with subscription.handle:
        taken = subscription.handle.take_message(subscription.msg_type, subscription.raw)
    if taken is None:
        return None
    message, info = taken
    return Taken(message, info["received_timestamp"], info["publication_sequence_number"])


def take_waiting(subscription: Subscription) -> Iterator[Taken]:
    """All messages that wait, and no more than its queue holds: new ones may come faster than they are taken."""
    for _ in range(max(subscription.qos_profile.depth, 1)):
        taken = take(subscription)
        if taken is None:
            return
        yield taken


class LossCounter:
    """Counts messages of a topic that never came, on the way or because the queue was full, by their numbers.

    A message does not say which of several publishers it is from: a number that follows none of the last ones is a gap
    of the publisher whose last number is nearest, unless there are more publishers than were heard so far.
    """

    def __init__(self, subscription: Subscription):
        self._publishers = subscription.get_publisher_count
        self._last: list[int] = []

    def lost(self, number: int | None) -> int:
        """How many are missing before the message with this number."""
        if number is None:
            return 0
        if number - 1 in self._last:
            self._last[self._last.index(number - 1)] = number
            return 0
        if len(self._last) < self._publishers():
            self._last.append(number)
            return 0
        before = max((last for last in self._last if last < number), default=None)
        if before is None:  # a publisher that began anew
            self._last = [*self._last[1:], number]
            return 0
        self._last[self._last.index(before)] = number
        return number - 1 - before
