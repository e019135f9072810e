"""Benchmarks of running nodes: latency, soak, hostile input.

Those that need no ROS are in `evaluation/bench/`.
"""
