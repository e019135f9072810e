"""Forecasters that run as a process of their own, in whatever environment they need: `external:COMMAND`."""
