"""A robot hand's config file (config/hands/<name>.yaml) as frozen dataclasses. Every error is one line.

The format is documented in docs/retargeting.md. Nothing here reads the URDF: see `library.load_hand`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args

import numpy as np
import yaml

from ...config import from_mapping
from ...errors import UserError
from ...hand.skeleton import KEYPOINT_NAMES

Finger = Literal["thumb", "index", "middle", "ring", "little"]
ObjectiveName = Literal["vector", "position", "dexpilot"]
TermType = Literal["vector", "position", "pinch", "contact", "posture"]
MessageType = Literal["JointState", "JointTrajectory", "Float64MultiArray"]
Unit = Literal["rad", "deg"]

OBJECTIVES: tuple[str, ...] = get_args(ObjectiveName)
DRIVING_OBJECTIVE = "dexpilot"  # what a robot is driven with unless somebody says otherwise: its pinches close
TERM_TYPES: tuple[str, ...] = get_args(TermType)
MESSAGE_TYPES: tuple[str, ...] = get_args(MessageType)
UNITS: tuple[str, ...] = get_args(Unit)

Vector = tuple[float, float, float]
Capsule = tuple[float, float, float, float, float, float, float]
PerJoint = float | dict[str, float]  # a number for all, or joint -> number (`default` for those that are not named)


@dataclass(frozen=True)
class Term:
    """One term of an objective: `weight` times the mean over its rows of a Huber loss with threshold `delta` [m].

    vector: row i compares link vector `links[i]` = (origin, tip) with keypoint vector `keypoints[i]` = (origin, tip).
    position: `links[i]` = (link,), `keypoints[i]` = (keypoint,). pinch: `links[0]` = (base, thumb tip, other tips...).
    contact: as vector, but only the distance counts, and only below `near` [m]; rows of one link and one keypoint keep
    the distance to a point on an object. posture: pull to `pose` [rad].
    """

    type: str
    weight: float = 1.0
    delta: float = 0.02
    links: tuple[tuple[str, ...], ...] = ()
    keypoints: tuple[tuple[int, ...], ...] = ()
    project: float = 0.03
    escape: float = 0.05
    eta1: float = 1e-4
    eta2: float = 3e-2
    near: float = 0.04
    pose: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Objective:
    """What a pose should achieve: human keypoints times `scale`, `regularization` |q - q_last|^2 [1/rad^2], terms."""

    name: str
    scale: float
    terms: tuple[Term, ...]
    regularization: float = 4e-3
    free_base: bool = False


@dataclass(frozen=True)
class Channel:
    """One number of a command: clip(scale * unit(sign * q + offset)); `name` is the joint's name on the wire."""

    joint: str
    name: str
    sign: float = 1.0
    offset: float = 0.0
    scale: float = 1.0
    lower: float = -np.inf
    upper: float = np.inf


@dataclass(frozen=True)
class CommandInterface:
    """A ROS 2 command topic: message type, unit on the wire, least rate [Hz] (0: none needed), channels in order."""

    name: str
    topic: str
    type: str
    channels: tuple[Channel, ...]
    unit: str = "rad"
    rate: float = 0.0
    state_topic: str = "joint_states"
    source: str = ""


