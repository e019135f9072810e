"""Recordings: complete when closed, nearly complete when the recorder is killed, bounded when the disk is slow."""

import os
import secrets
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest
from rosbags.rosbag2 import Reader

from egohand_ros.data.bags.message_types import MessageTypes
from egohand_ros.data.bags.recording import (
    BagWriter,
    Topic,
    bag_parts,
    is_closed,
    is_whole,
    next_part,
    open_bag,
    repair_bag,
)
from egohand_ros.errors import UserError

TYPES = MessageTypes()


def topic(name="/prompt", msgtype="std_msgs/msg/String"):
    return Topic(name, msgtype, *TYPES.definition(msgtype))


def text(value):
    return bytes(TYPES.store.serialize_cdr(TYPES.store.types["std_msgs/msg/String"](value), "std_msgs/msg/String"))


def read(folder):
    with Reader(folder) as reader:
        return [(c.topic, stamp, bytes(data)) for c, stamp, data in reader.messages()]


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_closed_recording_has_every_message_in_order(tmp_path, storage):
    writer = BagWriter(tmp_path / "bag", storage)
    messages = [("/prompt", i * 10**6, text(f"step {i}" * 50)) for i in range(1, 3000)]
    for name, stamp, data in messages:
        assert writer.write(topic(name), stamp, data)
    writer.close()
    assert is_closed(tmp_path / "bag") and read(tmp_path / "bag") == messages
    assert writer.written["/prompt"] == 2999 and not writer.dropped and writer.failure is None


def test_definitions_of_our_messages_travel_with_the_bag(tmp_path):
    writer = BagWriter(tmp_path / "bag")
    writer.write(topic("/hand_forecasts", "egohand_ros/msg/HandForecastArray"), 1, bytes(64))
    writer.close()
    with Reader(tmp_path / "bag") as reader:
        definition = reader.connections[0].msgdef.data
    assert "HandForecastStep[] steps" in definition and "geometry_msgs/Point32[21] keypoints" in definition


def test_a_full_queue_drops_whole_messages_and_counts_them(tmp_path):
    writer = BagWriter(tmp_path / "bag", queue_bytes=100)
    assert not writer.write(topic(), 1, bytes(101))
    assert writer.write(topic(), 2, text("fits"))
    writer.close()
    assert writer.dropped == {"/prompt": 1} and [m[1] for m in read(tmp_path / "bag")] == [2]


def test_an_existing_folder_is_never_written_over(tmp_path):
    (tmp_path / "bag").mkdir()
    with pytest.raises(UserError, match="exists already"):
        BagWriter(tmp_path / "bag")
    assert next_part(tmp_path / "bag") == tmp_path / "bag_part2"


def test_a_long_recording_takes_no_more_memory_than_a_short_one(tmp_path):
    writer = BagWriter(tmp_path / "bag", flush_interval=0.0)  # each message makes a chunk, as half a second does
    string, data = topic(), text("step")

    def memory_after(count):
        while (number := writer.written["/prompt"]) < count:
            for stamp in range(number, number + 100):  # a queue that gets long keeps its room
                writer.write(string, stamp, data)
            while writer.written["/prompt"] < number + 100 and writer.failure is None:
                time.sleep(0.001)
            assert writer.failure is None
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        warm = memory_after(300)
        assert memory_after(2300) - warm < 50_000, "less than 25 bytes a chunk"
    finally:
        tracemalloc.stop()
    writer.close()
    assert [stamp for _, stamp, _ in read(tmp_path / "bag")] == list(range(2300))


