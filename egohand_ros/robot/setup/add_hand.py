"""A config for a hand that nobody here has seen, from its URDF (`egohand hands add`)."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from egohand_ros.outputs import write_text

from ...errors import UserError
from ...hand.poses import hand_pose
from ..hands.config import parse_config
from ..hands.model import HandModel, build_model
from ..hands.urdf import RobotTree, load_urdf, parse_urdf
from ..retarget.retargeter import Retargeter
from .anatomy import Anatomy, find_anatomy
from .meshes import fit_capsules, shape_points

_REACH_SPEED_IN = 0.1  # s, for the acceleration limit, which URDFs do not have
_DEFAULT_VELOCITY = 2.0  # rad/s, where a URDF gives none
_ALWAYS = 0.5  # pairs that touch in more of the random poses than this are built that way
_MANY_SHAPES = 4  # a link with more is fitted as a whole
_SCALES = (0.85, 0.9, 0.95, 1.0, 1.05, 1.1, 1.15, 1.2)


@dataclass(frozen=True, eq=False)
class Proposal:
    """A proposed config as data and as YAML text, the hand that it makes, and what was assumed."""

    config: dict
    text: str
    hand: HandModel
    notes: list[str]

    def save(self, path: str | Path) -> Path:
        """Write the YAML; the folder is made."""
        path = Path(path)
        write_text(path, self.text)
        return path


def propose(urdf: str | Path, name: str | None = None, root: str | None = None, side: str | None = None) -> Proposal:
    """A config for the hand in a URDF: a file, or the text of a robot_description.

    `root`: the palm's link, where the hand hangs on an arm and is not found; `side`: left or right, where the URDF does
    not tell. Raises `UserError` in one line when no hand can be found.
    """
    path = None if str(urdf).lstrip().startswith("<") else Path(urdf).expanduser()
    tree = parse_urdf(str(urdf), "robot_description") if path is None else load_urdf(path)
    text = str(urdf) if path is None else path.read_text()
    found = find_anatomy(tree, root, side)
    name = name or _plain(tree.name) or "my_hand"
    if not name.endswith(("_left", "_right")):
        name = f"{name}_{found.side}"
    config = _config(found, name, path, tree)
    notes = list(found.notes)
    collision = _collision(found, config, text, path, notes)
    config |= {"collision": collision} if collision else {}
    config = _with_scale(config, found, text, path, notes)
    hand = _model(config, text, path)
    return Proposal(config, to_yaml(config, notes), hand, notes)


def to_yaml(config: dict, notes: list[str]) -> str:
    """The config file's text, with what was assumed on top."""
    lines = [
        f"# Proposed by `egohand hands add` from {config.get('urdf', 'a robot_description')}; see docs/retargeting.md."
    ]
    lines += [f"# Assumed: {note}." for note in notes]
    text = yaml.dump(config, Dumper=_PlainDumper, sort_keys=False, default_flow_style=None, width=118)
    return "\n".join(lines) + "\n" + text


