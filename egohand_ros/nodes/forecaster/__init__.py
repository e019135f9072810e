"""The `forecaster` node: observed hands in, forecasts out; subscriptions, outputs and parameters beside it."""

from .node import ForecasterNode, main

__all__ = ["ForecasterNode", "main"]
