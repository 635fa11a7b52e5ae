"""Time per step beyond the network, for every kernel at batches of 1, 16 and 64.

    python benchmarks/kernel_cost.py

A 28 x 28 image, inpainting of half the pixels, noise 0.1, float32.  The denoiser is a scaled copy of its input, and
what its own calls take is subtracted (its backward passes are not), so that the time is the kernel's.  It is processor
time of one thread, which other work on the machine prolongs little; microseconds per step are to be read beside each
other.  Beside them stand a plain loop that only does DDIM's arithmetic and, where deepinv is installed, its samplers
(see deepinv_peer.py) with the same denoiser on the same problem.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any, ClassVar

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

SHAPE, STEPS, NOISE, BATCHES = (1, 28, 28), 50, 0.1, (1, 16, 64)

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
    """``x0_hat = a x_t / (a^2 + b^2)``, exact for a white standard normal prior; it adds up the seconds it takes."""

    seconds: ClassVar[float] = 0.0

    def forward(self, x_t: Tensor, a: Tensor, b: Tensor) -> Tensor:
        started = time.process_time()
        x0_hat = (a / (a**2 + b**2)).to(x_t.dtype)[:, None, None, None] * x_t
        _Shrink.seconds += time.process_time() - started
        return x0_hat


def problem(network: nn.Module) -> Problem:
    prior = NetworkPrior(network, VarianceExploding(0.01, 20.0), SHAPE, mean=0.0, std=1.0)
    images = torch.randn(256, *SHAPE, generator=torch.Generator().manual_seed(0))
    prior = calibrate(prior, images, bases=("scalar", "dct"))
    operator = Mask(random_mask(SHAPE, 0.5))
    y = operator(images[0])
    return Problem("x", prior, operator, Gaussian(torch.zeros_like(y), NOISE), "y", y)


def plain(batch: int) -> int:
    """The arithmetic of DDIM."""
    x = torch.randn(batch, *SHAPE)
    for s in torch.linspace(1, 0.1, STEPS).tolist():
        x0_hat = x / (1 + s**2)
        x = x0_hat + s * 0.9 * (x - x0_hat) / s + 0.1 * s * torch.randn_like(x)
    return STEPS


def walk(p: Problem, kernel: Kernel, batch: int) -> int:
    """One block of draws; its number of steps."""
    rng = Rng(0, draws=batch)
    state, steps = kernel.init(p, rng), 0
    while not state.done:
        state, _ = kernel.step(p, state, rng)
        steps += 1
    return steps


def measured(runs: dict[str, Callable[[int], int]]) -> list[dict[str, Any]]:
    """Microseconds per step beyond the network: of every run the smallest of nine means, taken in turn."""
    rows: dict[str, dict[str, Any]] = {name: {"kernel": name} for name in runs}
    for _ in range(1 + 9):  # one to warm up: what is made once per problem is made there
        for (name, run), batch in product(runs.items(), BATCHES):
            _Shrink.seconds = 0.0
            started = time.process_time()
            steps = run(batch)
            found = (time.process_time() - started - _Shrink.seconds) / steps * 1e6
            column = f"batch {batch}"
            rows[name][column] = min(found, rows[name].get(column, math.inf))
    return list(rows.values())


def deepinv_runs(p: Problem) -> dict[str, Callable[[int], int]]:
    """The samplers of deepinv, none where it is not installed."""
    try:
        from deepinv_peer import peers
    except ImportError as error:
        print(f"deepinv cannot be imported ({error}): its rows are left out.")
        return {}
    assert isinstance(p.operator, Mask) and isinstance(p.prior, NetworkPrior)
    return peers(p.prior.network, p.operator.mask, NOISE, p.y, STEPS)


@torch.no_grad()
def main() -> None:
    torch.set_num_threads(1)
    p = problem(_Shrink())
    runs: dict[str, Callable[[int], int]] = {"plain DDIM loop": plain}
    for kernel in KERNELS:
        kernel.check(p)
        runs[repr(kernel)] = partial(walk, p, kernel)
    rows = measured(runs | deepinv_runs(p))
    for row in rows:
        print("  ".join(f"{v:.0f}" if isinstance(v, float) else v for v in row.values()))
    write_results("kernel_cost", rows)


if __name__ == "__main__":
    main()
