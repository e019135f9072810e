"""Keeps a command stream free of self-collision: it bends a wanted velocity so that the hand can still stop in time."""

import numpy as np

from ..hands.collision import CollisionWatch
from ..hands.live_pose import LivePose
from ..hands.model import HandModel

_EXTRA = 2e-4  # m kept on top of the margin by the linear rule, so that what it leaves out does not matter
_SWEEPS = 12
_BLENDS = (0.6, 0.3, 0.1, 0.0)
_BRAKING_STEPS = 12  # longest braking that is looked through step by step
_LAST_RESORT = 0.8  # part of the margin that braking may use up when steps change length on the way


class CollisionGuard:
    """Judges steps of a hand by the poses they lead to and by where braking from there would end.

    A step is accepted when its pose and the braking that would follow it are clear. Since the last accepted step was
    judged so as well, braking is always there to fall back on. With steps that change length, braking may cover up to
    twice the way (see `limiter`), so twice as far is looked.
    """

    def __init__(self, hand: HandModel, acceleration: np.ndarray):
        self._a = acceleration
        self._watch = CollisionWatch(hand.capsules, LivePose(hand.kinematics))
        self.stops = 0  # how often not even braking was clear, and the hand was stopped dead

    def clear_velocity(
        self, q: np.ndarray, wanted: np.ndarray, lower: np.ndarray, upper: np.ndarray, dt: float
    ) -> np.ndarray:
        """The velocity (n,) within [lower, upper] nearest to `wanted` (n,) rad/s whose step of dt s is safe."""
        floor = min(0.0, self._watch.clearance(q))  # a hand that starts in collision may only get better
        if self._safe(q, wanted, dt, floor):
            return wanted
        slid = self._slide(q, wanted, lower, upper, dt + 0.5 * float(np.max(np.abs(wanted) / self._a)))
        brake = np.minimum(np.maximum(0.0, lower), upper)
        for part in (1.0, *_BLENDS):
            velocity = brake + part * (slid - brake)
            if self._safe(q, velocity, dt, floor):
                return velocity
        floor -= _LAST_RESORT * self._watch.margin
        for velocity in (brake, self._slide(q, brake, lower, upper, dt)):
            if self._watch.clearance(q + velocity * dt) >= floor:
                return velocity
        self.stops += 1
        return np.zeros_like(brake)

    def _safe(self, q: np.ndarray, velocity: np.ndarray, dt: float, floor: float) -> bool:
        """Whether the step and the braking after it keep their distances."""
        speed, way = np.abs(velocity), np.sign(velocity)
        stop = speed * speed / self._a
        if floor >= 0.0 and self._watch.surely_clear(q, speed * dt + stop):
            return True
        pose, braking = q + velocity * dt, float(np.max(speed / self._a))
        if self._watch.clearance(pose) < floor or self._watch.clearance(pose + way * stop) < floor:
            return False
        steps = min(int(np.ceil(braking / dt)), _BRAKING_STEPS)
        long = max(dt, braking / max(steps, 1))
        for _ in range(steps):
            speed = np.maximum(speed - self._a * long, 0.0)
            pose = pose + way * speed * long
            if self._watch.clearance(pose) < floor:
                return False
        return True

    def _slide(
        self, q: np.ndarray, wanted: np.ndarray, lower: np.ndarray, upper: np.ndarray, time: float
    ) -> np.ndarray:
        """Near `wanted`, but no near pair is closer than the margin within `time` s, to first order.

        The velocity damper of Faverjon and Tournassoud (1987), solved by projecting on the worst pair again and again.
        """
        watch = self._watch
        watch.pose.update(q)
        near = watch.near(q, 0.03)
        if not len(near):
            return wanted
        distance = watch.measure(near)
        rows = watch.gradients()
        slowest = -(distance - watch.margin - _EXTRA) / time
        size = (rows * rows).sum(1)
        velocity = wanted.copy()
        for _ in range(_SWEEPS):
            short = slowest - np.dot(rows, velocity)
            worst = int(np.argmax(short))
            if short[worst] <= 1e-9 or size[worst] < 1e-12:
                break
            velocity = np.minimum(np.maximum(velocity + short[worst] / size[worst] * rows[worst], lower), upper)
        return velocity
