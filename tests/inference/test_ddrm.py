"""DDRM: its three cases written out, its limits, the last step, and how far from the posterior it ends."""

import math

import numpy as np
import pyro
import pytest
import torch

from bayes_ir.inference import DDIM, ModelError, exact_posterior, read_problem
from bayes_ir.inference.kernels.ddrm import DDRM
from bayes_ir.inference.rng import Rng
from bayes_ir.inference.run import draw_block
from bayes_ir.inference.samplers import Level, Visit
from bayes_ir.inference.samplers.renoising import Renoise
from bayes_ir.models import DenseOperator, Gaussian, GaussianPrior, OneBit, Operator

F64 = torch.float64
N = 8


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def problem(operator: Operator, noise, channel=Gaussian, dtype=F64):
    """An autoregressive Gaussian prior, and data of a draw of it."""
    i = torch.arange(N)
    covariance = 0.8 ** (i[:, None] - i).abs().double()
    prior = GaussianPrior(normal(N, seed=1).to(dtype), covariance.to(dtype))
    truth = (normal(N, seed=1) + torch.linalg.cholesky(covariance) @ normal(N, seed=3)).to(dtype)
    z = operator(truth)
    y = z + torch.as_tensor(noise, dtype=dtype) * normal(len(z), seed=4).to(dtype)

    def model() -> None:
        pyro.sample("y", channel(operator(pyro.sample("x", prior)), noise))

    return read_problem(model, {"y": y.sign() if channel is OneBit else y})


def dense(m: int = 4) -> DenseOperator:
    return DenseOperator(normal(m, N, seed=2) / math.sqrt(m))


def steep() -> DenseOperator:
    """Singular values 4, 1, 0.3 and 0.1."""
    u, _, vt = torch.linalg.svd(normal(4, N, seed=2), full_matrices=False)
    return DenseOperator(u @ torch.diag(torch.tensor([4.0, 1.0, 0.3, 0.1], dtype=F64)) @ vt)


def at(kernel, p, k: int, draws: int = 3):
    """A state of the path before step k."""
    state = kernel.init(p, Rng(0, draws=draws, dtype=p.dtype))
    for _ in range(k):
        state = state.moved(state.x)
    return state


def moments(p, kernel, draws: int = 2000):
    """Root mean square error of the mean in standard deviations, and mean ratio of the standard deviations."""
    x, (posterior, _) = draw_block(p, kernel, 0, 0, 0, draws, seed=1).draws, exact_posterior(p)
    sd = posterior.variance.sqrt()
    return ((x.mean(0) - posterior.mean) / sd).square().mean().sqrt(), (x.std(0) / sd).mean()


def published(kernel, x_t, x0_hat, now, then, z, a, noise, y):
    """Equation 8, direction by direction, for one draw; all numpy."""
    u, s, vt = np.linalg.svd(a, full_matrices=True)
    sigma_t, sigma = now.b / now.a, then.b / then.a
    moved = np.empty(N)
    for i in range(N):
        x_hat, x_bar = vt[i] @ x0_hat, vt[i] @ x_t / now.a
        y_bar = u[:, i] @ y / s[i] if i < len(s) else None
        if y_bar is None:
            mean = x_hat + math.sqrt(1 - kernel.eta**2) * sigma * (x_bar - x_hat) / sigma_t
            variance = kernel.eta**2 * sigma**2
        elif sigma < noise / s[i]:
            mean = x_hat + math.sqrt(1 - kernel.eta**2) * sigma * (y_bar - x_hat) / (noise / s[i])
            variance = kernel.eta**2 * sigma**2
        else:
            mean = (1 - kernel.eta_b) * x_hat + kernel.eta_b * y_bar
            variance = sigma**2 - noise**2 / s[i] ** 2 * kernel.eta_b**2
        moved[i] = mean + math.sqrt(variance) * (vt[i] @ z)
    return then.a * (vt.T @ moved)


@pytest.mark.parametrize("eta_b", [1.0, 0.6])
@pytest.mark.parametrize("grid", ["ddim", "geometric"])
def test_a_step_is_equation_8(eta_b, grid):
    p, kernel = problem(steep(), 0.3), DDRM(steps=20, eta_b=eta_b, grid=grid)
    ratios = torch.tensor([level.ratio for level in at(kernel, p, 0).schedule], dtype=F64)
    k = int((ratios >= 0.9).sum()) - 1  # the step to the first level below 0.9
    assert 0.3 < ratios[k + 1] < 1  # two directions above their noise, two below, four not measured
    state = at(kernel, p, k)
    now, then = (Level(*(float(c) for c in level)) for level in state.levels)
    x0_hat = p.prior.with_diffusion(kernel.process(p.prior)).denoise(state.x, state.levels[0].t).numpy()
    z = Rng(7, draws=3, dtype=F64).normal(N).numpy()
    found, info = kernel.step(p, state, Rng(7, draws=3, dtype=F64))
    a, y, x_t = p.operator.matrix.numpy(), p.y.numpy(), state.x.numpy()
    wanted = [published(kernel, x_t[i], x0_hat[i], now, then, z[i], a, 0.3, y) for i in range(3)]
    np.testing.assert_allclose(found.x.numpy(), wanted, rtol=1e-9, atol=1e-9)
    assert torch.equal(info["nfe"], torch.ones(3, dtype=torch.int64))


