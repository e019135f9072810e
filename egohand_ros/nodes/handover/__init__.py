"""The `handover` node: an arm and a dexterous hand that meet a person's hand, and its action server. What it decides is
in `egohand_ros/handover`."""

from .node import HandoverNode, main

__all__ = ["HandoverNode", "main"]
