"""Minimax tilting: probabilities against closed forms and quadrature, draws against Gibbs chains and rejection."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import ks_2samp, kstest, multivariate_normal, norm, truncnorm

from bayes_ir.inference.exact import minimax_tilting
from bayes_ir.inference.exact.minimax_tilting import TruncatedNormal, sample_mixture
from bayes_ir.inference.exact.truncated_gibbs import truncated_gaussian_gibbs

INF = math.inf


def generator(seed=0):
    return np.random.default_rng(seed)


def equicorrelated(size, rho):
    return (1 - rho) * np.eye(size) + rho


def wishart(size, seed):
    root = generator(seed).standard_normal((size, size))
    return root @ root.T / size + 0.1 * np.eye(size)


def orthant(covariance, mean=0.0):
    size = len(covariance)
    return TruncatedNormal(np.full(size, mean), covariance, np.zeros(size), np.full(size, INF))


def assert_probability(law, exact, samples=20_000):
    value, error = law.log_probability(samples, generator(1))
    assert value == pytest.approx(exact, abs=4 * error + 1e-9)
    assert error < 0.02  # the estimate is worth something
    assert exact < law.log_bound + 1e-12
    return error


def test_orthants_in_closed_form():
    """P = 1/4 + asin(rho) / (2 pi) in two dimensions, 1/8 + sum asin(rho) / (4 pi) in three."""
    for rho in (-0.9, 0.3, 0.99):
        assert_probability(orthant(equicorrelated(2, rho)), math.log(0.25 + math.asin(rho) / (2 * math.pi)))
    covariance = np.array([[1.0, 0.5, -0.3], [0.5, 1.0, 0.2], [-0.3, 0.2, 1.0]])
    angles = math.asin(0.5) + math.asin(-0.3) + math.asin(0.2)
    scale = np.diag([1e-3, 1.0, 1e4])  # the units of the coordinates do not matter
    assert_probability(orthant(scale @ covariance @ scale), math.log(0.125 + angles / (4 * math.pi)))


@pytest.mark.parametrize("rho", [0.2, 0.9])
@pytest.mark.parametrize("threshold", [-1.0, 0.0, 3.0])
def test_equicorrelated_orthants_in_thirty_dimensions(rho, threshold):
    """z_i = sqrt(rho) s + sqrt(1 - rho) e_i, so that P is one integral over s."""

    def log_integrand(s):
        return norm.logpdf(s) + 30 * norm.logcdf((math.sqrt(rho) * s - threshold) / math.sqrt(1 - rho))

    peak = max(log_integrand(s) for s in np.linspace(-10, 20, 3001))
    integral, _ = quad(lambda s: np.exp(log_integrand(s) - peak), -10, 20, limit=500, points=[0.0, 3.0, 6.0])
    assert_probability(orthant(equicorrelated(30, rho), -threshold), peak + math.log(integral), samples=6000)


@pytest.mark.parametrize("size", [4, 6, 8])
def test_boxes_against_numerical_integration(size):
    covariance, mean = wishart(size, size), 0.5 * generator(2).standard_normal(size)
    lower, upper = mean - generator(3).uniform(0.1, 1.0, size), mean + generator(4).uniform(0.1, 1.0, size)
    lower[0], upper[1] = -INF, INF
    law = TruncatedNormal(mean, covariance, lower, upper)
    exact = multivariate_normal(
        mean, covariance, maxpts=1_000_000, abseps=1e-7, releps=1e-5, seed=generator()
    ).cdf(upper, lower_limit=lower)
    value, error = law.log_probability(40_000, generator(1))
    assert value == pytest.approx(math.log(exact), abs=4 * error + 1e-3)
    assert math.log(exact) < law.log_bound


def test_independent_coordinates_are_exact_without_tilting():
    lower, upper = np.array([0.5, -INF, 20.0, -INF, 3.0]), np.array([0.6, -9.0, INF, INF, 3.0 + 1e-6])
    law = TruncatedNormal(np.zeros(5), np.eye(5), lower, upper)
    exact = (
        math.log(norm.cdf(0.6) - norm.cdf(0.5))
        + norm.logcdf(-9)
        + norm.logsf(20)
        + norm.logpdf(3)
        - 6 * math.log(10)
    )
    assert law.log_bound == pytest.approx(exact, abs=1e-5)
    assert law.log_probability(10, generator()) == pytest.approx((law.log_bound, 0.0), abs=1e-6)
    drawn = law.sample(4000, generator())
    assert drawn.acceptance == pytest.approx(1.0)
    for k in (0, 1, 2, 3):
        one = truncnorm(lower[k], upper[k])
        assert kstest(drawn.z[:, k], one.cdf).pvalue > 1e-3
    assert ((drawn.z >= lower) & (drawn.z <= upper)).all()


@pytest.mark.parametrize("cells", ["half-lines", "narrow", "tail"])
def test_draws_have_the_moments_of_gibbs_chains(cells):
    """Means, second moments and products of neighbours; eight coordinates, 4 standard errors."""
    size, draws = 8, 2500
    covariance, mean = wishart(size, 5), 0.3 * generator(6).standard_normal(size)
    truth = generator(7).multivariate_normal(mean, covariance)
    lower, upper = {
        "half-lines": (np.where(truth > 0, 0, -INF), np.where(truth > 0, INF, 0)),
        "narrow": (truth - 0.2, truth + 0.4),
        "tail": (np.where(truth > 0, 2.0, -INF), np.where(truth > 0, INF, -2.0)),
    }[cells]
    law = TruncatedNormal(mean, covariance, lower, upper)
    drawn = law.sample(draws, generator(8))
    assert drawn.z.shape == (draws, size) and ((drawn.z >= lower) & (drawn.z <= upper)).all()
    value, _ = law.log_probability(draws, generator(9))
    assert drawn.acceptance == pytest.approx(math.exp(value - law.log_bound), rel=0.1)
    chains = truncated_gaussian_gibbs(
        *(torch.from_numpy(part) for part in (mean, covariance, lower, upper)),
        chains=draws,
        sweeps=0,
        burn_in=40,
        seed=0,
    ).z.numpy()

    def moments(z):
        return np.concatenate([z, z**2, z * np.roll(z, 1, axis=1)], axis=1)

    one, two = moments(drawn.z), moments(chains)
    spread = np.sqrt((one.var(0) + two.var(0)) / draws)
    assert (np.abs(one.mean(0) - two.mean(0)) / spread).max() < 4


def test_draws_are_independent_and_a_function_of_the_generator():
    law = orthant(equicorrelated(5, 0.5))
    z = law.sample(5000, generator(3)).z
    assert np.array_equal(z, law.sample(5000, generator(3)).z)
    assert len(np.unique(z[:, 0])) == 5000
    for earlier, later in pairwise([z[:, 0], np.roll(z[:, 0], 1), np.roll(z[:, 0], 2)]):
        assert abs(np.corrcoef(earlier, later)[0, 1]) < 4 / math.sqrt(5000)


def test_a_mixture_against_plain_rejection():
    """Components of different acceptance, so that proposing with the weights themselves would show."""
    weights = np.array([0.8, 0.2])
    means, covariances = np.array([[-0.7, -0.3, -0.5], [0.5, 0.0, 1.0]]), [wishart(3, 1), 0.3 * wishart(3, 2)]
    lower, upper = np.zeros(3), np.array([INF, INF, 2.0])
    laws = [TruncatedNormal(m, c, lower, upper) for m, c in zip(means, covariances, strict=True)]
    drawn = sample_mixture(np.log(weights), laws, 4000, generator(1))
    rng = generator(2)
    label = (rng.random(500_000) < weights[1]).astype(int)
    normal = rng.standard_normal((len(label), 3))
    z = means[label] + np.einsum("nij,nj->ni", np.linalg.cholesky(covariances)[label], normal)
    inside = ((z > lower) & (z < upper)).all(1)
    z, label = z[inside], label[inside]
    share, error = label.mean(), math.sqrt(label.mean() * (1 - label.mean()) * (1 / len(label) + 1 / 4000))
    assert len(z) > 20_000 and 0.3 < share < 0.8
    assert drawn.component.mean() == pytest.approx(share, abs=4 * error)
    for k in range(3):
        assert ks_2samp(drawn.z[:, k], z[:, k]).pvalue > 1e-3
    log_p = [law.log_probability(20_000, generator(3)) for law in laws]
    posterior = np.exp([w + p.value for w, p in zip(np.log(weights), log_p, strict=True)])
    assert posterior[1] / posterior.sum() == pytest.approx(share, abs=4 * error)


def test_refusals(monkeypatch):
    one = np.ones(2)
    with pytest.raises(ValueError, match="every lower bound must lie below"):
        TruncatedNormal(one, np.eye(2), one, one)
    with pytest.raises(ValueError, match="not positive definite"):
        TruncatedNormal(one, np.ones((2, 2)), one, 2 * one)
    monkeypatch.setattr(minimax_tilting, "_HOPELESS", 0.99)
    monkeypatch.setattr(minimax_tilting, "_TRIAL", 100)
    with pytest.raises(
        ValueError, match=r"keeps 0\.\d of its proposals .* in 30 dimensions.*Use truncated_gaussian_gibbs"
    ):
        orthant(equicorrelated(30, 0.5)).sample(10, generator())
