"""Recorder and player as nodes on a real graph: nothing lost, every quality of service, video and bag played."""

import json
import random
import resource
import time
from contextlib import contextmanager

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy")

from builtin_interfaces.msg import Time
from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header, String

from egohand_ros.data.bags.message_types import MessageTypes, types_of_bag
from egohand_ros.data.bags.recording import BagWriter, Topic, open_bag
from egohand_ros.nodes.messages.image import build_image_msg
from egohand_ros.nodes.player.node import PlayerNode
from egohand_ros.nodes.recorder import RecorderNode

LATCHED = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
BEST_EFFORT = QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)


@pytest.fixture
def graph(ros):
    """Makes nodes on one executor; `graph.until(condition)` spins it."""
    executor = SingleThreadedExecutor()
    nodes = []

    class Graph:
        def add(self, node):
            executor.add_node(node)
            nodes.append(node)
            return node

        def start(self, kind, **parameters):
            node = self.add(
                kind(parameter_overrides=[Parameter(k, value=v) for k, v in parameters.items()], namespace="/t")
            )
            assert node.autostart(), node.failure
            return node

        def until(self, condition, timeout=180.0):
            end = time.monotonic() + timeout
            while not condition():
                assert time.monotonic() < end, "timed out"
                executor.spin_once(timeout_sec=0.02)

        def stop(self, node):
            node.trigger_deactivate()

    yield Graph()
    for node in nodes:
        executor.remove_node(node)
        node.destroy_node()
    executor.shutdown()


def read(folder):
    """{topic: [message]} of a bag."""
    found = {}
    with open_bag(folder) as reader:
        store = types_of_bag(reader)
        for connection, _, data in reader.messages():
            found.setdefault(connection.topic, []).append(store.deserialize_cdr(data, connection.msgtype))
    return found


def connected(publisher):
    return lambda: publisher.get_subscription_count() > 0


def written(recorder, topic, count):
    return lambda: recorder._writer.written[topic] >= count


def test_everything_is_recorded_whatever_its_quality_of_service(graph, tmp_path):
    source = graph.add(Node("source", namespace="/t"))
    latched = source.create_publisher(String, "prompt", LATCHED)
    latched.publish(String(data="said before the recorder came"))
    recorder = graph.start(RecorderNode, folder=str(tmp_path / "bag"))
    late = source.create_publisher(String, "session", BEST_EFFORT)
    ignored = source.create_publisher(String, "gossip", 10)
    graph.until(connected(late))
    for i in range(50):
        late.publish(String(data=str(i)))
        ignored.publish(String(data="no"))
        graph.until(written(recorder, "/t/session", i + 1))
    graph.until(written(recorder, "/t/prompt", 1))
    graph.stop(recorder)
    found = read(tmp_path / "bag")
    assert [m.data for m in found["/t/prompt"]] == ["said before the recorder came"]
    assert [m.data for m in found["/t/session"]] == [str(i) for i in range(50)]
    assert "/t/gossip" not in found


@pytest.mark.parametrize("held_up", [0.0, 0.05])
def test_messages_wait_with_the_time_at_which_they_came(graph, tmp_path, monkeypatch, held_up):
    """Also where the recorder's thread does not go on for a while (s) once it has read its clock."""

    class Clock:
        def now(self):
            now = clock.now()
            time.sleep(held_up)
            return now

    source = graph.add(Node("source", namespace="/t"))
    publisher = source.create_publisher(String, "prompt", 50)
    recorder = graph.start(RecorderNode, folder=str(tmp_path / "bag"))
    graph.until(connected(publisher))
    sent, arrived = [], []
    for i in range(10):
        sent.append(time.time_ns())
        publisher.publish(String(data=str(i)))
        assert publisher.wait_for_all_acked(Duration(seconds=60))
        arrived.append(time.time_ns())
        time.sleep(0.02)  # nobody looks meanwhile
    clock = recorder.get_clock()
    monkeypatch.setattr(recorder, "get_clock", Clock)
    graph.stop(recorder)
    with open_bag(tmp_path / "bag") as reader:
        stamps = [stamp for connection, stamp, _ in reader.messages() if connection.topic == "/t/prompt"]
    rounded = 1000  # ns: the middleware's clock counts in parts of its own
    assert len(stamps) == 10
    assert all(a - rounded <= b <= c + rounded for a, b, c in zip(sent, stamps, arrived))


def test_in_simulated_time_what_comes_before_the_clock_waits_for_it(graph, tmp_path):
    source = graph.add(Node("source", namespace="/t"))
    publisher, clock = source.create_publisher(String, "prompt", 50), source.create_publisher(Clock, "/clock", 10)
    recorder = graph.start(RecorderNode, folder=str(tmp_path / "bag"), use_sim_time=True)
    recorder._timeless_until = float("inf")
    graph.until(connected(publisher))
    publisher.publish(String(data="before"))
    graph.until(lambda: recorder._timeless)
    while not recorder._writer.written["/t/prompt"]:
        clock.publish(Clock(clock=Time(sec=1000)))
        graph.until(lambda: recorder.get_clock().now().nanoseconds)
        recorder.look()
    publisher.publish(String(data="after"))
    graph.until(written(recorder, "/t/prompt", 2))
    graph.stop(recorder)
    with open_bag(tmp_path / "bag") as reader:
        stamps = [stamp for connection, stamp, _ in reader.messages() if connection.topic == "/t/prompt"]
    assert len(stamps) == 2 and 900e9 < stamps[0] <= stamps[1] <= 1000e9


