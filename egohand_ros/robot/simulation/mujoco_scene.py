"""The MuJoCo scene of a hand: its URDF on a stand, position servos, coupled joints, light, floor and camera."""

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from ...errors import UserError
from ..hands.model import HandModel
from ..hands.urdf import transform

TIMESTEP = 0.002  # s
CAMERA = "view"

# Servos: critically damped at this frequency about each joint's inertia. Higher tracks tighter and rings on contact.
SERVO_FREQUENCY = 25.0  # Hz
ARMATURE = 1.5e-3  # kg m^2: motor and gears as seen at the joint; it dominates a finger's own inertia
COUPLED_ARMATURE = 1e-4  # kg m^2: a coupled joint has no motor of its own
STOP_TIME = 0.004  # s in which an end stop pushes a joint back; MuJoCo's 0.02 lets a colliding finger bend it
COUPLING_TIME = 0.005  # s in which a coupled joint closes an error

PALM_COLOUR = (0.15, 0.16, 0.19, 1.0)
LINK_COLOUR = (0.88, 0.89, 0.91, 1.0)
TIP_COLOUR = (0.95, 0.42, 0.12, 1.0)
FLOOR_COLOUR = (0.68, 0.74, 0.82, 1.0)
SKY_COLOURS = ((0.90, 0.93, 0.97), (0.72, 0.79, 0.88))
_URDF_DEFAULT = np.array([0.5, 0.5, 0.5, 1.0])
_VISUAL, _COLLISION = 1, 3  # geom groups; MuJoCo draws groups 0 to 2
_MESH_TYPES = (".stl", ".obj")

