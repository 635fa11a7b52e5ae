"""Samplers: order of convergence, laws they reproduce, evaluations they make, what they refuse."""

import math
from itertools import pairwise

import pytest
import torch

from bayes_ir.inference.rng import Rng
from bayes_ir.inference.samplers import (
    FlowODE,
    Multistep,
    PredictorCorrector,
    ProbabilityFlow,
    ReverseSDE,
    TransitionSampler,
    Visit,
)
from bayes_ir.models import DDPM, GaussianPrior, RectifiedFlow, VarianceExploding, VariancePreserving

F64 = torch.float64
NONE = torch.zeros((), dtype=F64)
PROCESSES = [VarianceExploding(0.01, 30.0), VariancePreserving(), DDPM(), RectifiedFlow()]
EACH = [
    ReverseSDE(steps=9),
    ProbabilityFlow(steps=9),
    ProbabilityFlow(steps=9, grid="geometric", method="euler"),
    FlowODE(steps=9),
    Multistep(steps=9),
    Multistep(steps=9, eta=1.0),
    PredictorCorrector(steps=3, grid="karras", corrector_steps=2),
    PredictorCorrector(steps=3, corrector_steps=2, corrector="published"),
]


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def gaussian(n=3, seed=0):
    root = normal(n, n, seed=seed)
    return GaussianPrior(normal(n, seed=seed + 1), root @ root.T / n + 0.1 * torch.eye(n, dtype=F64))


def walk(sampler, prior, x, levels, rng):
    """All visits of a path, and the state it ends in."""
    visits = []
    for now, then in pairwise(levels):
        visits.append(Visit(x, prior.denoise(x, now.t), now))
        x = sampler.move(visits[-1], visits[-2] if len(visits) > 1 else None, then, NONE, rng)
    return visits, x


class Impulses:
    """Noise that is 0 but for row k + 2, which is 1 at the k-th request."""

    def __init__(self, rows):
        self.rows, self.hot = rows, 1

    def normal(self, *shape):
        self.hot += 1
        z = torch.zeros(self.rows, *shape, dtype=F64)
        z[self.hot] = 1
        return z


def errors(sampler, noisy=False):
    """Exact error of the sd at the lowest level, relative, and of the mean in units of the sd.

    For a Gaussian prior of diagonal covariance a path is affine in its start and its noise, coordinate by coordinate:
    one row without either, one with a start of 1 and one for each noise give the whole law.
    """
    prior = GaussianPrior(normal(4), torch.diag(torch.tensor([1e-3, 0.03, 1.0, 10.0], dtype=F64)))
    prior = prior.with_diffusion(sampler.process(prior))
    levels = sampler.schedule(prior)[:-1]
    x = torch.zeros(len(levels) + 1 if noisy else 2, 4, dtype=F64)
    x[1] = 1
    _, x = walk(sampler, prior, x, levels, Impulses(len(x)))
    first, last = levels[0], levels[-1]
    mean = x[0] + (x[1] - x[0]) * first.a * prior.mean
    variance = (x[1] - x[0]) ** 2 * (first.a**2 * prior.variance + first.b**2) + ((x[2:] - x[0]) ** 2).sum(0)
    sd = (last.a**2 * prior.variance + last.b**2).sqrt()
    return variance.sqrt() / sd - 1, (mean - last.a * prior.mean) / sd


ORDERS = [
    (1, True, lambda n: ReverseSDE(steps=n, grid="geometric")),
    (1, False, lambda n: ProbabilityFlow(steps=n, method="euler")),
    (1, False, lambda n: FlowODE(steps=n, method="euler")),
    (2, False, lambda n: ProbabilityFlow(steps=2 * n - 1)),
    (2, False, lambda n: ProbabilityFlow(steps=2 * n - 1, grid="geometric")),
    (2, False, lambda n: FlowODE(steps=2 * n - 1)),
    (2, False, lambda n: Multistep(steps=n)),
    (2, True, lambda n: Multistep(steps=n, eta=0.5)),
    (2, True, lambda n: Multistep(steps=n, eta=1.0)),
]


@pytest.mark.parametrize(("order", "noisy", "build"), ORDERS)
def test_order_of_convergence(order, noisy, build):
    """The sd against the exact one, halving the steps; without noise this is the flow map itself."""
    coarse, fine = (errors(build(n), noisy)[0].abs().max() for n in (150, 300))
    assert math.log2(coarse / fine) == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize("process", PROCESSES, ids=repr)
