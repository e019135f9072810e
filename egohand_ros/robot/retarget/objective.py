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
        self.terms = [live_term(rows, place, problem.offsets, len(moving)) for rows in problem.rows]
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


class LiveTerm:
    """Rows of one term at one pose: a Huber loss of the distances between where points are and where they should be.

    A subclass for each type of term says what its rows aim at, and how stiff they are.
    """

    def __init__(self, rows: Rows, place: np.ndarray, offsets: np.ndarray, points: int):
        self.rows, self.term, self.delta = rows, rows.term, rows.term.delta
        m = len(rows.tip)
        self._tip = place[rows.tip]
        origin = np.where(rows.origin >= 0, place[rows.origin], -1)
        self._straight = bool((self._tip >= 0).all() and (origin < 0).all())
        self._all = self._straight and m == points and bool((self._tip == np.arange(points)).all())
        self._unique = len(set(self._tip)) == m
        fixed_origin = ((origin < 0) & (rows.origin >= 0))[:, None]
        # Points that do not move are no points of the pose: what they add to each row's vector.
        self.shift = offsets[rows.tip] * (self._tip < 0)[:, None] - offsets[rows.origin] * fixed_origin
        self._incidence = None if self._straight else _incidence(self._tip, origin, points)
        self.weight = rows.weights
        self.target = np.zeros((m, 3))
        self.error, self.distance = np.zeros((m, 3)), np.zeros(m)

    def reset(self) -> None:
        """Forget what happened in the frames before."""

    def aim(self, human: np.ndarray, scales: np.ndarray, contacts: np.ndarray | None) -> None:
        """Set `target` and `weight` of the frame; rows without their keypoints (NaN) get no weight."""
        raise NotImplementedError

    def value(self, positions: np.ndarray) -> float:
        """The loss at positions (points, 3) m; sets `error` (m, 3) and `distance`, which `add_derivatives` takes."""
        self.error = self.measure(self.vectors(positions))
        self.distance = self.distances(self.error)
        near = np.minimum(self.distance, self.delta)
        loss = near * (self.distance - 0.5 * near)
        return float(self.weight.ravel().dot(loss.ravel())) / self.delta

    def vectors(self, positions: np.ndarray) -> np.ndarray:
        """The rows' vectors (m, 3) m between points that move."""
        if self._incidence is not None:
            return np.dot(self._incidence, positions)
        return positions if self._all else positions.take(self._tip, 0)

    def measure(self, vectors: np.ndarray) -> np.ndarray:
        """What is wrong with vectors (m, 3): (m, 3) m."""
        return vectors - self.target

    def distances(self, error: np.ndarray) -> np.ndarray:
        """What the loss is taken of: (m,), or (m, 3) where each coordinate counts on its own."""
        return np.sqrt((error * error).sum(1))

    def add_derivatives(self, jacobian: np.ndarray, matrix: np.ndarray, force: np.ndarray, exact: bool) -> None:
        """Add the term's part to the Hessian (n, n) and to the forces on the points (points, 3), in place."""
        pull = self.weight / np.maximum(self.distance, self.delta)
        self._add_force(force, (pull if pull.ndim == 2 else pull[:, None]) * self.error)
        self.add_stiffness(self._rows_of(jacobian), pull, matrix, exact)

    def add_stiffness(self, rows: np.ndarray, pull: np.ndarray, matrix: np.ndarray, exact: bool) -> None:
        """Add to the Hessian (n, n) for Jacobians (m, 3, n) of the vectors and pulls (m,) on them."""
        flat = rows.reshape(-1, rows.shape[-1])
        matrix += np.dot(flat.T, (pull[:, None, None] * rows).reshape(flat.shape))
        if exact:
            outside = self.distance > self.delta
            if outside.any():  # there the loss is a distance, which is flat along its own direction
                along = np.matmul((self.error / np.maximum(self.distance, 1e-9)[:, None])[:, None], rows)[:, 0]
                matrix -= np.dot(along.T, (pull * outside)[:, None] * along)

    def _rows_of(self, jacobian: np.ndarray) -> np.ndarray:
        if self._incidence is not None:
            return np.dot(self._incidence, jacobian.reshape(len(jacobian), -1)).reshape(len(self._tip), 3, -1)
        return jacobian if self._all else jacobian.take(self._tip, 0)

    def _add_force(self, force: np.ndarray, each: np.ndarray) -> None:
        if self._all:
            force += each
        elif self._incidence is not None:
            force += np.dot(self._incidence.T, each)
        elif self._unique:
            force[self._tip] += each
        else:
            np.add.at(force, self._tip, each)


class VectorTerm(LiveTerm):
    """Vectors between links, as those between scaled keypoints."""

    def aim(self, human: np.ndarray, scales: np.ndarray, contacts: np.ndarray | None) -> None:
        rows = self.rows
        tip, origin = human.take(rows.human_tip, 0), human.take(rows.human_origin, 0)
        target = scales.take(rows.human_tip)[:, None] * tip - scales.take(rows.human_origin)[:, None] * origin
        self.target, self.weight = _known(target - self.shift, rows.weights)


