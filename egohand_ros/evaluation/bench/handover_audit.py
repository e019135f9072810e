"""Judge a recorded handover's separation from what was where. Nothing of the controller's is used: its own geometry
(points of the simulated robot's shapes against the true keypoints and head) and its own words for the formula.

The robot breaks the separation where it closes in by more than creeping although, for all the time that it needs to
react and to stop, the distance was already less than that speed asks for. In a transfer the exempt hand alone may be
nearer, at no more than the transfer speed.
"""

from dataclasses import dataclass

import numpy as np

_WINDOW = 5  # control steps over which a speed is taken
_CREEP = 0.03  # m/s, which noise of differences comes to
_TOLERANCE = 0.02  # m/s
_HEAD = 0.11  # m, radius


@dataclass(frozen=True)
class Rules:
    """The numbers of ISO 10218-2:2025's distance: m, s, m/s; those of the controller's options are not asked."""

    human_speed: float = 1.6
    reaction: float = 0.08
    deceleration: float = 5.0
    build_up: float = 0.03
    transfer_speed: float = 0.15


@dataclass(frozen=True)
class SeparationAudit:
    """Control steps that broke the separation or the transfer speed, and the smallest distance to anything that was not
    exempt, m."""

    steps: int
    too_near: int
    too_fast_in_transfer: int
    smallest: float

    @property
    def violations(self) -> int:
        """Of either kind."""
        return self.too_near + self.too_fast_in_transfer


def audit_separation(
    time: np.ndarray,
    points: np.ndarray,
    thickness: np.ndarray,
    keypoints: np.ndarray,
    head: np.ndarray,
    exempt: np.ndarray,
    rules: Rules = Rules(),
) -> SeparationAudit:
    """Audit T steps: time (T,) s, points (T, P, 3) m of the robot, which is `thickness` (P,) m thick about them,
    keypoints (T, 2, 21, 3) m, head (3,) m, and the exempt side (T,), -1 for none."""
    steps, points = len(points), points.astype(float)
    speed = np.zeros_like(points)
    period = float(np.median(np.diff(time)))
    speed[_WINDOW:] = (points[_WINDOW:] - points[:-_WINDOW]) / (_WINDOW * period)
    parts = [keypoints[:, 0].astype(float), keypoints[:, 1].astype(float), np.broadcast_to(head, (steps, 1, 3))]
    near, fast, smallest = 0, 0, np.inf
    for side, part in enumerate(parts):
        distance, closing = _closest(points, speed, part, thickness + (_HEAD if side == 2 else 0.0))
        free = (exempt != side) if side < 2 else np.ones(steps, dtype=bool)
        smallest = min(smallest, float(distance[free].min(initial=np.inf)))
        near += int(_broken(distance, closing, free, period, rules).sum())
        held = ~free & (distance.min(1) < 0.15)
        fast += int((held & (np.where(distance < 0.15, closing, 0.0).max(1) > rules.transfer_speed + 0.03)).sum())
    return SeparationAudit(steps, near, fast, smallest)


def _closest(
    points: np.ndarray, speed: np.ndarray, part: np.ndarray, thick: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Distance (T, P) m of each of the robot's points to a part of the person, and its speed towards it (T, P) m/s."""
    distance, closing = np.empty(points.shape[:2]), np.empty(points.shape[:2])
    for t in range(len(points)):
        apart = part[t] - points[t][:, None]
        far = np.sqrt((apart * apart).sum(-1))
        best = far.argmin(1)
        rows = np.arange(len(best))
        direction = apart[rows, best] / np.maximum(far[rows, best], 1e-9)[:, None]
        distance[t], closing[t] = far[rows, best] - thick, (direction * speed[t]).sum(-1)
    return distance, closing


def _broken(distance: np.ndarray, closing: np.ndarray, free: np.ndarray, period: float, rules: Rules) -> np.ndarray:
    """(T,) whether any point closes in faster than the distance allowed all through its reaction and stopping time."""
    v = np.maximum(closing - _TOLERANCE, 0.0)
    stop = v / rules.deceleration + rules.build_up
    needed = rules.human_speed * (rules.reaction + stop) + v * rules.reaction + 0.5 * v * stop
    wait = np.ceil((rules.reaction + stop) / period).astype(int) + _WINDOW
    broken = np.zeros(len(distance), dtype=bool)
    for t in np.flatnonzero(((closing > _CREEP + _TOLERANCE) & (distance < needed)).any(1) & free):
        for p in np.flatnonzero((closing[t] > _CREEP + _TOLERANCE) & (distance[t] < needed[t])):
            first = t - wait[t, p]
            if first >= 0 and free[first : t + 1].all() and (distance[first : t + 1, p] < needed[t, p]).all():
                broken[t] = True
                break
    return broken
