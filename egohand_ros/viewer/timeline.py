"""`TimeLine`: a recording that can be looked at from any time on, with the forecasts it has or with those of another
forecaster on the same inputs."""

import bisect
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..data.bags.bag import readable_bag
from ..data.bags.message_types import decode_message, is_current, types_of_bag
from ..data.bags.recording import is_input_topic, matches
from ..errors import RejectedInput, UserError
from ..messages.cdr import LITTLE_ENDIAN_CDR, decode_hand_forecast_array
from ..messages.forecast import Futures
from ..messages.hands import parse_hand_pose_array_msg
from .feed import Feed
from .inputs import INPUTS
from .shapes import SHOWN_HYPOTHESES

_FORECASTS = "hand_forecasts"
_RATE = 15.0  # Hz, at most, of forecasts that are made again: the page shows no more
_BEGINNINGS = ("hand_poses", "image", "image/compressed")
_LEAD_IN = 2.0  # s before a time that is sought, so that what changes seldom is known
_HAND_TIMEOUT = 0.5  # s; the node's default
_SELDOM = ("/tf_static", "camera_info")


@dataclass
class Replay:
    """What a forecaster makes of the recording: its forecasts with rising stamps, s."""

    stamps: list[float] = field(default_factory=list)
    futures: list[Futures] = field(default_factory=list)

    def at(self, stamp: float) -> Futures | None:
        """The newest one of `stamp` or before."""
        place = bisect.bisect_right(self.stamps, stamp)
        return self.futures[place - 1] if place else None


class TimeLine:
    """A context; `begin` and `end` s are those of its first and last hands or images.

    Raises `UserError` for what is no recording, or has neither.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self._bag: AbstractContextManager[Any] = readable_bag(path)

    def __enter__(self) -> "TimeLine":
        self._reader = self._bag.__enter__()
        self._types = types_of_bag(self._reader)
        kind = INPUTS[_FORECASTS][0]
        self._fast = kind in self._types.fielddefs and is_current(self._types, kind)
        self._names = {c.id: name for c in self._reader.connections if (name := input_name(c.topic, c.msgtype))}
        self._wanted = [c for c in self._reader.connections if c.id in self._names]
        times = [t for c in self._wanted if self._names[c.id] in _BEGINNINGS for t in self._ends(c)]
        if not times:
            raise UserError(f"bag {self.path} has neither hand_poses nor images to look at")
        self.begin, self.end = min(times), max(times)
        return self

    def __exit__(self, *error: Any) -> None:
        self._bag.__exit__(*error)

    @property
    def has_forecasts(self) -> bool:
        """Whether forecasts were recorded."""
        return _FORECASTS in self._names.values()

    def robot_name(self, part: str) -> str:
        """The robot "hand" or "arm" that the recording says it was made with; "" for none."""
        for connection in self._reader.connections:
            if matches(connection.topic, "session") and connection.msgtype == "std_msgs/msg/String":
                for _, _, data in self._reader.messages([connection]):
                    told = json.loads(decode_message(self._types, data, connection.msgtype).data)
                    name = told.get("options", {}).get(part, "")
                    return "" if name == "none" else str(name)
        return ""

    def seek(self, feed: Feed, time: float, replay: Replay | None = None) -> None:
        """Give what was known at `time` s to a new feed; a `replay` takes the place of the recorded forecasts."""
        seldom = [c for c in self._wanted if self._names[c.id] in _SELDOM]
        for name, message in self._messages(seldom, self._reader.start_time * 1e-9, time):
            give(feed, name, message)
        self.play(feed, time - _LEAD_IN, time, replay)

    def play(self, feed: Feed, after: float, until: float, replay: Replay | None = None) -> None:
        """Give what came after one time and until another one, s."""
        wanted = [c for c in self._wanted if replay is None or self._names[c.id] != _FORECASTS]
        for name, message in self._messages(wanted, after, until):
            if replay is not None and name == "hand_poses":
                hands = parse_hand_pose_array_msg(message)
                made = replay.at(hands.stamp)
                if made is not None:
                    feed.on_futures(made)
            give(feed, name, message)

    def _ends(self, connection: Any) -> Iterator[float]:
        """Times, s, of a topic's first and last message."""
        first = next(iter(self._reader.messages([connection])), None)
        if first is None:
            return
        yield first[1] * 1e-9
        last, span = None, 10**9
        while last is None:  # the end is found from the end, without reading all
            start = self._reader.end_time - span
            last = max((t for _, t, _ in self._reader.messages([connection], start=start)), default=None)
            span *= 4
        yield last * 1e-9

    def _messages(self, connections: list[Any], after: float, until: float) -> Iterator[tuple[str, Any]]:
        if not connections or until <= after:
            return
        start, stop = round(after * 1e9) + 1, round(until * 1e9) + 1
        for connection, _, data in self._reader.messages(connections, start=start, stop=stop):
            name = self._names[connection.id]
            try:
                if name == _FORECASTS and self._fast and data[:4] == LITTLE_ENDIAN_CDR:
                    yield name, decode_hand_forecast_array(bytes(data), SHOWN_HYPOTHESES)
                else:
                    yield name, decode_message(self._types, data, connection.msgtype)
            except RejectedInput:
                continue


def give(feed: Feed, name: str, message: Any) -> None:
    """Give a message of a topic of `INPUTS` to the feed; one that is refused is left out."""
    try:
        INPUTS[name][1](feed, message)
    except RejectedInput:
        return


def input_name(topic: str, msgtype: str) -> str:
    """The name in `INPUTS` of a recorded topic in any namespace; "" for what is not looked at."""
    for name, (kind, _) in INPUTS.items():
        found = is_input_topic(topic, name) if name.startswith("image") else matches(topic, name)
        if found and msgtype == kind:
            return name
    return ""


def make_replay(
    path: Path | str,
    forecaster: str,
    hypotheses: int,
    on_progress: Callable[[float], None] = lambda stamp: None,
    stop: Callable[[], bool] = lambda: False,
) -> Replay:
    """Run a forecaster over a recording's inputs, as the node would; `on_progress` is given the stamp it has come to.

    Raises `UserError` for a forecaster that there is not.
    """
    from ..evaluation.replay import replay_observations  # imports torch
    from ..forecast.common.futures import futures_from_forecast
    from ..forecast.registry import make_forecaster

    model = make_forecaster(forecaster)
    spec, replay = model.spec, Replay()
    for observation in replay_observations(path, spec):
        stamp = float(observation.window.stamp[0])
        if stop():
            break
        if replay.stamps and stamp - replay.stamps[-1] < 0.99 / _RATE:
            continue
        if spec.lacks(observation.window):
            raise UserError(spec.lacks(observation.window))
        forecast = model.forecast(observation.window, min(hypotheses, spec.max_hypotheses), 0)
        fresh = [stamp - seen <= _HAND_TIMEOUT for seen in observation.last_seen]
        futures = futures_from_forecast(forecast, observation.frame_id, fresh=fresh, model_id=spec.model_id)
        replay.stamps.append(stamp)
        replay.futures.append(futures)
        on_progress(stamp)
    return replay
