"""A robot hand's config file (config/hands/<name>.yaml) as frozen dataclasses. Every error is one line.

The format is documented in docs/retargeting.md. Nothing here reads the URDF: see `library.load_hand`.
"""

from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
import yaml

from ...errors import UserError
from ...hand.skeleton import FINGERS, KEYPOINT_NAMES, SIDES

OBJECTIVES = ("vector", "position", "dexpilot")
TERM_TYPES = ("vector", "position", "pinch", "contact", "posture")
MESSAGE_TYPES = ("JointState", "JointTrajectory", "Float64MultiArray")
UNITS = ("rad", "deg")


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
    on top, where capsules say that two links are further apart than they are.
    """

    margin: float = 0.0005
    touch: float = 0.0
    extra: tuple[tuple[str, str, float], ...] = ()
    ignore: tuple[tuple[str, str], ...] = ()
    capsules: dict[str, tuple[tuple[float, ...], ...]] = field(default_factory=dict)


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


def parse_config(data, path: str | Path) -> HandConfig:
    """Check a loaded YAML mapping and turn it into a `HandConfig`; relative URDF paths start at the file's folder."""
    at = _Reader(data, str(path))
    at.only("name", "side", "description", "urdf", "root", "joints", "acceleration", "velocity", "rest", "palm", "fingers",
            "objectives", "commands", "collision", "points", "source")  # fmt: skip
    at.sub("palm", {}).only("link", "rotation")
    joints = tuple(at.list("joints", str))
    if not joints or len(set(joints)) != len(joints):
        at.fail("joints", "must list each actuated joint once")
    rotation = np.asarray(at.get("palm.rotation", list), dtype=float)
    if rotation.shape != (3, 3) or not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-6):
        at.fail("palm.rotation", "must be a 3x3 rotation matrix (rows: robot base x, y, z in palm x, y, z)")
    if np.linalg.det(rotation) < 0:
        at.fail("palm.rotation", "is a mirror image (determinant -1); a rotation is needed")
    urdf = at.get("urdf", str, None)
    fingers = {name: tuple(links) for name, links in at.get("fingers", dict).items()}
    for name in fingers:
        if name not in FINGERS:
            at.fail("fingers", f"{name!r} is not a finger; fingers: {', '.join(FINGERS)}")
    return HandConfig(
        name=at.get("name", str),
        side=at.choice("side", SIDES),
        description=at.get("description", str, ""),
        urdf=None if urdf is None else (Path(path).parent / urdf).resolve(),
        root=at.get("root", str, None),
        joints=joints,
        acceleration=at.per_joint("acceleration", joints, positive=True),
        velocity=at.per_joint("velocity", joints, positive=True, default={}),
        rest=at.per_joint("rest", joints, default={}),
        palm_link=at.get("palm.link", str),
        palm_rotation=rotation,
        fingers=fingers,
        objectives={k: _objective(k, at.sub(f"objectives.{k}"), joints) for k in at.get("objectives", dict)},
        commands={k: _interface(k, at.sub(f"commands.{k}"), joints) for k in at.get("commands", dict)},
        collision=_collision(at.sub("collision", {})),
        points={name: _point(at, name) for name in at.get("points", dict, {})},
        source=at.get("source", str, ""),
    )


def _objective(name, at, joints) -> Objective:
    if name not in OBJECTIVES:
        at.fail("", f"unknown objective {name!r}; objectives: {', '.join(OBJECTIVES)}")
    at.only("scale", "terms", "regularization", "free_base")
    terms = tuple(
        _term(_Reader(term, at.file, f"{at.prefix}terms.{i}."), joints) for i, term in enumerate(at.get("terms", list))
    )
    if not terms:
        at.fail("terms", "must list at least one term")
    return Objective(
        name=name,
        scale=at.number("scale", 1.0, positive=True),
        terms=terms,
        regularization=at.number("regularization", 4e-3),
        free_base=at.get("free_base", bool, False),
    )


