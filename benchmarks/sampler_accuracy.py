"""Kernels against exact posteriors: sliced Wasserstein distance beside the floor, mean and standard deviation.

    python benchmarks/sampler_accuracy.py

Every figure is from 2,000 draws; the floor is the distance between two exact sets of 2,000.  Problems:

* one-bit: Gaussian prior N = 10, M = 20, noise 0.1; exact draws by Gibbs sampling of the truncated latent;
* gaussian: the same prior under a Gaussian channel, M = 5, noise 0.1; exact draws in closed form;
* mixture: three overlapping components in N = 10, M = 3, noise 0.5; exact draws in closed form;
* separate mixture: the same with means three times as far apart, where a kernel must get the weights of modes right.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
import pyro
import torch
from _results import write_results

from bayes_ir import simulate
from bayes_ir.analysis import sliced_wasserstein
from bayes_ir.inference import (
    DMPS,
    DPS,
    QCSSGM,
    AnnealedLangevin,
    Exact,
    GuidedDiffusion,
    Isotropic,
    Kernel,
    Problem,
    QCSSGMPlus,
    read_problem,
)
from bayes_ir.inference.exact.truncated_gibbs import truncated_gaussian_gibbs
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


def one_bit_truth(p: Problem, draws: int) -> np.ndarray:
    """Exact posterior draws: the latent z by Gibbs chains, then x given z, which is Gaussian."""
    prior = p.prior.components
    covariance = (prior.basis[0] * prior.variances[0]) @ prior.basis[0].T
    a, mean = p.operator.to_matrix(), prior.means[0]
    s = a @ covariance @ a.T + float(p.channel.noise_std) ** 2 * torch.eye(len(a), dtype=F64)
    lower, upper = torch.where(p.y > 0, 0.0, -torch.inf), torch.where(p.y > 0, torch.inf, 0.0)
    latent = truncated_gaussian_gibbs(
        a @ mean, s, lower.to(F64), upper.to(F64), chains=draws, sweeps=0, burn_in=500, seed=0
    )
    gain = torch.linalg.solve(s, a @ covariance).T
    factor = torch.linalg.cholesky(covariance - gain @ a @ covariance)
    noise = torch.randn(draws, len(mean), generator=torch.Generator().manual_seed(1), dtype=F64)
    return (mean + (latent.z - a @ mean) @ gain.T + noise @ factor.T).numpy()


def exact_draws(p: Problem, draws: int) -> np.ndarray:
    return draw_block(p, Exact(), 0, 0, 0, draws, seed=99).draws.numpy()


def measure(p: Problem, kernel: Kernel, exact: np.ndarray) -> dict[str, float | str]:
    draws = draw_block(p, kernel, 0, 0, 0, DRAWS, seed=0).draws.numpy()
    one, two = exact[:DRAWS], exact[DRAWS:]
    floor = sliced_wasserstein(one, two)
    distance = (sliced_wasserstein(draws, one) + sliced_wasserstein(draws, two)) / 2
    sd = exact.std(axis=0)
    return {
        "kernel": repr(kernel),
        "nfe": kernel.length(p),
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
        AnnealedLangevin(),
        AnnealedLangevin(levels=464),
        AnnealedLangevin(inflated=True),
        DMPS(),
        DMPS(diffusion=RectifiedFlow()),
        DPS(),
        DPS(weight="likelihood"),
        GuidedDiffusion(steps=128),
        GuidedDiffusion(denoising_posterior=Isotropic(with_jacobian=True), steps=128),
    ]
    cases: dict[str, tuple[Problem, Callable, list[Kernel]]] = {
        "one-bit": (
            one_bit,
            one_bit_truth,
            [QCSSGM(), QCSSGMPlus(tolerance=1e-2), GuidedDiffusion(steps=128)],
        ),
        "gaussian": (gaussian, exact_draws, linear),
        "mixture": (overlapping, exact_draws, linear),
        "separate mixture": (separate, exact_draws, linear),
    }
    rows = []
    for name, (p, truth, kernels) in cases.items():
        if only in (None, name):
            exact = truth(p, 2 * DRAWS)
            for kernel in kernels:
                rows.append({"problem": name, **measure(p, kernel, exact)})
                print(
                    "  ".join(
                        f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in rows[-1].items()
                    )
                )
    if only is None:
        write_results("sampler_accuracy", rows)


if __name__ == "__main__":
    main()
