"""The MuJoCo scene of an arm with a hand on it: servos at every joint, floor, light and camera."""

from typing import TypeAlias

import mujoco
import numpy as np

from ..arm.model import ArmModel, arm_spec
from ..hands.model import HandModel
from .mujoco_scene import CAMERA, TIMESTEP, add_sky, hand_spec

HAND_PREFIX = "hand/"  # of the names of the hand's bodies, joints and actuators

_ARM_FREQUENCY = 14.0  # Hz of the arm's servos
_View: TypeAlias = tuple[tuple[float, float, float], tuple[float, float, float]]
_FROM_SIDE: _View = (0.72, -1.9, 0.75), (0.68, 0.0, 0.3)  # m: a robot, and the person before it
_NEAR: _View = (0.85, -1.05, 0.65), (0.30, 0.0, 0.25)
_FLOOR, _ARM_COLOUR = (0.80, 0.82, 0.85, 1.0), (0.55, 0.60, 0.66, 1.0)


def build_arm_scene(arm: ArmModel, hand: HandModel) -> mujoco.MjModel:
    """The compiled scene: actuators of the arm's joints, then of the hand's under `HAND_PREFIX`. What the robot may
    touch is for its controller to see to: nothing collides but the fingers, among themselves."""
    spec = arm_and_hand_spec(arm, hand)
    add_surroundings(spec, view=_NEAR)
    return spec.compile()


def arm_and_hand_spec(arm: ArmModel, hand: HandModel, contype: int = 0, conaffinity: int = 0) -> mujoco.MjSpec:
    """Arm and hand with their servos, to be put into a scene; contact bits of both, or 0: the arm collides with nothing
    and the hand keeps its own."""
    spec = arm_spec(arm.urdf_text, arm.config)
    spec.option.timestep = TIMESTEP
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    for body in spec.bodies:
        body.gravcomp = 1.0
        for geom in body.geoms:
            geom.rgba, geom.contype, geom.conaffinity = _ARM_COLOUR, contype, conaffinity
    _add_arm_servos(spec, arm)
    _attach(spec, arm, hand, contype, conaffinity)
    return spec


def _add_arm_servos(spec: mujoco.MjSpec, arm: ArmModel) -> None:
    inertia = np.zeros((arm.n, arm.n))
    arm.move(arm.ready_q)
    mujoco.mj_crb(arm.model, arm.data)
    mujoco.mj_fullM(arm.model, arm.data, inertia)
    frequency = 2 * np.pi * _ARM_FREQUENCY
    for index, name in enumerate(arm.config.joints):
        joint = spec.joint(name)
        joint.armature = 0.1
        amount = 1.5 * float(inertia[index, index]) + 0.1
        servo = spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
        servo.set_to_position(kp=amount * frequency**2, kv=2 * amount * frequency)


def _attach(spec: mujoco.MjSpec, arm: ArmModel, hand: HandModel, contype: int, conaffinity: int) -> None:
    other = hand_spec(hand)
    for body in other.bodies:
        for geom in body.geoms if contype else ():
            collides = bool(geom.contype or geom.conaffinity)
            geom.contype, geom.conaffinity = (contype, conaffinity) if collides else (0, 0)
            geom.friction, geom.condim = (1.0, 0.01, 0.001), 4
    quaternion = np.zeros(4)
    mujoco.mju_mat2Quat(quaternion, np.ascontiguousarray(arm.flange_hand[:3, :3]).ravel())
    frame = spec.body(arm.config.flange).add_frame(pos=arm.flange_hand[:3, 3], quat=quaternion)
    spec.attach(other, frame=frame, prefix=HAND_PREFIX)


def add_surroundings(spec: mujoco.MjSpec, contype: int = 0, conaffinity: int = 0, view: _View = _FROM_SIDE) -> None:
    """Floor, with these contact bits, base, light and a camera: where it is and what it looks at, m."""
    world = spec.worldbody
    look_only = dict(contype=0, conaffinity=0)
    world.add_geom(
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        size=(4, 4, 1),
        pos=(0, 0, -0.7),
        rgba=_FLOOR,
        contype=contype,
        conaffinity=conaffinity,
    )
    world.add_geom(
        type=mujoco.mjtGeom.mjGEOM_CYLINDER, size=(0.09, 0.35, 0), pos=(0, 0, -0.35), rgba=_ARM_COLOUR, **look_only
    )
    world.add_geom(
        type=mujoco.mjtGeom.mjGEOM_CYLINDER, size=(0.064, 0.05, 0), pos=(0, 0, 0.05), rgba=_ARM_COLOUR, **look_only
    )
    add_sky(spec)
    for offset, strength in (((0.6, 1.5, 2.2), 0.6), ((0.6, -2.0, 1.2), 0.3)):
        light = world.add_light(pos=offset, dir=[-x for x in offset], diffuse=(strength,) * 3, castshadow=False)
        light.type = mujoco.mjtLightType.mjLIGHT_DIRECTIONAL
    spec.visual.headlight.ambient, spec.visual.headlight.diffuse = (0.4,) * 3, (0.2,) * 3
    spec.visual.global_.offwidth, spec.visual.global_.offheight = 1280, 960
    spec.visual.map.znear, spec.visual.map.zfar = 0.02, 30.0
    eye, at = map(np.array, view)
    back = (eye - at) / np.linalg.norm(eye - at)
    right = np.cross((0.0, 0.0, 1.0), back)
    right /= np.linalg.norm(right)
    quaternion = np.zeros(4)
    mujoco.mju_mat2Quat(quaternion, np.stack([right, np.cross(back, right), back], axis=1).ravel())
    world.add_camera(name=CAMERA, pos=eye, quat=quaternion, fovy=42.0)
