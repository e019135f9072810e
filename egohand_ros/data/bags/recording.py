"""Writing rosbag2 recordings that survive a crash, and mending those that a crash left open.

`rosbags` keeps up to 1 MiB of an MCAP file and the whole transaction of a sqlite3 file in memory until it is closed.
`BagWriter` therefore closes the chunk or commits every `flush_interval`: after a `kill -9` all but that last moment is
in the file. An MCAP file without its end is still refused by readers, so `repair_bag` rebuilds it (any reader accepts
the result); `is_closed` tells which folders need it.
"""

import logging
import os
import queue
import re
import shutil
import sqlite3
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from rosbags.interfaces import Connection, Qos
from rosbags.rosbag2 import CompressionFormat, CompressionMode, Reader, StoragePlugin, Writer
from rosbags.rosbag2.errors import ReaderError

from ...errors import UserError
from ...locks import hold_folder, is_held
from ...outputs import new_folder, resolved

STORAGES = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}
SUFFIXES = (".mcap", ".db3")
_BAG_VERSION = 9

_MCAP_MAGIC = b"\x89MCAP0\r\n"
_DATA_END = b"\x0f" + (4).to_bytes(8, "little") + bytes(4)
_FOOTER_WITHOUT_SUMMARY = b"\x02" + (20).to_bytes(8, "little") + bytes(20)

# Pictures that nodes draw: topics that end like a camera's, but are none.
MADE_IMAGES = ("sim_hand/image", "debug/image")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Topic:
    """A recorded topic: its definition text and type hash make the bag self-contained."""

    name: str
    msgtype: str
    definition: str
    type_hash: str
    qos: tuple[Qos, ...] = ()


class BagWriter:
    """A rosbag2 folder written by its own thread, so that a slow disk never delays who records.

    `write` puts a message in a queue of at most `queue_bytes`; what does not fit is refused and counted in `dropped`,
    never half-written. `written` and `dropped` count messages by topic.
    """

    def __init__(
        self, folder: Path | str, storage: str = "mcap", queue_bytes: int = 256 * 2**20, flush_interval: float = 0.5
    ):
        folder = Path(folder)
        if storage not in STORAGES:
            raise UserError(f"bag storage {storage!r} is unknown; known: {', '.join(STORAGES)}")
        if folder.exists():
            raise UserError(f"{folder} exists already; give another folder to record into, or remove it")
        self.folder, self.written, self.dropped = folder, Counter(), Counter()
        self.failure: str | None = None
        self._storage, self._queue_bytes, self._flush_interval = storage, queue_bytes, flush_interval
        self._waiting = 0  # bytes in the queue
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue = queue.SimpleQueue()
        self._opened = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bag_writer", daemon=True)
        self._thread.start()
        self._opened.wait()
        if self.failure is not None:
            raise UserError(f"cannot record into {folder}: {self.failure}")

    def write(self, topic: Topic, stamp: int, data: bytes) -> bool:
        """Queue one CDR message with its time in ns; False when the queue is full and the message was dropped."""
        with self._lock:
            if self.failure is not None or self._waiting + len(data) > self._queue_bytes:
                self.dropped[topic.name] += 1
                return False
            self._waiting += len(data)
        self._queue.put((topic, stamp, data))
        return True

    def close(self) -> None:
        """Write everything that is queued, the index and metadata.yaml."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def _run(self) -> None:
        # sqlite3 connections belong to the thread that opened them, so that everything happens in this one.
        writer = new_writer(self.folder, self._storage)
        held = None
        try:
            writer.open()
            held = hold_folder(self.folder)
            if self._storage == "mcap":
                writer.storage.chunks = _ChunkIndex(self.folder)
            self._opened.set()
            self._write_until_closed(writer)
            writer.close()
        except Exception as error:  # a full disk must stop the recording alone, and be seen
            if isinstance(error, (OSError, sqlite3.Error)):
                self.failure = f"cannot write {self.folder}: {getattr(error, 'strerror', None) or error}"
                _log.error("recording stopped: %s", self.failure)
            else:
                self.failure = f"{type(error).__name__}: {error}"
                _log.exception("recording into %s stopped", self.folder)
            self._end(writer)
        finally:
            self._opened.set()
            if held is not None:
                os.close(held)

    def _end(self, writer: Writer) -> None:
        """Close what is in the files after a failure: a reader then finds every whole record, if not their index."""
        try:
            writer.abort()
        except Exception as error:
            _log.debug("closing %s: %s", self.folder, error)
        for path in self.folder.glob("*.mcap"):
            try:
                _end_mcap(path)
            except OSError as error:
                _log.debug("ending %s: %s", path, error)

    def _write_until_closed(self, writer: Writer) -> None:
        connections: dict[Topic, Connection] = {}
        last_flush = time.monotonic()
        while True:
            try:
                item = self._queue.get(timeout=self._flush_interval)
            except queue.Empty:
                item = ()
            if item is None:
                return
            if item:
                self._write_one(writer, connections, *item)
            if time.monotonic() - last_flush >= self._flush_interval:
                flush(writer)
                last_flush = time.monotonic()

    def _write_one(self, writer: Writer, connections: dict, topic: Topic, stamp: int, data: bytes) -> None:
        connection = connections.get(topic)
        if connection is None:
            connection = connections[topic] = writer.add_connection(
                topic.name,
                topic.msgtype,
                msgdef=topic.definition,
                rihs01=topic.type_hash,
                offered_qos_profiles=topic.qos,
            )
        writer.write(connection, stamp, data)
        self.written[topic.name] += 1
        with self._lock:
            self._waiting -= len(data)


class _ChunkIndex:
    """The records of an MCAP file's chunks that go to its end, in a file without a name until then.

    `rosbags` keeps them in a list: 400 bytes a chunk, 3 MB an hour, in a process whose memory has to stay where it is.
    """

    def __init__(self, folder: Path):
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115, open as long as this
        self._count = 0

    def append(self, record: BytesIO) -> None:
        self._file.write(record.tell().to_bytes(4, "little"))
        self._file.write(record.getbuffer())
        self._count += 1

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[BytesIO]:
        self._file.seek(0)
        for _ in range(self._count):
            record = BytesIO()
            record.write(self._file.read(int.from_bytes(self._file.read(4), "little")))
            yield record


def new_writer(folder: Path | str, storage: str) -> Writer:
    """A writer of a new bag, not open yet: MCAP with chunks compressed by zstd, which every reader of MCAP takes.

    A sqlite3 file is not compressed. Messages would be one by one, which gains little on small ones, and one that was
    cut off would not say that they are; a file would be as a whole, at the end, which a recorder that is killed does
    not reach.
    """
    writer = Writer(Path(folder).resolve(), version=_BAG_VERSION, storage_plugin=STORAGES[storage])
    if storage == "mcap":
        writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
    return writer


def flush(writer: Writer) -> None:
    """Bring every message so far to the file, where the operating system keeps it if this process is killed."""
    storage = writer.storage
    if hasattr(storage, "conn"):
        storage.conn.commit()
    else:
        if storage.chunk.msgs:
            storage.close_chunk()
        storage.bio.flush()


def matches(topic: str, name: str) -> bool:
    """Whether a full topic is the relative `name` in any namespace."""
    return f"/{topic.lstrip('/')}".endswith(f"/{name.lstrip('/')}")


def is_input_topic(topic: str, name: str) -> bool:
    """Whether a full topic is the input `name` in some namespace; pictures that nodes draw are not the camera's."""
    return matches(topic, name) and not any(matches(topic.removesuffix("/compressed"), made) for made in MADE_IMAGES)


