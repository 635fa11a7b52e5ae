"""NUTS as the exact kernel: against the closed form and grids, its determinism and its refusals."""

import math

import pyro
import pytest
import torch

from bayes_ir import simulate
from bayes_ir.inference import Exact, ModelError, read_problem
from bayes_ir.inference.exact import exact_posterior, pyro_nuts
from bayes_ir.inference.run import draw_block
from bayes_ir.models import (
    DenseOperator,
    Gaussian,
    GaussianMixturePrior,
    GaussianPrior,
    NetworkPrior,
    OneBit,
    Operator,
    Poisson,
    VarianceExploding,
)

F64 = torch.float64
DRAWS = 100
NUTS = Exact(method="nuts", burn_in=60, chains=2, thinning=2)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def gaussian(n):
    root = normal(n, n, seed=1)
    return GaussianPrior(0.3 * normal(n, seed=2), root @ root.T / n + 0.1 * torch.eye(n, dtype=F64))


MIXTURE = GaussianMixturePrior(
    torch.tensor([0.6, 0.4], dtype=F64),
    torch.tensor([[0.2, 0.5], [1.4, 0.3]], dtype=F64),
    torch.tensor([[[0.5, 0.2], [0.2, 0.4]], [[0.3, 0.0], [0.0, 0.8]]], dtype=F64),
)


class _Saturating(Operator):
    """``tanh(B x)``, differentiable and not linear."""

    def forward(self, x):
        return (x @ normal(3, 2, seed=4).to(x).T).tanh()


class _Halves(torch.nn.Module):
    def forward(self, x_t, a, b):
        return x_t / 2


class _Signs(Operator):
    differentiable = False

    def forward(self, x):
        return x.sign()


def problem(prior, operator, channel, seed=1):
    def model():
        pyro.sample("y", channel(operator(pyro.sample("x", prior))))

    return read_problem(model, {"y": simulate(model, seed=seed)["y"]})


def assert_mean(draws, mean, ess):
    """Within 4 standard errors, for as many independent draws as the chains are worth, but no more than there are."""
    error = draws.std(0) / math.sqrt(min(float(ess), len(draws)))
    assert ((draws.mean(0) - mean).abs() < 4 * error).all()


def test_against_the_closed_form():
    p = problem(gaussian(2), DenseOperator(normal(2, 2, seed=3), dtype=F64), lambda z: Gaussian(z, 0.6))
    block = draw_block(p, NUTS, 0, 0, 0, DRAWS, seed=1)
    law, _ = exact_posterior(p)
    stats = {name: float(block.stats[name][0]) for name in ("rhat", "ess", "unmixed", "nfe")}
    assert stats["rhat"] < 1.1 and stats["ess"] > DRAWS / 3 and stats["nfe"] == 0
    assert stats["unmixed"] == (stats["rhat"] > 1.01)
    x, covariance = block.draws, law.covariance_matrix
    assert_mean(x, law.mean, stats["ess"])
    centred = x - law.mean
    products = centred[:, :, None] * centred[:, None, :]
    assert_mean(products.flatten(1), covariance.flatten(), stats["ess"])


@pytest.mark.parametrize("name", ["Poisson", "saturating"])
def test_a_mixture_in_two_dimensions_against_a_grid(name):
    linear = DenseOperator(normal(3, 2, seed=4), dtype=F64)
    operator, channel = {
        "Poisson": (linear, lambda z: Poisson(z, peak=5.0, background=1.0, black=-1.0)),
        "saturating": (_Saturating((2,), (3,), dtype=F64), lambda z: OneBit(z, 0.3)),
    }[name]
    p = problem(MIXTURE, operator, channel)
    axis = torch.linspace(-4.98, 5.98, 275, dtype=F64)
    grid = torch.cartesian_prod(axis, axis)
    weight = (MIXTURE.log_prob(grid) + p.log_likelihood(grid).sum(-1)).softmax(0)
    block = draw_block(p, NUTS, 0, 0, 0, DRAWS, seed=2)
    assert float(block.stats["rhat"][0]) < 1.1
    for power in (lambda x: x, lambda x: x**2, lambda x: x.prod(1, keepdim=True)):
        assert_mean(power(block.draws), weight @ power(grid), block.stats["ess"][0])
    prior = MIXTURE.mean
    assert ((weight @ grid - prior).abs() > 0.1).any()  # the data do say something


def test_draws_are_a_function_of_the_block(monkeypatch):
    monkeypatch.setattr(pyro_nuts, "_FEWEST", 10)
    kernel = Exact(method="nuts", burn_in=20, chains=2, thinning=3)
    p = problem(gaussian(1), DenseOperator(normal(2, 1), dtype=F64), lambda z: Gaussian(z, 1.0))
    one = draw_block(p, kernel, 0, 0, 0, 6, seed=3).draws
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    again = draw_block(p.to(dtype=torch.float32), kernel, 0, 0, 0, 6, seed=3).draws
    assert torch.equal(state, torch.random.get_rng_state())
    assert again.dtype == torch.float32 and again.shape == (6, 1)
    assert torch.equal(one, draw_block(p, kernel, 0, 0, 0, 6, seed=3).draws)
    assert not torch.equal(one, draw_block(p, kernel, 0, 1, 6, 6, seed=3).draws)
    assert len(one.unique(dim=0)) > 2  # the two chains differ, and move


def test_chains_in_modes_that_they_do_not_leave_are_reported(monkeypatch):
    monkeypatch.setattr(pyro_nuts, "_FEWEST", 20)

    class Square(Operator):
        def forward(self, x):
            return x**2

    prior = GaussianPrior(torch.zeros(1, dtype=F64), torch.ones(1, 1, dtype=F64))
    p = problem(prior, Square((1,), (1,), dtype=F64), lambda z: Gaussian(z, 0.1), seed=3)
    block = draw_block(p, Exact(method="nuts", burn_in=40, chains=6, thinning=1), 0, 0, 0, 12, seed=1)
    assert float(block.stats["rhat"][0]) > 2 and block.stats["unmixed"].tolist() == [1] * 12


def test_refusals():
    def dense(n):
        return DenseOperator(normal(2, n), dtype=F64)

    def law(z):
        return Gaussian(z, 0.3)

    kernel = Exact(method="nuts")
    learned = NetworkPrior(_Halves(), VarianceExploding(), (2,))
    with pytest.raises(ModelError, match="NetworkPrior has that of its probability flow"):
        kernel.check(problem(learned, DenseOperator(normal(2, 2).float()), law))
    with pytest.raises(ModelError, match="takes images of at most 200 values, and site 'x' has 201"):
        kernel.check(problem(gaussian(201), dense(201), law))
    with pytest.raises(ModelError, match="has none that means anything"):
        kernel.check(problem(gaussian(2), _Signs((2,), (2,), dtype=F64), law))
    flat = GaussianPrior(torch.zeros(2, dtype=F64), torch.diag(torch.tensor([1.0, 0.0], dtype=F64)))
    with pytest.raises(ModelError, match="covariance of this one is singular"):
        kernel.check(problem(flat, dense(2), law))
    counts = problem(gaussian(3), dense(3), lambda z: Poisson(z, peak=5.0, background=1.0))
    kernel.check(counts)
    with pytest.raises(ModelError, match="Gaussian channel"):
        Exact().check(counts)  # auto never takes a Markov chain