def test_what_no_clock_ever_came_for_is_recorded_all_the_same(graph, tmp_path):
    source = graph.add(Node("source", namespace="/t"))
    publisher = source.create_publisher(String, "prompt", 50)
    recorder = graph.start(RecorderNode, folder=str(tmp_path / "bag"), use_sim_time=True)
    graph.until(connected(publisher))
    publisher.publish(String(data="before"))
    graph.until(lambda: recorder._timeless or recorder._writer.written["/t/prompt"])
    graph.stop(recorder)
    assert [m.data for m in read(tmp_path / "bag")["/t/prompt"]] == ["before"]


def test_what_a_recorder_had_no_room_for_is_counted(graph, tmp_path):
    source = graph.add(Node("source", namespace="/t"))
    publisher = source.create_publisher(String, "prompt", 50)
    recorder = graph.start(RecorderNode, folder=str(tmp_path / "bag"))
    graph.until(connected(publisher))
    publisher.publish(String(data="first"))
    graph.until(written(recorder, "/t/prompt", 1))
    for i in range(499):  # more than wait in the middleware, while nobody looks
        publisher.publish(String(data=str(i)))
    graph.until(written(recorder, "/t/prompt", 201))
    publisher.publish(String(data="last"))
    graph.until(lambda: recorder._writer.written["/t/prompt"] + recorder._writer.dropped["/t/prompt"] >= 501)
    graph.stop(recorder)
    messages = read(tmp_path / "bag")["/t/prompt"]
    assert messages[-1].data == "last"
    assert len(messages) + recorder._writer.dropped["/t/prompt"] == 501 and len(messages) < 501


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_disk_that_fills_up_ends_the_recording_with_all_that_was_written(graph, tmp_path, storage):
    source = graph.add(Node("source", namespace="/t"))
    publisher = source.create_publisher(String, "session", 10)
    recorder = graph.start(RecorderNode, folder=str(tmp_path / "bag"), storage=storage)
    graph.until(connected(publisher))
    noise = random.Random(0)
    sent = 0

    def send(count):
        nonlocal sent
        for _ in range(count):
            publisher.publish(String(data=f"{sent} {noise.randbytes(40_000).hex()}"))
            sent += 1
            graph.until(lambda: taken(recorder) >= sent or recorder._writer.failure)

    with files_no_larger_than(1_500_000):
        send(8)
        graph.until(lambda: sum(path.stat().st_size for path in (tmp_path / "bag").iterdir()) > 250_000)  # on disk
        while recorder._writer.failure is None:
            assert sent < 200
            send(8)
            graph.until(lambda: recorder._writer._waiting == 0 or recorder._writer.failure)
        recorder.update_health()
        (status,) = recorder.health.array("recorder", source.get_clock().now().to_msg(), time.monotonic()).status
    graph.stop(recorder)
    assert "cannot write" in recorder._writer.failure and "cannot write" in status.message
    kept = [m.data.partition(" ")[0] for m in read(tmp_path / "bag")["/t/session"]]
    assert len(kept) >= 8 and kept == [str(i) for i in range(len(kept))]


def taken(recorder):
    return recorder._writer.written["/t/session"] + recorder._writer.dropped["/t/session"]


