"""Rotations, rigid transforms, camera models and the canonical egocentric frame.
Nothing about hands or ROS here."""
