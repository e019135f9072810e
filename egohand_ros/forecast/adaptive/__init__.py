"""`adaptive`: other forecasters, each believed as far as it has been right about this person, and one that learns
linear motion. No forecaster that stands on its own lives here (see the rooms beside).
"""