def test_the_start_is_equation_7():
    p, kernel, draws = problem(dense(), 5.0), DDRM(), 20_000
    state = kernel.init(p, Rng(3, draws=draws, dtype=F64))
    first = state.schedule[0]
    u, s, vt = np.linalg.svd(p.operator.matrix.numpy(), full_matrices=True)
    bar = state.x.numpy() / float(first.a) @ vt.T
    y_bar, sd = u.T @ p.y.numpy() / s, np.sqrt(float(first.ratio) ** 2 - (5.0 / s) ** 2)
    assert np.abs((bar[:, :4].mean(0) - y_bar) / sd).max() < 4 / math.sqrt(draws)
    assert np.abs(bar[:, :4].std(0) / sd - 1).max() < 4 / math.sqrt(2 * draws)


def test_equality_belongs_to_the_data():
    """At ``sigma' = 1 / s`` the state is the datum itself, whatever z."""
    kernel = DDRM(steps=20)
    level = at(kernel, problem(dense(), 0.3), 0).schedule[11]
    sigma = float(level.ratio)
    noise = next(n for n in (sigma, np.nextafter(sigma, 0), np.nextafter(sigma, 9)) if 1 / (1 / n) == sigma)
    p = problem(DenseOperator(torch.eye(N, dtype=F64)), float(noise))
    moved, _ = kernel.step(p, at(kernel, p, 10), Rng(7, draws=3, dtype=F64))
    torch.testing.assert_close(moved.x, (level.a * p.y).expand(3, N), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("eta", [0.0, 0.85])
def test_nothing_measured_is_ddim(eta):
    """With the fresh noise ``c = eta b'``, that of Renoise; for eta = 0 that is DDIM itself."""
    p, kernel = problem(DenseOperator(torch.zeros(2, N, dtype=F64)), 0.3), DDRM(eta=eta)
    rngs = [Rng(0, draws=5, dtype=F64) for _ in range(2)]
    states = [kernel.init(p, rng) for rng in rngs]
    prior = p.prior.with_diffusion(kernel.process(p.prior))
    sampler = Renoise(steps=20, zeta=eta**2) if eta else DDIM(steps=20, eta=0.0)
    x = states[1].x
    while not states[0].done:
        now, then = states[0].levels
        x = sampler.move(Visit(x, prior.denoise(x, now.t), now), None, then, 0.0, rngs[1])
        states[0], _ = kernel.step(p, states[0], rngs[0])
        torch.testing.assert_close(states[0].x, x)


def test_identity_below_the_noise_is_a_move_from_y():
    """The move from ``x_t = y`` at the level of its noise, where ``eps_hat`` is ``(y - x0_hat) / noise``."""
    noise = 2.0
    p, kernel = problem(DenseOperator(torch.eye(N, dtype=F64)), noise), DDRM(steps=20)
    state = at(kernel, p, 12)
    now, then = state.levels
    assert then.ratio < noise
    x0_hat = p.prior.with_diffusion(kernel.process(p.prior)).denoise(state.x, now.t)
    of_y = Visit(p.y.expand(3, N), x0_hat, Level(0.0, 1.0, noise))
    wanted = Renoise(zeta=kernel.eta**2).move(of_y, None, then, 0.0, Rng(7, draws=3, dtype=F64))
    torch.testing.assert_close(kernel.step(p, state, Rng(7, draws=3, dtype=F64))[0].x, wanted)


def test_the_last_step():
    """Tweedie's formula at the datum where it is better than the level 0.01, else at the state."""
    p, kernel = problem(steep(), 6e-3), DDRM(steps=20)
    state = at(kernel, p, kernel.length(p) - 1)
    state.x.copy_(normal(3, N, seed=6))
    now = state.levels[0]
    x0_hat = p.prior.with_diffusion(kernel.process(p.prior)).denoise(state.x, now.t).numpy()
    bar, z = state.x.numpy() / float(now.a), Rng(7, draws=3, dtype=F64).normal(N).numpy()
    u, s, vt = np.linalg.svd(p.operator.matrix.numpy(), full_matrices=False)
    level, noise = float(now.ratio), 6e-3 / s
    assert (noise < level).sum() == 2
    tweedie = u.T @ p.y.numpy() / s + noise**2 * ((x0_hat - bar) @ vt.T / level**2)
    v = np.where(noise < level, tweedie, x0_hat @ vt.T) + np.minimum(noise, level) * (z @ vt.T)
    wanted = x0_hat + (v - x0_hat @ vt.T) @ vt
    found, _ = kernel.step(p, state, Rng(7, draws=3, dtype=F64))
    np.testing.assert_allclose(found.x.numpy(), wanted, rtol=1e-9, atol=1e-9)


def test_the_last_step_is_a_draw_that_fits_the_data():
    """Data better than the lowest level, 0.01: residuals are as large as the noise."""
    noise, draws = 1e-4, 4000
    p = problem(dense(), noise)
    x = draw_block(p, DDRM(), 0, 0, 0, draws, seed=1).draws
    residual = (p.y - p.operator(x)) / noise
    assert residual.mean(0).abs().max() < 4 / math.sqrt(draws)
    assert (residual.std(0) - 1).abs().max() < 4 / math.sqrt(2 * draws) + 1e-3
    # A prior without correlations: every direction is a problem of its own, and the draw is the posterior.
    white, y = GaussianPrior(torch.zeros(N, dtype=F64), torch.eye(N, dtype=F64)), normal(N, seed=9)
    p = read_problem(
        lambda: pyro.sample(
            "y", Gaussian(DenseOperator(torch.eye(N, dtype=F64))(pyro.sample("x", white)), 5e-3)
        ),
        {"y": y},
    )
    mean, spread = moments(p, DDRM(), draws)
    assert mean < 4 / math.sqrt(draws) and abs(spread - 1) < 4 / math.sqrt(2 * draws * N) + 1e-3


def test_against_the_exact_posterior():
    """What the method gets wrong: narrow draws, more so where everything is measured; dependence on the noise."""
    mean, spread = moments(problem(dense(), 0.3), DDRM())
    assert mean < 0.3 and 0.74 < spread < 0.88  # 0.20 and 0.81
    mean, spread = moments(problem(dense(), 1e-3), DDRM(steps=100))
    assert mean < 0.1 and 0.84 < spread < 0.93  # 0.04 and 0.88
    full = problem(dense(N), 0.3)
    mean, spread = moments(full, DDRM())
    assert mean < 0.25 and 0.54 < spread < 0.65  # 0.16 and 0.59
    assert 0.8 < moments(full, DDRM(eta=1.0))[1] < 0.96  # 0.88


def test_varying_noise_is_whitened():
    """Data of their own noise are those of the rows divided by it."""
    noise = torch.tensor([0.1, 0.4, 0.2, 0.8], dtype=F64)
    p, white = problem(dense(), noise), DenseOperator(dense().matrix / noise[:, None])
    q = read_problem(
        lambda: pyro.sample("y", Gaussian(white(pyro.sample("x", p.prior)), 1.0)), {"y": p.y / noise}
    )
    torch.testing.assert_close(*(draw_block(r, DDRM(), 0, 0, 0, 5, seed=1).draws for r in (p, q)))


def test_contract():
    kernel = DDRM(steps=10, eta=0.5, eta_b=0.9, grid="geometric")
    assert eval(repr(kernel)) == kernel and "2201.11793" in kernel.citation
    p = problem(dense(), 0.3)
    kernel.check(p)
    block = draw_block(p, kernel, 0, 0, 0, 3, seed=1)
    assert kernel.length(p) == 10 and block.stats["nfe"].tolist() == [10] * 3
    single = problem(DenseOperator(dense().matrix.float()), 0.3, dtype=torch.float32)
    draws = draw_block(single, DDRM(), 0, 0, 0, 3, seed=1).draws
    assert draws.dtype == torch.float32 and draws.isfinite().all()
    one, other = at(kernel, p, 0, 4), at(kernel, p, 0, 4)
    other.x[0] += 1e3
    moved = [kernel.step(p, s, Rng(1, draws=4, dtype=F64))[0].x for s in (one, other)]
    torch.testing.assert_close(moved[0][1:], moved[1][1:])


class _Large(DenseOperator):
    has_svd = False


class _Square(Operator):
    def forward(self, x):
        return x**2


def test_refusals():
    for wrong in ({"eta": 1.1}, {"eta": -0.1}, {"eta_b": 2.0}):
        with pytest.raises(ValueError, match="expected eta and eta_b from 0 to 1, got"):
            DDRM(**wrong)
    with pytest.raises(ValueError, match=r"expected steps >= 2 and a grid of"):
        DDRM(grid="fine")
    for operator, channel, words in (
        (dense(), OneBit, "DDRM needs a Gaussian channel; site 'y' has OneBit"),
        (_Square((N,), (N,), dtype=F64), Gaussian, r"DDRM needs a linear operator.*Use DPS"),
        (_Large(dense().matrix), Gaussian, r"singular value decomposition.*none at this size. Use DMPS"),
    ):
        with pytest.raises(ModelError, match=words):
            DDRM().check(problem(operator, 0.3, channel))
