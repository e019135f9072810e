"""The maker's collision shapes of a hand as convex pieces, and how far apart these are.

This is the yardstick: what capsules are fitted to (`fit_capsules`) and what a hand's motion is judged by. It needs the
extra `shapes` (trimesh, python-fcl); distances fall back to MuJoCo where python-fcl is missing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from scipy.spatial import ConvexHull, QhullError

from ...errors import UserError
from ..hands.kinematics import build_kinematics
from ..hands.model import HandModel
from ..hands.urdf import RobotTree, Shape, load_urdf
from .meshes import find_mesh

NEEDS = "the makers' meshes need the extra `shapes`: pip install 'egohand_ros[shapes]'"
_CONVEX = 1.08  # a hull no larger than this times its mesh stands for it; others are cut into slices first
_SLICE, _MOST_SLICES = 0.006, 10  # m, along the longest side
_WIDE, _CELL = 0.04, 0.012  # m: what is wider than this across as well is cut into cells
_ALIGNED = 1e-3  # m, by which link origins of two descriptions of one hand may differ
_NEAR = 0.01  # m, beyond which distances are not told apart
_BUILT_THAT_WAY = 0.5  # pairs that touch in more of the poses than this do so by design


@dataclass(frozen=True, eq=False)
class Piece:
    """A convex body fixed to a link of our hand: its corners (N, 3) m in that link's frame."""

    link: str
    corners: np.ndarray


def load_pieces(hand: HandModel, urdf: str | Path) -> list[Piece]:
    """The collision shapes of another URDF of this hand, in the frames of the bodies of ours.

    Links are matched by name; frames may differ by a fixed transform. Links that are fixed to each other are one body,
    which has the name of the first of them. `UserError` where joints are missing or the two are not the same hand.
    """
    path = Path(urdf).expanduser().resolve()
    tree = load_urdf(path)
    missing = [name for name in hand.joint_names if name not in {joint.name for joint in tree.joints}]
    if missing:
        raise UserError(f"{path}: has no joints {', '.join(missing)}, so it is not a URDF of {hand.name!r}")
    carried = _frames(hand, tree, path)
    pieces = []
    for link, shapes in tree.links.items():
        if shapes and link in carried:
            ours, transform = carried[link]
            for shape in shapes:
                for corners in _convex_parts(shape, path.parent):
                    placed = corners @ shape.origin[:3, :3].T + shape.origin[:3, 3]
                    pieces.append(Piece(ours, placed @ transform[:3, :3].T + transform[:3, 3]))
    if not pieces:
        raise UserError(f"{path}: no collision shape of {hand.name!r} can be read")
    return pieces


def _frames(hand: HandModel, tree: RobotTree, path: Path) -> dict[str, tuple[str, np.ndarray]]:
    """Of each link of `tree`: the link of ours that it belongs to, and T_ours_theirs (4, 4)."""
    ours, theirs = hand.kinematics, build_kinematics(_below_common(hand, tree), hand.joint_names)
    common = [link for link in theirs.frames if link in ours.frames]
    q = np.clip(0.0, hand.lower, hand.upper)
    a, b = ours.link_poses(q, common), theirs.link_poses(q, common)
    base = _rigid(b[:, :3, 3], a[:, :3, 3]) if not np.allclose(a, b, atol=_ALIGNED) else np.eye(4)
    off = np.linalg.norm(b[:, :3, 3] @ base[:3, :3].T + base[:3, 3] - a[:, :3, 3], axis=1)
    if len(common) < 3 or off.max() > 5 * _ALIGNED:
        raise UserError(
            f"{path}: its links lie up to {1e3 * off.max():.1f} mm from those of {hand.name!r}: not the same hand"
        )
    out = {}
    for link in theirs.frames:
        at = link
        while at not in ours.frames:
            joint = tree.parent_joint(at)
            if joint is None or joint.movable:
                break
            at = joint.parent
        if at in ours.frames:
            body = hand.tree.body_of(at)
            pose = ours.link_poses(q, [body])[0]
            out[link] = (body, np.linalg.inv(pose) @ base @ theirs.link_poses(q, [link])[0])
    return out


def _below_common(hand: HandModel, tree: RobotTree) -> RobotTree:
    """The part of another robot that is this hand."""
    return tree.subtree(hand.base) if hand.base in tree.links else tree


