"""DDNM and DDNM+: one step written out, data consistency, the limit of no noise, exactness, time travel, refusals."""

import math
from dataclasses import replace

import numpy as np
import pyro
import pytest
import torch

from bayes_ir.inference import DDIM, Ancestral, Langevin, ModelError, exact_posterior, read_problem
from bayes_ir.inference.kernels.ddnm import DDNM
from bayes_ir.inference.kernels.ddnm_plus import DDNMPlus
from bayes_ir.inference.rng import Rng
from bayes_ir.inference.run import draw_block
from bayes_ir.models import DenseOperator, Gaussian, GaussianPrior, OneBit, Operator

F64 = torch.float64
N = 8


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def problem(operator: Operator, noise: float, channel=Gaussian, dtype=F64):
    """An autoregressive Gaussian prior, and data of a draw of it."""
    i = torch.arange(N)
    covariance = 0.8 ** (i[:, None] - i).abs().double()
    prior = GaussianPrior(normal(N, seed=1).to(dtype), covariance.to(dtype))
    truth = normal(N, seed=1) + torch.linalg.cholesky(covariance) @ normal(N, seed=3)
    z = operator(truth.to(dtype))

    def model() -> None:
        pyro.sample("y", channel(operator(pyro.sample("x", prior)), noise))

    y = z + noise * normal(len(z), seed=4).to(dtype)
    return read_problem(model, {"y": y.sign() if channel is OneBit else y})


def dense(m: int = 4, seed: int = 5) -> DenseOperator:
    return DenseOperator(normal(m, N, seed=seed) / math.sqrt(m))


def steep(*values: float) -> DenseOperator:
    u, _, vt = torch.linalg.svd(normal(len(values), N, seed=2), full_matrices=False)
    return DenseOperator(u @ torch.diag(torch.tensor(values, dtype=F64)) @ vt)


class _Absolute(Operator):
    forward = staticmethod(torch.abs)


class _Halved(Operator):
    """Means of neighbours, cubed: an encoding that ``pinv`` decodes."""

    def forward(self, x):
        return x.unflatten(-1, (-1, 2)).mean(-1) ** 3

    def pinv(self, z):
        return (z.sign() * z.abs() ** (1 / 3)).repeat_interleave(2, -1)


def at(kernel, p, k: int, draws: int = 3):
    """A state of the path before step k."""
    state = kernel.init(p, Rng(0, draws=draws, dtype=p.dtype))
    for _ in range(k):
        state = state.moved(state.x)
    return state


def denoised(kernel, p, state):
    return p.prior.with_diffusion(kernel.process(p.prior)).denoise(state.x, state.levels[0].t)


def moments(p, kernel, draws: int = 2000):
    """Root mean square error of the mean in standard deviations, and mean ratio of the standard deviations."""
    x, (posterior, _) = draw_block(p, kernel, 0, 0, 0, draws, seed=1).draws, exact_posterior(p)
    sd = posterior.variance.sqrt()
    return ((x.mean(0) - posterior.mean) / sd).square().mean().sqrt(), (x.std(0) / sd).mean()


def ddim_noise(now, then, eta):
    return eta * math.sqrt(1 - now.a**2 / then.a**2 * then.b**2 / now.b**2) * float(then.b)


@pytest.mark.parametrize("predicted_noise", ["network", "rectified"])
def test_a_step_of_ddnm(predicted_noise):
    """``a' x0_hat(x_t, y) + sqrt(b'^2 - c^2) eps_hat + c z`` by numpy, with either predicted noise."""
    p, kernel = problem(dense(), 0.01), DDNM(predicted_noise=predicted_noise)
    state = at(kernel, p, 60)
    now, then = state.levels
    x0_hat, x_t, a = (v.numpy() for v in (denoised(kernel, p, state), state.x, p.operator.matrix))
    rectified = x0_hat + (p.y.numpy() - x0_hat @ a.T) @ np.linalg.pinv(a).T
    c, b = ddim_noise(now, then, 0.85), float(then.b)
    carried = x0_hat if predicted_noise == "network" else rectified
    eps_hat = (x_t - float(now.a) * carried) / float(now.b)
    z = Rng(7, draws=3, dtype=F64).normal(N).numpy()
    wanted = float(then.a) * rectified + math.sqrt(b**2 - c**2) * eps_hat + c * z
    found, info = kernel.step(p, state, Rng(7, draws=3, dtype=F64))
    np.testing.assert_allclose(found.x.numpy(), wanted, rtol=1e-9, atol=1e-9)
    assert torch.equal(info["nfe"], torch.ones(3, dtype=torch.int64))


