"""What holds on every command: position, velocity, acceleration, self-collision; and the audit of a command stream.

No human hand here.
"""
