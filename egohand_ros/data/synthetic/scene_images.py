"""The pictures of a scene as an episode's: each is drawn when a window first shows it."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from ...errors import UserError
from ...geometry.camera import Camera
from ..episode import Episode
from ..episode_images import EpisodeImages
from .render import SceneRenderer
from .scene import Scene

FIELD_OF_VIEW = 90.0  # degrees, horizontal


@dataclass(frozen=True, eq=False)
class SceneImages:
    """An image source that draws a scene as its head camera sees it."""

    scene: Scene
    camera: Camera
    at_once: bool = field(default=False, init=False)  # one renderer draws one picture after the other

    @property
    def frames(self) -> int:
        return len(self.scene)

    @cached_property
    def _renderer(self) -> SceneRenderer:
        return SceneRenderer(self.scene, self.camera)

    def read(self, first: int) -> Iterator[np.ndarray]:
        """Pictures from `first` on."""
        for number in range(first, len(self.scene)):
            yield self._renderer.render(number)

    def depth(self, number: int) -> np.ndarray:
        """What a depth camera in its place would see of picture `number`: (H, W) float32 m along the optical axis."""
        return self._renderer.render_with_depth(number)[1]

    def to_json(self) -> dict:
        """Nothing finds a scene again from a file."""
        raise UserError("an episode that shows a generated scene cannot be saved with its pictures; render a video")


def with_pictures(episode: Episode, scene: Scene, height: int) -> Episode:
    """An episode of a scene (as it is, or as a tracker saw it) with its pictures, `height` px high and 4 : 3."""
    camera = Camera.from_horizontal_fov(round(height * 4 / 3), height, FIELD_OF_VIEW)
    return replace(episode, images=EpisodeImages(scene.stamp, SceneImages(scene, camera), camera))
