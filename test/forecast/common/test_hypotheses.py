"""Clusters of samples: they cover better than samples do, and their probabilities are what they say."""

import numpy as np
import pytest

from egohand_ros.forecast.common.hypotheses import cluster_means, quantize


@pytest.fixture
def cloud():
    """Three windows of 64 samples in the plane around known means, twice as long as wide."""
    rng = np.random.default_rng(0)
    expected = rng.normal(size=(3, 2))
    return expected, expected[:, None] + rng.normal(size=(3, 64, 2)) * [2.0, 1.0]


def hypotheses(expected, samples, count):
    cluster, probability = quantize(expected, samples, count)
    means = cluster_means(samples, cluster, count, expected)
    means[:, 0] = expected
    return means, probability, cluster


def test_probabilities_are_shares_of_the_samples_largest_first(cloud):
    _, probability, cluster = hypotheses(*cloud, 5)
    assert probability.sum(axis=1) == pytest.approx([1.0] * 3)
    assert (np.diff(probability, axis=1) <= 1e-12).all()
    for row in range(3):
        assert np.bincount(cluster[row], minlength=5) / 64 == pytest.approx(probability[row])


def test_clusters_come_nearer_to_the_truth_than_random_samples(cloud):
    expected, samples = cloud
    means, _, _ = hypotheses(expected, samples, 5)
    truth = expected[:, None] + np.random.default_rng(1).normal(size=(3, 500, 2)) * [2.0, 1.0]

    def nearest(points):
        return np.linalg.norm(truth[:, :, None] - points[:, None], axis=-1).min(axis=-1).mean()

    drawn = np.concatenate([expected[:, None], samples[:, :4]], axis=1)
    assert nearest(means) < 0.85 * nearest(drawn)


def test_two_modes_are_both_found_and_the_expected_one_leads():
    rng = np.random.default_rng(2)
    stay, go = rng.normal(0.0, 0.01, (1, 40, 3)), rng.normal(1.0, 0.01, (1, 60, 3))
    means, probability, _ = hypotheses(np.zeros((1, 3)), np.concatenate([stay, go], axis=1), 2)
    assert np.allclose(means[0, 0], 0.0) and np.allclose(means[0, 1], 1.0, atol=0.02)
    assert probability[0, 0] >= probability[0, 1]


def test_one_hypothesis_has_it_all_and_equal_samples_leave_clusters_empty():
    expected, samples = np.ones((2, 4)), np.ones((2, 8, 4))
    _, probability, _ = hypotheses(expected, samples, 1)
    assert probability.tolist() == [[1.0], [1.0]]
    means, probability, _ = hypotheses(expected, samples, 3)
    assert np.allclose(means, 1.0) and probability[:, 0] == pytest.approx([1.0, 1.0])
