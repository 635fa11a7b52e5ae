"""Every kernel against exact Gaussian and mixture posteriors at equal network evaluations, beside azula's where it is.

    python benchmarks/exact_posterior.py

Problems, each with a Gaussian channel of noise 0.1 and exact draws in closed form:

* inpainting, blur: correlated Gaussian prior on 28 x 28 pixels (Matern 3/2, length 4), 30 % of the pixels, or a
  Gaussian blur; 200 evaluations, 100 draws;
* d16: correlated Gaussian prior in 16 dimensions, every second coordinate; 64 and 256 evaluations with 4,000 draws,
  1,024 with 1,000;
* mixture: three overlapping components in 8 dimensions, three measurements; 64 and 256 evaluations, 1,000 draws.

Rows that the results already hold are kept: a run that was stopped goes on, and a changed kernel is a new row.

Columns: error of the mean in posterior standard deviations (root mean square over coordinates; its Monte Carlo floor
is ``draws^-1/2``), ratio of standard deviations in singular directions of A that were measured above the noise and in
their complement, sliced Wasserstein distance over its floor, share of the coordinates of the truth in the
central 90 % interval, evaluations, vector-Jacobian products included in the time beyond the denoiser, and that time as
a multiple of the denoiser's.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyro
import torch
from _results import kept_results, write_results

from bayes_ir import simulate
from bayes_ir.analysis import sliced_wasserstein
from bayes_ir.inference import (
    DAPS,
    DDIM,
    DDNM,
    DDRM,
    DDS,
    DMPS,
    DPS,
    ILVR,
    MCG,
    QCSSGM,
    SNIPS,
    Ancestral,
    AnnealedLangevin,
    Calibrated,
    DDNMPlus,
    DiffPIR,
    Exact,
    GuidedDiffusion,
    Isotropic,
    Kernel,
    MomentMatching,
    Multistep,
    PiGDM,
    PredictorCorrector,
    ProbabilityFlow,
    Problem,
    RePaint,
    ScoreSDE,
    Tweedie,
    exact_posterior,
    read_problem,
)
from bayes_ir.inference.run import draw_block
from bayes_ir.models import (
    CircularBlur,
    DenseOperator,
    Gaussian,
    GaussianMixturePrior,
    GaussianPrior,
    LinearOperator,
    Mask,
    RectifiedFlow,
)
from bayes_ir.models.priors.base import DiffusionPrior

F64 = torch.float64
NOISE = 0.1


@dataclass(frozen=True, eq=False)
class Case:
    """A problem with its truth, budgets and number of draws."""

    name: str
    problem: Problem
    truth: torch.Tensor
    budgets: tuple[int, ...]
    draws: int


def case(
    name: str, prior: DiffusionPrior, operator: LinearOperator, budgets: tuple[int, ...], draws: int
) -> Case:
    def model() -> None:
        pyro.sample("y", Gaussian(operator(pyro.sample("x", prior)), NOISE))

    made = simulate(model, seed=1)
    return Case(name, read_problem(model, {"y": made["y"]}), made["x"], budgets, draws)


def image_prior() -> GaussianPrior:
    axis = torch.arange(28, dtype=F64)
    grid = torch.cartesian_prod(axis, axis)
    d = torch.cdist(grid, grid) * 3**0.5 / 4
    return GaussianPrior(torch.zeros(784, dtype=F64), (1 + d) * torch.exp(-d), event_shape=(1, 28, 28))


def cases() -> Iterator[Case]:
    rng = torch.Generator().manual_seed(0)
    image = image_prior()
    kept = torch.rand(28, 28, generator=rng) < 0.3
    yield case("inpainting", image, Mask(kept[None], dtype=F64), (200,), 100)
    offsets = torch.arange(-4, 5, dtype=F64)
    kernel = torch.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    yield case("blur", image, CircularBlur(kernel / kernel.sum(), (1, 28, 28), dtype=F64), (200,), 100)
    root = torch.randn(16, 16, generator=rng, dtype=F64)
    prior = GaussianPrior(torch.randn(16, generator=rng, dtype=F64), root @ root.T / 16)
    every_second = DenseOperator(torch.eye(16, dtype=F64)[::2].clone(), dtype=F64)
    yield case("d16", prior, every_second, (64, 256), 4000)
    yield case("d16, 1,000 draws", prior, every_second, (1024,), 1000)
    roots = torch.randn(3, 8, 8, generator=rng, dtype=F64)
    mixture = GaussianMixturePrior(
        torch.tensor([0.2, 0.3, 0.5], dtype=F64),
        torch.randn(3, 8, generator=rng, dtype=F64),
        0.3 * roots @ roots.mT / 8 + 0.1 * torch.eye(8, dtype=F64),
    )
    operator = DenseOperator(torch.randn(3, 8, generator=rng, dtype=F64) / 3**0.5, dtype=F64)
    yield case("mixture", mixture, operator, (64, 256), 1000)


def kernels(nfe: int, image: bool) -> list[Kernel]:
    """Every kernel with about this many network evaluations; on images without those that take hundreds of products."""
    ancestral = Ancestral(steps=nfe, grid="karras")
    small: list[Kernel] = [
        GuidedDiffusion(denoising_posterior=Tweedie(), sampler=ancestral),
        MomentMatching(steps=nfe),
    ]
    return [
        *([] if image else small),
        GuidedDiffusion(denoising_posterior=Calibrated(), steps=nfe),
        GuidedDiffusion(denoising_posterior=Calibrated(), steps=nfe, drawn=False),
        GuidedDiffusion(denoising_posterior=Calibrated(), sampler=Multistep(steps=nfe), drawn=False),
        GuidedDiffusion(denoising_posterior=Calibrated(), sampler=ProbabilityFlow(steps=nfe), drawn=False),
        GuidedDiffusion(denoising_posterior=Isotropic(), sampler=ancestral, drawn=False),
        GuidedDiffusion(denoising_posterior=Calibrated(with_jacobian=True), sampler=ancestral),
        MomentMatching(steps=nfe, drawn=False),
        MomentMatching(steps=nfe, diagonal=True, drawn=False),
        PiGDM(sampler=ancestral),
        DPS(steps=nfe),
        DPS(steps=nfe, weight="likelihood"),
        DMPS(steps=nfe),
        DMPS(steps=nfe, diffusion=RectifiedFlow()),
        AnnealedLangevin(levels=nfe, steps_per_level=1),
        AnnealedLangevin(levels=nfe, steps_per_level=1, inflated=True),
        QCSSGM(levels=nfe, steps_per_level=1),
        DDRM(steps=nfe),
        DDNM(sampler=DDIM(steps=nfe, eta=0.85)),
        DDNMPlus(steps=nfe),
        DDS(steps=nfe, gamma=1.0),
        DDS(steps=nfe),
        DiffPIR(steps=nfe),
        DiffPIR(sampler=DDIM(steps=nfe, eta=1.0)),
        MCG(steps=nfe),
        ILVR(steps=nfe),
        RePaint(steps=nfe // 4, jump_length=4, jump_samples=4),
        ScoreSDE(sampler=PredictorCorrector(steps=nfe // 2)),
        SNIPS(levels=nfe, steps_per_level=1),
        DAPS(levels=nfe, exact=True),
        DAPS(levels=nfe // 5, ode_steps=5, exact=True),
    ]


class Clock:
    """Time spent in the denoiser of a prior."""

    def __init__(self, problem: Problem) -> None:
        self.seconds, self.calls = 0.0, 0
        kind = type(problem.prior)
        plain = kind._denoised_mean

        def timed(prior: Any, x_t: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            started = time.perf_counter()
            found = plain(prior, x_t, a, b)
            self.seconds += time.perf_counter() - started
            self.calls += 1
            return found

        self._restore = lambda: setattr(kind, "_denoised_mean", plain)
        kind._denoised_mean = timed  # type: ignore[method-assign]

    def stop(self) -> None:
        self._restore()


def measure(c: Case, draw: Any, exact: torch.Tensor) -> dict[str, float]:
    """``draw()`` makes the draws, timed; the rest compares them with the exact posterior."""
    clock = Clock(c.problem)
    started = time.perf_counter()
    try:
        draws = draw()
    finally:
        clock.stop()
    seconds = time.perf_counter() - started
    law, _ = exact_posterior(c.problem)
    flat, mean, sd = draws.flatten(1), law.mean.flatten(), law.variance.flatten().sqrt()
    svd = c.problem.operator.svd
    v = svd.right(torch.eye(svd.rank, dtype=F64)).flatten(1).mT  # (N, r)
    prior_variance = (v * (c.problem.prior.components.covariance_matrix @ v)).sum(0)
    v = v[:, svd.singular_values**2 * prior_variance > NOISE**2]
    measured = (flat @ v).std(0) / (v * (law.covariance_matrix @ v)).sum(0).sqrt()
    rest = flat - flat @ v @ v.mT
    exact_rest = law.covariance_matrix - v @ (v.mT @ law.covariance_matrix)
    others = (rest.var(0).sum() / (exact_rest - exact_rest @ v @ v.mT).diagonal().sum()).sqrt()
    low, high = flat.quantile(0.05, 0), flat.quantile(0.95, 0)
    inside = (c.truth.flatten() >= low) & (c.truth.flatten() <= high)
    one, two = exact[: c.draws], exact[c.draws :]
    floor = sliced_wasserstein(one, two)
    distance = (sliced_wasserstein(draws, one) + sliced_wasserstein(draws, two)) / 2
    return {
        "mean error / sd": float((((flat.mean(0) - mean) / sd) ** 2).mean().sqrt()),
        "sd ratio, measured": float(measured.mean()),
        "sd ratio, others": float(others),
        "distance / floor": distance / floor,
        "coverage": float(inside.double().mean()),
        "NFE": clock.calls,
        "beyond / denoiser": (seconds - clock.seconds) / clock.seconds if clock.seconds else float("nan"),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", help="name of one problem")
    options = parser.parse_args()
    torch.set_num_threads(1)
    try:
        from azula_peer import peers
    except ImportError:
        print("azula is not installed: its rows are left out")
        peers = {}
    rows = kept_results("exact_posterior")
    done = {(row["problem"], row["budget"], row["kernel"]) for row in rows}
    for c in cases():
        if options.only not in (None, c.name):
            continue
        exact = draw_block(c.problem, Exact(), 0, 0, 0, 2 * c.draws, seed=99).draws
        image = c.problem.prior.event_shape.numel() > 100
        for nfe in c.budgets:
            runs: dict[str, Callable[[], torch.Tensor]] = {}
            for k in [Exact(), *kernels(nfe, image)]:
                seed = 7 if isinstance(k, Exact) else 0
                runs[repr(k)] = partial(ours, c, k, seed)
            for name, peer in peers.items():
                runs[name] = partial(peer, c.problem, nfe, c.draws)
            for name, draw in runs.items():
                if (c.name, nfe, name) in done:
                    continue
                row: dict[str, Any] = {"problem": c.name, "budget": nfe, "kernel": name}
                try:
                    row |= measure(c, draw, exact)
                except ValueError as error:  # draws that diverged
                    row["failed"] = str(error)
                rows.append(row)
                print(
                    "  ".join(f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values()),
                    flush=True,
                )
                write_results("exact_posterior", rows)


def ours(c: Case, kernel: Kernel, seed: int) -> torch.Tensor:
    return draw_block(c.problem, kernel, 0, 0, 0, c.draws, seed=seed).draws


if __name__ == "__main__":
    main()
