"""Metrics, protocols, benchmarks and the report.
Reads episodes and forecasts; runs no ROS graph itself."""
