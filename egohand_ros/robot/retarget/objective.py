"""An objective at one pose: its value, gradient and second derivatives (NumPy, live path)."""

import numpy as np

from ..hands.live_pose import LivePose, PointSet
from .compiled_objective import PinchState, Problem, Rows, posture


class LiveObjective:
    """Value and derivatives of a `Problem` for one pose. Call `aim` once a frame, then `value` and `derivatives`."""

    def __init__(self, problem: Problem, pose: LivePose):
        self.problem, self.pose = problem, pose
        base = problem.kinematics.depth * problem.kinematics.chains
        moving = np.flatnonzero(problem.slots != base)
        place = np.full(len(problem.slots), -1)
        place[moving] = np.arange(len(moving))
        self.points = PointSet(pose, problem.slots[moving], problem.offsets[moving])
        self.terms = [_LiveTerm(rows, place, problem.offsets, len(moving)) for rows in problem.rows]
        self.regularization = problem.objective.regularization
        self.pull, self.pull_to = posture(problem)
        self._diagonal = np.diag(2.0 * (self.regularization + self.pull))

    def reset(self) -> None:
        """Forget which pinches were closed."""
        for term in self.terms:
            term.reset()

    def aim(self, human: np.ndarray, last: np.ndarray, contacts: np.ndarray | None = None) -> None:
        """Set the frame's targets: keypoints (21, 3) m relative to the palm link in the base frame's axes, and the
        pose (n,) to stay close to. `contacts` (5, 3): a point on an object for each finger, NaN where there is none."""
        for term in self.terms:
            term.aim(human, self.problem.scales, contacts)
        self._last = last

    def value(self, q: np.ndarray) -> float:
        """The objective at q (n,); later `derivatives` are at this q."""
        self.pose.update(q)
        positions = self.points.update()
        self._delta = q - self._last
        total = self.regularization * float(self._delta.dot(self._delta))
        if self.pull_to is not None:
            self._bend = q - self.pull_to
            total += float(self.pull.dot(self._bend * self._bend))
        for term in self.terms:
            total += term.value(positions)
        return total

    def derivatives(self, exact: bool = True) -> tuple[np.ndarray, np.ndarray]:
        """Gradient (n,) and Hessian (n, n) at the q of the last `value`.

        `exact`: the true Hessian, which may be indefinite; otherwise the positive definite Gauss-Newton matrix.
        """
        jacobian = self.points.jacobian()
        gradient = 2.0 * self.regularization * self._delta
        if self.pull_to is not None:
            gradient = gradient + 2.0 * self.pull * self._bend
        matrix = self._diagonal.copy()
        force = np.zeros((self.points.count, 3))
        for term in self.terms:
            term.add_derivatives(jacobian, matrix, force, exact)
        gradient = gradient + force.ravel().dot(jacobian.reshape(-1, jacobian.shape[-1]))
        if exact:
            matrix += self.points.curvature(force)
        return gradient, matrix


