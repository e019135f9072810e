"""What the robot feels: whether it holds the object, how hard that is pulled, and whether it touches a person."""

from dataclasses import dataclass

import numpy as np

from ..robot.hands.model import HandModel

_FIRM = 2  # fingers that have to be held up by the object, beside the palm or the thumb against which they press it
_TARE_TIME = 0.5  # s over which what a force sensor shows without a load is averaged


@dataclass(frozen=True)
class Touch:
    """What the robot touches: sides of the person's hands, and whether anything else of the person; `gripped`, the
    object from two sides; `pull` N, by which it is pulled out of the palm's direction."""

    hands: frozenset[int] = frozenset()
    elsewhere: bool = False
    gripped: bool = False
    pull: float = 0.0


@dataclass(frozen=True)
class SenseOptions:
    """`grip_error` rad by which a finger stays behind its command when something is in its way, at no more than
    `grip_speed` rad/s; `contact_force` N that nothing but a person can put on the hand before a transfer."""

    grip_error: float = 0.03
    grip_speed: float = 0.3
    contact_force: float = 20.0


class TouchSense:
    """`Touch` from what real robots have: commanded and measured fingers, and a force sensor at the wrist.

    Which hand is touched cannot be told from a force; a large one outside of a transfer counts as a touch that was not
    meant. Forces are taken relative to those of the last while before the transfer, since sensors drift.
    """

    def __init__(self, hand: HandModel, options: SenseOptions = SenseOptions()):
        self.hand, self.options = hand, options
        fingers = hand.config.fingers
        self._joints = {name: joints_of(hand, links) for name, links in fingers.items()}
        self._force: np.ndarray | None = None
        self._tare: np.ndarray | None = None
        self._felt_at = -np.inf
        self.gripped = False

    def fingers(self, commanded: np.ndarray, measured: np.ndarray, speed: np.ndarray) -> None:
        """Angles (m,) rad commanded and measured, and measured speeds (m,) rad/s."""
        stays_behind = (np.abs(commanded - measured) > self.options.grip_error) & (
            np.abs(np.nan_to_num(speed)) < self.options.grip_speed
        )
        held = [name for name, joints in self._joints.items() if name != "thumb" and stays_behind[joints].any()]
        self.gripped = len(held) >= _FIRM

    def force(self, force: np.ndarray, now: float, in_transfer: bool) -> None:
        """The force (3,) N on the hand in the base's frame; `in_transfer` freezes what counts as none."""
        if self._tare is None:
            self._tare = force.copy()
        elif not in_transfer:
            share = float(np.clip((now - self._felt_at) / _TARE_TIME, 0.0, 1.0))
            self._tare += share * (force - self._tare)
        self._force, self._felt_at = force, now

    def touch(self, palm_direction: np.ndarray, in_transfer: bool) -> Touch:
        """What is felt now; `palm_direction` (3,) is the way out of the robot's palm."""
        if self._force is None or self._tare is None:
            return Touch(gripped=self.gripped)
        off = self._force - self._tare
        hit = not in_transfer and float(np.linalg.norm(off)) > self.options.contact_force
        return Touch(elsewhere=hit, gripped=self.gripped, pull=float(off @ palm_direction))


def joints_of(hand: HandModel, links: tuple[str, ...]) -> np.ndarray:
    """Actuated joints (indices) on which a finger's tip depends; none of a finger that is not there."""
    if not links:
        return np.zeros(0, dtype=int)
    moved = [
        i
        for i in range(len(hand.joint_names))
        if np.linalg.norm(
            hand.kinematics.link_positions(hand.rest_q + 0.1 * (np.arange(len(hand.rest_q)) == i), [links[-1]])
            - hand.kinematics.link_positions(hand.rest_q, [links[-1]])
        )
        > 1e-6
    ]
    return np.array(moved, dtype=int)