class BagReader(Reader):
    """A reader that says in a line (`UserError`) that a bag was cut off or is damaged, also where that shows only
    as its messages are read.
    """

    def open(self) -> None:
        """Read the index."""
        try:
            super().open()
        except Exception as error:  # whatever a library makes of bytes that are not a bag's
            raise UserError(_damaged(self.path, error)) from None

    def messages(self, *args, **kwargs) -> Iterator[tuple]:
        """(connection, stamp in ns, data) in order."""
        count = 0
        try:
            for message in super().messages(*args, **kwargs):
                yield message
                count += 1
        except Exception as error:
            raise UserError(_damaged(self.path, error, f" after {count} messages")) from None


def _damaged(path: Path, error: Exception, where: str = "") -> str:
    repair = f"egohand bag repair {path if path.is_dir() else 'its folder'}"
    return f"bag {path} was cut off or is damaged{where} ({error}); to keep what is before that: {repair}"


def open_bag(path: Path | str) -> Reader:
    """A reader of a bag: use it as a context. Raises `UserError` where there is no bag or it was not closed."""
    path = Path(path)
    if not path.exists():
        raise UserError(f"bag {path} does not exist")
    if path.is_dir() and not any(file.suffix in SUFFIXES for file in path.iterdir()):
        raise UserError(f"{path} is not a bag: it has no .mcap or .db3 file")
    if path.is_dir() and not is_closed(path):
        raise UserError(f"bag {path} has no metadata.yaml; if its recorder was interrupted: egohand bag repair {path}")
    try:
        return BagReader(path)
    except (OSError, ReaderError) as error:
        raise UserError(f"bag {path} cannot be read: {error}") from None


def is_whole(folder: Path | str) -> bool:
    """Whether a bag folder was closed, has no parts and can be read to its end; reads all of it."""
    if not is_closed(folder) or len(bag_parts(folder)) > 1:
        return False
    try:
        with open_bag(folder) as reader:
            for _ in reader.messages():
                pass
    except UserError:
        return False
    return True


def is_closed(folder: Path | str) -> bool:
    """Whether a bag folder was closed in order; otherwise `repair_bag` mends it."""
    return (Path(folder) / "metadata.yaml").is_file()


