"""Robot hands: models and configs, the retargeting solver, limits and safety, command mapping.
No ROS here (see `nodes/`), no human-hand conventions (see `hand/`)."""
