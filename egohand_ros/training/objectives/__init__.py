"""What networks are trained for.

The loop is in `training/loop.py`.
"""
