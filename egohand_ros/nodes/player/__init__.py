"""The `player` node and its sources: a video, a recording or the synthetic scene as if sensors were there."""

from .node import PlayerNode, main

__all__ = ["PlayerNode", "main"]
