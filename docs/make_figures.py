"""The pictures of the documentation: one of each plot, from small seeded runs of the library.

    python docs/make_figures.py
    python docs/make_figures.py gallery maps

Writes docs/images/NAME.png, in about a minute of processor time. A further picture is a further entry of `FIGURES`,
whose docstring is its caption on the page "Plots" and what it returns the call that is shown there.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from functools import cache
from io import BytesIO
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
import pyro
import torch
import xarray as xr
from matplotlib.figure import Figure
from PIL import Image

import bayes_ir as bir
from bayes_ir import analysis
from bayes_ir.inference import DPS, Exact, GuidedDiffusion, Isotropic, Kernel, PiGDM, TwistedSMC
from bayes_ir.models import (
    DenseOperator,
    Gaussian,
    GaussianMixturePrior,
    GaussianPrior,
    GaussianSensing,
    Mask,
    load_prior,
)
from bayes_ir.models.priors.base import DiffusionPrior
from bayes_ir.problems import InverseProblem, observed, test_digits
from bayes_ir.replication import Replicator

matplotlib.use("Agg")
DPI, BYTES = 110, 120_000
F64 = torch.float64
UNITS = "1 = white"
IMAGE = 8


@cache
def digit() -> InverseProblem:
    """A digit of which the lower half is missing; the prior is a network."""
    return half(load_prior("mnist"), test_digits()[0][IMAGE])


def half(prior: DiffusionPrior, truth: torch.Tensor) -> InverseProblem:
    """The upper half of an image under noise of 0.1."""
    seen = torch.ones(prior.event_shape, dtype=torch.bool)
    seen[:, prior.event_shape[-2] // 2 :] = False
    return observed("half", prior, Mask(seen), lambda z: Gaussian(z, 0.1), truth, 0, Exact())


@cache
def digit_posterior() -> xr.DataTree:
    return bir.sample(digit().model, GuidedDiffusion(), digit().data, draws=24, chains=4, progress=False)


@cache
def small_digit() -> InverseProblem:
    """The same on 14 x 14 pixels; under a mixture prior the posterior is known exactly."""
    return half(load_prior("mnist-gmm"), torch.nn.functional.avg_pool2d(test_digits()[0][IMAGE], 2))


@cache
def small_posteriors() -> dict[str, xr.DataTree]:
    kernels: dict[str, Kernel] = {
        "Exact": Exact(),
        # One cloud to a chain: its draws are not independent, and the pictures say of how many particles they are.
        "TwistedSMC,\n512 particles": TwistedSMC(particles=512),
        "GuidedDiffusion": GuidedDiffusion(),
        "DPS": DPS(steps=100),
    }
    p = small_digit()
    return {
        name: bir.sample(p.model, k, p.data, draws=250, chains=2, progress=False)
        for name, k in kernels.items()
    }


class Study(NamedTuple):
    """A model without data, and its operator."""

    model: Callable[[], None]
    operator: DenseOperator


@cache
def linear_study() -> Study:
    """Ten correlated unknowns, five noisy measurements."""
    rng = torch.Generator().manual_seed(0)
    root = torch.randn(10, 10, generator=rng, dtype=F64)
    prior = GaussianPrior(torch.zeros(10, dtype=F64), root @ root.T / 10 + 0.1 * torch.eye(10, dtype=F64))
    operator = DenseOperator(torch.randn(5, 10, generator=rng, dtype=F64) / 5**0.5, dtype=F64)

    def model() -> None:
        x = pyro.sample("x", prior)
        pyro.sample("y", Gaussian(operator(x), 0.1))

    return Study(model, operator)


class Replications(NamedTuple):
    """Truths (L, N), draws (L, S, N), data (L, M) and back projections (L, N)."""

    truths: np.ndarray
    draws: np.ndarray
    data: np.ndarray
    back: np.ndarray


@cache
def replications() -> Replications:
    """Four hundred data sets and a kernel that takes the denoising posterior for a ball."""
    kernel = GuidedDiffusion(denoising_posterior=Isotropic(), steps=32, drawn=False)
    replicate = Replicator.of(linear_study().model, kernel, draws=99, seed=0, together=50)
    made = [one for group in range(8) for one in replicate(group)]
    y = torch.stack([m.problem.y for m in made])
    noise = np.random.default_rng(0).normal(size=(len(made), 10))
    return Replications(
        torch.cat([m.x for m in made]).numpy(),
        torch.stack([m.draws for m in made]).numpy(),
        y.numpy(),
        linear_study().operator.adjoint(y).numpy() + noise,
    )


def quantities() -> dict[str, Callable]:
    """Four coordinates, the energy, and the misfit of the data."""
    matrix = linear_study().operator.matrix.numpy()
    chosen: dict[str, Callable] = {f"x[{i}]": lambda x, y, i=i: x[:, i] for i in range(4)}
    chosen["energy"] = lambda x, y: (x**2).sum(axis=1)
    chosen["misfit"] = lambda x, y: ((y - x @ matrix.T) ** 2).sum(axis=1)
    return chosen


def uncertainty() -> Figure:
    """A digit whose lower half was never measured: what was seen, mean, sd, draws, and error against sd."""
    return analysis.plot_uncertainty(digit_posterior(), digit().truth, draws=4, units=UNITS)


def gallery() -> Figure:
    """Mean and draws of the same posterior on one scale, beside the truth: what they agree on, and what they invent."""
    return analysis.plot_posterior_gallery(digit_posterior(), digit().truth, draws=7, units=UNITS)


def maps() -> Figure:
    """Mean, ends of the 90 % interval, sd and width by kernel, on shared scales; the lower half was never measured.

    `DPS` is too sure of what was measured and too unsure of the rest. The 500 draws of `TwistedSMC` come from two
    clouds of 512 particles and repeat each other: its maps visibly differ from the exact ones.
    """
    shown = {name: small_posteriors()[name] for name in small_posteriors() if name != "GuidedDiffusion"}
    return analysis.plot_maps(shown, units=UNITS)


def error_against_sd() -> Figure:
    """Every pixel: the error of the mean against the posterior sd. Points about the line are as wrong as they say."""
    return analysis.plot_error_against_sd(digit_posterior(), digit().truth, units=UNITS)


def coverage() -> Figure:
    """Share of truths in the interval against its level, for a kernel that takes the denoising posterior for a ball."""
    made = replications()
    found = analysis.expected_coverage(
        made.truths, made.draws, quantities(), data=made.data, levels=np.arange(0.05, 1, 0.05)
    )
    return analysis.plot_coverage(found, quantities=["x[0]", "x[1]", "energy", "misfit"])


def sbc() -> Figure:
    """Ranks of truths among draws of the same kernel, ECDF less uniform, a band for each alone; p is Holm's."""
    made = replications()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", analysis.FewReplicationsWarning)
        found = analysis.sbc_ranks(made.truths, made.draws, quantities(), data=made.data)
    return analysis.plot_sbc(found, columns=3)