def bag_parts(folder: Path | str) -> list[Path]:
    """The bag folder and the `_part2`, `_part3`, ... folders that a restarted recorder made beside it."""
    folder = Path(folder)
    numbered = re.compile(re.escape(folder.name) + r"_part(\d+)")
    parts = [
        (int(found[1]), p) for p in folder.parent.glob("*") if (found := numbered.fullmatch(p.name)) and p.is_dir()
    ]
    return [folder, *(part for _, part in sorted(parts))]


def next_part(folder: Path | str) -> Path:
    """`folder` itself when it is free, otherwise the first free `<folder>_partN`, N from 2."""
    folder = Path(folder)
    number, candidate = 1, folder
    while candidate.exists():
        number += 1
        candidate = folder.with_name(f"{folder.name}_part{number}")
    return candidate


def repair_bag(folder: Path | str) -> int:
    """Rebuild a bag that was not closed or is damaged, and join its parts, in place; how many messages it has.

    A file of which not all could be read stays beside what could, as `NAME.damaged`. Raises `UserError` when
    there is nothing that can be read.
    """
    folder = resolved(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is not a bag folder")
    for part in bag_parts(folder):
        if is_held(part):
            raise UserError(f"{part} is being recorded; repair it when that has ended")
    files = [path for part in bag_parts(folder) for path in sorted(part.iterdir()) if path.suffix in SUFFIXES]
    if not files:
        raise UserError(f"{folder} has no .mcap or .db3 file; there is nothing to repair")
    storage = "mcap" if files[0].suffix == ".mcap" else "sqlite3"
    with new_folder(
        folder, lambda there: {"metadata.yaml", *(path.name for path in files if path.parent == there)}
    ) as mended:
        count, damaged = _copy(files, new_writer(mended, storage))
        for path, why in damaged:
            kept = mended / f"{path.name}.damaged"
            try:
                os.link(path, kept)
            except OSError:  # a file system without second names
                shutil.copyfile(path, kept)
            _log.warning("%s; the file is kept as %s", why, folder / kept.name)
    for part in bag_parts(folder)[1:]:  # all that was in them is in the mended bag now; notes stay
        for path in files:
            if path.parent == part:
                path.unlink()
        (part / "metadata.yaml").unlink(missing_ok=True)
        with suppress(OSError):
            part.rmdir()
    return count


def _copy(files: list[Path], writer: Writer) -> tuple[int, list[tuple[Path, str]]]:
    """Write every readable message of `files` to a new bag; how many, and which files are damaged and why.
    Raises `UserError` when there is none.
    """
    connections, count, damaged, reasons = {}, 0, [], []
    with writer:
        for path in files:
            before = count
            try:
                for connection, stamp, data in _readable_messages(_ended(path, Path(writer.path).parent)):
                    key = (connection.topic, connection.msgtype)
                    if key not in connections:
                        connections[key] = writer.add_connection(
                            connection.topic,
                            connection.msgtype,
                            msgdef=connection.msgdef.data,
                            rihs01=connection.digest or "RIHS01_" + 64 * "0",
                            offered_qos_profiles=connection.ext.offered_qos_profiles,
                        )
                    writer.write(connections[key], stamp, data)
                    count += 1
            except _Damage as damage:
                reasons.append(str(damage))
                if path.stat().st_size:
                    damaged.append((path, f"{path} is damaged after {count - before} messages ({damage})"))
    if not count:
        why = f": {'; '.join(reasons)}" if reasons else ""
        raise UserError(f"no message can be read from {', '.join(map(str, files))}{why}")
    return count, damaged


def _ended(path: Path, scratch: Path) -> Path:
    """A storage file that has an end: itself, or a copy that is given one, so that what may fail changes nothing."""
    if path.suffix != ".mcap" or _has_end(path):
        return path
    copy = scratch / f"{path.parent.name}_{path.name}"
    shutil.copyfile(path, copy)
    _end_mcap(copy)
    return copy


class _Damage(Exception):
    """Why a storage file cannot be read, or no further."""


def _readable_messages(path: Path) -> Iterator[tuple]:
    """(connection, stamp, data) of a storage file that has an end; raises `_Damage` where that breaks off."""
    try:
        with Reader(path) as reader:
            yield from reader.messages()
    except Exception as error:
        raise _Damage(str(error)) from None


def _has_end(path: Path) -> bool:
    """Whether an MCAP file was closed."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - len(_MCAP_MAGIC)))
        return size >= 2 * len(_MCAP_MAGIC) and file.read() == _MCAP_MAGIC


def _end_mcap(path: Path) -> None:
    """Cut an MCAP file after its last whole record and give it an end, unless it has one."""
    if _has_end(path):
        return
    with path.open("r+b") as file:
        size = file.seek(0, 2)
        position = len(_MCAP_MAGIC)
        while position + 9 <= size:
            file.seek(position)
            head = file.read(9)
            end = position + 9 + int.from_bytes(head[1:], "little")
            if end > size or head[0] in (0x02, 0x0F):
                break
            position = end
        file.truncate(position)
        file.seek(position)
        file.write(_DATA_END + _FOOTER_WITHOUT_SUMMARY + _MCAP_MAGIC)
