"""DPS: its guidance against the Jacobian written out, and what it does with an operator that is not linear."""

import pyro
import pytest
import torch

from bayes_ir.inference import DMPS, DPS, Exact, ModelError, QCSSGMPlus, read_problem
from bayes_ir.inference.rng import Rng
from bayes_ir.inference.run import draw_block
from bayes_ir.inference.samplers import Visit
from bayes_ir.models import DenseOperator, Gaussian, GaussianPrior, OneBit, Operator

F64 = torch.float64
N, M, NOISE = 5, 3, 0.4


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


class _Absolute(Operator):
    """z = |x|: what is left of a signal without its sign."""

    def forward(self, x):
        return x.abs()


def prior() -> GaussianPrior:
    root = normal(N, N, seed=1)
    return GaussianPrior(normal(N, seed=2), root @ root.T / N + 0.2 * torch.eye(N, dtype=F64))


def problem(operator: Operator, y: torch.Tensor, channel=lambda z: Gaussian(z, NOISE)):
    def model() -> None:
        pyro.sample("y", channel(operator(pyro.sample("x", prior()))))

    return read_problem(model, {"y": y})


def matrix() -> DenseOperator:
    return DenseOperator(normal(M, N, seed=3))


@pytest.mark.parametrize("weight", ["published", "likelihood"])
def test_guidance_is_the_jacobian_transposed(weight):
    p = problem(matrix(), normal(M, seed=4))
    kernel = DPS(steps=50, weight=weight)
    state = kernel.init(p, Rng(0, draws=4, dtype=F64))
    state = state.moved(state.x)
    now, then = state.levels
    moved, info = kernel.step(p, state, Rng(7, draws=4, dtype=F64))
    assert torch.equal(info["nfe"], torch.ones(4, dtype=torch.int64))
    denoise = p.prior.with_diffusion(kernel.process(p.prior)).denoise
    wanted = []
    for x in state.x:
        jacobian = torch.autograd.functional.jacobian(lambda v: denoise(v, now.t), x)
        residual = p.y - p.operator(denoise(x, now.t))
        pulled = jacobian.T @ p.operator.adjoint(residual)
        wanted.append(pulled / residual.norm() if weight == "published" else pulled / NOISE**2)
    guidance = torch.stack(wanted)
    x0_hat, extra = denoise(state.x, now.t), torch.zeros(())
    if weight == "likelihood":
        x0_hat = x0_hat + now.b**2 / now.a * guidance
    else:
        extra = kernel.zeta * guidance
    visit = Visit(state.x, x0_hat, now)
    plain = kernel.sampler.move(visit, None, then, 0.0, Rng(7, draws=4, dtype=F64))
    torch.testing.assert_close(moved.x, plain + extra, rtol=1e-9, atol=1e-9)


def test_guided_draws_fit_the_data_and_are_not_the_posterior():
    p = problem(matrix(), normal(M, seed=4))
    exact = draw_block(p, Exact(), 0, 0, 0, 2000, seed=1).draws
    draws = draw_block(p, DPS(steps=200, weight="likelihood"), 0, 0, 0, 2000, seed=1).draws
    error = ((draws.mean(0) - exact.mean(0)) / exact.std(0)).square().mean().sqrt()
    prior_error = ((p.prior.mean - exact.mean(0)) / exact.std(0)).square().mean().sqrt()
    assert error < 0.5 * prior_error  # guided towards y
    assert (draws.std(0) / exact.std(0)).min() < 0.95  # but too narrow: the Jensen approximation


def test_an_operator_that_is_not_linear():
    truth = prior().mean + 0.5
    p = problem(_Absolute((N,), (N,), dtype=F64), truth.abs())
    guided = draw_block(p, DPS(steps=200), 0, 0, 0, 200, seed=1).draws
    free = p.prior.sample(torch.Size([200]))
    misfit = [(x.abs() - truth.abs()).norm(dim=1).median() for x in (guided, free)]
    assert guided.isfinite().all() and misfit[0] < 0.5 * misfit[1]
    for kernel in (DMPS(), QCSSGMPlus()):
        with pytest.raises(ModelError, match=r"needs a linear operator.*use DPS"):
            kernel.check(p)
    with pytest.raises(ModelError, match="needs a linear operator"):
        Exact().check(p)


def test_refusals():
    with pytest.raises(ModelError, match="needs a Gaussian or Poisson channel; site 'y' has OneBit"):
        DPS().check(problem(matrix(), torch.ones(M, dtype=F64), lambda z: OneBit(z, NOISE)))
    for wrong in ({"steps": 0}, {"zeta": 0.0}, {"weight": "bayes"}):
        with pytest.raises(ValueError, match="expected steps >= 2, zeta > 0 and weight"):
            DPS(**wrong)
