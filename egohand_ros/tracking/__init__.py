"""Camera images -> metric hand poses with identity over time; `tracker.HandTracker` is the way in.
No ROS here (the node is nodes/hand_tracker.py)."""
