"""URDF text -> the few facts that kinematics, limits and collision need. XML parsing is pytorch-kinematics' own."""

import contextlib
import functools
import importlib.util
import io
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from ...errors import UserError

MOVABLE = ("revolute", "continuous", "prismatic")


@dataclass(frozen=True)
class Mimic:
    """A joint that follows another: q = multiplier * q_of(joint) + offset."""

    joint: str
    multiplier: float
    offset: float


@dataclass(frozen=True, eq=False)
class Joint:
    """One joint. `origin` is T_parent_joint (4, 4); `axis` is a unit vector in the joint frame; limits in rad or m."""

    name: str
    kind: str
    parent: str
    child: str
    origin: np.ndarray
    axis: np.ndarray
    lower: float
    upper: float
    velocity: float
    mimic: Mimic | None

    @property
    def movable(self) -> bool:
        return self.kind in MOVABLE


@dataclass(frozen=True, eq=False)
class Shape:
    """One collision shape: box (x, y, z size), cylinder (radius, length), sphere (radius) or mesh (scale, filename)."""

    kind: str
    origin: np.ndarray
    size: tuple[float, ...]
    filename: str = ""


@dataclass(frozen=True, eq=False)
class RobotTree:
    """A URDF as data: links with their collision shapes, and joints in the order of the file."""

    name: str
    root: str
    links: dict[str, tuple[Shape, ...]]
    joints: tuple[Joint, ...]

    def parent_joint(self, link: str) -> Joint | None:
        return next((joint for joint in self.joints if joint.child == link), None)

    def body_of(self, link: str) -> str:
        """The first of the links that a link is fixed to: they move as one body."""
        joint = self.parent_joint(link)
        while joint is not None and not joint.movable:
            link = joint.parent
            joint = self.parent_joint(link)
        return link

    def subtree(self, root: str) -> "RobotTree":
        """The part of the robot from link `root` outwards, as when a hand hangs on an arm."""
        if root not in self.links:
            raise UserError(f"link {root!r} is not in robot {self.name!r}; links: {', '.join(self.links)}")
        keep, joints = {root}, []
        for joint in _outwards(self.joints, self.root):
            if joint.parent in keep:
                keep.add(joint.child)
                joints.append(joint)
        return RobotTree(self.name, root, {k: v for k, v in self.links.items() if k in keep}, tuple(joints))


def transform(xyz: Sequence[float] | None, rpy: Sequence[float] | None) -> np.ndarray:
    """T (4, 4) of a URDF origin: fixed-axis roll, pitch, yaw [rad] and translation [m]."""
    out = np.eye(4)
    out[:3, :3] = Rotation.from_euler("xyz", rpy if rpy is not None else (0.0, 0.0, 0.0)).as_matrix()
    out[:3, 3] = xyz if xyz is not None else 0.0
    return out


def _outwards(joints: Iterable[Joint], root: str) -> list[Joint]:
    """Joints with every parent before its children."""
    ordered, reached, left = [], {root}, list(joints)
    while left:
        ready = [joint for joint in left if joint.parent in reached]
        if not ready:
            names = ", ".join(joint.name for joint in left)
            raise UserError(f"URDF joints {names} do not hang on the root link {root!r}: the tree is broken")
        ordered += ready
        reached |= {joint.child for joint in ready}
        left = [joint for joint in left if joint not in ready]
    return ordered


@functools.cache
def _parser() -> Any:
    """pytorch-kinematics' URDF parser by itself: the package around it imports torch, MuJoCo and matplotlib, which
    takes each process that has a robot hand a second and a half and 200 MB."""
    package = importlib.util.find_spec("pytorch_kinematics")
    if package is None or package.origin is None:
        raise UserError("pytorch-kinematics is not installed, which reads URDFs: pip install pytorch-kinematics")
    folder = Path(package.origin).parent / "urdf_parser_py"
    name, start = "pytorch_kinematics_urdf_parser_py", folder / "__init__.py"
    spec = importlib.util.spec_from_file_location(name, start, submodule_search_locations=[str(folder)])
    assert spec is not None and spec.loader is not None, "a file has both"
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.urdf.URDF


