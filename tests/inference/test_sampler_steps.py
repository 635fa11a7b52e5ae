"""Single steps of samplers, against the formulae of their papers and against each other."""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bayes_ir.inference.rng import Rng
from bayes_ir.inference.samplers import (
    DDIM,
    Ancestral,
    FlowODE,
    Level,
    Multistep,
    PredictorCorrector,
    ProbabilityFlow,
    ReverseSDE,
    Visit,
)
from bayes_ir.models import DDPM, GaussianPrior, RectifiedFlow, VarianceExploding, VariancePreserving
from bayes_ir.models.reverse import heun_sample

F64 = torch.float64
NONE = torch.zeros((), dtype=F64)
PROCESSES = [VarianceExploding(0.01, 30.0), VariancePreserving(), DDPM(), RectifiedFlow()]


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


@pytest.mark.parametrize("process", PROCESSES[:2] + PROCESSES[3:], ids=repr)
def test_reverse_sde_is_euler_maruyama_for_short_steps(process):
    """Drift ``f x - g^2 s`` and variance ``g^2``, from the derivatives of the process, to first order in the step."""
    prior, t, dt = gaussian().with_diffusion(process), torch.tensor(0.6, dtype=F64), 1e-6
    levels = [Level(time, *process.coefficients(time)) for time in (t, t - dt)]
    (a, b), (a_dot, b_dot) = process.coefficients(t), process.derivatives(t)
    g_squared = 2 * b**2 * (b_dot / b - a_dot / a)
    x = normal(1, 3, seed=3).expand(2, 3)
    noise = torch.tensor([[0.0], [1.0]], dtype=F64).expand(2, 3)
    _, (still, shaken) = walk(ReverseSDE(), prior, x, levels, SimpleNamespace(normal=lambda *shape: noise))
    drift = a_dot / a * x[0] - g_squared * prior.score(x[0], t)
    torch.testing.assert_close((still - x[0]) / -dt, drift, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close((shaken - still) ** 2 / dt, g_squared.expand(3), rtol=1e-4, atol=0)


def test_reverse_sde_is_the_published_reverse_diffusion_sampler():
    prior = gaussian().with_diffusion(DDPM())
    x, i = normal(4, 3, seed=3), 400
    levels = [Level(t, *DDPM().coefficients(t)) for t in torch.tensor([i, i - 1.0], dtype=F64)]
    _, moved = walk(ReverseSDE(), prior, x, levels, Rng(5, draws=4, dtype=F64))
    beta = np.linspace(1e-4, 0.02, 1000)[i - 1]
    z = Rng(5, draws=4, dtype=F64).normal(3).numpy()
    score = prior.score(x, float(i)).numpy()
    wanted = (2 - np.sqrt(1 - beta)) * x.numpy() + beta * score + np.sqrt(beta) * z
    np.testing.assert_allclose(moved.numpy(), wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("steps", [33, 34])
def test_heun_is_that_of_the_prior_network(steps):
    process = VarianceExploding(0.02, 20.0)
    prior, calls = gaussian().with_diffusion(process), []
    sampler = ProbabilityFlow(steps=steps)
    levels = sampler.schedule(prior)
    x = sampler.start(prior, levels[0], Rng(2, draws=5, dtype=F64))

    def denoise(v, s):
        calls.append(s)
        return prior.denoise(v, process.time_at(s))

    wanted = heun_sample(
        denoise, x, torch.tensor([level.b for level in levels[:-1]], dtype=F64).unique().flip(0)
    )
    visits, found = walk(sampler, prior, x, levels, None)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)
    assert len(visits) == len(calls) == len(sampler.times(prior)) == 33


def test_flow_by_heun_written_out():
    prior = gaussian().with_diffusion(RectifiedFlow())
    x, t, s = normal(4, 3, seed=3), 0.7, 0.5
    levels = [Level(v, *RectifiedFlow().coefficients(v)) for v in torch.tensor([t, s, s], dtype=F64)]
    _, found = walk(FlowODE(), prior, x, levels, None)

    def velocity(v, time):
        return (v - prior.denoise(torch.tensor(v), time).numpy()) / time

    start = x.numpy()
    v = velocity(start, t)
    wanted = start + (s - t) * (v + velocity(start + (s - t) * v, s)) / 2
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_multistep_written_out(eta):
    """Second step of (SDE-)DPM-Solver++(2M), in the letters of Lu et al."""
    prior = gaussian().with_diffusion(VariancePreserving())
    times = torch.tensor([0.8, 0.5, 0.35], dtype=F64)
    levels = [Level(t, *prior.diffusion.coefficients(t)) for t in times]
    visits, found = walk(Multistep(eta=eta), prior, normal(4, 3, seed=3), levels, Rng(5, draws=4, dtype=F64))
    alpha, sigma = (c.numpy() for c in prior.diffusion.coefficients(times))
    lam = np.log(alpha / sigma)
    h, x1, x2 = lam[2] - lam[1], *(v.x0_hat.numpy() for v in visits)
    r = (lam[1] - lam[0]) / h
    d = (1 + 1 / (2 * r)) * x2 - 1 / (2 * r) * x1
    x = visits[1].x.numpy()
    if eta:
        rng = Rng(5, draws=4, dtype=F64)
        _, z = rng.normal(3), rng.normal(3).numpy()
        wanted = sigma[2] / sigma[1] * np.exp(-h) * x + alpha[2] * (1 - np.exp(-2 * h)) * d
        wanted = wanted + sigma[2] * np.sqrt(1 - np.exp(-2 * h)) * z
    else:
        wanted = sigma[2] / sigma[1] * x - alpha[2] * (np.exp(-h) - 1) * d
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("corrector", ["published", "curvature"])
def test_corrector_written_out(corrector):
    prior = gaussian().with_diffusion(VariancePreserving())
    t = torch.tensor(0.4, dtype=F64)
    level, x = Level(t, *prior.diffusion.coefficients(t)), normal(4, 3, seed=3)
    sampler, bound = PredictorCorrector(signal_to_noise=0.2, corrector=corrector), 5.0
    visit, rng = Visit(x, prior.denoise(x, t), level), Rng(5, draws=4, dtype=F64)
    found = sampler.move(visit, None, level, torch.tensor(bound, dtype=F64), rng)
    z = Rng(5, draws=4, dtype=F64).normal(3).numpy()
    for row, noise, got in zip(x, z, found.numpy(), strict=True):
        s = prior.score(row, t).numpy()
        if corrector == "published":
            e = 2 * (0.2 * np.sqrt(np.sum(noise**2)) / np.sqrt(np.sum(s**2))) ** 2
        else:
            e = 2 * 0.2**2 / (1 / float(level.b) ** 2 + bound)
        np.testing.assert_allclose(got, row.numpy() + e * s + np.sqrt(2 * e) * noise, rtol=1e-10)


@pytest.mark.parametrize("process", PROCESSES, ids=repr)
@pytest.mark.parametrize(
    ("sampler", "same"),
    [
        (ProbabilityFlow(method="euler"), DDIM()),
        (FlowODE(method="euler"), DDIM()),
        (Multistep(), DDIM()),
        (Multistep(eta=1.0), Ancestral()),
    ],
)
def test_first_order_steps_coincide(sampler, same, process):
    prior = gaussian().with_diffusion(process)
    levels = Ancestral(steps=10).schedule(prior)[3:5]
    x = normal(4, 3, seed=3)
    moved = [walk(s, prior, x, levels, Rng(1, draws=4, dtype=F64))[1] for s in (sampler, same)]
    torch.testing.assert_close(*moved, rtol=1e-10, atol=1e-12)
