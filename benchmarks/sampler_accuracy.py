"""Kernels against exact posteriors: sliced Wasserstein distance beside the floor, mean and standard deviation.

    python benchmarks/sampler_accuracy.py

Every figure is from 2,000 draws; the floor is the distance between two exact sets of 2,000.  Problems:

* one-bit: Gaussian prior N = 10, M = 20, noise 0.1; exact draws by minimax tilting;
* gaussian: the same prior under a Gaussian channel, M = 5, noise 0.1; exact draws in closed form;
* mixture: three overlapping components in N = 10, M = 3, noise 0.5; exact draws in closed form;
* separate mixture: the same with means three times as far apart, where a kernel must get the weights of modes right.

Rows that the results already hold are kept: a run that was stopped goes on, and a changed kernel is a new row.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
import pyro
import torch
from _results import kept_results, write_results

from bayes_ir import simulate
from bayes_ir.analysis import sliced_wasserstein
from bayes_ir.inference import (
    DAPS,
    DDNM,
    DDRM,
    DDS,
    DMPS,
    DPS,
    ILVR,
    MCG,
    QCSSGM,
    SNIPS,
    AnnealedLangevin,
    Calibrated,
    DDNMPlus,
    DiffPIR,
    Exact,
    GuidedDiffusion,
    Isotropic,
    Kernel,
    MCGDiff,
    MomentMatching,
    PiGDM,
    Problem,
    QCSSGMPlus,
    RePaint,
    ScoreSDE,
    SplitGibbs,
    TwistedSMC,
    read_problem,
)
from bayes_ir.inference.run import draw_block
from bayes_ir.models import (
    DenseOperator,
    Gaussian,
    GaussianMixturePrior,
    GaussianPrior,
    OneBit,
    RectifiedFlow,
)
from bayes_ir.models.priors.base import DiffusionPrior

F64 = torch.float64
DRAWS = 2000


def gaussian_prior(n: int = 10) -> GaussianPrior:
    rng = torch.Generator().manual_seed(0)
    root = torch.randn(n, n, generator=rng, dtype=F64)
    mean = 0.3 * torch.randn(n, generator=rng, dtype=F64)
    return GaussianPrior(mean, root @ root.T / n + 0.1 * torch.eye(n, dtype=F64))


def mixture_prior(separation: float, n: int = 10) -> GaussianMixturePrior:
    rng = torch.Generator().manual_seed(1)
    roots = torch.randn(3, n, n, generator=rng, dtype=F64)
    means = separation * torch.randn(3, n, generator=rng, dtype=F64)
    covariances = 0.3 * roots @ roots.mT / n + 0.1 * torch.eye(n, dtype=F64)
    return GaussianMixturePrior(torch.tensor([0.2, 0.3, 0.5], dtype=F64), means, covariances)


def problem(prior: DiffusionPrior, m: int, channel: Callable, seed: int) -> Problem:
    n = prior.event_shape.numel()
    rng = torch.Generator().manual_seed(2)
    operator = DenseOperator(torch.randn(m, n, generator=rng, dtype=F64) / m**0.5, dtype=F64)

    def model() -> None:
        x = pyro.sample("x", prior)
        pyro.sample("y", channel(operator(x)))

    return read_problem(model, {"y": simulate(model, seed=seed)["y"]})


def exact_draws(p: Problem, draws: int) -> np.ndarray:
    return draw_block(p, Exact(), 0, 0, 0, draws, seed=99).draws.numpy()


def measure(p: Problem, kernel: Kernel, exact: np.ndarray) -> dict[str, float | str]:
    block = draw_block(p, kernel, 0, 0, 0, DRAWS, seed=0)
    draws = block.draws.numpy()
    if not np.isfinite(draws).all():
        return {
            "kernel": repr(kernel),
            "nfe": int(block.stats["nfe"][0]),
            "diverged": int(block.stats["diverging"].sum()),
        }
    one, two = exact[:DRAWS], exact[DRAWS:]
    floor = sliced_wasserstein(one, two)
    distance = (sliced_wasserstein(draws, one) + sliced_wasserstein(draws, two)) / 2
    sd = exact.std(axis=0)
    return {
        "kernel": repr(kernel),
        "nfe": int(block.stats["nfe"][0]),
        "distance": distance,
        "floor": floor,
        "ratio": distance / floor,
        "mean error / sd": float(np.sqrt((((draws.mean(0) - exact.mean(0)) / sd) ** 2).mean())),
        "sd ratio": float((draws.std(0) / sd).mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", choices=["one-bit", "gaussian", "mixture", "separate mixture"])
    only = parser.parse_args().only
    torch.set_num_threads(1)  # small tensors: more threads only wait for each other
    one_bit = problem(gaussian_prior(), 20, lambda z: OneBit(z, 0.1), seed=1)
    gaussian = problem(gaussian_prior(), 5, lambda z: Gaussian(z, 0.1), seed=1)
    overlapping = problem(mixture_prior(0.5), 3, lambda z: Gaussian(z, 0.5), seed=1)
    separate = problem(mixture_prior(1.5), 3, lambda z: Gaussian(z, 0.5), seed=1)
    linear: list[Kernel] = [
        GuidedDiffusion(),
        GuidedDiffusion(denoising_posterior=Calibrated()),
        GuidedDiffusion(denoising_posterior=Isotropic(), steps=128, drawn=False),
        MomentMatching(),
        MomentMatching(drawn=False),
        PiGDM(),
        AnnealedLangevin(),
        AnnealedLangevin(levels=464),
        AnnealedLangevin(inflated=True),
        SNIPS(),
        DMPS(),
        DMPS(diffusion=RectifiedFlow()),
        DPS(),
        DPS(weight="likelihood"),
        MCG(),
        DDRM(),
        DDNM(),
        DDNMPlus(),
        DDS(),
        DiffPIR(),
        DAPS(),
        ILVR(),
        RePaint(),
        ScoreSDE(),
        MCGDiff(),
        TwistedSMC(particles=1000),
        SplitGibbs(),
    ]
    cases: dict[str, tuple[Problem, list[Kernel]]] = {
        "one-bit": (
            one_bit,
            [
                GuidedDiffusion(),
                GuidedDiffusion(denoising_posterior=Calibrated()),
                GuidedDiffusion(denoising_posterior=Isotropic(), steps=128, drawn=False),
                MomentMatching(diagonal=True),
                QCSSGM(),
                QCSSGMPlus(tolerance=1e-2),
                DAPS(),
                TwistedSMC(particles=1000),
                SplitGibbs(),
            ],
        ),
        "gaussian": (gaussian, linear),
        "mixture": (overlapping, linear),
        "separate mixture": (separate, linear),
    }
    rows = kept_results("sampler_accuracy")
    done = {(row["problem"], row["kernel"]) for row in rows}
    for name, (p, kernels) in cases.items():
        if only in (None, name):
            exact = exact_draws(p, 2 * DRAWS)
            for kernel in kernels:
                if (name, repr(kernel)) in done:
                    continue
                rows.append({"problem": name, **measure(p, kernel, exact)})
                print(
                    "  ".join(
                        f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in rows[-1].items()
                    ),
                    flush=True,
                )
                write_results("sampler_accuracy", rows)


if __name__ == "__main__":
    main()
