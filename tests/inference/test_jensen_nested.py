"""Nested sampling against closed forms, its refusals to answer, the jackknife, and the bounds of Jensen's gap."""

import math

import numpy as np
import pytest
import torch
from jensen_case import F64, N, gaussian, mixture, normal, problem, states
from scipy.stats import norm
from torch import nn

from bayes_ir.inference import Flat, Isotropic, Point
from bayes_ir.inference.jensen import (
    Effort,
    Ingredients,
    Reason,
    gap_at,
    ingredients,
    log_bound,
    log_published_bound,
)
from bayes_ir.inference.jensen.exact import denoising_law
from bayes_ir.inference.jensen.inner import InnerSampler
from bayes_ir.inference.jensen.nested import pareto_shape
from bayes_ir.inference.jensen.reference import Reference, jackknife
from bayes_ir.inference.rng import Rng
from bayes_ir.inference.samplers import Level
from bayes_ir.models import NetworkPrior, OneBit, VarianceExploding

SIGNS = torch.tensor([1.0, -1.0, 1.0], dtype=F64)


def rng(seed=0):
    return Rng(seed, draws=1, dtype=F64)


class Known(nn.Module):
    """The exact denoiser of a mixture, as a network."""

    def __init__(self, law):
        super().__init__()
        self.law, self.like = law, nn.Parameter(torch.zeros(1, dtype=F64))

    def forward(self, x, a, b):
        return self.law._denoised_mean(x, a, b)


def network(law):
    flow = VarianceExploding(*law.noise_range)
    return NetworkPrior(
        Known(law),
        flow,
        (N,),
        mean=law.mean,
        std=law.variance.sqrt(),
        calibrations={"pca": law.calibration("pca")},
    )


@pytest.mark.parametrize("law", [gaussian, mixture])
@pytest.mark.parametrize(("channel", "y"), [(None, None), (OneBit, SIGNS)])
def test_nested_sampling_is_within_its_error_of_the_truth(law, channel, y):
    settings = {} if channel is None else {"channel": channel, "y": y}
    p = problem(law(), noise=1.0, **settings)
    z = []
    for k, ratio in enumerate((3.0, 1.0, 0.3, 0.1)):
        level, effort = Level(0.0, 1.0, ratio), Effort(inner_draws=7680, wanted_error=0.02)
        both = [
            gap_at(p, {"q": Point()}, states(level, 3), level, effort=effort, nested=nested, rng=rng(k))
            for nested in (False, True)
        ]
        for exact, found in zip(*both, strict=True):
            assert found.common["ess"] > 50
            for figure, where in (("log_likelihood", 0), ("norm_ratio", 1)):
                one, two = ((f.common, f.each[0])[where] for f in (exact, found))
                error = math.hypot(one[f"{figure}_error"], two[f"{figure}_error"])
                z.append((one[figure] - two[figure]) / error)
    # 24 dependent scores: their mean square is 1 with a standard deviation of about 0.4, and none is far out.
    assert np.mean(np.square(z)) < 2.6
    assert np.abs(z).max() < 4.5


def test_a_learned_prior_is_sampled_from_x_t():
    """The exact denoiser in the guise of a network: its reverse process, begun at x_t, gives the same likelihood."""
    law = mixture()
    known, learned = problem(law, noise=1.0), problem(network(law), noise=1.0)
    level = Level(0.0, 1.0, 0.5)
    effort = Effort(inner_draws=1920, wanted_error=0.01, inner_steps=32)
    (exact,) = gap_at(known, {"q": Flat()}, states(level, 1), level, effort=effort, nested=False, rng=rng())
    (found,) = gap_at(learned, {"q": Flat()}, states(level, 1), level, effort=effort, nested=False, rng=rng())
    error = found.common["log_likelihood_error"]
    assert error < 0.1
    assert abs(found.common["log_likelihood"] - exact.common["log_likelihood"]) < 4 * error
    assert found.each[0]["norm_ratio"] == pytest.approx(
        exact.each[0]["norm_ratio"], abs=4 * found.each[0]["norm_ratio_error"] + 0.02
    )
    assert found.common["inner_bias"] < 0.1


