"""A human hand's path followed in time: the command stream, how far ahead to aim, how late the robot is.

No solver here (see `retarget/`).
"""
