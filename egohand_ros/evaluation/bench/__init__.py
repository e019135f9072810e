"""Benchmarks that need no ROS graph: forecasts, retargeting, following.

Those of a running graph are in `nodes/bench/`.
"""
