"""Taking a new robot hand: from a URDF to a checked config with pictures.

Nothing that runs live.
"""
