"""Messages of a bag in the order of recording, by the definitions that it brings; one that was cut off is mended."""

import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rosbags.rosbag2 import Reader

from ...errors import RejectedInput, UserError
from .message_types import decode_message, types_of_bag
from .recording import SUFFIXES, bag_parts, is_closed, matches, open_bag, repair_bag

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BagMessage:
    """One message: its full topic name, when it was recorded (s), its type and its content."""

    topic: str
    received: float
    msgtype: str
    data: object


@contextmanager
def readable_bag(path: Path | str) -> Iterator[Reader]:
    """An open reader of a bag folder or storage file.

    A bag that was cut off, or that has parts because its recorder restarted, is mended in a temporary copy, with a
    warning.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"bag {path} does not exist")
    with tempfile.TemporaryDirectory(prefix="egohand_bag_") as scratch:
        reader, why = None, "was not closed"
        if path.is_file() or (is_closed(path) and len(bag_parts(path)) == 1):
            try:
                reader = open_bag(path)
                reader.open()
            except (UserError, OSError, ValueError):
                reader, why = None, "was cut off or is damaged"
        if reader is None:
            copy = _copy_storage(path, Path(scratch) / "bag")
            try:
                count = repair_bag(copy)
            except UserError:
                raise UserError(f"bag {path} {why}, and no message of it can be read; was it copied whole?") from None
            _log.warning("bag %s %s; %d messages could be read", path, why, count)
            reader = open_bag(copy)
            reader.open()
        try:
            yield reader
        finally:
            reader.close()


def _copy_storage(path: Path, folder: Path) -> Path:
    folders = [] if path.is_file() else bag_parts(path)
    files = (
        [path] if path.is_file() else [f for part in folders for f in sorted(part.iterdir()) if f.suffix in SUFFIXES]
    )
    if not files:
        raise UserError(f"{path} is not a bag: it has no .mcap or .db3 file")
    folder.mkdir()
    for file in files:
        shutil.copy(file, folder / file.name)
    return folder


def read_messages(
    path: Path | str,
    topics: tuple[str, ...] = (),
    reject: Callable[[str, RejectedInput], None] = lambda topic, error: None,
) -> Iterator[BagMessage]:
    """Messages in the order of recording, of the topics whose names end so (all when none is given).

    Definitions come from the bag itself. Bytes that are no message go to `reject` with their topic. Raises `UserError`
    for what is no bag.
    """
    with readable_bag(path) as reader:
        yield from messages_of(reader, topics, reject)


def messages_of(
    reader: Reader,
    topics: tuple[str, ...] = (),
    reject: Callable[[str, RejectedInput], None] = lambda topic, error: None,
) -> Iterator[BagMessage]:
    """`read_messages` of a bag that is open."""
    wanted = [c for c in reader.connections if not topics or any(matches(c.topic, name) for name in topics)]
    types = types_of_bag(reader)
    for connection, received, data in reader.messages(wanted) if wanted else ():
        try:
            content = decode_message(types, data, connection.msgtype)
        except RejectedInput as error:
            reject(connection.topic, error)
            continue
        yield BagMessage(connection.topic, received * 1e-9, connection.msgtype, content)
