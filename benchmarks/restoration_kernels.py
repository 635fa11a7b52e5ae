"""Every kernel on the tasks of the lectures: held-out digits under the learned prior.

    python benchmarks/restoration_kernels.py

Sixteen MNIST test digits per task, all in one batch (a plate), prior "mnist", Gaussian noise 0.05 (JPEG and phase
retrieval too), 2 draws per digit.  Per kernel: PSNR and SSIM of the mean of the draws, averaged over digits;
consistency of the single draws, ``|y - A x| / (0.05 M^1/2)``, which is 1 for draws that fit the data as well as the
truth does; network evaluations; and time per draw, on one thread, as a multiple of the fastest kernel's on the same
task.  Point estimates (baselines) have no draws.
Tasks that the results already hold are kept.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from _results import kept_results, write_results
from restoration_tasks import NOISE, SHAPE, TASKS, psnr

from bayes_ir.analysis import ssim
from bayes_ir.inference import (
    DAPS,
    DDIM,
    DDNM,
    DDRM,
    DDS,
    DMPS,
    DPS,
    MCG,
    AnnealedLangevin,
    Calibrated,
    DDNMPlus,
    DiffPIR,
    GuidedDiffusion,
    Kernel,
    ModelError,
    MomentMatching,
    PiGDM,
    Problem,
    RePaint,
)
from bayes_ir.inference.baselines import hqs_map, pnp_admm, pseudo_inverse, total_variation
from bayes_ir.inference.run import draw_block
from bayes_ir.models import JPEG, Gaussian, Operator, PhaseRetrieval, load_prior
from bayes_ir.problems import test_digits

NAMES = (
    "super-resolution, blocks of 4",
    "super-resolution, bicubic 4",
    "inpainting, box of 12",
    "inpainting, 20 % seen",
    "separable Gaussian blur, sd 2",
    "circular motion blur",
    "sign-flipped DCT, 25 %",
)
MADE: dict[str, Callable[[], Operator]] = {name: TASKS[name] for name in NAMES} | {
    "phase retrieval": lambda: PhaseRetrieval(SHAPE),
    "JPEG, quality 10": lambda: JPEG(SHAPE, quality=10),
}

KERNELS: list[Kernel] = [
    GuidedDiffusion(steps=32),
    GuidedDiffusion(steps=64),
    MomentMatching(steps=32, drawn=False, max_iterations=5),
    GuidedDiffusion(denoising_posterior=Calibrated(), steps=64),
    PiGDM(steps=100),
    PiGDM(steps=100, decode=True),
    DPS(steps=250),
    DMPS(steps=100),
    AnnealedLangevin(levels=100, steps_per_level=1),
    DDRM(steps=20),
    DDNM(sampler=DDIM(steps=100, eta=0.85)),
    DDNMPlus(steps=100),
    DDS(steps=50, gamma=1.0),
    DDS(steps=50),
    DiffPIR(steps=100),
    MCG(steps=100),
    RePaint(steps=25, jump_length=4, jump_samples=4),
    DAPS(levels=20, ode_steps=5),
]


BASELINES: dict[str, Callable[[Problem], torch.Tensor]] = {
    "pseudo_inverse": pseudo_inverse,
    "total_variation, weight 10": lambda p: total_variation(p, 10.0),
    "pnp_admm, growth 1.1": partial(pnp_admm, growth=1.1, iterations=100),
    "hqs_map": hqs_map,
}


def problem(operator: Operator, truth: torch.Tensor) -> Problem:
    """All digits in one plate."""
    z = torch.stack([operator(image) for image in truth])
    y = z + NOISE * torch.randn(z.shape, generator=torch.Generator().manual_seed(1))
    return Problem(
        "x", load_prior("mnist"), operator, Gaussian(torch.zeros_like(y), NOISE), "y", y, plate="digits"
    )


def figures(truth: torch.Tensor, means: torch.Tensor) -> dict[str, float]:
    similarity = [
        float(ssim(m.numpy(), t.numpy(), data_range=1.0)) for m, t in zip(means, truth, strict=True)
    ]
    return {"psnr": float(psnr(means, truth).mean()), "ssim": sum(similarity) / len(similarity)}


def measure(kernel: Kernel, p: Problem, truth: torch.Tensor, draws: int) -> dict[str, Any]:
    kernel.check(p.data_set(0))
    started = time.perf_counter()
    block = draw_block(p, kernel, 0, 0, 0, draws, seed=0)
    seconds = time.perf_counter() - started
    misfit = (p.y - p.operator(block.draws)).flatten(2).norm(dim=2) / (NOISE * p.y[0].numel() ** 0.5)
    return {
        **figures(truth, block.draws.mean(0)),
        "consistency": float(misfit.mean()),
        "nfe": float(block.stats["nfe"].double().mean()),
        "seconds": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--digits", type=int, default=16)
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--only", help="start of the name of a task")
    given = parser.parse_args()
    torch.set_num_threads(1)
    truth = test_digits()[0][: given.digits]
    settings = {"digits": given.digits, "draws": given.draws}
    kept = kept_results("restoration_kernels") or {"rows": []}
    rows: list[dict[str, Any]] = kept["rows"] if kept == kept | settings else []
    for task, build in MADE.items():
        if (given.only and not task.startswith(given.only)) or task in {row["task"] for row in rows}:
            continue
        made = problem(build(), truth)
        here: list[dict[str, Any]] = []
        for name, estimate in BASELINES.items():
            try:
                means = torch.stack([estimate(made.data_set(i)) for i in range(len(truth))])
            except ModelError:
                continue
            here.append({"task": task, "kernel": f"{name} (point estimate)", **figures(truth, means)})
        for kernel in KERNELS:
            try:
                here.append(
                    {"task": task, "kernel": repr(kernel), **measure(kernel, made, truth, given.draws)}
                )
            except ModelError:
                continue
        fastest = min(row["seconds"] for row in here if "seconds" in row)
        for row in here:
            if "seconds" in row:
                row["time / fastest"] = row.pop("seconds") / fastest
            print("  ".join(f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values()), flush=True)
        rows += here
        write_results("restoration_kernels", settings | {"rows": rows})


if __name__ == "__main__":
    main()