def _rigid(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """T_target_source (4, 4) of two clouds (N, 3), least squares (Kabsch, 1976)."""
    a, b = source - source.mean(0), target - target.mean(0)
    u, _, vt = np.linalg.svd(a.T @ b)
    turn = (u @ np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))]) @ vt).T
    out = np.eye(4)
    out[:3, :3], out[:3, 3] = turn, target.mean(0) - turn @ source.mean(0)
    return out


def _convex_parts(shape: Shape, folder: Path) -> list[np.ndarray]:
    """Corners (N, 3) m of convex bodies that together hold a shape, in the shape's frame."""
    if shape.kind == "box":
        grid = np.stack(np.meshgrid(*[[-0.5, 0.5]] * 3), axis=-1).reshape(-1, 3)
        return [grid * np.array(shape.size)]
    if shape.kind == "cylinder":
        turn = np.linspace(0.0, 2.0 * np.pi, 32, endpoint=False)
        ring = shape.size[0] * np.stack([np.cos(turn), np.sin(turn)], axis=1)
        return [np.concatenate([np.c_[ring, np.full(32, z)] for z in (-0.5 * shape.size[1], 0.5 * shape.size[1])])]
    if shape.kind == "sphere":
        return [shape.size[0] * directions(400)]
    return _mesh_parts(find_mesh(shape.filename, folder), np.array(shape.size), shape.filename)


def _mesh_parts(file: Path | None, scale: np.ndarray, name: str) -> list[np.ndarray]:
    try:
        import trimesh
    except ImportError as error:
        raise UserError(NEEDS) from error
    if file is None:
        raise UserError(
            f"mesh {name} is not below the URDF's folder or those above it; give a URDF whose meshes are there"
        )
    mesh = trimesh.load(file, force="mesh")
    mesh.apply_scale(scale)
    if np.ptp(mesh.vertices, axis=0).max() < 1e-3:  # a marker, not a body
        return []
    hull = mesh.convex_hull
    if mesh.is_watertight and hull.volume < _CONVEX * abs(mesh.volume):
        return [np.asarray(hull.vertices)]
    return _slices(mesh) or [np.asarray(hull.vertices)]


def _slices(mesh: Any) -> list[np.ndarray]:
    """Corners of the slices of a mesh along its longest side; of its cells where it is wide as well.

    The hull of a slice is that of the vertices in it and of where edges, and in cells faces, leave it.
    """
    size = np.ptp(mesh.vertices, axis=0)
    x, y, _ = np.argsort(size)[::-1]
    wide = size[y] > _WIDE
    cells = (
        [round(size[x] / _CELL), round(size[y] / _CELL)] if wide else [min(_MOST_SLICES, round(size[x] / _SLICE)), 1]
    )
    low_corner, high_corner = mesh.bounds
    edges = [np.linspace(low_corner[axis], high_corner[axis], max(count, 1) + 1) for axis, count in zip((x, y), cells)]
    parts = [mesh.vertices]
    for axis, planes in zip((x, y), edges):
        parts += [_crossings(mesh.vertices[mesh.edges_unique], axis, at) for at in planes[1:-1]]
    if wide:
        parts += [_pierced(mesh.triangles, x, y, u, v) for u in edges[0][1:-1] for v in edges[1][1:-1]]
    cloud = np.concatenate(parts)
    out = []
    for low, high in zip(edges[0], edges[0][1:]):
        row = cloud[(cloud[:, x] >= low - 1e-9) & (cloud[:, x] <= high + 1e-9)]
        for left, right in zip(edges[1], edges[1][1:]):
            cell = row[(row[:, y] >= left - 1e-9) & (row[:, y] <= right + 1e-9)]
            try:
                out.append(cell[ConvexHull(cell).vertices])
            except (QhullError, ValueError):  # empty, or too flat to have a volume
                continue
    return out


def _crossings(ends: np.ndarray, axis: int, at: float) -> np.ndarray:
    """Where edges (E, 2, 3) cross a plane."""
    a, b = ends[:, 0, axis] - at, ends[:, 1, axis] - at
    cut = a * b < 0
    part = (a[cut] / (a[cut] - b[cut]))[:, None]
    return ends[cut, 0] + part * (ends[cut, 1] - ends[cut, 0])