def test_inner_draws_have_the_covariance_of_the_law():
    law, level, x_t = mixture(), Level(0.0, 0.6, 0.8), normal(N, seed=3)
    exact = denoising_law(law, x_t[None], level)
    for prior in (law, network(law)):
        sampler = InnerSampler(prior, x_t, level, 40)
        assert sampler.exact == (prior is law)
        with torch.no_grad():
            x = sampler.draw(Rng(1, draws=4000, dtype=F64))
        sd = exact.variance[0].sqrt()
        assert ((x.mean(0) - exact.mean[0]).abs() < 5 * sd / 4000**0.5 + 0.02).all()
        torch.testing.assert_close(x.var(0), exact.variance[0], rtol=0.15, atol=0.01)


def test_too_few_effective_draws_give_no_answer():
    p, level = problem(noise=0.01), Level(0.0, 1.0, 3.0)
    effort = Effort(inner_draws=240)
    (found,) = gap_at(p, {"q": Flat()}, states(level, 1), level, effort=effort, nested=True, rng=rng())
    assert found.common["reason"] & Reason.FEW_EFFECTIVE_DRAWS
    assert found.common["ess"] < 50
    for figure in ("log_likelihood", "log_likelihood_error", "score_norm"):
        assert math.isnan(found.common[figure])
    for figure in ("log_gap", "log_jensen_gap", "norm_ratio", "cosine", "relative_error"):
        assert math.isnan(found.each[0][figure])


def test_a_score_that_the_error_hides_is_not_compared():
    """Data that are just what x_t says: the likelihood is known, its score is nothing but the noise of its estimate."""
    p, level = problem(noise=1.0), Level(0.0, 1.0, 1.0)
    p = p.with_data(p.operator(p.prior.denoise_at(states(level, 1), 1.0, 1.0))[0])
    effort = Effort(inner_draws=960)
    (found,) = gap_at(p, {"q": Isotropic()}, states(level, 1), level, effort=effort, nested=True, rng=rng())
    assert found.common["reason"] == Reason.SCORE_IN_NOISE
    assert found.common["log_likelihood_error"] < 0.1
    assert math.isnan(found.each[0]["cosine"])
    assert math.isfinite(found.each[0]["log_gap"])


def test_sampling_stops_at_the_wanted_error_and_says_when_it_does_not_get_there():
    p, level = problem(noise=1.0), Level(0.0, 1.0, 1.0)
    found = {}
    for wanted in (0.5, 0.02, 1e-6):
        effort = Effort(inner_draws=7680, wanted_error=wanted)
        (found[wanted],) = gap_at(
            p, {"q": Flat()}, states(level, 1), level, effort=effort, nested=True, rng=rng()
        )
    loose, tight, hopeless = (found[w].common for w in (0.5, 0.02, 1e-6))
    assert loose["inner_draws"] < tight["inner_draws"] <= hopeless["inner_draws"] == 7680
    assert loose["log_likelihood_error"] <= 0.5
    assert hopeless["reason"] == Reason.ERROR_NOT_REACHED
    assert not math.isnan(hopeless["log_likelihood"])


def test_jackknife_removes_the_bias_of_the_log_of_a_mean():
    """Log-normal weights, whose log mean is known: E log(mean) is low by half the relative variance."""
    generator, s = torch.Generator().manual_seed(0), 1.0
    plain, corrected, errors = [], [], []
    for _ in range(400):
        log_w = s * torch.randn(20, 10, generator=generator, dtype=F64) - 0.5 * s**2
        reference = Reference(
            log_w.logsumexp(1), torch.zeros(20, 1, dtype=F64), torch.zeros(20, 1, dtype=F64), math.log(200)
        )
        value, error = reference.log_likelihood
        plain.append(float(log_w.logsumexp((0, 1))) - math.log(200))
        corrected.append(value)
        errors.append(error)
    expected = -0.5 * (math.exp(s**2) - 1) / 200
    noise = np.std(plain) / 20
    assert abs(np.mean(plain) - expected) < 4 * noise
    assert abs(np.mean(corrected)) < 3 * noise
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(np.std(corrected), rel=0.15)


