"""MomentMatching: one step against the papers, exactness on Gaussian priors, linearisation, refusals."""

import math
from dataclasses import replace

import numpy as np
import pyro
import pytest
import torch

from bayes_ir.inference import (
    DDIM,
    Ancestral,
    ModelError,
    MomentMatching,
    ProbabilityFlow,
    exact_posterior,
    read_problem,
)
from bayes_ir.inference.covariances import ScalarCovariance, lanczos_root
from bayes_ir.inference.rng import Rng
from bayes_ir.inference.run import draw_block
from bayes_ir.models import DenseOperator, Gaussian, GaussianMixturePrior, GaussianPrior, OneBit, Operator

F64 = torch.float64
N, M, NOISE = 5, 3, 0.3


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def gaussian():
    root = normal(N, N, seed=1)
    return GaussianPrior(normal(N, seed=2), root @ root.T / N + 0.2 * torch.eye(N, dtype=F64))


def mixture():
    roots = normal(3, N, N, seed=5)
    covariances = 0.3 * roots @ roots.mT / N + 0.1 * torch.eye(N, dtype=F64)
    return GaussianMixturePrior(torch.tensor([0.2, 0.3, 0.5], dtype=F64), normal(3, N, seed=6), covariances)


def problem(law=None, operator=None, channel=Gaussian, y=None):
    law = law or gaussian()
    operator = operator or DenseOperator(normal(M, N, seed=3), dtype=F64)

    def model():
        pyro.sample("y", channel(operator(pyro.sample("x", law)), NOISE))

    return read_problem(model, {"y": normal(*operator.measurement_shape, seed=4) if y is None else y})


def conditioned(kernel, p, k=20, draws=2):
    state = replace(kernel.init(p, Rng(0, draws=draws, dtype=F64)), k=k)
    law = p.prior.with_diffusion(kernel.process(p.prior))
    return kernel.condition(p, law, state, Rng(0, draws=draws, dtype=F64)), state, law


def exact_covariances(p, state, law):
    """Cov(x_0 | x_t) and mean of every draw, from the prior's own conditional law."""
    posterior = law.denoising_posterior(state.x, state.levels[0].t)
    return posterior.mean.numpy(), posterior.covariance_matrix.numpy()


@pytest.mark.parametrize("law", [gaussian(), mixture()], ids=repr)
def test_a_step_is_mmps_s(law):
    """x0_hat + V A^T (A V A^T + sigma^2)^-1 (y - A x0_hat) with V the true covariance of p(x_0 | x_t)."""
    p = problem(law)
    found, state, observed = conditioned(MomentMatching(drawn=False, tolerance=1e-10, max_iterations=50), p)
    means, covariances = exact_covariances(p, state, observed)
    a, y = p.operator.matrix.numpy(), p.y.numpy()
    for i, (mean, v) in enumerate(zip(means, covariances, strict=True)):
        gain = v @ a.T @ np.linalg.inv(a @ v @ a.T + NOISE**2 * np.eye(M))
        np.testing.assert_allclose(found.x0_hat[i].numpy(), mean + gain @ (y - a @ mean), rtol=1e-6)


@pytest.mark.parametrize("channel", [Gaussian, OneBit])
def test_a_diagonal_step_is_tmpd_s(channel):
    """(y - A x0_hat)_m / (sigma^2 + [A V A^T 1]_m) for a Gaussian channel, its one-bit counterpart otherwise."""
    y = torch.tensor([1.0, -1.0, 1.0], dtype=F64)
    p = problem(mixture(), channel=channel, y=y)
    found, state, observed = conditioned(MomentMatching(diagonal=True, drawn=False), p)
    means, covariances = exact_covariances(p, state, observed)
    a = p.operator.matrix.numpy()
    for i, (mean, v) in enumerate(zip(means, covariances, strict=True)):
        variance = NOISE**2 + np.maximum((a @ v @ a.T).sum(1), 0)
        z, s = a @ mean, y.numpy()
        if channel is Gaussian:
            slope = (s - z) / variance
        else:
            u = s * z / np.sqrt(variance)
            density = np.exp(-(u**2) / 2) / math.sqrt(2 * math.pi)
            slope = (
                s * density / (0.5 * np.array([math.erfc(-v / math.sqrt(2)) for v in u])) / np.sqrt(variance)
            )
        np.testing.assert_allclose(found.x0_hat[i].numpy(), mean + v @ a.T @ slope, rtol=1e-6)


