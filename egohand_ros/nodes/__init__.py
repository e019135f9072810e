"""The ROS 2 nodes: the only place that imports rclpy and generated messages.
Nodes wire; what they wire lives in the packages below."""