class _LiveTerm:
    """Rows of one term at one pose."""

    def __init__(self, rows: Rows, place: np.ndarray, offsets: np.ndarray, points: int):
        self.rows, self.term = rows, rows.term
        m = len(rows.tip)
        self._tip = place[rows.tip]
        origin = np.where(rows.origin >= 0, place[rows.origin], -1)
        self._straight = bool((self._tip >= 0).all() and (origin < 0).all())
        self._all = self._straight and m == points and bool((self._tip == np.arange(points)).all())
        self._unique = len(set(self._tip)) == m
        fixed_origin = ((origin < 0) & (rows.origin >= 0))[:, None]
        self._shift = offsets[rows.tip] * (self._tip < 0)[:, None] - offsets[rows.origin] * fixed_origin
        if not self._straight:
            self._incidence = np.zeros((m, points))
            for j in range(m):
                for point, sign in ((origin[j], -1.0), (self._tip[j], 1.0)):
                    if point >= 0:
                        self._incidence[j, point] += sign
        self._delta = self.term.delta
        self._weight = rows.weights
        self._pinch = PinchState(rows) if self.term.type == "pinch" else None
        self._goal = np.zeros((m, 3))

    def reset(self) -> None:
        if self._pinch is not None:
            self._pinch.closed[:] = False

    def aim(self, human, scales, contacts) -> None:
        rows = self.rows
        tip, origin = human.take(rows.human_tip, 0), human.take(rows.human_origin, 0)
        if self.term.type == "contact":
            self._aim_contact(tip, origin, contacts)
        elif rows.coordinatewise:
            self._target = scales.take(rows.human_tip)[:, None] * tip + rows.anchor - self._shift
        elif self._pinch is not None:
            self._target, self._weight = self._pinch.targets(tip - origin, scales)
            self._target -= self._shift
        else:
            self._target = scales.take(rows.human_tip)[:, None] * tip - scales.take(rows.human_origin)[:, None] * origin
            self._target -= self._shift

    def _aim_contact(self, tip, origin, contacts) -> None:
        """Distances to keep: between fingertips while they are near, or to points on objects."""
        rows = self.rows
        if rows.to_object:
            objects = np.full((5, 3), np.nan) if contacts is None else contacts
            objects = objects[rows.object_finger]
            distance = np.sqrt(((tip - objects) ** 2).sum(1))
            known = np.isfinite(distance)
            self._center = np.where(known[:, None], objects + rows.anchor, 0.0)
        else:
            distance = np.sqrt(((tip - origin) ** 2).sum(1))
            known, self._center = distance < self.term.near, np.zeros_like(tip)
        self._keep = np.where(known, distance, 0.0)
        self._weight = rows.weights * (known & (distance < self.term.near))

    def value(self, positions) -> float:
        if self._straight:
            vector = positions if self._all else positions.take(self._tip, 0)
        else:
            vector = np.dot(self._incidence, positions)
        if self.term.type == "contact":
            vector = vector + self._shift - self._center
            length = np.maximum(np.sqrt((vector * vector).sum(1)), 1e-9)
            self._error = vector * (1.0 - self._keep / length)[:, None]
        else:
            self._error = vector - self._target
        error = self._error
        distance = np.abs(error) if self.rows.coordinatewise else np.sqrt((error * error).sum(1))
        self._distance = distance
        near = np.minimum(distance, self._delta)
        return float(self._weight.ravel().dot((near * (distance - 0.5 * near)).ravel())) / self._delta

    def add_derivatives(self, jacobian, matrix, force, exact: bool) -> None:
        if self._straight:
            rows = jacobian if self._all else jacobian.take(self._tip, 0)
        else:
            rows = np.dot(self._incidence, jacobian.reshape(len(jacobian), -1)).reshape(len(self._tip), 3, -1)
        pull = self._weight / np.maximum(self._distance, self._delta)
        each = pull if self.rows.coordinatewise else pull[:, None]
        self._add_force(force, each * self._error)
        if self.rows.coordinatewise:
            if exact:
                pull = pull * (self._distance <= self._delta)
            flat = rows.reshape(-1, rows.shape[-1])
            matrix += np.dot(flat.T, pull.reshape(-1, 1) * flat)
            return
        if self.term.type == "contact":  # only the distance counts, so only the radial direction is stiff
            length = np.maximum(self._distance, 1e-9)
            radial = np.matmul((self._error / length[:, None])[:, None], rows)[:, 0]
            matrix += np.dot(radial.T, pull[:, None] * radial)
            return
        flat = rows.reshape(-1, rows.shape[-1])
        matrix += np.dot(flat.T, (pull[:, None, None] * rows).reshape(flat.shape))
        if exact:
            outside = self._distance > self._delta
            if outside.any():  # there the loss is a distance, which is flat along its own direction
                along = np.matmul((self._error / np.maximum(self._distance, 1e-9)[:, None])[:, None], rows)[:, 0]
                matrix -= np.dot(along.T, (pull * outside)[:, None] * along)

    def _add_force(self, force, each) -> None:
        if self._all:
            force += each
        elif not self._straight:
            force += np.dot(self._incidence.T, each)
        elif self._unique:
            force[self._tip] += each
        else:
            np.add.at(force, self._tip, each)