def _pierced(triangles: np.ndarray, x: int, y: int, u: float, v: float) -> np.ndarray:
    """Where the line at x = u, y = v goes through triangles (F, 3, 3)."""
    a, b, c = (triangles[:, i][:, [x, y]] - (u, v) for i in range(3))
    weights = np.stack([_cross(b, c), _cross(c, a), _cross(a, b)], axis=1)
    area = weights.sum(1)
    hit = (np.abs(area) > 1e-14) & ((weights * np.sign(area)[:, None] >= 0).all(1))
    return np.einsum("fk,fki->fi", weights[hit] / area[hit, None], triangles[hit])


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]


def directions(count: int) -> np.ndarray:
    """Unit vectors (count, 3) spread evenly (Fibonacci lattice)."""
    i = np.arange(count) + 0.5
    polar, turn = np.arccos(1.0 - 2.0 * i / count), np.pi * (1.0 + 5.0**0.5) * i
    return np.stack([np.cos(turn) * np.sin(polar), np.sin(turn) * np.sin(polar), np.cos(polar)], axis=1)


class MeshDistance:
    """Distances between the pieces of links that are no neighbours in the tree and are not built to touch.

    `links` are those with a body, `pairs` the judged (i, j) of them. `ignored` pairs are found at construction: those
    that touch at rest, or in more than half of the random poses within the limits.
    """

    def __init__(self, hand: HandModel, pieces: list[Piece], samples: int = 60):
        self.hand = hand
        self.links = tuple(dict.fromkeys(piece.link for piece in pieces))
        self._of = [[piece for piece in pieces if piece.link == link] for link in self.links]
        self._middle = [np.array([piece.corners.mean(0) for piece in group]) for group in self._of]
        self._radius = [
            np.array([np.linalg.norm(piece.corners - c, axis=1).max() for piece, c in zip(group, middle)])
            for group, middle in zip(self._of, self._middle)
        ]
        self._centre = np.array([np.concatenate([p.corners for p in group]).mean(0) for group in self._of])
        self._reach = np.array(
            [
                np.linalg.norm(np.concatenate([p.corners for p in g]) - c, axis=1).max()
                for g, c in zip(self._of, self._centre)
            ]
        )
        self._engine = _engine(self._of)
        self.pairs = self._judged()
        rng = np.random.default_rng(0)
        poses = [hand.rest_q, *rng.uniform(hand.lower, hand.upper, (samples, hand.n))]
        touching = np.array([self.distances(q) < 0.0 for q in poses])
        built = touching[0] | (touching.mean(0) > _BUILT_THAT_WAY)
        self.ignored = [(self.links[i], self.links[j]) for (i, j), skip in zip(self.pairs, built) if skip]
        self.pairs = [pair for pair, skip in zip(self.pairs, built) if not skip]

    def distances(self, q: np.ndarray, pairs: Sequence[tuple[int, int]] | None = None) -> np.ndarray:
        """Least distance [m] of each pair of links at q (n,); negative is penetration, more than 1 cm counts as 1
        cm.
        """
        poses = self.hand.kinematics.link_poses(np.asarray(q, dtype=float), list(self.links))
        judged = np.array(self.pairs if pairs is None else pairs, dtype=int).reshape(-1, 2)
        at = np.einsum("lij,lj->li", poses[:, :3, :3], self._centre) + poses[:, :3, 3]
        first, second = judged.T
        bound = np.linalg.norm(at[first] - at[second], axis=1) - self._reach[first] - self._reach[second]
        out, near = np.full(len(judged), _NEAR), np.flatnonzero(bound < _NEAR)
        if len(near):
            middles = [m @ p[:3, :3].T + p[:3, 3] for m, p in zip(self._middle, poses)]
            self._engine.place(poses)
            out[near] = [self._pair(i, j, middles) for i, j in judged[near]]
        return out

    def least(self, q: np.ndarray) -> float:
        """Least distance [m] of all judged pairs at q (n,)."""
        return float(self.distances(q).min(initial=_NEAR))

    def _pair(self, i: int, j: int, middles: list[np.ndarray]) -> float:
        apart = (
            np.linalg.norm(middles[i][:, None] - middles[j][None], axis=2) - self._radius[i][:, None] - self._radius[j]
        )
        least = _NEAR
        for a, b in zip(*np.nonzero(apart < _NEAR)):
            if apart[a, b] < least:
                least = min(least, self._engine.distance(i, a, j, b))
        return least

    def _judged(self) -> list[tuple[int, int]]:
        bodies, tree = set(self.links), self.hand.tree
        above = {}
        for link in bodies:
            joint = tree.parent_joint(link)
            while joint is not None and joint.parent not in bodies:
                joint = tree.parent_joint(joint.parent)
            above[link] = None if joint is None else joint.parent
        count = range(len(self.links))
        both = [(i, j, self.links[i], self.links[j]) for i in count for j in count if i < j]
        return [(i, j) for i, j, a, b in both if above[a] != b and above[b] != a]


