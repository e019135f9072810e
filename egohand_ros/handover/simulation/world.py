"""`HandoverWorld`: MuJoCo with an arm, the dexterous hand on it, a baton with contact and friction, and a person's body
that is moved from outside.

The arm's and hand's servos take joint angles. The person's hands, forearms and head are bodies that go where they are
put; the baton hangs in a person's hand by a weld, which is how firmly people hold, until it is let go.
"""

import mujoco
import numpy as np

from ...hand.skeleton import FINGER_KEYPOINTS, FINGERS, RIGHT, SIDES, WRIST
from ...robot.arm.model import ArmModel
from ...robot.hands.model import HandModel
from ...robot.simulation.arm_scene import HAND_PREFIX, add_surroundings, arm_and_hand_spec
from ...robot.simulation.mujoco_scene import TIMESTEP
from ..separation import person_body
from ..touch import Touch

BATON_RADIUS, BATON_HALF, BATON_MASS = 0.021, 0.15, 0.12  # m, m, kg
GRIP = (0.085, 0.065, -0.03)  # m in a person's palm, towards the thumb: the baton's middle, the fist below it
TOOL_TO_MIDDLE = 0.065  # m, by which the baton's middle is below the robot's grip

_ROBOT, _PERSON, _BATON = 1, 2, 4  # contact bits
_SKIN, _SLEEVE, _BATON_COLOUR = (0.85, 0.66, 0.54, 1.0), (0.30, 0.42, 0.60, 1.0), (0.90, 0.35, 0.12, 1.0)
_GRIP_FORCE = 2.0  # N
_FIRM = 2  # fingers, and the palm or the thumb against them