@dataclass(frozen=True)
class CollisionConfig:
    """Self-collision: distance kept [m], link pairs left out because they touch by design, and bodies of links.

    `capsules[link]`: (x0, y0, z0, x1, y1, z1, radius) m in the link frame; they replace the URDF's shapes of that link.
    `touch`: distance kept between the tips of thumb and fingers, which are meant to meet. `extra`: (link, link, m) kept
    on top, where capsules say that two links are further apart than they are. `capsule_extra`: the same for one capsule
    of each link, (link, number, link, number, m), counted from 0 in the order of `capsules` or of the URDF.
    """

    margin: float = 0.0005
    touch: float = 0.0
    extra: tuple[tuple[str, str, float], ...] = ()
    capsule_extra: tuple[tuple[str, int, str, int, float], ...] = ()
    ignore: tuple[tuple[str, str], ...] = ()
    capsules: dict[str, tuple[Capsule, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for link, rows in self.capsules.items():
            if any(row[6] <= 0 for row in rows):
                raise ValueError(f"capsules.{link} has a radius that is not positive; {', '.join(map(str, rows))}")
        for first, second, distance in self.extra:
            if not abs(distance) < 0.05:
                raise ValueError(f"extra of {first} and {second} is {distance}; a distance in m is needed, below 0.05")
        for row in self.capsule_extra:
            if not abs(row[4]) < 0.05:
                raise ValueError(f"capsule_extra {list(row)} ends in {row[4]}; a distance in m is needed, below 0.05")


@dataclass(frozen=True, eq=False)
class HandConfig:
    """All of a hand's file. `palm_rotation` (3, 3) turns palm-frame vectors into the robot's base frame.

    `points` name places that the URDF has no link for, such as a fingertip: (link, x, y, z) m. They count as links.
    """

    name: str
    side: str
    description: str
    urdf: Path | None
    root: str | None
    joints: tuple[str, ...]
    acceleration: dict[str, float]
    velocity: dict[str, float]
    rest: dict[str, float]
    palm_link: str
    palm_rotation: np.ndarray
    fingers: dict[str, tuple[str, ...]]
    objectives: dict[str, Objective]
    commands: dict[str, CommandInterface]
    collision: CollisionConfig = field(default_factory=CollisionConfig)
    points: dict[str, tuple[str, float, float, float]] = field(default_factory=dict)
    source: str = ""


# --- The file as it is written ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Palm:
    link: str
    rotation: tuple[Vector, Vector, Vector]


@dataclass(frozen=True)
class _Term:
    type: TermType
    weight: float = Term.weight
    delta: float = Term.delta
    links: tuple[str | tuple[str, ...], ...] = ()
    keypoints: tuple[str | int | tuple[str | int, ...], ...] = ()
    project: float = Term.project
    escape: float = Term.escape
    eta1: float = Term.eta1
    eta2: float = Term.eta2
    near: float = Term.near
    pose: PerJoint = field(default_factory=dict)


@dataclass(frozen=True)
class _Objective:
    terms: tuple[_Term, ...]
    scale: float = 1.0
    regularization: float = Objective.regularization
    free_base: bool = False


@dataclass(frozen=True)
class _Channel:
    joint: str
    name: str | None = None
    sign: float = 1.0
    offset: float = 0.0
    scale: float = 1.0
    clip: tuple[float, float] | None = None


@dataclass(frozen=True)
class _Command:
    topic: str
    type: MessageType
    channels: tuple[str | _Channel, ...]
    unit: Unit = "rad"
    rate: float = CommandInterface.rate
    state_topic: str = CommandInterface.state_topic
    source: str = ""


@dataclass(frozen=True)
class _Point:
    link: str
    xyz: Vector


@dataclass(frozen=True)
class _Hand:
    name: str
    side: Literal["left", "right"]
    joints: tuple[str, ...]
    acceleration: PerJoint
    palm: _Palm
    fingers: dict[Finger, tuple[str, ...]]
    objectives: dict[ObjectiveName, _Objective]
    commands: dict[str, _Command]
    description: str = ""
    source: str = ""
    urdf: str | None = None
    root: str | None = None
    velocity: PerJoint = field(default_factory=dict)
    rest: PerJoint = field(default_factory=dict)
    collision: CollisionConfig = field(default_factory=CollisionConfig)
    points: dict[str, _Point] = field(default_factory=dict)


# --- Reading it -------------------------------------------------------------------------------------------------------


def load_config(path: str | Path) -> HandConfig:
    """Read a hand's YAML file; `UserError` names the file and the key that is wrong."""
    path = Path(path).expanduser()
    if not path.is_file():
        raise UserError(f"hand config {path} does not exist; give a .yaml file or one of `egohand hands`")
    try:
        data = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    return parse_config(data, path)


def parse_config(data: Mapping[str, Any], path: str | Path) -> HandConfig:
    """Check a loaded YAML mapping and turn it into a `HandConfig`; relative URDF paths start at the file's folder."""
    file = from_mapping(_Hand, data, f"{path}: ")
    at = _Place(f"{path}: ", file.joints)
    if not file.joints or len(set(file.joints)) != len(file.joints):
        at.fail("joints", f"{', '.join(file.joints) or 'is empty'}; each actuated joint must be listed once")
    return HandConfig(
        name=file.name,
        side=file.side,
        description=file.description,
        urdf=None if file.urdf is None else (Path(path).parent / file.urdf).resolve(),
        root=file.root,
        joints=file.joints,
        acceleration=at.per_joint("acceleration", file.acceleration, positive=True),
        velocity=at.per_joint("velocity", file.velocity, positive=True),
        rest=at.per_joint("rest", file.rest),
        palm_link=file.palm.link,
        palm_rotation=_rotation(file.palm.rotation, at),
        fingers={str(name): links for name, links in file.fingers.items()},
        objectives={k: _objective(k, v, at.below(f"objectives.{k}")) for k, v in file.objectives.items()},
        commands={k: _interface(k, v, at.below(f"commands.{k}")) for k, v in file.commands.items()},
        collision=file.collision,
        points={name: (point.link, *point.xyz) for name, point in file.points.items()},
        source=file.source,
    )


@dataclass(frozen=True)
class _Place:
    """Where in the file one is, for errors; `joints` are the hand's."""

    prefix: str
    joints: tuple[str, ...]

    def below(self, key: str) -> "_Place":
        return _Place(f"{self.prefix}{key}.", self.joints)

    def fail(self, key: str, message: str) -> NoReturn:
        raise UserError(f"{self.prefix}{key} {message}")

    def positive(self, key: str, value: float) -> float:
        if value <= 0:
            self.fail(key, f"is {value}; a positive number is needed")
        return value

    def per_joint(self, key: str, value: PerJoint, positive: bool = False) -> dict[str, float]:
        """Joint -> number, of those that are given."""
        given = value if isinstance(value, dict) else {"default": value}
        for name, number in given.items():
            if name != "default" and name not in self.joints:
                self.fail(key, f"names {name!r}, which is not in joints: {', '.join(self.joints)}")
            if positive:
                self.positive(f"{key}.{name}" if isinstance(value, dict) else key, number)
        common = dict.fromkeys(self.joints, given["default"]) if "default" in given else {}
        return common | {name: number for name, number in given.items() if name != "default"}


def _rotation(rows: tuple[Vector, Vector, Vector], at: _Place) -> np.ndarray:
    rotation = np.asarray(rows, dtype=float)
    if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-6):
        at.fail(
            "palm.rotation", f"is {rows}; a 3x3 rotation matrix is needed (rows: robot base x, y, z in palm x, y, z)"
        )
    if np.linalg.det(rotation) < 0:
        at.fail("palm.rotation", "is a mirror image (determinant -1); a rotation is needed")
    return rotation


def _objective(name: str, entry: _Objective, at: _Place) -> Objective:
    if not entry.terms:
        at.fail("terms", "is empty; at least one term is needed")
    terms = tuple(_term(term, at.below(f"terms.{i}")) for i, term in enumerate(entry.terms))
    return Objective(name, at.positive("scale", entry.scale), terms, entry.regularization, entry.free_base)


def _term(entry: _Term, at: _Place) -> Term:
    links = tuple((row,) if isinstance(row, str) else row for row in entry.links)
    rows = ((row,) if isinstance(row, str | int) else row for row in entry.keypoints)
    keypoints = tuple(tuple(_keypoint(name, at) for name in row) for row in rows)
    widths = {"vector": (2,), "position": (1,), "contact": (1, 2)}.get(entry.type)
    shape = {len(row) for row in (*links, *keypoints)}
    if widths and (len(links) != len(keypoints) or len(shape) != 1 or not shape <= set(widths)):
        wanted = f"equally many rows of {' or '.join(map(str, widths))} names"
        at.fail("links", f"and keypoints of a {entry.type} term must be {wanted}")
    if entry.type == "pinch" and (len(links) != 1 or not 3 <= len(links[0]) <= 6):
        at.fail("links", "of a pinch term must be one row: base link, thumb tip, then 1 to 4 fingertips")
    if entry.type == "pinch" and keypoints and [len(row) for row in keypoints] != [len(links[0])]:
        at.fail("keypoints", "of a pinch term must be one row: a keypoint for each of its links")
    pose = tuple(at.per_joint("pose", entry.pose).items())
    numbers = {k: getattr(entry, k) for k in ("weight", "delta", "project", "escape", "eta1", "eta2", "near")}
    return Term(type=entry.type, links=links, keypoints=keypoints, pose=pose, **numbers)


def _keypoint(name: str | int, at: _Place) -> int:
    if isinstance(name, int) and 0 <= name < len(KEYPOINT_NAMES):
        return name
    if name not in KEYPOINT_NAMES:
        at.fail("keypoints", f"{name!r} is not a keypoint; keypoints: {', '.join(KEYPOINT_NAMES)}")
    return KEYPOINT_NAMES.index(name)


def _interface(name: str, entry: _Command, at: _Place) -> CommandInterface:
    channels = tuple(_channel(channel, at.below(f"channels.{i}")) for i, channel in enumerate(entry.channels))
    missing = [joint for joint in at.joints if joint not in {c.joint for c in channels}]
    if missing:
        at.fail("channels", f"leave out the joints {', '.join(missing)}")
    return CommandInterface(
        name, entry.topic, entry.type, channels, entry.unit, entry.rate, entry.state_topic, entry.source
    )


def _channel(given: str | _Channel, at: _Place) -> Channel:
    entry = _Channel(given) if isinstance(given, str) else given
    if entry.joint not in at.joints:
        at.fail("joint", f"is {entry.joint!r}; choose one of {', '.join(at.joints)}")
    if abs(entry.sign) != 1.0:
        at.fail("sign", f"is {entry.sign}; 1 or -1 is needed")
    if entry.scale == 0.0:
        at.fail("scale", "is 0; another number is needed")
    low, high = entry.clip or (-np.inf, np.inf)
    if not low < high:
        at.fail("clip", f"is {[low, high]}; [low, high] is needed")
    return Channel(entry.joint, entry.name or entry.joint, entry.sign, entry.offset, entry.scale, low, high)
