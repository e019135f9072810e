"""`ScenePictures`: pictures of a simulated scene on a topic, drawn by a process of its own and only for subscribers."""

from typing import Any

import numpy as np
from sensor_msgs.msg import Image

from ..errors import UserError
from ..robot.simulation.rendering import RenderProcess
from .base.diagnostics import WARN
from .base.node import EgoHandNode
from .messages.basic import header_msg
from .messages.image import build_image_msg

_MAX_RENDERER_STARTS = 3


class ScenePictures:
    """Made in a node's `setup`; `request` submits a pose, as `RenderProcess.render` takes it, whenever one is due.

    `model` is MuJoCo's; the node's parameters say `image_rate`, `image_width` and `image_height`."""

    def __init__(self, node: EgoHandNode, model: Any, topic: str, frame_id: str):
        self._node, self._model, self._frame_id = node, model, frame_id
        self._renderer: RenderProcess | None = None
        self._starts, self._none = 0, ""
        self._images = node.advertise(Image, topic)
        self._painter = node.make_worker(self._draw, self._images.publish)

    def request(self, pose: np.ndarray) -> None:
        """Draw this pose, if somebody looks; while one is drawn only the newest waits."""
        if not self._none:
            self._painter.submit((self._node.now(), pose))

    @property
    def wanted(self) -> bool:
        """Whether somebody looks."""
        return bool(self._images.get_subscription_count()) and not self._none

    def close(self) -> None:
        """End the renderer."""
        renderer, self._renderer = self._renderer, None
        if renderer is not None:
            renderer.close()

    def update_health(self) -> None:
        """Which OpenGL draws, or why none does."""
        if self._renderer is not None:
            self._node.health.value("OpenGL", self._renderer.backend)
        self._node.health.condition("picture", bool(self._none), self._none, WARN)

    def _draw(self, work: tuple[float, np.ndarray]) -> Image | None:
        """In the worker's thread. A renderer that dies is started again a few times."""
        stamp, pose = work
        try:
            if self._renderer is None:
                self._starts += 1
                p = self._node.parameters
                self._renderer = RenderProcess(self._model, p.image_width, p.image_height)
            picture = self._renderer.render(pose)
        except UserError as error:
            if self._renderer is None or self._starts >= _MAX_RENDERER_STARTS:
                self._none = str(error)
                self._node.get_logger().warning(self._none)
            self.close()
            return None
        self._node.health.count("pictures")
        return build_image_msg(picture, header_msg(stamp, self._frame_id))
