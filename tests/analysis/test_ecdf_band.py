"""The band holds the whole distribution function as often as it says, and refuses what has none."""

import numpy as np
import pytest
from scipy.stats import beta

from bayes_ir.analysis.ecdf_band import ecdf_band


def leaves(u, prob):
    """Whether the distribution function of the numbers u (sets, L) leaves the band anywhere."""
    u = np.sort(u, axis=1)
    count = u.shape[1]
    step = np.arange(1, count + 1) / count
    above = step > ecdf_band(count, u, prob)[1] + 1e-12
    below = step - 1 / count < ecdf_band(count, np.nextafter(u, 0), prob)[0] - 1e-12
    return (above | below).any(axis=1)


@pytest.mark.parametrize(("count", "prob"), [(2, 0.9), (50, 0.95), (300, 0.8)])
def test_the_whole_function_lies_in_the_band_with_its_probability(count, prob):
    u = np.random.default_rng(3).uniform(size=(4000, count))
    # 4000 sets here and 4000 to find the level: two errors of sqrt(p (1 - p) / 4000), 4.5 of them together
    assert abs(1 - leaves(u, prob).mean() - prob) < 4.5 * np.sqrt(2 * prob * (1 - prob) / 4000)


def test_a_wrong_law_leaves_it():
    rng = np.random.default_rng(4)
    assert leaves(rng.beta(2, 2, size=(50, 300)), 0.95).all()


def test_the_band_steps_at_quantiles_of_the_order_statistics():
    at = np.linspace(0, 1, 5001)
    lower, upper = ecdf_band(20, at)
    first = at[np.argmax(upper >= 1 / 20)], at[np.argmax(lower >= 1 / 20)]
    tails = beta.cdf(first, 1, 20)  # both tails of the smallest number have one probability
    assert tails[0] == pytest.approx(1 - tails[1], abs=20 / 5000)
    # seen from the other end it is the same band
    np.testing.assert_allclose(lower[1:-1], (1 - upper)[::-1][1:-1], atol=1 / 20 + 1e-9)
    assert (np.diff(lower) >= 0).all() and (np.diff(upper) >= 0).all() and (lower < upper)[1:-1].all()


def test_refusals():
    for count, prob in ((1, 0.9), (10, 0.0), (10, 1.0)):
        with pytest.raises(ValueError, match=rf"got {count} numbers and prob {prob}"):
            ecdf_band(count, np.zeros(1), prob)
