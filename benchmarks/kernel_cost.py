"""Time per step beyond the network and its Jacobian, for every kernel at batches of 1, 16 and 64.

    python benchmarks/kernel_cost.py

A 28 x 28 image, inpainting of half the pixels, noise 0.1, float32, two threads.  The denoiser is a scaled copy of its
input, which costs next to nothing, so that the time is the kernel's own; microseconds per step are those of this
machine in this run, to be read beside each other.  A plain loop that only does DDIM's arithmetic stands beside them.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from _results import write_results
from torch import Tensor, nn

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
    AnnealedLangevin,
    Calibrated,
    DDNMPlus,
    DiffPIR,
    GuidedDiffusion,
    Isotropic,
    Kernel,
    MomentMatching,
    PiGDM,
    PredictorCorrector,
    Problem,
    RePaint,
    ScoreSDE,
)
from bayes_ir.inference.rng import Rng
from bayes_ir.models import Gaussian, Mask, NetworkPrior, VarianceExploding, calibrate, random_mask

SHAPE, STEPS, NOISE = (1, 28, 28), 50, 0.1

KERNELS: list[Kernel] = [
    GuidedDiffusion(denoising_posterior=Isotropic(), steps=STEPS, drawn=False),
    GuidedDiffusion(denoising_posterior=Calibrated(basis="scalar"), steps=STEPS),
    GuidedDiffusion(denoising_posterior=Calibrated(basis="dct"), steps=STEPS),
    PiGDM(steps=STEPS),
    MomentMatching(steps=STEPS, drawn=False, max_iterations=3),
    DPS(steps=STEPS),
    DMPS(steps=STEPS),
    AnnealedLangevin(levels=STEPS, steps_per_level=1),
    QCSSGM(levels=STEPS, steps_per_level=1),
    DDRM(steps=STEPS),
    DDNM(sampler=DDIM(steps=STEPS, eta=0.85)),
    DDNMPlus(steps=STEPS),
    DDS(steps=STEPS),
    DiffPIR(steps=STEPS),
    MCG(steps=STEPS),
    ILVR(steps=STEPS),
    RePaint(steps=STEPS, jump_length=5, jump_samples=1),
    ScoreSDE(sampler=PredictorCorrector(steps=STEPS // 2)),
    SNIPS(levels=STEPS, steps_per_level=1),
    DAPS(levels=STEPS, ode_steps=1, exact=True),
]


class _Shrink(nn.Module):
    """``x0_hat = a x_t / (a^2 + b^2)``, exact for a white standard normal prior."""

    def forward(self, x_t: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return (a / (a**2 + b**2)).to(x_t.dtype)[:, None, None, None] * x_t


def problem() -> Problem:
    prior = NetworkPrior(_Shrink(), VarianceExploding(0.01, 20.0), SHAPE, mean=0.0, std=1.0)
    images = torch.randn(256, *SHAPE, generator=torch.Generator().manual_seed(0))
    prior = calibrate(prior, images, bases=("scalar", "dct"))
    operator = Mask(random_mask(SHAPE, 0.5))
    y = operator(images[0])
    return Problem("x", prior, operator, Gaussian(torch.zeros_like(y), NOISE), "y", y)


def per_step(run: Callable[[], int]) -> float:
    """Microseconds per step: the smallest of three runs' means, after one to warm up."""
    run()
    found = []
    for _ in range(3):
        started = time.perf_counter()
        steps = run()
        found.append((time.perf_counter() - started) / steps * 1e6)
    return min(found)


@torch.no_grad()
def main() -> None:
    torch.set_num_threads(2)
    p = problem()
    rows = []

    def plain(batch: int) -> int:
        x = torch.randn(batch, *SHAPE)
        scale = torch.linspace(1, 0.1, STEPS).tolist()
        for s in scale:
            x0_hat = x / (1 + s**2)
            x = x0_hat + s * 0.9 * (x - x0_hat) / s + 0.1 * s * torch.randn_like(x)
        return STEPS

    rows.append(
        {"kernel": "plain DDIM loop", **{f"batch {b}": per_step(lambda b=b: plain(b)) for b in (1, 16, 64)}}
    )
    for kernel in KERNELS:
        kernel.check(p)
        row: dict[str, object] = {"kernel": repr(kernel)}
        for batch in (1, 16, 64):

            def run(batch: int = batch, kernel: Kernel = kernel) -> int:
                rng = Rng(0, draws=batch)
                state, steps = kernel.init(p, rng), 0
                while not state.done:
                    state, _ = kernel.step(p, state, rng)
                    steps += 1
                return steps

            row[f"batch {batch}"] = per_step(run)
        rows.append(row)
        print("  ".join(f"{v:.0f}" if isinstance(v, float) else str(v) for v in row.values()), flush=True)
    write_results("kernel_cost", rows)


if __name__ == "__main__":
    main()
