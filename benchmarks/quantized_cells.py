"""Denoising posteriors under quantized data: error against network calls, beside QCS-SGM and QCS-SGM+.

    python benchmarks/quantized_cells.py

Problems, noise 0.1, Gaussian sensing matrices:

* gaussian-10, gaussian-64: correlated Gaussian priors, (N, M) = (10, 20) and (64, 48), one and three bits;
* mixture-8: three components in 8 dimensions, M = 16, one and three bits;
* digits: the ``mnist-gmm`` prior (196 pixels, 20 components), M = 48, one bit, three images.

Figures are sliced Wasserstein distances of 500 draws to exact ones (minimax tilting), over the distance
between two exact sets of as many; the ratio of standard deviations and, for mixtures, the total variation between the
weights of the components to which draws are assigned.  Rows that the results already hold are kept.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any

import pyro
import torch
from _results import kept_results, write_results

from bayes_ir import simulate
from bayes_ir.analysis import sliced_wasserstein
from bayes_ir.inference import (
    QCSSGM,
    Ancestral,
    Calibrated,
    Exact,
    Flat,
    GuidedDiffusion,
    Isotropic,
    Kernel,
    Multistep,
    Point,
    ProbabilityFlow,
    Problem,
    QCSSGMPlus,
    Tweedie,
    read_problem,
)
from bayes_ir.inference.run import draw_block
from bayes_ir.models import (
    Channel,
    DenseOperator,
    GaussianMixturePrior,
    GaussianPrior,
    OneBit,
    Quantized,
    load_prior,
)
from bayes_ir.models.priors.base import DiffusionPrior
from bayes_ir.models.priors.mixture_law import mixture_log_densities

F64 = torch.float64
NOISE, DRAWS = 0.1, 500


def problem(prior: DiffusionPrior, m: int, bits: int, seed: int) -> Problem:
    n = prior.event_shape.numel()
    rng = torch.Generator().manual_seed(1000 + seed)
    matrix = torch.randn(m, n, generator=rng, dtype=F64) / m**0.5
    operator = DenseOperator(matrix, event_shape=prior.event_shape, dtype=F64)
    flat = matrix @ prior.components.covariance_matrix.double() @ matrix.T
    step = Quantized.step_for(float(flat.diagonal().mean().sqrt()), bits) if bits > 1 else 0.0

    def channel(z: torch.Tensor) -> Channel:
        return OneBit(z, NOISE) if bits == 1 else Quantized(z, NOISE, bits=bits, step=step)

    def model() -> None:
        pyro.sample("y", channel(operator(pyro.sample("x", prior))))

    return read_problem(model, {"y": simulate(model, seed=seed)["y"]})


def priors() -> dict[str, tuple[DiffusionPrior, int]]:
    rng = torch.Generator().manual_seed(0)

    def gaussian(n: int) -> GaussianPrior:
        root = torch.randn(n, n, generator=rng, dtype=F64)
        mean = 0.3 * torch.randn(n, generator=rng, dtype=F64)
        return GaussianPrior(mean, root @ root.T / n + 0.1 * torch.eye(n, dtype=F64))

    roots = torch.randn(3, 8, 8, generator=rng, dtype=F64)
    mixture = GaussianMixturePrior(
        torch.tensor([0.2, 0.3, 0.5], dtype=F64),
        torch.randn(3, 8, generator=rng, dtype=F64),
        0.3 * roots @ roots.mT / 8 + 0.1 * torch.eye(8, dtype=F64),
    )
    return {
        "gaussian-10": (gaussian(10), 20),
        "gaussian-64": (gaussian(64), 48),
        "mixture-8": (mixture, 16),
        "digits": (load_prior("mnist-gmm", dtype=F64), 48),
    }


def cases() -> Iterator[tuple[str, Problem]]:
    for name, (prior, m) in priors().items():
        for bits in (1,) if name == "digits" else (1, 3):
            for seed in (1, 2, 3) if name == "digits" else (1,):
                yield f"{name}, {bits} bit, problem {seed}", problem(prior, m, bits, seed)


def kernels(digits: bool) -> Iterator[tuple[str, Kernel]]:
    """Name and kernel; a name without its number of evaluations."""
    short, long = ((16, 32), (1000,)) if digits else ((8, 32, 128), (128, 1000))

    def guided(**settings: Any) -> Callable[[int], Kernel]:
        return lambda nfe: GuidedDiffusion(steps=nfe, **settings)

    karras = Ancestral(grid="karras")
    made: dict[str, Callable[[int], Kernel]] = {
        "Calibrated(pca) and Jacobian, moved from draws": guided(),
        "Calibrated(pca), moved from draws": guided(denoising_posterior=Calibrated()),
        "Calibrated(dct), moved from draws": guided(denoising_posterior=Calibrated(basis="dct")),
        "Calibrated(scalar), moved from draws": guided(denoising_posterior=Calibrated(basis="scalar")),
        "Calibrated(pca), moved from means": guided(denoising_posterior=Calibrated(), drawn=False),
        "Calibrated(pca), multistep ODE": guided(
            denoising_posterior=Calibrated(), sampler=Multistep(grid="geometric"), drawn=False
        ),
        "Calibrated(pca), Heun ODE": guided(
            denoising_posterior=Calibrated(), sampler=ProbabilityFlow(grid="geometric"), drawn=False
        ),
        "Isotropic, moved from means": guided(denoising_posterior=Isotropic(), sampler=karras, drawn=False),
        "Flat, moved from means": guided(denoising_posterior=Flat(), sampler=karras, drawn=False),
        "Point, moved from means": guided(denoising_posterior=Point(), sampler=karras, drawn=False),
        "Tweedie, moved from draws": guided(denoising_posterior=Tweedie()),
        "Tweedie, moved from means": guided(denoising_posterior=Tweedie(), drawn=False),
        "QCSSGM": lambda nfe: QCSSGM(levels=nfe, steps_per_level=1),
        "QCSSGMPlus": lambda nfe: QCSSGMPlus(levels=nfe, steps_per_level=1, tolerance=1e-2),
    }
    for name, build in made.items():
        for nfe in long if name.startswith("QCS") else short:
            yield name, build(nfe)


def assignment(p: Problem, draws: torch.Tensor) -> torch.Tensor:
    """Share of the draws that belong to each component of the prior."""
    c = p.prior.components
    log_densities = mixture_log_densities(
        draws.flatten(1).double(), c.log_weights, c.means, c.basis, c.variances.clamp(min=1e-6)
    )
    return log_densities.softmax(-1).mean(0)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", help="start of the name of a problem")
    parser.add_argument("--kernel", help="start of the name of a kernel")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = kept_results("quantized_cells")
    done = {(row["problem"], row["kernel"], row["nfe"]) for row in rows}
    for name, p in cases():
        if options.only and not name.startswith(options.only):
            continue
        exact = draw_block(p, Exact(), 0, 0, 0, 2 * DRAWS, seed=99).draws
        one, two = exact[:DRAWS], exact[DRAWS:]
        floor = sliced_wasserstein(one, two)
        weights = assignment(p, exact)
        sd = exact.flatten(1).std(0)
        kept = sd > 1e-3 * sd.max()
        for label, kernel in kernels(digits=name.startswith("digits")):
            if (name, label, kernel.length(p)) in done or (
                options.kernel and not label.startswith(options.kernel)
            ):
                continue
            draws = draw_block(p, kernel, 0, 0, 0, DRAWS, seed=0).draws
            row: dict[str, Any] = {"problem": name, "kernel": label, "nfe": kernel.length(p), "floor": floor}
            if draws.isfinite().all():
                distance = (sliced_wasserstein(draws, one) + sliced_wasserstein(draws, two)) / 2
                row |= {
                    "distance": distance,
                    "distance / floor": distance / floor,
                    "sd ratio": float((draws.flatten(1).std(0) / sd)[kept].mean()),
                    "weights, total variation": float((assignment(p, draws) - weights).abs().sum() / 2),
                }
            else:
                row["failed"] = "draws that are not finite"
            rows.append(row)
            print("  ".join(f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values()), flush=True)
            write_results("quantized_cells", rows)


if __name__ == "__main__":
    main()
