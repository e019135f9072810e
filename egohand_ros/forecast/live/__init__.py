"""A forecaster in the stream: device, online assessment, overlapping forecasts made one.

No ROS.
"""
