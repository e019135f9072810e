"""Camera images -> metric hand poses with identity over time.
No ROS here (the node is nodes/hand_tracker.py)."""