class _PlainDumper(yaml.SafeDumper):
    """Writes a list that occurs twice, twice."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _config(found: Anatomy, name: str, path: Path | None, tree: RobotTree) -> dict:
    k, tips, fingers = found.kinematics, {}, {}
    points = {"wrist_point": {"link": k.base, "xyz": _plain_list(found.wrist)}}
    for finger, chain in found.fingers.items():
        tips[finger] = chain.tip_link
        if any(chain.tip_offset):
            tips[finger] = f"{finger}_tip_point"
            points[tips[finger]] = {"link": chain.tip_link, "xyz": _plain_list(chain.tip_offset)}
        fingers[finger] = [chain.links[0], chain.links[max(len(chain.links) - 2, 0)], tips[finger]]
    joints = list(k.joint_names)
    velocity = np.where(k.velocity > 0, k.velocity, _DEFAULT_VELOCITY)
    rest = found.open_q + 0.15 * (found.closed_q - found.open_q)
    config = {
        "name": name,
        "side": found.side,
        "description": f"{tree.name}, {len(fingers)} fingers, {len(joints)} joints",
        "source": f"URDF {path.name if path else 'from robot_description'}; accelerations reach full speed in 0.1 s",
        **({"urdf": str(path.resolve())} if path else {}),
        **({"root": k.base} if k.base != tree.root else {}),
        "joints": joints,
        "acceleration": {j: round(float(v / _REACH_SPEED_IN), 3) for j, v in zip(joints, velocity)},
        **(
            {"velocity": {j: _DEFAULT_VELOCITY for j, v in zip(joints, k.velocity) if not v > 0}}
            if not (k.velocity > 0).all()
            else {}
        ),
        "rest": {j: round(float(v), 4) for j, v in zip(joints, rest) if abs(v) > 1e-4},
        "points": points,
        "palm": {"link": "wrist_point", "rotation": [_plain_list(row, 6) for row in found.rotation]},
        "fingers": fingers,
        "objectives": _objectives(tips, found.scale),
        "commands": {"joint_commands": {"topic": f"{name}/joint_commands", "type": "JointState", "channels": joints}},
    }
    return config


def _objectives(tips: dict[str, str], scale: float) -> dict:
    scale = round(float(scale), 3)
    pairs = [["wrist_point", link] for link in tips.values()]
    keypoints = [["wrist", f"{finger}_tip"] for finger in tips]
    vector = {"type": "vector", "links": pairs, "keypoints": keypoints}
    position = {"type": "position", "links": list(tips.values()), "keypoints": [f"{finger}_tip" for finger in tips]}
    pinch = {"type": "pinch", "delta": 0.03, "links": [["wrist_point", *tips.values()]]}
    if list(tips) != ["thumb", "index", "middle", "ring", "little"][: len(tips)]:
        pinch["keypoints"] = [["wrist", *(f"{finger}_tip" for finger in tips)]]
    return {
        "vector": {"scale": scale, "terms": [vector]},
        "position": {"scale": scale, "free_base": True, "terms": [position]},
        "dexpilot": {"scale": scale, "terms": [pinch]},
    }


def _collision(found: Anatomy, config: dict, text: str, path: Path | None, notes: list[str]) -> dict:
    """Capsules of links whose shapes are meshes or many, and the pairs that touch by design."""
    capsules, unread = {}, []
    for link, shapes in found.tree.links.items():
        if any(shape.kind == "mesh" for shape in shapes) or len(shapes) > _MANY_SHAPES:
            cloud = shape_points(shapes, path.parent if path else None)
            if len(cloud):
                capsules[link] = [[round(float(x), 4) for x in (*a, *b, r)] for a, b, r in fit_capsules(cloud)]
            else:
                unread.append(link)
    if unread:
        notes.append(f"no self-collision for {', '.join(unread)}: their meshes cannot be read (STL and OBJ can)")
    out: dict = {"capsules": capsules} if capsules else {}
    hand = _model(config | {"collision": out}, text, path)
    rng = np.random.default_rng(0)
    poses = np.concatenate([rng.uniform(hand.lower, hand.upper, (400, hand.n)), [hand.rest_q]])
    model = hand.capsules
    if len(model):
        touching = model.distances(hand.kinematics, poses) < model.margin
        pairs = {model.pair_names(i) for i in np.flatnonzero((touching.mean(0) > _ALWAYS) | touching[-1])}
        if pairs:
            out["ignore"] = sorted(map(list, pairs))
            notes.append(
                "bodies that touch at rest or in most poses are left out of self-collision: see collision.ignore"
            )
    return out


def _with_scale(config: dict, found: Anatomy, text: str, path: Path | None, notes: list[str]) -> dict:
    """Choose the scale under which an open hand and a fist are followed best, relative to the size of the hand."""
    human = [hand_pose(pose, found.side) for pose in ("open", "fist")]
    best, chosen = np.inf, found.scale
    for factor in _SCALES:
        scaled = config | {"objectives": _rescaled(config["objectives"], factor * found.scale)}
        hand = _model(scaled, text, path)
        error = 0.0
        for points in human:
            retargeter = Retargeter(hand, avoid_collisions=False)
            for _ in range(4):
                result = retargeter.solve(points)
            error += result.residual / factor
        if error < best:
            best, chosen = error, factor * found.scale
    notes.append(f"the hand is {chosen:.2f} times a human's, fitted on an open hand and a fist")
    return config | {"objectives": _rescaled(config["objectives"], chosen)}


def _rescaled(objectives: dict, scale: float) -> dict:
    return {name: value | {"scale": round(float(scale), 3)} for name, value in objectives.items()}


def _model(config: dict, text: str, path: Path | None) -> HandModel:
    where = path or "robot_description"
    return build_model(parse_config(config, where), parse_urdf(text, str(where)), text, str(path or ""))


def _plain(name: str | None) -> str:
    return "".join(c if c.isalnum() else "_" for c in (name or "").lower()).strip("_")


def _plain_list(values: Iterable[float], digits: int = 5) -> list[float]:
    return [round(float(v), digits) + 0.0 for v in values]


def save_path(name: str, folder: str | Path | None = None) -> Path:
    """Where a proposed hand is saved so that it is found by name: the user's folder, or the given one."""
    from ..hands.library import user_folder

    if any(c in name for c in "/\\") or not name:
        raise UserError(f"hand name {name!r} must be a plain word")
    return Path(folder or user_folder()) / f"{name}.yaml"
