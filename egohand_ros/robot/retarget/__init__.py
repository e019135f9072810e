"""Human keypoints to robot-hand joint positions: objectives, the live solver, whole horizons.

No clock: one pose, or one forecast, at a time.
"""
