"""Self-collision judged by MuJoCo from the URDF's shapes, to check what our own capsules say."""

import re

import numpy as np

from ...errors import UserError
from ..hands.model import HandModel

_FAR = 0.02  # m, beyond which distances are not told apart


class MujocoDistance:
    """Least distance between the bodies of a hand, by MuJoCo's general convex geometry.

    Bodies that are neighbours in the tree, and pairs that the hand's config ignores, are left out; everything else is
    measured, also what our own solver takes to be far apart.
    """

    def __init__(self, hand: HandModel):
        try:
            import mujoco
        except ImportError as error:
            raise UserError("an independent collision check needs MuJoCo; `pip install mujoco`") from error
        self._mujoco, self.hand = mujoco, hand
        compiler = '<mujoco><compiler fusestatic="false" discardvisual="true" strippath="false"/></mujoco></robot>'
        self._model = mujoco.MjModel.from_xml_string(re.sub(r"</robot>\s*$", compiler, hand.urdf_text))
        self._data = mujoco.MjData(self._model)
        self._address = [self._model.joint(name).qposadr[0] for name in hand.kinematics.full_joint_names]
        self._pairs = self._body_pairs()

    def least(self, q: np.ndarray) -> float:
        """Least distance [m] at q (n,); negative is penetration. Distances beyond 2 cm count as 2 cm."""
        data, model, mujoco = self._data, self._model, self._mujoco
        data.qpos[self._address] = self.hand.kinematics.full_position(q)
        mujoco.mj_kinematics(model, data)
        middle, size = data.geom_xpos, model.geom_rbound
        least = _FAR
        for a, b in self._pairs:
            if np.linalg.norm(middle[a] - middle[b]) < size[a] + size[b] + least:
                least = min(least, mujoco.mj_geomDistance(model, data, a, b, _FAR, None))
        return least

    def _body_pairs(self) -> list[tuple[int, int]]:
        """Geometry pairs of bodies that must not touch."""
        model = self._model
        body = [model.body(i).name for i in model.geom_bodyid]
        bodies = set(body)
        above = {name: self._body_above(name, bodies) for name in bodies}
        ignored = {frozenset(pair) for pair in self.hand.config.collision.ignore}

        def apart(a: str, b: str) -> bool:
            return a != b and above[a] != b and above[b] != a and frozenset((a, b)) not in ignored

        return [(i, j) for i in range(len(body)) for j in range(i + 1, len(body)) if apart(body[i], body[j])]

    def _body_above(self, name: str, bodies: set[str]) -> str | None:
        joint = self.hand.tree.parent_joint(name)
        while joint is not None and joint.parent not in bodies:
            joint = self.hand.tree.parent_joint(joint.parent)
        return None if joint is None else joint.parent