class _Engine(Protocol):
    """How far apart the pieces of links are that have been placed."""

    def place(self, poses: np.ndarray) -> None:
        """Puts the pieces of each link at its pose (L, 4, 4)."""
        ...

    def distance(self, i: int, a: int, j: int, b: int) -> float:
        """Distance [m] of piece a of link i and piece b of link j; negative is penetration."""
        ...


def _engine(groups: list[list[Piece]]) -> _Engine:
    try:
        import fcl
    except ImportError:
        return _MujocoPieces(groups)
    return _FclPieces(fcl, groups)


class _FclPieces:
    """Distances by FCL (python-fcl): GJK, and EPA for what penetrates."""

    def __init__(self, fcl: Any, groups: list[list[Piece]]):
        self._fcl, self._request = fcl, fcl.DistanceRequest(enable_signed_distance=True)
        self._objects = [
            [fcl.CollisionObject(self._convex(piece.corners), fcl.Transform()) for piece in group] for group in groups
        ]

    def _convex(self, corners: np.ndarray) -> Any:
        hull = ConvexHull(corners)
        index = {v: i for i, v in enumerate(hull.vertices)}
        points = corners[hull.vertices]
        faces = np.array([[index[v] for v in face] for face in hull.simplices])
        outwards = np.einsum(
            "fi,fi->f",
            np.cross(points[faces[:, 1]] - points[faces[:, 0]], points[faces[:, 2]] - points[faces[:, 0]]),
            hull.equations[:, :3],
        )
        faces[outwards < 0] = faces[outwards < 0][:, ::-1]
        return self._fcl.Convex(points, len(faces), np.c_[np.full(len(faces), 3), faces].ravel())

    def place(self, poses: np.ndarray) -> None:
        for pose, group in zip(poses, self._objects):
            transform = self._fcl.Transform(pose[:3, :3], pose[:3, 3])
            for item in group:
                item.setTransform(transform)

    def distance(self, i: int, a: int, j: int, b: int) -> float:
        return self._fcl.distance(self._objects[i][a], self._objects[j][b], self._request, self._fcl.DistanceResult())


class _MujocoPieces:
    """The same by MuJoCo's convex geometry."""

    def __init__(self, groups: list[list[Piece]]):
        import mujoco

        spec = mujoco.MjSpec()
        spec.option.disableflags |= mujoco.mjtDisableBit.mjDSBL_CONTACT
        for i, group in enumerate(groups):
            body = spec.worldbody.add_body(name=f"{i}", mocap=True)
            for a, piece in enumerate(group):
                spec.add_mesh(name=f"{i}_{a}", uservert=piece.corners.ravel().tolist())
                body.add_geom(name=f"{i}_{a}", type=mujoco.mjtGeom.mjGEOM_MESH, meshname=f"{i}_{a}")
        self._mujoco, self._model = mujoco, spec.compile()
        self._data = mujoco.MjData(self._model)
        self._geom = [[self._model.geom(f"{i}_{a}").id for a in range(len(group))] for i, group in enumerate(groups)]

    def place(self, poses: np.ndarray) -> None:
        from scipy.spatial.transform import Rotation

        for i, pose in enumerate(poses):
            self._data.mocap_pos[i] = pose[:3, 3]
            self._data.mocap_quat[i] = np.roll(Rotation.from_matrix(pose[:3, :3]).as_quat(), 1)
        self._mujoco.mj_kinematics(self._model, self._data)

    def distance(self, i: int, a: int, j: int, b: int) -> float:
        return self._mujoco.mj_geomDistance(self._model, self._data, self._geom[i][a], self._geom[j][b], _NEAR, None)
