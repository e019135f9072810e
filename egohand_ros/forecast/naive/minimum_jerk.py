"""`minimum-jerk`: a reach that has begun is completed as people complete it, with when and where as they are known.

People's reaches follow the path of least jerk between two points at rest (T. Flash and N. Hogan, J. Neurosci. 5(7),
1985), x(t) = x0 + d s((t - t0) / D) with s = 10 u^3 - 15 u^4 + 6 u^5. Onset t0 and duration D are unknown: every pair
of a grid is weighed by how well it explains what was seen since the hand last rested, d following in closed form (a
linear model with normal noise and prior). Paths are not quite straight (C. Atkeson and J. Hollerbach, J. Neurosci.
5(9), 1985): d s + b 4 s (1 - s), with b a few percent of a reach; without it half a bow is taken for a way to the side,
and completed. A hand at rest stays where it is."""

from dataclasses import dataclass

import numpy as np

from ...geometry.minimum_jerk import minimum_jerk
from ...stream.window import Window
from ..common.observed import Observed, assemble, exp_rotation, last_index, log_rotation, pose_hand, take
from ..common.protocol import Forecast, ForecasterSpec
from ..registry import register

_AT_REST = 0.08  # m/s
_SPEED_SPAN = 0.1  # s over which a speed is taken
_BEFORE = 0.2  # s of rest that are looked at before a reach: where it comes from
_ONSETS = np.linspace(-0.15, 0.25, 9)  # s from the moment at which a rest is seen to be over
_DURATIONS = np.geomspace(0.4, 2.4, 22)  # s


@dataclass(frozen=True)
class ReachModel:
    """`noise` m and `turn_noise` rad of one observation, with what no reach is exactly; `length` m and `turn` rad, the
    spread of reaches along each axis, `bow` m of how far they bow out; `duration` s and `duration_spread` (of its
    logarithm): people hand an object over within 1.24 s, other reaches are shorter."""

    noise: float = 0.006
    turn_noise: float = 0.08
    length: float = 0.25
    turn: float = 0.4
    bow: float = 0.02
    duration: float = 1.1
    duration_spread: float = 0.3


@dataclass(frozen=True, eq=False)
class _Completed:
    """One hand's reach by C candidates: weight (C,), when it rests (C,) s from now, paths (C, S, 3) m and (C, S, 3) rad
    about the newest rotation, and variances (C, S) per axis of both."""

    weight: np.ndarray
    rests: np.ndarray
    wrist: np.ndarray
    turned: np.ndarray
    wrist_variance: np.ndarray
    turned_variance: np.ndarray


@register("minimum-jerk", "completes a reach that has begun as people do, by a grid of onsets and durations")
class MinimumJerk:
    """The wrist completes its reach; the palm turns along; the fingers keep their shape.

    Several hypotheses are equally probable: each holds the candidates that rest in one part of the time, the middle
    part first. Each carries what its own candidates differ by, and their own uncertainty."""

    def __init__(
        self,
        step: float = 0.05,
        window_length: int = 40,
        horizon_steps: int = 30,
        model: ReachModel = ReachModel(),
        max_hypotheses: int = 32,
    ):
        self.spec = ForecasterSpec(
            "minimum-jerk", step, window_length, horizon_steps, max_hypotheses=max_hypotheses, minimum_observations=2
        )
        self._model = model
        self._times = step * np.arange(1, horizon_steps + 1)

    def forecast(self, window: Window, hypotheses: int = 1, seed: int | None = None) -> Forecast:
        """Up to `max_hypotheses`, the same whatever the seed."""
        observed = Observed.from_window(window)
        count = max(1, min(hypotheses, self.spec.max_hypotheses))
        reference = observed.rotation[:, -1]
        turned = log_rotation(observed.rotation @ reference[:, None].swapaxes(-1, -2))
        lead = (window.batch, count, self.spec.horizon_steps, 2)
        wrist, turn = np.zeros((*lead, 3)), np.zeros((*lead, 3))
        variance = np.zeros((*lead, 2))
        for b in range(window.batch):
            for side in range(2):
                done = self._complete(observed.wrist[b, :, side], turned[b, :, side], observed.wrist_valid[b, :, side])
                if done is not None:
                    wrist[b, :, :, side], turn[b, :, :, side], variance[b, :, :, side] = _parts(done, count)
        rotation = exp_rotation(turn) @ reference[:, None, None]
        values, valid = observed.articulation()
        articulation = take(values, last_index(valid))
        keypoints = pose_hand(wrist, rotation, articulation[:, None, None])
        lever = (2.0 / 3.0) * (articulation * articulation).sum(axis=-1)[:, None, None]
        std = np.sqrt(variance[..., :1] + variance[..., 1:] * lever)
        covariance = np.repeat(variance, 3, axis=-1)[..., None] * np.eye(6)
        return assemble(self.spec, window, observed, keypoints, rotation, std, covariance)

    def _complete(self, wrist: np.ndarray, turned: np.ndarray, valid: np.ndarray) -> _Completed | None:
        """Of one hand's wrist (T, 3) m and rotation vectors (T, 3) rad; None where it was not seen twice."""
        seen = np.flatnonzero(valid)
        if len(seen) < 2:
            return None
        step = self.spec.step
        times, path, turns = (seen - len(valid) + 1) * step, wrist[seen], turned[seen]
        since = _rest_before(times, path)
        if since is None:
            return self._resting(times, path, turns)
        used = times >= since - _BEFORE - 1e-9
        return self._candidates(since, times[used], path[used], turns[used])

    def _resting(self, times: np.ndarray, path: np.ndarray, turns: np.ndarray) -> _Completed:
        """It stays at the mean of its last moments."""
        late = times >= times[-1] - _SPEED_SPAN - 1e-9
        steps, one = len(self._times), np.ones(1)
        still = (np.broadcast_to(x[late].mean(axis=0), (1, steps, 3)) for x in (path, turns))
        noise = (np.full((1, steps), n**2) for n in (self._model.noise, self._model.turn_noise))
        return _Completed(one, times[-1:], *still, *noise)

    def _candidates(self, since: float, times: np.ndarray, path: np.ndarray, turns: np.ndarray) -> _Completed:
        model = self._model
        onset, duration = (grid.ravel() for grid in np.meshgrid(since + _ONSETS, _DURATIONS, indexing="ij"))
        past, future = (_shape((t - onset[:, None]) / duration[:, None]) for t in (times, self._times))
        middle = past.mean(axis=1, keepdims=True)
        past, future = past - middle, future - middle
        wrist, wrist_variance, told = _fit(past, future, path, model.noise, (model.length, model.bow))
        turned, turned_variance, _ = _fit(past[..., :1], future[..., :1], turns, model.turn_noise, (model.turn,))
        late = np.log(duration / model.duration) / model.duration_spread
        log_weight = told - 0.5 * late**2
        weight = np.exp(log_weight - log_weight.max())
        return _Completed(weight / weight.sum(), onset + duration, wrist, turned, wrist_variance, turned_variance)


