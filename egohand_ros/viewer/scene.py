"""`Scene`: hands, forecasts, the robot hand, its arm and frames in three dimensions, drawn by viser. Nothing in it can
be clicked."""

from typing import Any

import numpy as np

from ..hand.palm import palm_or_given_rotation
from ..hand.skeleton import NUM_KEYPOINTS, SIDES, side_index
from ..messages.joints import JointSample
from ..robot.arm.model import ArmModel
from ..robot.hands.model import HandModel
from . import shapes
from .feed import named, ordered
from .moment import Moment

ASIDE = 0.25  # m between a person's wrist and the robot hand that is shown beside it
_ROBOT, _COMMANDED = (90, 96, 110), (240, 100, 40)
_FRAME_LENGTH = 0.06  # m
_SAME = 0.04  # rad


class Scene:
    """Draws a `Moment` again and again into `server`, a viser.ViserServer. `hand` is the robot's, None for none; `arm`
    is what carries it, None where that is not shown: the hand is then beside the person's, turned as it is."""

    def __init__(self, server: Any, hand: HandModel | None = None, arm: ArmModel | None = None):
        self._scene, self._hand, self._arm = server.scene, hand, arm
        self._scene.set_up_direction("+z")
        self._scene.configure_fog(near=50.0, far=100.0, enabled=False)
        self._root = self._scene.add_frame("/shown", show_axes=False)
        self._scene.add_grid("/grid", width=4.0, height=4.0, cell_size=0.1, section_size=0.5, position=(0.0, 0.0, -0.6))
        self._hands = [_HandParts(self._scene, side) for side in range(2)]
        self._robots = [] if hand is None else [
            _RobotParts(self._scene, hand, "measured", _ROBOT, 1.0),
            _RobotParts(self._scene, hand, "commanded", _COMMANDED, 0.4),
        ]  # fmt: skip
        self._arms = [] if arm is None else [
            _ArmParts(self._scene, arm, "measured", _ROBOT, 1.0),
            _ArmParts(self._scene, arm, "commanded", _COMMANDED, 0.4),
        ]  # fmt: skip
        self._base: np.ndarray | None = None
        self._arm_base: np.ndarray | None = None
        self._frames: dict[str, Any] = {}

    def show(self, moment: Moment) -> None:
        """Draw it in place of what was there."""
        _place(self._root, moment.upright)
        keypoints = moment.shown_hands()
        for side, parts in enumerate(self._hands):
            parts.show(keypoints[side], moment.futures.hand(side) if moment.futures is not None else None)
        self._show_robot(moment, keypoints)
        self._show_frames(moment.shown_frames())

    def _show_robot(self, moment: Moment, keypoints: np.ndarray) -> None:
        if self._hand is None:
            return
        side = side_index(self._hand.side)
        given = None if moment.hands is None else moment.hands.wrist_rotation[side]
        turn = moment.to_shown(moment.hands.frame_id) if moment.hands is not None else None
        given = turn[:3, :3] @ given if given is not None and turn is not None else None
        palm = palm_or_given_rotation(keypoints[side], self._hand.side, given)
        base = shapes.beside(self._hand, keypoints[side, 0], palm, moment.upright, ASIDE)
        self._base = self._base if base is None else base  # it stays where the hand was seen last
        measured, commanded = (ordered(joints, self._hand) for joints in (moment.measured, moment.targets))
        carried = [self._show_arm(moment.upright, i, moment.measured, moment.targets) for i in range(len(self._arms))]
        bases = carried or [self._base, self._base]
        self._robots[0].show(measured, bases[0])
        same = _same(measured, commanded) and (not carried or bases[1] is None)
        self._robots[1].show(None if same else commanded, bases[1] if bases[1] is not None else bases[0])
        self._robots[1].solid(measured is None)

    def _show_arm(
        self, upright: np.ndarray, which: int, measured: JointSample | None, targets: JointSample | None
    ) -> np.ndarray | None:
        """Draw the arm where it is (0) or is meant to be (1); T_shown_hand (4, 4) of the hand's base on it, None where
        it is not drawn. It stands where its hand was beside the person's when both were first seen."""
        assert self._arm is not None
        is_at, is_meant = (named(joints, self._arm.config.joints) for joints in (measured, targets))
        q = is_at if which == 0 else None if _same(is_at, is_meant) else is_meant
        if q is not None and self._arm_base is None and self._base is not None:
            self._arm.move(q)
            self._arm_base = np.eye(4)
            self._arm_base[:3, :3] = upright[:3, :3].T
            self._arm_base[:3, 3] = self._base[:3, 3] - self._arm_base[:3, :3] @ self._arm.hand_base()[:3, 3]
        return self._arms[which].show(q, self._arm_base)

    def _show_frames(self, known: dict[str, np.ndarray]) -> None:
        for name, transform in known.items():
            if name not in self._frames:
                place = f"/shown/frames/{name.replace('/', '_')}"  # of viser's tree, in which a slash is a branch
                self._frames[name] = self._scene.add_frame(place, axes_length=_FRAME_LENGTH, axes_radius=0.0025)
                self._scene.add_label(f"{place}/name", name, font_screen_scale=0.7)
            _place(self._frames[name], transform)
        for name, frame in self._frames.items():
            frame.visible = name in known


