"""An objective at one pose: its value, gradient and Gauss-Newton matrix (NumPy, live path)."""

import numpy as np

from .live import PointKinematics
from .problem import Problem, Rows


class LiveObjective:
    """Value and derivatives of a `Problem` for one pose. Call `aim` once a frame, then `value` and `derivatives`."""

    def __init__(self, problem: Problem):
        self.problem = problem
        base = problem.hand.kinematics.depth * problem.hand.kinematics.chains
        fixed = np.flatnonzero(problem.slots == base)
        moving = np.flatnonzero(problem.slots != base)
        place = np.full(len(problem.slots), -1)
        place[moving] = np.arange(len(moving))
        self.points = PointKinematics(problem.hand.kinematics, problem.slots[moving], problem.offsets[moving])
        anchors = {int(i): problem.offsets[i] for i in fixed}
        self.terms = [_LiveTerm(rows, place, anchors, len(moving)) for rows in problem.rows]
        self.regularization = problem.objective.regularization
        n = problem.hand.n
        self.pull, self.pull_to = _posture(problem, n)
        self._diagonal = np.diag(2.0 * (self.regularization + self.pull))

    def aim(self, human: np.ndarray, last_q: np.ndarray) -> None:
        """Set the frame's targets: keypoints (21, 3) m turned into the base frame, and the pose to stay close to."""
        scale = self.problem.objective.scale
        for term in self.terms:
            term.aim(human, scale)
        self._last_q = last_q

    def value(self, q: np.ndarray) -> float:
        """The objective at q (n,); later `derivatives` are at this q."""
        positions = self.points.update(q)
        self._delta = q - self._last_q
        total = self.regularization * float(self._delta @ self._delta)
        if self.pull_to is not None:
            self._bend = q - self.pull_to
            total += float(self.pull @ (self._bend * self._bend))
        for term in self.terms:
            total += term.value(positions)
        return total

    def derivatives(self) -> tuple[np.ndarray, np.ndarray]:
        """Gradient (n,) and positive definite matrix (n, n) at the q of the last `value`."""
        jacobian = self.points.jacobian()
        gradient = 2.0 * self.regularization * self._delta
        if self.pull_to is not None:
            gradient = gradient + 2.0 * self.pull * self._bend
        matrix = self._diagonal.copy()
        for term in self.terms:
            term.add_derivatives(jacobian, gradient, matrix)
        return gradient, matrix


class _LiveTerm:
    """Rows of one term at one pose."""

    def __init__(self, rows: Rows, place: np.ndarray, anchors: dict, points: int):
        self.rows, term = rows, rows.term
        self._tip = place[rows.tip]
        self._all = len(self._tip) == points and bool((self._tip == np.arange(points)).all())
        self._origin = place[rows.origin]
        if rows.coordinatewise:
            self._anchor = np.zeros(3)
        elif (self._origin < 0).all():
            self._anchor = np.array([anchors[int(i)] for i in rows.origin])
        else:
            self._anchor = None
            self._incidence = np.zeros((len(rows.tip), points))
            self._shift = np.zeros((len(rows.tip), 3))
            for j, (o, t) in enumerate(zip(rows.origin, rows.tip)):
                for point, sign in ((o, -1.0), (t, 1.0)):
                    if place[point] >= 0:
                        self._incidence[j, place[point]] += sign
                    else:
                        self._shift[j] += sign * anchors[int(point)]
        m = len(rows.tip)
        self._delta = term.delta
        self._weight = np.full(3 * m if rows.coordinatewise else m, rows.weight / (3 * m if rows.coordinatewise else m))
        self._pinch = PinchState(rows) if term.type == "pinch" else None

    def aim(self, human, scale) -> None:
        if self.rows.coordinatewise:
            self._target = scale * human.take(self.rows.human_tip, 0)
            return
        vector = human.take(self.rows.human_tip, 0) - human.take(self.rows.human_origin, 0)
        if self._pinch is not None:
            self._target, self._weight = self._pinch.targets(vector, scale)
        else:
            self._target = scale * vector

    def value(self, positions) -> float:
        if self._anchor is not None:
            vector = (positions if self._all else positions.take(self._tip, 0)) - self._anchor
        else:
            vector = np.dot(self._incidence, positions)
            vector += self._shift
        self._error = error = vector - self._target
        distance = np.abs(error).ravel() if self.rows.coordinatewise else np.sqrt((error * error).sum(1))
        self._distance = distance
        near = np.minimum(distance, self._delta)
        return float(self._weight @ (near * (distance - 0.5 * near))) / self._delta

    def add_derivatives(self, jacobian, gradient, matrix) -> None:
        if self._anchor is not None:
            rows = jacobian if self._all else jacobian.take(self._tip, 0)
        else:
            rows = np.dot(self._incidence, jacobian.reshape(len(jacobian), -1)).reshape(len(self._tip), 3, -1)
        flat = rows.reshape(-1, rows.shape[-1])
        pull = self._weight / np.maximum(self._distance, self._delta)
        if not self.rows.coordinatewise:
            pull = np.repeat(pull, 3)
        weighted = pull[:, None] * flat
        gradient += self._error.ravel() @ weighted
        matrix += flat.T @ weighted


