"""What an arm has to keep clear of beside people: itself, the column that it stands on, and the table."""

from typing import TypeAlias

import numpy as np

from ..hands.capsules import segment_distance
from .model import ArmModel, Capsules
from .motion import WORLD, ClosingRows

_MARGIN = 0.01  # m that are kept; capsules are wider than what is in them
_GAIN = 6.0  # 1/s: so fast may a distance shrink, per metre that is left of it
_NEAR = 0.25  # m; what is further apart needs no row
_APART = 2  # joints that have to be between two links so that they can meet

_Both: TypeAlias = tuple[np.ndarray, np.ndarray]  # of base and table


class Obstacles:
    """Rows for `ArmMotion` that keep an arm from its own links and base, and above a table `table_height` m high in the
    base's frame (-inf: none), by `table_margin` m.

    Links with fewer than two joints between them cannot meet; those that overlap at the ready pose are built that way.
    """

    def __init__(self, arm: ArmModel, table_height: float = -np.inf, table_margin: float = _MARGIN):
        self._arm, self._table, self._raised = arm, table_height, table_margin - _MARGIN
        self._base = arm.base_capsules()
        arm.move(arm.ready_q)
        shapes = arm.capsules()
        depth = arm.joints_before(shapes.body)
        i, j = np.triu_indices(len(shapes.body), 1)
        apart = np.abs(depth[i] - depth[j]) > _APART
        i, j = i[apart], j[apart]
        clear = self._distance(shapes, i, j)[0] > _MARGIN
        self._first, self._second = i[clear], j[clear]
        self._of_base = np.flatnonzero(depth > _APART)
        self._above = np.flatnonzero(depth > 1)

    @staticmethod
    def _distance(shapes: Capsules, i: np.ndarray, j: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Surface distance (P,) m and the nearest points (P, 3) m on both axes."""
        gap, s, t = segment_distance(shapes.start[i], shapes.end[i], shapes.start[j], shapes.end[j])
        one = shapes.start[i] + s[..., None] * (shapes.end[i] - shapes.start[i])
        two = shapes.start[j] + t[..., None] * (shapes.end[j] - shapes.start[j])
        return gap - shapes.radius[i] - shapes.radius[j], one, two

    def smallest_distance(self, shapes: Capsules) -> float:
        """m between any two links that can meet, a link and the base, or a link and the table."""
        own = self._distance(shapes, self._first, self._second)[0]
        return float(min(own.min(initial=np.inf), *(d.min(initial=np.inf) for d in self._fixed(shapes)[0])))

    def rows(self, shapes: Capsules) -> ClosingRows:
        """How fast which points of the arm, at the pose that it has, may come near something."""
        distance, one, two = self._distance(shapes, self._first, self._second)
        distances, points, towards, bodies = self._fixed(shapes)
        world = (np.full(len(d), WORLD) for d in distances)
        pairs = (one, shapes.body[self._first], _unit(two - one), distance, shapes.body[self._second])
        found = []
        distances = distances[0], distances[1] - self._raised
        for point, body, direction, apart, other in (pairs, *zip(points, bodies, towards, distances, world)):
            near = apart < _NEAR
            speed = _GAIN * (apart[near] - _MARGIN)
            found.append((point[near], body[near], direction[near], speed, other[near]))
        return ClosingRows(*(np.concatenate(column) for column in zip(*found)))

    def _fixed(self, shapes: Capsules) -> tuple[_Both, _Both, _Both, _Both]:
        """Distances, points, ways and bodies to the base and to the table, a pair of arrays each."""
        i = np.repeat(self._of_base, len(self._base[2]))
        j = np.tile(np.arange(len(self._base[2])), len(self._of_base))
        start, end, radius = self._base
        gap, s, t = segment_distance(shapes.start[i], shapes.end[i], start[j], end[j])
        on_arm = shapes.start[i] + s[..., None] * (shapes.end[i] - shapes.start[i])
        on_base = start[j] + t[..., None] * (end[j] - start[j])
        to_base = gap - shapes.radius[i] - radius[j]
        low = np.concatenate([shapes.start[self._above], shapes.end[self._above]])
        body = np.tile(shapes.body[self._above], 2)
        to_table = low[:, 2] - np.tile(shapes.radius[self._above], 2) - self._table
        down = np.broadcast_to((0.0, 0.0, -1.0), low.shape)
        return (to_base, to_table), (on_arm, low), (_unit(on_base - on_arm), down), (shapes.body[i], body)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)