def tarp() -> Figure:
    """Expected coverage of balls about reference points, for all coordinates together."""
    made = replications()
    return analysis.plot_tarp(analysis.tarp(made.truths, made.draws, data_references=made.back))


def trajectory() -> Figure:
    """One draw on its way: the state, what the prior makes of it, and what prior and data make of it."""
    p = digit()
    return analysis.plot_trajectory(
        bir.trajectory(p.model, GuidedDiffusion(), p.data, progress=False), units=UNITS
    )


def jensen_gap() -> Figure:
    """How far the score of y is off by denoising posterior: forty measurements of a digit under `mnist-gmm`."""
    prior, truth = load_prior("mnist-gmm"), torch.nn.functional.avg_pool2d(test_digits()[0][IMAGE], 2)
    operator = GaussianSensing(measurements=40, event_shape=prior.event_shape, seed=0)
    p = observed("sensing", prior, operator, lambda z: Gaussian(z, 0.3), truth, 0, Exact())
    found = bir.jensen_gap(p.model, p.data, points=truth, levels=12, progress=False)
    return analysis.plot_jensen_gap(found, units=UNITS)


def kernel_comparison() -> Figure:
    """Distance to the exact posterior over its floor, against network evaluations.

    Three components in ten dimensions, three measurements; a second exact set is at 1.
    """
    rng = torch.Generator().manual_seed(1)
    roots = torch.randn(3, 10, 10, generator=rng, dtype=F64)
    means = 0.5 * torch.randn(3, 10, generator=rng, dtype=F64)
    prior = GaussianMixturePrior(
        torch.tensor([0.2, 0.3, 0.5], dtype=F64),
        means,
        0.3 * roots @ roots.mT / 10 + 0.1 * torch.eye(10, dtype=F64),
    )
    operator = DenseOperator(torch.randn(3, 10, generator=rng, dtype=F64) / 3**0.5, dtype=F64)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        truth = prior.sample()
    problem = observed("mixture", prior, operator, lambda z: Gaussian(z, 0.5), truth, 0, Exact())

    def draws(kernel: Kernel, seed: int) -> tuple[np.ndarray, float]:
        tree = bir.sample(
            problem.model,
            kernel,
            problem.data,
            draws=1000,
            chains=1,
            block_size=1000,
            seed=seed,
            progress=False,
        )
        return tree["posterior"]["x"].values[0], float(tree["sample_stats"]["nfe"].mean())

    kernels: dict[str, Callable[[int], Kernel]] = {
        "TwistedSMC": lambda steps: TwistedSMC(steps=steps),
        "GuidedDiffusion": lambda steps: GuidedDiffusion(steps=steps),
        "PiGDM": lambda steps: PiGDM(steps=steps),
        "DPS": lambda steps: DPS(steps=steps),
    }
    exact = [draws(Exact(), seed)[0] for seed in range(4)]
    pairs = [analysis.sliced_wasserstein(a, b) for a, b in combinations(exact, 2)]
    floor = np.mean(pairs)
    rows = []
    for name, build in kernels.items():
        for steps in (8, 16, 32, 64, 128):
            made = [draws(build(steps), seed) for seed in (10, 11, 12)]
            ratios = [np.mean([analysis.sliced_wasserstein(x, e) for e in exact]) / floor for x, _ in made]
            error = np.std(ratios, ddof=1) / np.sqrt(len(ratios))
            rows.append({"kernel": name, "nfe": made[0][1], "distance": np.mean(ratios), "error": error})
    return analysis.plot_kernel_comparison(rows)


