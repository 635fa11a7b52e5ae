"""GuidedDiffusion: exact where its denoising posterior is, the published methods as presets, what it refuses."""

import math
from dataclasses import replace

import pyro
import pytest
import torch

from bayes_ir.inference import (
    DDIM,
    DMPS,
    DPS,
    Ancestral,
    Calibrated,
    Exact,
    Flat,
    GuidedDiffusion,
    Isotropic,
    Langevin,
    Point,
    Tweedie,
    exact_posterior,
    read_problem,
)
from bayes_ir.inference.rng import Rng
from bayes_ir.inference.run import draw_block
from bayes_ir.inference.samplers import Level
from bayes_ir.models import DDPM, DenseOperator, Gaussian, GaussianPrior, OneBit

F64 = torch.float64
N, M, NOISE = 6, 3, 0.3


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def problem(channel=lambda z: Gaussian(z, NOISE), white: bool = True, y: torch.Tensor | None = None):
    root = normal(N, N, seed=1)
    covariance = 0.6 * torch.eye(N, dtype=F64) if white else root @ root.T / N + 0.2 * torch.eye(N, dtype=F64)
    prior = GaussianPrior(normal(N, seed=2), covariance)
    operator = DenseOperator(normal(M, N, seed=3) / math.sqrt(M))

    def model() -> None:
        pyro.sample("y", channel(operator(pyro.sample("x", prior))))

    return read_problem(model, {"y": normal(M, seed=4) if y is None else y})


@pytest.mark.parametrize("with_jacobian", [False, True])
def test_exact_for_a_white_gaussian_prior(with_jacobian):
    """There the denoising posterior is exact, so that only the steps and the number of draws are left."""
    p, draws = problem(), 4000
    exact = draw_block(p, Exact(), 0, 0, 0, draws, seed=9).draws
    kernel = GuidedDiffusion(
        denoising_posterior=Isotropic(with_jacobian=with_jacobian),
        sampler=DDIM(steps=400, eta=1.0),
        drawn=False,
    )
    found = draw_block(p, kernel, 0, 0, 0, draws, seed=1).draws
    error = (found.mean(0) - exact.mean(0)) / exact.std(0)
    assert error.abs().max() < 4 * math.sqrt(2 / draws) + 0.02  # Monte Carlo, and 0.02 for 400 steps
    assert (found.std(0) / exact.std(0) - 1).abs().max() < 4 / math.sqrt(draws) + 0.02


@pytest.mark.parametrize("posterior", [Calibrated(), Tweedie(), Calibrated(with_jacobian=True)], ids=repr)
@pytest.mark.parametrize("steps", [2, 5])
def test_moving_from_draws_is_exact_after_any_number_of_steps(posterior, steps):
    """Correlated Gaussian prior: p(x_0 | x_t, y) is Gaussian, so that only the start of the path is approximate.

    The path starts from the prior's own law at ten times its largest standard deviation and forgets it like the
    square of the noise: 1 % of a standard deviation.
    """
    p, draws = problem(white=False), 4000
    exact, _ = exact_posterior(p)
    kernel = GuidedDiffusion(denoising_posterior=posterior, sampler=Ancestral(steps=steps, grid="karras"))
    found = draw_block(p, kernel, 0, 0, 0, draws, seed=1).draws
    sd = exact.variance.sqrt()
    assert ((found.mean(0) - exact.mean) / sd).abs().max() < 4 / math.sqrt(draws) + 0.01
    assert (found.std(0) / sd - 1).abs().max() < 4 / math.sqrt(2 * draws) + 0.01
    # the same path moved from means is far too narrow: the test can fail
    narrow = draw_block(p, replace(kernel, drawn=False), 0, 0, 0, draws, seed=1).draws
    assert (narrow.std(0) / sd).max() < 0.8


@pytest.mark.parametrize("posterior", [Calibrated(), Calibrated(with_jacobian=True), Tweedie()], ids=repr)
def test_on_a_gaussian_prior_calibrated_is_tweedie_is_the_exact_conditional_mean(posterior):
    p = problem(white=False)
    kernel = GuidedDiffusion(denoising_posterior=posterior)
    state = kernel.init(p, Rng(0, draws=3, dtype=F64))
    for _ in range(12):
        state, _ = kernel.step(p, state, Rng(0, draws=3, dtype=F64))
    prior, level = p.prior.with_diffusion(kernel.process(p.prior)), state.levels[0]
    found = kernel.condition(p, prior, state, Rng(0, draws=3, dtype=F64)).x0_hat
    # x_0 given x_t and y: two linear measurements of a Gaussian, in plain linear algebra.
    covariance, a = p.prior.components.covariance_matrix, p.operator.to_matrix()
    eye = torch.eye(N, dtype=F64)
    precision = torch.linalg.inv(covariance) + a.T @ a / NOISE**2 + level.a**2 / level.b**2 * eye
    shift = torch.linalg.solve(covariance, p.prior.mean) + a.T @ p.y / NOISE**2
    exact = torch.linalg.solve(precision, (shift + level.a / level.b**2 * state.x).T).T
    torch.testing.assert_close(
        found, exact, rtol=2e-4, atol=2e-4
    )  # the variances are interpolated between levels


