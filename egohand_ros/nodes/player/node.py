"""`player`: a video, a recording or the synthetic scene, published as if camera and tracker were there.

    source    publishes                                                          time
    video     image, camera_info                                                 now
    bag       the recording's input topics, byte for byte, and /clock            the recording's
    video with `offline`   image, camera_info and /clock                         its own: it waits for the nodes
    synthetic hand_poses, camera_pose, prompt and, with images, image, camera_info   now

`~/state` (latched, std_msgs/String, JSON) says ready, playing or finished, how far it is and how many messages went
out. Playing begins with activation, once the nodes of `wait_for` are in the graph and every subscriber in it is
connected.

Offline, each image is played once the nodes of `answers` have said one after the other on their ~/debug/latency that
they are done with the one before, or one that it does not pass it on; time stands still until then. So every frame is
tracked, forecast and followed on any machine under any load. What got no answer is played again; what gets none in 60 s
is counted and left behind.
"""

import json
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

from builtin_interfaces.msg import Time
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_msgs.msg import String

from ...messages.basic import seconds
from ...msg import Latency
from ..base import qos
from ..base.node import EgoHandNode, run_node
from ..base.parameters import BaseParameters, parameter
from ..session.plan import INPUT_TOPICS
from .items import Item
from .sources import SOURCES, make_source

_CLOCK_PERIOD = 0.01  # s between clock ticks where nothing else happens; every node wakes up for each
_LEAD_IN = (
    0.5  # s in which the source is opened and a simulated clock runs, or the first messages would come in a burst
)
_STATE_PERIOD = 0.25
_LATE = 0.05  # s behind its time after which an item is counted as late
_ASK_AGAIN, _GIVE_UP = 5.0, 60.0  # s without an answer after which an image is played again, and left behind
_SAME_STAMP = 1e-6  # s
_COMMAND_LAG, _NO_COMMANDS = 0.05, 2.0  # s of its clock, and of ours, by which an offline clock waits for commands


@dataclass(frozen=True)
class PlayerParameters(BaseParameters):
    source: str = parameter("synthetic", "What to play.", choices=tuple(SOURCES), read_only=True)
    path: str = parameter("", "Video file or rosbag2 folder.", read_only=True)
    rate: float = parameter(
        1.0, "Speed; other than 1 only for a bag, whose /clock runs as fast.", range=(0.05, 20.0), read_only=True
    )
    loop: bool = parameter(False, "Begin again at the end.")
    duration: float = parameter(
        0.0,
        "Stop after this long; 0: at the source's end (synthetic: 20 s).",
        unit="s",
        range=(0.0, 86400.0),
        read_only=True,
    )
    topics: tuple[str, ...] = parameter(
        tuple(INPUT_TOPICS), "Topics of a bag to play, each a name or recorded:=played.", read_only=True
    )
    frame_id: str = parameter(
        "camera_optical_frame", "Frame of a video's or the synthetic camera's images.", read_only=True
    )
    camera_fov: float = parameter(
        70.0, "Horizontal field of view of a video's camera.", unit="deg", range=(10.0, 170.0), read_only=True
    )
    image_transport: str = parameter(
        "raw", "Publish image, or image/compressed as JPEG.", choices=("raw", "compressed"), read_only=True
    )
    jpeg_quality: int = parameter(95, "Quality of compressed images.", range=(10, 100), read_only=True)
    image_width: int = parameter(
        0, "Wider images are made this wide; 0: left as they are.", unit="px", range=(0, 8192), read_only=True
    )
    images: bool = parameter(True, "Render images of the synthetic scene.", read_only=True)
    image_rate: float = parameter(15.0, "Rate of the synthetic images.", unit="Hz", range=(1.0, 60.0), read_only=True)
    pose_rate: float = parameter(
        30.0, "Rate of the synthetic hand tracker.", unit="Hz", range=(1.0, 240.0), read_only=True
    )
    tracker_latency: float = parameter(
        0.03,
        "Time that the synthetic tracker takes, by which hands are later than they were seen, at least; never "
        "before their image.",
        unit="s",
        range=(0.0, 1.0),
        read_only=True,
    )
    seed: int = parameter(0, "Seed of the synthetic scene.", range=(0, 2**31 - 1), read_only=True)
    prompt: str = parameter(
        "", "Task in words, in place of what the source says of it; empty: the source's.", read_only=True
    )
    offline: bool = parameter(
        False, "A video waits, and time with it, until the nodes of answers are done with each image.", read_only=True
    )
    answers: str = parameter(
        "", "Nodes whose ~/debug/latency an offline video waits for, in order, separated by commas.", read_only=True
    )
    wait_for: str = parameter(
        "", "Nodes that have to be in the graph before it begins, names separated by commas.", read_only=True
    )
    wait_timeout: float = parameter(
        10.0,
        "Longest wait for nodes to appear and subscribers to connect.",
        unit="s",
        range=(0.0, 300.0),
        read_only=True,
    )


