"""Do draws fit the data as well as the truth does?  Too close a fit makes an inferred noise level too small.

    python benchmarks/data_fit.py

Prior "mnist", 200 Gaussian measurements, noise 0.1, the operator of the problem ``linear-digit``; twenty images in a
plate, 2 draws each.  Truths are test digits, and draws of the prior itself, for which the posterior's own draws fit as
the truth does: ``|y - A x|^2 / (M 0.1^2)`` of draws and of truths, averaged, with its standard error over images.
"""

from __future__ import annotations

from typing import Any

import torch
from _results import write_results
from restoration_tasks import psnr

from bayes_ir.inference import Calibrated, GuidedDiffusion, Kernel, PiGDM, Problem
from bayes_ir.inference.run import draw_block
from bayes_ir.models import Gaussian, GaussianSensing, load_prior
from bayes_ir.problems import test_digits

NOISE, MEASUREMENTS = 0.1, 200
KERNELS: list[Kernel] = [
    GuidedDiffusion(),
    GuidedDiffusion(steps=64),
    GuidedDiffusion(denoising_posterior=Calibrated()),
    PiGDM(),
]


def main() -> None:
    torch.set_num_threads(1)
    prior, digits = load_prior("mnist"), test_digits()[0]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        own = prior.sample((len(digits),))
    operator = GaussianSensing(MEASUREMENTS, prior.event_shape, seed=0)
    rows: list[dict[str, Any]] = []
    for name, x in {"test digits": digits, "draws of the prior": own}.items():
        noise = NOISE * torch.randn(len(x), MEASUREMENTS, generator=torch.Generator().manual_seed(1))
        y = operator(x) + noise
        problem = Problem("x", prior, operator, Gaussian(torch.zeros_like(y), NOISE), "y", y, plate="images")
        of_truth = noise.square().mean(1) / NOISE**2
        for kernel in KERNELS:
            draws = draw_block(problem, kernel, 0, 0, 0, 2, seed=0).draws
            of_draws = (y - operator(draws)).square().mean((0, 2)) / NOISE**2
            gap = of_draws - of_truth
            rows.append(
                {
                    "truths": name,
                    "kernel": repr(kernel),
                    "of draws": float(of_draws.mean()),
                    "of truths": float(of_truth.mean()),
                    "standard error of the difference": float(gap.std() / len(x) ** 0.5),
                    "psnr": float(psnr(draws.mean(0), x).mean()),
                }
            )
            print("  ".join(f"{v:.3g}" if isinstance(v, float) else v for v in rows[-1].values()), flush=True)
    write_results("data_fit", rows)


if __name__ == "__main__":
    main()