class HandoverWorld:
    """One scene; `reset` begins another episode in it."""

    def __init__(self, arm: ArmModel, hand: HandModel):
        self.arm, self.hand = arm, hand
        self.model = _build(arm, hand)
        self.data = mujoco.MjData(self.model)
        model = self.model
        self._arm_q = np.array([model.joint(name).qposadr[0] for name in arm.config.joints])
        self._arm_v = np.array([model.joint(name).dofadr[0] for name in arm.config.joints])
        self._hand_q = np.array([model.joint(HAND_PREFIX + name).qposadr[0] for name in hand.joint_names])
        self._hand_v = np.array([model.joint(HAND_PREFIX + name).dofadr[0] for name in hand.joint_names])
        self._hand_full = np.array([model.joint(HAND_PREFIX + n).qposadr[0] for n in hand.kinematics.full_joint_names])
        self._arm_ctrl = np.array([model.actuator(name).id for name in arm.config.joints])
        self._hand_ctrl = np.array([model.actuator(HAND_PREFIX + name).id for name in hand.joint_names])
        self._baton = model.body("baton").id
        self._baton_q = int(model.joint("baton").qposadr[0])
        self._baton_v = int(model.joint("baton").dofadr[0])
        self._welds = [model.equality(f"{side}/hold").id for side in SIDES]
        self._robot_weld = model.equality("robot/hold").id
        bodies = (model.body(i) for i in range(model.nbody))
        self._moved = {body.name: int(model.body_mocapid[body.id]) for body in bodies}
        self._shapes, self._corners, self.thickness = _shape_points(model)
        self._kind = _body_kinds(model, hand)

    # ---------------------------------------------------------------- state

    @property
    def time(self) -> float:
        """s of physics."""
        return float(self.data.time)

    @property
    def arm_q(self) -> np.ndarray:
        """Measured angles (n,) rad of the arm."""
        return self.data.qpos[self._arm_q].copy()

    @property
    def arm_qd(self) -> np.ndarray:
        """Measured speeds (n,) rad/s of the arm."""
        return self.data.qvel[self._arm_v].copy()

    @property
    def hand_q(self) -> np.ndarray:
        """Measured angles (m,) rad of the hand."""
        return self.data.qpos[self._hand_q].copy()

    @property
    def hand_qd(self) -> np.ndarray:
        """Measured speeds (m,) rad/s of the hand."""
        return self.data.qvel[self._hand_v].copy()

    @property
    def baton(self) -> np.ndarray:
        """T_base_baton (4, 4), its length along z."""
        pose = np.eye(4)
        pose[:3, :3] = self.data.xmat[self._baton].reshape(3, 3)
        pose[:3, 3] = self.data.xpos[self._baton]
        return pose

    def robot_points(self) -> np.ndarray:
        """Points (P, 3) m of the robot's body that move with it: ends and middles of its shapes. Those who judge use
        them, so they come from the physics and not from what the controller thinks its body is."""
        rotation = self.data.geom_xmat[self._shapes].reshape(-1, 3, 3)
        offsets = np.einsum("gij,gkj->gki", rotation, self._corners)
        return (self.data.geom_xpos[self._shapes][:, None] + offsets).reshape(-1, 3)

    def reset(self, arm_q: np.ndarray, hand_q: np.ndarray) -> None:
        """Everything at rest, the baton out of the way, held by nobody."""
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[self._arm_q], self.data.ctrl[self._arm_ctrl] = arm_q, arm_q
        self.data.qpos[self._hand_full] = self.hand.kinematics.full_position(hand_q)
        self.data.ctrl[self._hand_ctrl] = hand_q
        self.put_baton(np.array([0.0, 2.0, 1.0]), np.eye(3))
        for weld in (*self._welds, self._robot_weld):
            self.data.eq_active[weld] = 0

    def settle(self) -> None:
        """What touches what follows from where things are now."""
        mujoco.mj_forward(self.model, self.data)

    def put_baton(self, position: np.ndarray, rotation: np.ndarray) -> None:
        """The baton, at rest, at a position (3,) m with its length along rotation (3, 3)'s z."""
        quaternion = np.zeros(4)
        mujoco.mju_mat2Quat(quaternion, np.ascontiguousarray(rotation).ravel())
        self.data.qpos[self._baton_q : self._baton_q + 7] = [*position, *quaternion]
        self.data.qvel[self._baton_v : self._baton_v + 6] = 0.0

    def put_into_hand(self, side: int, keypoints: np.ndarray, rotation: np.ndarray) -> None:
        """The baton in the person's hand, which holds it: keypoints (2, 21, 3) m, palms R_base_palm (2, 3, 3)."""
        self.put_baton(*held_at(side, keypoints, rotation))
        self.hold(side)

    def hold(self, side: int | None) -> None:
        """The person holds the baton in this hand as it is in it now, or in none."""
        for index, weld in enumerate(self._welds):
            wanted = index == side
            if wanted and not self.data.eq_active[weld]:
                self._fix(weld, self.model.body(f"{SIDES[index]}/palm").id)
            self.data.eq_active[weld] = wanted

    def fix_to_robot(self, fixed: bool) -> None:
        """Keep the baton where it is in the robot's hand while its fingers close, before an episode."""
        if fixed:
            self._fix(self._robot_weld, self.model.body(self.arm.config.flange).id)
        self.data.eq_active[self._robot_weld] = fixed

    def _fix(self, weld: int, body: int) -> None:
        mujoco.mj_kinematics(self.model, self.data)
        rotation = self.data.xmat[body].reshape(3, 3)
        relative = rotation.T @ self.data.xmat[self._baton].reshape(3, 3)
        quaternion = np.zeros(4)
        mujoco.mju_mat2Quat(quaternion, np.ascontiguousarray(relative).ravel())
        data = self.model.eq_data[weld]
        data[:3] = 0.0
        data[3:6] = rotation.T @ (self.data.xpos[self._baton] - self.data.xpos[body])
        data[6:10], data[10] = quaternion, 1.0

    def place_person(self, keypoints: np.ndarray, rotation: np.ndarray, head: np.ndarray) -> None:
        """Move the person's body to keypoints (2, 21, 3) m, palms R_base_palm (2, 3, 3) and head (3,) m."""
        person = person_body(keypoints, head)
        for side, name in enumerate(SIDES):
            points = keypoints[side]
            self._put(f"{name}/palm", points[WRIST], rotation[side])
            for finger in FINGERS:
                first, last = FINGER_KEYPOINTS[finger][0], FINGER_KEYPOINTS[finger][-1]
                self._put_along(f"{name}/{finger}", points[first], points[last])
            forearm = int(np.flatnonzero((person.side == side) & ~person.is_hand)[0])
            shoulder = person.end[forearm]
            reach = shoulder - points[WRIST]
            elbow = points[WRIST] + reach * min(1.0, 0.27 / max(float(np.linalg.norm(reach)), 1e-6))
            self._put_along(f"{name}/forearm", elbow, points[WRIST])
        self._put("head", head, np.eye(3))
        self._put("torso", head - (0.0, 0.0, 0.5), np.eye(3))

    def _put(self, name: str, position: np.ndarray, rotation: np.ndarray) -> None:
        index = self._moved[name]
        self.data.mocap_pos[index] = position
        mujoco.mju_mat2Quat(self.data.mocap_quat[index], np.ascontiguousarray(rotation).ravel())

    def _put_along(self, name: str, start: np.ndarray, end: np.ndarray) -> None:
        """A body whose capsule lies along z, its middle between start and end."""
        z = (end - start) / max(float(np.linalg.norm(end - start)), 1e-9)
        index = self._moved[name]
        self.data.mocap_pos[index] = (start + end) / 2.0
        quaternion = np.array([1.0 + z[2], -z[1], z[0], 0.0])  # the shortest turn of the z axis
        norm = float(np.linalg.norm(quaternion))
        self.data.mocap_quat[index] = quaternion / norm if norm > 1e-6 else (0.0, 1.0, 0.0, 0.0)

    # ---------------------------------------------------------------- time

    def step(self, arm_q: np.ndarray, hand_q: np.ndarray, period: float) -> None:
        """Physics for `period` s under commands (n,) and (m,) rad."""
        self.data.ctrl[self._arm_ctrl], self.data.ctrl[self._hand_ctrl] = arm_q, hand_q
        for _ in range(round(period / TIMESTEP)):
            mujoco.mj_step(self.model, self.data)

    def force_on_robot(self) -> np.ndarray:
        """The force (3,) N that baton and person put on the arm's hand, as a sensor in its wrist would show it without
        weight and inertia of the hand itself."""
        total, force = np.zeros(3), np.zeros(6)
        for index in range(self.data.ncon):
            contact = self.data.contact[index]
            kinds = [self._kind[int(body)] for body in self.model.geom_bodyid[[contact.geom1, contact.geom2]]]
            robot = [kind.startswith("robot/") for kind in kinds]
            if sum(robot) == 1:
                mujoco.mj_contactForce(self.model, self.data, index, force)
                total += (1.0 if robot[1] else -1.0) * (contact.frame.reshape(3, 3).T @ force[:3])
        return total

    def touches_baton(self) -> bool:
        """Whether any part of the robot touches the baton."""
        bodies = self.model.geom_bodyid[self.data.contact.geom[: self.data.ncon]]
        of_baton = bodies[(bodies == self._baton).any(axis=1)]
        return any(self._kind[int(body)].startswith("robot/") for body in of_baton.ravel())

    def touch(self, palm_direction: np.ndarray) -> Touch:
        """What touches what now; `palm_direction` (3,) is the way out of the robot's palm."""
        hands, elsewhere, groups, pull = set(), False, {}, np.zeros(3)
        force = np.zeros(6)
        for index in range(self.data.ncon):
            contact = self.data.contact[index]
            bodies = self.model.geom_bodyid[[contact.geom1, contact.geom2]]
            kinds = [self._kind[int(body)] for body in bodies]
            if "baton" in kinds:
                other = kinds[1 - kinds.index("baton")]
                if other.startswith("robot/"):
                    mujoco.mj_contactForce(self.model, self.data, index, force)
                    in_world = contact.frame.reshape(3, 3).T @ force[:3]
                    sign = -1.0 if kinds[0] == "baton" else 1.0
                    pull -= sign * in_world  # of the baton on the robot
                    groups[other] = groups.get(other, 0.0) + abs(float(force[0]))
                continue
            parts = {kind.split("/")[0] for kind in kinds}
            if "robot" in parts and parts & {"person", *SIDES}:
                side = next((s for s, name in enumerate(SIDES) if name in parts), None)
                if side is None:
                    elsewhere = True
                else:
                    hands.add(side)
        pressing = {group for group, value in groups.items() if value > _GRIP_FORCE}
        fingers = pressing - {"robot/palm", "robot/thumb"}
        gripped = len(fingers) >= _FIRM and bool(pressing & {"robot/palm", "robot/thumb"})
        return Touch(frozenset(hands), elsewhere, gripped, float(pull @ palm_direction))


