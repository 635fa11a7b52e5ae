"""The likelihood of x_t and its score where they are known, and what denoising posteriors make of them."""

import math

import numpy as np
import pytest
import torch
from jensen_case import F64, M, N, gaussian, mixture, normal, problem, states
from scipy.stats import multivariate_normal

from bayes_ir.inference import Calibrated, Flat, Isotropic, Point, Tweedie
from bayes_ir.inference.exact import log_evidence
from bayes_ir.inference.jensen import Effort, Reason, check_linear, gap_at
from bayes_ir.inference.jensen.exact import cells_reference, denoising_law, exact_references, has_exact
from bayes_ir.inference.jensen.scores import approximate
from bayes_ir.inference.problem import ModelError
from bayes_ir.inference.rng import Rng
from bayes_ir.inference.samplers import Level
from bayes_ir.models import Gaussian, OneBit

LEVEL = Level(0.0, 0.7, 0.4)
POSTERIORS = {"Flat": Flat(), "Point": Point(), "Isotropic": Isotropic(), "Tweedie": Tweedie()}


def dense(p):
    return p.operator.to_matrix().double()


def rng():
    return Rng(0, draws=1, dtype=F64)


def conditional(p, x_t):
    """Mean and covariance of p(x_0 | x_t) of a Gaussian prior, by the textbook."""
    c, mu = p.prior.components.covariance_matrix.double(), p.prior.mean
    gain = LEVEL.a * c @ torch.linalg.inv(LEVEL.a**2 * c + LEVEL.b**2 * torch.eye(N, dtype=F64))
    return mu + gain @ (x_t - LEVEL.a * mu), c - LEVEL.a * gain @ c


def test_gaussian_likelihood_is_that_of_scipy_and_its_score_the_gradient():
    p, x_t = problem(), states(LEVEL)
    a = dense(p)

    def log_p(x):
        mean, covariance = conditional(p, x)
        total = a @ covariance @ a.T + 0.25 * torch.eye(M, dtype=F64)
        return torch.distributions.MultivariateNormal(a @ mean, total).log_prob(p.y)

    found = exact_references(p, denoising_law(p.prior, x_t, LEVEL))
    for x, reference in zip(x_t, found, strict=True):
        mean, covariance = conditional(p, x)
        total = (a @ covariance @ a.T).numpy() + 0.25 * np.eye(M)
        by_scipy = multivariate_normal((a @ mean).numpy(), total).logpdf(p.y.numpy())
        assert reference.log_likelihood == pytest.approx((by_scipy, 0.0), rel=1e-10)
        x = x.clone().requires_grad_()
        (score,) = torch.autograd.grad(log_p(x), x)
        torch.testing.assert_close(reference.delta * LEVEL.a / LEVEL.b**2, score, rtol=1e-8, atol=1e-10)


def test_score_of_a_mixture_is_the_gradient_of_its_likelihood():
    p, x_t = problem(mixture()), states(LEVEL)
    (reference, _) = exact_references(p, denoising_law(p.prior, x_t, LEVEL))

    def log_p(x):
        (found,) = exact_references(p, denoising_law(p.prior, x[None], LEVEL))
        return found.log_likelihood.value

    h = 1e-5
    steps = h * torch.eye(N, dtype=F64)
    differences = torch.tensor([(log_p(x_t[0] + e) - log_p(x_t[0] - e)) / (2 * h) for e in steps], dtype=F64)
    torch.testing.assert_close(reference.delta * LEVEL.a / LEVEL.b**2, differences, rtol=1e-6, atol=1e-7)


def test_at_overwhelming_noise_the_likelihood_is_the_evidence():
    p, level = problem(mixture()), Level(0.0, 1.0, 1e6)
    (found,) = exact_references(p, denoising_law(p.prior, states(level, 1), level))
    assert found.log_likelihood.value == pytest.approx(log_evidence(p).value, abs=1e-4)


def test_one_bit_likelihood_is_a_box_probability():
    p = problem(channel=OneBit, y=torch.tensor([1.0, -1.0, 1.0], dtype=F64))
    x_t, a = states(LEVEL), dense(p)
    law = denoising_law(p.prior, x_t, LEVEL)
    sign = p.y.numpy()
    for row in range(2):
        found = cells_reference(p, law, row, 4000, np.random.default_rng(row))
        mean, covariance = conditional(p, x_t[row])
        total = (a @ covariance @ a.T).numpy() + 0.25 * np.eye(M)
        by_scipy = multivariate_normal(-sign * (a @ mean).numpy(), sign[:, None] * total * sign).cdf(
            np.zeros(M)
        )
        value, error = found.log_likelihood
        assert error < 0.01
        assert abs(value - math.log(by_scipy)) < 4 * error + 1e-4


