"""DAPS: a level against the algorithm box, the inner law, any channel and operator, the error on Gaussians."""

import math

import numpy as np
import pyro
import pytest
import torch

from bayes_ir.inference import ModelError, exact_posterior, read_problem
from bayes_ir.inference.kernels.daps import DAPS, likelihood_slope
from bayes_ir.inference.kernels.path import PathState
from bayes_ir.inference.rng import Rng
from bayes_ir.inference.run import draw_block
from bayes_ir.models import DenseOperator, Gaussian, GaussianPrior, OneBit, Operator, Quantized

F64 = torch.float64
N, M, NOISE, S2 = 6, 3, 0.3, 0.6


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


class _Absolute(Operator):
    """z = |x|: what is left of a signal without its sign."""

    def forward(self, x):
        return x.abs()


def problem(operator=None, channel=lambda z: Gaussian(z, NOISE), y=None, mean=None):
    operator = operator or DenseOperator(normal(M, N, seed=3) / math.sqrt(M))
    n = operator.event_shape.numel()
    prior = GaussianPrior(normal(n, seed=2) if mean is None else mean, S2 * torch.eye(n, dtype=F64))

    def model() -> None:
        pyro.sample("y", channel(operator(pyro.sample("x", prior))))

    return read_problem(model, {"y": normal(M, seed=4) if y is None else y})


def absolute(noise=0.1):
    return problem(
        _Absolute((N,), (N,), dtype=F64), lambda z: Gaussian(z, noise), normal(N, seed=6).abs() + 0.3
    )


def at_level(p, kernel, k, draws, last=False):
    """The state of k levels, all draws at one x_t; with ``last`` the clean level is the next one."""
    prior = p.prior.with_diffusion(kernel.process(p.prior))
    schedule = kernel.sampler.schedule(prior)
    x = kernel.sampler.start(prior, schedule[k], Rng(5, draws=1, dtype=F64)).expand(draws, -1).clone()
    return PathState(x, [schedule[k], schedule[-1 if last else k + 1]], 0), prior


