"""`RecordingPage`: the page of a recording, with a time line to seek and play, and the choice of the forecaster."""

import logging
import threading
from pathlib import Path

from ..errors import UserError
from ..robot.arm.model import ArmModel
from ..robot.hands.library import load_hand
from .feed import Feed
from .page import RATE, Page
from .panels import plain
from .server import DEFAULT_PORT
from .timeline import Replay, TimeLine, make_replay

RECORDED = "as recorded"
_SPEEDS = ("0.1", "0.25", "0.5", "1", "2", "5")
_TICK = 1.0 / RATE
_HYPOTHESES = 5

_log = logging.getLogger(__name__)


class RecordingPage:
    """A context that serves `url`; `run` plays until `stop` is set. Controls act on the page alone.

    `hand` is a robot hand to show, "" for the one that the recording names. Raises `UserError`.
    """

    def __init__(self, bag: Path | str, forecasters: list[str], port: int = DEFAULT_PORT, hand: str = ""):
        self._bag, self._forecasters, self._port, self._hand_name = Path(bag), forecasters, port, hand
        self.stop = threading.Event()
        self._replays: dict[str, Replay] = {}
        self._failed: dict[str, str] = {}
        self._making: threading.Thread | None = None
        self._reached = 0.0

    def __enter__(self) -> "RecordingPage":
        self._line = TimeLine(self._bag)
        self._line.__enter__()
        try:
            name = self._hand_name or self._line.robot_name("hand")
            self._hand = self._load_hand(name) if name else None
            self.page = Page(f"egohand: {self._bag.name}", self._port, self._hand, self._load_arm())
        except BaseException:
            self._line.__exit__(None, None, None)
            raise
        self.url = self.page.url
        self._add_controls()
        self._seek(self._line.begin)
        return self

    def __exit__(self, *error: object) -> None:
        self.stop.set()
        if self._making is not None:
            self._making.join()
        self.page.close()
        self._line.__exit__(*error)

    def choose(self, forecaster: str) -> None:
        """As if it had been chosen on the page."""
        self._choice.value = forecaster

    def run(self) -> None:
        """Show, at most `RATE` times a second, until `stop` is set. Nothing is drawn while no browser looks."""
        while not self.stop.wait(_TICK):
            if self.page.open:
                self.turn(_TICK)

    def turn(self, passed: float) -> None:
        """One look at the controls and one picture; `passed` s since the last one."""
        wanted = self._line.begin + float(self._slider.value)
        chosen = self._chosen()
        if abs(wanted - self._shown_at) > 1e-3 or chosen is not self._shown:
            self._shown = chosen
            self._seek(wanted)  # makes it fresh
        elif self._playing.value:
            until = min(self._time + passed * float(self._speed.value), self._line.end)
            self._line.play(self._feed, self._time, until, chosen)
            self._time = until
            if until >= self._line.end:
                self._playing.value = False
        else:
            if self._fresh:
                self.page.show(self._feed, self._time, at_once=True)
                self._fresh = False
            return
        self.page.show(self._feed, self._time, at_once=self._fresh)
        self._fresh = False
        self._slider.value = round(self._time - self._line.begin, 2)
        self._shown_at = self._line.begin + float(self._slider.value)

    def _add_controls(self) -> None:
        gui, length = self.page.server.gui, max(self._line.end - self._line.begin, 0.01)
        with gui.add_folder("Recording", order=-1.0):
            self._slider = gui.add_slider("time [s]", 0.0, round(length, 2), 0.01, 0.0)
            self._playing = gui.add_checkbox("play", True)
            self._speed = gui.add_dropdown("speed", _SPEEDS, initial_value="1")
            first = [RECORDED] if self._line.has_forecasts else []
            self._choice = gui.add_dropdown("forecaster", (*first, *self._forecasters))
            self._state = gui.add_markdown("")
        self._shown: Replay | None = None
        self._shown_at = self._time = self._line.begin
        self._fresh = True

    def _seek(self, wanted: float) -> None:
        self._time = self._shown_at = wanted
        self._feed = Feed(self._hand, self._line.begin)
        self._line.seek(self._feed, wanted, self._shown)
        self._fresh = True

    def _chosen(self) -> Replay | None:
        """The forecasts to show; those of a forecaster that is not done yet are made meanwhile."""
        name = self._choice.value
        if name == RECORDED:
            self._tell("")
            return None
        if name in self._failed:
            self._tell(f"{name}: {self._failed[name]}")
        elif name not in self._replays:
            self._start_making(name)
            done = (self._reached - self._line.begin) / max(self._line.end - self._line.begin, 0.01)
            self._tell(f"{name}: {100 * min(max(done, 0.0), 1.0):.0f} % of the recording is forecast")
        else:
            self._tell("")
        return self._replays.get(name, self._shown)

    def _tell(self, text: str) -> None:
        if self._state.content != plain(text):
            self._state.content = plain(text)

    def _start_making(self, name: str) -> None:
        if self._making is not None and self._making.is_alive():
            return
        self._reached = self._line.begin

        def note(stamp: float) -> None:
            self._reached = stamp

        def make() -> None:
            try:
                replay = make_replay(self._bag, name, _HYPOTHESES, note, self.stop.is_set)
                if not self.stop.is_set():
                    self._replays[name] = replay
            except UserError as error:
                self._failed[name] = str(error)
            except Exception as error:  # a bug of a forecaster ends neither the page nor the recording
                _log.exception("forecaster %s failed", name)
                self._failed[name] = f"{type(error).__name__}: {error}"

        self._making = threading.Thread(target=make, name="replay", daemon=True)
        self._making.start()

    def _load_arm(self):  # type: ignore[no-untyped-def]
        name = self._line.robot_name("arm")
        try:
            return ArmModel.load(name, self._hand) if name and self._hand is not None else None
        except UserError as error:
            _log.warning("the robot arm of the recording is not shown: %s", error)
            return None

    def _load_hand(self, name: str):  # type: ignore[no-untyped-def]
        try:
            return load_hand(name)
        except UserError as error:
            if self._hand_name:
                raise
            _log.warning("the robot hand of the recording is not shown: %s", error)
            return None
