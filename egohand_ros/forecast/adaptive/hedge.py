"""Exponentially weighted averages of experts whose losses come late and fade: the weights of every hand and step."""

import numpy as np

_CLOSE = 1e-9


class Hedge:
    """Weights (2, E, S) of E experts for both hands and S steps, from their discounted losses.

    The forecast is the average of the experts by weights prior_e exp(-rate L_e / scale), L_e being the sum over time of
    the expert's loss times seconds, each fading with `half_life` s, and `scale` the fading mean loss of all experts: a
    ratio of losses counts, so that a fast hand and a slow one are learned alike. With `scale` given it is fixed.

    Bound. Let forecast t count for d_t seconds, let its average have loss l_t, which for a distance is at most the
    averaged loss because it is convex, and let w_t <= 1 be what fading leaves of it now. With a fixed scale, and losses
    of the experts at a moment that differ by at most that scale, for every expert e and at any time

        sum w_t d_t l_t  <=  sum w_t d_t l_e,t  +  scale (ln(1 / prior_e) / rate  +  rate / 8 sum w_t d_t^2)

    (N. Cesa-Bianchi and G. Lugosi, Prediction, Learning, and Games, 2006: theorem 2.2, with section 2.11 for the
    discount; fading keeps it because x^w is concave.) Losses that come k forecasts late multiply the excess by at most
    k + 1 (Weinberger and Ordentlich, IEEE TIT 48(7), 2002). An expert that is asleep, that is, without a forecast, has
    no weight and is charged what the average loses: the bound against it holds over the moments at which it was awake
    (Freund, Schapire, Singer and Warmuth, STOC 1997). The running scale keeps the bound only while it stays as it is.
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
            self._loss = np.zeros(shape)
            self._seconds, self._total = np.zeros((2, self._steps)), np.zeros((2, self._steps))
        else:
            for array in (self._loss, self._seconds, self._total):
                array[side] = 0.0

    def fade(self, elapsed: float) -> None:
        """Time goes by, s."""
        keep = np.exp(-self._fading * max(elapsed, 0.0))
        for array in (self._loss, self._seconds, self._total):
            array *= keep

    def learn(
        self, steps: np.ndarray, loss: np.ndarray, known: np.ndarray, awake: np.ndarray, seconds: np.ndarray
    ) -> None:
        """Losses (M, 2, E) of M different steps, `known` (M, 2), experts `awake` (M, 2, E), each counting for `seconds`
        (M,).

        Where an expert sleeps it is charged what the average of the others was.
        """
        share = known * seconds[:, None]
        if not awake.all():
            weights = np.moveaxis(self.weights(np.ones((2, loss.shape[-1]), dtype=bool))[:, :, steps], 2, 0) * awake
            mean = (weights * loss).sum(-1) / np.maximum(weights.sum(-1), _CLOSE)
            loss = np.where(awake, loss, mean[..., None])
        self._loss[:, :, steps] += np.moveaxis(loss * share[..., None], 0, 2)
        self._total[:, steps] += (loss.mean(-1) * share).T
        self._seconds[:, steps] += share.T

    @property
    def seen(self) -> tuple[np.ndarray, np.ndarray]:
        """Losses (E, S) over the mean of all experts', times seconds, of both hands, and the seconds (S,)."""
        scale = self._total / np.maximum(self._seconds, _CLOSE) + _CLOSE
        return (self._loss / scale[:, None]).sum(axis=0), self._seconds.sum(axis=0)

    def weights(self, awake: np.ndarray, boost: np.ndarray | None = None) -> np.ndarray:
        """(..., 2, E, S), summing to 1 over the experts that are `awake` (..., 2, E); zero where none is. `boost` (...,
        2 or 1, E) is added to the logarithm of the prior: what speaks for an expert at this moment alone."""
        if self._scale is None:
            scale = (self._total / np.maximum(self._seconds, _CLOSE))[:, None] + _CLOSE
        else:
            scale = self._scale
        score = self._log_prior - self._rate * self._loss / scale
        if boost is not None:
            score = score + boost[..., None]
        score = np.where(awake[..., None], score, -np.inf)
        top = score.max(axis=-2, keepdims=True)
        weights = np.exp(score - np.where(np.isfinite(top), top, 0.0))
        return weights / np.maximum(weights.sum(axis=-2, keepdims=True), _CLOSE)
