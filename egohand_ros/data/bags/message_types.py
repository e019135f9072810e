"""Message definitions: of installed ROS packages, for writing bags that explain themselves, and of bags, for reading
them.
"""

import os
import sys
from pathlib import Path

from rosbags.interfaces import MessageDefinitionFormat
from rosbags.rosbag2 import Reader
from rosbags.typesys import (
    Stores,
    get_types_from_idl,
    get_types_from_msg,
    get_typestore,
)
from rosbags.typesys.store import Typestore

from ...errors import RejectedInput, UserError


def interface_file(msgtype: str) -> Path | None:
    """The installed `.msg` file of a type such as "egohand_ros/msg/HandPose", or None."""
    package, _, name = msgtype.split("/")
    prefixes = [p for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    source = Path(__file__).resolve().parents[3]
    candidates = [Path(prefix, "share", package, "msg", f"{name}.msg") for prefix in (*prefixes, sys.prefix)]
    if package == "egohand_ros":
        candidates.append(source / "msg" / f"{name}.msg")
    return next((path for path in candidates if path.is_file()), None)


class MessageTypes:
    """A type store of ROS 2 Jazzy's own messages that learns others from their installed definitions."""

    def __init__(self):
        self.store: Typestore = get_typestore(Stores.ROS2_JAZZY)

    def learn(self, msgtype: str) -> None:
        """Register a type and everything that it contains. Raises `UserError` where no definition is installed."""
        if msgtype in self.store.fielddefs:
            return
        path = interface_file(msgtype)
        if path is None:
            raise UserError(
                f"the definition of message type {msgtype} is not installed; source the workspace that has it"
            )
        types = get_types_from_msg(path.read_text(), msgtype)
        for inner in self._contained(types[msgtype]):
            self.learn(inner)
        self.store.register(types)

    def definition(self, msgtype: str) -> tuple[str, str]:
        """Full definition text and type hash ("RIHS01_...") of a type, as bags store them."""
        self.learn(msgtype)
        return self.store.generate_msgdef(msgtype, ros_version=2)[0], self.store.hash_rihs01(msgtype)

    @staticmethod
    def _contained(definition) -> set[str]:
        """Names of the message types in a parsed definition: (constants, fields), arrays looked into."""
        found, queue = set(), [description for _, description in definition[1]]
        while queue:
            kind, value = queue.pop()
            if kind.name == "NAME":
                found.add(value)
            elif kind.name in ("ARRAY", "SEQUENCE"):
                queue.append(value[0])
        return found


def types_of_bag(reader: Reader) -> Typestore:
    """A type store for everything in an opened bag, by the definitions that it brings; nothing has to be installed."""
    store = get_typestore(Stores.ROS2_JAZZY)
    for connection in reader.connections:
        text, form = connection.msgdef.data, connection.msgdef.format
        if connection.msgtype in store.fielddefs or form == MessageDefinitionFormat.NONE:
            continue
        parse = get_types_from_idl if form == MessageDefinitionFormat.IDL else None
        types = parse(text) if parse else get_types_from_msg(text, connection.msgtype)
        store.register({name: fields for name, fields in types.items() if name not in store.fielddefs})
    return store


def decode_message(store: Typestore, data: bytes, msgtype: str):
    """The message in CDR bytes. Raises `RejectedInput`: undecodable_message."""
    try:
        return store.deserialize_cdr(data, msgtype)
    except Exception as error:  # struct, unicode, assertions: whatever nonsense leads to
        raise RejectedInput("undecodable_message", f"{type(error).__name__}: {error}") from None


def is_current(store: Typestore, msgtype: str) -> bool:
    """Whether the definition that a bag brought for a type is the one that is installed."""
    try:
        return store.hash_rihs01(msgtype) == MessageTypes().definition(msgtype)[1]
    except UserError:
        return False
