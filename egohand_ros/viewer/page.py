"""`Page`: the web page as a whole. It shows what it is given to everyone who has it open, and takes nothing back."""

import math
import time
from typing import Any

import numpy as np

from ..robot.arm.model import ArmModel
from ..robot.hands.model import HandModel
from .feed import Feed
from .moment import Moment
from .panels import Panels, plain
from .picture import draw_picture
from .scene import Scene
from .server import DEFAULT_PORT, HOST, make_server

RATE = 10.0  # Hz, at most, of everything on the page
SLOW_RATE = 2.0  # Hz, at most, of curves, which are large, and of what nodes say
_CAMERA_DISTANCE = (-0.45, 0.4, 0.38)  # m, from what is looked at, in upright axes


class Page:
    """Served at `url` until `close`. `hand` is the robot's, None for none, `arm` what carries it.

    Raises `UserError` where viser is missing or no port is free.
    """

    def __init__(
        self, title: str, port: int = DEFAULT_PORT, hand: HandModel | None = None, arm: ArmModel | None = None
    ):
        self.server: Any = make_server(port, title)
        self.url = f"http://{HOST}:{self.server.get_port()}/"
        self.server.gui.configure_theme(show_logo=False, show_share_button=False)
        self.scene, self.panels = Scene(self.server, hand, arm), Panels(self.server, hand)
        self._aimed, self._drawn = False, -math.inf

    @property
    def open(self) -> int:
        """In how many browsers it is open now."""
        return len(self.server.get_clients())

    def show(self, feed: Feed, now: float | None = None, at_once: bool = False) -> None:
        """What the feed knows at `now`, s of the stamps' clock; nothing waits for a browser. Curves and nodes follow at
        `SLOW_RATE` unless wanted `at_once`."""
        moment = feed.moment(now)
        with self.server.atomic():
            self.scene.show(moment)
        self.panels.show_picture(draw_picture(moment), told(moment))
        self._aim(moment)
        if at_once or time.monotonic() - self._drawn >= 1.0 / SLOW_RATE:
            self._drawn = time.monotonic()
            self.panels.show_nodes(feed.nodes.values())
            self.panels.show_curves(feed.curves())

    def close(self) -> None:
        """End it; browsers say that the connection is lost."""
        self.server.stop()

    def _aim(self, moment: Moment) -> None:
        """Once, when there is something to look at: new browsers look there from behind the person."""
        wrists = moment.wrists()
        seen = wrists[np.isfinite(wrists).all(axis=-1)]
        if self._aimed or not len(seen):
            return
        self._aimed = True
        target = moment.upright[:3, :3] @ seen.mean(axis=0)
        position = target + np.array(_CAMERA_DISTANCE)
        self.server.initial_camera.look_at, self.server.initial_camera.position = tuple(target), tuple(position)
        for client in self.server.get_clients().values():
            client.camera.look_at, client.camera.position = tuple(target), tuple(position)


def told(moment: Moment) -> str:
    """One line about what is shown."""
    parts = [f"frame {plain(moment.frame)}"] if moment.frame else []
    if moment.futures is not None:
        count = max((len(hand.probability) for hand in moment.futures.hands), default=0)
        reach = f"{moment.futures.step_times[-1]:.2g} s ahead" if len(moment.futures.step_times) else "no hand"
        parts.append(f"{plain(moment.futures.model_id or 'forecast')}, {reach}, {count} hypotheses")
    parts += [f"**no {what} for {age:.0f} s**" for what, age in moment.silent.items()]
    if moment.picture is not None and moment.camera is None:
        parts.append("no calibration (camera_info), so nothing is drawn into the image")
    return ", ".join(parts) or "nothing has come yet"
