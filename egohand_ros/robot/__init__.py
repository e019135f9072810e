"""Robot-hand models, the retargeting solver, limits and safety, command mapping.
No forecasting and no ROS here."""