@pytest.mark.parametrize("s", [0.3, 1.0, 3.0])
def test_the_tail_of_the_weights_is_that_of_arviz(s):
    """Log-normal weights; ArviZ fits the same tail by an estimator of its own."""
    import warnings

    from arviz_stats.base import array_stats

    log_w = s * normal(4000, seed=7)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of the heavy ones
        _, k = array_stats.psislw(log_w.numpy())
    assert pareto_shape(log_w) == pytest.approx(float(k), abs=0.15)


def test_weights_that_are_all_alike_have_no_tail_and_heavy_ones_are_flagged():
    assert pareto_shape(torch.zeros(240, dtype=F64)) == -math.inf
    p, level = problem(noise=0.1), Level(0.0, 1.0, 1.0)
    effort = Effort(inner_draws=1920, least_ess=2)
    (found,) = gap_at(p, {"q": Flat()}, states(level, 1), level, effort=effort, nested=True, rng=rng())
    assert found.common["pareto_k"] > 0.5
    assert found.common["reason"] & Reason.HEAVY_TAILS


def test_jackknife_of_a_mean_is_its_textbook_error():
    x = normal(30, seed=1)
    value, error = jackknife(x.mean(), (x.sum() - x) / 29)
    assert value == pytest.approx(float(x.mean()))
    assert error == pytest.approx(float(x.std() / 30**0.5))


def test_published_bound_is_broken_at_small_noise_and_the_other_holds():
    """One dimension, x_0 given x_t standard normal, A = 1, y = 0: everything is a formula."""
    broken = []
    m_1 = math.sqrt(2 / math.pi)
    for sigma in (0.05, 0.2, 1.0, 3.0):
        gap = abs(norm.pdf(0, scale=math.hypot(1, sigma)) - norm.pdf(0, scale=sigma))
        known = Ingredients(1, sigma, 1.0, 1 / sigma, math.log(sigma))
        assert math.log(gap) <= log_bound(known, m_1)
        by_hand = 1 / math.sqrt(2 * math.pi * sigma**2) * math.exp(-1 / (2 * sigma**2)) * m_1
        assert log_published_bound(known, m_1) == pytest.approx(math.log(by_hand), rel=1e-12)
        broken.append(math.log(gap) > log_published_bound(known, m_1))
    assert broken == [True, True, False, False]
    assert log_published_bound(Ingredients(1, 1.0, 1.0, 1.0, 0.0), m_1) == pytest.approx(
        log_bound(Ingredients(1, 1.0, 1.0, 1.0, 0.0), m_1)
    )


def test_the_bound_that_holds_is_never_broken_and_has_the_ingredients_of_the_problem():
    for noise in (0.1, 1.0, torch.tensor([0.2, 0.5, 2.0], dtype=F64)):
        p = problem(mixture(), noise=noise)
        for ratio in (0.1, 1.0, 5.0):
            level = Level(0.0, 1.0, ratio)
            found = gap_at(
                p, {"q": Point()}, states(level, 3), level, effort=Effort(), nested=False, rng=rng()
            )
            for figures in found:
                assert figures.each[0]["log_jensen_gap"] <= figures.common["log_bound"]
    known = ingredients(problem(noise=0.1))
    a = problem().operator.to_matrix()
    assert known.dimension == 3
    assert known.noise == pytest.approx(0.1)
    assert known.operator_norm == pytest.approx(float(torch.linalg.matrix_norm(a, 2)))
    assert math.isnan(ingredients(problem(channel=OneBit, y=SIGNS)).operator_norm)


def test_m_1_is_the_mean_distance_of_a_gaussian():
    p, level = problem(), Level(0.0, 1.0, 1e-2)
    (found,) = gap_at(p, {"q": Flat()}, states(level, 1), level, effort=Effort(), nested=False, rng=rng())
    # At little noise p(x_0 | x_t) is white of standard deviation b / a: a chi variable of N degrees of freedom.
    expected = 1e-2 * math.sqrt(2) * math.gamma((N + 1) / 2) / math.gamma(N / 2)
    assert abs(found.common["m1"] - expected) < 4 * found.common["m1_error"] + 1e-5


@pytest.mark.parametrize(
    "settings", [{"wanted_error": 0.0}, {"least_ess": 1.0}, {"inner_draws": 100}, {"inner_steps": 1}]
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ValueError, match="nested sampling: expected"):
        Effort(**settings)
