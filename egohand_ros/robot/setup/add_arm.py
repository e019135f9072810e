"""A config for an arm that nobody here has seen, from its URDF (`egohand arms add`)."""

import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from scipy.optimize import least_squares

from ...errors import UserError
from ...outputs import write_text
from ..arm.avoidance import Obstacles
from ..arm.config import ArmConfig, user_folder
from ..arm.model import ArmModel
from ..hands.urdf import Joint, RobotTree, Shape, load_urdf

_DEFAULT_VELOCITY = 1.0  # rad/s, where a URDF gives none
_SPEED_IN, _ACCELERATION_IN = 0.125, 0.04  # s to full speed and to full acceleration, neither of which URDFs have
_SHORTEST = 0.02  # m of a capsule's axis
_READY = np.array([0.45, 0.12, 0.36])  # m of the flange of an arm of the usual reach
_LEVEL = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])  # R_base_flange: a hand on it faces forwards
_USUAL_REACH = 1.0  # m, along the links
_STARTS = 10  # of the search for the ready pose


@dataclass(frozen=True, eq=False)
class ArmProposal:
    """A proposed config as YAML text, its URDF of chain and cylinders, the arm that they make, and what was assumed."""

    text: str
    urdf: str
    arm: ArmModel
    notes: list[str]

    def save(self, path: Path) -> Path:
        """Write the config, and the URDF beside it."""
        write_text(path.with_suffix(".urdf"), self.urdf)
        write_text(path, self.text)
        return path


def save_path(name: str, folder: str | Path | None = None) -> Path:
    """Where a proposed arm is saved so that it is found by name: the user's folder, or the given one."""
    if any(c in name for c in "/\\") or not name:
        raise UserError(f"arm name {name!r} must be a plain word")
    return Path(folder or user_folder()) / f"{name}.yaml"


def propose_arm(
    urdf: str | Path,
    name: str | None = None,
    base: str | None = None,
    flange: str | None = None,
    radius: float = 0.06,
    ready: tuple[float, ...] | None = None,
) -> ArmProposal:
    """A config for the arm in a URDF: the chain of joints from the link `base` (its root) to the link `flange` (the end
    of its longest chain). `radius` m of links whose shape is a mesh or not told; `ready` rad, otherwise searched: the
    flange level, its x to the front. Raises `UserError` in one line."""
    if radius <= 0.0:
        raise UserError(f"--radius {radius:g}: expected m above 0")
    tree, notes = load_urdf(Path(urdf).expanduser()), list[str]()
    base = base or tree.root
    if flange is None:
        flange = _end(tree, base)
        notes.append(f"the hand is screwed on {flange}, the end of the longest chain")
    chain = _chain(tree, base, flange)
    joints = [joint for joint in chain if joint.movable]
    if len(joints) < 5:
        raise UserError(f"only {len(joints)} joints move between {base} and {flange}; a handover needs 5 or more")
    slides = next((joint.name for joint in joints if joint.kind == "prismatic"), None)
    if slides:
        raise UserError(f"joint {slides} slides; only arms whose joints turn can be added")
    velocity = min((joint.velocity for joint in joints if joint.velocity > 0), default=_DEFAULT_VELOCITY)
    notes.append(f"every joint reaches {velocity:g} rad/s in {_SPEED_IN:g} s")
    text = _cylinders(tree, chain, base, radius, notes)
    config = ArmConfig(
        name or tree.name, f"{name or tree.name}.urdf", tuple(joint.name for joint in joints), base, flange,
        round(velocity / _SPEED_IN, 3), round(velocity / _SPEED_IN / _ACCELERATION_IN, 3), (0.0,) * len(joints),
        velocity=round(velocity, 4), description=f"{tree.name}, {len(joints)} joints", source=f"URDF {Path(urdf).name}",
    )  # fmt: skip
    arm = ArmModel(config, text)
    if ready is not None and len(ready) != arm.n:
        raise UserError(f"--ready has {len(ready)} angles; the arm has {arm.n} joints")
    angles = np.array(ready) if ready is not None else _find_ready(arm, notes)
    values = {field: getattr(config, field) for field in ArmConfig.__dataclass_fields__}
    values |= {"joints": list(config.joints), "ready": [round(float(q), 4) for q in angles]}
    head = [f"# Proposed by `egohand arms add` from {Path(urdf).name}; see docs/handover.md."]
    head += [f"# Assumed: {note}." for note in notes]
    body = yaml.safe_dump(values, sort_keys=False, default_flow_style=None, width=118)
    final = ArmModel(ArmConfig(**values | {"joints": config.joints, "ready": tuple(values["ready"])}), text)
    return ArmProposal("\n".join(head) + "\n" + body, text, final, notes)


def _end(tree: RobotTree, base: str) -> str:
    """The link at which the longest chain of joints that move ends, what is fixed to it included."""
    depth, order = {base: (0, 0)}, [base]
    for link in order:
        for joint in tree.joints:
            if joint.parent == link:
                moved, steps = depth[link]
                depth[joint.child] = moved + joint.movable, steps + 1
                order.append(joint.child)
    return max(depth, key=lambda link: depth[link])


def _chain(tree: RobotTree, base: str, flange: str) -> list[Joint]:
    for link in (base, flange):
        if link not in tree.links:
            raise UserError(f"link {link!r} is not in the URDF; its links: {', '.join(tree.links)}")
    chain, link = list[Joint](), flange
    while link != base:
        joint = tree.parent_joint(link)
        if joint is None:
            raise UserError(f"there is no way from link {base} to link {flange}")
        chain.insert(0, joint)
        link = joint.parent
    return chain


