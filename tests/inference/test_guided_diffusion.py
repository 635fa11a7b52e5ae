"""GuidedDiffusion: exact where its denoising posterior is, the published methods as presets, what it refuses."""

import math

import pyro
import pytest
import torch

from bayes_ir.inference import (
    DDIM,
    DMPS,
    DPS,
    Ancestral,
    Exact,
    Flat,
    GuidedDiffusion,
    Isotropic,
    Langevin,
    Point,
    read_problem,
)
from bayes_ir.inference.rng import Rng
from bayes_ir.inference.run import draw_block
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
        denoising_posterior=Isotropic(with_jacobian=with_jacobian), sampler=DDIM(steps=400, eta=1.0)
    )
    found = draw_block(p, kernel, 0, 0, 0, draws, seed=1).draws
    error = (found.mean(0) - exact.mean(0)) / exact.std(0)
    assert error.abs().max() < 4 * math.sqrt(2 / draws) + 0.02  # Monte Carlo, and 0.02 for 400 steps
    assert (found.std(0) / exact.std(0) - 1).abs().max() < 4 / math.sqrt(draws) + 0.02


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
    found = draw_block(p, GuidedDiffusion(sampler=DDIM(steps=300, eta=1.0)), 0, 0, 0, 4000, seed=1).draws
    x = normal(40_000, 2, seed=5)
    kept = x[(x @ operator.matrix.T)[:, 0] + 0.2 * normal(40_000, seed=6) > 0]
    assert (found.mean(0) - kept.mean(0)).abs().max() < 4 / math.sqrt(4000) + 0.02
    assert (found.std(0) / kept.std(0) - 1).abs().max() < 4 / math.sqrt(4000) + 0.02


def test_flat_with_ancestral_steps_is_dmps():
    p = problem(white=False)
    preset = draw_block(p, DMPS(steps=30), 0, 0, 0, 5, seed=1).draws
    spelled = GuidedDiffusion(denoising_posterior=Flat(), sampler=Ancestral(steps=30))
    torch.testing.assert_close(draw_block(p, spelled, 0, 0, 0, 5, seed=1).draws, preset)


def test_point_is_dps_at_its_proper_weight():
    p = problem(white=False)
    one = DPS(steps=30, weight="likelihood")
    two = GuidedDiffusion(denoising_posterior=Point(), sampler=Ancestral(steps=30))
    states = [kernel.init(p, Rng(0, draws=4, dtype=F64)) for kernel in (one, two)]
    moved = [k.step(p, s, Rng(1, draws=4, dtype=F64))[0].x for k, s in zip((one, two), states, strict=True)]
    torch.testing.assert_close(moved[0], moved[1])


def test_isotropic_variance_is_that_of_the_white_prior():
    p = problem()
    a, b = DDPM().coefficients(torch.tensor(300.0, dtype=F64))
    exact = 1 / (1 / 0.6 + a**2 / b**2)
    torch.testing.assert_close(Isotropic().variance(p.prior, a, b), exact)


def test_steps():
    kernel = GuidedDiffusion(steps=7)
    assert kernel.length(problem()) == 7 and kernel.sampler == DDIM(steps=7, eta=1.0)
    with pytest.raises(ValueError, match="Langevin counts otherwise; leave steps out"):
        GuidedDiffusion(sampler=Langevin(), steps=7)
