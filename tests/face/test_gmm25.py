"""The 25-component benchmark: its generator, the reduction to coupled coordinates, grid and steps as published."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from bayes_ir.bench.anchors import PROCESS, AnchorDDIM, AnchorDPS, AnchorGuidance
from bayes_ir.bench.metrics import distances
from bayes_ir.bench.rows import Oracle
from bayes_ir.bench.suites.gmm25 import Gmm25
from bayes_ir.inference import Exact, Isotropic, Tweedie, exact_posterior
from bayes_ir.inference.kernels.path import PathState
from bayes_ir.inference.rng import Rng
from bayes_ir.inference.run import draw_block

F64 = torch.float64
CELL = {"d": 8, "dy": 2, "steps": 20}
ALPHA_BAR = np.concatenate([[1.0], np.cumprod(1 - np.linspace(0.02, 1e-4, 999))])


def both(number, cell=CELL, **switches):
    return tuple(Gmm25(reduced=r, **switches).case(cell, number, 0) for r in (True, False))


def draws(problem, kernel, count, seed=0):
    return draw_block(problem, kernel, 0, 0, 0, count, seed=seed).draws


def test_the_process_falls_as_published():
    a, b = PROCESS.coefficients(torch.arange(1000))
    np.testing.assert_allclose(a**2, ALPHA_BAR, rtol=1e-11)
    np.testing.assert_allclose(a**2 + b**2, 1)
    t = torch.linspace(0.3, 998.7, 9, dtype=F64)
    torch.testing.assert_close(PROCESS.time_at(PROCESS.ratio(t)), t)
    assert ALPHA_BAR[-1] == pytest.approx(4.08e-5, rel=5e-3)


@pytest.mark.parametrize("n", [20, 100])
def test_the_grid_is_the_published_one_without_its_broken_time(n):
    root = np.sqrt(ALPHA_BAR)
    end = np.flatnonzero(root < 1e-2)[0]
    kept, last = [0], 1.0
    for t in range(1, end):
        if last - root[t] >= (1 - root[end]) / (n - 2):
            kept.append(t)
            last = root[t]
    kept += np.ceil(np.linspace(kept[-1], 999, n - len(kept) + 1))[1:].tolist()
    times = AnchorDDIM(steps=n).times(None)
    assert times.flip(0).tolist() == kept[1:]
    assert len(times) == n - 1 and times[0] == 999 and (times.diff() < 0).all()


@pytest.mark.parametrize("cell", [{"d": 8, "dy": dy, "steps": 20} for dy in (1, 2, 4)], ids=str)
def test_the_reduced_posterior_has_the_law_of_every_slice(cell):
    small, full = both(3, cell)
    (law, evidence), (whole, evidence_8) = exact_posterior(small.problem), exact_posterior(full.problem)
    assert small.problem.prior.event_shape.numel() == min(cell["dy"] + 4, 8)
    torch.testing.assert_close(evidence, evidence_8)
    torch.testing.assert_close(law.log_weights.exp(), whole.log_weights.exp())
    one, eight = torch.from_numpy(small.directions), torch.from_numpy(full.directions)
    # Of every component, mean and variance along a slice: the law of the slice.
    torch.testing.assert_close(one @ law.means.T, eight @ whole.means.T)
    for k in range(25):
        spread, spread_8 = (
            ((s @ w.basis[k]) ** 2 * w.variances[k]).sum(1) for s, w in ((one, law), (eight, whole))
        )
        torch.testing.assert_close(spread, spread_8)
    torch.testing.assert_close(
        torch.tensor(small.problem.prior.noise_range), torch.tensor(full.problem.prior.noise_range)
    )


def test_a_kernel_is_as_far_from_the_posterior_in_the_reduced_coordinates():
    kernel = AnchorGuidance(denoising_posterior=Isotropic(with_jacobian=True, spread=1.0), steps=20)
    found = []
    for number in (0, 1, 2):
        for case in both(number):
            exact = draws(case.problem, Exact(), 2000, seed=1)
            repeats = [
                distances(draws(case.problem, kernel, 2000, seed=s), exact, case.directions)["mean-W1"]
                for s in (2, 3)
            ]
            found.append(repeats)
    pairs = np.array(found).reshape(3, 2, 2)  # number, reduced or not, repeat
    noise = np.abs(np.diff(pairs, axis=2)).mean() + 0.02 * pairs.mean()
    assert (np.abs(pairs[:, 0].mean(1) - pairs[:, 1].mean(1)) < 4 * noise).all()
    assert pairs.mean() > 20 * noise / 4  # the distances themselves are not noise


@pytest.mark.parametrize("kernel", [AnchorGuidance(denoising_posterior=Tweedie()), AnchorDPS(), Oracle()])
def test_a_step_of_a_kernel_commutes_with_the_reduction(kernel, monkeypatch):
    small, full = both(5)
    # The basis of the coupled coordinates, 2 + 2, from what both problems hold: the means and the rows of A.
    rows = [
        torch.cat([c.problem.prior.components.means, c.problem.operator.to_matrix()]) for c in (small, full)
    ]
    q = torch.linalg.lstsq(rows[1], rows[0], driver="gelsd").solution[:, :4]  # coupled: 2 + 2
    torch.testing.assert_close(q.T @ q, torch.eye(4, dtype=F64), rtol=0, atol=1e-9)
    x = 3 * torch.randn(6, 8, generator=torch.Generator().manual_seed(0), dtype=F64)
    moved = []
    for case, state in ((small, torch.cat([x @ q, x[:, :2]], 1)), (full, x)):
        schedule = AnchorDDIM(steps=20).schedule(case.problem.prior.with_diffusion(PROCESS))
        monkeypatch.setattr(Rng, "normal", lambda self, *shape: torch.zeros(6, *shape, dtype=F64))
        moved.append(
            kernel.step(case.problem, PathState(state, schedule, 9), Rng(0, draws=6, dtype=F64))[0].x
        )
    torch.testing.assert_close(moved[0][:, :4], moved[1] @ q, rtol=1e-4, atol=1e-4)


def literal(case, x, t, s, eta, guide):
    """The published step in numpy: score of the mixture, guidance, DDIM; without its noise."""
    prior, operator = case.problem.prior, case.problem.operator.to_matrix().numpy()
    mu, log_w = prior.components.means.numpy(), prior.components.log_weights.numpy()
    y, noise = case.problem.y.numpy(), float(case.problem.channel.noise_std.max())
    a2, b2 = ALPHA_BAR[t], 1 - ALPHA_BAR[t]
    a = np.sqrt(a2)
    log_r = log_w - 0.5 * ((x - a * mu) ** 2).sum(1)
    r = np.exp(log_r - log_r.max())
    r /= r.sum()
    mean = r @ mu
    x0_hat = a * x + b2 * mean  # E[x_0 | x_t]: every component has covariance I
    jacobian = a * np.eye(len(x)) + b2 * a * (mu.T * r @ mu - np.outer(mean, mean))
    residual = y - operator @ x0_hat
    eps = (x - a * x0_hat) / np.sqrt(b2)
    shift = np.zeros_like(x)
    if guide == "dps":
        # (zeta / |r|) grad |r|^2 with zeta = 0.1
        shift = -(0.1 / np.linalg.norm(residual)) * (-2 * jacobian.T @ operator.T @ residual)
    else:
        v = b2 / a * jacobian if guide == "cov" else b2 * np.eye(len(x))
        system = operator @ v @ operator.T + noise**2 * np.eye(len(y))
        score = jacobian.T @ operator.T @ np.linalg.solve(system, residual)
        eps = eps - np.sqrt(b2) * score
        x0_hat = x0_hat + b2 / a * score
    c = eta * np.sqrt((1 - ALPHA_BAR[s]) / b2 * (1 - a2 / ALPHA_BAR[s]))
    return np.sqrt(ALPHA_BAR[s]) * x0_hat + np.sqrt(1 - ALPHA_BAR[s] - c**2) * eps + shift


@pytest.mark.parametrize("k", [3, 12, -1])
@pytest.mark.parametrize("guide", ["dps", "pigdm", "cov"])
def test_a_step_is_the_published_one(guide, k, monkeypatch):
    case = Gmm25().case(CELL, 4, 0)
    kernel = Gmm25().rows(CELL)[f"anchor-{guide}"]
    schedule = kernel.sampler.schedule(case.problem.prior.with_diffusion(PROCESS))
    k = k % (len(schedule) - 1)
    t, s = (int(level.t) for level in schedule[k : k + 2])
    a = float(schedule[k].a)
    x = a * case.problem.prior.components.means[[3, 20]] + torch.linspace(-1, 1, 12, dtype=F64).reshape(2, 6)
    monkeypatch.setattr(Rng, "normal", lambda self, *shape: torch.zeros(2, *shape, dtype=F64))
    moved = kernel.step(case.problem, PathState(x, schedule, k), Rng(0, draws=2, dtype=F64))[0].x
    expected = np.stack([literal(case, row.numpy(), t, s, 0.6, guide) for row in x])
    np.testing.assert_allclose(moved, expected, rtol=2e-4, atol=2e-4)


def test_the_oracle_ends_in_the_posterior_where_its_start_forgets_it():
    case = Gmm25().case({"d": 8, "dy": 4, "steps": 100}, 0, 0)
    exact, again = (draws(case.problem, Exact(), 2000, seed=s) for s in (1, 2))
    oracle = Gmm25().rows({"d": 8, "dy": 4, "steps": 100})["oracle"]
    found = distances(draws(case.problem, oracle, 2000), exact, case.directions)["mean-W1"]
    floor = distances(again, exact, case.directions)["mean-W1"]
    assert found < 4 * floor


def test_switches():
    made = {w: Gmm25(weights=w).case(CELL, 0, 0).problem.prior.weights for w in ("chi2", "rand", "uniform")}
    torch.testing.assert_close(made["uniform"], torch.full((25,), 0.04, dtype=F64))
    assert made["chi2"].std() > made["rand"].std() > 0.01
    same = Gmm25().case(CELL | {"dy": 4}, 7, 0).problem.prior.weights
    torch.testing.assert_close(made["chi2"], same)  # one set for a dimension and a number of steps
    raw, resampled = (Gmm25(sv=s, sigma=0.3).case(CELL, 0, 0).problem for s in ("raw", "resampled"))
    assert raw.operator.svd.singular_values.min() > 1 > resampled.operator.svd.singular_values.max()
    assert float(raw.channel.noise_std.max()) == pytest.approx(0.3)
    random = Gmm25().case(CELL, 0, 0).problem
    assert 0 < float(random.channel.noise_std.max()) < float(random.operator.svd.singular_values[0])


def test_seeds_are_the_published_ones():
    seeds = {
        (8, 1, 20): 4 * 1 * 1,
        (800, 1, 20): 1,
        (80, 4, 100): 2 * 9 * 5,
        (8, 2, 100): 4 * 3 * 5,
    }
    for (d, dy, steps), seed in seeds.items():
        assert Gmm25().case({"d": d, "dy": dy, "steps": steps}, 11, 0).seed == seed + 11
    large = Gmm25().case({"d": 800, "dy": 4, "steps": 100}, 0, 0)
    assert large.problem.prior.event_shape == (8,)
    np.testing.assert_allclose(np.linalg.norm(large.directions, axis=1), 1)
    assert replace(Gmm25(), weights="rand").switches["weights"] == "rand"
