"""Synthetic egocentric sequences: hands that act at a table, the head camera above them, a tracker's view, and
pictures. No importers of recordings here (see the modules beside), no model (see `training/`)."""

from .scene import Scene, generate_scene
from .tracker import TrackerModel, TrackerView, observe

__all__ = ["Scene", "TrackerModel", "TrackerView", "generate_scene", "observe"]