def test_the_spread_is_what_y_leaves_open():
    """20,000 draws of N(0, V_y) under one-bit data: V - V A^T (K + T^-1)^-1 A V to 4 standard errors."""
    p = problem(lambda z: OneBit(z, NOISE), white=False, y=torch.tensor([1.0, -1.0, 1.0], dtype=F64))
    draws, kernel = 20_000, GuidedDiffusion(per_site=True)
    one, rng = kernel.init(p, Rng(0, draws=1, dtype=F64)), Rng(1, draws=draws, dtype=F64)
    state = replace(one, x=one.x.expand(draws, -1), k=20)
    prior = p.prior.with_diffusion(kernel.process(p.prior))
    found = kernel.condition(p, prior, state, rng)
    e = found.spread(rng)
    v = Calibrated().covariance(prior, state.levels[0])
    matrix, a = v(torch.eye(N, dtype=F64)), p.operator.to_matrix()
    tau = found.memory.tau[0] / NOISE**2
    wanted = matrix - matrix @ a.T @ torch.linalg.solve(a @ matrix @ a.T + torch.diag(1 / tau), a @ matrix)
    size = torch.outer(wanted.diagonal(), wanted.diagonal()).sqrt()
    assert ((e.T @ e / draws - wanted) / size).abs().max() < 4 * math.sqrt(2 / draws)


def test_tweedie_under_one_bit_data_agrees_with_the_calibrated_covariance():
    p = problem(lambda z: OneBit(z, NOISE), white=False, y=torch.tensor([1.0, -1.0, 1.0], dtype=F64))
    one, two = (GuidedDiffusion(denoising_posterior=d, steps=8) for d in (Tweedie(), Calibrated()))
    found = []
    for kernel in (one, two):
        state = replace(kernel.init(p, Rng(0, draws=4, dtype=F64)), k=4)
        found.append(
            kernel.condition(
                p, p.prior.with_diffusion(kernel.process(p.prior)), state, Rng(0, draws=4)
            ).x0_hat
        )
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-3)


def test_both_gains_agree_where_the_variance_is_exact():
    p = problem()
    one, two = (
        draw_block(
            p, GuidedDiffusion(denoising_posterior=Isotropic(with_jacobian=j), steps=50), 0, 0, 0, 5, seed=1
        )
        for j in (False, True)
    )
    torch.testing.assert_close(one.draws, two.draws, rtol=1e-6, atol=1e-6)


def test_expectation_propagation_is_exact_for_one_measurement():
    """One-bit data of a single measurement: the draws against rejection from the prior."""
    operator = DenseOperator(torch.tensor([[1.0, 0.5]], dtype=F64))
    prior = GaussianPrior(torch.zeros(2, dtype=F64), torch.eye(2, dtype=F64))

    def model() -> None:
        pyro.sample("y", OneBit(operator(pyro.sample("x", prior)), 0.2))

    p = read_problem(model, {"y": torch.ones(1, dtype=F64)})
    found = draw_block(
        p, GuidedDiffusion(sampler=Ancestral(steps=64, grid="karras")), 0, 0, 0, 4000, seed=1
    ).draws
    x = normal(40_000, 2, seed=5)
    kept = x[(x @ operator.matrix.T)[:, 0] + 0.2 * normal(40_000, seed=6) > 0]
    assert (found.mean(0) - kept.mean(0)).abs().max() < 4 / math.sqrt(4000) + 0.02
    assert (found.std(0) / kept.std(0) - 1).abs().max() < 4 / math.sqrt(4000) + 0.02


def test_flat_with_ancestral_steps_is_dmps():
    p = problem(white=False)
    preset = draw_block(p, DMPS(steps=30), 0, 0, 0, 5, seed=1).draws
    spelled = GuidedDiffusion(denoising_posterior=Flat(), sampler=Ancestral(steps=30), drawn=False)
    torch.testing.assert_close(draw_block(p, spelled, 0, 0, 0, 5, seed=1).draws, preset)


def test_point_is_dps_at_its_proper_weight():
    p = problem(white=False)
    one = DPS(steps=30, weight="likelihood")
    two = GuidedDiffusion(denoising_posterior=Point(), sampler=Ancestral(steps=30), drawn=False)
    states = [kernel.init(p, Rng(0, draws=4, dtype=F64)) for kernel in (one, two)]
    moved = [k.step(p, s, Rng(1, draws=4, dtype=F64))[0].x for k, s in zip((one, two), states, strict=True)]
    torch.testing.assert_close(moved[0], moved[1])


def test_isotropic_variance_is_that_of_the_white_prior():
    p = problem()
    a, b = map(float, DDPM().coefficients(300.0))
    exact = 1 / (1 / 0.6 + a**2 / b**2)
    assert Isotropic().covariance(p.prior, Level(300.0, a, b)).variance == pytest.approx(exact, rel=1e-12)


def test_steps():
    kernel = GuidedDiffusion(steps=7)
    assert kernel.length(problem()) == 7 and kernel.sampler == Ancestral(steps=7, grid="karras")
    with pytest.raises(ValueError, match="Langevin counts otherwise; leave steps out"):
        GuidedDiffusion(sampler=Langevin(), steps=7, drawn=False)
    with pytest.raises(ValueError, match=r"Langevin is no transition.*set drawn=False"):
        GuidedDiffusion(sampler=Langevin())
