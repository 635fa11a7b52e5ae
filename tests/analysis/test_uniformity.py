"""POT-C against its definition, its size, and the Kolmogorov-Smirnov test; Holm's method."""

import math

import numpy as np
import pytest
from scipy.stats import beta, binom, kstest, norm

from bayes_ir.analysis import holm_adjusted, sbc_power, uniformity_p_value
from bayes_ir.analysis.uniformity import _library_test, _pot_c


def test_pot_c_is_its_definition():
    u = np.random.default_rng(0).uniform(size=17)
    total = 0.0
    for i, value in enumerate(sorted(u), start=1):
        below = beta.cdf(value, i, 17 + 1 - i)
        p = 2 * min(below, 1 - below)
        total += math.tan((0.5 - p) * math.pi) if p < 0.5 else 0.0
    assert _pot_c(u) == pytest.approx(0.5 - math.atan(total / 17) / math.pi, rel=1e-10)
    assert uniformity_p_value(u) == pytest.approx(_pot_c(u))


@pytest.mark.skipif(_library_test() is None, reason="this ArviZ has no uniformity_test")
def test_the_library_agrees():
    u = np.random.default_rng(1).uniform(size=(5, 40))
    assert _library_test()(u, method="pot_c")[0] == pytest.approx(_pot_c(u))


def test_size_of_pot_c():
    # the combination is slightly liberal, and no more than that
    p = uniformity_p_value(np.random.default_rng(2).uniform(size=(2000, 100)))
    low, high = binom.ppf([0.001, 0.999], 2000, 0.063)
    assert low <= (p < 0.05).sum() <= high


def test_narrow_posteriors_are_seen_better_than_by_kolmogorov_smirnov():
    u = norm.cdf(np.random.default_rng(3).normal(size=(200, 500)) / 0.9)
    ours = (uniformity_p_value(u) < 0.05).mean()
    theirs = np.mean([kstest(row, "uniform").pvalue < 0.05 for row in u])
    assert ours > theirs + 0.2
    assert ours == pytest.approx(sbc_power(500), abs=0.12)


def test_power_grows_and_is_the_size_without_an_error():
    assert sbc_power(200, sd_factor=0.8) > 0.8 > sbc_power(200) > 0.15
    assert sbc_power(100, sd_factor=1.0) == pytest.approx(0.063, abs=0.04)


def test_holm():
    # 3 * 0.01, 2 * 0.03 and the last no smaller than the one before
    assert holm_adjusted([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm_adjusted([0.9, 0.8]).tolist() == [1.0, 1.0]


def test_refusals():
    for bad in ([0.5], [0.5, 1.2], [0.5, math.nan]):
        with pytest.raises(ValueError, match=r"at least 2 numbers in \[0, 1\]"):
            uniformity_p_value(bad)
    with pytest.raises(ValueError, match="list of p-values"):
        holm_adjusted([0.5, 1.5])
