"""SNIPS: its three scores written out, stability, its limits, and the exact posterior."""

import math

import numpy as np
import pyro
import pytest
import torch

from bayes_ir.inference import Langevin, ModelError, exact_posterior, read_problem
from bayes_ir.inference.kernels.snips import SNIPS
from bayes_ir.inference.rng import Rng
from bayes_ir.inference.run import draw_block
from bayes_ir.inference.samplers import Visit
from bayes_ir.models import DenseOperator, Gaussian, GaussianMixturePrior, GaussianPrior, OneBit, Operator

F64 = torch.float64
N = 8


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def read(operator, noise, prior, channel=Gaussian):
    i = torch.arange(N)
    root = torch.linalg.cholesky(0.8 ** (i[:, None] - i).abs().double())
    z = operator((normal(N, seed=1) + root @ normal(N, seed=3)).to(prior.dtype))
    y = z + torch.as_tensor(noise, dtype=z.dtype) * normal(len(z), seed=4).to(z.dtype)

    def model() -> None:
        pyro.sample("y", channel(operator(pyro.sample("x", prior)), noise))

    return read_problem(model, {"y": y.sign() if channel is OneBit else y})


def problem(operator, noise, channel=Gaussian, dtype=F64):
    """An autoregressive Gaussian prior, and data of a draw of it."""
    i = torch.arange(N)
    covariance = 0.8 ** (i[:, None] - i).abs().double()
    return read(operator, noise, GaussianPrior(normal(N, seed=1).to(dtype), covariance.to(dtype)), channel)


def dense(m: int = 4) -> DenseOperator:
    return DenseOperator(normal(m, N, seed=2) / math.sqrt(m))


def steep(*values: float) -> DenseOperator:
    """An operator of given singular values."""
    u, _, vt = torch.linalg.svd(normal(len(values), N, seed=2), full_matrices=False)
    return DenseOperator(u @ torch.diag(torch.tensor(values, dtype=F64)) @ vt)


def at(kernel, p, k: int, draws: int = 3):
    """A state of the path before step k."""
    state = kernel.init(p, Rng(0, draws=draws, dtype=p.dtype))
    for _ in range(k):
        state = state.moved(state.x)
    return state


def moments(p, kernel, draws: int = 2000):
    """Largest error of the mean in standard deviations, and ratios of the standard deviations."""
    x, (posterior, _) = draw_block(p, kernel, 0, 0, 0, draws, seed=1).draws, exact_posterior(p)
    sd = posterior.variance.sqrt()
    return ((x.mean(0) - posterior.mean) / sd).abs().max(), x.std(0) / sd


@pytest.mark.parametrize("k", [0, 20, 45])
def test_a_step_is_the_published_one(k):
    """Score times step, direction by direction, as the paper writes them; four directions, all cases in between."""
    noise, kernel = 0.3, SNIPS(levels=20, steps_per_level=3, step_size=0.7)
    p = problem(steep(4.0, 1.0, 0.3, 0.1), noise)
    state = at(kernel, p, k)
    now, _ = state.levels
    sigma = float(now.b)
    x0_hat = p.prior.with_diffusion(kernel.process(p.prior)).denoise(state.x, now.t).numpy()
    x, y, z = state.x.numpy(), p.y.numpy(), Rng(7, draws=3, dtype=F64).normal(N).numpy()
    u, s, vt = np.linalg.svd(p.operator.matrix.numpy(), full_matrices=True)
    prior_score = (x0_hat - x) / sigma**2
    wanted = np.zeros((3, N))
    for i in range(N):
        v, score = x @ vt[i], prior_score @ vt[i]
        if i >= len(s):
            alpha = sigma**2
        elif sigma * s[i] > noise:
            score = s[i] * (u[:, i] @ y - s[i] * v) / (s[i] ** 2 * sigma**2 - noise**2)
            alpha = sigma**2 - noise**2 / s[i] ** 2
        else:
            score = s[i] * (u[:, i] @ y - s[i] * v) / (noise**2 - s[i] ** 2 * sigma**2) + score
            alpha = sigma**2 * (1 - s[i] ** 2 * sigma**2 / noise**2)
        alpha *= kernel.step_size
        wanted += np.outer(v + alpha * score + math.sqrt(2 * alpha) * (z @ vt[i]), vt[i])
    found, info = kernel.step(p, state, Rng(7, draws=3, dtype=F64))
    np.testing.assert_allclose(found.x.numpy(), wanted, rtol=1e-9, atol=1e-9)
    assert torch.equal(info["nfe"], torch.ones(3, dtype=torch.int64))


def test_nothing_measured_is_annealed_langevin():
    p, kernel = problem(DenseOperator(torch.zeros(2, N, dtype=F64)), 0.3), SNIPS(levels=9, steps_per_level=2)
    state, plain = at(kernel, p, 4), Langevin(levels=9, steps_per_level=2, transport=False)
    now, then = state.levels
    assert now == then  # within a level
    visit = Visit(state.x, p.prior.with_diffusion(kernel.process(p.prior)).denoise(state.x, now.t), now)
    wanted = plain.move(visit, None, then, 0.0, Rng(7, draws=3, dtype=F64))
    torch.testing.assert_close(kernel.step(p, state, Rng(7, draws=3, dtype=F64))[0].x, wanted)


