"""What forecasting systems share: the protocol, frames, flow matching, calibration, checkpoints.

No system of its own.
"""