def held_at(side: int, keypoints: np.ndarray, rotation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where a baton's middle (3,) m is that the person holds in a hand, and how it lies, (3, 3)."""
    palm = rotation[side]
    thumb = palm[:, 1] if side == RIGHT else -palm[:, 1]
    middle = keypoints[side, WRIST] + GRIP[0] * palm[:, 0] + GRIP[1] * thumb + GRIP[2] * palm[:, 2]
    return middle, np.stack([palm[:, 0], np.cross(thumb, palm[:, 0]), thumb], axis=1)


def _shape_points(model: mujoco.MjModel) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The robot's moving shapes (G,), three points (G, 3, 3) m along each in its own frame, and thickness (3 G,) m."""
    solid = (model.geom_contype == _ROBOT) & (model.body_weldid[model.geom_bodyid] > 1)
    shapes = np.flatnonzero(solid & (model.geom_type != mujoco.mjtGeom.mjGEOM_PLANE))
    corners, thickness = np.zeros((len(shapes), 3, 3)), []
    for row, shape in zip(corners, shapes):
        size = model.geom_size[shape]
        if model.geom_type[shape] == mujoco.mjtGeom.mjGEOM_BOX:
            axis = int(size.argmax())
            half, thick = size[axis] - min(size), min(size)
        elif model.geom_type[shape] == mujoco.mjtGeom.mjGEOM_SPHERE:
            axis, half, thick = 2, 0.0, size[0]
        else:
            axis, half, thick = 2, size[1], size[0]
        row[:, axis] = (-half, 0.0, half)
        thickness += [thick] * 3
    return shapes, corners, np.array(thickness)


def _body_kinds(model: mujoco.MjModel, hand: HandModel) -> list[str]:
    """What each body is: left/…, right/…, person/…, baton, robot/arm, robot/palm, robot/<finger>."""
    base = next(i for i in range(model.nbody) if model.body(i).name.startswith(HAND_PREFIX))
    tips = {model.body(HAND_PREFIX + body).id: finger for finger, body in hand.tip_bodies.items()}
    kinds = []
    for index in range(model.nbody):
        name = model.body(index).name
        if name.startswith(tuple(f"{side}/" for side in SIDES)) or name == "baton":
            kinds.append(name if name == "baton" or "forearm" not in name else f"person/{name}")
        elif name in ("head", "torso"):
            kinds.append(f"person/{name}")
        elif not name.startswith(HAND_PREFIX):
            kinds.append("robot/arm" if index else "world")
        else:
            kinds.append(f"robot/{_finger_of(model, index, base, tips)}")
    return kinds


def _finger_of(model: mujoco.MjModel, body: int, base: int, tips: dict[int, str]) -> str:
    """The finger that a body of the robot's hand belongs to, or palm: fingers part at the first joint."""
    root = _root(model, body, base)
    return next(
        (finger for tip, finger in tips.items() if root is not None and _root(model, tip, base) == root), "palm"
    )


def _root(model: mujoco.MjModel, body: int, base: int) -> int | None:
    """The moving body next to the palm on the way from a body to it; None for the palm itself."""
    weld, at, found = model.body_weldid, body, None
    while at > base:
        if weld[at] == at and weld[at] != weld[base]:
            found = at
        at = int(model.body_parentid[at])
    return found


def _build(arm: ArmModel, hand: HandModel) -> mujoco.MjModel:
    spec = arm_and_hand_spec(arm, hand, _ROBOT, _PERSON | _BATON)
    spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
    spec.option.impratio = 5.0
    _add_baton(spec)
    for side, name in enumerate(SIDES):
        _add_person_hand(spec, name, side == RIGHT)
    _add_capsule(spec, "head", 0.11, 0.0, _SKIN)
    _add_capsule(spec, "torso", 0.15, 0.18, _SLEEVE)
    _add_welds(spec, arm)
    add_surroundings(spec, _ROBOT, _BATON)
    return spec.compile()


def _add_baton(spec: mujoco.MjSpec) -> None:
    body = spec.worldbody.add_body(name="baton")
    body.add_freejoint(name="baton")
    body.add_geom(
        type=mujoco.mjtGeom.mjGEOM_CAPSULE,
        size=(BATON_RADIUS, BATON_HALF - BATON_RADIUS, 0.0),
        mass=BATON_MASS,
        rgba=_BATON_COLOUR,
        contype=_BATON,
        conaffinity=_ROBOT,
        friction=(1.0, 0.01, 0.001),
        condim=4,
    )


def _add_person_hand(spec: mujoco.MjSpec, name: str, right: bool) -> None:
    palm = spec.worldbody.add_body(name=f"{name}/palm", mocap=True)
    collide = dict(contype=_PERSON, conaffinity=_ROBOT, rgba=_SKIN)
    palm.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, size=(0.045, 0.036, 0.012), pos=(0.045, 0.0, 0.0), **collide)
    for finger, half in zip(FINGERS, (0.028, 0.025, 0.027, 0.025, 0.02)):
        _add_capsule(spec, f"{name}/{finger}", 0.009, half, _SKIN)
    _add_capsule(spec, f"{name}/forearm", 0.04, 0.10, _SLEEVE)


def _add_capsule(spec: mujoco.MjSpec, name: str, radius: float, half: float, colour: tuple[float, ...]) -> None:
    """A body that is moved from outside: a capsule along its z, or a ball."""
    body = spec.worldbody.add_body(name=name, mocap=True)
    kind = mujoco.mjtGeom.mjGEOM_CAPSULE if half else mujoco.mjtGeom.mjGEOM_SPHERE
    body.add_geom(type=kind, size=(radius, half, 0.0), rgba=colour, contype=_PERSON, conaffinity=_ROBOT)


def _add_welds(spec: mujoco.MjSpec, arm: ArmModel) -> None:
    for name, body in ((f"{side}/hold", f"{side}/palm") for side in SIDES):
        weld = spec.add_equality(type=mujoco.mjtEq.mjEQ_WELD, objtype=mujoco.mjtObj.mjOBJ_BODY, name=name)
        weld.name1, weld.name2, weld.active = body, "baton", False
        weld.solref = (0.03, 1.0)  # flesh gives way
    weld = spec.add_equality(type=mujoco.mjtEq.mjEQ_WELD, objtype=mujoco.mjtObj.mjOBJ_BODY, name="robot/hold")
    weld.name1, weld.name2, weld.active = arm.config.flange, "baton", False
