"""Exponentially weighted averages of experts whose losses come late and fade: the weights of every hand and step."""

import numpy as np

_CLOSE = 1e-9


class Hedge:
    """Weights (2, E, S) of E experts for both hands and S steps, from their discounted losses.

    The forecast is the average of the experts by weights prior_e exp(-rate L_e / scale), L_e being the sum over time of the
    expert's loss times seconds, each fading with `half_life` s, and `scale` the fading mean loss of all experts that are
    awake: a ratio of losses counts, so that a fast hand and a slow one are learned alike. With `scale` given it is fixed.

    Bound (N. Cesa-Bianchi and G. Lugosi, Prediction, Learning, and Games, 2006; theorem 2.2 with section 2.3's fixed rate, and
    section 2.11 for discounts): where the loss is convex in the forecast, as a distance is, the scale fixed, and losses of the
    experts at a moment differ by at most `scale`, the discounted loss of the average is at any time at most

        L_e + scale (ln(1 / prior_e) / rate + rate T / 8)

    for every expert e, T being the discounted sum of squared seconds between losses over the seconds, sum w_t dt_t^2. Losses that
    arrive d observations late multiply the excess by at most d + 1 (M. J. Weinberger and E. Ordentlich, IEEE TIT 48(7), 2002).
    An expert that is asleep, which is one without a forecast, has no loss and no weight, and the bound against it counts the
    moments at which it was awake (Freund, Schapire, Singer and Warmuth, STOC 1997). The running scale is no worse in all that we
    have tried, but the bound holds only where it stays as it is.
    """

    def __init__(self, prior: np.ndarray, steps: int, rate: float, half_life: float, scale: float | None = None):
        self._log_prior = np.log(np.asarray(prior, dtype=np.float64))
        if self._log_prior.ndim == 1:
            self._log_prior = self._log_prior[:, None]
        self._steps, self._rate, self._fading, self._scale = steps, rate, np.log(2.0) / half_life, scale
        self.forget()

    def forget(self, side: int | None = None) -> None:
        """Back to the prior, for one hand or both."""
        shape = (2, self._log_prior.shape[0], self._steps)
        if side is None:
            self._loss, self._seconds, self._total = np.zeros(shape), np.zeros(shape), np.zeros((2, self._steps))
        else:
            for array in (self._loss, self._seconds, self._total):
                array[side] = 0.0

    def fade(self, elapsed: float) -> None:
        """Time goes by, s."""
        keep = np.exp(-self._fading * max(elapsed, 0.0))
        for array in (self._loss, self._seconds, self._total):
            array *= keep

    def learn(self, steps: np.ndarray, loss: np.ndarray, known: np.ndarray, awake: np.ndarray, seconds: np.ndarray) -> None:
        """Losses (M, 2, E) of M different steps, `known` (M, 2), experts `awake` (M, 2, E), each counting for `seconds` (M,).

        Where an expert sleeps it is charged what the average of the others was, so that sleeping changes no weight.
        """
        counted = (awake & known[..., None]) * seconds[:, None, None]
        mean = (loss * counted).sum(-1) / np.maximum(counted.sum(-1), _CLOSE)
        charged = np.where(awake, loss, mean[..., None]) * (known * seconds[:, None])[..., None]
        self._loss[:, :, steps] += np.moveaxis(charged, 0, 2)
        self._total[:, steps] += (mean * known * seconds[:, None]).T
        self._seconds[:, :, steps] += np.moveaxis(np.broadcast_to((known * seconds[:, None])[..., None], charged.shape), 0, 2)

    def weights(self, awake: np.ndarray, boost: np.ndarray | None = None) -> np.ndarray:
        """(..., 2, E, S), summing to 1 over the experts that are `awake` (..., 2, E); zero where none is. `boost` (..., 2 or 1, E)
        is added to the logarithm of the prior: what speaks for an expert at this moment alone."""
        if self._scale is None:
            seconds = self._seconds[:, 0]
            scale = (self._total / np.maximum(seconds, _CLOSE))[:, None] + _CLOSE
        else:
            scale = self._scale
        score = self._log_prior - self._rate * self._loss / scale
        if boost is not None:
            score = score + boost[..., None]
        score = np.where(awake[..., None], score, -np.inf)
        top = score.max(axis=-2, keepdims=True)
        weights = np.exp(score - np.where(np.isfinite(top), top, 0.0))
        return weights / np.maximum(weights.sum(axis=-2, keepdims=True), _CLOSE)
