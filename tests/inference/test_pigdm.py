"""PiGDM: one step against the paper's formula, its limits, encoders without derivatives, flows, refusals."""

import math

import numpy as np
import pyro
import pytest
import torch

from bayes_ir.inference import (
    DDIM,
    DDNM,
    FlowODE,
    GuidedDiffusion,
    Isotropic,
    ModelError,
    PiGDM,
    Point,
    exact_posterior,
    read_problem,
)
from bayes_ir.inference.rng import Rng
from bayes_ir.inference.run import draw_block
from bayes_ir.models import DenseOperator, Gaussian, GaussianPrior, OneBit, Operator

F64 = torch.float64
N, M = 5, 3


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def prior(white=False):
    root = normal(N, N, seed=1)
    covariance = 0.5 * torch.eye(N, dtype=F64) if white else root @ root.T / N + 0.2 * torch.eye(N, dtype=F64)
    return GaussianPrior(normal(N, seed=2), covariance)


def problem(noise=0.3, white=False, operator=None, channel=Gaussian, y=None):
    law = prior(white)
    operator = operator or DenseOperator(normal(M, N, seed=3), dtype=F64)

    def model():
        pyro.sample("y", channel(operator(pyro.sample("x", law)), noise))

    y = normal(*operator.measurement_shape, seed=4) if y is None else y
    return read_problem(model, {"y": y})


def state_of(kernel, p, k):
    state = kernel.init(p, Rng(0, draws=2, dtype=F64))
    for _ in range(k):
        state = state.moved(state.x)
    return state


def conditioned(kernel, p, k=6):
    state = state_of(kernel, p, k)
    law = p.prior.with_diffusion(kernel.process(p.prior))
    return kernel.condition(p, law, state, Rng(0, draws=2, dtype=F64)).x0_hat, state, law


def numpy_denoiser(p, state):
    """x0_hat and its Jacobian for a Gaussian prior, from the textbook."""
    a, b = (float(c) for c in state.levels[0][1:])
    mean, covariance = p.prior.mean.numpy(), p.prior.components.covariance_matrix.numpy()
    gain = a * covariance @ np.linalg.inv(a**2 * covariance + b**2 * np.eye(N))
    return mean + (state.x.numpy() - a * mean) @ gain.T, gain, a, b


def test_a_step_is_the_paper_s():
    """Equation 7: grad log p(y | x_t) = J^T A^T (r^2 A A^T + sigma^2)^-1 (y - A x0_hat), then DDIM by its x0_hat."""
    p, kernel = problem(), PiGDM(sampler=DDIM(steps=10, eta=0.0), spread=1.0)
    found, state, _ = conditioned(kernel, p)
    x0_hat, jacobian, a, b = numpy_denoiser(p, state)
    matrix, y = p.operator.matrix.numpy(), p.y.numpy()
    r2 = b**2 / (a**2 + b**2)
    weight = np.linalg.inv(r2 * matrix @ matrix.T + 0.09 * np.eye(M))
    guidance = (y - x0_hat @ matrix.T) @ weight.T @ matrix @ jacobian
    wanted = x0_hat + b**2 / a * guidance
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-9)
    moved, _ = kernel.step(p, state, Rng(3, draws=2, dtype=F64))
    a_next, b_next = (float(c) for c in state.levels[1][1:])
    eps = (state.x.numpy() - a * wanted) / b
    np.testing.assert_allclose(moved.x.numpy(), a_next * wanted + b_next * eps, rtol=1e-9)


def test_without_spread_it_is_the_point_posterior():
    """r_t -> 0: DPS at its statistical weight."""
    p = problem()
    point = GuidedDiffusion(denoising_posterior=Point(), sampler=DDIM(steps=10), drawn=False)
    narrow = PiGDM(sampler=DDIM(steps=10), spread=1e-6)
    torch.testing.assert_close(conditioned(narrow, p)[0], conditioned(point, p)[0], rtol=1e-6, atol=1e-6)


def test_noise_free_and_without_jacobian_it_is_ddnm():
    """r^2 A^T (r^2 A A^T + sigma^2)^-1 (y - A x0_hat) -> A^+ (y - A x0_hat)."""
    p = problem(noise=1e-5)
    isotropic = GuidedDiffusion(denoising_posterior=Isotropic(), sampler=DDIM(steps=10), drawn=False)
    projected = DDNM(sampler=DDIM(steps=10))
    torch.testing.assert_close(
        conditioned(isotropic, p)[0], conditioned(projected, p)[0], rtol=1e-6, atol=1e-6
    )


def test_decoding_orthonormal_rows_is_the_same_formula():
    rows = torch.linalg.qr(normal(N, M, seed=7))[0].T
    p = problem(operator=DenseOperator(rows, dtype=F64))
    plain, decoded = (conditioned(PiGDM(sampler=DDIM(steps=10), decode=d), p)[0] for d in (False, True))
    torch.testing.assert_close(plain, decoded)


class _Rounded(Operator):
    """To the nearest multiple of 1/4: no derivative, decoded as it is."""

    differentiable = False

    def forward(self, x):
        return (4 * x).round() / 4

    def pinv(self, z):
        return z


def test_an_encoder_without_derivative():
    truth = prior().mean + 0.8
    p = problem(noise=0.05, operator=_Rounded((N,), (N,), dtype=F64), y=(4 * truth).round() / 4)
    draws = draw_block(p, PiGDM(steps=50, decode=True), 0, 0, 0, 200, seed=1).draws
    # The encoding leaves 1/8 of doubt, the noise 0.05; the prior's standard deviation is about 1.
    assert (draws.mean(0) - truth).abs().max() < 0.2
    with pytest.raises(ModelError, match=r"has none that means anything; use PiGDM\(decode=True\)"):
        PiGDM().check(p)


@pytest.mark.parametrize("sampler", [FlowODE(steps=200), DDIM(steps=400, eta=1.0)], ids=repr)
def test_exact_in_the_limit_for_a_white_prior(sampler):
    p, draws = problem(white=True), 4000
    law, _ = exact_posterior(p)
    found = draw_block(p, PiGDM(sampler=sampler), 0, 0, 0, draws, seed=1).draws
    sd = law.variance.sqrt()
    assert ((found.mean(0) - law.mean) / sd).abs().max() < 4 / math.sqrt(draws) + 0.02
    assert (found.std(0) / sd - 1).abs().max() < 4 / math.sqrt(2 * draws) + 0.02


def test_refusals():
    signs = torch.ones(M, dtype=F64)
    with pytest.raises(ModelError, match="PiGDM needs a Gaussian channel"):
        PiGDM().check(problem(channel=OneBit, y=signs))

    class _Square(Operator):
        def forward(self, x):
            return x**2

    square = problem(operator=_Square((N,), (N,), dtype=F64))
    PiGDM().check(square)
    with pytest.raises(ModelError, match="Leave decode out"):
        PiGDM(decode=True).check(square)
    with pytest.raises(ValueError, match="positive spread"):
        PiGDM(spread=-1.0).check(problem())