def test_score_of_cells_is_the_gradient_of_the_box_probability():
    p = problem(mixture(), channel=OneBit, y=torch.tensor([1.0], dtype=F64), measurements=1)
    x_t = states(LEVEL, 1)
    a = dense(p)[0]

    def log_p(x):  # one measurement: a mixture of error functions
        law = denoising_law(p.prior, x[None], LEVEL)
        means = law.means[0] @ a
        rows = a @ law.basis
        variances = (rows**2 * law.variances[0]).sum(-1) + 0.25
        return float((law.log_weights[0] + torch.special.log_ndtr(means / variances.sqrt())).logsumexp(0))

    found = cells_reference(p, denoising_law(p.prior, x_t, LEVEL), 0, 20_000, np.random.default_rng(0))
    assert found.log_likelihood.value == pytest.approx(
        log_p(x_t[0]), abs=1e-8
    )  # one cell: no variance at all
    h = 1e-5
    steps = h * torch.eye(N, dtype=F64)
    score = torch.tensor([(log_p(x_t[0] + e) - log_p(x_t[0] - e)) / (2 * h) for e in steps], dtype=F64)
    shift = score * LEVEL.b**2 / LEVEL.a
    compared = found.compare(shift)
    for value, error in (compared.norm_ratio, compared.cosine):
        assert error < 0.02
        assert abs(value - 1) < 4 * error + 1e-3


def test_tweedie_is_exact_for_a_gaussian_prior_and_point_is_the_plug_in():
    p, x_t = problem(), states(LEVEL)
    exact = gap_at(p, POSTERIORS, x_t, LEVEL, effort=Effort(), nested=False, rng=rng())
    point = approximate(p, Point(), x_t, LEVEL)
    x0_hat = p.prior.denoise_at(x_t, LEVEL.a, LEVEL.b)
    for i, figures in enumerate(exact):
        flat, plug_in, isotropic, tweedie = figures.each
        assert tweedie["relative_error"] < 1e-6
        assert abs(tweedie["log_gap"]) < 1e-8
        by_hand = float(p.log_likelihood(x0_hat[i]).sum())
        assert plug_in["log_likelihood_approximation"] == pytest.approx(by_hand, rel=1e-10)
        gap = math.exp(figures.common["log_likelihood"]) - math.exp(by_hand)
        assert plug_in["log_jensen_gap"] == pytest.approx(math.log(abs(gap)), rel=1e-8)
        assert min(flat["relative_error"], plug_in["relative_error"], isotropic["relative_error"]) > 0.01

    # DPS's score is J^T grad log p(y | x0_hat).
    def log_plug_in(x):
        return p.log_likelihood(p.prior.denoise_at(x, LEVEL.a, LEVEL.b)).sum()

    x = x_t.clone().requires_grad_()
    (score,) = torch.autograd.grad(log_plug_in(x), x)
    torch.testing.assert_close(point.shift * LEVEL.a / LEVEL.b**2, score, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("channel", [Gaussian, OneBit])
def test_every_posterior_s_score_is_the_gradient_of_its_likelihood(channel):
    """Where V does not change with x_t and the gain is d mu / d x_t: Flat, and others by the Jacobian."""
    y = torch.tensor([1.0, -1.0, 1.0], dtype=F64) if channel is OneBit else None
    p, x_t = problem(mixture(), channel=channel, y=y), states(LEVEL, 1)
    for q in (Flat(), Isotropic(with_jacobian=True), Calibrated(with_jacobian=True)):
        h = 1e-4
        steps = h * torch.eye(N, dtype=F64)
        up, down = (approximate(p, q, x_t + s * steps, LEVEL).log_likelihood for s in (1, -1))
        score = (up - down) / (2 * h)
        shift = approximate(p, q, x_t, LEVEL).shift[0]
        torch.testing.assert_close(shift * LEVEL.a / LEVEL.b**2, score, rtol=1e-4, atol=1e-5)


def test_more_noise_of_the_measurements_makes_point_right():
    """The seeds' claim: Jensen's approximation is good at large sigma; at small sigma its score is not."""
    errors = []
    for noise in (0.01, 0.1, 1.0, 10.0):
        p = problem(noise=noise, y=dense(problem()) @ gaussian().mean + noise * normal(M, seed=4))
        (figures,) = gap_at(
            p, {"Point": Point()}, states(LEVEL, 1), LEVEL, effort=Effort(), nested=False, rng=rng()
        )
        errors.append(figures.each[0]["relative_error"])
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 10
    assert errors[-1] < 0.05


def test_which_problems_have_an_exact_answer():
    y = torch.tensor([1.0, -1.0, 1.0], dtype=F64)
    assert has_exact(problem())
    assert has_exact(problem(channel=OneBit, y=y))
    assert not has_exact(problem(channel=OneBit, y=torch.ones(101, dtype=F64), measurements=101))


def test_a_state_that_is_not_finite_is_out_of_reach():
    p, x_t = problem(), states(LEVEL)
    x_t[0, 0] = torch.nan
    for nested in (False, True):
        bad, good = gap_at(p, POSTERIORS, x_t, LEVEL, effort=Effort(least_ess=2), nested=nested, rng=rng())
        assert bad.common["reason"] == Reason.OUT_OF_REACH
        assert math.isnan(bad.common["log_likelihood"])
        assert all(math.isnan(value) for each in bad.each for value in each.values())
        assert not good.common["reason"] & Reason.OUT_OF_REACH
        assert math.isfinite(good.common["log_likelihood"])


def test_plates_are_refused():
    p = problem().with_data(torch.zeros(2, M, dtype=F64))
    with pytest.raises(ModelError, match="plate of 2"):
        check_linear(p)