def _fit(
    past: np.ndarray, future: np.ndarray, seen: np.ndarray, noise: float, spread: tuple[float, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Paths (C, S, 3) by parts (C, n, P) and (C, S, P) of the way relative to their mean in the past, from what was
    seen (n, 3); variances (C, S) and the log-evidence (C,). The start is unknown, each part normal with its spread."""
    mean = seen.mean(axis=0)
    off = seen - mean
    prior = noise / np.array(spread)
    known = past.swapaxes(1, 2) @ past + np.diag(prior**2)
    across = past.swapaxes(1, 2) @ off
    unsure = np.linalg.inv(known)
    way = unsure @ across
    scaled = np.linalg.det(known / np.outer(prior, prior))
    told = 0.5 * (across * way).sum(axis=(1, 2)) / noise**2 - 1.5 * np.log(scaled)
    variance = noise**2 * (((future @ unsure) * future).sum(axis=-1) + 1.0 / len(seen))
    return mean + future @ way, variance, told


def _rest_before(times: np.ndarray, path: np.ndarray) -> float | None:
    """s at which the last rest was over, or the first observation where there was none; None for a hand at rest."""
    earlier = np.maximum(np.searchsorted(times, times - _SPEED_SPAN - 1e-9), 0)
    passed = times - times[earlier]
    moved = np.linalg.norm(path - path[earlier], axis=1)
    rests = (passed > 0.0) & (moved < _AT_REST * np.maximum(passed, 1e-9))
    if rests[-1]:
        return None
    return float(times[np.flatnonzero(rests)[-1]]) if rests.any() else float(times[0])


def _shape(u: np.ndarray) -> np.ndarray:
    """Share of the way, and of the bow beside it (..., 2), at a share u of the duration."""
    s = minimum_jerk(u)
    return np.stack([s, 4.0 * s * (1.0 - s)], axis=-1)


def _parts(done: _Completed, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`count` hypotheses: wrist (K, S, 3) m, rotation vector (K, S, 3) rad and variances (K, S, 2), the middle
    first."""
    order = np.argsort(done.rests, kind="stable")
    upto = np.cumsum(done.weight[order])
    edges = np.arange(count + 1) / count * upto[-1]
    begins = np.concatenate([[0.0], upto[:-1]])
    inside = np.minimum(upto, edges[1:, None]) - np.maximum(begins, edges[:-1, None])
    share = np.zeros((count, len(order)))
    share[:, order] = np.clip(inside, 0.0, None) * count / upto[-1]
    share = share[np.argsort(np.abs(np.arange(count) - (count - 1) / 2), kind="stable")]
    paths, variances = [], []
    for path, variance in ((done.wrist, done.wrist_variance), (done.turned, done.turned_variance)):
        mean = np.einsum("kc,csi->ksi", share, path)
        square = np.einsum("kc,csi->ksi", share, path**2) - mean**2
        paths.append(mean)
        variances.append(share @ variance + np.maximum(square, 0.0).mean(axis=-1))
    return paths[0], paths[1], np.stack(variances, axis=-1)
