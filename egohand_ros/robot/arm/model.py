"""`ArmModel`: an arm, and the hand on it, as MuJoCo kinematics: poses, Jacobians, capsules."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

import mujoco
import numpy as np

from ...errors import UserError
from ..hands.model import HandModel
from .config import ArmConfig, find_arm

FLANGE = "flange"  # MuJoCo frames of the arm's last link and of the tool
TOOL = "tool"

_PALM_DEPTH = 0.045  # m from the palm's middle to the axis of what it grips
_KNUCKLE_SHARE = 0.85  # of the way from the wrist to the knuckles: where the palm is gripped with
_SAME_POSE = 0.03  # rad; fingers that moved less have not moved their capsules by more than a few mm
_CLEARANCE = 0.005  # m between flange and hand


@dataclass(frozen=True, eq=False)
class Capsules:
    """C capsules of the robot: `start` and `end` (C, 3) m in the base's frame, `radius` (C,) m, `body` (C,) ids."""

    start: np.ndarray
    end: np.ndarray
    radius: np.ndarray
    body: np.ndarray

    @property
    def shape(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """start, end and radius."""
        return self.start, self.end, self.radius


class ArmModel:
    """An arm with n joints, in the config's order; angles in rad. One thread at a time: it keeps its last pose."""

    def __init__(self, config: ArmConfig, urdf: Path | str, hand: HandModel | None = None):
        """`urdf` is a file, or a URDF's text."""
        self.config, self.hand = config, hand
        self.urdf_text = urdf.read_text() if isinstance(urdf, Path) else urdf
        try:
            spec = arm_spec(self.urdf_text, config)
            self.flange_hand = np.eye(4) if hand is None else mount(hand)
            self.hand_tool = np.eye(4) if hand is None else tool_in_hand(hand)
            body = spec.body(config.flange)
            if body is None:
                raise ValueError(f"there is no link {config.flange!r}")
            pose = self.flange_hand @ self.hand_tool
            quaternion = np.zeros(4)
            mujoco.mju_mat2Quat(quaternion, pose[:3, :3].ravel())
            body.add_site(name=TOOL, pos=pose[:3, 3], quat=quaternion)
            self.model = spec.compile()
        except ValueError as error:
            reason = " ".join(str(error).split())
            raise UserError(f"arm {config.name!r}: {reason}; mend its URDF or config") from None
        self.data = mujoco.MjData(self.model)
        names = [self.model.joint(i).name for i in range(self.model.njnt)]
        if names != list(config.joints):
            raise UserError(f"arm {config.name!r}: the URDF's joints are {', '.join(names)}; `joints` names others")
        self.lower, self.upper = self.model.jnt_range.T.copy()
        self.velocity_limit = _velocities(self.urdf_text, config)
        self.acceleration_limit = np.full(self.n, config.acceleration)
        self.jerk_limit = np.full(self.n, config.jerk)
        self.ready_q = np.clip(config.ready, self.lower, self.upper)
        self.teleoperation_q = np.clip(config.teleoperation or config.ready, self.lower, self.upper)
        self.tool_site = self.model.site(TOOL).id
        self._flange_body = self.model.body(config.flange).id
        self._hand_shape: tuple[np.ndarray, tuple[np.ndarray, np.ndarray, np.ndarray]] | None = None

    @classmethod
    def load(cls, name_or_path: str | Path, hand: HandModel | None = None) -> ArmModel:
        """A shipped arm or that of a config file. Raises `UserError`."""
        return cls(*find_arm(name_or_path), hand=hand)

    @property
    def n(self) -> int:
        """Number of joints."""
        return int(self.model.nv)

    def move(self, q: np.ndarray) -> None:
        """Take the pose q (n,), which everything below is at."""
        self.data.qpos[:] = q
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)

    def tool(self) -> np.ndarray:
        """T_base_tool (4, 4): in the grip, x out of the palm, z towards the thumb."""
        pose = np.eye(4)
        pose[:3, :3] = self.data.site_xmat[self.tool_site].reshape(3, 3)
        pose[:3, 3] = self.data.site_xpos[self.tool_site]
        return pose

    def flange(self) -> np.ndarray:
        """T_base_flange (4, 4)."""
        pose = np.eye(4)
        pose[:3, :3] = self.data.xmat[self._flange_body].reshape(3, 3)
        pose[:3, 3] = self.data.xpos[self._flange_body]
        return pose

    def hand_base(self) -> np.ndarray:
        """T_base_hand (4, 4) of the hand's own base."""
        return self.flange() @ self.flange_hand

    def jacobian(self, points: np.ndarray, bodies: np.ndarray) -> np.ndarray:
        """d point / d q (P, 3, n) of points (P, 3) m that are fixed to bodies (P,)."""
        rows = np.zeros((len(points), 3, self.n))
        for row, point, body in zip(rows, points, bodies):
            mujoco.mj_jac(self.model, self.data, row, None, point, int(body))
        return rows

    def tool_jacobian(self) -> tuple[np.ndarray, np.ndarray]:
        """d position / d q and the turning by q of the tool, (3, n) each, in the base's axes."""
        linear, angular = np.zeros((3, self.n)), np.zeros((3, self.n))
        mujoco.mj_jacSite(self.model, self.data, linear, angular, self.tool_site)
        return linear, angular

    def joints_before(self, bodies: np.ndarray) -> np.ndarray:
        """How many joints move bodies (C,), (C,) int."""
        count = np.zeros(self.model.nbody, dtype=int)
        for body in range(1, self.model.nbody):
            count[body] = count[self.model.body_parentid[body]] + self.model.body_jntnum[body]
        return count[bodies]

    def base_capsules(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """start, end (B, 3) m and radius (B,) m of what stands still, and of the first link, which turns about itself,
        at the ready pose."""
        self.move(self.ready_q)
        fixed = np.flatnonzero(self.joints_before(self.model.geom_bodyid) <= 1)
        return self._geoms(fixed)

    def _geoms(self, which: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        data, size = self.data, self.model.geom_size
        middle, axis = data.geom_xpos[which], data.geom_xmat[which].reshape(-1, 3, 3)[:, :, 2]
        half = size[which, 1:2] * axis
        return middle - half, middle + half, size[which, 0]

    def capsules(self, hand_q: np.ndarray | None = None) -> Capsules:
        """The arm's capsules, and a few around the hand's at hand_q (its rest pose by default). Capsules of the base's
        own column are left out: they do not move."""
        model = self.model
        moving = np.flatnonzero(model.body_weldid[model.geom_bodyid] > 1)
        start, end, radius = self._geoms(moving)
        body = model.geom_bodyid[moving]
        if self.hand is None:
            return Capsules(start, end, radius, body)
        starts, ends, radii = self._hand_capsules(self.hand.rest_q if hand_q is None else hand_q)
        place = self.hand_base()
        starts, ends = (x @ place[:3, :3].T + place[:3, 3] for x in (starts, ends))
        return Capsules(
            np.concatenate([start, starts]),
            np.concatenate([end, ends]),
            np.concatenate([radius, radii]),
            np.concatenate([body, np.full(len(ends), self._flange_body)]),
        )

    def _hand_capsules(self, q: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The hand's in its base's frame, made anew when a joint has moved."""
        if self._hand_shape is None or np.abs(q - self._hand_shape[0]).max() > _SAME_POSE:
            assert self.hand is not None
            shape, kinematics = self.hand.capsules, self.hand.kinematics
            poses = kinematics.slot_transforms(q)[shape.slots]
            ends = shape.ends @ poses[:, :3, :3].swapaxes(-1, -2) + poses[:, None, :3, 3]
            self._hand_shape = q.copy(), _merged(self.hand, ends)
        return self._hand_shape[1]


def _merged(hand: HandModel, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The hand's capsules `ends` (H, 2, 3) m as few that hold them: one for the palm and one a finger."""
    chains = np.where(hand.capsules.slots < 0, -1, hand.capsules.slots % hand.kinematics.chains)
    fixed = hand.capsules.slots == hand.kinematics.depth * hand.kinematics.chains
    chains = np.where(fixed, -1, chains)
    starts, finals, radii = [], [], []
    for chain in np.unique(chains):
        mine = chains == chain
        points = ends[mine].reshape(-1, 3)
        apart = np.linalg.norm(points[:, None] - points, axis=-1)
        first, last = np.unravel_index(int(apart.argmax()), apart.shape)
        a, b = points[first], points[last]
        t = np.clip((points - a) @ (b - a) / max(float((b - a) @ (b - a)), 1e-12), 0.0, 1.0)
        off = np.linalg.norm(points - a - t[:, None] * (b - a), axis=-1)
        starts.append(a)
        finals.append(b)
        radii.append(float((off + np.repeat(hand.capsules.radius[mine], 2)).max()))
    return np.array(starts), np.array(finals), np.array(radii)


def arm_spec(urdf: str, config: ArmConfig) -> mujoco.MjSpec:
    """MuJoCo's description of the arm's URDF, its cylinders read as capsules and its meshes left out. Raises
    `ValueError`."""
    root = ET.fromstring(urdf)
    for link in root.findall("link"):
        for visual in link.findall("visual"):
            link.remove(visual)
        for collision in link.findall("collision"):
            cylinder = collision.find("geometry/cylinder")
            if cylinder is None:
                link.remove(collision)
            else:
                cylinder.tag = "capsule"
    options = dict(fusestatic="false", discardvisual="false", balanceinertia="true")
    ET.SubElement(ET.SubElement(root, "mujoco"), "compiler", options | dict(boundmass="1e-3", boundinertia="1e-6"))
    spec = mujoco.MjSpec.from_string(ET.tostring(root, encoding="unicode"))
    if not any(geom for body in spec.bodies for geom in body.geoms):
        raise ValueError("no link has a cylinder as collision shape, which stands for a capsule")
    return spec


def mount(hand: HandModel) -> np.ndarray:
    """T_flange_hand (4, 4) of a hand screwed on by its wrist: fingers along the flange's z, palm along its x."""
    palm = np.eye(4)
    palm[:3, :3] = hand.config.palm_rotation  # R_hand_palm
    flange_palm = np.array([[0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    pose = np.eye(4)
    pose[:3, :3] = flange_palm @ palm[:3, :3].T
    shape, poses = hand.capsules, hand.kinematics.slot_transforms(hand.rest_q)
    ends = shape.ends @ poses[shape.slots, :3, :3].swapaxes(-1, -2) + poses[shape.slots, None, :3, 3]
    along = ends @ pose[:3, :3].T
    pose[2, 3] = _CLEARANCE - float((along[..., 2].min(1) - shape.radius).min())
    return pose


def tool_in_hand(hand: HandModel) -> np.ndarray:
    """T_hand_tool (4, 4): where a hand grips, before the palm at the height of the knuckles; x out of the palm, z to
    the side of the thumb (of the index finger's edge)."""
    knuckles = hand.kinematics.link_positions(
        hand.rest_q, [links[0] for finger, links in hand.config.fingers.items() if finger != "thumb"]
    )
    palm = hand.kinematics.link_positions(hand.rest_q, [hand.config.palm_link])[0]
    x_palm, y_palm, z_palm = hand.config.palm_rotation.T
    thumb = y_palm if hand.side == "right" else -y_palm
    pose = np.eye(4)
    pose[:3, 0], pose[:3, 2] = -z_palm, thumb
    pose[:3, 1] = np.cross(pose[:3, 2], pose[:3, 0])
    middle = knuckles.mean(axis=0) - palm
    pose[:3, 3] = palm + _KNUCKLE_SHARE * middle @ x_palm * x_palm + middle @ y_palm * y_palm - _PALM_DEPTH * z_palm
    return pose


def _velocities(urdf: str, config: ArmConfig) -> np.ndarray:
    limits = {
        joint.get("name"): float(limit.get("velocity", 0.0))
        for joint in ET.fromstring(urdf).findall("joint")
        if (limit := joint.find("limit")) is not None
    }
    values = np.array([limits.get(name, 0.0) for name in config.joints])
    if config.velocity:
        values = np.where(values > 0.0, np.minimum(values, config.velocity), config.velocity)
    if not (values > 0.0).all():
        raise UserError(f"arm {config.name!r}: no velocity limit of every joint; set `velocity:` in its config")
    return values