def _cylinders(tree: RobotTree, chain: list[Joint], base: str, radius: float, notes: list[str]) -> str:
    """A URDF of the chain alone, its shapes as cylinders, which stand for capsules."""
    robot, guessed = ET.Element("robot", name=tree.name or "arm"), list[str]()
    links = [base, *(joint.child for joint in chain)]
    onward = {joint.parent: joint.origin[:3, 3] for joint in chain}
    for link in links:
        element = ET.SubElement(robot, "link", name=link)
        shapes = [s for shape in tree.links[link] if (s := _capsule(shape)) is not None]
        if not shapes:
            end = onward.get(link, np.zeros(3))
            if np.linalg.norm(end) < _SHORTEST and link != links[-1]:
                continue
            shapes = [(np.zeros(3), end, radius)] if link != links[-1] else []
            guessed += [link] * bool(shapes)
        for start, finish, thick in shapes:
            _add_cylinder(element, start, finish, thick)
    for joint in chain:
        _add_joint(robot, joint)
    if guessed:
        notes.append(f"{', '.join(guessed)}: a capsule of {radius:g} m radius from joint to joint stands for the shape")
    return ET.tostring(robot, encoding="unicode")


def _capsule(shape: Shape) -> tuple[np.ndarray, np.ndarray, float] | None:
    """Axis and radius, m, of what holds a cylinder, a box or a sphere; None for a mesh."""
    size = np.array(shape.size)
    if shape.kind == "cylinder":
        axis, half, thick = 2, size[1] / 2, float(size[0])
    elif shape.kind == "box":
        axis = int(size.argmax())
        half, thick = size[axis] / 2, float(np.linalg.norm(np.delete(size, axis)) / 2)
    elif shape.kind == "sphere":
        axis, half, thick = 2, 0.0, float(size[0])
    else:
        return None
    off = half * shape.origin[:3, axis]
    return shape.origin[:3, 3] - off, shape.origin[:3, 3] + off, thick


def _add_cylinder(link: ET.Element, start: np.ndarray, end: np.ndarray, radius: float) -> None:
    along = end - start
    length = max(float(np.linalg.norm(along)), _SHORTEST)
    x, y, z = along / length if np.linalg.norm(along) > 1e-9 else (0.0, 0.0, 1.0)
    pitch, yaw = np.arctan2(np.hypot(x, y), z), np.arctan2(y, x)
    collision = ET.SubElement(link, "collision")
    ET.SubElement(collision, "origin", xyz=_words((start + end) / 2), rpy=_words((0.0, pitch, yaw)))
    geometry = ET.SubElement(collision, "geometry")
    ET.SubElement(geometry, "cylinder", radius=f"{radius:.6g}", length=f"{length:.6g}")


def _add_joint(robot: ET.Element, joint: Joint) -> None:
    element = ET.SubElement(robot, "joint", name=joint.name, type="revolute" if joint.movable else "fixed")
    ET.SubElement(element, "parent", link=joint.parent)
    ET.SubElement(element, "child", link=joint.child)
    R = joint.origin[:3, :3]
    rpy = np.arctan2(R[2, 1], R[2, 2]), np.arcsin(np.clip(-R[2, 0], -1, 1)), np.arctan2(R[1, 0], R[0, 0])
    ET.SubElement(element, "origin", xyz=_words(joint.origin[:3, 3]), rpy=_words(rpy))
    if joint.movable:
        ET.SubElement(element, "axis", xyz=_words(joint.axis))
        lower, upper = (np.clip(x, -2 * np.pi, 2 * np.pi) for x in (joint.lower, joint.upper))
        velocity = f"{joint.velocity or _DEFAULT_VELOCITY:.6g}"
        ET.SubElement(element, "limit", effort="100", velocity=velocity, lower=f"{lower:.6g}", upper=f"{upper:.6g}")


def _words(values: Iterable[float]) -> str:
    return " ".join(f"{float(v):.9g}" for v in values)


def _find_ready(arm: ArmModel, notes: list[str]) -> np.ndarray:
    """Angles (n,) at which a hand on the flange is in front of the arm and level, as far from joints' ends as can
    be."""
    middle = (arm.lower + arm.upper) / 2
    place = _READY * _reach(arm) / _USUAL_REACH
    obstacles, rng = Obstacles(arm, -np.inf), np.random.default_rng(0)
    low, high = np.clip(arm.lower, -np.pi, np.pi), np.clip(arm.upper, -np.pi, np.pi)

    def off(q: np.ndarray) -> np.ndarray:
        arm.move(q)
        pose = arm.flange()
        return np.concatenate([pose[:3, 3] - place, 0.3 * (pose[:3, :3] - _LEVEL).ravel(), 0.002 * (q - middle)])

    best, least = middle, np.inf
    for start in rng.uniform(low, high, size=(_STARTS, arm.n)):
        found = least_squares(off, start, bounds=(arm.lower, arm.upper), max_nfev=40)
        arm.move(found.x)
        if found.cost < least and obstacles.smallest_distance(arm.capsules()) > 0.0:
            best, least = found.x, float(found.cost)
    arm.move(best)
    missed = float(np.linalg.norm(arm.flange()[:3, 3] - place))
    if missed > 0.05:
        raise UserError(f"no ready pose was found (the best is {missed:.2f} m off); give one with --ready")
    notes.append("the ready pose has the flange level, its x to the front; look at it before the arm moves")
    return best


def _reach(arm: ArmModel) -> float:
    """m from the second joint to the flange, along the links."""
    frames = arm.model.body_pos[2:]
    return float(np.linalg.norm(frames, axis=-1).sum())