def test_a_step_of_ddnm_plus():
    """All three cases in one step, direction by direction, by numpy."""
    noise, eta = 0.3, 0.7
    p, kernel = problem(steep(4.0, 1.0, 0.3, 0.1), noise), DDNMPlus(eta=eta)
    k = next(k for k, level in enumerate(at(kernel, p, 0).schedule) if level.ratio < 0.9) - 1
    state = at(kernel, p, k)
    (_, a0, b0), (_, a1, b1) = ([float(c) for c in level] for level in state.levels)
    x_hat, x_t, y = (v.numpy() for v in (denoised(kernel, p, state), state.x, p.y))
    eps, z = (x_t - a0 * x_hat) / b0, Rng(7, draws=3, dtype=F64).normal(N).numpy()
    u, s, vt = np.linalg.svd(p.operator.matrix.numpy(), full_matrices=True)
    c = ddim_noise(*state.levels, eta)
    assert noise < b1 / a1 < 1  # two directions above their noise, two below, four not measured
    wanted = np.zeros((3, N))
    for i in range(N):
        x_i, e_i, z_i = x_hat @ vt[i], eps @ vt[i], z @ vt[i]
        fresh = math.sqrt(b1**2 - c**2) * e_i + c * z_i
        if i >= 4:
            v = a1 * x_i + fresh
        elif a1 * noise / s[i] <= b1:
            v = a1 * (u[:, i] @ y) / s[i] + math.sqrt(1 - (a1 * noise / s[i] / b1) ** 2) * fresh
        else:
            weight = s[i] * b1 * math.sqrt(1 - eta**2) / (a1 * noise)
            v = a1 * (x_i + weight * ((u[:, i] @ y) / s[i] - x_i)) + eta * b1 * z_i
        wanted += np.outer(v, vt[i])
    found, _ = kernel.step(p, state, Rng(7, draws=3, dtype=F64))
    np.testing.assert_allclose(found.x.numpy(), wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("sampler", [DDIM(steps=20, eta=0.85), Ancestral(steps=20)], ids=repr)
def test_the_denoised_mean_satisfies_the_data(sampler):
    p, kernel = problem(dense(), 0.01), DDNM(sampler=sampler)
    state = at(kernel, p, 5)
    prior = p.prior.with_diffusion(kernel.process(p.prior))
    found = kernel.condition(p, prior, state, Rng(0, draws=3, dtype=F64)).x0_hat
    torch.testing.assert_close(p.operator(found), p.y.expand(3, -1))
    change = found - denoised(kernel, p, state)
    torch.testing.assert_close(p.operator.pinv(p.operator(change)), change)  # nothing in the null space
    draws = draw_block(p, kernel, 0, 0, 0, 5, seed=1).draws
    torch.testing.assert_close(p.operator(draws), p.y.expand(5, -1))


@pytest.mark.parametrize("eta", [0.0, 0.85, 1.0])
def test_without_noise_ddnm_plus_is_ddnm(eta):
    """In every step, and for singular values from 3 to 0.03."""
    p = problem(steep(3.0, 1.0, 0.2, 0.03), 1e-9)
    plus, plain = DDNMPlus(eta=eta), DDNM(sampler=DDIM(steps=100, eta=eta, grid="ddim"))
    one, other, rngs = at(plus, p, 0), at(plain, p, 0), [Rng(1, draws=3, dtype=F64) for _ in range(2)]
    while not one.done:
        one, other = plus.step(p, one, rngs[0])[0], plain.step(p, other, rngs[1])[0]
        torch.testing.assert_close(one.x, other.x, rtol=1e-6, atol=1e-6)


def test_without_noise_of_any_kind_the_predicted_noise_stays_as_it_is():
    """For eta = 0 and exact data ``x' = a' x0_hat(x_t, y) + b' eps_hat``, not rotated."""
    p, kernel = problem(steep(3.0, 1.0, 0.2, 0.03), 1e-9), DDNMPlus(eta=0.0)
    state = at(kernel, p, 50)
    now, then = state.levels
    x0_hat, (moved, _) = denoised(kernel, p, state), kernel.step(p, state, Rng(7, draws=3, dtype=F64))
    eps_hat = (state.x - now.a * x0_hat) / now.b
    rectified = x0_hat + p.operator.pinv(p.y - p.operator(x0_hat))
    torch.testing.assert_close((moved.x - then.a * rectified) / then.b, eps_hat, rtol=1e-6, atol=1e-6)


def test_exact_data_of_a_gaussian_are_sampled_exactly():
    """By the network's predicted noise; not by that of the rectified mean, published as algorithm 1."""
    p, draws = problem(dense(), 1e-3), 2000
    for kernel in (DDNM(steps=200), DDNMPlus(steps=200)):
        mean, spread = moments(p, kernel, draws)
        assert mean < 2 / math.sqrt(draws) + 0.02 and 0.96 < spread < 1.02
    mean, spread = moments(p, DDNM(steps=200, predicted_noise="rectified"), draws)
    assert mean > 0.09 and spread > 1.05  # 0.12 and 1.31


def test_noisy_data():
    """DDNM takes the noise for signal; DDNM+ does not, but is narrow where everything is measured."""
    p = problem(dense(), 0.3)
    mean, spread = moments(p, DDNMPlus())
    assert mean < 0.3 and 0.75 < spread < 0.95
    assert moments(p, DDNM())[0] > 1.5 * mean
    full = problem(dense(N), 0.3)
    assert moments(full, DDNM())[1] < 0.01 and 0.4 < moments(full, DDNMPlus())[1] < 0.6


@pytest.mark.parametrize("kernel", [DDNM(), DDNM(predicted_noise="rectified"), DDNMPlus()], ids=repr)
def test_time_travel(kernel):
    """The path of the schedule, and jumps by ``q(x_s | x_t)``."""
    p, draws = problem(dense(), 1e-3), 20_000
    plain = replace(kernel, steps=20).length(p)
    kernel = replace(kernel, steps=20, travel_length=4, travel_repeats=3)
    rises = 4 * 2 * len(range(0, plain - 4, 4))
    assert kernel.length(p) == plain + 2 * rises
    assert draw_block(p, kernel, 0, 0, 0, 2, seed=1).stats["nfe"].tolist() == [plain + rises] * 2
    state, rng = kernel.init(p, Rng(0, draws=draws, dtype=F64)), Rng(1, draws=draws, dtype=F64)
    while state.levels[1].ratio < state.levels[0].ratio:
        state, _ = kernel.step(p, state, rng)
    now, then = state.levels
    risen, info = kernel.step(p, state, rng)
    alpha = then.a / now.a
    noise = (risen.x - alpha * state.x) / (then.b**2 - alpha**2 * now.b**2) ** 0.5
    assert not info["nfe"].any() and noise.mean(0).abs().max() < 4 / math.sqrt(draws)
    assert (noise.std(0) - 1).abs().max() < 4 / math.sqrt(2 * draws)


def test_an_operator_that_is_decoded():
    p = problem(_Halved((N,), (N // 2,), dtype=F64), 1e-6)
    DDNM().check(p)
    draws = draw_block(p, DDNM(), 0, 0, 0, 5, seed=1).draws
    torch.testing.assert_close(p.operator(draws), p.y.expand(5, -1), rtol=1e-6, atol=1e-6)
    assert draws.std(0).min() > 0.05  # and differ where the operator does not look


def test_contract():
    p = problem(dense(), 0.05)
    for kernel in (
        DDNM(steps=10, predicted_noise="rectified", travel_length=2, travel_repeats=2),
        DDNM(sampler=Langevin(levels=10, steps_per_level=1)),
        DDNM(sampler=Langevin(levels=10, steps_per_level=1), predicted_noise="rectified"),
        DDNMPlus(steps=10, eta=0.5, grid="geometric", travel_length=2, travel_repeats=2),
    ):
        assert eval(repr(kernel)) == kernel and "2212.00490" in kernel.citation
        kernel.check(p)
        assert draw_block(p, kernel, 0, 0, 0, 3, seed=1).draws.isfinite().all()
        one, other = at(kernel, p, 0, 4), at(kernel, p, 0, 4)
        other.x[0] += 1e3
        moved = [kernel.step(p, s, Rng(1, draws=4, dtype=F64))[0].x for s in (one, other)]
        torch.testing.assert_close(moved[0][1:], moved[1][1:])
        single = problem(DenseOperator(dense().matrix.float()), 0.3, dtype=torch.float32)
        assert draw_block(single, kernel, 0, 0, 0, 3, seed=1).draws.dtype == torch.float32


def test_refusals():
    with pytest.raises(ValueError, match="expected predicted_noise 'network' or 'rectified', got 'none'"):
        DDNM(predicted_noise="none")
    with pytest.raises(ValueError, match="0 <= eta <= 1"):
        DDNMPlus(eta=1.5)
    for kernel in (DDNM, DDNMPlus):
        with pytest.raises(
            ValueError, match=r"travel_length >= 1 and travel_repeats >= 1, got travel_length=0"
        ):
            kernel(travel_length=0)
        with pytest.raises(ModelError, match="needs a Gaussian channel; site 'y' has OneBit"):
            kernel().check(problem(dense(), 0.3, OneBit))
    with pytest.raises(ModelError, match=r"pseudo-inverse or a decoding; site 'y' has .*Use DPS"):
        DDNM().check(problem(_Absolute((N,), (N,), dtype=F64), 0.3))
    with pytest.raises(ModelError, match=r"DDNMPlus needs a linear operator"):
        DDNMPlus().check(problem(_Halved((N,), (N // 2,), dtype=F64), 0.3))
