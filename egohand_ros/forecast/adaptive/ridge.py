"""Online regression: how this person's motion goes on, learned while it runs."""

import numpy as np


class OnlineRidge:
    """For each of S steps, coefficients (K,) with which K vectors of the past add up to the displacement that follows.

    Recursive least squares with forgetting, weighted by one over the residual, which makes it a regression of least
    distances and not of squares, and drawn to the coefficients `start` (K,) or (S, K) as strongly as `trust`
    independent observations would be. Observations closer in time than the step they are about say the same thing: they
    share one count. One set of coefficients serves both hands, all axes and all points of a hand, so that what is
    learned does not depend on how the frame is turned. (V. Vovk, Int. Stat. Review 69(2), 2001, and Azoury and Warmuth,
    Machine Learning 43, 2001: regret against the best coefficients grows with the logarithm of time.)
    """

    def __init__(self, start: np.ndarray, times: np.ndarray, trust: float, half_life: float):
        self._fading, self._trust, self._times = np.log(2.0) / half_life, trust, times
        self._steps = len(times)
        self._start = np.broadcast_to(start, (self._steps, np.shape(start)[-1]))
        self._identity = np.eye(self._start.shape[-1])
        self.forget()

    def forget(self, share: float = 1.0) -> None:
        """Forget this share of all that was learned."""
        count = self._start.shape[-1]
        if share >= 1.0:
            self._gram, self._moment = np.zeros((self._steps, count, count)), np.zeros((self._steps, count))
            self._seen, self._error = np.zeros(self._steps), np.zeros(self._steps)
            self.coefficients = self._start.copy()
        else:
            self._keep(1.0 - share)

    def fade(self, elapsed: float) -> None:
        """Time goes by, s."""
        self._keep(np.exp(-self._fading * max(elapsed, 0.0)))

    def _keep(self, share: float) -> None:
        for array in (self._gram, self._moment, self._seen, self._error):
            array *= share

    def learn(
        self,
        steps: np.ndarray,
        inputs: np.ndarray,
        target: np.ndarray,
        error: np.ndarray,
        known: np.ndarray,
        seconds: np.ndarray,
    ) -> None:
        """Inputs (M, 2, K, J, 3) of M different steps with what followed, target (M, 2, J, 3); `error` (M, 2) is the
        distance by which the regression was off, `known` (M, 2) says which hands count, each for `seconds` (M,)."""
        share = known * (seconds / self._times[steps])[:, None]
        if not share.any():
            return
        self._seen[steps] += share.sum(-1)
        self._error[steps] += (error * share).sum(-1)
        typical = self._error[steps] / np.maximum(self._seen[steps], 1e-9)
        weight = share / np.maximum(error, 0.3 * typical[:, None] + 1e-6)
        count = inputs.shape[2]
        flat = np.moveaxis(inputs, 2, 1).reshape(len(steps), count, 2, -1)
        weighted = (flat * weight[:, None, :, None]).reshape(len(steps), count, -1)
        flat = flat.reshape(len(steps), count, -1)
        self._gram[steps] += weighted @ flat.swapaxes(1, 2)
        self._moment[steps] += (weighted @ target.reshape(len(steps), -1, 1))[..., 0]

    def also(self, other: "OnlineRidge") -> None:
        """Know what another has learned, too, which began with the same coefficients; `solve` makes use of it."""
        for array, more in (
            (self._gram, other._gram), (self._moment, other._moment),
            (self._seen, other._seen), (self._error, other._error),
        ):  # fmt: skip
            array += more

    def solve(self, steps: slice = slice(None)) -> None:
        """Renew the coefficients of some steps."""
        gram, start = self._gram[steps], self._start[steps]
        size = np.einsum("skk->sk", gram)
        pull = size * (self._trust / np.maximum(self._seen[steps], 1e-6))[:, None] + 1e-9
        right = self._moment[steps] - (gram @ start[..., None])[..., 0]
        found = np.linalg.solve(gram + pull[..., None] * self._identity, right[..., None])[..., 0]
        self.coefficients[steps] = start + found

    def predict(self, inputs: np.ndarray) -> np.ndarray:
        """Displacements (..., S, J, 3) of inputs (..., S, K, J, 3)."""
        shape = inputs.shape
        flat = inputs.reshape(*shape[:-2], -1)
        return (self.coefficients[:, None] @ flat).reshape(*shape[:-3], *shape[-2:])
