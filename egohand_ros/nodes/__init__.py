"""The ROS 2 nodes: the only place that imports rclpy and generated messages.
Nodes wire; what they wire lives in the packages below."""

import os

# Before NumPy is loaded. Nodes multiply small matrices, for which OpenBLAS's threads cost more than they give; and a
# thread with a real-time priority that waits for them, spinning, keeps them from running on a busy machine.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
