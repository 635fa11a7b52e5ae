"""Linear elliptical slices: angles against brute force, chains from one corner and Exact against minimax tilting."""

import math

import numpy as np
import pyro
import pytest
import torch
from scipy.stats import kstest

from bayes_ir import simulate
from bayes_ir.analysis import sliced_wasserstein
from bayes_ir.inference import Exact, ModelError, read_problem
from bayes_ir.inference.exact import BoxPosterior, linear_elliptical_slice
from bayes_ir.inference.exact.linear_elliptical_slice import free_angle
from bayes_ir.inference.run import draw_block
from bayes_ir.models import DenseOperator, GaussianMixturePrior, GaussianPrior, OneBit, Quantized

F64 = torch.float64
INF = math.inf
SLICE = Exact(method="slice")


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def gaussian(n):
    root = normal(n, n, seed=1)
    return GaussianPrior(0.3 * normal(n, seed=2), root @ root.T / n + 0.1 * torch.eye(n, dtype=F64))


def mixture(n):
    roots = normal(3, n, n, seed=3)
    return GaussianMixturePrior(
        torch.tensor([0.2, 0.3, 0.5], dtype=F64),
        normal(3, n, seed=4),
        0.5 * roots @ roots.mT / n + 0.2 * torch.eye(n, dtype=F64),
    )


def one_bit(z):
    return OneBit(z, 0.3, 0.1)


def quantized(z):
    return Quantized(z, 0.3, bits=2, step=0.8)


def problem(prior, channel, m):
    operator = DenseOperator(normal(m, prior.event_shape[0], seed=5) / math.sqrt(m), dtype=F64)

    def model():
        pyro.sample("y", channel(operator(pyro.sample("x", prior))))

    return read_problem(model, {"y": simulate(model, seed=1)["y"]})


@pytest.mark.parametrize("kind", ["half-lines", "cells", "gaps", "free"])
def test_angles_are_uniform_where_the_ellipse_is_inside(kind):
    """Against the angles of a fine grid whose points lie in the box."""
    m = 4
    n, v = 0.3 * normal(m, seed=6).abs(), normal(m, seed=7)
    free_below, free_above = torch.full((m,), -INF, dtype=F64), torch.full((m,), INF, dtype=F64)
    low, high = {
        "half-lines": (torch.full((m,), -0.2, dtype=F64), free_above),
        "cells": (n - 0.5, n + 0.4),
        "gaps": (free_below, 0.9 * torch.hypot(n, v)),
        "free": (free_below, free_above),
    }[kind]
    low, high = torch.minimum(low, n - 0.01), torch.maximum(high, n + 0.01)
    grid = (torch.arange(400_000, dtype=F64) + 0.5) / 400_000 * 2 * math.pi
    points = n * grid[:, None].cos() + v * grid[:, None].sin()
    inside = ((points >= low) & (points <= high)).all(1)
    if kind == "gaps":
        assert int((inside[1:] != inside[:-1]).sum()) >= 4  # at least two arcs beside the first
    free = grid[inside].numpy()
    count = 4000
    uniform = torch.rand(count, generator=torch.Generator().manual_seed(0), dtype=F64)
    theta = free_angle(n.expand(count, m), v.expand(count, m), low, high, uniform)
    assert kstest(theta.numpy(), lambda t: np.searchsorted(free, t) / len(free)).pvalue > 1e-3
    at = n * theta[:, None].cos() + v * theta[:, None].sin()
    assert ((at >= low - 1e-12) & (at <= high + 1e-12)).all()


def test_a_point_on_the_border_of_its_cell_stays_inside():
    n, v = torch.zeros(500, 2, dtype=F64), normal(500, 2)
    low, high = torch.zeros(2, dtype=F64), torch.full((2,), INF, dtype=F64)
    uniform = torch.rand(500, generator=torch.Generator().manual_seed(1), dtype=F64)
    theta = free_angle(n, v, low, high, uniform)[:, None]
    assert (v * theta.sin() >= -1e-12).all()
    both = (v > 0).all(1)  # half of the turn is free
    assert both.any() and float((v * theta.sin())[both].mean()) > 0.3