@pytest.mark.parametrize(
    "sampler",
    [
        ReverseSDE(steps=300),
        ProbabilityFlow(steps=99, grid="uniform"),
        FlowODE(steps=99),
        Multistep(steps=100, grid="uniform"),
        Multistep(steps=100, eta=1.0, grid="quadratic"),
        PredictorCorrector(steps=150),
    ],
    ids=repr,
)
def test_samplers_reproduce_a_gaussian_prior(sampler, process):
    """2,000 draws: standard errors of mean and sd are 2.2 % and 1.6 % of the sd; four, and 3 % for the steps."""
    prior = gaussian(seed=4).with_diffusion(process)
    rng, levels = Rng(0, draws=2000, dtype=F64), sampler.schedule(prior)
    _, x = walk(sampler, prior, sampler.start(prior, levels[0], rng), levels, rng)
    sd = prior.variance.sqrt()
    assert ((x.mean(0) - prior.mean) / sd).abs().max() < 0.09
    assert (x.std(0) / sd - 1).abs().max() < 0.065 + 0.03


def test_corrector_brings_the_law_back():
    """It narrows the predictor's draws, and inflates the sd by ``r^2 / 2`` at most (0.4 % more for the steps)."""
    settings = {"grid": "geometric", "steps": 25}
    plain, _ = errors(ReverseSDE(**settings), noisy=True)
    few, _ = errors(PredictorCorrector(**settings, corrector_steps=4), noisy=True)
    many, mean = errors(PredictorCorrector(**settings, corrector_steps=40), noisy=True)
    assert few.abs().max() < 0.6 * plain.abs().max()
    assert mean.abs().max() < 1e-6 and 0 < many.min() and many.max() < 0.16**2 / 2 + 0.004


def test_published_corrector_is_for_many_dimensions():
    ratio = {}
    for n in (3, 400):
        prior = GaussianPrior(torch.zeros(n, dtype=F64), torch.eye(n, dtype=F64))
        for rule in ("published", "curvature"):
            sampler = PredictorCorrector(steps=60, grid="karras", corrector=rule)
            rng, levels = Rng(0, draws=4 * 400 // n, dtype=F64), sampler.schedule(prior)
            _, x = walk(sampler, prior, sampler.start(prior, levels[0], rng), levels, rng)
            ratio[n, rule] = float(x.square().mean().sqrt())
    assert ratio[3, "published"] > 1.2 * ratio[3, "curvature"]
    assert ratio[400, "published"] == pytest.approx(ratio[400, "curvature"], rel=0.05)


@pytest.mark.parametrize("sampler", EACH, ids=repr)
def test_contract(sampler):
    assert eval(repr(sampler), globals()) == sampler and not isinstance(sampler, TransitionSampler)
    prior = gaussian()
    prior = prior.with_diffusion(sampler.process(prior))
    levels = sampler.schedule(prior)
    assert len(sampler.times(prior)) == len(levels) - 1 == 9
    x = normal(4, 3, seed=3)
    pushed = x.clone()
    pushed[0] += 1e3
    (visits, found), (_, other), (_, single) = (
        walk(sampler, prior, start, levels, Rng(5, draws=4, dtype=start.dtype))
        for start in (x, pushed, x.float())
    )
    torch.testing.assert_close(found, visits[-1].x0_hat, rtol=1e-12, atol=1e-12)  # the clean image
    torch.testing.assert_close(other[1:], found[1:], rtol=1e-9, atol=1e-9)
    assert single.dtype == torch.float32 and single.isfinite().all()


def test_evaluations():
    prior = gaussian()
    counts = {s: len(ProbabilityFlow(steps=s).times(prior)) for s in (3, 4, 5, 32, 33)}
    assert counts == {3: 3, 4: 3, 5: 5, 32: 31, 33: 33}
    assert len(PredictorCorrector(steps=10, corrector_steps=2).times(prior)) == 30
    assert FlowODE().process(prior) == RectifiedFlow()
    assert float(FlowODE().times(prior.with_diffusion(RectifiedFlow()))[0]) < 1


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (
            lambda: ProbabilityFlow(method="rk4"),
            "expected method 'heun' with steps >= 3 or 'euler', got method='rk4'",
        ),
        (lambda: FlowODE(steps=2), "FlowODE: expected method 'heun' with steps >= 3"),
        (lambda: ProbabilityFlow(grid="linear"), "a grid of"),
        (lambda: Multistep(eta=1.1), "0 <= eta <= 1, got 1.1"),
        (lambda: ReverseSDE(steps=1), "ReverseSDE: expected steps >= 2"),
        (lambda: PredictorCorrector(corrector_steps=0), "corrector_steps >= 1"),
        (lambda: PredictorCorrector(signal_to_noise=1.0), "0 < signal_to_noise < 1"),
        (lambda: PredictorCorrector(corrector="batch"), "'curvature' or 'published', got .*'batch'"),
    ],
)
def test_refusals(build, words):
    with pytest.raises(ValueError, match=words):
        build()
