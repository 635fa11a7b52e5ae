"""The classifier two-sample test: what it sees, that its p-value is valid, what it refuses."""

import numpy as np
import pytest
from scipy.stats import binom

from bayes_ir.analysis import classifier_two_sample_test


def test_p_values_are_valid_although_folds_share_data():
    rng = np.random.default_rng(0)
    p, z = [], []
    for i in range(300):
        found = classifier_two_sample_test(*rng.normal(size=(2, 60, 3)), permutations=99, seed=i)
        p.append(found.p_value)
        z.append((found.accuracy - 0.5) / found.standard_error)
    assert binom.ppf(0.001, 300, 0.03) <= np.sum(np.array(p) <= 0.05) <= binom.ppf(0.999, 300, 0.05)
    assert np.std(z) == pytest.approx(1, abs=0.15) and np.mean(z) == pytest.approx(0, abs=0.2)


def test_mean_width_correlation_and_modes_are_seen():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(2, 400, 3))
    correlated = y.copy()
    correlated[:, 1] = 0.6 * y[:, 0] + 0.8 * y[:, 1]
    modes = np.where(rng.uniform(size=(400, 1)) < 0.5, 1.0, -1.0) + 0.3 * y
    two = np.where(rng.uniform(size=(400, 1)) < 0.5, 1.0, -1.0) + 0.3 * x
    for first, second in ((x, y + 0.4), (x, 0.7 * y), (x, correlated), (two, 1 + 0.3 * y)):
        assert classifier_two_sample_test(first, second).p_value < 0.01
    assert classifier_two_sample_test(two, modes).p_value > 0.01


def test_accuracy_is_that_of_the_best_rule():
    # N(0, 1) against N(1, 1): Phi(1 / 2) = 0.691
    rng = np.random.default_rng(2)
    found = classifier_two_sample_test(
        rng.normal(size=(4000, 1)), 1 + rng.normal(size=(4000, 1)), permutations=19
    )
    assert found.accuracy == pytest.approx(0.691, abs=0.02)
    assert found.p_value == 1 / 20 and found.draws == 4000


def test_images_are_reduced_and_the_larger_set_is_cut():
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(120, 1, 6, 6)), rng.normal(size=(100, 1, 6, 6))
    assert classifier_two_sample_test(x, y).draws == 100
    y[:, :, :3] += 6 * rng.normal(size=(100, 1, 1, 1))
    assert classifier_two_sample_test(x, y).p_value < 0.01


def test_refusals():
    x = np.random.default_rng(4).normal(size=(20, 2))
    with pytest.raises(ValueError, match="at least 10 draws"):
        classifier_two_sample_test(x, x[:9])
    with pytest.raises(ValueError, match="folds is 1"):
        classifier_two_sample_test(x, x, folds=1)
    with pytest.raises(ValueError, match="draws have one shape"):
        classifier_two_sample_test(x, x[:, :1])
    with pytest.raises(ValueError, match="1 of 20 draws are not finite, the first is number 3"):
        classifier_two_sample_test(x, np.where(np.arange(20)[:, None] == 3, np.nan, x))