def pixel_pairs() -> Figure:
    """Two pixels that were not measured: their joint and marginal posteriors, and the truth."""
    return analysis.plot_pixel_pairs(
        small_posteriors()["Exact"], (0, 11, 7), (0, 12, 4), small_digit().truth, units=UNITS
    )


def ridges() -> Figure:
    """Posteriors of three numbers of the lower half by kernel, and their truth.

    The draws of `TwistedSMC` are those of two clouds of 512 particles, worth fewer than they are.
    """
    functionals = {
        "mean of the lower half": lambda x: x[0, 7:].mean(),
        "centre of mass, column": lambda x: (x[0, 7:].sum(0) * np.arange(14)).sum() / x[0, 7:].sum(),
        "brightest pixel below": lambda x: x[0, 7:].max(),
    }
    return analysis.plot_ridges(small_posteriors(), functionals, small_digit().truth)


FIGURES: dict[str, Callable[[], Figure]] = {
    "uncertainty": uncertainty,
    "gallery": gallery,
    "maps": maps,
    "error_against_sd": error_against_sd,
    "coverage": coverage,
    "sbc": sbc,
    "tarp": tarp,
    "trajectory": trajectory,
    "jensen_gap": jensen_gap,
    "kernel_comparison": kernel_comparison,
    "pixel_pairs": pixel_pairs,
    "ridges": ridges,
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", help=f"pictures to make, by default all of {', '.join(FIGURES)}")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "images")
    given = parser.parse_args()
    unknown = set(given.names) - set(FIGURES)
    if unknown:
        parser.error(f"there is no picture {sorted(unknown)}; there are {', '.join(FIGURES)}")
    given.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for name in given.names or FIGURES:
        figure = FIGURES[name]()
        path = given.out / f"{name}.png"
        with BytesIO() as drawn:
            figure.savefig(drawn, dpi=DPI)
            Image.open(drawn).convert("RGB").save(path, optimize=True)  # opaque: a tenth smaller
        if path.stat().st_size > BYTES:
            raise SystemExit(f"{path} has {path.stat().st_size} bytes; keep pictures below {BYTES}")
        print(path)


if __name__ == "__main__":
    main()