def test_draws_are_exact_for_a_gaussian_prior_after_any_number_of_steps():
    p, draws = problem(), 3000
    law, _ = exact_posterior(p)
    found = draw_block(p, MomentMatching(steps=5, tolerance=1e-6), 0, 0, 0, draws, seed=1).draws
    sd = law.variance.sqrt()
    assert ((found.mean(0) - law.mean) / sd).abs().max() < 4 / math.sqrt(draws) + 0.01
    assert (found.std(0) / sd - 1).abs().max() < 4 / math.sqrt(2 * draws) + 0.01


def test_the_error_of_moving_from_means_falls_with_the_steps():
    p, draws = problem(), 2000
    sd = exact_posterior(p)[0].variance.sqrt()

    def shortfall(steps):
        kernel = MomentMatching(sampler=Ancestral(steps=steps, grid="karras"), drawn=False)
        return float(1 - (draw_block(p, kernel, 0, 0, 0, draws, seed=1).draws.std(0) / sd).mean())

    few, many = shortfall(16), shortfall(128)
    assert 0.05 < few < 0.5  # moved from means the draws are too narrow,
    assert many < 0.25 * few + 4 / math.sqrt(2 * draws * N)  # by an amount that falls like the step


def test_lanczos_root_has_the_covariance():
    class Matrix(ScalarCovariance):
        def __call__(self, w):
            return w @ covariance

    covariance = gaussian().components.covariance_matrix
    noise = normal(4, N, seed=9)
    values, vectors = torch.linalg.eigh(covariance)
    exact = noise @ (vectors * values.sqrt()) @ vectors.T
    torch.testing.assert_close(lanczos_root(Matrix(torch.ones(())), noise), exact)
    torch.testing.assert_close(lanczos_root(ScalarCovariance(torch.tensor(4.0, dtype=F64)), noise), 2 * noise)


class _Softened(Operator):
    """``x + 0.1 x^2`` of the first pixels."""

    def forward(self, x):
        return x[..., :M] + 0.1 * x[..., :M] ** 2


def test_a_nonlinear_operator_is_linearised_at_the_denoised_mean():
    p = problem(operator=_Softened((N,), (M,), dtype=F64))
    found, state, observed = conditioned(MomentMatching(drawn=False, tolerance=1e-10), p)
    means, covariances = exact_covariances(p, state, observed)
    for i, (mean, v) in enumerate(zip(means, covariances, strict=True)):
        jacobian = np.eye(M, N) * (1 + 0.2 * mean[:M, None])
        residual = p.y.numpy() - mean[:M] - 0.1 * mean[:M] ** 2
        gain = v @ jacobian.T @ np.linalg.inv(jacobian @ v @ jacobian.T + NOISE**2 * np.eye(M))
        np.testing.assert_allclose(found.x0_hat[i].numpy(), mean + gain @ residual, rtol=1e-6)


def test_every_draw_stops_by_itself():
    p = problem(mixture())
    kernel = MomentMatching(drawn=False)
    found, state, law = conditioned(kernel, p, draws=4)
    alone = kernel.condition(p, law, replace(state, x=state.x[:1]), Rng(0, draws=1, dtype=F64))
    assert found.info["cg_residual"].max() <= 1e-3
    torch.testing.assert_close(found.x0_hat[:1], alone.x0_hat, rtol=1e-9, atol=1e-9)


def test_refusals():
    with pytest.raises(ModelError, match="MomentMatching needs a Gaussian channel"):
        MomentMatching().check(problem(channel=OneBit, y=torch.ones(M, dtype=F64)))
    with pytest.raises(ValueError, match="0 < tolerance < 1 and max_iterations >= 1"):
        MomentMatching(max_iterations=0)
    with pytest.raises(ValueError, match="set drawn=False"):
        MomentMatching(sampler=ProbabilityFlow())
    assert MomentMatching(sampler=DDIM(steps=30), drawn=False).length(problem()) == 30
