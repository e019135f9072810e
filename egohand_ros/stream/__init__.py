"""Asynchronous inputs -> one time-aligned Window: the same code live and from a bag.
No models and no ROS types here."""