def record_and_die(folder, storage):
    """Record 400 messages in a process that is killed hard once it says that they are flushed."""
    script = f"""
import sys, time
from egohand_ros.data.bags import recording
flush, flushed = recording.flush, []
recording.flush = lambda writer: (flush(writer), flushed.append(writer))
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_recording import BagWriter, text, topic
writer = BagWriter({str(folder)!r}, {storage!r}, flush_interval=0.05)
size = -1
for i in range(1, 401):
    writer.write(topic(), i, text(f"step {{i}}"))
while writer.written["/prompt"] < 400 and writer.failure is None:
    time.sleep(0.01)
before = len(flushed)
while len(flushed) < before + 2 and writer.failure is None:
    time.sleep(0.01)
print("flushed", flush=True)
time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "flushed\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_killed_recorder_leaves_what_was_flushed(tmp_path, storage):
    record_and_die(tmp_path / "bag", storage)
    assert not is_closed(tmp_path / "bag")
    assert repair_bag(tmp_path / "bag") == 400
    assert read(tmp_path / "bag") == [("/prompt", i, text(f"step {i}")) for i in range(1, 401)]
    assert is_closed(tmp_path / "bag")


def test_a_file_cut_in_the_middle_of_a_record_keeps_the_records_before(tmp_path):
    writer = BagWriter(tmp_path / "bag", flush_interval=0.0)
    for i in range(1, 101):
        writer.write(topic(), i, text(secrets.token_urlsafe(6000)))  # what does not compress
        while writer.written["/prompt"] < i and writer.failure is None:
            time.sleep(0.0005)
    writer.close()
    file = tmp_path / "bag" / "bag.mcap"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    (tmp_path / "bag" / "metadata.yaml").unlink()
    kept = repair_bag(tmp_path / "bag")
    assert 30 < kept < 60
    assert [m[1] for m in read(tmp_path / "bag")] == list(range(1, kept + 1))


def closed_bag(folder, storage="mcap", count=100):
    """A bag that was closed, of messages that do not compress, each in a chunk of its own."""
    writer = BagWriter(folder, storage, flush_interval=0.0)
    for i in range(1, count + 1):
        writer.write(topic(), i, text(secrets.token_urlsafe(6000)))
        while writer.written["/prompt"] < i and writer.failure is None:
            time.sleep(0.0005)
    writer.close()
    return next(path for path in folder.iterdir() if path.suffix in (".mcap", ".db3"))


def read_all(folder):
    with open_bag(folder) as reader:
        return [stamp for _, stamp, _ in reader.messages()]


def test_a_closed_bag_that_was_cut_off_later_is_told_and_repaired(tmp_path):
    file = closed_bag(tmp_path / "bag")
    assert is_whole(tmp_path / "bag")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])  # metadata.yaml is there: it was copied first
    assert not is_whole(tmp_path / "bag")
    with pytest.raises(UserError, match="was cut off.*egohand bag repair"):
        read_all(tmp_path / "bag")
    kept = repair_bag(tmp_path / "bag")
    assert 30 < kept < 60 and read_all(tmp_path / "bag") == list(range(1, kept + 1)) and is_whole(tmp_path / "bag")


def test_of_a_file_that_is_damaged_in_its_midst_nothing_is_lost(tmp_path):
    file = closed_bag(tmp_path / "bag")
    content = bytearray(file.read_bytes())
    for i in range(len(content) // 2, len(content) // 2 + 20_000):
        content[i] ^= 0x5A
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"damaged after \d+ messages.*egohand bag repair"):
        read_all(tmp_path / "bag")
    assert not is_whole(tmp_path / "bag")
    kept = repair_bag(tmp_path / "bag")
    assert kept and read_all(tmp_path / "bag") == list(range(1, kept + 1))
    assert (tmp_path / "bag" / f"{file.name}.damaged").read_bytes() == content


def test_a_database_that_was_cut_off_stays_as_it_is(tmp_path):
    file = closed_bag(tmp_path / "bag", "sqlite3", 20)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    before = {path.name: path.read_bytes() for path in (tmp_path / "bag").iterdir()}
    with pytest.raises(UserError, match="was cut off"):
        read_all(tmp_path / "bag")
    with pytest.raises(UserError, match="no message can be read"):
        repair_bag(tmp_path / "bag")
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "bag").iterdir()}


def test_the_parts_of_a_restarted_recorder_are_joined(tmp_path):
    for first in (1, 101):
        writer = BagWriter(next_part(tmp_path / "bag"))
        for i in range(first, first + 100):
            writer.write(topic(), i, text(str(i)))
        writer.close()
    assert len(bag_parts(tmp_path / "bag")) == 2
    assert repair_bag(tmp_path / "bag") == 200
    assert bag_parts(tmp_path / "bag") == [tmp_path / "bag"]
    assert [m[1] for m in read(tmp_path / "bag")] == list(range(1, 201))


def test_nothing_to_repair_is_an_error_that_says_so(tmp_path):
    with pytest.raises(UserError, match="not a bag folder"):
        repair_bag(tmp_path / "nowhere")
    (tmp_path / "bag").mkdir()
    with pytest.raises(UserError, match="nothing to repair"):
        repair_bag(tmp_path / "bag")
