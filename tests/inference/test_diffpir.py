"""DiffPIR and renoising: a step against the paper's formulas, the released coordinates, the error on Gaussians."""

import math

import numpy as np
import pyro
import pytest
import torch

from bayes_ir.inference import DDIM, ModelError, exact_posterior, read_problem
from bayes_ir.inference.kernels.diffpir import DiffPIR
from bayes_ir.inference.kernels.path import PathState
from bayes_ir.inference.rng import Rng
from bayes_ir.inference.run import draw_block
from bayes_ir.inference.samplers import Langevin, Visit
from bayes_ir.inference.samplers.renoising import Renoise
from bayes_ir.models import DDPM, DenseOperator, Gaussian, GaussianPrior, OneBit, Operator
from bayes_ir.models.time_grids import root_grid

F64 = torch.float64
N, M, NOISE, S2 = 6, 3, 0.3, 0.6


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def problem(operator=None, channel=lambda z: Gaussian(z, NOISE), y=None):
    operator = operator or DenseOperator(normal(M, N, seed=3) / math.sqrt(M))
    prior = GaussianPrior(normal(N, seed=2), S2 * torch.eye(N, dtype=F64))

    def model() -> None:
        pyro.sample("y", channel(operator(pyro.sample("x", prior))))

    return read_problem(model, {"y": normal(M, seed=4) if y is None else y})


def on_the_way(p, kernel, k=30):
    """A state in the middle of the path, with its level, the next one and the denoised mean there."""
    prior = p.prior.with_diffusion(kernel.process(p.prior))
    schedule = kernel.sampler.schedule(prior)
    x = kernel.sampler.start(prior, schedule[k], Rng(5, draws=3, dtype=F64))
    state = PathState(x, schedule, k)
    return state, *state.levels, prior.denoise(x, schedule[k].t)


def splitting(a_mat, y, x0_hat, sigma, ratio, weight):
    """``argmin |y - A x|^2 + rho |x - x0_hat|^2`` with ``rho = lambda sigma^2 / ratio^2``."""
    rho = weight * sigma**2 / ratio**2
    left = a_mat.T @ a_mat + rho * np.eye(N)
    return np.linalg.solve(left, (a_mat.T @ y)[:, None] + rho * x0_hat.T).T


def in_released_coordinates(a_mat, y, x0_hat, sigma, ratio, weight):
    """The same in [0, 1] for images in [-1, 1], with the noise-to-signal ratio of the latter."""
    ones = a_mat @ np.ones(N)
    found = splitting(a_mat, (y + ones) / 2, (x0_hat + 1) / 2, sigma / 2, ratio, weight)
    return 2 * found - 1


@pytest.mark.parametrize("as_published", [False, True])
@pytest.mark.parametrize("weight", [1.0, 7.0])
def test_a_step_is_the_paper_s(weight, as_published):
    p = problem()
    kernel = DiffPIR(
        sampler=Renoise(steps=100, zeta=0.25, grid="root"), prior_weight=weight, as_published=as_published
    )
    state, now, then, x0_hat = on_the_way(p, kernel)
    moved, info = kernel.step(p, state, Rng(7, draws=3, dtype=F64))
    z = Rng(7, draws=3, dtype=F64).normal(N).numpy()
    rule = in_released_coordinates if as_published else splitting
    a, b = float(now.a), float(now.b)
    x = rule(p.operator.matrix.numpy(), p.y.numpy(), x0_hat.numpy(), NOISE, b / a, weight)
    eps = (state.x.numpy() - a * x) / b
    wanted = float(then.a) * x + float(then.b) * (math.sqrt(0.75) * eps + math.sqrt(0.25) * z)
    np.testing.assert_allclose(moved.x.numpy(), wanted, rtol=1e-9, atol=1e-9)
    assert torch.equal(info["nfe"], torch.ones(3, dtype=torch.int64))