# World axes (columns) of the palm frame: distal up, palm towards +x, where the camera is.
_R_WORLD_PALM = np.array([[0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])


def build_scene(hand: HandModel) -> mujoco.MjModel:
    """The compiled scene; actuators are in the order of `hand.joint_names`.

    Raises `UserError` for a URDF that MuJoCo cannot read. Meshes that it cannot read are left out.
    """
    spec = hand_spec(hand)
    try:
        _stand_upright(spec, hand)
        model, data = _at_rest(spec, hand)
        _dress(spec, model, data)
        return spec.compile()
    except ValueError as error:
        raise _unfit(hand, error) from error


def hand_spec(hand: HandModel) -> mujoco.MjSpec:
    """The hand with its servos and couplings, as its URDF stands, to be put into a scene. Raises as `build_scene`."""
    try:
        spec = mujoco.MjSpec.from_string(_prepared_urdf(hand))
        spec.option.timestep = TIMESTEP
        spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
        _colour(spec)
        _compensate(spec, hand)
        model, data = _at_rest(spec, hand)
        _exclude_neighbours(spec, model, data)
        _add_servos(spec, hand, model, data)
        _add_couplings(spec, hand)
        return spec
    except ValueError as error:
        raise _unfit(hand, error) from error


def _unfit(hand: HandModel, error: ValueError) -> UserError:
    reason = " ".join(str(error).split())
    return UserError(f"hand {hand.name!r} cannot be simulated: MuJoCo says {reason}; mend its URDF")


def _prepared_urdf(hand: HandModel) -> str:
    """The URDF without its mimic tags (see `_add_couplings`) and unreadable meshes, with options for MuJoCo."""
    root = ET.fromstring(hand.urdf_text)
    for joint in root.findall("joint"):
        for mimic in joint.findall("mimic"):
            joint.remove(mimic)
    folder = Path(hand.urdf_path).parent if hand.urdf_path else None
    for link in root.findall("link"):
        for shape in [*link.findall("visual"), *link.findall("collision")]:
            mesh = shape.find("geometry/mesh")
            if mesh is None:
                continue
            path = _mesh_path(mesh.get("filename", ""), folder)
            if path is None:
                link.remove(shape)
            else:
                mesh.set("filename", str(path))
        for kind in ("visual", "collision"):
            _merge_capsules(link, kind)
    for old in root.findall("mujoco"):
        root.remove(old)
    options = dict(discardvisual="false", fusestatic="false", strippath="false", balanceinertia="true")
    options |= dict(boundmass="1e-4", boundinertia="1e-7")
    ET.SubElement(ET.SubElement(root, "mujoco"), "compiler", options)
    return ET.tostring(root, encoding="unicode")


def _merge_capsules(link: ET.Element, kind: str) -> None:
    """A cylinder between two spheres of its radius, which is how URDF says capsule, becomes one (MuJoCo reads that
    tag): it draws and collides in a third of the time."""
    shapes = link.findall(kind)
    spheres = [(shape, sphere) for shape in shapes if (sphere := shape.find("geometry/sphere")) is not None]
    swallowed = []
    for shape in shapes:
        cylinder = shape.find("geometry/cylinder")
        if cylinder is None:
            continue
        radius, pose = float(cylinder.attrib["radius"]), _pose(shape)
        half = pose[:3, 2] * float(cylinder.attrib["length"]) / 2
        ends = [[s for s, sphere in spheres if _rounds(s, sphere, pose[:3, 3] + end, radius)] for end in (half, -half)]
        if all(ends):
            cylinder.tag = "capsule"
            swallowed += [match[0] for match in ends]
    for shape in shapes:
        if any(shape is other for other in swallowed):
            link.remove(shape)


def _rounds(shape: ET.Element, sphere: ET.Element, end: np.ndarray, radius: float) -> bool:
    apart = float(np.linalg.norm(_pose(shape)[:3, 3] - end))
    return abs(float(sphere.attrib["radius"]) - radius) < 1e-4 and apart < 5e-4


def _pose(shape: ET.Element) -> np.ndarray:
    """T_link_shape (4, 4)."""
    origin = shape.find("origin")
    attributes = {} if origin is None else origin.attrib
    return transform(*([float(x) for x in attributes.get(name, "0 0 0").split()] for name in ("xyz", "rpy")))


def _mesh_path(filename: str, folder: Path | None) -> Path | None:
    name = filename.split("://", 1)[-1]
    if folder is None or not name.lower().endswith(_MESH_TYPES):
        return None
    candidates = [folder / name, *(parent / name for parent in folder.parents)]
    return next((path.resolve() for path in candidates if path.is_file()), None)


def _stand_upright(spec: mujoco.MjSpec, hand: HandModel) -> None:
    """Turn the robot's root so that the fingers point up."""
    quaternion = np.zeros(4)
    mujoco.mju_mat2Quat(quaternion, (_R_WORLD_PALM @ hand.config.palm_rotation.T).ravel())
    for body in spec.worldbody.bodies:
        position, turned = np.zeros(3), np.zeros(4)
        mujoco.mju_rotVecQuat(position, body.pos, quaternion)
        mujoco.mju_mulQuat(turned, quaternion, body.quat)
        body.pos, body.quat = position, turned


def _colour(spec: mujoco.MjSpec) -> None:
    """Colours by role (palm, link, fingertip) where the URDF gives none; collision shapes are not drawn."""
    for name, rgba in (("palm", PALM_COLOUR), ("link", LINK_COLOUR), ("tip", TIP_COLOUR)):
        spec.add_material(name=name, rgba=rgba, specular=0.55, shininess=0.6, reflectance=0.0)
    for body in spec.bodies:
        visuals = [geom for geom in body.geoms if geom.contype == 0 and geom.conaffinity == 0]
        for geom in body.geoms:
            drawn = geom in visuals or not visuals
            geom.group = _VISUAL if drawn else _COLLISION
            if drawn and np.allclose(geom.rgba, _URDF_DEFAULT):
                geom.material = _role(body)


def _role(body: Any) -> str:
    moves, at = False, body
    while at is not None and not moves:
        moves, at = bool(at.joints), at.parent
    if not moves:
        return "palm"
    return "link" if any(_has_joint(child) for child in body.bodies) else "tip"


def _has_joint(body: Any) -> bool:
    return bool(body.joints) or any(_has_joint(child) for child in body.bodies)


def _compensate(spec: mujoco.MjSpec, hand: HandModel) -> None:
    """Motor inertia and hard stops at the joints, compensated gravity."""
    for joint in spec.joints:
        joint.armature = ARMATURE if joint.name in hand.joint_names else COUPLED_ARMATURE
        joint.solref_limit = (STOP_TIME, 1.0)
    for body in spec.bodies:
        body.gravcomp = 1.0


def _at_rest(spec: mujoco.MjSpec, hand: HandModel) -> tuple[mujoco.MjModel, mujoco.MjData]:
    """What the robot is like in its rest pose: extents, inertia, links that touch."""
    model = spec.copy().compile()
    data = mujoco.MjData(model)
    for name, value in zip(hand.kinematics.full_joint_names, hand.kinematics.full_position(hand.rest_q)):
        data.qpos[model.joint(name).qposadr[0]] = value
    mujoco.mj_forward(model, data)
    return model, data


def add_sky(spec: mujoco.MjSpec) -> None:
    """What is seen behind everything, in every scene alike."""
    spec.add_texture(
        name="sky",
        type=mujoco.mjtTexture.mjTEXTURE_SKYBOX,
        builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        rgb1=SKY_COLOURS[0],
        rgb2=SKY_COLOURS[1],
        width=128,
        height=128,
    )


def _dress(spec: mujoco.MjSpec, model: mujoco.MjModel, data: mujoco.MjData) -> None:
    """Floor, stand, lights and a camera that sees the whole hand from the side of the palm."""
    low, high = _box(model, data, slice(None))
    size, centre = float(np.linalg.norm(high - low)), (low + high) / 2
    floor = low[2] - 0.3 * size
    add_sky(spec)
    add, look_only = spec.worldbody, dict(contype=0, conaffinity=0)
    add.add_geom(type=mujoco.mjtGeom.mjGEOM_PLANE, size=(9, 9, 1), pos=(0, 0, floor), rgba=FLOOR_COLOUR, **look_only)
    palm_low, palm_high = _box(model, data, model.body_weldid[model.geom_bodyid] == 0)
    middle, top = (palm_low + palm_high) / 2, palm_low[2] + 0.1 * size
    half = (top - floor) / 2
    add.add_geom(
        type=mujoco.mjtGeom.mjGEOM_CYLINDER,
        size=(0.055 * size, half, 0),
        pos=(middle[0], middle[1], floor + half),
        material="palm",
        **look_only,
    )
    for offset, strength, shadow in (((1.0, -1.3, 2.2), 0.6, True), ((0.6, 2.5, 0.8), 0.25, False)):
        toward = -np.array(offset)
        light = add.add_light(pos=centre - size * toward, dir=toward, castshadow=shadow, diffuse=(strength,) * 3)
        light.type = mujoco.mjtLightType.mjLIGHT_DIRECTIONAL
    spec.visual.headlight.ambient, spec.visual.headlight.diffuse = (0.38,) * 3, (0.12,) * 3
    quality = spec.visual.quality  # half the defaults: software rendering pays for each triangle
    quality.shadowsize, quality.offsamples, quality.numslices, quality.numstacks = 1024, 4, 20, 10
    spec.visual.global_.offwidth, spec.visual.global_.offheight = 1920, 1080
    spec.visual.map.znear, spec.visual.map.zfar = 0.1, 50.0
    spec.stat.extent, spec.stat.center = size, centre
    _add_camera(spec, centre, size)


def _box(model: mujoco.MjModel, data: mujoco.MjData, which: Any) -> tuple[np.ndarray, np.ndarray]:
    """Corners (3,), (3,) m of the box around the middles of geoms, with a little around each."""
    points = data.geom_xpos[which]
    if not len(points):
        return np.full(3, -0.05), np.full(3, 0.05)
    radius = np.minimum(model.geom_rbound[which], 0.05)[:, None]
    return (points - radius).min(0), (points + radius).max(0)


def _add_camera(spec: mujoco.MjSpec, centre: np.ndarray, size: float) -> None:
    backwards = np.array([1.0, -0.5, 0.3])
    backwards /= np.linalg.norm(backwards)
    right = np.cross((0.0, 0.0, 1.0), backwards)
    right /= np.linalg.norm(right)
    quaternion = np.zeros(4)
    mujoco.mju_mat2Quat(quaternion, np.stack([right, np.cross(backwards, right), backwards], axis=1).ravel())
    spec.worldbody.add_camera(name=CAMERA, pos=centre + 1.9 * size * backwards, quat=quaternion, fovy=30.0)


def _add_servos(spec: mujoco.MjSpec, hand: HandModel, model: mujoco.MjModel, data: mujoco.MjData) -> None:
    inertia = np.zeros((model.nv, model.nv))
    mujoco.mj_fullM(model, data, inertia)
    frequency = 2 * np.pi * SERVO_FREQUENCY
    for name, low, high in zip(hand.joint_names, hand.lower, hand.upper):
        dof = model.joint(name).dofadr[0]
        servo = spec.add_actuator(name=name, target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT)
        servo.set_to_position(kp=inertia[dof, dof] * frequency**2, kv=2 * inertia[dof, dof] * frequency)
        servo.ctrllimited, servo.ctrlrange = True, (low, high)


def _add_couplings(spec: mujoco.MjSpec, hand: HandModel) -> None:
    """Every joint without a motor follows the motors' joints: q_full = M q + b, chains of mimic joints resolved."""
    kinematics = hand.kinematics
    for i, name in enumerate(kinematics.full_joint_names):
        if name in hand.joint_names:
            continue
        drivers = np.flatnonzero(kinematics.mimic_matrix[i])
        scale = kinematics.mimic_matrix[i, drivers[0]] if len(drivers) else 0.0
        equality = spec.add_equality(type=mujoco.mjtEq.mjEQ_JOINT, objtype=mujoco.mjtObj.mjOBJ_JOINT, name1=name)
        if len(drivers):
            equality.name2 = hand.joint_names[drivers[0]]
        equality.data[:5] = (kinematics.mimic_offset[i], scale, 0.0, 0.0, 0.0)
        equality.solref = (COUPLING_TIME, 1.0)


def _exclude_neighbours(spec: mujoco.MjSpec, model: mujoco.MjModel, data: mujoco.MjData) -> None:
    """Links that touch in the rest pose touch by design (knuckles in the palm): they do not collide."""
    pairs = {tuple(sorted(model.geom_bodyid[[c.geom1, c.geom2]])) for c in data.contact}
    for a, b in sorted(pairs):
        spec.add_exclude(bodyname1=model.body(a).name, bodyname2=model.body(b).name)
