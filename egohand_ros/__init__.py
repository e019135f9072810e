"""Forecast an egocentric camera wearer's hands and drive a dexterous robot hand with the forecast, over ROS 2."""
