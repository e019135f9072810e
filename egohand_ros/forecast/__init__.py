"""The Forecaster protocol, its registry, and one module or folder a forecasting system.
No training loop here (see `training/`), no ROS (see `nodes/`)."""