@pytest.mark.parametrize("side", [-1, 0, 1])
def test_noise_that_meets_a_level_stays_finite(side):
    """At ``s b = 1``, a rounding error above it and below it, a step draws the direction to the datum."""
    kernel = SNIPS(levels=9, steps_per_level=1)
    level = float(at(kernel, problem(dense(), 0.3), 4).levels[0].b)
    p = problem(DenseOperator(torch.eye(N, dtype=F64)), level * (1 + side * 1e-15))
    state = at(kernel, p, 4)
    moved, _ = kernel.step(p, state, Rng(7, draws=3, dtype=F64))
    torch.testing.assert_close(moved.x, state.x + kernel.step_size * (p.y - state.x), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("m", "noise"), [(4, 0.3), (4, 0.02), (4, 1e-3), (N, 0.3), (N, 1.0)])
def test_against_the_exact_posterior(m, noise):
    """Half and all of the directions measured; the latter is full column rank."""
    draws = 2000
    mean, spread = moments(problem(dense(m), noise), SNIPS(levels=100, steps_per_level=3), draws)
    assert mean < 4 / math.sqrt(draws)
    assert (spread - 1).abs().max() < 4 / math.sqrt(2 * draws) + 0.03  # and 3 % for 100 levels


@pytest.mark.parametrize("noise", [4e-3, 0.01, 0.03])
def test_directions_near_the_lowest_level(noise):
    """The lowest level is 0.01; a white prior makes every direction a posterior of its own."""
    white = GaussianPrior(torch.zeros(N, dtype=F64), torch.eye(N, dtype=F64))
    p = read(DenseOperator(torch.eye(N, dtype=F64)), noise, white)
    mean, spread = moments(p, SNIPS(levels=40, steps_per_level=5, step_size=1.0))
    assert mean < 4 / math.sqrt(2000)
    assert (spread - 1).abs().max() < 4 / math.sqrt(4000) + 0.06  # and 6 % for what x_t has of the level


@pytest.mark.parametrize("step_size", [0.5, 1.95])
def test_stable_steps(step_size):
    """Singular values over four orders of magnitude, and a mixture: no direction runs away."""
    prior = GaussianMixturePrior(
        torch.tensor([0.5, 0.5], dtype=F64),
        torch.stack([normal(N, seed=5), normal(N, seed=6)]),
        torch.stack([1e-4 * torch.eye(N, dtype=F64)] * 2),
    )
    p = read(steep(100.0, 1.0, 0.1, 0.01), 0.05, prior)
    x = draw_block(p, SNIPS(levels=50, steps_per_level=4, step_size=step_size), 0, 0, 0, 200, seed=1).draws
    assert x.isfinite().all() and x.abs().max() < 10 * prior.variance.sqrt().max() + prior.mean.abs().max()


def test_varying_noise_is_whitened():
    noise = torch.tensor([0.1, 0.4, 0.2, 0.8], dtype=F64)
    p, kernel = problem(dense(), noise), SNIPS(levels=9, steps_per_level=2)
    white = DenseOperator(p.operator.matrix / noise[:, None])
    q = read_problem(
        lambda: pyro.sample("y", Gaussian(white(pyro.sample("x", p.prior)), 1.0)), {"y": p.y / noise}
    )
    torch.testing.assert_close(*(draw_block(r, kernel, 0, 0, 0, 5, seed=1).draws for r in (p, q)))


def test_contract():
    kernel, p = SNIPS(levels=9, steps_per_level=2, step_size=0.5), problem(dense(), 0.05)
    assert eval(repr(kernel)) == kernel and "2105.14951" in kernel.citation
    kernel.check(p)
    block = draw_block(p, kernel, 0, 0, 0, 3, seed=1)
    assert kernel.length(p) == 18 and block.stats["nfe"].tolist() == [18] * 3
    one, other = at(kernel, p, 0, 4), at(kernel, p, 0, 4)
    other.x[0] += 1e3
    moved = [kernel.step(p, s, Rng(1, draws=4, dtype=F64))[0].x for s in (one, other)]
    torch.testing.assert_close(moved[0][1:], moved[1][1:])
    single = problem(DenseOperator(dense().matrix.float()), 0.3, dtype=torch.float32)
    draws = draw_block(single, kernel, 0, 0, 0, 3, seed=1).draws
    assert draws.dtype == torch.float32 and draws.isfinite().all()


class _Square(Operator):
    def forward(self, x):
        return x**2


def test_refusals():
    for wrong in ({"levels": 1}, {"steps_per_level": 0}, {"step_size": 2.0}):
        with pytest.raises(ValueError, match="2 is the limit of stability"):
            SNIPS(**wrong)
    with pytest.raises(ModelError, match="SNIPS needs a Gaussian channel; site 'y' has OneBit"):
        SNIPS().check(problem(dense(), 0.3, OneBit))
    with pytest.raises(ModelError, match=r"SNIPS needs a linear operator; site 'y' has .*Use DPS"):
        SNIPS().check(problem(_Square((N,), (N,), dtype=F64), 0.3))