class _Progress(NamedTuple):
    word: str
    position: float
    duration: float
    late: int
    published: dict[str, int]
    unanswered: int


class _Answer(NamedTuple):
    """The stamp of the last image that a node is done with, and whether it gave the next node something."""

    stamp: float
    passed_on: bool


class PlayerNode(EgoHandNode):
    Parameters = PlayerParameters

    def __init__(self, **kwargs):
        super().__init__("player", **kwargs)

    def setup(self) -> None:
        self._source = make_source(self.parameters)
        self._outputs = {
            name: self.advertise(kind, name, qos.LATCHED if name == "prompt" else qos.RELIABLE)
            for name, kind in (self._source.topics | ({"prompt": String} if self.parameters.prompt else {})).items()
        }
        self._state_output = self.create_publisher(String, "~/state", qos.profile(qos.LATCHED))
        self._offline = self.parameters.offline and not self._source.has_clock
        has_clock = self._source.has_clock or self._offline
        self._clock_output = self.create_publisher(Clock, "/clock", 10) if has_clock else None
        self._answered = {name: _Answer(0.0, True) for name in _names(self.parameters.answers)}
        self._answer, self._unanswered = threading.Condition(), 0
        self._commanded: float | None = None  # stamp of the newest command
        if self._offline:
            self.subscribe(JointState, "joint_targets", self._on_targets, qos.OBSERVATIONS)
        for name in self._answered if self._offline else ():
            self.subscribe(Latency, f"{name}/debug/latency", self._on_answer_of(name), qos.OBSERVATIONS)
        self._stopped = threading.Event()
        self._published: Counter = Counter()
        self._late = 0
        self._say("ready", 0.0)

    def start(self) -> None:
        self._stopped.clear()
        self._thread = threading.Thread(target=self._play, name="player", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join(5.0)

    def release(self) -> None:
        for name in ("_state_output", "_clock_output"):
            publisher = getattr(self, name, None)
            if publisher is not None:
                self.destroy_publisher(publisher)
                setattr(self, name, None)

    def _play(self) -> None:
        self.guard("source", self._play_until_stopped)
        if not self._stopped.is_set():
            self._say("finished", self._source.duration)
        self._tick_on()

    def _play_until_stopped(self) -> None:
        if self._offline:
            self._tick(self.now())
        elif self._clock_output is not None:
            self._tick(self._source.start - _LEAD_IN * self.parameters.rate)
        self._await_subscribers()
        if self.parameters.prompt:
            self._publish(Item(self._source.start, "prompt", String(data=self.parameters.prompt)))
        lead = _LEAD_IN
        while not self._stopped.is_set():
            self._play_once(lead)
            lead = 0.0
            if not self.parameters.loop:
                return

    def _await_subscribers(self) -> None:
        """Until every subscriber in the graph is connected to its publisher, so that the first message is not lost; nor
        refused, for who has no clock yet refuses every stamp.

        Who is in the graph, each node learns by itself: others may have known a node for a second when it is still news
        here.
        """
        end = time.monotonic() + self.parameters.wait_timeout
        awaited = set(_names(self.parameters.wait_for))
        while not self._stopped.is_set() and time.monotonic() < end and not awaited <= set(self.get_node_names()):
            self._stopped.wait(0.01)
        for publisher in filter(None, (*self._outputs.values(), self._clock_output)):
            while not self._stopped.is_set() and time.monotonic() < end:
                if publisher.get_subscription_count() >= self.count_subscribers(publisher.topic_name):
                    break
                self._stopped.wait(0.01)
            self.get_logger().debug(f"{publisher.topic_name}: {publisher.get_subscription_count()} subscribers")

    def _play_once(self, lead: float) -> None:
        """Everything once; the first message is due in `lead` s."""
        begin, last_state = time.monotonic() + lead, -1.0
        has_own_time = self._clock_output is not None and not self._offline
        start = self._source.start if has_own_time else (self._last_tick if self._offline else self.now()) + lead
        for item in self._source.items(start):
            if self.parameters.prompt and item.topic == "prompt":
                continue
            offset = item.time - start
            if self.parameters.duration and offset > self.parameters.duration:
                return
            self._sleep_until(begin, start, item.time)
            if self._stopped.is_set():
                return
            if self._clock_output is not None:
                self._tick(item.time)
            self._publish(item)
            if self._offline and item.topic.startswith("image"):
                self._await_answers(item)
            if offset - last_state >= _STATE_PERIOD * self.parameters.rate:
                self._say("playing", offset)
                last_state = offset
            if not self._offline and time.monotonic() - begin - offset / self.parameters.rate > _LATE:
                self._late += 1

    def _publish(self, item: Item) -> None:
        self._outputs[item.topic].publish(item.message)
        self._published[item.topic] += 1

    def _on_answer_of(self, name: str):
        def on_answer(message: Latency) -> None:
            with self._answer:
                self._answered[name] = _Answer(seconds(message.header.stamp), "total" in message.stages)
                self._answer.notify_all()

        return on_answer

    def _await_answers(self, item: Item) -> None:
        """Until every node is done with an image."""
        begin = asked = time.monotonic()
        with self._answer:
            while not self._stopped.is_set() and (late := self._awaited(item.time)):
                self._answer.wait(0.1)
                now = time.monotonic()
                if now - begin > _GIVE_UP:
                    self._unanswered += 1
                    self.get_logger().warning(f"{late} said nothing of an image for {_GIVE_UP:.0f} s")
                    break
                if now - asked > _ASK_AGAIN:
                    asked = now
                    self._tick(item.time)
                    self._outputs[item.topic].publish(item.message)

    def _awaited(self, stamp: float) -> str:
        """The node that has yet to say something of the image of that time; "" once all is said."""
        for name, answer in self._answered.items():
            if answer.stamp < stamp - _SAME_STAMP:
                return name
            if not answer.passed_on:
                break
        return ""

    def _on_targets(self, message: JointState) -> None:
        with self._answer:
            self._commanded = seconds(message.header.stamp)
            self._answer.notify_all()

    def _advance_to(self, due: float) -> None:
        """Tick an offline clock on, no faster than a live one, and no faster than the retargeter commands."""
        while not self._stopped.is_set() and self._last_tick < due:
            self._stopped.wait(_CLOCK_PERIOD)
            self._tick(min(self._last_tick + _CLOCK_PERIOD, due))
            with self._answer:
                seen = lambda: self._commanded is None or self._commanded >= self._last_tick - _COMMAND_LAG  # noqa: E731
                if not self._answer.wait_for(seen, _NO_COMMANDS):
                    self._commanded = None  # it has stopped to command: until it does so again, nothing waits for it

    def _sleep_until(self, begin: float, start: float, due: float) -> None:
        if self._offline:
            self._advance_to(due)
            return
        rate = self.parameters.rate
        while not self._stopped.is_set():
            left = begin + (due - start) / rate - time.monotonic()
            if left <= 0.0:
                return
            if self._clock_output is None:
                self._stopped.wait(left)
            else:
                self._stopped.wait(min(left, _CLOCK_PERIOD))
                self._tick(min(due, start + (time.monotonic() - begin) * rate))

    def _tick(self, seconds: float) -> None:
        nanoseconds = round(seconds * 1e9)
        self._last_tick = seconds
        self._clock_output.publish(Clock(clock=Time(sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9)))

    def _tick_on(self) -> None:
        """After the end time goes on, so that watchdogs see the silence."""
        if self._clock_output is None:
            return
        begin, end = time.monotonic(), self._last_tick
        while not self._stopped.wait(_CLOCK_PERIOD):
            self._tick(end + (time.monotonic() - begin) * self.parameters.rate)

    def _say(self, word: str, position: float) -> None:
        progress = _Progress(
            word, round(position, 3), self._source.duration, self._late, dict(self._published), self._unanswered
        )
        self._state_output.publish(String(data=json.dumps(progress._asdict())))


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def main(args: list[str] | None = None) -> int:
    """Run the node."""
    return run_node(PlayerNode, args)


if __name__ == "__main__":
    sys.exit(main())
