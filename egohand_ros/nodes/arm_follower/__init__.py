"""The `arm_follower` node: a robot arm whose tool goes the way of a person's wrist. What it does is in
`egohand_ros/robot/arm/teleoperation.py`."""

from .node import ArmFollowerNode, main

__all__ = ["ArmFollowerNode", "main"]