def parse_urdf(text: str | bytes, source: str = "URDF") -> RobotTree:
    """Parse URDF XML. Raises `UserError` in one line when it is not a URDF or its tree is broken."""
    parser = _parser()
    if "http://www.ros.org/wiki/xacro" in str(text) or "<xacro:" in str(text):
        raise UserError(f"{source} is xacro, not URDF; expand it first: xacro {Path(source).name} > hand.urdf")
    raw = text.encode() if isinstance(text, str) else text
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # the parser prints every unknown tag
            robot = parser.from_xml_string(raw)
            root = robot.get_root()
    except Exception as error:
        raise UserError(
            f"{source} is not a readable URDF: {str(error).splitlines()[0] if str(error) else error!r}"
        ) from error
    joints = tuple(_outwards([_joint(j) for j in robot.joints], root))
    links = {link.name: tuple(filter(None, map(_shape, link.collisions))) for link in robot.links}
    _check_mimics(joints, source)
    return RobotTree(robot.name, root, links, joints)


def load_urdf(path: str | Path) -> RobotTree:
    """Read and parse a URDF file; `UserError` when it is missing or broken."""
    path = Path(path).expanduser()
    if not path.is_file():
        raise UserError(f"URDF file {path} does not exist; give the path of a .urdf file")
    return parse_urdf(path.read_bytes(), str(path))


def _joint(raw: Any) -> Joint:
    limit, mimic, origin = raw.limit, raw.mimic, raw.origin
    axis = np.asarray(raw.axis if raw.axis is not None else (1.0, 0.0, 0.0), dtype=float)
    norm = np.linalg.norm(axis)
    continuous = raw.type == "continuous"

    def value(name: str, default: float) -> float:
        given = getattr(limit, name, None) if limit is not None else None
        return float(given) if given is not None else default

    return Joint(
        name=raw.name,
        kind=raw.type,
        parent=raw.parent,
        child=raw.child,
        origin=transform(origin.xyz, origin.rpy) if origin is not None else np.eye(4),
        axis=axis / norm if norm > 0 else np.array([1.0, 0.0, 0.0]),
        lower=-np.inf if continuous else value("lower", 0.0),
        upper=np.inf if continuous else value("upper", 0.0),
        velocity=value("velocity", 0.0),
        mimic=None
        if mimic is None
        else Mimic(
            mimic.joint,
            1.0 if mimic.multiplier is None else float(mimic.multiplier),
            0.0 if mimic.offset is None else float(mimic.offset),
        ),
    )


def _shape(collision: Any) -> Shape | None:
    geometry, origin = collision.geometry, collision.origin
    pose = transform(origin.xyz, origin.rpy) if origin is not None else np.eye(4)
    kind = type(geometry).__name__.lower()
    if kind == "box":
        return Shape("box", pose, tuple(map(float, geometry.size)))
    if kind == "cylinder":
        return Shape("cylinder", pose, (float(geometry.radius), float(geometry.length)))
    if kind == "sphere":
        return Shape("sphere", pose, (float(geometry.radius),))
    if kind == "mesh":
        return Shape("mesh", pose, tuple(map(float, geometry.scale or (1.0, 1.0, 1.0))), geometry.filename)
    return None


def _check_mimics(joints: Iterable[Joint], source: str) -> None:
    by_name = {joint.name: joint for joint in joints}
    for joint in joints:
        seen, at = [joint.name], joint
        while at.mimic is not None:
            if at.mimic.joint not in by_name:
                raise UserError(f"{source}: joint {at.name!r} mimics {at.mimic.joint!r}, which does not exist")
            at = by_name[at.mimic.joint]
            if at.name in seen:
                raise UserError(f"{source}: mimic joints go in a circle: {' -> '.join([*seen, at.name])}")
            seen.append(at.name)
        if joint.mimic is not None and not at.movable:
            raise UserError(f"{source}: joint {joint.name!r} mimics {at.name!r}, which is {at.kind} and cannot move")
