"""Kernels against exact posteriors: small versions of benchmarks/sampler_accuracy.py."""

import pyro
import torch

from bayes_ir import simulate
from bayes_ir.analysis import sliced_wasserstein
from bayes_ir.inference import AnnealedLangevin, Exact, QCSSGMPlus, read_problem
from bayes_ir.inference.exact.truncated_gibbs import truncated_gaussian_gibbs
from bayes_ir.inference.run import draw_block
from bayes_ir.models import DenseOperator, Gaussian, GaussianPrior, OneBit

F64 = torch.float64
DRAWS = 500


def _problem(measurements, channel):
    rng = torch.Generator().manual_seed(0)
    root = torch.randn(4, 4, generator=rng, dtype=F64)
    prior = GaussianPrior(torch.zeros(4, dtype=F64), root @ root.T / 4 + 0.1 * torch.eye(4, dtype=F64))
    operator = DenseOperator(torch.randn(measurements, 4, generator=rng, dtype=F64), dtype=F64)

    def model():
        x = pyro.sample("x", prior)
        pyro.sample("y", channel(operator(x)))

    return read_problem(model, {"y": simulate(model, seed=1)["y"]})


def test_annealed_langevin_under_a_gaussian_channel():
    problem = _problem(2, lambda z: Gaussian(z, 0.3))
    exact, again = (draw_block(problem, Exact(), 0, 0, 0, DRAWS, seed=s).draws for s in (1, 2))
    draws = draw_block(problem, AnnealedLangevin(levels=200), 0, 0, 0, DRAWS, seed=0).draws
    floor = sliced_wasserstein(exact, again)
    assert sliced_wasserstein(draws, exact) < 2 * floor
    # the prior alone is far outside: the test can fail
    prior = problem.prior.components.transport(
        torch.zeros(DRAWS, dtype=F64),
        torch.randn(DRAWS, 4, generator=torch.Generator().manual_seed(3), dtype=F64),
    )
    assert sliced_wasserstein(prior, exact) > 5 * floor


def test_qcs_sgm_plus_under_a_one_bit_channel():
    problem = _problem(8, lambda z: OneBit(z, 0.3))
    a = problem.operator.to_matrix()
    c = problem.prior.components
    covariance = (c.basis[0] * c.variances[0]) @ c.basis[0].T
    s = a @ covariance @ a.T + 0.3**2 * torch.eye(8, dtype=F64)
    latent = truncated_gaussian_gibbs(
        torch.zeros(8, dtype=F64),
        s,
        torch.where(problem.y > 0, 0.0, -torch.inf).to(F64),
        torch.where(problem.y > 0, torch.inf, 0.0).to(F64),
        chains=2 * DRAWS,
        sweeps=0,
        burn_in=100,
        seed=0,
    ).z
    gain = torch.linalg.solve(s, a @ covariance).T
    factor = torch.linalg.cholesky(covariance - gain @ a @ covariance)
    noise = torch.randn(2 * DRAWS, 4, generator=torch.Generator().manual_seed(1), dtype=F64)
    exact = latent @ gain.T + noise @ factor.T
    floor = sliced_wasserstein(exact[:DRAWS], exact[DRAWS:])
    kernel = QCSSGMPlus(levels=200, steps_per_level=3, tolerance=1e-2)
    draws = draw_block(problem, kernel, 0, 0, 0, DRAWS, seed=0).draws
    assert sliced_wasserstein(draws, exact[:DRAWS]) < 2 * floor
