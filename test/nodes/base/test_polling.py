"""Losses are counted by the numbers that publishers give their messages."""

from types import SimpleNamespace

import pytest

pytest.importorskip("rclpy")

from egohand_ros.nodes.base.polling import LossCounter


def lost(numbers, publishers=1):
    counter = LossCounter(SimpleNamespace(get_publisher_count=lambda: publishers))
    return [counter.lost(number) for number in numbers]


@pytest.mark.parametrize(
    "numbers, expected",
    [
        ([1, 2, 3], [0, 0, 0]),
        ([7, 8, 9], [0, 0, 0]),  # it had said six before anyone listened
        ([1, 2, 5, 6], [0, 0, 2, 0]),
        ([8, 9, 1, 2, 4], [0, 0, 0, 0, 1]),  # the publisher was restarted
        ([None, None], [0, 0]),  # a middleware that does not tell
    ],
)
def test_a_gap_in_the_numbers_is_a_loss(numbers, expected):
    assert lost(numbers) == expected


def test_publishers_of_one_topic_have_numbers_of_their_own():
    assert lost([1, 50, 2, 51, 3, 52, 52 + 2, 4], publishers=2) == [0, 0, 0, 0, 0, 0, 1, 0]
    assert lost([1, 1, 2, 2, 3, 5], publishers=2) == [0, 0, 0, 0, 0, 1]