class _HandParts:
    """One of the person's hands, its fan, its last forecast step and its ellipsoids."""

    def __init__(self, scene: Any, side: int):
        self._scene, self._side, self._name = scene, side, f"/shown/{SIDES[side]}"
        colour = tuple(int(c) for c in shapes.COLOURS[side])
        nothing = np.full((NUM_KEYPOINTS, 3), np.nan)
        lines = scene.add_line_segments
        self._bones = lines(f"{self._name}/bones", shapes.bones(nothing), colour, thickness=0.006)
        self._points = scene.add_point_cloud(
            f"{self._name}/points", shapes.points(nothing), colour, point_size=0.008, point_shape="circle",
            precision="float32",
        )  # fmt: skip
        pale = tuple(int(c) for c in 0.5 * shapes.COLOURS[side] + 0.5 * 235.0)
        self._ghost = lines(f"{self._name}/forecast_hand", shapes.ghost(None), pale, thickness=0.003)
        self._fan: Any = None
        self._ellipsoids: Any = None

    def show(self, keypoints: np.ndarray, future: Any) -> None:
        self._bones.points = shapes.bones(keypoints)
        self._points.points = shapes.points(keypoints)
        self._ghost.points = shapes.ghost(future)
        self._show_fan(*shapes.fan(future, keypoints[0], self._side))
        self._show_ellipsoids(*shapes.ellipsoids(future))

    def _show_fan(self, segments: np.ndarray, colours: np.ndarray) -> None:
        if self._fan is None or len(self._fan.points) != len(segments):  # another number of hypotheses or steps
            self._fan = self._scene.add_line_segments(f"{self._name}/fan", segments, colours, thickness=0.005)
            return
        self._fan.points, self._fan.colors = segments, colours

    def _show_ellipsoids(self, centres: np.ndarray, wxyz: np.ndarray, half_axes: np.ndarray) -> None:
        if self._ellipsoids is not None and len(self._ellipsoids.batched_positions) == len(centres):
            self._ellipsoids.batched_positions = centres
            self._ellipsoids.batched_wxyzs = wxyz
            self._ellipsoids.batched_scales = half_axes
            return
        if self._ellipsoids is not None:
            self._ellipsoids.remove()
            self._ellipsoids = None
        if len(centres):
            vertices, faces = _unit_sphere()
            self._ellipsoids = self._scene.add_batched_meshes_simple(
                f"{self._name}/regions", vertices, faces, wxyz, centres, batched_scales=half_axes,
                batched_colors=shapes.COLOURS[self._side].astype(np.uint8), opacity=0.06, lod="off",
                cast_shadow=False, receive_shadow=False,
            )  # fmt: skip


class _RobotParts:
    """The robot hand in one pose, a mesh for each link."""

    def __init__(self, scene: Any, hand: HandModel, label: str, colour: tuple[int, int, int], opacity: float):
        self._hand, self._opacity = hand, opacity
        name = f"/shown/robot_{label}"
        self._root = scene.add_frame(name, show_axes=False, visible=False)
        meshes = shapes.link_meshes(hand)
        self._links = tuple(meshes)
        self._parts = [
            scene.add_mesh_simple(
                f"{name}/{link}", vertices, faces, color=colour,
                opacity=None if opacity == 1.0 else opacity, cast_shadow=False, receive_shadow=False,
            )
            for link, (vertices, faces) in meshes.items()
        ]  # fmt: skip

    def show(self, q: np.ndarray | None, base: np.ndarray | None) -> None:
        """At q (n,) rad, its base at T_shown_base (4, 4); not at all without them."""
        self._root.visible = q is not None and base is not None and bool(self._links)
        if q is None or base is None or not self._links:
            return
        _place(self._root, base)
        poses = self._hand.kinematics.link_poses(q, self._links)
        for part, position, turn in zip(self._parts, poses[:, :3, 3], shapes.wxyz(poses[:, :3, :3])):
            part.position, part.wxyz = position, turn

    def solid(self, wanted: bool) -> None:
        """Opaque, or as it was made."""
        for part in self._parts:
            part.opacity = 1.0 if wanted else self._opacity


class _ArmParts:
    """The arm in one pose, a mesh for each capsule."""

    def __init__(self, scene: Any, arm: ArmModel, label: str, colour: tuple[int, int, int], opacity: float):
        self._arm, name = arm, f"/shown/arm_{label}"
        self._root = scene.add_frame(name, show_axes=False, visible=False)
        self._parts = [
            scene.add_mesh_simple(
                f"{name}/{i}", vertices, faces, color=colour,
                opacity=None if opacity == 1.0 else opacity, cast_shadow=False, receive_shadow=False,
            )
            for i, (vertices, faces) in enumerate(shapes.arm_meshes(arm))
        ]  # fmt: skip

    def show(self, q: np.ndarray | None, base: np.ndarray | None) -> np.ndarray | None:
        """At q (n,) rad, its base at T_shown_base (4, 4); not at all without them. T_shown_hand (4, 4) of the hand."""
        self._root.visible = q is not None and base is not None
        if q is None or base is None:
            return None
        _place(self._root, base)
        self._arm.move(q)
        data = self._arm.data
        turns = shapes.wxyz(data.geom_xmat.reshape(-1, 3, 3))
        for part, position, turn in zip(self._parts, data.geom_xpos, turns):
            part.position, part.wxyz = position.copy(), turn
        return base @ self._arm.hand_base()


def _same(measured: np.ndarray | None, commanded: np.ndarray | None) -> bool:
    """Where both are the same, one hides the other; without measured joints the command is all there is."""
    return measured is not None and commanded is not None and bool(np.abs(measured - commanded).max() < _SAME)


def _place(node: Any, transform: np.ndarray) -> None:
    """Put a scene node at T_parent_node (4, 4)."""
    node.position, node.wxyz = transform[:3, 3], shapes.wxyz(transform[:3, :3])


def _unit_sphere() -> tuple[np.ndarray, np.ndarray]:
    import trimesh

    sphere = trimesh.creation.icosphere(2, 1.0)
    return np.asarray(sphere.vertices), np.asarray(sphere.faces)
