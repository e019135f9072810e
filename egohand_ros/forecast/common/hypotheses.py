"""A few hypotheses that stand for many sampled futures: clusters around the expected one, each with its probability.

Random samples waste most of K hypotheses on what is likely anyway. Cluster means cover the same samples far better:
they are what minimises the expected distance to the nearest hypothesis (k-means as quantisation, Lloyd 1982).
"""

import numpy as np

_ROUNDS = 8


def quantize(expected: np.ndarray, samples: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Which of `count` clusters each sample belongs to (B, M), and their probabilities (B, count), largest first.

    expected (B, D), samples (B, M, D), in units in which distance is what matters. Cluster 0 stays at the expected
    future; it stands for all samples that are not clearly better described by another, so that no other has a larger
    share.
    """
    centres = _spread_out(expected, samples, count)
    before: np.ndarray | None = None
    for _ in range(_ROUNDS):
        nearest = _squared(samples, centres).argmin(axis=-1)
        if before is not None and np.array_equal(nearest, before):
            break
        before = nearest
        member = nearest[..., None] == np.arange(count)
        size = member.sum(axis=1)
        means = np.einsum("bmk,bmd->bkd", member, samples) / np.maximum(size, 1)[..., None]
        centres[:, 1:] = np.where(size[:, 1:, None] > 0, means[:, 1:], centres[:, 1:])
    nearest = _claim(_squared(samples, centres))
    share = (nearest[..., None] == np.arange(count)).mean(axis=1)
    order = np.concatenate(
        [np.zeros((len(share), 1), dtype=int), 1 + np.argsort(-share[:, 1:], axis=1, kind="stable")], axis=1
    )
    rank = np.argsort(order, axis=1)
    return np.take_along_axis(rank, nearest, axis=1), np.take_along_axis(share, order, axis=1)


def cluster_means(values: np.ndarray, cluster: np.ndarray, count: int, fallback: np.ndarray) -> np.ndarray:
    """Mean of values (B, M, ...) over each cluster (B, M) -> (B, count, ...); `fallback` (B, ...) where one is
    empty."""
    member = cluster[..., None] == np.arange(count)
    size = member.sum(axis=1)
    flat = values.reshape(*values.shape[:2], -1)
    means = np.einsum("bmk,bmd->bkd", member, flat) / np.maximum(size, 1)[..., None]
    means = np.where(size[..., None] > 0, means, fallback.reshape(len(fallback), 1, -1))
    return means.reshape(len(values), count, *values.shape[2:])


def _spread_out(expected: np.ndarray, samples: np.ndarray, count: int) -> np.ndarray:
    """Starting centres (B, count, D): the expected future, then each time the sample farthest from all so far."""
    centres, rows = [expected], np.arange(len(samples))
    distance = _squared(samples, expected[:, None])[..., 0]
    for _ in range(count - 1):
        centres.append(samples[rows, distance.argmax(axis=1)])
        distance = np.minimum(distance, _squared(samples, centres[-1][:, None])[..., 0])
    return np.stack(centres, axis=1)


def _claim(squared: np.ndarray) -> np.ndarray:
    """The cluster of each sample (B, M), distances to cluster 0 being discounted until none is larger than it."""
    nearest = squared.argmin(axis=-1)
    count = squared.shape[-1]
    # A sample changes over when cluster 0's distance is discounted by this ratio; the closest calls come first.
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(nearest == 0, -np.inf, squared[..., 0] / squared.min(axis=-1))
    for row in range(len(nearest)):
        for sample in np.argsort(ratio[row], kind="stable"):
            share = np.bincount(nearest[row], minlength=count)
            if share[0] >= share[1:].max(initial=0):
                break
            nearest[row, sample] = 0
    return nearest


def _squared(samples: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Squared distances (B, M, K) of samples (B, M, D) and centres (B, K, D)."""
    cross = samples @ centres.swapaxes(-1, -2)
    squared = (samples**2).sum(-1)[..., None] + (centres**2).sum(-1)[:, None] - 2.0 * cross
    return np.maximum(squared, 0.0)