class PinchState:
    """DexPilot's switching targets: which fingertip pairs are taken as pinched, with hysteresis."""

    def __init__(self, rows: Rows):
        term = rows.term
        self.fingers = len(term.links[0]) - 1
        self.thumb_pairs = self.fingers - 1
        self.pairs = self.fingers * (self.fingers - 1) // 2
        self.term = term
        self.closed = np.zeros(self.pairs, dtype=bool)
        between = [(i, j) for i in range(self.thumb_pairs) for j in range(i + 1, self.thumb_pairs)]
        self._first = np.array([i for i, _ in between], dtype=int)
        self._second = np.array([j for _, j in between], dtype=int)
        self._gap = np.r_[np.full(self.thumb_pairs, term.eta1), np.full(self.pairs - self.thumb_pairs, term.eta2)]
        self._high = np.r_[np.full(self.thumb_pairs, 200.0), np.full(self.pairs - self.thumb_pairs, 400.0)]
        self._rows = self.pairs + self.fingers
        self._base_weight = np.full(self.fingers, float(self.pairs + self.fingers))

    def targets(self, vector: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
        """Target vectors (m, 3) and row weights (m,) for the human vectors (m, 3); updates `closed`."""
        between = vector[: self.pairs]
        distance = np.sqrt((between * between).sum(1))
        thumb, rest = self.closed[: self.thumb_pairs], slice(self.thumb_pairs, self.pairs)
        thumb[distance[: self.thumb_pairs] < self.term.project] = True
        thumb[distance[: self.thumb_pairs] > self.term.escape] = False
        self.closed[rest] = thumb[self._first] & thumb[self._second] & (distance[rest] <= self.term.project)
        target = scale * vector
        pinched = between * (self._gap / (distance + 1e-6))[:, None]
        target[: self.pairs] = np.where(self.closed[:, None], pinched, target[: self.pairs])
        weight = np.concatenate([np.where(self.closed, self._high, 1.0), self._base_weight])
        return target, weight * (self.term.weight / self._rows)

    def reset(self) -> None:
        self.closed[:] = False


def _posture(problem: Problem, n: int):
    """Weights (n,) and pose (n,) of all posture terms together; None where there is none."""
    weight, weighted = np.zeros(n), np.zeros(n)
    names = problem.hand.joint_names
    for term in problem.objective.terms:
        if term.type == "posture":
            pose = dict(term.pose) or dict(zip(names, problem.hand.rest_q))
            for joint, value in pose.items():
                weight[names.index(joint)] += term.weight
                weighted[names.index(joint)] += term.weight * value
    if not weight.any():
        return weight, None
    return weight, np.where(weight > 0, weighted / np.where(weight > 0, weight, 1.0), 0.0)
