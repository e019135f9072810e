"""`HandModel`: a robot hand ready to use, the join of its config and its URDF."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ...errors import UserError
from .capsules import CapsuleModel, build_capsules
from .command import CommandMapping
from .config import HandConfig, Objective
from .kinematics import HandKinematics, build_kinematics
from .urdf import RobotTree, Shape


@dataclass(frozen=True, eq=False)
class HandModel:
    """A hand with n actuated joints, in the config's order.

    Positions, velocities and accelerations are (n,) arrays in rad (m for sliding joints) and their derivatives by s.
    `urdf_text` is what a simulator or robot_description needs; `urdf_path` is "" when it came from a topic.
    """

    config: HandConfig
    tree: RobotTree
    kinematics: HandKinematics
    urdf_path: str
    urdf_text: str
    lower: np.ndarray
    upper: np.ndarray
    velocity_limit: np.ndarray
    acceleration_limit: np.ndarray
    rest_q: np.ndarray
    shapes: dict[str, tuple[Shape, ...]]

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def side(self) -> str:
        return self.config.side

    @property
    def joint_names(self) -> tuple[str, ...]:
        return self.kinematics.joint_names

    @property
    def n(self) -> int:
        """Number of actuated joints."""
        return self.kinematics.n

    @property
    def base(self) -> str:
        """The link whose frame poses are given in."""
        return self.kinematics.base

    @property
    def tips(self) -> dict[str, str]:
        """Fingertip link of each finger."""
        return {finger: links[-1] for finger, links in self.config.fingers.items()}

    @cached_property
    def tip_bodies(self) -> dict[str, str]:
        """The outermost body of each finger: the first of the links that the tip is fixed to."""
        points = self.config.points
        return {
            finger: self.tree.body_of(points[tip][0] if tip in points else tip) for finger, tip in self.tips.items()
        }

    @cached_property
    def capsules(self) -> CapsuleModel:
        """The body for self-collision."""
        return build_capsules(self.kinematics, self.tree, self.shapes, self.config.collision, self.tip_bodies)

    def objective(self, name: str) -> Objective:
        """The named objective; `UserError` lists what this hand has."""
        if name not in self.config.objectives:
            raise UserError(
                f"hand {self.name!r} has no objective {name!r}; it has: {', '.join(self.config.objectives)}"
            )
        return self.config.objectives[name]

    @cached_property
    def mapping(self) -> CommandMapping:
        """The first command interface of the config."""
        return self.command_mapping()

    def command_mapping(self, interface: str | None = None) -> CommandMapping:
        """The named command interface (the config's first by default); `UserError` lists what there is."""
        commands = self.config.commands
        interface = next(iter(commands), "none") if interface is None else interface
        if interface not in commands:
            raise UserError(f"hand {self.name!r} has no command interface {interface!r}; it has: {', '.join(commands)}")
        return CommandMapping(commands[interface], self.joint_names)


def build_model(
    config: HandConfig, tree: RobotTree, urdf_text: str, urdf_path: str = "", body: RobotTree | None = None
) -> HandModel:
    """Join config and URDF; `UserError` where they do not fit (unknown links or joints, missing limits).

    `body` is a URDF whose collision shapes win over those of `tree`, link by link.
    """
    if config.root:
        tree = tree.subtree(config.root)
    kinematics = build_kinematics(tree, config.joints, config.points)
    where = f"hand {config.name!r}"
    for name, low, high in zip(config.joints, kinematics.lower, kinematics.upper):
        if not (np.isfinite(low) and np.isfinite(high) and low < high):
            raise UserError(
                f"{where}: joint {name!r} has limits {low}..{high} in the URDF; give lower < upper in its <limit>"
            )
    velocity = np.array([config.velocity.get(name, v) for name, v in zip(config.joints, kinematics.velocity)])
    _need(where, "velocity", config.joints, velocity)
    acceleration = np.array([config.acceleration.get(name, 0.0) for name in config.joints])
    _need(where, "acceleration", config.joints, acceleration)
    for link in _links_used(config):
        kinematics.frame(link)
    rest = np.clip([config.rest.get(name, 0.0) for name in config.joints], kinematics.lower, kinematics.upper)
    arrays = (kinematics.lower, kinematics.upper, velocity, acceleration, rest)
    for array in arrays:
        array.setflags(write=False)
    shapes = tree.links if body is None else tree.links | {k: v for k, v in body.links.items() if v and k in tree.links}
    return HandModel(config, tree, kinematics, urdf_path, urdf_text, *arrays, shapes)


def _need(where: str, what: str, names: Iterable[str], values: Iterable[float]) -> None:
    missing = [name for name, value in zip(names, values) if not value > 0]
    if missing:
        raise UserError(f"{where}: no {what} limit for {', '.join(missing)}; set `{what}:` in the hand's config")


def _links_used(config: HandConfig) -> list[str]:
    links = [config.palm_link, *(link for finger in config.fingers.values() for link in finger)]
    for objective in config.objectives.values():
        links += [link for term in objective.terms for row in term.links for link in row]
    return links
