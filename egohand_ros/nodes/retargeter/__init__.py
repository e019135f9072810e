"""The `retargeter` node: forecasts in, commands of a robot hand out; parameters beside it."""

from .node import RetargeterNode, main

__all__ = ["RetargeterNode", "main"]