class PositionTerm(LiveTerm):
    """Links at scaled keypoints, each coordinate with a loss of its own."""

    def aim(self, human: np.ndarray, scales: np.ndarray, contacts: np.ndarray | None) -> None:
        rows = self.rows
        target = scales.take(rows.human_tip)[:, None] * human.take(rows.human_tip, 0) + rows.anchor - self.shift
        self.target, self.weight = _known(target, rows.weights)

    def distances(self, error: np.ndarray) -> np.ndarray:
        return np.abs(error)

    def add_stiffness(self, rows: np.ndarray, pull: np.ndarray, matrix: np.ndarray, exact: bool) -> None:
        if exact:
            pull = pull * (self.distance <= self.delta)
        flat = rows.reshape(-1, rows.shape[-1])
        matrix += np.dot(flat.T, pull.reshape(-1, 1) * flat)


class PinchTerm(LiveTerm):
    """DexPilot's vectors, pulled together where the human pinches."""

    def __init__(self, rows: Rows, place: np.ndarray, offsets: np.ndarray, points: int):
        super().__init__(rows, place, offsets, points)
        self.pinch = PinchState(rows)

    def reset(self) -> None:
        self.pinch.closed[:] = False

    def aim(self, human: np.ndarray, scales: np.ndarray, contacts: np.ndarray | None) -> None:
        vector = human.take(self.rows.human_tip, 0) - human.take(self.rows.human_origin, 0)
        target, self.weight = self.pinch.targets(vector, scales)
        self.target = target - self.shift


class ContactTerm(LiveTerm):
    """Distances to keep: between fingertips while they are near."""

    def __init__(self, rows: Rows, place: np.ndarray, offsets: np.ndarray, points: int):
        super().__init__(rows, place, offsets, points)
        self.keep = np.zeros(len(rows.tip))

    def aim(self, human: np.ndarray, scales: np.ndarray, contacts: np.ndarray | None) -> None:
        rows = self.rows
        between = human.take(rows.human_tip, 0) - human.take(rows.human_origin, 0)
        distance = np.sqrt((between * between).sum(1))
        near = distance < self.term.near
        self.target = -self.shift
        self.keep, self.weight = np.where(near, distance, 0.0), rows.weights * near

    def measure(self, vectors: np.ndarray) -> np.ndarray:
        vectors = vectors - self.target
        length = np.maximum(np.sqrt((vectors * vectors).sum(1)), 1e-9)
        return vectors * (1.0 - self.keep / length)[:, None]

    def add_stiffness(self, rows: np.ndarray, pull: np.ndarray, matrix: np.ndarray, exact: bool) -> None:
        """Only the distance counts, so only the radial direction is stiff."""
        radial = np.matmul((self.error / np.maximum(self.distance, 1e-9)[:, None])[:, None], rows)[:, 0]
        matrix += np.dot(radial.T, pull[:, None] * radial)


class ObjectContactTerm(ContactTerm):
    """Distances to keep between fingertips and points on objects."""

    def aim(self, human: np.ndarray, scales: np.ndarray, contacts: np.ndarray | None) -> None:
        rows = self.rows
        objects = (np.full((5, 3), np.nan) if contacts is None else contacts)[rows.object_finger]
        distance = np.sqrt(((human.take(rows.human_tip, 0) - objects) ** 2).sum(1))
        known = np.isfinite(distance)
        near = known & (np.where(known, distance, np.inf) < self.term.near)
        self.target = np.where(known[:, None], objects + rows.anchor, 0.0) - self.shift
        self.keep, self.weight = np.where(known, distance, 0.0), rows.weights * near


_TERMS: dict[str, type[LiveTerm]] = {
    "vector": VectorTerm,
    "position": PositionTerm,
    "pinch": PinchTerm,
    "contact": ContactTerm,
}


def live_term(rows: Rows, place: np.ndarray, offsets: np.ndarray, points: int) -> LiveTerm:
    """The term of some rows. `place` gives the place of the problem's points among those that move (-1: fixed), of
    which there are `points`; `offsets` are those of all."""
    kind = ObjectContactTerm if rows.to_object else _TERMS[rows.term.type]
    return kind(rows, place, offsets, points)


def _incidence(tip: np.ndarray, origin: np.ndarray, points: int) -> np.ndarray:
    """(m, points): +1 where a row ends, -1 where it begins."""
    out = np.zeros((len(tip), points))
    for j in range(len(tip)):
        for point, sign in ((origin[j], -1.0), (tip[j], 1.0)):
            if point >= 0:
                out[j, point] += sign
    return out


def _known(target: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Targets (m, 3) and weights, (m,) or (m, 3), with rows that are not known (NaN) at zero."""
    known = np.isfinite(target).all(axis=1)
    if known.all():
        return target, weights
    return np.where(known[:, None], target, 0.0), weights * (known if weights.ndim == 1 else known[:, None])