def _term(at, joints) -> Term:
    kind = at.choice("type", TERM_TYPES)
    at.only(*(field.name for field in fields(Term)))
    numbers = {
        k: at.number(k, getattr(Term, k)) for k in ("weight", "delta", "project", "escape", "eta1", "eta2", "near")
    }
    links = tuple((row,) if isinstance(row, str) else tuple(row) for row in at.get("links", list, []))
    keypoints = tuple(_keypoint_row(at, row) for row in at.get("keypoints", list, []))
    widths = {"vector": (2,), "position": (1,), "contact": (1, 2)}.get(kind)
    shape = {len(row) for row in (*links, *keypoints)}
    if widths and (len(links) != len(keypoints) or len(shape) != 1 or not shape <= set(widths)):
        at.fail(
            "links",
            f"and keypoints of a {kind} term must be equally many rows of {' or '.join(map(str, widths))} names",
        )
    if kind == "pinch" and (len(links) != 1 or not 3 <= len(links[0]) <= 6):
        at.fail("links", "of a pinch term must be one row: base link, thumb tip, then 1 to 4 fingertips")
    if kind == "pinch" and keypoints and [len(row) for row in keypoints] != [len(links[0])]:
        at.fail("keypoints", "of a pinch term must be one row: a keypoint for each of its links")
    pose = tuple(at.per_joint("pose", joints, default={}).items())
    return Term(type=kind, links=links, keypoints=keypoints, pose=pose, **numbers)


def _keypoint_row(at, row) -> tuple[int, ...]:
    row = [row] if isinstance(row, (str, int)) else row
    for name in row:
        if name not in KEYPOINT_NAMES and not (isinstance(name, int) and 0 <= name < len(KEYPOINT_NAMES)):
            at.fail("keypoints", f"{name!r} is not a keypoint; keypoints: {', '.join(KEYPOINT_NAMES)}")
    return tuple(KEYPOINT_NAMES.index(name) if isinstance(name, str) else name for name in row)


def _interface(name, at, joints) -> CommandInterface:
    at.only("topic", "type", "channels", "unit", "rate", "state_topic", "source")
    channels = tuple(
        _channel(_Reader(c, at.file, f"{at.prefix}channels.{i}."), joints)
        for i, c in enumerate(at.get("channels", list))
    )
    missing = [joint for joint in joints if joint not in {c.joint for c in channels}]
    if missing:
        at.fail("channels", f"leave out the joints {', '.join(missing)}")
    return CommandInterface(
        name=name,
        topic=at.get("topic", str),
        type=at.choice("type", MESSAGE_TYPES),
        channels=channels,
        unit=at.choice("unit", UNITS, "rad"),
        rate=at.number("rate", 0.0),
        state_topic=at.get("state_topic", str, "joint_states"),
        source=at.get("source", str, ""),
    )


def _channel(at, joints) -> Channel:
    if isinstance(at.data, str):
        at = _Reader({"joint": at.data}, at.file, at.prefix)
    at.only("joint", "name", "sign", "offset", "scale", "clip")
    joint = at.choice("joint", joints)
    clip = at.get("clip", list, [-np.inf, np.inf])
    if len(clip) != 2 or not float(clip[0]) < float(clip[1]):
        at.fail("clip", f"must be [low, high], not {clip}")
    sign, scale = at.number("sign", 1.0), at.number("scale", 1.0)
    if sign not in (-1.0, 1.0) or scale == 0:
        at.fail("sign", "must be 1 or -1, and scale not 0")
    return Channel(
        joint, at.get("name", str, joint), sign, at.number("offset", 0.0), scale, float(clip[0]), float(clip[1])
    )


