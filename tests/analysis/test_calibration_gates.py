"""Every diagnostic lets the exact sampler pass at its level and stops three wrong ones.

Larger: benchmarks/calibration_gates.py.
"""

import numpy as np
import pytest
from made_posteriors import D, draw, log_joint, log_likelihood, simulate, weights
from scipy.stats import binom

from bayes_ir.analysis import (
    classifier_two_sample_test,
    default_quantities,
    expected_coverage,
    mode_weight_distance,
    moment_errors,
    sbc_ranks,
    sliced_wasserstein,
    sliced_wasserstein_floor,
    tarp,
)

QUANTITIES = {
    **{name: default_quantities((D,))[name] for name in ("linear_0", "energy")},
    "log_likelihood": log_likelihood,
    "data_product": lambda x, y: x @ y,
}
pytestmark = pytest.mark.filterwarnings("ignore::bayes_ir.analysis.FewReplicationsWarning")


def _p_values(sampler, seed, replications, draws):
    rng = np.random.default_rng((seed, 7))
    x, y = simulate(rng, replications)
    s = draw(rng, y, draws, sampler)
    ranks = sbc_ranks(x, s, QUANTITIES, data=y, seed=seed)
    balls = tarp(x, s, data_references=y + rng.normal(size=y.shape), seed=seed)
    density = log_joint(x, y), log_joint(s, y[:, None])
    sets = expected_coverage(x, s, ["energy"], log_density=density, seed=seed)
    found = dict(zip(QUANTITIES, ranks["sbc_test"]["p_value"].values, strict=True))
    found |= {"SBC": ranks.attrs["smallest_p_holm"]}
    found |= dict(zip(("TARP free", "TARP data"), balls["p_value"].values, strict=True))
    return found | dict(zip(("central", "density"), sets["p_value"].values, strict=True))


def _rates(sampler, repeats, replications, draws=39):
    rows = [_p_values(sampler, i, replications, draws) for i in range(repeats)]
    return {name: np.mean([row[name] < 0.05 for row in rows]) for name in rows[0]}


def test_the_exact_sampler_passes():
    rates = _rates("exact", 200, 30, draws=19)
    # POT-C rejects 6 % of uniform sets at its 5 % level; Holm over dependent quantities rejects fewer
    low, high = binom.ppf([0.0005, 0.9995], 200, 0.063) / 200
    assert all(rate <= high for rate in rates.values()), rates
    assert all(rate >= low for name, rate in rates.items() if name != "SBC"), rates


@pytest.mark.parametrize(
    ("sampler", "seen_by", "blind"),
    [
        ("sd x 0.9", {"SBC": 0.5, "energy": 0.25}, {}),
        ("lost mode", {"SBC": 1, "linear_0": 1, "TARP free": 1, "TARP data": 1, "density": 1}, {}),
        (
            "prior",
            {"SBC": 1, "log_likelihood": 1, "data_product": 1, "TARP data": 1},
            {"linear_0": 0.4, "TARP free": 0.4},
        ),
    ],
)
def test_wrong_samplers_are_stopped(sampler, seen_by, blind):
    rates = _rates(sampler, 8, 400, draws=59)
    assert all(rates[name] >= power for name, power in seen_by.items()), rates
    # what does not look at y cannot know that the sampler does not
    assert all(rates[name] <= size for name, size in blind.items()), rates


@pytest.fixture(scope="module")
def one_posterior():
    rng = np.random.default_rng(0)
    y = np.full((1, D), -0.3)
    exact = draw(rng, y, 4000)[0]
    return y, exact, sliced_wasserstein_floor(exact, sizes=(300, 300), splits=60, projections=50)


def _comparison(one_posterior, sampler, seed):
    y, exact, floor = one_posterior
    rng = np.random.default_rng((seed, 8))
    s, e = draw(rng, y, 300, sampler)[0], exact[rng.permutation(len(exact))[:300]]
    return {
        "classifier": classifier_two_sample_test(s, e, permutations=99, seed=seed).p_value <= 0.05,
        "sliced": sliced_wasserstein(s, e, projections=50) > floor.mean + 2 * floor.sd,
    }


def test_comparisons_with_exact_draws_pass_the_exact_sampler(one_posterior):
    rows = [_comparison(one_posterior, "exact", i) for i in range(200)]
    # mean + 2 sd of the floor: about 5 % of a law that leans to the right lie beyond
    for name in rows[0]:
        assert np.mean([row[name] for row in rows]) <= binom.ppf(0.9995, 200, 0.05) / 200, name


@pytest.mark.parametrize(("sampler", "power"), [("sd x 0.9", 0.2), ("lost mode", 1), ("prior", 1)])
def test_comparisons_with_exact_draws_stop_wrong_samplers(one_posterior, sampler, power):
    rows = [_comparison(one_posterior, sampler, i) for i in range(20)]
    assert np.mean([row["classifier"] for row in rows]) >= power
    if sampler != "sd x 0.9":  # a tenth of the width is below the floor of 300 draws
        assert np.mean([row["sliced"] for row in rows]) >= power


def test_moments_and_weights_stop_a_lost_mode(one_posterior):
    y, exact, _ = one_posterior
    s = draw(np.random.default_rng(9), y, 1000, "lost mode")[0]
    found = moment_errors(s, exact)
    assert found.mean_error > 5 * found.mean_floor and found.covariance_error > 5 * found.covariance_floor
    labels = np.zeros(1000, dtype=int)
    lost = mode_weight_distance(labels, weights(y)[0])
    assert lost.distance == pytest.approx(weights(y)[0, 1]) and lost.distance > 10 * lost.floor