def test_weight_one_is_the_posterior_mean_under_the_noise_of_the_level():
    p = problem()
    kernel = DiffPIR()
    state, now, _, x0_hat = on_the_way(p, kernel)
    prior = p.prior.with_diffusion(DDPM())
    found = kernel.condition(p, prior, state, Rng(0, draws=3, dtype=F64)).x0_hat.numpy()
    q, a_mat = float(now.b / now.a) ** 2, p.operator.matrix.numpy()
    precision = a_mat.T @ a_mat / NOISE**2 + np.eye(N) / q
    right = a_mat.T @ p.y.numpy() / NOISE**2 + x0_hat.numpy() / q
    np.testing.assert_allclose(found, np.linalg.solve(precision, right.T).T, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("steps", [20, 100])
def test_root_is_the_grid_of_the_released_code(steps):
    sequence = np.sqrt(np.linspace(0, 1000**2, steps)).astype(int)
    sequence[-1] -= 1
    index = 999 - sequence  # times count steps, so index i is time i + 1
    grid = root_grid(DDPM(), steps).numpy()
    assert grid[0] == 1000 and grid[-1] == 1 and (np.diff(grid) < 0).all()
    assert np.abs(grid - (index + 1)).max() <= 2  # rounding, and the end at 1 instead of 0


def test_nothing_renoised_is_deterministic_ddim():
    p = problem()
    prior = p.prior.with_diffusion(DDPM())
    schedule = DDIM(steps=10).schedule(prior)
    x = normal(4, N, seed=8)
    visit, none = Visit(x, prior.denoise(x, schedule[3].t), schedule[3]), torch.zeros((), dtype=F64)
    moved = [
        s.move(visit, None, schedule[4], none, Rng(0, draws=4, dtype=F64))
        for s in (DDIM(steps=10), Renoise(steps=10, zeta=0.0))
    ]
    torch.testing.assert_close(*moved, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("zeta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("drawn", [False, True])
def test_variance_of_a_renoised_gaussian(zeta, drawn):
    """From draws exact after 10 steps; from means (1 + sqrt(1 - zeta)) / 2 in the limit of many, up to 2 % at 400."""
    prior, draws = problem().prior.with_diffusion(DDPM()), 3000
    sampler = Renoise(steps=10 if drawn else 400, zeta=zeta)
    rng, noise = Rng(0, draws=draws, dtype=F64), Rng(1, draws=draws, dtype=F64)
    schedule = sampler.schedule(prior)
    x, none = sampler.start(prior, schedule[0], rng), torch.zeros((), dtype=F64)
    for k, level in enumerate(schedule[:-1]):
        x0_hat = prior.denoise(x, level.t)
        if drawn:
            q = level.ratio**2
            x0_hat = x0_hat + (S2 * q / (S2 + q)) ** 0.5 * noise.normal(N)
        x = sampler.move(Visit(x, x0_hat, level), None, schedule[k + 1], none, rng)
    wanted = 1.0 if drawn else (1 + math.sqrt(1 - zeta)) / 2
    error = (x.var(0).mean() / (S2 * wanted)).sqrt() - 1  # of one number from N x draws
    assert error.abs() < 4 / math.sqrt(2 * N * draws) + (0.0 if drawn else 0.02)


def errors(p, kernel, draws):
    """Largest error of the means in exact sds, and the ratios of the sds."""
    found = draw_block(p, kernel, 0, 0, 0, draws, seed=1).draws
    exact, _ = exact_posterior(p)
    sd = exact.variance.sqrt()
    return ((found.mean(0) - exact.mean) / sd).abs().max(), found.std(0) / sd


def test_error_on_a_white_gaussian_prior():
    """Sweeps with fresh noise come close; the published path is narrow as computed and keeps what high noise said."""
    draws = 2000
    mean, ratio = errors(
        problem(), DiffPIR(sampler=Renoise(steps=200, zeta=1.0, grid="root"), drawn=True), draws
    )
    assert mean < 4 / math.sqrt(draws) + 0.05
    assert (ratio - 1).abs().max() < 4 / math.sqrt(2 * draws) + 0.05
    mean, ratio = errors(problem(), DiffPIR(), draws)
    assert 0.1 < mean < 0.4 and 0.88 < ratio.min() and ratio.max() < 1.05
    _, ratio = errors(problem(), DiffPIR(sampler=Renoise(steps=200, zeta=1.0, grid="root")), draws)
    assert (ratio - math.sqrt(0.5)).abs().max() < 4 * math.sqrt(0.5) / math.sqrt(2 * draws) + 0.03


def test_a_draw_does_not_depend_on_its_neighbours_and_the_repr_can_be_typed_back():
    p = problem()
    for kernel in (DiffPIR(), DiffPIR(steps=20, prior_weight=7.0, as_published=True), DiffPIR(drawn=True)):
        assert eval(repr(kernel)) == kernel
        kernel.check(p)
        state, *_ = on_the_way(p, kernel, k=10)
        pushed = PathState(state.x.clone(), state.schedule, state.k)
        pushed.x[0] += 1e3
        one, two = (kernel.step(p, s, Rng(1, draws=3, dtype=F64))[0].x for s in (state, pushed))
        torch.testing.assert_close(one[1:], two[1:], rtol=1e-12, atol=1e-12)


class _Absolute(Operator):
    def forward(self, x):
        return x.abs()


def test_refusals():
    with pytest.raises(ModelError, match="needs a linear operator"):
        DiffPIR().check(problem(_Absolute((N,), (N,), dtype=F64), y=torch.ones(N, dtype=F64)))
    with pytest.raises(ModelError, match="DiffPIR needs a Gaussian channel; site 'y' has OneBit"):
        DiffPIR().check(problem(channel=lambda z: OneBit(z, NOISE), y=torch.ones(M, dtype=F64)))
    with pytest.raises(ValueError, match="expected prior_weight > 0"):
        DiffPIR(prior_weight=0.0)
    with pytest.raises(ValueError, match="Langevin is no transition"):
        DiffPIR(sampler=Langevin(), drawn=True)
    for wrong in ({"zeta": 1.5}, {"steps": 1}, {"grid": "quad"}):
        with pytest.raises(ValueError, match="Renoise: expected"):
            Renoise(**wrong)
