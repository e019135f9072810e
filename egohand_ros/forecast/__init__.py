"""The Forecaster protocol, its registry, and one module or folder a forecasting system.
No training loop here (see `training/`), no ROS (see `nodes/`)."""

# What the node, the launch file and `egohand run` start with.
DEFAULT_FORECASTER = "adaptive"
# Beside painted scenes, whose goals it knows how to see.
DEFAULT_IN_PAINTED_SCENES = "adaptive:egohand-goals"