def _collision(at) -> CollisionConfig:
    at.only("margin", "touch", "extra", "ignore", "capsules")
    ignore = tuple(tuple(pair) for pair in at.get("ignore", list, []))
    if any(len(pair) != 2 for pair in ignore):
        at.fail("ignore", "must be a list of [link, link] pairs")
    capsules = {link: tuple(map(tuple, rows)) for link, rows in at.get("capsules", dict, {}).items()}
    for link, rows in capsules.items():
        if not all(len(row) == 7 and np.isfinite(row).all() and row[6] > 0 for row in rows):
            at.fail(f"capsules.{link}", "must be a list of [x0, y0, z0, x1, y1, z1, radius] in m")
    extra = tuple(tuple(row) for row in at.get("extra", list, []))
    if any(len(row) != 3 or not isinstance(row[2], (int, float)) or not abs(row[2]) < 0.05 for row in extra):
        at.fail("extra", "must be a list of [link, link, distance in m]")
    margin, touch = at.number("margin", CollisionConfig.margin), at.number("touch", CollisionConfig.touch)
    return CollisionConfig(margin, touch, extra, ignore, capsules)


def _point(at, name) -> tuple[str, float, float, float]:
    xyz = at.get(f"points.{name}.xyz", list)
    if len(xyz) != 3 or not all(isinstance(x, (int, float)) and np.isfinite(x) for x in xyz):
        at.fail(f"points.{name}.xyz", "must be [x, y, z] in m")
    return at.get(f"points.{name}.link", str), *map(float, xyz)


_REQUIRED = object()


class _Reader:
    """A mapping with dotted keys whose errors name file and key."""

    def __init__(self, data, file: str, prefix: str = ""):
        self.data, self.file, self.prefix = data, file, prefix
        if not isinstance(data, (dict, str)):
            self.fail("", f"must be a mapping of keys, not {type(data).__name__}")

    def fail(self, key: str, message: str):
        raise UserError(f"{self.file}: {(self.prefix + key).rstrip('.') or 'file'} {message}")

    def only(self, *known: str) -> None:
        """Refuse keys that nothing reads: a typing error would otherwise leave a default in place."""
        for key in self.data if isinstance(self.data, dict) else ():
            if key not in known:
                self.fail(str(key), f"is unknown; known here: {', '.join(known)}")

    def get(self, key: str, kind: type, default=_REQUIRED):
        value = self.data
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value is None:
            if default is _REQUIRED:
                self.fail(key, f"is missing; a {kind.__name__} is needed")
            return default
        if not isinstance(value, kind):
            self.fail(key, f"is {value!r}; a {kind.__name__} is needed")
        return value

    def sub(self, key: str, default=_REQUIRED) -> "_Reader":
        return _Reader(self.get(key, dict, default), self.file, f"{self.prefix}{key}.")

    def list(self, key: str, kind: type) -> list:
        values = self.get(key, list)
        for value in values:
            if not isinstance(value, kind):
                self.fail(key, f"holds {value!r}; each must be a {kind.__name__}")
        return values

    def number(self, key: str, default: float, positive: bool = False) -> float:
        value = self.get(key, object, default)
        if (
            isinstance(value, bool)
            or not isinstance(value, (int, float))
            or not np.isfinite(value)
            or (positive and value <= 0)
        ):
            self.fail(key, f"is {value!r}; a {'positive ' if positive else ''}number is needed")
        return float(value)

    def choice(self, key: str, options, default=_REQUIRED) -> str:
        value = self.get(key, str, default)
        if value not in options:
            self.fail(key, f"is {value!r}; choose one of {', '.join(options)}")
        return value

    def per_joint(self, key: str, joints, positive: bool = False, default=_REQUIRED) -> dict[str, float]:
        """A number for all joints, or a mapping joint -> number (`default` key for the others)."""
        value = self.get(key, object, default)
        if isinstance(value, (int, float)):
            value = {"default": value}
        if not isinstance(value, dict):
            self.fail(key, "must be a number or a mapping from joint to number")
        for name, number in value.items():
            if name != "default" and name not in joints:
                self.fail(key, f"names {name!r}, which is not in joints: {', '.join(joints)}")
            if (
                isinstance(number, bool)
                or not isinstance(number, (int, float))
                or not np.isfinite(number)
                or (positive and number <= 0)
            ):
                self.fail(f"{key}.{name}", f"is {number!r}; a {'positive ' if positive else ''}number is needed")
        common = {joint: float(value["default"]) for joint in joints} if "default" in value else {}
        return common | {k: float(v) for k, v in value.items() if k != "default"}