@pytest.mark.parametrize("variance", ["isotropic", "published"])
@pytest.mark.parametrize("ode_steps", [1, 3])
def test_a_level_is_the_algorithm_s(ode_steps, variance):
    p = problem()
    kernel = DAPS(levels=30, ode_steps=ode_steps, langevin_steps=4, variance=variance)
    state, prior = at_level(p, kernel, 12, 2)
    moved, info = kernel.step(p, state, Rng(7, draws=2, dtype=F64))
    assert torch.equal(info["nfe"], torch.full((2,), ode_steps))

    sigma, sigma_next = (float(level.b) for level in state.levels)
    low = p.prior.noise_range[0]
    sigmas = [
        (sigma ** (1 / 7) + u * (low ** (1 / 7) - sigma ** (1 / 7))) ** 7
        for u in np.linspace(0, 1, ode_steps)
    ]
    x = state.x.numpy()
    for here, there in zip(sigmas, [*sigmas[1:], 0.0], strict=True):
        time = prior.diffusion.time_at(here)
        x = x + (there - here) * (x - prior.denoise(torch.from_numpy(x), time).numpy()) / here
    x0_hat, rng = x, Rng(7, draws=2, dtype=F64)
    r2 = sigma**2 if variance == "published" else S2 * sigma**2 / (S2 + sigma**2)
    a_mat, y = p.operator.matrix.numpy(), p.y.numpy()
    eta = 0.5 / (np.linalg.norm(a_mat, 2) ** 2 / NOISE**2 + 1 / r2)
    x = x0_hat + math.sqrt(r2) * rng.normal(N).numpy()
    for _ in range(4):
        gradient = (y - x @ a_mat.T) @ a_mat / NOISE**2 - (x - x0_hat) / r2
        x = x + eta * gradient + math.sqrt(2 * eta) * rng.normal(N).numpy()
    wanted = x + sigma_next * rng.normal(N).numpy()
    np.testing.assert_allclose(moved.x.numpy(), wanted, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(
    ("kernel", "bias"),
    [
        (DAPS(levels=30, ode_steps=1, exact=True), 0.0),
        # a step of 0.1 widens the stiffest direction by 1 / (1 - 0.05) in variance
        (DAPS(levels=30, ode_steps=1, langevin_steps=150, step_size=0.1), 0.06),
    ],
    ids=["exact", "langevin"],
)
def test_the_inner_law(kernel, bias):
    p, draws = problem(), 10_000
    state, prior = at_level(p, kernel, 15, draws, last=True)
    found = kernel.step(p, state, Rng(7, draws=draws, dtype=F64))[0].x
    level, a_mat = state.levels[0], p.operator.matrix
    x0_hat, r2 = prior.denoise(state.x[:1], level.t)[0], S2 * level.b**2 / (S2 + level.b**2)
    covariance = torch.linalg.inv(torch.eye(N, dtype=F64) / r2 + a_mat.T @ a_mat / NOISE**2)
    mean = covariance @ (x0_hat / r2 + a_mat.T @ p.y / NOISE**2)
    v = torch.linalg.svd(a_mat).Vh
    sd = (v @ covariance @ v.T).diagonal().sqrt()
    assert (((found.mean(0) - mean) @ v.T) / sd).abs().max() < 4 / math.sqrt(draws) + bias
    assert ((found @ v.T).var(0) / sd**2 - 1).abs().max() < 4 * math.sqrt(2 / draws) + bias


@pytest.mark.parametrize(
    "channel",
    [
        lambda z: Gaussian(z, torch.tensor([0.1, 0.5, 1.0], dtype=F64)),
        lambda z: OneBit(z, 0.2, threshold=0.1),
        lambda z: Quantized(z, 0.2, bits=3, step=0.5),
    ],
)
def test_the_slope_is_the_gradient_of_the_log_likelihood(channel):
    plain = problem(channel=channel, y=channel(torch.tensor([0.3, -2.0, 0.9], dtype=F64)).sample())
    x = normal(5, N, seed=9).requires_grad_()
    (wanted,) = torch.autograd.grad(plain.log_likelihood(x).sum(), x)
    torch.testing.assert_close(likelihood_slope(plain, x), wanted, rtol=1e-7, atol=1e-9)


def errors(p, kernel, draws):
    """Largest error of the means in exact sds, and ratios of the sds along the right singular vectors of A."""
    found = draw_block(p, kernel, 0, 0, 0, draws, seed=1).draws
    exact, _ = exact_posterior(p)
    v = torch.linalg.svd(p.operator.matrix).Vh
    sd = (v @ exact.covariance_matrix.double() @ v.T).diagonal().sqrt()
    return ((found.mean(0) - exact.mean) @ v.T / sd).abs().max(), (found @ v.T).std(0) / sd


def test_error_on_a_white_gaussian_prior():
    """From the denoised mean and with exact inner draws exact; five flow steps leave what y does not see too wide."""
    draws = 2000
    mean, ratio = errors(problem(), DAPS(levels=40, ode_steps=1, exact=True), draws)
    assert mean < 4 / math.sqrt(draws)
    assert (ratio - 1).abs().max() < 4 / math.sqrt(2 * draws)
    mean, ratio = errors(problem(), DAPS(levels=40, ode_steps=1, langevin_steps=60), draws)
    assert mean < 4 / math.sqrt(draws) + 0.02
    assert ratio.min() > 1 - 4 / math.sqrt(2 * draws) and ratio.max() < 1.15  # 1.155 = (1 - 0.25)^-1/2
    _, ratio = errors(problem(), DAPS(levels=40, ode_steps=5, exact=True), draws)
    assert 1.1 < ratio[M:].min() and ratio[M:].max() < math.sqrt(2)


def test_one_bit_data():
    """A single comparison of two numbers: the draws against rejection from the prior."""
    row = torch.tensor([[1.0, 0.5]], dtype=F64)
    zero = torch.zeros(2, dtype=F64)
    p = problem(DenseOperator(row), lambda z: OneBit(z, 0.2), torch.ones(1, dtype=F64), zero)
    found = draw_block(p, DAPS(levels=40, ode_steps=1, langevin_steps=60), 0, 0, 0, 2000, seed=1).draws
    x = math.sqrt(S2) * normal(40_000, 2, seed=5)
    kept = x[(x @ row.T)[:, 0] + 0.2 * normal(40_000, seed=6) > 0]
    assert ((found.mean(0) - kept.mean(0)) / kept.std(0)).abs().max() < 4 / math.sqrt(2000) + 0.05
    assert (found.std(0) / kept.std(0) - 1).abs().max() < 4 / math.sqrt(4000) + 0.05
    assert ((found @ row.T) > -0.6).all()


@pytest.mark.parametrize("noise", [0.1, 1e-3])
def test_an_operator_that_is_not_linear(noise):
    """Stable whatever the noise: the steps come from the secants of the slope."""
    p = absolute(noise)
    found = draw_block(p, DAPS(levels=40, ode_steps=2, langevin_steps=60), 0, 0, 0, 100, seed=1).draws
    misfit = (found.abs() - p.y) / noise
    assert found.isfinite().all() and 0.8 < misfit.square().mean().sqrt() < 1.5


@pytest.mark.parametrize("make", [problem, absolute])
def test_a_draw_does_not_depend_on_its_neighbours(make):
    p, kernel = make(), DAPS(levels=30, langevin_steps=5)
    state, _ = at_level(p, kernel, 10, 3)
    pushed = PathState(state.x.clone(), state.schedule, 0)
    pushed.x[0] += 1e3
    one, two = (kernel.step(p, s, Rng(1, draws=3, dtype=F64))[0].x for s in (state, pushed))
    torch.testing.assert_close(one[1:], two[1:], rtol=1e-12, atol=1e-12)


def test_single_precision_and_the_number_of_evaluations():
    for p in (problem(), absolute()):
        block = draw_block(
            p.to(dtype=torch.float32), DAPS(levels=10, ode_steps=3, langevin_steps=3), 0, 0, 0, 2, seed=1
        )
        assert block.draws.dtype == torch.float32 and block.stats["nfe"].tolist() == [30, 30]


def test_settings_and_refusals():
    for kernel in (DAPS(), DAPS(levels=9, ode_steps=1, variance="published", exact=True)):
        assert eval(repr(kernel)) == kernel
        kernel.check(problem())
    DAPS().check(absolute())
    for p in (absolute(), problem(channel=lambda z: OneBit(z, NOISE), y=torch.ones(M, dtype=F64))):
        with pytest.raises(
            ModelError, match=r"DAPS\(exact=True\) needs a linear operator and a Gaussian channel"
        ):
            DAPS(exact=True).check(p)
    for wrong in ({"levels": 1}, {"ode_steps": 0}, {"langevin_steps": 0}, {"step_size": 2.0}):
        with pytest.raises(ValueError, match="DAPS: expected levels >= 2, ode_steps >= 1"):
            DAPS(**wrong)
    with pytest.raises(ValueError, match="expected variance 'isotropic' or 'published'"):
        DAPS(variance="flat")