@pytest.mark.parametrize("channel", [one_bit, quantized])
@pytest.mark.parametrize("prior", [gaussian(6), mixture(6)], ids=["gaussian", "mixture"])
def test_chains_forget_one_corner(prior, channel, monkeypatch):
    """All chains start at one point of component 0, far from the typical ones, and end as exact draws do."""

    def corner(self, count, tries, generator):
        inner = torch.where(self.lower.isfinite(), self.lower + 1e-3, self.upper - 1e-3)
        return inner.expand(count, -1).clone(), torch.zeros(count, dtype=torch.int64)

    monkeypatch.setattr(BoxPosterior, "near_draws", corner)
    p, draws = problem(prior, channel, 5), 1000
    exact, again = draw_block(p, Exact(), 0, 0, 0, 2 * draws, seed=1).draws.split(draws)
    floor = sliced_wasserstein(exact, again)
    block = draw_block(p, Exact(method="slice", burn_in=600), 0, 0, 0, draws, seed=2)
    rhat, ess = float(block.stats["rhat"][0]), float(block.stats["ess"][0])
    assert sliced_wasserstein(block.draws, exact) < 1.6 * floor
    spread = (block.draws.var(0) + exact.var(0)).div(draws).sqrt()
    assert ((block.draws.mean(0) - exact.mean(0)).abs() < 4 * spread).all()
    assert 1 < rhat < 1.5 and ess > 3 * draws
    monkeypatch.setattr(linear_elliptical_slice, "free_angle", lambda n, *_: 0.0 * n[:, 0])
    stuck = draw_block(p, Exact(method="slice", burn_in=20), 0, 0, 0, draws, seed=2).draws
    assert sliced_wasserstein(stuck, exact) > 2.5 * floor


def test_slice_and_tilting_agree():
    """From starts near draws; N = 8, M = 20."""
    p, draws = problem(gaussian(8), lambda z: OneBit(z, 0.1), 20), 600
    block = draw_block(p, Exact(), 0, 0, 0, 2 * draws, seed=1)
    exact, again = block.draws.split(draws)
    assert float(block.stats["acceptance_rate"][0]) < 0.5
    drawn = draw_block(p, SLICE, 0, 0, 0, draws, seed=2).draws
    floor = sliced_wasserstein(exact, again)
    assert sliced_wasserstein(drawn, exact) < 1.6 * floor


def test_more_measurements_than_tilting_takes():
    p = problem(gaussian(4), one_bit, 101)
    with pytest.raises(ModelError, match=r"at most 100 measurements.*Exact\(method='slice'\)"):
        Exact().check(p)
    kernel = Exact(method="slice", burn_in=60)
    kernel.check(p)
    block = draw_block(p, kernel, 0, 0, 0, 20, seed=1)
    assert block.draws.shape == (20, 4) and block.draws.isfinite().all()
    rhat, ess, unmixed = (block.stats[name] for name in ("rhat", "ess", "unmixed"))
    assert rhat.shape == (20,) and len(rhat.unique()) == 1 and len(ess.unique()) == 1
    assert float(rhat[0]) > 1.1 and unmixed.tolist() == [1] * 20  # sixty moves are far too few


def test_draws_are_a_function_of_the_block():
    p, kernel = problem(mixture(5), one_bit, 4), Exact(method="slice", burn_in=40)
    one = draw_block(p, kernel, 0, 1, 4, 6, seed=3).draws
    state = torch.random.get_rng_state()
    np.random.seed(1)
    assert torch.equal(one, draw_block(p, kernel, 0, 1, 4, 6, seed=3).draws)
    assert torch.equal(state, torch.random.get_rng_state())
    assert len(one.unique(dim=0)) == 6
    assert not torch.equal(one, draw_block(p, kernel, 0, 2, 4, 6, seed=3).draws)
    single = draw_block(p.to(dtype=torch.float32), kernel, 0, 1, 4, 6, seed=3).draws
    assert single.dtype == torch.float32


def test_settings():
    kernel = Exact(method="slice", burn_in=500)
    assert eval(repr(kernel)) == kernel
    assert Exact().serving(problem(gaussian(4), one_bit, 3)) == "tilting"
    for settings, words in (
        ({"method": "gibbs"}, "expected one of auto, closed form, tilting, slice, nuts"),
        ({"burn_in": 5}, "burn_in is 5; expected a whole number of at least 20"),
        ({"thinning": 0}, "thinning is 0"),
        ({"chains": 1.5}, "chains is 1.5"),
    ):
        with pytest.raises(ValueError, match=words):
            Exact(**settings)