@contextmanager
def files_no_larger_than(size):
    """What a full disk is to this process, whoever runs it: writing beyond fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_images_become_jpeg_and_what_is_no_picture_stays_as_it_is(graph, tmp_path):
    source = graph.add(Node("source", namespace="/t"))
    publisher = source.create_publisher(Image, "image", 10)
    recorder = graph.start(RecorderNode, folder=str(tmp_path / "bag"))
    graph.until(connected(publisher))
    picture = np.full((48, 64, 3), (200, 40, 10), np.uint8)
    header = Header(frame_id="camera")
    header.stamp.sec = 7
    publisher.publish(build_image_msg(picture, header))
    broken = build_image_msg(picture, header)
    broken.height = 4000
    publisher.publish(broken)
    graph.until(lambda: written(recorder, "/t/image/compressed", 1)() and written(recorder, "/t/image", 1)())
    graph.stop(recorder)
    found = read(tmp_path / "bag")
    (image,), (raw,) = found["/t/image/compressed"], found["/t/image"]
    decoded = cv2.imdecode(np.frombuffer(image.data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert image.header.stamp.sec == 7 and np.abs(decoded.astype(int) - picture).max() < 8
    assert raw.height == 4000


def test_a_recorder_that_finds_its_folder_taken_makes_the_next_part(graph, tmp_path):
    (tmp_path / "bag").mkdir()
    recorder = graph.start(RecorderNode, folder=str(tmp_path / "bag"))
    graph.stop(recorder)
    assert (tmp_path / "bag_part2" / "metadata.yaml").is_file()


def listen(graph, **topics):
    """Messages by topic, from now on."""
    heard = {name: [] for name in topics}
    ear = graph.add(Node("ear", namespace="/t"))
    for name, (kind, topic, qos) in topics.items():
        ear.create_subscription(kind, topic, heard[name].append, qos)
    return heard


def finished(heard):
    return lambda: heard["state"] and json.loads(heard["state"][-1].data)["word"] == "finished"


def test_a_video_is_played_whole_in_its_own_time(graph, tmp_path):
    path = str(tmp_path / "video.avi")
    video = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*"MJPG"), 20.0, (160, 120))
    for i in range(12):
        video.write(np.full((120, 160, 3), 20 * i, np.uint8))
    video.release()
    heard = listen(
        graph,
        image=(CompressedImage, "image/compressed", 50),
        info=(CameraInfo, "camera_info", 50),
        prompt=(String, "prompt", LATCHED),
        state=(String, "player/state", LATCHED),
    )
    task = {"prompt": "take the cup"}
    graph.start(
        PlayerNode, source="video", path=path, image_transport="compressed", image_width=80, camera_fov=90.0, **task
    )
    graph.until(finished(heard))
    graph.until(lambda: len(heard["image"]) >= 12 and len(heard["info"]) >= 12)
    stamps = np.array([m.header.stamp.sec + 1e-9 * m.header.stamp.nanosec for m in heard["image"]])
    assert np.diff(stamps) == pytest.approx(0.05, abs=1e-6) and abs(time.time() - stamps[-1]) < 60
    levels = [cv2.imdecode(np.frombuffer(m.data, np.uint8), 0).mean() for m in heard["image"]]
    assert np.all(np.diff(levels) > 10), "every frame once, in order"
    graph.until(lambda: heard["prompt"])
    assert [m.data for m in heard["prompt"]] == ["take the cup"]
    assert heard["info"][0].width == 80 and heard["info"][0].k[0] == pytest.approx(40.0)


def test_a_bag_is_played_byte_for_byte_with_its_clock(graph, tmp_path):
    types = MessageTypes()
    topic = Topic("/old/prompt", "std_msgs/msg/String", *types.definition("std_msgs/msg/String"))
    writer = BagWriter(tmp_path / "bag")
    other = Topic("/old/session", "std_msgs/msg/String", *types.definition("std_msgs/msg/String"))
    writer.write(other, 100 * 10**9, bytes(8))  # long before there is anything to play
    for i in range(10):
        text = types.store.types["std_msgs/msg/String"](f"task {i}")
        writer.write(topic, 500 * 10**9 + i * 10**8, bytes(types.store.serialize_cdr(text, "std_msgs/msg/String")))
    writer.close()
    heard = listen(
        graph, prompt=(String, "prompt", 50), clock=(Clock, "/clock", 200), state=(String, "player/state", LATCHED)
    )
    player = graph.start(PlayerNode, source="bag", path=str(tmp_path / "bag"), rate=4.0)
    graph.until(finished(heard))
    graph.until(lambda: len(heard["prompt"]) >= 10)
    assert [m.data for m in heard["prompt"]] == [f"task {i}" for i in range(10)]
    graph.until(lambda: heard["clock"][-1].clock.sec >= 501, timeout=120.0)  # time goes on after the end
    graph.stop(player)
    ticks = np.array([c.clock.sec + 1e-9 * c.clock.nanosec for c in heard["clock"]])
    # From half a second of the player before the first input on, not from the beginning of the recording.
    assert ticks[0] == pytest.approx(498.0, abs=1.0) and (np.diff(ticks) >= 0).all()


def test_a_task_that_is_given_takes_the_place_of_the_recorded_ones(graph, tmp_path):
    types, writer = MessageTypes(), BagWriter(tmp_path / "bag")
    topic = Topic("/old/prompt", "std_msgs/msg/String", *types.definition("std_msgs/msg/String"))
    text = types.store.types["std_msgs/msg/String"]("recorded")
    for i in range(5):
        writer.write(topic, i * 10**8, bytes(types.store.serialize_cdr(text, "std_msgs/msg/String")))
    writer.close()
    heard = listen(graph, prompt=(String, "prompt", LATCHED), state=(String, "player/state", LATCHED))
    graph.start(PlayerNode, source="bag", path=str(tmp_path / "bag"), rate=20.0, prompt="given")
    graph.until(finished(heard))
    graph.until(lambda: heard["prompt"])
    assert [m.data for m in heard["prompt"]] == ["given"]


@pytest.mark.parametrize(
    "parameters, said",
    [
        ({"source": "video"}, "needs the parameter path"),
        ({"source": "video", "path": "missing.mp4"}, "does not exist"),
        ({"source": "bag", "path": "missing"}, "does not exist"),
    ],
)
def test_a_player_without_its_source_says_what_is_missing(graph, parameters, said):
    node = graph.add(PlayerNode(parameter_overrides=[Parameter(k, value=v) for k, v in parameters.items()]))
    assert not node.autostart() and said in node.failure
