"""What forecasting systems share: the protocol, frames, flow matching and diffusion, transformers, image encoders,
MANO, calibration, checkpoints.

No system of its own.
"""
