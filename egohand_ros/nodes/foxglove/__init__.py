"""Foxglove: the `foxglove` node for a running graph, and recordings in which its 3D panel has something to show."""

from .node import FoxgloveNode, main

__all__ = ["FoxgloveNode", "main"]
